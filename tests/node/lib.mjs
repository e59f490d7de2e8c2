// What the contract tests share: waits with a deadline, REST calls, the report. Sockets are in sockets.mjs.
//
// Nothing here sleeps for an effect: a wait ends with its event or condition, or fails and tells what was seen instead.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";

export const TRANSPORTS = ["websocket", "polling", "upgrade", "ws"];

/** How long anything may take, in milliseconds. */
export const DEADLINE = 10_000;

/** How long a whole script may take: whoever runs it must never wait for ever. */
const PATIENCE = 120_000;

/** Tells the users of one run from those of every other. */
const RUN = randomBytes(6).toString("hex");

/** The sockets of this script: they tell what they have seen when something fails. */
export const sockets = [];

/** The promise, or an error once the deadline has passed. `state` says what there was instead. */
export function deadline(what, promise, state = () => "", limit = DEADLINE) {
  let timer;
  const passed = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: nothing after ${limit} ms. ${state()}`)), limit);
  });
  return Promise.race([promise, passed]).finally(() => clearTimeout(timer));
}

/** Asks until the answer satisfies the condition, and returns it. For what becomes true a moment after it was done. */
export async function until(what, ask, condition) {
  const end = Date.now() + DEADLINE;
  for (;;) {
    const answer = await ask();
    if (condition(answer)) return answer;
    if (Date.now() > end) throw new Error(`${what}: not after ${DEADLINE} ms. Last answer: ${JSON.stringify(answer)}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** A REST call. A `raw` body is sent as it is, with the content type of JSON unless the headers say otherwise. */
export async function rest(base, method, path, { token, body, raw, headers = {} } = {}) {
  const sent = raw ?? (body === undefined ? undefined : JSON.stringify(body));
  const response = await fetch(base + path, {
    method,
    headers: {
      ...(token && { authorization: `Bearer ${token}` }),
      ...(sent !== undefined && { "content-type": "application/json" }),
      ...headers,
    },
    body: sent,
    duplex: "half",
    signal: AbortSignal.timeout(DEADLINE),
  }).catch((error) => {
    throw new Error(`${method} ${path}: ${error.message} (${error.cause?.code ?? error.name})`, { cause: error });
  });
  const text = await response.text();
  const json = /\bjson\b/.test(response.headers.get("content-type") ?? "");
  return { status: response.status, headers: response.headers, body: json ? JSON.parse(text) : text, text };
}

/** A REST call that has to succeed; returns the body. */
export async function done(base, method, path, options) {
  const { status, body } = await rest(base, method, path, options);
  assert.ok(status < 300, `${method} ${path}: ${status} ${JSON.stringify(body)}`);
  return body;
}

/** Signs somebody up. Returns their id, token and e-mail address. */
export async function signUp(base, name) {
  const email = `${name}.${RUN}@example.test`.toLowerCase();
  const body = await done(base, "POST", "/api/auth/signup", { body: { name, email, password: `secret of ${name}` } });
  return { id: body.user.id, token: body.token, name, email, password: `secret of ${name}` };
}

/** Opens the conversation of two users. */
export const openConversation = (base, user, other) =>
  done(base, "POST", "/api/conversations", { token: user.token, body: { recipientId: other.id } });

let passed = 0;
let current = "the beginning";

/** One behaviour: prints it once it has been seen to hold. */
export async function check(what, run) {
  current = what;
  const result = await run();
  passed += 1;
  console.log(`ok - ${what}`);
  return result;
}

/** Runs a script: `run(base, transport)` from the command line, a line at the end, an exit code that tells. */
export async function main(run) {
  const [base, transport] = process.argv.slice(2);
  if (!base || !TRANSPORTS.includes(transport)) {
    console.error(`usage: node ${process.argv[1]} <base-url> <${TRANSPORTS.join(" | ")}>`);
    process.exit(2);
  }
  try {
    await deadline("the whole script", run(base.replace(/\/$/, ""), transport), () => "", PATIENCE);
    for (const one of sockets) one.close();
    console.log(`${passed} checks passed`);
    // The process ends by itself once the farewells are out; it must not hang on one that cannot be said.
    setTimeout(() => process.exit(0), 2_000).unref();
  } catch (error) {
    console.error(`not ok - ${current}\n${error.stack}\n${passed} checks had passed. The sockets:`);
    for (const one of sockets) console.error(`  ${one.state()}`);
    process.exit(1);
  }
}
