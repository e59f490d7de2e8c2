//! The inbox: what waits, what has become of it, and the same on every device and instance.

use mongodb::bson::{Document, doc};
use serde_json::{Value, json};
use shoptalk::app::{App, Roles};
use shoptalk::domain::clock::Clock;

use crate::drills::evidence::database;
use crate::support::client::Person;
use crate::support::until;
use crate::support::world::World;

/// Entries as they are listed.
async fn listed(person: &Person, query: &str) -> Vec<Value> {
    let (status, page) = person.get(&format!("/api/notifications?limit=200{query}")).await;
    assert_eq!(status, 200, "{page}");
    page["items"].as_array().cloned().expect("a page")
}

/// How many wait: unread and unseen.
async fn counts(person: &Person) -> (u64, u64) {
    let (status, counts) = person.get("/api/notifications/unread-count").await;
    assert_eq!(status, 200, "{counts}");
    of(&counts)
}

fn of(counts: &Value) -> (u64, u64) {
    (counts["unread"].as_u64().expect("a number"), counts["unseen"].as_u64().expect("a number"))
}

/// Does something to the inbox; returns what is left.
async fn mark(person: &Person, what: &str, body: Value) -> (u64, u64) {
    let (status, done) = person.post(&format!("/api/notifications/{what}"), &body).await;
    assert_eq!(status, 200, "{done}");
    of(&done["counts"])
}

/// Says something that names somebody.
async fn mention(from: &Person, conversation: &str, whom: &Person, text: &str) {
    let body = json!({ "conversationId": conversation, "text": text, "mentions": [whom.id] });
    let (status, sent) = from.post("/api/messages", &body).await;
    assert_eq!(status, 201, "{sent}");
}

/// Waits until this many notifications of somebody are made, however they were decided.
async fn made(world: &World, person: &Person, count: u64) {
    let database = database(&world.tenant).await;
    let notifications = database.collection::<Document>("notifications");
    let counted = async || notifications.count_documents(doc! { "userId": &person.id }).await.expect("a count");
    until("every notification", counted, |found| *found == count).await;
}

/// A time so many days from now.
fn in_days(days: i64) -> String {
    Clock::System.now().plus_seconds(days * 86_400).to_string()
}

async fn another(world: &World) -> App {
    world.another(Roles::ALL).await
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_a_conversation_are_one_entry_until_they_are_read() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    for number in 0..3 {
        ana.say(&conversation, &format!("hello {number}")).await;
    }
    mention(&ana, &conversation, &ben, "you").await;
    let all = until("two entries", || listed(&ben, ""), |all| all.len() == 2 && all[1]["count"] == 3).await;
    let kinds: Vec<_> = all.iter().map(|one| (&one["kind"], &one["body"], &one["count"])).collect();
    assert_eq!(
        kinds,
        [(&json!("mention"), &json!("you"), &json!(1)), (&json!("message"), &json!("hello 2"), &json!(3))]
    );
    assert_eq!(all[0]["id"], all[0]["notificationId"], "what names somebody is an entry by itself");
    assert_ne!(all[1]["id"], all[1]["notificationId"]);
    assert_eq!((counts(&ben).await, counts(&ana).await), ((2, 2), (0, 0)));
    assert_eq!(listed(&ben, "&kind=mention").await.len(), 1);
    assert_eq!(listed(&ben, "&unread=false").await, [] as [Value; 0]);

    let (status, read) = ben.post(&format!("/api/conversations/{conversation}/read"), &json!({})).await;
    assert_eq!(status, 200, "{read}");
    assert_eq!(counts(&ben).await, (0, 0), "reading the conversation reads them");
    let all = listed(&ben, "").await;
    assert!(all.iter().all(|one| one["read"] == true && one["seen"] == true && one["count"] == 0), "{all:#?}");
    ana.say(&conversation, "again").await;
    let all = until("the entry is new", || listed(&ben, "&unread=true"), |all| !all.is_empty()).await;
    assert_eq!((&all[0]["body"], &all[0]["count"]), (&json!("again"), &json!(1)));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_device_hears_once_what_is_left() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    let further = another(&world).await;
    let there = ben.at(further.address);
    let (mut laptop, mut phone) = (ben.socket().await, there.socket().await);
    ana.say(&conversation, "one").await;
    mention(&ana, &conversation, &ben, "two").await;
    let entry = phone.next("notification").await["entryId"].clone();
    phone.next("notification").await;
    laptop.next("notification").await;
    laptop.next("notification").await;

    let done = laptop.call("markNotifications", &json!({ "ids": [entry], "read": true })).await;
    assert_eq!((&done["ok"], of(&done["data"]["counts"])), (&json!(true), (1, 1)), "{done}");
    for socket in [&mut laptop, &mut phone] {
        let told = socket.next("notificationState").await;
        assert_eq!((&told["entryIds"], &told["read"], of(&told["counts"])), (&json!([entry]), &json!(true), (1, 1)));
        assert_eq!(told["seq"], done["data"]["seq"]);
        assert!(told["counts"]["seq"].as_u64() < told["seq"].as_u64(), "{told}");
        assert_eq!(socket.drain("notificationState").await, [] as [Value; 0], "it came once");
    }
    assert_eq!(counts(&there).await, (1, 1), "on any instance, at once");
    assert_eq!(mark(&there, "seen", json!({ "all": true })).await, (1, 0));
    assert_eq!(counts(&ben).await, (1, 0));
    assert_eq!(mark(&ben, "read", json!({ "all": true })).await, (0, 0));
    assert_eq!(counts(&there).await, (0, 0));
    mention(&ana, &conversation, &ben, "three").await;
    until("one more", || counts(&ben), |left| *left == (1, 1)).await;
    further.stop().await.expect("a clean stop");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_away_or_off_comes_back_with_something_new_or_in_time() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    ana.say(&conversation, "one").await;
    mention(&ana, &conversation, &ben, "two").await;
    let all = until("two entries", || listed(&ben, ""), |all| all.len() == 2).await;
    let (mention_id, entry) = (all[0]["id"].clone(), all[1]["id"].clone());

    // The id of a notification in it means its entry.
    assert_eq!(mark(&ben, "archive", json!({ "ids": [all[1]["notificationId"]] })).await, (1, 1));
    assert_eq!(listed(&ben, "").await.len(), 1);
    assert_eq!(listed(&ben, "&archived=true").await[0]["id"], entry);
    assert_eq!(mark(&ben, "archive", json!({ "ids": [entry], "archived": false })).await, (2, 2));
    mark(&ben, "archive", json!({ "ids": [entry] })).await;
    ana.say(&conversation, "three").await;
    until("it is back", || counts(&ben), |left| *left == (2, 2)).await;

    let late = in_days(60);
    assert_eq!(mark(&ben, "snooze", json!({ "ids": [mention_id], "until": late })).await, (1, 1));
    let snoozed = listed(&ben, "&snoozed=true").await;
    assert_eq!((&snoozed[0]["id"], &snoozed[0]["snoozedUntil"]), (&mention_id, &json!(late)));
    let past = "2020-01-01T00:00:00Z";
    assert_eq!(mark(&ben, "snooze", json!({ "ids": [mention_id], "until": past })).await, (2, 2), "that wakes it");
    let soon = Clock::System.now().plus_seconds(3).to_string();
    assert_eq!(mark(&ben, "snooze", json!({ "all": true, "until": soon })).await, (0, 0));
    until("time wakes them", || counts(&ben), |left| *left == (2, 2)).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_knows_less_undoes_nothing() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    ana.say(&conversation, "one").await;
    mention(&ana, &conversation, &ben, "two").await;
    let before = until("two entries", || listed(&ben, ""), |all| all.len() == 2).await;
    ana.say(&conversation, "three").await;
    let all = until("three messages", || listed(&ben, ""), |all| all[0]["count"] == 2).await;
    let (entry, earlier) = (&all[0]["id"], &before[1]["seq"]);

    // What it has not seen is not put away.
    assert_eq!(mark(&ben, "archive", json!({ "ids": [entry], "upTo": earlier })).await, (2, 2));
    assert_eq!(mark(&ben, "archive", json!({ "ids": [entry] })).await, (1, 1));
    let until_then = Clock::System.now().plus_seconds(3_600).to_string();
    for (what, body) in [
        ("archive", json!({ "ids": [entry], "upTo": earlier })),
        ("archive", json!({ "ids": [entry], "archived": false, "upTo": earlier })),
        ("snooze", json!({ "ids": [entry], "until": until_then, "upTo": earlier })),
    ] {
        assert_eq!(mark(&ben, what, body).await, (1, 1));
        assert_eq!(listed(&ben, "&archived=true").await[0]["id"], *entry);
    }
    assert_eq!(mark(&ben, "archive", json!({ "all": true })).await, (0, 0));
    let stale = json!({ "all": true, "upTo": earlier });
    let (status, refused) = ben.post("/api/notifications/archive", &stale).await;
    assert_eq!((status, &refused["reason"]), (409, &json!("stale_up_to")));
    assert_eq!((counts(&ben).await, listed(&ben, "").await), ((0, 0), Vec::new()));
    assert_eq!(mark(&ben, "archive", json!({ "all": true, "archived": false })).await, (2, 2));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_at_the_same_moment_leave_the_right_number() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    let further = another(&world).await;
    let (mut laptop, mut phone) = (ben.socket().await, ben.at(further.address).socket().await);
    for number in 0..6 {
        mention(&ana, &conversation, &ben, &number.to_string()).await;
    }
    let all = until("all of them", || listed(&ben, ""), |all| all.len() == 6).await;
    let mut asked = [Vec::new(), Vec::new()];
    for (place, one) in all[..5].iter().enumerate() {
        let socket = if place % 2 == 0 { &mut laptop } else { &mut phone };
        asked[place % 2].push(socket.ask("markNotifications", &json!({ "ids": [one["id"]], "read": true })).await);
    }
    for (socket, asked) in [&mut laptop, &mut phone].into_iter().zip(asked) {
        for ack in asked {
            let answer = socket.answer(ack).await;
            assert_eq!(answer["ok"], true, "{answer}");
        }
    }
    for socket in [&mut laptop, &mut phone] {
        let mut left = Vec::new();
        for _ in 0..5 {
            left.push(of(&socket.next("notificationState").await["counts"]).0);
        }
        assert_eq!(left, [5, 4, 3, 2, 1], "each has counted the one before it");
    }
    assert_eq!(counts(&ben).await, (1, 1));
    further.stop().await.expect("a clean stop");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_brought_into_a_conversation_reads_that_there() {
    let world = World::start().await;
    let (ana, ben, cleo) = (world.person("Ana").await, world.person("Ben").await, world.person("Cleo").await);
    let group = json!({ "kind": "group", "participants": [ben.id] });
    let (status, opened) = ana.post("/api/conversations", &group).await;
    assert_eq!(status, 201, "{opened}");
    let here = format!("/api/conversations/{}", opened["id"].as_str().expect("an id"));
    let (status, added) = ana.post(&format!("{here}/participants"), &json!({ "userIds": [cleo.id] })).await;
    assert!(status < 300, "{added}");
    until("she is told", || counts(&cleo), |left| *left == (1, 1)).await;
    let (status, read) = cleo.post(&format!("{here}/read"), &json!({})).await;
    assert_eq!(status, 200, "{read}");
    assert_eq!(counts(&cleo).await, (0, 0));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_put_off_comes_back_and_clients_know_when() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    ana.say(&conversation, "one").await;
    mention(&ana, &conversation, &ben, "two").await;
    let all = until("two entries", || listed(&ben, ""), |all| all.len() == 2).await;
    let mut socket = ben.socket().await;
    let wakes_at = async || ben.get("/api/notifications/unread-count").await.1["wakesAt"].clone();
    assert_eq!(wakes_at().await, Value::Null);
    let (sooner, later) = (in_days(10), in_days(20));
    for (one, until) in [(&all[0], &later), (&all[1], &sooner)] {
        let snooze = json!({ "ids": [one["id"]], "until": until });
        let (status, done) = ben.post("/api/notifications/snooze", &snooze).await;
        assert_eq!((status, &done["counts"]["wakesAt"]), (200, &json!(until)), "{done}");
        assert_eq!(socket.next("notificationState").await["counts"], done["counts"], "every device knows");
        assert_eq!(wakes_at().await, json!(until));
    }
    let woken = socket.call("markNotifications", &json!({ "all": true, "snoozedUntil": "2020-01-01T00:00:00Z" })).await;
    assert_eq!((of(&woken["data"]["counts"]), &woken["data"]["counts"]["wakesAt"]), ((2, 2), &Value::Null), "{woken}");

    // Nothing is put off until after it is forgotten.
    let snooze = async |body: Value| {
        let (status, done) = ben.post("/api/notifications/snooze", &body).await;
        (status, done["reason"].as_str().unwrap_or_default().to_owned())
    };
    let (put_off, refused) = ((200, String::new()), (400, "snooze_beyond_retention".to_owned()));
    let entry = &all[0]["id"];
    assert_eq!(snooze(json!({ "ids": [entry], "until": in_days(91) })).await, refused);
    assert_eq!(snooze(json!({ "all": true, "until": in_days(91) })).await, refused);
    assert_eq!(snooze(json!({ "ids": [entry], "until": in_days(89) })).await, put_off);
    let inbox = database(&world.tenant).await.collection::<Document>("inbox");
    let projected = async || {
        let found = inbox.find_one(doc! { "_id": entry.as_str().expect("an id") }).await.expect("an answer");
        found.is_some_and(|one| one.contains_key("newest"))
    };
    until("it is projected", projected, |there| *there).await;
    let old = mongodb::bson::DateTime::from_millis(Clock::System.now().plus_seconds(-80 * 86_400).millis());
    let aged = doc! { "$set": { "newest.createdAt": old, "createdAt": old } };
    inbox.update_one(doc! { "_id": entry.as_str().expect("an id") }, aged).await.expect("changed");
    until("it ages", async || snooze(json!({ "ids": [entry], "until": in_days(20) })).await, |done| *done == refused)
        .await;
    assert_eq!(snooze(json!({ "ids": [all[1]["id"], entry], "until": in_days(20) })).await, refused);
    assert_eq!(snooze(json!({ "ids": [entry], "until": in_days(9) })).await, put_off);
    assert_eq!(snooze(json!({ "all": true, "until": in_days(20) })).await, put_off, "what is new comes back");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_read_elsewhere_leaves_no_late_badge() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    let further = another(&world).await;
    let there = ben.at(further.address);
    let mut socket = there.socket().await;
    for round in 0..8 {
        let mut last = Value::Null;
        for number in 0..5 {
            last = ana.say(&conversation, &format!("{round} {number}")).await["seq"].clone();
        }
        // While notifications of these are being made, and before that instance has heard of all of them.
        let read = socket.call("markRead", &json!({ "conversationId": conversation, "upTo": last })).await;
        assert_eq!(read["ok"], true, "{read}");
        for person in [&ben, &there] {
            assert_eq!(counts(person).await, (0, 0), "round {round}");
        }
    }
    made(&world, &ben, 40).await;
    for person in [&ben, &there] {
        assert_eq!(counts(person).await, (0, 0), "also when the last one was made");
        assert_eq!(listed(person, "&unread=true").await, [] as [Value; 0]);
    }
    further.stop().await.expect("a clean stop");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn preferences_and_mutes_decide_and_whoever_asks_is_told_why() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    let (cleo, agent) = (world.person("Cleo").await, world.staff("Dan", "agent").await);
    let change = json!({ "notifications": { "message": "off", "mention": "silent" } });
    let (status, changed) = ben.patch("/api/users/me/preferences", &change).await;
    let levels = json!({ "message": "off", "mention": "silent", "order": "on", "support": "on", "system": "on" });
    assert_eq!((status, &changed["notifications"]), (200, &levels));
    for (wrong, reason) in [("system", "critical_kind"), ("message", "unknown_notification_level")] {
        let level = if wrong == "system" { "silent" } else { "loud" };
        let (status, refused) =
            ben.patch("/api/users/me/preferences", &json!({ "notifications": { wrong: level } })).await;
        assert_eq!((status, &refused["reason"]), (400, &json!(reason)));
    }
    assert_eq!(ben.get("/api/users/me/preferences").await.1["notifications"], levels);
    ana.say(&conversation, "held").await;
    mention(&ana, &conversation, &ben, "silent").await;
    made(&world, &ben, 2).await;
    let all = listed(&ben, "").await;
    assert_eq!(
        all.iter().map(|one| (&one["kind"], &one["silent"])).collect::<Vec<_>>(),
        [(&json!("mention"), &json!(true))]
    );

    let database = database(&world.tenant).await;
    let id = async |kind: &str| {
        let made = database.collection::<Document>("notifications");
        let found = made.find_one(doc! { "userId": &ben.id, "kind": kind }).await;
        found.expect("an answer").expect("a notification").get_str("_id").expect("an id").to_owned()
    };
    let (held, silent) = (id("message").await, id("mention").await);
    let asked = async |person: &Person, id: &str| person.get(&format!("/api/notifications/{id}/decision")).await;
    let (status, why) = asked(&ben, &held).await;
    assert_eq!((status, &why["outcome"], &why["rule"]), (200, &json!("held"), &json!("preference")), "{why}");
    assert_eq!((&why["away"]["outcome"], &why["kind"]), (&json!("held"), &json!("message")));
    assert_eq!(asked(&agent, &silent).await.1["outcome"], "silent");
    for (person, id) in [(&cleo, &*held), (&ana, &*silent), (&ben, "ntf_00000000000000000000000001")] {
        let (status, refused) = asked(person, id).await;
        assert_eq!((status, &refused["reason"]), (404, &json!("unknown_notification")));
    }
    // By the id that the list gives an entry it is the newest in it, and it is said when that was decided.
    let change = json!({ "notifications": { "message": "on" } });
    assert_eq!(ben.patch("/api/users/me/preferences", &change).await.0, 200);
    let sent = ana.say(&conversation, "sent").await;
    let all = until("an entry", || listed(&ben, "&kind=message"), |all| !all.is_empty()).await;
    let (entry, newest) = (all[0]["id"].as_str().expect("an id"), all[0]["notificationId"].as_str().expect("an id"));
    let (status, why) = asked(&ben, entry).await;
    assert_eq!((status, &why["outcome"], &why["kind"]), (200, &json!("sent"), &json!("message")), "{why}");
    assert!(why["at"].as_str() >= sent["createdAt"].as_str(), "{why}");
    until("it is projected", async || asked(&agent, entry).await.0, |status| *status == 200).await;
    let kept = database.collection::<Document>("notifications").find_one(doc! { "_id": newest }).await;
    let kept = kept.expect("an answer").expect("a notification");
    let decided = kept.get_document("decision").and_then(|decision| decision.get_str("at")).expect("a time");
    for (person, id) in [(&ben, entry), (&ben, newest), (&agent, entry)] {
        let (status, why) = asked(person, id).await;
        assert_eq!((status, &why["outcome"], &why["at"]), (200, &json!("sent"), &json!(decided)), "{why}");
    }
    assert_eq!(asked(&cleo, entry).await.0, 404);
    let (status, refused) = ben.post("/api/notifications/read", &json!({ "ids": [held] })).await;
    assert_eq!((status, &refused["reason"]), (404, &json!("unknown_notification")), "what is held is no entry");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_has_a_stable_reason_and_nobody_touches_what_is_not_theirs() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    ana.say(&conversation, "one").await;
    let entry = until("an entry", || listed(&ben, ""), |all| !all.is_empty()).await[0]["id"].clone();
    let many: Vec<String> = (0..=100).map(|number| format!("ntf_{number:026}")).collect();
    let far = in_days(400);
    for (what, body, status, reason) in [
        ("read", json!({}), 400, "missing_field"),
        ("read", json!({ "ids": [] }), 400, "nothing_to_change"),
        ("read", json!({ "ids": [entry], "all": true }), 400, "ids_and_all"),
        ("read", json!({ "ids": ["msg_00000000000000000000000001"] }), 400, "malformed_id"),
        ("seen", json!({ "ids": many }), 413, "too_many_notifications"),
        ("seen", json!({ "ids": [entry, "ntf_00000000000000000000000001"] }), 404, "unknown_notification"),
        ("snooze", json!({ "all": true }), 400, "missing_field"),
        ("snooze", json!({ "all": true, "until": "tomorrow" }), 400, "malformed_snooze"),
        ("snooze", json!({ "all": true, "until": far }), 400, "snooze_too_long"),
        ("archive", json!({ "all": true, "archived": "yes" }), 400, "malformed_request"),
    ] {
        let (found, refused) = ben.post(&format!("/api/notifications/{what}"), &body).await;
        assert_eq!((found, &refused["reason"]), (status, &json!(reason)), "{what} {body}");
    }
    let (status, refused) = ana.post("/api/notifications/read", &json!({ "ids": [entry] })).await;
    assert_eq!((status, &refused["reason"]), (404, &json!("unknown_notification")));
    for query in ["?kind=letter", "?limit=0", "?cursor=x"] {
        assert_eq!(ben.get(&format!("/api/notifications{query}")).await.0, 400, "{query}");
    }
    assert_eq!(counts(&ben).await, (1, 1), "nothing has changed");
    let beyond = mark(&ben, "read", json!({ "all": true, "upTo": u32::MAX })).await;
    assert_eq!(beyond, (0, 0));
    mention(&ana, &conversation, &ben, "two").await;
    until("what comes later is new", || counts(&ben), |left| *left == (1, 1)).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_go_through_the_whole_inbox_once() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    for number in 0..25 {
        mention(&ana, &conversation, &ben, &number.to_string()).await;
    }
    until("all of them", || counts(&ben), |left| left.0 == 25).await;
    let (mut bodies, mut more) = (Vec::new(), String::new());
    loop {
        let (status, page) = ben.get(&format!("/api/notifications?limit=10{more}")).await;
        assert_eq!(status, 200, "{page}");
        let items = page["items"].as_array().expect("a page").iter();
        bodies.extend(items.map(|one| one["body"].as_str().expect("a body").parse::<u32>().expect("a number")));
        match page["nextCursor"].as_str() {
            Some(next) => more = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(bodies, (0..25).rev().collect::<Vec<_>>());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn notifications_are_forgotten_in_time_and_the_setting_can_change() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    let days = async || {
        let database = database(&world.tenant).await;
        let mut found = Vec::new();
        for collection in ["notifications", "inbox"] {
            let indexes = database.run_command(doc! { "listIndexes": collection }).await.expect("indexes");
            let all = indexes.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch")).expect("a list");
            for one in all.iter().filter_map(|one| one.as_document()) {
                found.extend(match one.get("expireAfterSeconds") {
                    Some(mongodb::bson::Bson::Int32(seconds)) => Some(i64::from(*seconds) / 86_400),
                    Some(mongodb::bson::Bson::Int64(seconds)) => Some(*seconds / 86_400),
                    _ => None,
                });
            }
        }
        found
    };
    assert_eq!(days().await, [90, 90]);
    mention(&ana, &conversation, &ben, "old").await;
    let entry = until("an entry", || listed(&ben, ""), |all| !all.is_empty()).await[0]["id"].clone();
    let entry = entry.as_str().expect("an id");
    let path = format!("/api/notifications/{entry}/decision");
    assert_eq!(ben.get(&path).await.0, 200);

    let mut config = world.config.clone();
    config.store.notification_days = 7;
    let other = Box::pin(App::start(&config, Roles::ALL)).await.expect("an instance starts");
    assert_eq!(days().await, [7, 7]);
    let again = Box::pin(App::start(&config, Roles::ALL)).await.expect("an instance starts");
    assert_eq!(days().await, [7, 7]);
    let database = database(&world.tenant).await;
    let old = mongodb::bson::DateTime::from_millis(1_600_000_000_000);
    let set = doc! { "$set": { "createdAt": old } };
    let notifications = database.collection::<Document>("notifications");
    assert_eq!(notifications.update_one(doc! { "_id": entry }, set).await.expect("changed").matched_count, 1);
    let asked = async || ben.at(again.address).get(&path).await.0;
    assert_eq!(asked().await, 404, "it is forgotten, whether MongoDB has come to it or not");
    other.stop().await.expect("a clean stop");
    again.stop().await.expect("a clean stop");
    world.stop().await;
}
