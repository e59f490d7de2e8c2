//! Whatever is wrong gets a clear answer with a stable reason, the same on REST and on sockets, and stores nothing.

use serde_json::{Value, json};

use crate::support::socket::Socket;
use crate::support::world::{World, message};

/// The members of a failure that every edge shows.
fn shown(error: &Value) -> (Value, Value, Value, Value) {
    let member = |name: &str| error[name].clone();
    (member("code"), member("reason"), member("message"), member("retryable"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_send_has_the_same_answer_everywhere_and_is_not_kept() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    let (cleo, dan) = (world.person("Cleo").await, world.person("Dan").await);
    let foreign = cleo.open(&[&dan]).await;
    let mut socket = ana.socket().await;

    let with = |field: &str, value: Value| {
        let mut send = message(&conversation, "hello");
        send[field] = value;
        send
    };
    let cases = [
        (with("conversationId", json!(foreign)), 403, "forbidden", "not_a_participant"),
        (with("conversationId", json!("cnv_00000000000000000000000000")), 403, "forbidden", "not_a_participant"),
        (with("conversationId", json!("nonsense")), 400, "invalid", "malformed_id"),
        (with("conversationId", json!(ben.id)), 400, "invalid", "malformed_id"),
        (with("conversationId", Value::Null), 400, "invalid", "missing_field"),
        (with("senderId", json!(ben.id)), 403, "forbidden", "identity_mismatch"),
        (with("senderId", json!("nonsense")), 403, "forbidden", "identity_mismatch"),
        (with("recipientId", json!(cleo.id)), 400, "invalid", "recipient_not_a_participant"),
        (with("recipientId", json!(ana.id)), 400, "invalid", "recipient_not_a_participant"),
        (with("text", json!("x".repeat(8_001))), 413, "too_large", "text_too_long"),
        (with("text", json!("   ")), 400, "invalid", "empty_text"),
        (with("text", json!("a\u{7}b")), 400, "invalid", "control_characters"),
        (with("text", Value::Null), 400, "invalid", "missing_field"),
        (with("attachment", json!({ "url": "x" })), 400, "invalid", "missing_field"),
        (with("clientMessageId", json!("with a space")), 400, "invalid", "malformed_client_message_id"),
        (with("clientMessageId", json!("x".repeat(129))), 400, "invalid", "malformed_client_message_id"),
    ];
    for (send, status, code, reason) in cases {
        let (got, problem) = ana.post("/api/messages", &send).await;
        assert_eq!((got, &problem["code"], &problem["reason"]), (status, &json!(code), &json!(reason)), "{send}");
        let answer = socket.call("sendMessage", &send).await;
        assert_eq!(answer["ok"], false, "{send}");
        assert_eq!(shown(&answer["error"]), shown(&problem), "{send}");
    }
    // The limit itself is fine, and nothing of the above was kept.
    let longest = "é".repeat(8_000);
    assert_eq!(socket.call("sendMessage", &message(&conversation, &longest)).await["ok"], true);
    let history = world.history(&ben, &conversation, 1).await;
    assert_eq!((history.len(), &history[0]["text"]), (1, &json!(longest)));
    let (_, theirs) = cleo.get(&format!("/api/messages/{foreign}")).await;
    assert_eq!(theirs["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_reads_or_touches_a_foreign_conversation() {
    let world = World::start().await;
    let (_, _, conversation) = world.pair().await;
    let eve = world.person("Eve").await;
    for path in [format!("/api/messages/{conversation}"), format!("/api/conversations/{conversation}")] {
        let (status, refused) = eve.get(&path).await;
        assert_eq!((status, &refused["reason"]), (403, &json!("not_a_participant")));
    }
    let mut socket = eve.socket().await;
    for event in ["typing", "stopTyping", "markRead"] {
        let answer = socket.call(event, &json!({ "conversationId": conversation })).await;
        assert_eq!(answer["error"]["reason"], "not_a_participant", "{event}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_frames_are_answered_and_the_socket_goes_on() {
    let world = World::start().await;
    let (ana, _, conversation) = world.pair().await;
    let mut socket = ana.socket().await;
    for (event, data, reason) in [
        ("shout", json!({}), "unknown_event"),
        ("", json!({}), "unknown_event"),
        ("sendMessage", json!(null), "malformed_payload"),
        ("sendMessage", json!("text"), "malformed_payload"),
        ("sendMessage", json!([conversation, "text"]), "malformed_payload"),
        ("sendMessage", json!({ "conversationId": conversation, "text": 7 }), "malformed_payload"),
        ("markRead", json!({}), "missing_field"),
        ("markRead", json!({ "conversationId": conversation, "userId": "usr_x" }), "identity_mismatch"),
        ("register", json!({}), "missing_field"),
        ("register", json!("usr_00000000000000000000000000"), "identity_mismatch"),
        ("authenticate", json!({ "token": "nonsense" }), "bad_token"),
    ] {
        let answer = socket.call(event, &data).await;
        assert_eq!(answer["error"]["reason"], reason, "{event} {data}: {answer}");
    }
    // Nobody asked for an answer: the failure comes as an exception.
    for frame in ["nonsense", "7", "{}", r#"{"event":"shout"}"#, r#"{"event":"sendMessage","data":null}"#] {
        socket.raw(frame).await;
        let exception = socket.next("exception").await;
        assert_eq!(exception["code"], "invalid", "{frame}: {exception}");
    }
    assert_eq!(socket.call("sendMessage", &message(&conversation, "still here")).await["ok"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_good_token_nothing_is_done() {
    let world = World::start().await;
    let (ana, _, conversation) = world.pair().await;
    for (token, reason) in [(None, "missing_token"), (Some("nonsense"), "bad_token")] {
        for path in ["/api/users/me", "/api/conversations", "/api/notifications"] {
            let (status, refused) = world.rest.get(path, token).await;
            assert_eq!((status, &refused["reason"]), (401, &json!(reason)), "{path}");
        }
        let (status, refused) = world.rest.post("/api/messages", token, &message(&conversation, "x")).await;
        assert_eq!((status, &refused["code"]), (401, &json!("unauthenticated")));
    }
    assert!(Socket::connect(ana.rest.address, Some("nonsense")).await.is_err(), "refused before the upgrade");

    let mut nobody = Socket::connect(ana.rest.address, None).await.expect("a socket without a token");
    let refused = nobody.call("sendMessage", &message(&conversation, "x")).await;
    assert_eq!(refused["error"]["reason"], "missing_token");
    let known = nobody.call("authenticate", &json!({ "token": ana.token })).await;
    assert_eq!((&known["ok"], &known["data"]["userId"]), (&json!(true), &json!(ana.id)));
    assert_eq!(nobody.call("sendMessage", &message(&conversation, "now")).await["ok"], true);
    ana.say(&conversation, "over REST").await;
    assert_eq!(nobody.next("message").await["text"], "over REST", "it is pushed to like any other");
}

#[tokio::test(flavor = "multi_thread")]
async fn conversations_that_cannot_be_are_refused() {
    let world = World::start().await;
    let ana = world.person("Ana").await;
    let unknown = "usr_00000000000000000000000000";
    let crowd: Vec<String> = (1..=100).map(|number| format!("usr_{number:026}")).collect();
    for (body, status, reason) in [
        (json!({}), 400, "no_other_participant"),
        (json!({ "participants": [ana.id] }), 400, "no_other_participant"),
        (json!({ "recipientId": unknown }), 404, "unknown_user"),
        (json!({ "recipientId": "nonsense" }), 400, "malformed_id"),
        (json!({ "participants": crowd }), 413, "too_many_participants"),
        (json!({ "participants": "nonsense" }), 400, "malformed_request"),
        (json!({ "recipientId": unknown, "context": { "type": "order", "id": "" } }), 400, "malformed_context"),
        (json!({ "recipientId": unknown, "context": { "type": "star", "id": "1" } }), 400, "malformed_request"),
    ] {
        let (got, refused) = ana.post("/api/conversations", &body).await;
        assert_eq!((got, &refused["reason"]), (status, &json!(reason)), "{body}");
    }
}
