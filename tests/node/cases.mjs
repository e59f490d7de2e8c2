// What must be refused, wherever it comes in: one table for sockets and for REST.

/** The status that stands for each code. */
export const STATUS = {
  invalid: 400, unauthenticated: 401, forbidden: 403, not_found: 404, conflict: 409, too_large: 413,
};

/** Well-formed ids of nobody and nothing. */
export const NOBODY = `usr_${"0".repeat(25)}7`;
export const NOWHERE = `cnv_${"0".repeat(25)}7`;

/** Payloads that are no object at all. */
export const SHAPELESS = [
  ["null", null], ["a number", 7], ["a string", "text"], ["true", true], ["an array", []],
  ["an array of objects", [{ conversationId: NOWHERE, text: "x" }]],
];

/** Messages that nobody may send: what is wrong, the payload, the code, the reason. `good` is one that may be sent. */
export function badMessages(good, me, other, foreign) {
  const without = (field) => ({ ...good, [field]: undefined });
  const wrong = (what, fields, code, reason) => [what, { ...good, ...fields }, code, reason];
  const malformed = (what, fields) => wrong(what, fields, "invalid", "malformed_payload");
  const attachment = { url: "https://shop.test/a.png" };
  return [
    ["an empty object", {}, "invalid", "missing_field"],
    ["no conversationId", without("conversationId"), "invalid", "missing_field"],
    ["no text", without("text"), "invalid", "missing_field"],
    wrong("a null text", { text: null }, "invalid", "missing_field"),
    malformed("a number as text", { text: 7 }),
    malformed("an object as text", { text: { toString: "x" } }),
    malformed("an array as text", { text: ["x"] }),
    malformed("a number as conversationId", { conversationId: 7 }),
    malformed("an object as senderId", { senderId: { $ne: null } }),
    malformed("a boolean as clientMessageId", { clientMessageId: true }),
    wrong("a malformed conversationId", { conversationId: "nonsense" }, "invalid", "malformed_id"),
    wrong("an empty conversationId", { conversationId: "" }, "invalid", "malformed_id"),
    wrong("a user's id as conversationId", { conversationId: me }, "invalid", "malformed_id"),
    wrong("a conversationId in small letters", { conversationId: foreign.toLowerCase() }, "invalid", "malformed_id"),
    wrong("subject tokens as conversationId", { conversationId: "cnv_*.>" }, "invalid", "malformed_id"),
    wrong("a malformed recipientId", { recipientId: "ben" }, "invalid", "malformed_id"),
    wrong("an unknown conversation", { conversationId: NOWHERE }, "forbidden", "not_a_participant"),
    wrong("a foreign conversation", { conversationId: foreign }, "forbidden", "not_a_participant"),
    wrong("somebody else's senderId", { senderId: other }, "forbidden", "identity_mismatch"),
    wrong("nobody's senderId", { senderId: NOBODY }, "forbidden", "identity_mismatch"),
    wrong("a malformed senderId", { senderId: "ana" }, "forbidden", "identity_mismatch"),
    wrong("a recipient who is not there", { recipientId: NOBODY }, "invalid", "recipient_not_a_participant"),
    wrong("oneself as recipient", { recipientId: me }, "invalid", "recipient_not_a_participant"),
    wrong("an empty text", { text: "" }, "invalid", "empty_text"),
    wrong("a blank text", { text: " \n\t\u00a0" }, "invalid", "empty_text"),
    wrong("a control character", { text: "a\u0000b" }, "invalid", "control_characters"),
    malformed("half a surrogate pair", { text: "\ud83d" }),
    wrong("8,001 characters", { text: "x".repeat(8_001) }, "too_large", "text_too_long"),
    wrong("8,001 emojis", { text: "\u{1F600}".repeat(8_001) }, "too_large", "text_too_long"),
    wrong("500,000 characters", { text: "x".repeat(500_000) }, "too_large", "text_too_long"),
    wrong("an attachment", { attachment }, "invalid", "missing_field"),
    wrong("an empty clientMessageId", { clientMessageId: "" }, "invalid", "malformed_client_message_id"),
    wrong("a clientMessageId of 129", { clientMessageId: "x".repeat(129) }, "invalid", "malformed_client_message_id"),
    wrong("a clientMessageId with a space", { clientMessageId: "a b" }, "invalid", "malformed_client_message_id"),
  ];
}

/** Texts that are as long as allowed. */
export const LONGEST = ["x".repeat(8_000), "\u{1F600}".repeat(8_000), "e\u0301".repeat(8_000)];

/** Tokens that are none of ours; `good` is one that is, `sign` makes a signature from another secret. */
export function badTokens(good, sign) {
  const [header, claims, signature] = good.split(".");
  const encode = (json) => Buffer.from(JSON.stringify(json)).toString("base64url");
  const read = JSON.parse(Buffer.from(claims, "base64url"));
  const old = encode({ ...read, iat: 1_000_000_000, exp: 1_000_000_900 });
  return [
    ["nonsense", "nonsense"],
    ["a token cut short", good.slice(0, -4)],
    ["a token whose claims were changed", `${header}.${encode({ ...read, role: "admin" })}.${signature}`],
    ["a token that looks expired", `${header}.${old}.${signature}`],
    ["a token of another secret", `${header}.${claims}.${sign(`${header}.${claims}`)}`],
    ["a token without a signature", `${encode({ alg: "none", typ: "JWT" })}.${claims}.`],
    ["a token of 4,000 characters", "x".repeat(4_000)],
  ];
}
