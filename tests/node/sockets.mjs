// Sockets of both kinds behind one face: everything they are told is kept, in order, and can be waited for.

import { createServer, connect as dial } from "node:net";

import { io } from "socket.io-client";
import WebSocket from "ws";

import { DEADLINE, deadline, sockets } from "./lib.mjs";

/** What a client has been told, in order, and who waits for more of it. */
class Socket {
  constructor(label) {
    this.label = label;
    this.seen = [];
    this.waiting = new Set();
    this.limit = DEADLINE;
    sockets.push(this);
  }

  heard(event, data) {
    this.seen.push({ event, data, over: this.transport, taken: false });
    for (const look of [...this.waiting]) look();
  }

  /** All events of this name so far. */
  all(event, predicate = () => true) {
    return this.seen.filter((one) => one.event === event && predicate(one.data)).map((one) => one.data);
  }

  /** The first event of this name, satisfying the predicate, that no earlier call has returned; waits for it. */
  next(event, predicate = () => true) {
    let look;
    const found = new Promise((resolve) => {
      look = () => {
        const hit = this.seen.find((one) => !one.taken && one.event === event && predicate(one.data));
        if (!hit) return;
        hit.taken = true;
        this.waiting.delete(look);
        resolve(hit.data);
      };
      this.waiting.add(look);
      look();
    });
    const what = `${this.label} waits for ${event}`;
    return deadline(what, found, () => this.state(), this.limit).finally(() => this.waiting.delete(look));
  }

  /** Emits and returns the acknowledgement. */
  ask(event, ...args) {
    return deadline(`${this.label} asks ${event}`, this.asking(event, args), () => this.state(), this.limit);
  }

  state() {
    const line = ({ event, data }) => `\n    ${event} ${JSON.stringify(data)?.slice(0, 300)}`;
    const shown = this.seen.slice(-20).map(line);
    const skipped = this.seen.length - shown.length;
    const before = skipped > 0 ? `\n    (${skipped} earlier ones)` : "";
    return `${this.label} (${this.status()}) had seen:${before}${shown.join("") || " nothing"}`;
  }
}

/** A client of the official library. */
class SocketIoClient extends Socket {
  constructor(label, base, transport, auth, options) {
    super(label);
    const transports = transport === "upgrade" ? ["polling", "websocket"] : [transport];
    this.io = io(base, { transports, auth, forceNew: true, reconnection: false, ...options });
    this.io.onAny((event, ...args) => this.heard(event, args[0]));
    this.upgraded = false;
    this.upgrade = new Promise((resolve) => this.io.io.engine.once("upgrade", resolve));
    this.upgrade.then(() => (this.upgraded = true));
    this.opened = new Promise((resolve, reject) => {
      this.io.on("connect", resolve).on("connect_error", reject);
    });
    this.ended = new Promise((resolve) => this.io.on("disconnect", resolve));
    this.opened.catch(() => {});
  }

  /** What carries it right now. */
  get transport() {
    return this.io.io.engine.transport.name;
  }

  status() {
    return `${this.isOpen ? "connected" : "not connected"} over ${this.transport}`;
  }

  asking(event, args) {
    return new Promise((resolve) => this.io.emit(event, ...args, resolve));
  }

  tell(event, ...args) {
    this.io.emit(event, ...args);
  }

  /** Sends an event as it is written, which the library would refuse to write. */
  tellRaw(event, json) {
    this.io.io.engine.write(`2["${event}",${json}]`);
  }

  get isOpen() {
    return this.io.connected;
  }

  close() {
    this.io.disconnect();
  }
}

/** A plain WebSocket with the frames of `/ws`. */
class WebSocketClient extends Socket {
  constructor(label, base, auth, options) {
    super(label);
    this.asked = new Map();
    const headers = auth?.token && { authorization: `Bearer ${auth.token}` };
    this.ws = new WebSocket(`${base.replace(/^http/, "ws")}/ws`, { headers, ...options });
    this.opened = new Promise((resolve, reject) => this.ws.on("open", resolve).on("error", reject));
    this.opened.catch(() => {});
    this.ended = new Promise((resolve) => this.ws.on("close", (code, why) => resolve(`${code} ${why}`)));
    this.ws.on("message", (text) => {
      const frame = JSON.parse(text);
      if ("event" in frame) return this.heard(frame.event, frame.data);
      this.asked.get(frame.ackId)?.(frame.data);
      // A second answer to one question would be seen, not swallowed.
      if (!this.asked.delete(frame.ackId)) this.heard("stray answer", frame);
    });
  }

  get transport() {
    return "ws";
  }

  status() {
    return ["connecting", "connected", "closing", "closed"][this.ws.readyState];
  }

  asking(event, [data]) {
    const ackId = (this.lastAsked = (this.lastAsked ?? 0) + 1);
    const answer = new Promise((resolve) => this.asked.set(ackId, resolve));
    this.ws.send(JSON.stringify({ event, data, ackId }));
    return answer;
  }

  tell(event, data) {
    this.ws.send(JSON.stringify({ event, data }));
  }

  tellRaw(event, json) {
    this.ws.send(`{"event":"${event}","data":${json}}`);
  }

  get isOpen() {
    return this.ws.readyState === WebSocket.OPEN;
  }

  close() {
    this.ws.close();
  }
}

/** A socket that may not have connected yet; `auth` is what it brings. */
export function socket(label, base, transport, auth, options = {}) {
  return transport === "ws"
    ? new WebSocketClient(label, base, auth, options)
    : new SocketIoClient(label, base, transport, auth, options);
}

/** A connected socket of this user. */
export async function connect(label, base, transport, user) {
  const opening = socket(label, base, transport, { token: user.token });
  await deadline(`${label} connects`, opening.opened, () => opening.state());
  return opening;
}

/** A way to the server on which WebSockets wait until they are released, so that an upgrade happens when it should. */
export async function holdUpgrade(base) {
  const { hostname, port } = new URL(base);
  const ends = [];
  let release;
  const released = new Promise((resolve) => (release = resolve));
  const door = createServer((client) => {
    ends.push(client.on("error", () => {}));
    client.once("data", async (head) => {
      client.pause();
      if (/^upgrade: *websocket/im.test(head)) await released;
      const server = dial(Number(port || 80), hostname).on("error", () => client.destroy());
      ends.push(server);
      server.write(head);
      client.pipe(server).pipe(client);
    });
  });
  await new Promise((resolve) => door.listen(0, "127.0.0.1", resolve));
  const close = () => (door.close(), ends.forEach((end) => end.destroy()));
  return { base: `http://127.0.0.1:${door.address().port}`, release, close };
}
