// What REST must refuse: as problem details (RFC 9457) with the same code and reason as sockets, and a request id.

import assert from "node:assert/strict";

import { NOBODY, NOWHERE, SHAPELESS, STATUS } from "./cases.mjs";
import { check, rest } from "./lib.mjs";

/** The checks. They leave nothing behind in the conversation but what the other user is told of anyway. */
export async function refusedByRest({ base, ana, ben, conversation, foreign, good, bad, tokens }) {
  const { token } = ana;

  /** Calls and expects a problem of this code and reason, and of this status where the code does not say it. */
  const refused = async (method, path, options, [code, reason, status = STATUS[code]]) => {
    const sent = options.what ?? options.raw ?? JSON.stringify(options.body) ?? "nothing";
    const what = `${method} ${path} ${sent.slice(0, 80)}`;
    const response = await rest(base, method, path, options);
    const { body, headers } = response;
    assert.deepEqual([response.status, body.code, body.reason], [status, code, reason], `${what}: ${response.text}`);
    assert.equal(headers.get("content-type"), "application/problem+json", what);
    assert.match(headers.get("x-request-id") ?? "", /^\S{1,64}$/, what);
    assert.deepEqual([body.type, body.status, body.retryable], ["about:blank", status, false], what);
    assert.equal(body.detail, body.message, what);
    return response;
  };
  const post = (path, body, expected) => refused("POST", path, { token, body }, expected);
  const get = (path, expected) => refused("GET", path, { token }, expected);

  await check("REST: bad messages are refused like those on sockets", async () => {
    for (const [what, payload, code, reason] of bad) {
      // A body of the wrong shape is refused by the framework, before there is a payload.
      const shown = reason === "malformed_payload" ? "malformed_request" : reason;
      await refused("POST", "/api/messages", { token, body: payload, what }, [code, shown]);
    }
    for (const [, payload] of SHAPELESS) await post("/api/messages", payload, ["invalid", "malformed_request"]);
  });

  await check("REST: a call without a good token is refused", async () => {
    const calls = [["POST", "/api/messages"], ["GET", `/api/messages/${conversation}`], ["GET", "/api/notifications"],
      ["GET", "/api/conversations"], ["POST", "/api/conversations"], ["GET", "/api/users/me"]];
    for (const [method, path] of calls) {
      const body = method === "POST" ? good : undefined;
      const { headers } = await refused(method, path, { body }, ["unauthenticated", "missing_token"]);
      assert.equal(headers.get("www-authenticate"), "Bearer");
      for (const [what, wrong] of tokens) {
        await refused(method, path, { token: wrong, body, what }, ["unauthenticated", "bad_token"]);
      }
      const basic = { headers: { authorization: "Basic QTpC" }, body };
      await refused(method, path, basic, ["unauthenticated", "missing_token"]);
    }
  });

  await check("REST: unknown, foreign and malformed ids and pages", async () => {
    for (const kind of ["messages", "conversations"]) {
      for (const id of [NOWHERE, foreign]) await get(`/api/${kind}/${id}`, ["forbidden", "not_a_participant"]);
      for (const id of ["nonsense", ana.id, "cnv_", "%00", "..%2f..", `cnv_${"Z".repeat(26)}`]) {
        await get(`/api/${kind}/${id}`, ["invalid", "malformed_id"]);
      }
    }
    const lists = [`/api/messages/${conversation}`, "/api/conversations", "/api/notifications"];
    for (const list of lists) {
      for (const limit of [0, 201]) await get(`${list}?limit=${limit}`, ["invalid", "malformed_limit"]);
      for (const limit of [-1, "many", "1e3", 2 ** 40]) {
        await get(`${list}?limit=${limit}`, ["invalid", "malformed_request"]);
      }
    }
    for (const list of lists.slice(1)) await get(`${list}?cursor=nonsense`, ["invalid", "malformed_cursor"]);
    for (const way of ["before", "after"]) await get(`${lists[0]}?${way}=nonsense`, ["invalid", "malformed_cursor"]);
    await get(`${lists[0]}?before=msg_nonsense`, ["invalid", "malformed_id"]);
  });

  await check("REST: conversations that cannot be opened", async () => {
    const open = (body, expected) => post("/api/conversations", body, expected);
    await open({}, ["invalid", "no_other_participant"]);
    await open({ recipientId: ana.id }, ["invalid", "no_other_participant"]);
    await open({ recipientId: "ben" }, ["invalid", "malformed_id"]);
    await open({ recipientId: NOBODY }, ["not_found", "unknown_user"]);
    await open({ participants: "ben" }, ["invalid", "malformed_request"]);
    await open({ participants: Array.from({ length: 101 }, (_, n) => `usr_${String(n).padStart(26, "0")}`) },
      ["too_large", "too_many_participants"]);
    await open({ recipientId: ben.id, context: { type: "order", id: "" } }, ["invalid", "malformed_context"]);
    await open({ recipientId: ben.id, context: { type: "wish", id: "1" } }, ["invalid", "malformed_request"]);
    await open({ recipientId: ben.id, context: { type: "order", id: "1", url: "javascript:alert(1)" } },
      ["invalid", "malformed_context"]);
  });

  await check("REST: accounts that cannot be made", async () => {
    const account = { name: "Ana", email: `new.${ana.email}`, password: "a long password" };
    const signUp = (fields, expected) => post("/api/auth/signup", { ...account, ...fields }, expected);
    await signUp({ email: ana.email.toUpperCase() }, ["conflict", "email_taken"]);
    await signUp({ email: ` ${ana.email} ` }, ["conflict", "email_taken"]);
    await signUp({ email: "nonsense" }, ["invalid", "malformed_email"]);
    await signUp({ email: { $gt: "" } }, ["invalid", "malformed_request"]);
    await signUp({ email: undefined }, ["invalid", "malformed_request"]);
    await signUp({ password: "short" }, ["invalid", "malformed_password"]);
    await signUp({ password: "x".repeat(1_025) }, ["invalid", "malformed_password"]);
    for (const name of ["", " ", "a\nb", "x".repeat(101)]) await signUp({ name }, ["invalid", "malformed_name"]);
    await signUp({ role: "admin" }, ["forbidden", "role_not_open"]);
    await post("/api/auth/refresh", { refreshToken: "rt_nonsense" }, ["unauthenticated", "bad_refresh_token"]);
  });

  await check("REST: a login does not tell whether the account exists", async () => {
    const attempts = [
      { email: ana.email, password: "not the password" },
      { email: `nobody.${ana.email}`, password: "not the password" },
      { email: "nonsense", password: "not the password" },
      { email: ana.email, password: "x" },
    ];
    const answers = [];
    for (const body of attempts) {
      const answer = await refused("POST", "/api/auth/login", { body }, ["unauthenticated", "wrong_credentials"]);
      const headers = [...answer.headers].filter(([name]) => name !== "x-request-id" && name !== "date");
      answers.push({ headers, text: answer.text });
    }
    for (const answer of answers) assert.deepEqual(answer, answers[0]);
  });

  await check("REST: bodies that cannot be read", async () => {
    const deep = "[".repeat(100_000);
    const invalidUtf8 = Buffer.from([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x3a, 0x31, 0x7d]);
    const lone = '{"text":"\\ud83d"}';
    for (const raw of ["", "{", "nonsense", "{'a':1}", deep, `{"text":${deep}`, lone, "\u0000", invalidUtf8]) {
      const what = String(raw).slice(0, 40);
      await refused("POST", "/api/messages", { token, raw, what }, ["invalid", "malformed_request"]);
    }
    for (const type of ["text/plain", "application/x-www-form-urlencoded", "application/xml"]) {
      const options = { token, body: good, headers: { "content-type": type } };
      await refused("POST", "/api/messages", options, ["invalid", "unsupported_media_type", 415]);
    }
  });

  await check("REST: bodies of more than 1 MiB, whether they say their length or not", async () => {
    const expected = ["too_large", "body_too_large"];
    await post("/api/messages", { ...good, text: "x".repeat(2 << 20) }, expected);
    let chunks = 0;
    const pull = (out) => (chunks++ < 32 ? out.enqueue(Buffer.alloc(1 << 16, " ")) : out.close());
    const options = { token, raw: new ReadableStream({ pull }), what: "2 MiB in chunks" };
    await refused("POST", "/api/messages", options, expected);
  });

  await check("REST: routes and methods that do not exist", async () => {
    for (const path of ["/api/nothing", "/api", "/nothing", "/api/messages/a/b"]) {
      await get(path, ["not_found", "no_such_route"]);
    }
    const calls = [["DELETE", "/api/messages"], ["PUT", "/api/auth/login"], ["GET", "/api/auth/signup"]];
    for (const [method, path] of calls) {
      await refused(method, path, { token }, ["invalid", "method_not_allowed", 405]);
    }
  });

  await check("REST: the client's request id comes back if it is a sane one", async () => {
    const ask = async (id) => {
      const { headers } = await rest(base, "GET", "/healthz", { headers: { "x-request-id": id } });
      return headers.get("x-request-id");
    };
    assert.equal(await ask("shop-42.a_b"), "shop-42.a_b");
    for (const id of ["x".repeat(65), "a b", "<script>"]) assert.notEqual(await ask(id), id);
  });
}
