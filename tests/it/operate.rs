//! The operator's commands, as real processes: dead letters, and the comparison of the log with MongoDB.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};

use async_nats::HeaderMap;
use async_nats::jetstream;
use futures_util::TryStreamExt as _;
use mongodb::bson::{Document, doc};
use mongodb::{Client, Database};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::servers::{self, Tenant};
use crate::support::until;
use crate::support::world::{World, settings};

/// What a command left behind.
#[derive(Debug)]
pub struct Ran {
    pub good: bool,
    out: Vec<u8>,
    pub err: String,
}

impl Ran {
    pub fn text(&self) -> String {
        String::from_utf8(self.out.clone()).expect("text")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.out).unwrap_or_else(|_| panic!("JSON expected: {self:?}"))
    }

    pub fn lines(&self) -> Vec<Value> {
        self.text().lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect()
    }
}

pub async fn shoptalk(tenant: &Tenant, args: &[&str]) -> Ran {
    let ran = Command::new(servers::program())
        .args(args)
        .envs(settings(tenant))
        .env("LOG", "error")
        .current_dir(env!("CARGO_TARGET_TMPDIR"))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let ran = tokio::time::timeout(crate::support::DEADLINE, ran).await.expect("it ends").expect("it runs");
    Ran { good: ran.status.success(), out: ran.stdout, err: String::from_utf8_lossy(&ran.stderr).into_owned() }
}

async fn database(tenant: &Tenant) -> Database {
    Client::with_uri_str(&tenant.mongodb_uri).await.expect("the database").database(&tenant.database)
}

pub async fn log_of(world: &World) -> jetstream::Context {
    jetstream::new(world.tenant.broker().await)
}

/// Waits until both consumers have dealt with the whole log.
pub async fn settled(log: &jetstream::Context) {
    let events = log.get_stream("EVENTS").await.expect("the stream");
    until(
        "everything is projected",
        || async {
            let last = events.get_info().await.expect("its state").state.last_sequence;
            let mut open = Vec::new();
            for consumer in ["notify", "persist"] {
                let info = events.consumer_info(consumer).await.expect("its state");
                open.push((info.num_pending, info.num_ack_pending));
            }
            let floor = events.consumer_info("persist").await.expect("its state").ack_floor.stream_sequence;
            (open, last - floor)
        },
        |(open, left)| open.iter().all(|one| *one == (0, 0)) && *left == 0,
    )
    .await;
}

async fn letters(log: &jetstream::Context, count: u64) {
    let dead = log.get_stream("DEAD").await.expect("the stream");
    until(
        "the dead letters",
        || async { dead.get_info().await.expect("its state").state.messages },
        |found| *found == count,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_differs_from_the_log_is_found_and_rebuilt() {
    let world = World::start().await;
    let (ana, ben, first) = world.pair().await;
    let cleo = world.person("Cleo").await;
    let (second, third) = (ana.open(&[&cleo]).await, ben.open(&[&cleo]).await);
    for number in 0..8 {
        ana.say(&first, &format!("first {number}")).await;
        cleo.say(&second, &format!("second {number}")).await;
    }
    let marked = ben.socket().await.call("markRead", &json!({ "conversationId": first })).await;
    assert_eq!(marked["ok"], true, "{marked}");
    ben.say(&third, "third").await;
    let log = log_of(&world).await;
    settled(&log).await;
    let seen = || async {
        let mut seen = Vec::new();
        for (person, conversation) in [(&ben, &first), (&ana, &second), (&cleo, &third)] {
            seen.push(world.history(person, conversation, 1).await);
            seen.push(vec![person.get("/api/conversations").await.1, person.get("/api/notifications").await.1]);
        }
        seen
    };
    let before = seen().await;
    let clean = shoptalk(&world.tenant, &["check", "--json"]).await;
    assert!(clean.good, "{clean:?}");
    assert_eq!((&clean.json()["differences"], &clean.json()["notDue"]), (&json!(0), &json!(0)));

    // By hand: a message removed, another changed, one moved to the place of a third, strangers put in, a mark set back,
    // a conversation removed, another renamed and named wrong, a notification removed, entries of inboxes too.
    let database = database(&world.tenant).await;
    let (messages, conversations) =
        (database.collection::<Document>("messages"), database.collection::<Document>("conversations"));
    let of = |conversation: &str, number: &str| doc! { "conversationId": conversation, "text": number };
    let removed = messages.find_one_and_delete(of(&first, "first 2")).await.expect("answered").expect("removed");
    let changed = doc! { "$set": { "text": "changed", "senderName": "$nobody" } };
    messages.update_one(of(&first, "first 3"), changed).await.expect("changed");
    let mut stranger = removed.clone();
    stranger.insert("_id", "msg_00000000000000000000000007");
    messages.insert_one(stranger.clone()).await.expect("put in");
    stranger.insert("_id", "msg_00000000000000000000000008");
    stranger.insert("conversationId", second.as_str());
    messages.insert_one(stranger).await.expect("put in");
    let mark = format!("marks.{}.readSeq", ben.id);
    let mut his = doc! { "_id": &first };
    his.insert(&mark, doc! { "$gt": 1 });
    let mut back = Document::new();
    back.insert(&mark, 1_i64);
    assert_eq!(conversations.update_one(his, doc! { "$set": back }).await.expect("changed").matched_count, 1);
    conversations.delete_one(doc! { "_id": &second }).await.expect("removed");
    let wrong = doc! { "$set": { "kind": "group", "lastSeq": 3_i64, "lastMessage.seq": 4_i64 } };
    conversations.update_one(doc! { "_id": &third }, wrong).await.expect("changed");
    let notifications = database.collection::<Document>("notifications");
    notifications.delete_one(doc! { "userId": &ben.id }).await.expect("removed");
    let inbox = database.collection::<Document>("inbox");
    assert_eq!(inbox.delete_one(doc! { "userId": &cleo.id }).await.expect("removed").deleted_count, 1);
    let wrong = doc! { "$set": { "newest.title": "changed" } };
    assert_eq!(inbox.update_one(doc! { "userId": &ana.id }, wrong).await.expect("changed").matched_count, 1);

    let found = shoptalk(&world.tenant, &["check", "--json"]).await;
    assert!(!found.good, "{found:?}");
    assert!(found.err.contains("documents are not as the log has them"), "{found:?}");
    let report = found.json();
    let listed = |report: &Value| -> BTreeSet<String> {
        let found = report["found"].as_array().expect("a list").iter();
        found.map(|one| format!("{} {} {}", one["collection"], one["fault"], one["fields"]).replace('"', "")).collect()
    };
    let wanted = [
        "conversations different [lastMessage,lastSeq,state]",
        "conversations different [marks]",
        "conversations missing []",
        "inbox different [newest]",
        "inbox missing []",
        "messages different [senderName,text]",
        "messages extra []",
        "messages missing []",
        "notifications missing []",
    ];
    assert_eq!(listed(&report), wanted.map(str::to_owned).into(), "{report:#}");
    assert_eq!((&report["differences"], &report["remaining"]), (&json!(10), &json!(10)), "{report:#}");
    assert_ne!(seen().await, before, "the damage shows");
    let people = shoptalk(&world.tenant, &["check"]).await;
    assert!(people.text().contains("different  messages") && !people.text().contains("changed"), "{people:?}");

    let repaired = shoptalk(&world.tenant, &["check", "--repair", "--json"]).await;
    assert!(repaired.good, "{repaired:?}");
    assert_eq!(repaired.json()["remaining"], 0);
    let clean = shoptalk(&world.tenant, &["check", "--json"]).await;
    assert!(clean.good && clean.json()["differences"] == 0, "{clean:?}");
    assert_eq!(seen().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_is_made_an_agent_from_their_next_token_on() {
    let world = World::start().await;
    let ana = world.person("Ana").await;
    let shown = shoptalk(&world.tenant, &["users", "role", &ana.email]).await;
    assert!(shown.good && shown.text().contains("  buyer  "), "{shown:?}");
    let made = shoptalk(&world.tenant, &["users", "role", &ana.email, "agent"]).await;
    assert!(made.good && made.text().contains("  agent  "), "{made:?}");
    let refresh = json!({ "refreshToken": ana.refresh_token });
    let (status, entered) = world.rest.post("/api/auth/refresh", None, &refresh).await;
    assert_eq!((status, &entered["user"]["role"]), (200, &json!("agent")), "{entered}");
    for (args, reason) in [
        (["users", "role", "nobody@example.test", "agent"], "there is no account"),
        (["users", "role", ana.email.as_str(), "king"], "role must be"),
    ] {
        let refused = shoptalk(&world.tenant, &args).await;
        assert!(!refused.good && refused.err.contains(reason), "{refused:?}");
    }
}

/// Puts an event about a conversation into the log, as an instance would.
async fn happen(log: &jetstream::Context, conversation: &str, kind: &str, users: &[&str], data: Value) {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let event = json!({
        "id": format!("evt_{:026}", NEXT.fetch_add(1, Ordering::Relaxed)),
        "version": 1,
        "actor": users[0],
        "occurredAt": NOW,
        "recipients": users,
        "type": kind,
        "data": data,
    });
    let subject = format!("chat.{conversation}.{kind}");
    log.publish(subject, event.to_string().into()).await.expect("sent").await.expect("stored");
}

const NOW: &str = "2026-11-22T11:13:22.979Z";

#[tokio::test(flavor = "multi_thread")]
async fn what_has_happened_since_is_compared_and_rebuilt_too() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    let mut said = Vec::new();
    for number in 0..4 {
        said.push(ana.say(&conversation, &format!("word {number}")).await);
    }
    let log = log_of(&world).await;
    let both = [ana.id.as_str(), ben.id.as_str()];
    let about = |place: usize, more: Value| {
        let mut data = json!({
            "messageId": said[place]["id"],
            "conversationId": conversation,
            "messageSeq": said[place]["seq"],
        });
        data.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        data
    };
    let gone = |by: &str, scope: &str| json!({ "senderId": ana.id, "deletedBy": by, "scope": scope, "deletedAt": NOW });
    let on = |user: &str, on: bool| json!({ "userId": user, "on": on, "at": NOW, "emoji": "👍" });
    for (kind, data) in [
        ("edit", about(0, json!({ "text": "better", "editedAt": NOW }))),
        ("edit", about(0, json!({ "text": "best", "editedAt": NOW }))),
        ("reaction", about(0, on(&ben.id, true))),
        ("reaction", about(1, on(&ben.id, true))),
        ("reaction", about(1, on(&ben.id, false))),
        ("pin", about(1, on(&ben.id, true))),
        ("delete", about(2, gone(&ana.id, "everybody"))),
        ("delete", about(3, gone(&ben.id, "me"))),
        ("setting", json!({ "conversationId": conversation, "userId": ben.id, "archived": true, "mutedUntil": NOW })),
    ] {
        happen(&log, &conversation, kind, &both, data).await;
    }
    settled(&log).await;
    let database = database(&world.tenant).await;
    let all = || async {
        let mut all = Vec::new();
        for name in ["messages", "conversations"] {
            let found = database.collection::<Document>(name).find(doc! {}).sort(doc! { "_id": 1 }).await;
            all.extend(found.expect("an answer").try_collect::<Vec<Document>>().await.expect("documents"));
        }
        all
    };
    let before = all().await;
    let clean = shoptalk(&world.tenant, &["check", "--json"]).await;
    assert!(clean.good && clean.json()["differences"] == 0, "{clean:?}");

    // By hand: an edit and an emoji are lost, a pin is set back, a deleted message speaks again, another is back for
    // somebody, a setting is lost.
    let messages = database.collection::<Document>("messages");
    let id = |place: usize| doc! { "_id": said[place]["id"].as_str().expect("an id") };
    let lost = doc! { "$unset": { "edits": "", "wording": "", "reactions": "" } };
    messages.update_one(id(0), lost).await.expect("changed");
    messages.update_one(id(1), doc! { "$set": { "pin.on": false } }).await.expect("changed");
    let again = doc! { "$unset": { "deleted": "" }, "$set": { "text": "word 2" } };
    messages.update_one(id(2), again).await.expect("changed");
    messages.update_one(id(3), doc! { "$unset": { "hidden": "" } }).await.expect("changed");
    let conversations = database.collection::<Document>("conversations");
    let forgotten = doc! { "$unset": { "settings": "" } };
    conversations.update_one(doc! { "_id": &conversation }, forgotten).await.expect("changed");

    let found = shoptalk(&world.tenant, &["check", "--json"]).await;
    assert!(!found.good, "{found:?}");
    assert_eq!(found.json()["differences"], 5, "{found:?}");
    let repaired = shoptalk(&world.tenant, &["check", "--repair", "--json"]).await;
    assert!(repaired.good && repaired.json()["remaining"] == 0, "{repaired:?}");
    assert_eq!(all().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn preferences_that_differ_from_the_log_are_rebuilt() {
    let world = World::start().await;
    let (ana, ben) = (world.person("Ana").await, world.person("Ben").await);
    let path = "/api/users/me/preferences";
    for (person, change) in [
        (&ana, json!({ "invisible": true })),
        (&ben, json!({ "invisible": true })),
        (&ana, json!({ "hideReadReceipts": true })),
    ] {
        assert_eq!(person.patch(path, &change).await.0, 200);
    }
    let log = log_of(&world).await;
    settled(&log).await;
    let clean = shoptalk(&world.tenant, &["check", "--json"]).await;
    assert!(clean.good && clean.json()["differences"] == 0, "{clean:?}");

    let preferences = database(&world.tenant).await.collection::<Document>("preferences");
    let before = preferences.find_one(doc! { "_id": &ana.id }).await.expect("answered").expect("stored");
    let seen = doc! { "$set": { "invisible": false } };
    preferences.update_one(doc! { "_id": &ana.id }, seen).await.expect("changed");
    preferences.delete_one(doc! { "_id": &ben.id }).await.expect("removed");
    let mut stranger = before.clone();
    stranger.insert("_id", "usr_00000000000000000000000001");
    preferences.insert_one(stranger).await.expect("put in");
    let found = shoptalk(&world.tenant, &["check", "--json"]).await.json();
    let mut faults: Vec<String> =
        found["found"].as_array().expect("a list").iter().map(|one| one["fault"].to_string()).collect();
    faults.sort();
    assert_eq!(faults, ["\"different\"", "\"extra\"", "\"missing\""], "{found:#}");
    let repaired = shoptalk(&world.tenant, &["check", "--repair", "--json"]).await;
    assert!(repaired.good && repaired.json()["remaining"] == 0, "{repaired:?}");
    let after = preferences.find_one(doc! { "_id": &ana.id }).await.expect("answered");
    assert_eq!(after, Some(before));
    assert_eq!(preferences.count_documents(doc! {}).await.expect("answered"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_due_or_not_asked_for_is_not_compared() {
    let mut world = World::start().await;
    let (ana, _, conversation) = world.pair().await;
    for number in 0..5 {
        ana.say(&conversation, &number.to_string()).await;
    }
    let log = log_of(&world).await;
    settled(&log).await;
    let last = log.get_stream("EVENTS").await.expect("the stream").cached_info().state.last_sequence;
    let database = database(&world.tenant).await;
    let messages = database.collection::<Document>("messages");
    let first = messages.find_one_and_delete(doc! { "text": "0" }).await.expect("answered").expect("removed");
    let gone = first.get_i64("seq").expect("a seq");
    let from = |seq: i64| seq.to_string();
    let after = shoptalk(&world.tenant, &["check", "--from", &from(gone + 1)]).await;
    assert!(after.good, "{after:?}");
    let until_there = shoptalk(&world.tenant, &["check", "--to", &from(gone)]).await;
    assert!(!until_there.good, "{until_there:?}");

    // A log that nobody works on any more: what comes now is not due.
    world.app.take().expect("it runs").stop().await.expect("a clean stop");
    let subject = format!("chat.{conversation}.message");
    for _ in 0..3 {
        log.publish(subject.clone(), "not json".into()).await.expect("sent").await.expect("stored");
    }
    let report = shoptalk(&world.tenant, &["check", "--repair", "--json"]).await;
    assert!(report.good, "{report:?}");
    let report = report.json();
    assert_eq!((&report["notDue"], &report["to"], &report["differences"]), (&json!(3), &json!(last), &json!(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_listed_shown_replayed_and_dropped() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    let sent = ana.say(&conversation, "alive").await;
    let log = log_of(&world).await;
    settled(&log).await;

    // A poison that both consumers refuse, and a letter of an event that was good after all.
    let subject = format!("chat.{conversation}.message");
    let poison = b"\xffnot \x1b[2Jtext";
    log.publish(subject.clone(), poison[..].into()).await.expect("sent").await.expect("stored");
    letters(&log, 2).await;
    let events = log.get_stream("EVENTS").await.expect("the stream");
    let at = sent["seq"].as_u64().expect("a seq");
    let original = events.get_raw_message(at).await.expect("the event");
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", format!("persist:{at}").as_str());
    headers.insert("Shoptalk-Subject", subject.as_str());
    headers.insert("Shoptalk-Seq", at.to_string().as_str());
    headers.insert("Shoptalk-Attempts", "10");
    headers.insert("Shoptalk-Reason", "internal");
    let letter = log.publish_with_headers("dead.persist", headers.clone(), original.payload.clone());
    let seq = letter.await.expect("sent").await.expect("stored").sequence.to_string();
    headers.insert("Nats-Msg-Id", format!("notify:{at}").as_str());
    let letter = log.publish_with_headers("dead.notify", headers, original.payload);
    letter.await.expect("sent").await.expect("stored");

    let all = shoptalk(&world.tenant, &["dead", "list", "--json"]).await.lines();
    let reasons: Vec<&str> = all.iter().filter_map(|one| one["reason"].as_str()).collect();
    assert_eq!(reasons, ["undecodable_event", "undecodable_event", "internal", "internal"]);
    assert!(all.iter().all(|one| one["eventSeq"].is_u64() && one["at"].is_string()), "{all:?}");
    let of_persist = shoptalk(&world.tenant, &["dead", "list", "--consumer", "persist"]).await.text();
    assert_eq!(of_persist.lines().count(), 2, "{of_persist}");
    assert!(of_persist.contains(&subject) && of_persist.contains("10 attempts"), "{of_persist}");
    assert_eq!(shoptalk(&world.tenant, &["dead", "list", "--limit", "3"]).await.text().lines().count(), 3);
    let shown = shoptalk(&world.tenant, &["dead", "show", "1"]).await.text();
    assert!(shown.contains("Shoptalk-Reason: undecodable_event") && shown.contains("\\xffnot \\x1b[2Jtext"), "{shown}");
    assert_eq!(shoptalk(&world.tenant, &["dead", "show", "1", "--raw"]).await.out, poison);

    // Whatever the first delivery could not write is written now.
    let database = database(&world.tenant).await;
    let (messages, notifications) =
        (database.collection::<Document>("messages"), database.collection::<Document>("notifications"));
    messages.delete_one(doc! { "_id": sent["id"].as_str() }).await.expect("removed");
    let replayed = shoptalk(&world.tenant, &["dead", "replay", &seq]).await;
    assert!(replayed.good, "{replayed:?}");
    assert_eq!(world.history(&ben, &conversation, 1).await[0]["text"], "alive");
    let gone = shoptalk(&world.tenant, &["dead", "replay", &seq]).await;
    assert!(!gone.good && gone.text().contains("no_such_letter"), "{gone:?}");
    let rest = shoptalk(&world.tenant, &["dead", "replay", "--all"]).await;
    assert!(!rest.good && rest.text().matches("undecodable_event").count() == 2, "{rest:?}");
    assert!(rest.err.contains("1 dead letters were replayed, 2 were not"), "{rest:?}");
    letters(&log, 2).await;
    assert!(shoptalk(&world.tenant, &["check"]).await.good, "a replay twice over changes nothing");
    assert_eq!(notifications.count_documents(doc! {}).await.expect("a count"), 1);

    let unconfirmed = shoptalk(&world.tenant, &["dead", "drop", "--all"]).await;
    assert!(!unconfirmed.good && unconfirmed.err.contains("--yes"), "{unconfirmed:?}");
    assert!(shoptalk(&world.tenant, &["dead", "drop", "1"]).await.good);
    letters(&log, 1).await;
    assert!(shoptalk(&world.tenant, &["dead", "drop", "--all", "--yes"]).await.good);
    letters(&log, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_poison_fits_into_a_letter() {
    let world = World::start().await;
    let log = log_of(&world).await;
    // What told the broker how to take the event must not tell it how to take the letter.
    for conversation in ["cnv_00000000000000000000000001", "cnv_00000000000000000000000002"] {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Expected-Last-Subject-Sequence", "0");
        let subject = format!("chat.{conversation}.conversation");
        log.publish_with_headers(subject, headers, "poison".into()).await.expect("sent").await.expect("stored");
    }
    // And one as large as the broker takes.
    let large = vec![b'x'; log.client().server_info().max_payload];
    let subject = "chat.cnv_00000000000000000000000003.conversation";
    log.publish(subject, large.clone().into()).await.expect("sent").await.expect("stored");
    letters(&log, 3).await;
    let sizes: Vec<Value> = shoptalk(&world.tenant, &["dead", "list", "--json"]).await.lines();
    assert_eq!(
        sizes.iter().map(|one| one["size"].as_u64()).collect::<Vec<_>>(),
        [Some(6), Some(6), Some(large.len() as u64)]
    );
    let last = sizes[2]["seq"].to_string();
    assert!(shoptalk(&world.tenant, &["dead", "show", &last, "--raw"]).await.out == large, "the original");
}
