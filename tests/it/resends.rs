//! Sending something again: what was stored once is answered, whatever has become of its conversation since.

use serde_json::{Value, json};

use crate::support::client::Person;
use crate::support::messages::{delete, edit};
use crate::support::world::{World, message};

fn reason((status, failure): &(u16, Value)) -> (u16, &str) {
    (*status, failure["reason"].as_str().unwrap_or_default())
}

fn named(conversation: &str, text: &str, name: &str) -> Value {
    let mut send = message(conversation, text);
    send["clientMessageId"] = json!(name);
    send
}

/// Says it for the first time.
async fn say(person: &Person, send: &Value) -> Value {
    let (status, sent) = person.post("/api/messages", send).await;
    assert_eq!(status, 201, "{sent}");
    sent
}

/// Says it again, over REST and over a socket: both are answered with the first one.
async fn say_again(person: &Person, send: &Value, first: &Value) {
    let again = say(person, send).await;
    assert_eq!((&again["id"], &again["seq"], &again["text"]), (&first["id"], &first["seq"], &first["text"]));
    let mut socket = person.socket().await;
    let answer = socket.call("sendMessage", send).await;
    assert_eq!((&answer["data"]["id"], &answer["data"]["seq"]), (&first["id"], &first["seq"]), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_before_the_end_stays_said_and_opens_nothing() {
    let world = World::start().await;
    let (ana, gus) = (world.person("Ana").await, world.staff("Gus", "agent").await);
    let cleo = world.person("Cleo").await;
    let (status, opened) = ana.post("/api/conversations", &json!({ "kind": "support" })).await;
    assert_eq!(status, 201, "{opened}");
    let support = opened["id"].as_str().expect("an id");
    let place = format!("/api/conversations/{support}");
    assert_eq!(gus.post(&format!("{place}/participants"), &json!({ "userIds": [gus.id] })).await.0, 200);
    let (question, answer) = (named(support, "where is it?", "c-1"), named(support, "on its way", "c-1"));
    let (asked, answered) = (say(&ana, &question).await, say(&gus, &answer).await);
    assert_eq!(gus.patch(&place, &json!({ "closed": true })).await.0, 200);

    say_again(&gus, &answer, &answered).await;
    say_again(&ana, &question, &asked).await;
    assert_eq!(reason(&gus.post("/api/messages", &named(support, "and?", "c-2")).await), (409, "conversation_closed"));
    // What is refused opens nothing either.
    let mut refused = named(support, "you there?", "c-3");
    refused["mentions"] = json!([cleo.id]);
    assert_eq!(reason(&ana.post("/api/messages", &refused).await), (400, "mention_not_a_participant"));
    refused["mentions"] = json!([]);
    refused["replyTo"] = json!("msg_00000000000000000000000001");
    assert_eq!(reason(&ana.post("/api/messages", &refused).await), (404, "unknown_message"));
    let (_, closed) = ana.get(&place).await;
    assert!(closed["closedAt"].is_string(), "{closed}");

    say(&ana, &named(support, "it came broken", "c-4")).await;
    let (_, open) = ana.get(&place).await;
    assert!(open["closedAt"].is_null(), "{open}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_before_somebody_went_or_was_blocked_stays_said() {
    let world = World::start().await;
    let (ana, ben, direct) = world.pair().await;
    let (cleo, dora) = (world.person("Cleo").await, world.person("Dora").await);
    let before = named(&direct, "hello", "c-1");
    let first = say(&ana, &before).await;
    assert_eq!(ben.put(&format!("/api/users/me/blocks/{}", ana.id)).await.0, 204);
    say_again(&ana, &before, &first).await;
    assert_eq!(reason(&ana.post("/api/messages", &named(&direct, "hello?", "c-2")).await), (403, "blocked"));

    let group = ana.open(&[&dora, &cleo]).await;
    let (mut naming, hers) = (named(&group, "Cleo?", "c-1"), named(&group, "yes?", "c-1"));
    naming["mentions"] = json!([cleo.id]);
    naming["recipientId"] = json!(cleo.id);
    let (first, _) = (say(&ana, &naming).await, say(&cleo, &hers).await);
    let gone = ana.delete(&format!("/api/conversations/{group}/participants/{}", cleo.id)).await;
    assert_eq!(gone.0, 204, "{gone:?}");
    say_again(&ana, &naming, &first).await;
    naming["clientMessageId"] = json!("c-2");
    assert_eq!(reason(&ana.post("/api/messages", &naming).await), (400, "recipient_not_a_participant"));
    assert_eq!(reason(&cleo.post("/api/messages", &hers).await), (403, "not_a_participant"), "she is told nothing");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resend_is_answered_with_the_message_as_it_is_now() {
    let world = World::start().await;
    let (ana, _, conversation) = world.pair().await;
    let send = named(&conversation, "first", "c-1");
    let id = say(&ana, &send).await["id"].clone();
    assert_eq!(edit(&ana, &conversation, &id, "second").await.0, 200);
    let again = say(&ana, &send).await;
    assert_eq!((&again["id"], &again["text"]), (&id, &json!("second")));
    assert!(again["editedAt"].is_string(), "{again}");
    assert_eq!(delete(&ana, &conversation, &id, "everybody").await.0, 200);
    let again = say(&ana, &send).await;
    assert_eq!((&again["id"], &again["text"]), (&id, &json!("")));
    assert!(again["deletedAt"].is_string(), "{again}");
    world.stop().await;
}
