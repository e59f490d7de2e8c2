// What must not work, over sockets and over REST: it is refused with a stable code and reason, it never hangs, it
// leaves nothing behind, and the socket goes on working.
//
//   node refusals.mjs <base-url> <websocket | polling | upgrade | ws>

import assert from "node:assert/strict";
import { createHmac, randomBytes } from "node:crypto";

import { LONGEST, NOWHERE, SHAPELESS, STATUS, badMessages, badTokens } from "./cases.mjs";
import { check, deadline, main, openConversation, rest, signUp, until } from "./lib.mjs";
import { refusedByRest } from "./refusals-rest.mjs";
import { connect, socket } from "./sockets.mjs";

/** A refusal comes within this time, in milliseconds. */
const LIMIT = 5_000;

/** A text that can be shown when it is not the expected one. */
const brief = (text) => (text.length > 40 ? `${text.slice(0, 20)}... (${text.length})` : text);
const texts = (messages) => messages.map((one) => brief(one.text));

main(async (base, transport) => {
  const plain = transport === "ws";
  const [ana, ben, eve] = await Promise.all(["Ana", "Ben", "Eve"].map((name) => signUp(base, name)));
  const conversation = (await openConversation(base, ana, ben)).id;
  const foreign = (await openConversation(base, ben, eve)).id;
  const good = { conversationId: conversation, senderId: ana.id, recipientId: ben.id, text: "refuse me" };
  const bad = badMessages(good, ana.id, ben.id, foreign);
  const secret = randomBytes(32);
  const tokens = badTokens(ana.token, (text) => createHmac("sha256", secret).update(text).digest("base64url"));

  if (plain) {
    await check("a wrong token is refused before the upgrade, as a problem", async () => {
      for (const [what, token] of tokens) await refusedUpgrade(what, token);
    });
    await check("a socket without a token is nobody's until it brings one", authenticateLater);
  } else {
    await check("a handshake without a good token ends in connect_error with a stable reason", async () => {
      for (const [what, token] of tokens) await refusedHandshake(what, { token }, "bad_token");
      for (const [what, auth] of [["none", undefined], ["null", { token: null }], ["a number", { token: 7 }]]) {
        await refusedHandshake(what, auth, "missing_token");
      }
      await refusedHandshake("an empty one", { token: "" }, "bad_token");
    });
  }

  const onAna = await connect("Ana", base, transport, ana);
  const onBen = await connect("Ben", base, transport, ben);
  onAna.limit = LIMIT;

  const refusal = (what, error, code, reason) => {
    assert.equal(typeof error?.message, "string", `${what}: ${JSON.stringify(error)}`);
    const { message, ...others } = error;
    assert.deepEqual(others, { code, reason, retryable: false }, what);
  };
  const refused = async (what, event, args, code, reason) => {
    const { ok, error, ...others } = await onAna.ask(event, ...args);
    assert.deepEqual([ok, others], [false, {}], what);
    refusal(what, error, code, reason);
  };
  const works = async () => {
    const ack = await onAna.ask("register", { userId: ana.id });
    assert.equal(ack.data?.userId, ana.id, `the socket works: ${JSON.stringify(ack)}`);
  };

  /** Everything but messages. Each is [what, event, payload, code, reason]. */
  const others = [
    ["an unknown event", "shout", good, "invalid", "unknown_event"],
    ["a server's event", "message", good, "invalid", "unknown_event"],
    ["an event of Object", "__proto__", good, "invalid", "unknown_event"],
    ["an event without a name", "", good, "invalid", "unknown_event"],
    ["a very long name", "x".repeat(10_000), good, "invalid", "unknown_event"],
    ["somebody else's id", "register", { userId: ben.id }, "forbidden", "identity_mismatch"],
    ["somebody else's id as text", "register", ben.id, "forbidden", "identity_mismatch"],
    ["no id", "register", {}, "invalid", "missing_field"],
    ["a number", "register", 7, "invalid", "malformed_payload"],
    ["a wrong token", "authenticate", { token: "nonsense" }, "unauthenticated", "bad_token"],
    ["no token", "authenticate", {}, "invalid", "missing_field"],
    ["somebody else's token", "authenticate", { token: ben.token }, "forbidden", "identity_mismatch"],
    ...["typing", "stopTyping", "markRead"].flatMap((event) => [
      ["no conversation", event, {}, "invalid", "missing_field"],
      ["null", event, null, "invalid", "malformed_payload"],
      ["a malformed id", event, { conversationId: "cnv_1" }, "invalid", "malformed_id"],
      ["an unknown conversation", event, { conversationId: NOWHERE }, "forbidden", "not_a_participant"],
      ["a foreign conversation", event, { conversationId: foreign }, "forbidden", "not_a_participant"],
    ]),
    ["somebody else", "typing", { ...good, senderId: ben.id }, "forbidden", "identity_mismatch"],
    ["somebody else", "stopTyping", { ...good, senderId: ben.id }, "forbidden", "identity_mismatch"],
    ["somebody else", "markRead", { ...good, userId: ben.id }, "forbidden", "identity_mismatch"],
  ];
  const everything = [
    ...SHAPELESS.map(([what, payload]) => [what, "sendMessage", [payload], "invalid", "malformed_payload"]),
    ["no payload at all", "sendMessage", [], "invalid", "malformed_payload"],
    ...bad.map(([what, payload, code, reason]) => [what, "sendMessage", [payload], code, reason]),
    ...others.map(([what, event, payload, code, reason]) => [what, event, [payload], code, reason]),
  ].map(([what, event, ...more]) => [`${event.slice(0, 20)}: ${what}`, event, ...more]);

  await check(`${everything.length} bad events are refused in their acknowledgement`, async () => {
    for (const one of everything) await refused(...one);
    await works();
  });

  await check("without an acknowledgement the refusal arrives as exception", async () => {
    for (const [what, event, args, code, reason] of everything) {
      onAna.tell(event, ...args);
      refusal(what, await onAna.next("exception"), code, reason);
    }
    await works();
  });

  await check("all of them at once are answered too, each with its own", async () => {
    await Promise.all(everything.map((one) => refused(...one)));
    await works();
  });

  if (plain) {
    await check("frames that cannot be read are answered with exception", async () => {
      const frames = ["", "nonsense", "null", "7", "[]", "{}", '{"event":7}', '{"data":{}}', "[".repeat(100_000),
        '{"event":"typing","ackId":-1}', '{"event":"typing","ackId":"1"}', '{"event":"typing","ackId":1.5}',
        '{"event":"typing","event":"typing"}', '{"event":"typing"',
        Buffer.from('{"event":"register"}'), Buffer.alloc(0)];
      for (const frame of frames) {
        onAna.ws.send(frame);
        refusal(String(frame).slice(0, 40), await onAna.next("exception"), "invalid", "malformed_payload");
      }
      await works();
    });
  } else {
    await check("binary payloads are refused", async () => {
      for (const payload of [Buffer.from("x"), { ...good, text: Buffer.from("x") }, [Buffer.alloc(3)]]) {
        await refused("binary", "sendMessage", [payload], "invalid", "malformed_payload");
      }
      onAna.tell("sendMessage", Buffer.from("x"));
      refusal("binary", await onAna.next("exception"), "invalid", "malformed_payload");
      await works();
    });
    await check("more arguments than the payload change nothing", async () => {
      await refused("more", "sendMessage", [{}, good, good], "invalid", "missing_field");
      const ack = await onAna.ask("register", { userId: ana.id }, { userId: ben.id }, null, [1]);
      assert.equal(ack.data?.userId, ana.id, JSON.stringify(ack));
    });
  }

  await check("hostile JSON is refused or ignored, and nothing of it is passed on", async () => {
    const deep = (depth) => "[".repeat(depth) + "]".repeat(depth);
    for (const json of [
      deep(100_000), `{"text":${deep(100_000)}}`, '{"a":'.repeat(100_000) + "1" + "}".repeat(100_000), `{"text":1e999}`,
      '{"text":"a","text":"b"}', '{"text":"\\ud83d"}', `{"conversationId":"${"9".repeat(900_000)}","text":"x"}`,
    ]) {
      onAna.tellRaw("sendMessage", json);
      const { code, reason } = await onAna.next("exception");
      assert.equal(code, "invalid", `${json.slice(0, 60)}: ${reason}`);
    }
    const odd = JSON.parse('{"__proto__":{"role":"admin"},"constructor":{"prototype":{"x":1}},"id":"msg_1","seq":1}');
    const ack = await onAna.ask("sendMessage", { ...odd, ...good, text: "odd but good", extra: "x".repeat(500_000) });
    assert.equal(ack.ok, true, JSON.stringify(ack));
    const got = await onBen.next("message");
    assert.deepEqual([got.id, got.seq, got.text], [ack.data.id, ack.data.seq, "odd but good"]);
    const fields = ["conversationId", "createdAt", "cursor", "id", "kind", "senderId", "senderName", "seq", "text"];
    assert.deepEqual(Object.keys(got).sort(), fields);
    await works();
  });

  await check("8,000 characters are accepted, counted after composing", async () => {
    for (const text of LONGEST) {
      const ack = await onAna.ask("sendMessage", { ...good, text });
      assert.equal(ack.ok, true, JSON.stringify(ack));
      assert.ok((await onBen.next("message")).text === text.normalize("NFC"), `${brief(text)} came back changed`);
    }
  });

  await refusedByRest({ base, ana, ben, conversation, foreign, good, bad, tokens });

  await check("a frame of more than 1 MiB ends the socket, and nobody else's", async () => {
    const big = await connect("Ana's big one", base, transport, ana);
    big.tell("sendMessage", { ...good, text: "x".repeat((1 << 20) + 1) });
    await deadline("the socket is closed", big.ended, () => big.state(), LIMIT);
    await works();
    assert.equal((await rest(base, "GET", "/readyz")).status, 200);
  });

  await check("nothing that was refused is in the history or reached the other", async () => {
    const ack = await onAna.ask("sendMessage", { ...good, text: "the last one" });
    await onBen.next("message", (one) => one.id === ack.data.id);
    const said = ["odd but good", ...LONGEST.map((text) => brief(text.normalize("NFC"))), "the last one"];
    assert.deepEqual(texts(onBen.all("message")), said);
    const path = (id) => `/api/messages/${id}`;
    const history = async (user, id) => (await rest(base, "GET", path(id), { token: user.token })).body.items;
    const items = await until("the history", () => history(ben, conversation), (all) => all.at(-1)?.id === ack.data.id);
    assert.deepEqual(texts(items), said);
    assert.deepEqual(await history(eve, foreign), []);
    for (const event of ["typing", "stopTyping", "messagesRead"]) assert.deepEqual(onBen.all(event), []);
  });

  if (plain) {
    await check("a farewell is answered with a farewell (RFC 6455, 5.5.1)", async () => {
      onBen.close();
      const code = await deadline("the socket is closed", onBen.ended, () => onBen.state(), LIMIT);
      assert.match(code, /^(1000|1005) /, "1006 would mean that the server just hung up");
    });
  }

  async function refusedHandshake(what, auth, reason) {
    const trying = socket(`a handshake with ${what}`, base, transport, auth);
    const outcome = trying.opened.then(() => "connected", (error) => error.message);
    const message = await deadline(trying.label, outcome, () => trying.state(), LIMIT);
    assert.match(message, new RegExp(`^${reason}: \\S`), trying.label);
    trying.close();
  }

  async function refusedUpgrade(what, token) {
    const trying = socket(`an upgrade with ${what}`, base, transport, { token });
    const [, response] = await deadline(trying.label, new Promise((resolve) => {
      trying.ws.on("unexpected-response", (...args) => resolve(args)).on("open", () => resolve([null, {}]));
    }), () => trying.state(), LIMIT);
    assert.equal(response.statusCode, STATUS.unauthenticated, trying.label);
    assert.equal(response.headers["content-type"], "application/problem+json");
    let body = "";
    for await (const chunk of response) body += chunk;
    const { code, reason } = JSON.parse(body);
    assert.deepEqual([code, reason], ["unauthenticated", "bad_token"], trying.label);
  }

  async function authenticateLater() {
    const nobody = socket("nobody's socket", base, transport, undefined);
    nobody.limit = LIMIT;
    await deadline("it opens", nobody.opened, () => nobody.state());
    for (const [event, payload] of [["register", { userId: ana.id }], ["sendMessage", good], ["typing", good]]) {
      const { error } = await nobody.ask(event, payload);
      assert.deepEqual([error.code, error.reason], ["unauthenticated", "missing_token"], event);
      nobody.tell(event, payload);
      assert.equal((await nobody.next("exception")).reason, "missing_token");
    }
    assert.equal((await nobody.ask("authenticate", { token: "nonsense" })).error.reason, "bad_token");
    for (const event of ["authenticate", "register"]) {
      const ack = await nobody.ask(event, { token: ana.token, userId: ana.id });
      assert.equal(ack.data?.userId, ana.id, JSON.stringify(ack));
    }
    nobody.close();
  }
});
