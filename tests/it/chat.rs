//! The main job: two people talk.

use serde_json::{Value, json};
use shoptalk::app::Roles;

use crate::support::until;
use crate::support::world::{World, message};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_reaches_everybody_once_and_is_kept() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    let (mut phone, mut laptop, mut his) = (ana.socket().await, ana.socket().await, ben.socket().await);

    let send = json!({ "conversationId": conversation, "senderId": ana.id, "recipientId": ben.id, "text": "hello" });
    let sent = phone.call("sendMessage", &send).await;
    assert_eq!(sent["ok"], true, "{sent}");
    let seen = his.next("message").await;
    for field in ["id", "seq", "createdAt"] {
        assert_eq!(seen[field], sent["data"][field], "{field}");
    }
    assert_eq!(
        (&seen["text"], &seen["senderId"], &seen["senderName"]),
        (&json!("hello"), &json!(ana.id), &json!("Ana"))
    );
    assert!(seen["cursor"].is_string());
    assert_eq!(laptop.next("message").await["id"], seen["id"], "the sender's other socket");

    let notification = his.next("notification").await;
    assert_eq!(notification["data"]["messageId"], seen["id"]);
    assert_eq!((&notification["title"], &notification["body"]), (&json!("Ana"), &json!("hello")));

    let history = world.history(&ben, &conversation, 1).await;
    assert_eq!((history.len(), &history[0]["id"]), (1, &seen["id"]));
    let (_, page) = until(
        "the notification in MongoDB",
        || ben.get("/api/notifications"),
        |(_, page): &(u16, Value)| page["items"].as_array().is_some_and(|all| !all.is_empty()),
    )
    .await;
    assert_eq!(page["items"].as_array().map(Vec::len), Some(1));
    let entry = &page["items"][0];
    assert_eq!((&entry["notificationId"], &entry["id"]), (&notification["id"], &notification["entryId"]));
    assert_eq!(ana.get("/api/notifications").await.1["items"], json!([]), "nobody is told of their own message");

    assert!(his.drain("message").await.is_empty(), "it came once");
    assert!(phone.drain("message").await.is_empty(), "the socket it was sent from had its answer");
    assert!(his.drain("notification").await.is_empty(), "it came once");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_in_flight_keep_their_order_everywhere() {
    const COUNT: usize = 180;
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    let (mut hers, mut his) = (ana.socket().await, ben.socket().await);
    let mut acks = Vec::new();
    for number in 0..COUNT {
        acks.push(hers.ask("sendMessage", &message(&conversation, &format!("{number}"))).await);
    }
    let mut last = 0;
    for ack in acks {
        let answer = hers.answer(ack).await;
        let seq = answer["data"]["seq"].as_u64().unwrap_or_else(|| panic!("{answer}"));
        assert!(seq > last, "stored in order");
        last = seq;
    }
    for number in 0..COUNT {
        assert_eq!(his.next("message").await["text"], number.to_string(), "pushed in order");
    }
    let history = world.history(&ben, &conversation, COUNT).await;
    let texts: Vec<String> = history.iter().filter_map(|one| one["text"].as_str().map(str::to_owned)).collect();
    assert_eq!(texts, (0..COUNT).map(|number| number.to_string()).collect::<Vec<_>>(), "kept in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resend_is_the_same_message() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    let (mut hers, mut his) = (ana.socket().await, ben.socket().await);
    let mut send = message(&conversation, "once");
    send["clientMessageId"] = json!("c-1");
    let first = hers.call("sendMessage", &send).await;
    let second = hers.call("sendMessage", &send).await;
    assert_eq!(first["ok"], true, "{first}");
    assert_eq!(first, second);
    let (status, third) = ana.post("/api/messages", &send).await;
    assert_eq!((status, &third["id"], &third["seq"]), (201, &first["data"]["id"], &first["data"]["seq"]));
    assert_eq!(third["createdAt"], first["data"]["createdAt"]);

    let other = hers.call("sendMessage", &message(&conversation, "again")).await;
    assert_ne!(other["data"]["id"], first["data"]["id"]);
    assert_eq!(his.next("message").await["text"], "once");
    assert_eq!(his.next("message").await["text"], "again");
    assert_eq!(world.history(&ben, &conversation, 2).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn typing_reaches_the_others_and_is_not_kept() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    let (mut hers, mut his) = (ana.socket().await, ben.socket().await);
    let typing = json!({ "conversationId": conversation, "senderId": ben.id, "recipientId": ana.id });
    assert_eq!(his.call("typing", &typing).await, json!({ "ok": true, "data": {} }));
    let expected = json!({ "conversationId": conversation, "senderId": ben.id });
    assert_eq!(hers.next("typing").await, expected);
    assert_eq!(his.call("stopTyping", &typing).await["ok"], true);
    assert_eq!(hers.next("stopTyping").await, expected);
    assert!(his.drain("typing").await.is_empty(), "nobody is told of their own typing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_mark_reaches_the_others_and_only_moves_forward() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    let (mut hers, mut his) = (ana.socket().await, ben.socket().await);
    let mark = json!({ "conversationId": conversation, "userId": ben.id, "recipientId": ana.id });
    assert_eq!(his.call("markRead", &mark).await["data"]["readSeq"], 0, "there is nothing to read yet");

    let sent = hers.call("sendMessage", &message(&conversation, "hello")).await;
    his.next("message").await;
    let marked = his.call("markRead", &mark).await;
    assert_eq!((&marked["ok"], &marked["data"]["readSeq"]), (&json!(true), &sent["data"]["seq"]));
    let read = hers.next("messagesRead").await;
    assert_eq!((&read["userId"], &read["readSeq"]), (&json!(ben.id), &sent["data"]["seq"]));
    his.next("messagesRead").await;
    assert_eq!(his.call("markRead", &mark).await, marked, "marking again changes nothing");
    assert!(hers.drain("messagesRead").await.is_empty(), "and tells nobody");

    let read_by_ben = |list: &Value| {
        let participants = list["items"][0]["participants"].as_array().cloned().unwrap_or_default();
        participants.iter().find(|one| one["userId"] == ben.id.as_str()).map(|one| one["readSeq"].clone())
    };
    until(
        "the mark in MongoDB",
        || ana.get("/api/conversations"),
        |(_, list): &(u16, Value)| read_by_ben(list).as_ref() == Some(&sent["data"]["seq"]),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_users_and_context_have_one_conversation() {
    let world = World::start().await;
    let (ana, ben) = (world.person("Ana").await, world.person("Ben").await);
    let order =
        json!({ "participants": [ben.id], "context": { "type": "order", "id": "1001", "title": "A blue jumper" } });
    let opened = futures_util::future::join_all((0..8).map(|_| ana.post("/api/conversations", &order))).await;
    let created = opened.iter().filter(|(status, _)| *status == 201).count();
    assert_eq!(created, 1, "{opened:#?}");
    let id = &opened[0].1["id"];
    assert!(opened.iter().all(|(_, body)| body["id"] == *id));

    let mut theirs = order.clone();
    theirs["participants"] = json!([ana.id, ben.id]);
    assert_eq!(ben.post("/api/conversations", &theirs).await.1["id"], *id, "whoever asks");
    theirs["context"]["id"] = json!("1002");
    assert_ne!(ben.post("/api/conversations", &theirs).await.1["id"], *id, "another order");
    let plain = json!({ "recipientId": ana.id });
    let (status, plain) = ben.post("/api/conversations", &plain).await;
    assert_eq!((status, plain["context"].is_null()), (201, true));

    let list = until(
        "three conversations",
        || ana.get("/api/conversations"),
        |(_, list): &(u16, Value)| list["items"].as_array().is_some_and(|all| all.len() == 3),
    )
    .await
    .1;
    let order = list["items"].as_array().and_then(|all| all.iter().find(|one| one["id"] == *id).cloned());
    assert_eq!(order.expect("listed")["context"]["title"], "A blue jumper");
    let (status, one) = ben.get(&format!("/api/conversations/{}", id.as_str().expect("an id"))).await;
    assert_eq!((status, &one["participants"][0]["name"].is_string()), (200, &true));
}

#[tokio::test(flavor = "multi_thread")]
async fn people_on_two_instances_talk_at_once() {
    let world = World::start().await;
    let other = world.another(Roles { gateway: true, worker: false }).await;
    let (ana, ben) = (world.person("Ana").await, world.person("Ben").await);
    let ben = ben.at(other.address);
    let conversation = ana.open(&[&ben]).await;
    let (mut hers, mut his) = (ana.socket().await, ben.socket().await);
    // Ben's instance has never heard of the conversation from him, and MongoDB may not have it yet.
    assert_eq!(his.call("sendMessage", &message(&conversation, "from there")).await["ok"], true);
    assert_eq!(hers.next("message").await["text"], "from there");
    assert_eq!(hers.call("sendMessage", &message(&conversation, "from here")).await["ok"], true);
    assert_eq!(his.next("message").await["text"], "from here");
    assert_eq!(hers.call("typing", &json!({ "conversationId": conversation })).await["ok"], true);
    assert_eq!(his.next("typing").await["senderId"], ana.id.as_str());
    other.stop().await.expect("a clean stop");
}
