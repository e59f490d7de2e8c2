//! One change right after another: over one socket, and at two instances of which one has not heard of the first yet.

use reqwest::Method;
use serde_json::{Value, json};
use shoptalk::app::{App, Roles};
use shoptalk::config::{Config, Source};

use crate::support::client::Person;
use crate::support::messages::{change, edit, pin, react, shown};
use crate::support::proxy::Proxy;
use crate::support::until;
use crate::support::world::{World, message, settings};

const GATEWAY: Roles = Roles { gateway: true, worker: false };

/// A further instance, and its way to the broker.
async fn behind_a_proxy(world: &World) -> (App, Proxy) {
    let proxy = Proxy::to(&world.tenant.nats_url).await;
    let mut all = settings(&world.tenant);
    all.retain(|(key, _)| key != "NATS_URL");
    all.push(("NATS_URL".into(), proxy.url()));
    let config = Config::read(&Source::from_pairs(all)).expect("a good configuration");
    (Box::pin(App::start(&config, GATEWAY)).await.expect("an instance starts"), proxy)
}

async fn group(owner: &Person, others: &[&Person]) -> String {
    let ids: Vec<&str> = others.iter().map(|other| other.id.as_str()).collect();
    let (status, opened) = owner.post("/api/conversations", &json!({ "kind": "group", "participants": ids })).await;
    assert_eq!(status, 201, "{opened}");
    opened["id"].as_str().expect("an id").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_back_at_once_is_taken_back() {
    let world = World::start().await;
    let (ana, _, conversation) = world.pair().await;
    let mut hers = ana.socket().await;
    for _ in 0..5 {
        let id = ana.say(&conversation, "first").await["id"].clone();
        let with = |more: Value| change(&conversation, &id, more);
        for (event, there, back) in [
            ("react", json!({ "emoji": "👍" }), json!({ "emoji": "👍", "on": false })),
            ("pinMessage", json!({ "on": true }), json!({ "on": false })),
            ("editMessage", json!({ "text": "second" }), json!({ "text": "first" })),
        ] {
            let one = hers.ask(event, &with(there)).await;
            let two = hers.ask(event, &with(back)).await;
            let (one, two) = (hers.answer(one).await, hers.answer(two).await);
            assert!(one["data"]["seq"].as_u64() < two["data"]["seq"].as_u64(), "{event}: {one} {two}");
        }
        let found = shown(&ana, &conversation, &id).await;
        assert_eq!((&found["text"], found.get("reactions"), found.get("pinnedAt")), (&json!("first"), None, None));
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_right_after_a_deletion_is_refused() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    let (mut hers, mut his) = (ana.socket().await, ben.socket().await);
    for _ in 0..5 {
        let id = ana.say(&conversation, "secret").await["id"].clone();
        let gone = hers.ask("deleteMessage", &change(&conversation, &id, json!({}))).await;
        let late = [
            hers.ask("editMessage", &change(&conversation, &id, json!({ "text": "a secret" }))).await,
            hers.ask("react", &change(&conversation, &id, json!({ "emoji": "👍" }))).await,
            hers.ask("pinMessage", &change(&conversation, &id, json!({}))).await,
        ];
        assert_eq!(hers.answer(gone).await["ok"], true);
        for ack in late {
            let refused = hers.answer(ack).await;
            assert_eq!(refused["error"]["reason"], "message_deleted", "{refused}");
        }
        assert_eq!(his.next("messageDeleted").await["messageId"], id);
    }
    assert!(his.drain("messageEdited").await.is_empty(), "the words do not come back");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_has_not_heard_yet_does_not_say_that_it_is_so_already() {
    let world = World::start().await;
    let (late, link) = behind_a_proxy(&world).await;
    let (ana, _, conversation) = world.pair().await;
    let there = ana.at(late.address);
    let id = ana.say(&conversation, "first").await["id"].clone();
    for round in 0..3 {
        // The other instance knows the message, and then hears nothing more of it.
        let (status, known) = react(&there, Method::DELETE, &conversation, &id, "👍").await;
        assert_eq!((status, known.get("seq")), (200, None), "{known}");
        link.hold_log();
        assert_eq!(react(&ana, Method::PUT, &conversation, &id, "👍").await.0, 200);
        let (status, done) = react(&there, Method::DELETE, &conversation, &id, "👍").await;
        assert_eq!((status, done["seq"].is_u64()), (200, true), "{done}");
        let found = shown(&ana, &conversation, &id).await;
        assert_eq!(found.get("reactions"), None, "round {round}");
        link.heal();
    }
    // The same with words and pins.
    link.hold_log();
    assert_eq!(edit(&ana, &conversation, &id, "second").await.0, 200);
    assert_eq!(pin(&ana, Method::PUT, &conversation, &id).await.0, 200);
    assert!(edit(&there, &conversation, &id, "first").await.1["editedAt"].is_string());
    assert!(pin(&there, Method::DELETE, &conversation, &id).await.1["seq"].is_u64());
    link.heal();
    let found = shown(&ana, &conversation, &id).await;
    assert_eq!((&found["text"], found.get("pinnedAt")), (&json!("first"), None), "{found}");
    // What is so already is nothing new once that is known for certain.
    let again = async || react(&there, Method::DELETE, &conversation, &id, "👍").await;
    until("an answer that needs no event", again, |(status, done)| *status == 200 && done.get("seq").is_none()).await;
    late.stop().await.expect("a clean stop");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_another_instance_has_just_left_is_not_taken_for_the_one_there_is() {
    let world = World::start().await;
    let (late, link) = behind_a_proxy(&world).await;
    let (ana, ben, cleo) = (world.person("Ana").await, world.person("Ben").await, world.person("Cleo").await);
    let there = ana.at(late.address);
    let place = group(&ana, &[&ben]).await;
    let path = format!("/api/conversations/{place}");
    assert_eq!(there.get(&path).await.0, 200);
    link.hold_log();
    let brings = json!({ "userIds": [cleo.id] });
    assert_eq!(ana.post(&format!("{path}/participants"), &brings).await.0, 200);
    assert_eq!(there.delete(&format!("{path}/participants/{}", cleo.id)).await.0, 204);
    assert_eq!(ana.patch(&path, &json!({ "closed": true })).await.0, 200);
    assert_eq!(there.patch(&path, &json!({ "closed": false })).await.1.get("closedAt"), None);
    let (_, found) = ana.get(&path).await;
    let inside = found["participants"].as_array().map(Vec::len);
    assert_eq!((inside, found.get("closedAt")), (Some(2), None), "{found}");
    let last = &found["lastMessage"];
    assert_eq!((&last["kind"], &last["entry"]), (&json!("system"), &json!({ "type": "reopened" })), "{found}");
    link.heal();
    late.stop().await.expect("a clean stop");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_resumes_reads_in_a_quote_what_those_who_stayed_have_read() {
    let world = World::start().await;
    let (late, link) = behind_a_proxy(&world).await;
    let (ana, ben, cleo) = (world.person("Ana").await, world.person("Ben").await, world.person("Cleo").await);
    let place = group(&ana, &[&ben]).await;
    let mut answer = message(&place, "I see");
    answer["replyTo"] = ana.say(&place, "secret").await["id"].clone();
    let there = ana.at(late.address);
    assert_eq!(there.get(&format!("/api/conversations/{place}")).await.0, 200);
    let mut hers = cleo.socket().await;
    let cursor = hers.next("synced").await["cursor"].as_str().expect("a cursor").to_owned();

    // Whoever answers does not know yet that somebody has come for whom the answered message does not exist.
    link.hold_log();
    let brings = json!({ "userIds": [cleo.id], "historyFrom": "now" });
    assert_eq!(ana.post(&format!("/api/conversations/{place}/participants"), &brings).await.0, 200);
    assert_eq!(there.post("/api/messages", &answer).await.0, 201);
    link.heal();
    let joined = hers.next("message").await;
    assert_eq!(joined["entry"]["type"], "joined");
    let heard = hers.next("message").await;
    assert_eq!((&heard["text"], &heard["replyTo"]["text"]), (&json!("I see"), &json!("")));

    let mut again = cleo.resume(&cursor).await;
    let frames = again.frames_until("synced").await;
    assert_eq!(frames.last().map(|frame| &frame["data"]["recovered"]), Some(&json!(true)));
    let told = frames.iter().find(|frame| frame["data"]["id"] == heard["id"]).expect("it is told again");
    assert_eq!(told["data"]["replyTo"]["text"], "");
    assert!(!frames.iter().any(|frame| frame.to_string().contains("secret")));
    let (_, page) = cleo.get(&format!("/api/sync?cursor={cursor}&limit=100")).await;
    assert!(!page.to_string().contains("secret"), "{page}");
    late.stop().await.expect("a clean stop");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_resumes_out_of_the_log_is_told_what_concerned_them_by_then() {
    let world = World::with(Roles::ALL, &[("WINDOW_EVENTS", "3")]).await;
    let (late, link) = behind_a_proxy(&world).await;
    let (ana, ben, cleo) = (world.person("Ana").await, world.person("Ben").await, world.person("Cleo").await);
    let place = group(&ana, &[&ben]).await;
    let path = format!("/api/conversations/{place}");
    let there = ana.at(late.address);
    assert_eq!(there.get(&path).await.0, 200);
    let mut hers = cleo.socket().await;
    link.hold_log();
    let brings = json!({ "userIds": [cleo.id] });
    assert_eq!(ana.post(&format!("{path}/participants"), &brings).await.0, 200);
    // She is here up to the note that she has come; what follows was published by somebody who did not know that.
    let cursor = hers.next("message").await["cursor"].as_str().expect("a cursor").to_owned();
    there.say(&place, "to whom it concerns").await;
    link.heal();
    assert_eq!(hers.next("message").await["text"], "to whom it concerns");
    assert_eq!(ana.patch(&path, &json!({ "title": "Another" })).await.0, 200);
    for number in 0..5 {
        ana.say(&place, &number.to_string()).await;
    }
    let missed = async || cleo.get(&format!("/api/sync?cursor={cursor}&limit=100")).await.1;
    let page = until("what she missed", missed, |page| page["recovered"] == true).await;
    let texts: Vec<&str> =
        page["events"].as_array().expect("events").iter().filter_map(|one| one["data"]["text"].as_str()).collect();
    assert_eq!(texts.first(), Some(&"to whom it concerns"), "{page}");
    late.stop().await.expect("a clean stop");
    world.stop().await;
}
