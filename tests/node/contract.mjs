// The main job, end to end, as a client sees it: two users talk, live and durably, over one of the transports.
//
//   node contract.mjs <base-url> <websocket | polling | upgrade | ws>
//
// "Exactly once" is never waited for with a pause: a later event on the same path proves that the earlier ones are
// through.

import assert from "node:assert/strict";

import { DEADLINE, check, deadline, done, main, openConversation, signUp, until } from "./lib.mjs";
import { connect, holdUpgrade, socket } from "./sockets.mjs";

const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/;

main(async (base, transport) => {
  const [ana, ben] = await check("two users sign up", () =>
    Promise.all([signUp(base, "Ana"), signUp(base, "Ben")]));

  const conversation = await check("one opens their conversation", async () => {
    const opened = await openConversation(base, ana, ben);
    assert.equal(opened.kind, "direct");
    assert.deepEqual(opened.participants.map((one) => one.userId).sort(), [ana.id, ben.id].sort());
    assert.equal((await openConversation(base, ben, ana)).id, opened.id, "the other finds the same one");
    return opened.id;
  });

  const draft = (from, text, more = {}) => {
    const recipientId = from === ana ? ben.id : ana.id;
    return { conversationId: conversation, senderId: from.id, recipientId, text, ...more };
  };
  const page = (user, path) => done(base, "GET", path, { token: user.token });
  /** Every page of a list; the newest page of a history comes first, so that its older ones go before it. */
  const history = async (user, path = `/api/messages/${conversation}?limit=50`) => {
    let { items, nextCursor } = await page(user, path);
    for (let more = nextCursor; more; more = nextCursor) {
      const older = await page(user, `${path}&before=${more}`);
      ({ nextCursor } = older);
      items = [...older.items, ...items];
    }
    return items;
  };
  const notifications = async (user) => {
    const all = [];
    for (let more = ""; more !== undefined; ) {
      const { items, nextCursor } = await page(user, `/api/notifications?limit=50${more}`);
      all.push(...items);
      more = nextCursor ? `&cursor=${nextCursor}` : undefined;
    }
    return all;
  };

  /** Sends and returns what the acknowledgement says; anything but success fails. */
  const send = async (on, from, text, more) => {
    const ack = await on.ask("sendMessage", draft(from, text, more));
    assert.equal(ack?.ok, true, `sendMessage was answered with ${JSON.stringify(ack)}`);
    assert.match(ack.data.id, /^msg_[0-9A-Z]{26}$/);
    assert.ok(Number.isSafeInteger(ack.data.seq) && ack.data.seq > 0, `seq ${ack.data.seq}`);
    assert.match(ack.data.createdAt, TIME);
    assert.deepEqual(Object.keys(ack.data).sort(), ["createdAt", "id", "seq"]);
    return ack.data;
  };

  const onAna = await check("the first connects with her token", () => connect("Ana", base, transport, ana));
  const onBen = await check("the contact's presence is pushed when he connects", async () => {
    const opening = await connect("Ben", base, transport, ben);
    const presence = await onAna.next("presence", (one) => one.userId === ben.id);
    assert.equal(presence.status, "online");
    return opening;
  });
  const besides = await connect("Ana's second socket", base, transport, ana);

  if (transport === "upgrade") {
    await check("polling is upgraded to a WebSocket", async () => {
      for (const one of [onAna, onBen, besides]) {
        await deadline(`${one.label} is upgraded`, one.upgrade, () => one.state());
        assert.equal(one.transport, "websocket");
      }
    });
  }

  await check("register is acknowledged with the user of the token", async () => {
    for (const payload of [ana.id, { userId: ana.id }]) {
      const ack = await onAna.ask("register", payload);
      assert.equal(ack.ok, true, JSON.stringify(ack));
      assert.equal(ack.data.userId, ana.id);
      assert.match(ack.data.expiresAt, TIME);
    }
    assert.equal((await onBen.ask("register", { userId: ben.id })).data.userId, ben.id);
  });

  const text = 'Is the blue one in stock? "ů" \u{1F600}\n\\ </script>';
  const first = await check("sendMessage is acknowledged once it is stored", () => send(onAna, ana, text));

  await check("message reaches the other, and the sender's other socket", async () => {
    for (const to of [onBen, besides]) {
      const { cursor, ...got } = await to.next("message");
      assert.match(cursor, /^[0-9A-Z]{26}$/);
      assert.deepEqual(got, {
        ...first, conversationId: conversation, senderId: ana.id, senderName: "Ana", kind: "text", text,
      });
    }
  });

  await check("notification is pushed to the recipient, and to nobody else", async () => {
    const { userId, kind, title, data } = await onBen.next("notification");
    assert.deepEqual([userId, kind, title], [ben.id, "message", "Ana"]);
    const place = { messageId: first.id, messageSeq: first.seq };
    assert.deepEqual(data, { conversationId: conversation, ...place, senderId: ana.id });
    assert.equal(onAna.all("notification").length, 0);
  });

  await check("typing and stopTyping reach the other and not the one who types", async () => {
    const payload = { conversationId: conversation, senderId: ben.id, recipientId: ana.id };
    for (const event of ["typing", "stopTyping"]) {
      onBen.tell(event, payload);
      assert.deepEqual(await onAna.next(event), { conversationId: conversation, senderId: ben.id });
      // Signals of a conversation stay in order: had this one come back to Ben, it would be there before Ana's.
      onAna.tell(event, { ...payload, senderId: ana.id, recipientId: ben.id });
      assert.deepEqual(await onBen.next(event), { conversationId: conversation, senderId: ana.id });
      assert.equal(onBen.all(event, (one) => one.senderId === ben.id).length, 0);
    }
  });

  await check("markRead is acknowledged and reaches the other as messagesRead", async () => {
    const ack = await onBen.ask("markRead", { conversationId: conversation, userId: ben.id });
    assert.deepEqual(ack, { ok: true, data: { conversationId: conversation, readSeq: first.seq } });
    for (const to of [onAna, besides]) {
      const { conversationId, userId, readSeq, cursor } = await to.next("messagesRead");
      assert.deepEqual([conversationId, userId, readSeq], [conversation, ben.id, first.seq]);
      assert.match(cursor, /^[0-9A-Z]{26}$/);
    }
  });

  const eight = Array.from({ length: 8 }, (_, number) => `number ${number}`);
  await check("eight sends in flight keep their order, live and in the history", async () => {
    const acks = await Promise.all(eight.map((one) => send(onAna, ana, one)));
    for (const [place, ack] of acks.entries()) {
      const got = await onBen.next("message");
      assert.deepEqual([got.text, got.id, got.seq], [eight[place], ack.id, ack.seq]);
      if (place > 0) assert.ok(ack.seq > acks[place - 1].seq, "seq grows");
    }
    const items = await until("the history has them", () => history(ben), (all) => all.length >= 9);
    assert.deepEqual(items.map((one) => one.text), [text, ...eight]);
    assert.deepEqual(items.slice(1).map((one) => one.id), acks.map((one) => one.id));
  });

  await check("a resend with the same clientMessageId is the same message, delivered once", async () => {
    const clientMessageId = `retry-${first.seq}`;
    const sent = await send(onAna, ana, "said once", { clientMessageId });
    const again = await Promise.all([onAna, besides].map((on) => send(on, ana, "said once", { clientMessageId })));
    assert.deepEqual(again, [sent, sent]);
    const fence = await send(onAna, ana, "after the resend");
    await onBen.next("message", (one) => one.id === fence.id);
    assert.equal(onBen.all("message", (one) => one.id === sent.id).length, 1);
  });

  await check("an answer, an edit, an emoji, a pin and a deletion are acknowledged and reach the other", async () => {
    const sent = await send(onAna, ana, "where is it?");
    const answer = await send(onBen, ben, "on its way", { replyTo: sent.id, mentions: [ana.id] });
    const { replyTo, mentions } = await onAna.next("message", (one) => one.id === answer.id);
    const quote = { id: sent.id, seq: sent.seq, senderId: ana.id, senderName: "Ana", text: "where is it?" };
    assert.deepEqual([replyTo, mentions], [quote, [ana.id]]);
    const about = (more) => ({ conversationId: conversation, messageId: sent.id, ...more });
    for (const [on, asked, more, to, heard, field, value] of [
      [onAna, "editMessage", { text: "where?" }, onBen, "messageEdited", "text", "where?"],
      [onBen, "react", { emoji: "\u{1F44D}" }, onAna, "reaction", "emoji", "\u{1F44D}"],
      [onBen, "pinMessage", {}, onAna, "messagePinned", "on", true],
      [onAna, "deleteMessage", {}, onBen, "messageDeleted", "scope", "everybody"],
    ]) {
      const ack = await on.ask(asked, about(more));
      assert.equal(ack.ok, true, `${asked} was answered with ${JSON.stringify(ack)}`);
      assert.deepEqual([ack.data.conversationId, ack.data.messageId], [conversation, sent.id]);
      const told = await to.next(heard, (one) => one.seq === ack.data.seq);
      assert.deepEqual([told.messageId, told.messageSeq, told[field]], [sent.id, sent.seq, value]);
    }
    const { ok, error } = await onBen.ask("react", about({ emoji: "\u{1F44D}" }));
    assert.deepEqual([ok, error.code, error.reason], [false, "conflict", "message_deleted"]);
  });

  if (transport === "upgrade") {
    await check("nothing is lost, doubled or moved while a socket is upgraded", async () => {
      for (let round = 0; round < 5; round += 1) await upgradeUnderLoad(round);
    });
  }

  /** A socket of Ben's is upgraded while Ana sends without a break, and it sends as well. */
  async function upgradeUnderLoad(round) {
    const held = await holdUpgrade(base);
    const late = socket(`Ben's upgrade ${round}`, held.base, transport, { token: ben.token });
    await deadline(`${late.label} connects`, late.opened, () => late.state());
    const [stream, back] = [[], []];
    const more = async () => {
      stream.push(send(onAna, ana, `round ${round}, Ana's number ${stream.length}`));
      back.push(send(late, ben, `round ${round}, Ben's number ${back.length}`));
      // Eight in flight each way, so that something is always under way on the transport that is left.
      await Promise.all([stream.at(-8), back.at(-8)]);
    };
    const over = (name) => late.seen.some((one) => one.event === "message" && one.over === name);
    const end = Date.now() + DEADLINE;
    while (!over("polling") && Date.now() < end) await more();
    held.release();
    while (!over("websocket") && Date.now() < end) await more();
    assert.ok(over("polling") && over("websocket"), `messages must come before and after. ${late.state()}`);

    const [sent, said] = await Promise.all([stream, back].map((one) => Promise.all(one)));
    for (const [to, from, all] of [[late, ana, sent], [onAna, ben, said]]) {
      const ids = all.map((one) => one.id);
      await to.next("message", (one) => one.id === ids.at(-1));
      const got = to.all("message", (one) => one.senderId === from.id && one.seq >= all[0].seq).map((one) => one.id);
      assert.deepEqual(got, ids, `each of ${from.name}'s messages once, in order`);
    }
    late.close();
    held.close();
  }

  await check("the contact's presence is pushed when he leaves, with the time", async () => {
    onBen.close();
    const gone = (one) => one.userId === ben.id && one.status === "offline";
    assert.match((await onAna.next("presence", gone)).lastSeenAt, TIME);
  });

  const last = await check("what is sent to somebody who is away is there when he looks", async () => {
    const sent = await send(onAna, ana, "see you tomorrow");
    const items = await until("the history has it", () => history(ben), (all) => all.at(-1)?.id === sent.id);
    const ids = items.map((one) => one.id);
    assert.equal(new Set(ids).size, ids.length, "each message is in the history once");
    assert.ok(items.every((one, place) => place === 0 || one.seq > items[place - 1].seq), "in the order of seq");
    assert.deepEqual(await history(ana), items, "both read the same history");
    return sent;
  });

  await check("GET /api/notifications shows all messages of a conversation as one entry", async () => {
    const of = (id) => (all) => all.filter((one) => one.data.messageId === id).length;
    const items = await until("the last one is there", () => notifications(ben), of(last.id));
    assert.equal(items.filter((one) => one.kind === "message" && one.data.conversationId === conversation).length, 1);
    assert.equal(new Set(items.map((one) => one.id)).size, items.length);
    assert.equal((await notifications(ana)).filter((one) => one.data.senderId === ana.id).length, 0);
  });

  await check("GET /api/conversations shows the last message and how far each has read", async () => {
    const mine = async () => (await page(ana, "/api/conversations")).items.find((one) => one.id === conversation);
    const shown = await until("it shows it", mine, (one) => one.lastMessage?.id === last.id);
    assert.deepEqual(shown.lastMessage, { ...last, senderId: ana.id, kind: "text", text: "see you tomorrow" });
    assert.equal(shown.participants.find((one) => one.userId === ben.id).readSeq, first.seq);
  });

  await check("no event came twice, none was an exception, and the transport stayed what it was", () => {
    for (const one of [onAna, onBen, besides]) {
      const ids = one.seen.filter(({ data }) => data?.id).map(({ event, data }) => `${event} ${data.id}`);
      assert.equal(new Set(ids).size, ids.length, `${one.label}: ${ids}`);
      assert.deepEqual([...one.all("exception"), ...one.all("stray answer")], []);
    }
    for (const one of [onAna, besides]) {
      assert.equal(one.transport, transport === "upgrade" ? "websocket" : transport);
    }
  });
});
