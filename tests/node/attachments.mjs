// Attachments: files of each kind go up by REST, out with a message over a socket, and come down byte for byte.
//
//   node attachments.mjs <base-url> <websocket | polling | upgrade | ws> <folder of files, with all.json>

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";

import { check, done, main, openConversation, signUp } from "./lib.mjs";
import { connect } from "./sockets.mjs";

const folder = process.argv[4];

/** Uploads a file as a page would. */
async function upload(base, user, bytes, name, type) {
  const form = new FormData();
  form.append("file", new Blob([bytes], { type }), name);
  const headers = { authorization: `Bearer ${user.token}` };
  const response = await fetch(`${base}/api/attachments`, { method: "POST", headers, body: form });
  const attachment = await response.json();
  assert.equal(response.status, 201, JSON.stringify(attachment));
  return attachment;
}

async function download(base, user, id) {
  const headers = { authorization: `Bearer ${user.token}` };
  const response = await fetch(`${base}/api/attachments/${id}`, { headers });
  assert.equal(response.status, 200);
  return { type: response.headers.get("content-type"), bytes: Buffer.from(await response.arrayBuffer()) };
}

main(async (base, transport) => {
  const [ana, ben] = await check("two users sign up", () => Promise.all([signUp(base, "Ana"), signUp(base, "Ben")]));
  const { id: conversation } = await openConversation(base, ana, ben);
  const [onAna, onBen] = await Promise.all([connect("Ana", base, transport, ana), connect("Ben", base, transport, ben)]);
  const files = JSON.parse(await readFile(join(folder, "all.json"), "utf8"));
  assert.ok(files.length > 30);
  const sent = [];
  for (const [name, type] of files) {
    await check(`${name} arrives as it was`, async () => {
      const bytes = await readFile(join(folder, name));
      const uploaded = await upload(base, ana, bytes, name, type);
      const payload = { conversationId: conversation, attachment: { id: uploaded.id } };
      const ack = await onAna.ask("sendMessage", payload);
      assert.equal(ack.ok, true, JSON.stringify(ack));
      const message = await onBen.next("message", (one) => one.id === ack.data.id);
      assert.deepEqual([message.kind, message.text, message.attachments.length], ["attachment", "", 1]);
      const [attachment] = message.attachments;
      assert.deepEqual(
        [attachment.id, attachment.name, attachment.type, attachment.size],
        [uploaded.id, name, type, bytes.length],
      );
      const got = await download(base, ben, attachment.id);
      assert.equal(got.type, type);
      assert.ok(got.bytes.equals(bytes), "byte for byte");
      sent.push(message.id);
    });
  }
  await check("history has them all", async () => {
    const page = await done(base, "GET", `/api/messages/${conversation}?limit=200`, { token: ben.token });
    assert.deepEqual(page.items.map((one) => one.id), sent);
    assert.deepEqual(page.items.map((one) => one.attachments[0].name), files.map(([name]) => name));
  });
  await check("what cannot be sent is refused", async () => {
    const ack = await onBen.ask("sendMessage", { conversationId: conversation, attachment: { id: "att_nothing" } });
    assert.deepEqual([ack.ok, ack.error.reason], [false, "malformed_id"]);
    const [message] = (await done(base, "GET", `/api/messages/${conversation}?limit=1`, { token: ben.token })).items;
    const payload = { conversationId: conversation, attachment: { id: message.attachments[0].id } };
    assert.equal((await onBen.ask("sendMessage", payload)).error.reason, "unknown_attachment");
    assert.equal((await onAna.ask("sendMessage", payload)).error.reason, "attachment_in_use");
  });
});
