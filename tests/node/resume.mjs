// A client as docs/resume.md shows it, on a network that breaks: it misses nothing, and sees nothing twice.
//
//   node resume.mjs <base-url> <websocket | polling | upgrade>

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";

import { io } from "socket.io-client";

import { check, main, openConversation, signUp, until } from "./lib.mjs";
import { connect } from "./sockets.mjs";

/** The code of the page, with the library at hand. */
async function example(options) {
  const page = await readFile(new URL("../../docs/resume.md", import.meta.url), "utf8");
  const code = page.match(/```js\n([\s\S]*?)```/)[1];
  globalThis.ioForTheExample = (url, more) => io(url, { ...more, ...options });
  const runnable = code.replace(/^import .*$/m, "const io = globalThis.ioForTheExample");
  return import(`data:text/javascript,${encodeURIComponent(runnable)}`);
}

main(async (base, transport) => {
  const [ana, ben] = await check("two users sign up", () => Promise.all([signUp(base, "Ana"), signUp(base, "Ben")]));
  const { id: conversation } = await openConversation(base, ana, ben);
  const transports = transport === "upgrade" ? ["polling", "websocket"] : [transport];
  const { follow } = await example({ transports, forceNew: true, reconnectionDelay: 50, reconnectionDelayMax: 200 });

  const told = [];
  const reloads = [];
  const client = follow(base, () => ben.token, {
    apply: (event, data) => told.push({ event, data }),
    reload: (reason) => reloads.push(reason),
  });
  const texts = () => told.filter((one) => one.event === "message").map((one) => one.data.text);
  await check("the first connection has no cursor and is told to load", () =>
    until("a first reload", () => reloads, (all) => all.length === 1 && all[0] === "no_cursor"));

  const onAna = await connect("Ana", base, transport, ana);
  let sent = 0;
  const say = async (count) => {
    for (const end = sent + count; sent < end; sent += 1) {
      const ack = await onAna.ask("sendMessage", { conversationId: conversation, text: `${sent}` });
      assert.equal(ack.ok, true, JSON.stringify(ack));
    }
  };
  const expected = () => Array.from({ length: sent }, (_, number) => `${number}`);

  await check("live events are applied", async () => {
    await say(5);
    await until("five messages", texts, (all) => all.length === 5);
  });
  for (let round = 1; round <= 5; round += 1) {
    await check(`connection ${round} is lost, and nothing with it`, async () => {
      const away = new Promise((gone) => client.socket.once("disconnect", gone));
      client.socket.io.engine.close();
      await Promise.all([away, say(20)]);
      await until("everything said", texts, (all) => all.length >= sent);
    });
  }
  await check("every message was applied once, in order, without a reload", () => {
    assert.deepEqual(texts(), expected());
    assert.deepEqual(reloads, ["no_cursor"]);
    const ids = told.filter((one) => one.data.id).map((one) => one.data.id);
    assert.equal(new Set(ids).size, ids.length);
  });
  await check("a send is repeated until it is stored, and stored once", async () => {
    const first = client.send(conversation, "from Ben");
    client.socket.io.engine.close();
    const { id } = await first;
    const seen = await onAna.next("message", (message) => message.id === id);
    assert.equal(seen.text, "from Ben");
    await client.send(conversation, "the end");
    await onAna.next("message", (message) => message.text === "the end");
    assert.equal(onAna.all("message", (message) => message.text === "from Ben").length, 1);
  });
  client.close();
});
