// Delivery by acknowledgement: a client that says so in its handshake acknowledges messages by calling back.
//
//   node delivery.mjs <base-url> <websocket | polling | upgrade>

import assert from "node:assert/strict";

import { check, deadline, done, main, openConversation, signUp } from "./lib.mjs";
import { connect, socket } from "./sockets.mjs";

main(async (base, transport) => {
  const [ana, ben] = await check("two users sign up", () => Promise.all([signUp(base, "Ana"), signUp(base, "Ben")]));
  const { id: conversation } = await openConversation(base, ana, ben);
  const onAna = await connect("Ana", base, transport, ana);
  const say = async (on, text) => {
    const ack = await on.ask("sendMessage", { conversationId: conversation, text });
    assert.equal(ack.ok, true, JSON.stringify(ack));
    return ack.data;
  };

  const callbacks = [];
  const onBen = socket("Ben", base, transport, { token: ben.token, deliveryAcks: true });
  onBen.io.on("message", (message, callback) => callbacks.push({ message, callback }));
  await check("a client that acknowledges connects", () => deadline("Ben connects", onBen.opened));

  const first = await say(onAna, "first");
  await check("the listener gets a callback", async () => {
    await onBen.next("message", (message) => message.id === first.id);
    assert.equal(typeof callbacks[0].callback, "function");
    assert.equal(onAna.all("messagesDelivered").length, 0, "nothing is delivered before that");
  });
  await check("calling it tells the sender that the message is delivered", async () => {
    callbacks[0].callback();
    const delivered = await onAna.next("messagesDelivered");
    assert.deepEqual([delivered.userId, delivered.deliveredSeq], [ben.id, first.seq]);
    const seen = await done(base, "GET", `/api/conversations/${conversation}`, { token: ana.token });
    const mark = seen.participants.find((one) => one.userId === ben.id);
    assert.deepEqual([mark.deliveredSeq, mark.readSeq], [first.seq, 0]);
  });
  await check("one's own messages ask for nothing", async () => {
    const besides = await connect("Ben's second socket", base, transport, ben);
    const own = await say(besides, "from Ben");
    await onBen.next("message", (message) => message.id === own.id);
    assert.equal(callbacks.at(-1).message.id, own.id);
    assert.equal(callbacks.at(-1).callback, undefined);
  });
  await check("whoever did not ask for it is not asked", async () => {
    const plain = socket("Ben without acks", base, transport, { token: ben.token });
    let extra;
    plain.io.on("message", (_, ...more) => (extra = more));
    await deadline("Ben connects", plain.opened);
    const last = await say(onAna, "last");
    await plain.next("message", (message) => message.id === last.id);
    assert.deepEqual(extra, []);
  });
});
