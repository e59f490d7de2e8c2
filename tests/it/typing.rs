//! Who types.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use shoptalk::app::Roles;

use crate::support::socketio::Raw;
use crate::support::world::{World, message};

const GATEWAY: Roles = Roles { gateway: true, worker: false };

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_typing_is_told_once() {
    let world = World::start().await;
    let other = world.another(GATEWAY).await;
    let (ana, ben, conversation) = world.pair().await;
    let (mut hers, mut his) = (ana.socket().await, ben.at(other.address).socket().await);
    let here = json!({ "conversationId": conversation, "senderId": ben.id, "recipientId": ana.id });
    hers.next("presenceSnapshot").await;
    for _ in 0..20 {
        assert_eq!(his.call("typing", &here).await, json!({ "ok": true, "data": {} }));
    }
    assert_eq!(his.call("stopTyping", &here).await["ok"], true);
    assert_eq!(his.call("stopTyping", &here).await["ok"], true);
    let frames = hers.frames_until("stopTyping").await;
    let of = |name: &str| frames.iter().filter(|frame| frame["event"] == name).cloned().collect::<Vec<Value>>();
    let data = json!({ "conversationId": conversation, "senderId": ben.id });
    assert_eq!(of("typing"), [json!({ "event": "typing", "data": data })]);
    assert_eq!(of("stopTyping"), [json!({ "event": "stopTyping", "data": data })]);
    assert!(hers.drain("stopTyping").await.is_empty(), "and its end once");
    assert!(his.drain("typing").await.is_empty(), "nobody is told of their own typing");
    other.stop().await.expect("a clean stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn typing_ends_by_itself() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    let mut hers = Raw::connect(world.rest.address, &ana.token, None).await;
    let mut his = Raw::connect(world.rest.address, &ben.token, None).await;
    hers.next("presenceSnapshot").await;
    his.say("typing", &json!({ "conversationId": conversation })).await;
    let data = json!({ "conversationId": conversation, "senderId": ben.id });
    assert_eq!(hers.next("typing").await, data);
    let begun = Instant::now();
    assert_eq!(hers.next("stopTyping").await, data);
    let lasted = begun.elapsed();
    assert!(lasted > Duration::from_secs(5) && lasted < Duration::from_secs(9), "{lasted:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_ends_typing_before_it_comes() {
    let world = World::start().await;
    let other = world.another(GATEWAY).await;
    let (ana, ben, conversation) = world.pair().await;
    let (mut hers, mut his) = (ana.socket().await, ben.at(other.address).socket().await);
    hers.next("presenceSnapshot").await;
    his.call("typing", &json!({ "conversationId": conversation })).await;
    hers.next("typing").await;
    assert_eq!(his.call("sendMessage", &message(&conversation, "there")).await["ok"], true);
    let frames = hers.frames_until("message").await;
    let names = frames.iter().filter_map(|frame| frame["event"].as_str());
    let names: Vec<&str> = names.filter(|name| matches!(*name, "typing" | "stopTyping" | "message")).collect();
    assert_eq!(names, ["stopTyping", "message"]);
    // What was said by other means ends it as well.
    his.call("typing", &json!({ "conversationId": conversation })).await;
    hers.next("typing").await;
    ben.say(&conversation, "and there").await;
    let frames = hers.frames_until("message").await;
    assert!(frames.iter().any(|frame| frame["event"] == "stopTyping"), "{frames:?}");
    other.stop().await.expect("a clean stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn typing_ends_with_the_connection_that_typed() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    let mut hers = ana.socket().await;
    hers.next("presenceSnapshot").await;
    let (mut phone, mut laptop) = (ben.socket().await, ben.socket().await);
    phone.call("typing", &json!({ "conversationId": conversation })).await;
    hers.next("typing").await;
    let begun = Instant::now();
    phone.close().await;
    hers.next("stopTyping").await;
    assert!(begun.elapsed() < Duration::from_secs(5), "not only when it would have ended by itself");
    // The other connection had not typed, so its end means nothing.
    laptop.call("register", &json!(ben.id)).await;
    laptop.close().await;
    assert!(hers.drain("stopTyping").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_participants_type() {
    let world = World::start().await;
    let (ana, _, conversation) = world.pair().await;
    let cleo = world.person("Cleo").await;
    let (mut hers, mut strangers) = (ana.socket().await, cleo.socket().await);
    for event in ["typing", "typing", "stopTyping"] {
        let refused = strangers.call(event, &json!({ "conversationId": conversation })).await;
        assert_eq!(refused["error"]["reason"], "not_a_participant", "{event}");
    }
    hers.next("presenceSnapshot").await;
    assert!(hers.drain("typing").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_types_where_nothing_is_said_any_more() {
    let world = World::start().await;
    let (ana, gus) = (world.person("Ana").await, world.staff("Gus", "agent").await);
    let direct = ana.open(&[&gus]).await;
    let (status, opened) = ana.post("/api/conversations", &json!({ "kind": "support" })).await;
    assert_eq!(status, 201, "{opened}");
    let place = format!("/api/conversations/{}", opened["id"].as_str().expect("an id"));
    assert_eq!(gus.post(&format!("{place}/participants"), &json!({ "userIds": [gus.id] })).await.0, 200);
    assert_eq!(gus.patch(&place, &json!({ "closed": true })).await.0, 200);
    let (mut hers, mut his) = (ana.socket().await, gus.socket().await);
    let (closed, open) = (json!({ "conversationId": opened["id"] }), json!({ "conversationId": direct }));
    assert_eq!(his.call("typing", &closed).await["error"]["reason"], "conversation_closed");
    assert_eq!(his.call("stopTyping", &closed).await["ok"], true, "whoever has begun may stop");
    // She may go on there, but nobody hears of it before she does.
    for there in [&closed, &open] {
        assert_eq!(hers.call("typing", there).await["ok"], true);
    }
    assert_eq!(his.next("typing").await["conversationId"], json!(direct));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_sees_somebody_invisible_type_or_get_messages() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    let here = json!({ "conversationId": conversation });
    assert_eq!(ben.patch("/api/users/me/preferences", &json!({ "invisible": true })).await.0, 200);
    let mut hers = ana.socket().await;
    hers.next("presenceSnapshot").await;
    let auth = json!({ "token": ben.token, "deliveryAcks": true });
    let (mut his, mut phone) = (Raw::connect_with(world.rest.address, &auth).await, ben.socket().await);
    ana.say(&conversation, "are you there?").await;
    let number = loop {
        let (_, _, number) = his.event_to_acknowledge().await.expect("a message");
        if let Some(number) = number {
            break number;
        }
    };
    his.acknowledge(number).await;
    assert_eq!(phone.call("typing", &here).await["ok"], true, "he need not know that nobody sees it");
    let last = ana.say(&conversation, "hello?").await;
    while his.next("message").await["id"] != last["id"] {}
    // What he says himself is his own choice.
    assert_eq!(phone.call("markDelivered", &here).await["ok"], true);
    assert_eq!(hers.next("messagesDelivered").await["deliveredSeq"], last["seq"], "of nothing before it she has heard");
    assert!(hers.drain("typing").await.is_empty());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn typing_ends_when_whoever_types_is_removed() {
    let world = World::start().await;
    let (ana, ben, cleo) = (world.person("Ana").await, world.person("Ben").await, world.person("Cleo").await);
    let group = ana.open(&[&ben, &cleo]).await;
    let (mut hers, mut his) = (ana.socket().await, ben.socket().await);
    hers.next("presenceSnapshot").await;
    his.call("typing", &json!({ "conversationId": group })).await;
    hers.next("typing").await;
    let begun = Instant::now();
    let (status, _) = ana.delete(&format!("/api/conversations/{group}/participants/{}", ben.id)).await;
    assert!((200..300).contains(&status), "{status}");
    assert_eq!(hers.next("stopTyping").await, json!({ "conversationId": group, "senderId": ben.id }));
    assert!(begun.elapsed() < Duration::from_secs(5), "not only when it would have ended by itself");
    let refused = his.call("typing", &json!({ "conversationId": group })).await;
    assert_eq!(refused["error"]["reason"], "not_a_participant");
}
