//! What is promised about one's own writes: they are done once, and they can be read at once.

use async_nats::jetstream::{self, message::PublishMessage};
use serde_json::{Value, json};
use shoptalk::app::Roles;

use crate::support::until;
use crate::support::world::{World, message};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_can_be_read_although_nobody_projects_it() {
    let gateway = Roles { gateway: true, worker: false };
    let world = World::with_roles(gateway).await;
    let other = world.another(gateway).await;
    let (ana, ben, conversation) = world.pair().await;
    let there = ben.at(other.address);
    for number in 1..=120_u64 {
        let sent = ana.say(&conversation, &number.to_string()).await;
        if number % 40 != 0 {
            continue;
        }
        // On the other instance, in MongoDB nowhere.
        let (status, page) = there.get(&format!("/api/messages/{conversation}?limit=50")).await;
        let items = page["items"].as_array().cloned().unwrap_or_default();
        assert_eq!((status, items.last().map(|last| &last["id"])), (200, Some(&sent["id"])));
        let (_, one) = there.get(&format!("/api/conversations/{conversation}")).await;
        assert_eq!(one["lastMessage"]["id"], sent["id"]);
        let (_, list) = there.get("/api/conversations").await;
        assert_eq!(list["items"][0]["lastMessage"]["id"], sent["id"], "{list}");
    }
    // Both ways through the pages, from messages that only the log has.
    let mut texts: Vec<String> = Vec::new();
    let mut path = format!("/api/messages/{conversation}?limit=50");
    loop {
        let (_, page) = there.get(&path).await;
        let items = page["items"].as_array().cloned().unwrap_or_default();
        texts.splice(0..0, items.iter().filter_map(|item| item["text"].as_str().map(str::to_owned)));
        let Some(cursor) = page["nextCursor"].as_str() else { break };
        path = format!("/api/messages/{conversation}?limit=50&before={cursor}");
    }
    assert_eq!(texts, (1..=120).map(|number| number.to_string()).collect::<Vec<_>>());
    let (_, page) = there.get(&format!("/api/messages/{conversation}?limit=2")).await;
    let first = page["items"][0]["id"].as_str().expect("an id");
    let (_, page) = there.get(&format!("/api/messages/{conversation}?after={first}")).await;
    assert_eq!(page["items"].as_array().map(Vec::len), Some(1));

    let mut his = there.socket().await;
    let read = his.call("markRead", &json!({ "conversationId": conversation })).await;
    let (_, one) = ana.get(&format!("/api/conversations/{conversation}")).await;
    let marks = one["participants"].as_array().cloned().unwrap_or_default();
    let mark = marks.iter().find(|participant| participant["userId"] == ben.id.as_str());
    assert_eq!(mark.map(|mark| &mark["readSeq"]), Some(&read["data"]["readSeq"]));
    other.stop().await.expect("a clean stop");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resend_after_the_brokers_memory_is_answered_with_the_first() {
    let world = World::with(Roles::ALL, &[("DEDUP_SECONDS", "1")]).await;
    let other = world.another(Roles::ALL).await;
    let (ana, ben, conversation) = world.pair().await;
    let (mut hers, mut his) = (ana.socket().await, ben.socket().await);
    let mut send = message(&conversation, "once");
    send["clientMessageId"] = json!("c-1");
    let first = hers.call("sendMessage", &send).await;
    assert_eq!(first["ok"], true, "{first}");
    world.history(&ben, &conversation, 1).await;
    // The broker forgets: the message's own dedup id is news to it, on a subject that nobody listens to.
    let log = jetstream::new(world.tenant.broker().await);
    let id = first["data"]["id"].as_str().expect("an id").to_owned();
    let probe = || async {
        let subject = format!("inbox.{}.notification", ana.id);
        let publish = PublishMessage::build().message_id(format!("{id}-probe")).payload("not json".into());
        log.send_publish(subject, publish).await.expect("sent").await.expect("stored").duplicate
    };
    assert!(!probe().await);
    until("the broker has forgotten", probe, |duplicate| !duplicate).await;

    for person in [ana.clone(), ana.at(other.address)] {
        let mut socket = person.socket().await;
        assert_eq!(socket.call("sendMessage", &send).await, first);
        let (status, again) = person.post("/api/messages", &send).await;
        assert_eq!((status, &again["id"], &again["seq"]), (201, &first["data"]["id"], &first["data"]["seq"]));
        assert_eq!(again["createdAt"], first["data"]["createdAt"]);
    }
    ana.say(&conversation, "the end").await;
    let texts = |page: &[Value]| page.iter().map(|one| one["text"].clone()).collect::<Vec<_>>();
    assert_eq!(texts(&world.history(&ben, &conversation, 2).await), [json!("once"), json!("the end")]);
    assert_eq!(his.next("message").await["text"], "once");
    assert_eq!(his.next("message").await["text"], "the end", "it was not pushed again");
    other.stop().await.expect("a clean stop");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_user_has_one_limit_on_all_instances() {
    let world = World::with(Roles::ALL, &[("USER_SENDS_PER_SECOND", "2")]).await;
    let other = world.another(Roles::ALL).await;
    let (ana, ben, conversation) = world.pair().await;
    let (mut here, mut there) = (ana.socket().await, ana.at(other.address).socket().await);
    let mut his = ben.at(other.address).socket().await;
    let mut refused = None;
    for number in 0..20 {
        let socket = if number % 2 == 0 { &mut here } else { &mut there };
        let answer = socket.call("sendMessage", &message(&conversation, &number.to_string())).await;
        if answer["ok"] == false {
            refused = Some(answer);
            break;
        }
        // The other instance has heard of it, so it counts there.
        his.next("message").await;
    }
    let refused = refused.expect("a limit");
    let error = &refused["error"];
    assert_eq!((&error["code"], &error["reason"]), (&json!("rate_limited"), &json!("too_many_sends")));
    assert!(error["retryAfterMs"].as_u64().is_some_and(|wait| wait > 0));
    assert_eq!(his.call("sendMessage", &message(&conversation, "others may")).await["ok"], true);
    other.stop().await.expect("a clean stop");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_log_refuses_and_is_worked_off_by_itself() {
    let world = World::with(Roles::ALL, &[("EVENTS_MAX_BYTES", "1048576")]).await;
    let (ana, ben, conversation) = world.pair().await;
    let mut hers = ana.socket().await;
    let text = "x".repeat(8_000);
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..300 {
        let answer = hers.call("sendMessage", &message(&conversation, &text)).await;
        if answer["ok"] == true {
            accepted += 1;
        } else {
            assert_eq!((&answer["error"]["reason"], &answer["error"]["retryable"]), (&json!("log_full"), &json!(true)));
            refused += 1;
            break;
        }
    }
    assert!(refused == 1 && accepted > 50, "{accepted} accepted, {refused} refused");
    // Nobody does anything by hand.
    let again = message(&conversation, "again");
    until("room in the log", || ana.post("/api/messages", &again), |(status, _)| *status == 201).await;
    let history = world.history(&ben, &conversation, accepted.min(200)).await;
    assert!(history.iter().any(|one| one["text"] == "again"));
    world.stop().await;
}
