//! Where a message is: what a trace says of each of its steps, to whom, and what it does not say any more.

use std::collections::BTreeSet;

use mongodb::bson::{Document, doc};
use reqwest::Method;
use serde_json::{Value, json};
use shoptalk::app::Roles;

use crate::drills::evidence;
use crate::outage::Database;
use crate::support::client::{Person, Rest};
use crate::support::socketio::Raw;
use crate::support::until;
use crate::support::world::{World, message};

fn path(conversation: &str, id: &Value) -> String {
    format!("/api/messages/{conversation}/{}/trace", id.as_str().expect("an id"))
}

/// The trace of a message as somebody is shown it.
async fn trace(person: &Person, conversation: &str, sent: &Value) -> Value {
    let (status, trace) = person.get(&path(conversation, &sent["id"])).await;
    assert_eq!(status, 200, "{trace}");
    trace
}

/// The same once it says this.
async fn traced(person: &Person, conversation: &str, sent: &Value, fits: impl Fn(&Value) -> bool) -> Value {
    until("a trace that says it", || trace(person, conversation, sent), |trace| fits(trace)).await
}

/// What a trace says of somebody.
fn of<'a>(trace: &'a Value, person: &Person) -> &'a Value {
    let recipients = trace["recipients"].as_array().expect("recipients");
    recipients.iter().find(|one| one["userId"] == person.id.as_str()).unwrap_or(&Value::Null)
}

/// The instances that pushed a message to somebody.
fn instances(trace: &Value, person: &Person) -> BTreeSet<String> {
    let pushed = of(trace, person)["pushed"].as_array().cloned().unwrap_or_default();
    pushed.iter().map(|one| one["instance"].as_str().expect("an instance").to_owned()).collect()
}

async fn refused(person: &Person, path: &str) -> (u16, String) {
    let (status, problem) = person.get(path).await;
    (status, problem["reason"].as_str().unwrap_or_default().to_owned())
}

/// Notes of pushes that were lost at an instance.
async fn lost_notes(rest: &Rest) -> u64 {
    let text = rest.request(Method::GET, "/metrics").send().await.expect("a reply").text().await.expect("text");
    let name = "shoptalk_push_notes_total{outcome=\"lost\"} ";
    text.lines().find_map(|line| line.strip_prefix(name)?.parse().ok()).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_followed_from_its_sender_to_its_reader() {
    let world = World::start().await;
    let other = world.another(Roles::ALL).await;
    let (ana, ben, conversation) = world.pair().await;
    let agent = world.staff("Agent", "agent").await;

    // He is not there: it is stored, and he is notified.
    let first = ana.say(&conversation, "are you there?").await;
    let away = traced(&ana, &conversation, &first, |trace| {
        trace["projected"] == true && of(trace, &ben)["notification"].is_object()
    })
    .await;
    assert_eq!((&away["messageId"], &away["seq"]), (&first["id"], &first["seq"]), "{away}");
    assert_eq!((&away["conversationId"], &away["acceptedAt"]), (&json!(conversation), &first["createdAt"]));
    assert!(away["storedAt"].as_str() >= away["acceptedAt"].as_str(), "{away}");
    assert_eq!(away["recipients"].as_array().map(Vec::len), Some(1), "she knows that she sent it");
    let his = of(&away, &ben);
    assert_eq!((&his["pushed"], &his["deliveredSeq"], &his["readSeq"]), (&json!([]), &json!(0), &json!(0)));
    assert_eq!(
        (&his["deliveredAt"], &his["readAt"], &away["unknownBefore"]),
        (&json!(null), &json!(null), &json!(null))
    );
    assert!(his["notification"]["at"].as_str() >= away["storedAt"].as_str(), "{away}");

    // He comes to the other instance, and his client acknowledges what it gets.
    let auth = json!({ "token": ben.token, "deliveryAcks": true });
    let mut phone = Raw::connect_with(other.address, &auth).await;
    phone.next("synced").await;
    let second = ana.say(&conversation, "good").await;
    let number = loop {
        let (event, data, number) = phone.event_to_acknowledge().await.expect("a message");
        if event == "message" {
            assert_eq!(data["id"], second["id"]);
            break number.expect("it is asked about");
        }
    };
    let pushed = traced(&ana, &conversation, &second, |trace| !instances(trace, &ben).is_empty()).await;
    let there = instances(&pushed, &ben);
    assert_eq!((there.len(), &of(&pushed, &ben)["deliveredAt"]), (1, &Value::Null), "{pushed}");
    phone.acknowledge(number).await;
    let delivered = traced(&ana, &conversation, &second, |trace| of(trace, &ben)["deliveredAt"].is_string()).await;
    let his = of(&delivered, &ben);
    assert_eq!((&his["deliveredSeq"], &his["readAt"]), (&second["seq"], &Value::Null), "{delivered}");
    assert!(his["deliveredAt"].as_str() >= delivered["acceptedAt"].as_str(), "{delivered}");

    // A second device at the first instance; then he reads on it.
    let mut laptop = ben.socket().await;
    let third = ana.say(&conversation, "see you").await;
    assert_eq!(laptop.next("message").await["id"], third["id"]);
    let both = traced(&ana, &conversation, &third, |trace| instances(trace, &ben).len() == 2).await;
    assert!(instances(&both, &ben).is_superset(&there), "{both} after {there:?}");
    let mark = json!({ "conversationId": conversation });
    assert_eq!(laptop.call("markRead", &mark).await["ok"], true);
    let read = trace(&ana.at(other.address), &conversation, &third).await;
    let his = of(&read, &ben);
    assert_eq!((&his["readSeq"], &his["deliveredAt"]), (&third["seq"], &his["readAt"]), "{read}");
    assert!(his["readAt"].as_str() >= read["storedAt"].as_str(), "{read}");
    let before = trace(&ana, &conversation, &second).await;
    assert!(of(&before, &ben)["readAt"].as_str() > of(&before, &ben)["deliveredAt"].as_str(), "{before}");

    // What was decided is his and the shop's to know.
    let decided = |trace: &Value| {
        let notification = &of(trace, &ben)["notification"];
        (notification["outcome"].clone(), notification["rule"].clone())
    };
    let sent = (json!("sent"), json!("default"));
    assert_eq!(decided(&trace(&ana, &conversation, &first).await), (Value::Null, Value::Null));
    for knows in [&ben, &agent] {
        assert_eq!(decided(&trace(knows, &conversation, &first).await), sent);
    }

    // Notes are kept for seven days.
    let notes = evidence::database(&world.tenant).await.collection::<Document>("pushes");
    let note = notes.find_one(doc! {}).await.expect("an answer").expect("a note");
    let time = |key: &str| note.get_datetime(key).expect(key).timestamp_millis();
    assert_eq!(time("expiresAt") - time("at"), 7 * 86_400_000);
    let indexes = notes.list_index_names().await.expect("an answer");
    assert!(indexes.iter().any(|name| name.starts_with("expiresAt")), "{indexes:?}");
    other.stop().await.expect("a clean stop");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_is_shown_what_is_theirs_to_know() {
    let world = World::start().await;
    let (ana, ben, cleo, dan) =
        (world.person("Ana").await, world.person("Ben").await, world.person("Cleo").await, world.person("Dan").await);
    let agent = world.staff("Agent", "agent").await;
    let group = json!({ "kind": "group", "participants": [ben.id, cleo.id] });
    let opened = ana.post("/api/conversations", &group).await.1;
    let conversation = opened["id"].as_str().expect("an id");
    let mut his = ben.socket().await;
    let sent = ana.say(conversation, "for all").await;
    assert_eq!(his.next("message").await["id"], sent["id"]);
    traced(&agent, conversation, &sent, |trace| !instances(trace, &ben).is_empty()).await;

    let shown = |trace: &Value| -> BTreeSet<String> {
        let all = trace["recipients"].as_array().expect("recipients");
        all.iter().map(|one| one["userId"].as_str().expect("an id").to_owned()).collect()
    };
    let ids = |people: &[&Person]| people.iter().map(|one| one.id.clone()).collect::<BTreeSet<_>>();
    for (who, sees) in
        [(&ana, ids(&[&ben, &cleo])), (&agent, ids(&[&ben, &cleo])), (&ben, ids(&[&ben])), (&cleo, ids(&[&cleo]))]
    {
        assert_eq!(shown(&trace(who, conversation, &sent).await), sees);
    }

    // Nothing of it is shown to others, and nothing is there that is not.
    let nowhere = json!("msg_00000000000000000000000007");
    let elsewhere = dan.open(&[&ana]).await;
    let foreign = dan.say(&elsewhere, "not here").await;
    let unknown = (404, "unknown_message".to_owned());
    assert_eq!(refused(&dan, &path(conversation, &sent["id"])).await, unknown);
    for who in [&ana, &agent] {
        assert_eq!(refused(who, &path(conversation, &nowhere)).await, unknown);
        assert_eq!(refused(who, &path(conversation, &foreign["id"])).await, unknown);
        assert_eq!(refused(who, &path("cnv_00000000000000000000000007", &sent["id"])).await, unknown);
        assert_eq!(refused(who, &path(conversation, &json!("nonsense"))).await, (400, "malformed_id".to_owned()));
        assert_eq!(refused(who, &path("nonsense", &sent["id"])).await, (400, "malformed_id".to_owned()));
    }
    // Whoever comes later sees nothing of what was before, and was no recipient of it.
    let add = format!("/api/conversations/{conversation}/participants");
    let (status, added) = ana.post(&add, &json!({ "userIds": [dan.id], "historyFrom": "now" })).await;
    assert_eq!(status, 200, "{added}");
    assert_eq!(refused(&dan, &path(conversation, &sent["id"])).await, unknown);
    assert_eq!(shown(&trace(&ana, conversation, &sent).await), ids(&[&ben, &cleo]));
    // What somebody has deleted for themselves is gone for them alone.
    let delete = format!("/api/conversations/{conversation}/messages/{}?scope=me", sent["id"].as_str().expect("an id"));
    assert_eq!(cleo.delete(&delete).await.0, 200);
    assert_eq!(refused(&cleo, &path(conversation, &sent["id"])).await, unknown);

    // Who hides how far they have read, hides it here; who is invisible has no sockets, and who blocks the sender neither.
    let preferences = "/api/users/me/preferences";
    assert_eq!(ben.patch(preferences, &json!({ "hideReadReceipts": true })).await.0, 200);
    assert_eq!(his.call("markRead", &json!({ "conversationId": conversation })).await["ok"], true);
    let own = trace(&ben, conversation, &sent).await;
    assert!(of(&own, &ben)["readAt"].is_string(), "{own}");
    for who in [&ana, &agent] {
        let seen = trace(who, conversation, &sent).await;
        let his = of(&seen, &ben);
        assert_eq!((&his["readAt"], &his["readSeq"], &his["deliveredAt"]), (&Value::Null, &json!(0), &Value::Null));
        assert_eq!(instances(&seen, &ben).len(), 1, "{seen}");
    }
    assert_eq!(ben.patch(preferences, &json!({ "invisible": true })).await.0, 200);
    traced(&ana, conversation, &sent, |trace| instances(trace, &ben).is_empty()).await;
    for knows in [&ben, &agent] {
        assert_eq!(instances(&trace(knows, conversation, &sent).await, &ben).len(), 1);
    }
    assert_eq!(ben.patch(preferences, &json!({ "invisible": false })).await.0, 200);
    traced(&ana, conversation, &sent, |trace| instances(trace, &ben).len() == 1).await;
    // What came to him while nobody was to know that he is there stays his and the shop's to know.
    let unseen = async |turn: &str| {
        let unseen = ana.say(conversation, turn).await;
        traced(&agent, conversation, &unseen, |trace| instances(trace, &ben).len() == 1).await;
        assert_eq!(instances(&trace(&ben, conversation, &unseen).await, &ben).len(), 1);
        unseen
    };
    let blocks = format!("/api/users/me/blocks/{}", ana.id);
    assert_eq!(ben.patch(preferences, &json!({ "invisible": true })).await.0, 200);
    let first = unseen("are you there?").await;
    assert_eq!(ben.patch(preferences, &json!({ "invisible": false })).await.0, 200);
    assert_eq!(ben.put(&blocks).await.0, 204);
    let second = unseen("or not to me?").await;
    assert_eq!(ben.delete(&blocks).await.0, 204);
    let open = unseen("so you are").await;
    traced(&ana, conversation, &open, |trace| instances(trace, &ben).len() == 1).await;
    for hidden in [&first, &second] {
        assert_eq!(instances(&trace(&ana, conversation, hidden).await, &ben), BTreeSet::new());
    }
    assert_eq!(ben.put(&blocks).await.0, 204);
    traced(&ana, conversation, &sent, |trace| instances(trace, &ben).is_empty()).await;
    let held = ana.say(conversation, "and now?").await;
    let decision = |trace: &Value| of(trace, &ben)["notification"].clone();
    let known = traced(&agent, conversation, &held, |trace| decision(trace).is_object()).await;
    assert_eq!((&decision(&known)["outcome"], &decision(&known)["rule"]), (&json!("held"), &json!("blocked")));
    let hers = decision(&trace(&ana, conversation, &held).await);
    assert_eq!((&hers["id"], &hers["outcome"], &hers["rule"]), (&decision(&known)["id"], &Value::Null, &Value::Null));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_to_somebody_who_comes_back_is_pushed_then() {
    let world = World::start().await;
    let other = world.another(Roles::ALL).await;
    let (ana, ben, conversation) = world.pair().await;
    let cursor = ben.get("/api/sync").await.1["cursor"].as_str().expect("a cursor").to_owned();
    let missed = ana.say(&conversation, "while you were away").await;
    let own = ben.say(&conversation, "from nowhere").await;
    let mut back = ben.at(other.address).resume(&cursor).await;
    assert_eq!(back.next("message").await["id"], missed["id"]);
    back.next("synced").await;
    let live = ana.say(&conversation, "welcome back").await;
    let live = traced(&ana, &conversation, &live, |trace| !instances(trace, &ben).is_empty()).await;
    let replayed = traced(&ana, &conversation, &missed, |trace| !instances(trace, &ben).is_empty()).await;
    assert_eq!(instances(&replayed, &ben), instances(&live, &ben));
    assert!(of(&replayed, &ben)["pushed"][0]["at"].as_str() <= of(&live, &ben)["pushed"][0]["at"].as_str());
    // Told again, the first time counts; and nobody is a recipient of their own words.
    let mut again = ben.at(other.address).resume(&cursor).await;
    again.next("synced").await;
    let last = ana.say(&conversation, "so long").await;
    traced(&ana, &conversation, &last, |trace| !instances(trace, &ben).is_empty()).await;
    assert_eq!(trace(&ana, &conversation, &missed).await, replayed);
    let own = trace(&ben, &conversation, &own).await;
    assert_eq!((of(&own, &ben), &of(&own, &ana)["pushed"]), (&Value::Null, &json!([])));
    other.stop().await.expect("a clean stop");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_is_not_to_note_pushes_notes_none() {
    let world = World::with(Roles::ALL, &[("TRACE_DAYS", "0")]).await;
    let noting = World::on(world.tenant.clone(), Roles::ALL, &[("TRACE_DAYS", "3")]).await;
    let (ana, ben, conversation) = world.pair().await;
    let (mut here, mut there) = (ben.socket().await, ben.at(noting.rest.address).socket().await);
    let mut sent = Vec::new();
    for text in ["one", "two", "three"] {
        let one = ana.say(&conversation, text).await;
        for socket in [&mut here, &mut there] {
            assert_eq!(socket.next("message").await["id"], one["id"]);
        }
        // By the time that the next one is noted, this one would have been.
        traced(&ana, &conversation, &one, |trace| !instances(trace, &ben).is_empty()).await;
        sent.push(one);
    }
    for one in &sent {
        assert_eq!(instances(&trace(&ana, &conversation, one).await, &ben).len(), 1);
    }
    noting.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn once_the_log_is_trimmed_the_marks_are_left() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    let mut his = ben.socket().await;
    let sent = ana.say(&conversation, "before").await;
    assert_eq!(his.next("message").await["id"], sent["id"]);
    assert_eq!(his.call("markRead", &json!({ "conversationId": conversation })).await["ok"], true);
    let whole = traced(&ben, &conversation, &sent, |trace| {
        let his = of(trace, &ben);
        trace["projected"] == true && !instances(trace, &ben).is_empty() && his["notification"]["at"].is_string()
    })
    .await;
    assert!(of(&whole, &ben)["readAt"].is_string() && whole["unknownBefore"].is_null(), "{whole}");

    // Everything is in MongoDB, and then the log has nothing of it any more.
    let log = async_nats::jetstream::new(world.tenant.broker().await);
    let events = until(
        "everything projected",
        async || {
            let events = log.get_stream("EVENTS").await.expect("the stream");
            let mut persist =
                events.get_consumer::<async_nats::jetstream::consumer::pull::Config>("persist").await.expect("persist");
            let floor = persist.info().await.expect("an answer").ack_floor.stream_sequence;
            (events.cached_info().state.last_sequence, floor)
        },
        |(last, floor)| last == floor,
    )
    .await;
    log.get_stream("EVENTS").await.expect("the stream").purge().sequence(events.0 + 1).await.expect("purged");
    let left = traced(&ben, &conversation, &sent, |trace| trace["unknownBefore"] == events.0 + 1).await;
    let his = of(&left, &ben);
    assert_eq!((&left["storedAt"], &his["deliveredAt"], &his["readAt"]), (&Value::Null, &Value::Null, &Value::Null));
    assert_eq!((&his["deliveredSeq"], &his["readSeq"]), (&sent["seq"], &sent["seq"]), "{left}");
    assert_eq!((&his["pushed"], &left["acceptedAt"]), (&of(&whole, &ben)["pushed"], &whole["acceptedAt"]));
    for kept in ["id", "outcome", "rule"] {
        assert_eq!(his["notification"][kept], of(&whole, &ben)["notification"][kept]);
    }
    assert_eq!(his["notification"]["at"], Value::Null);

    // A receipt that comes later is not the first one.
    let later = ana.say(&conversation, "later").await;
    let up_to = json!({ "upTo": later["seq"] });
    let (status, marked) = ben.post(&format!("/api/conversations/{conversation}/read"), &up_to).await;
    assert_eq!((status, &marked["readSeq"]), (200, &later["seq"]), "{marked}");
    let left = trace(&ben, &conversation, &sent).await;
    assert_eq!((&of(&left, &ben)["readAt"], &of(&left, &ben)["readSeq"]), (&Value::Null, &later["seq"]), "{left}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn notes_that_cannot_be_kept_hold_nothing_up() {
    let database = Database::start("trace").await;
    let world = World::on(database.tenant().await, Roles::ALL, &[]).await;
    let (ana, ben, conversation) = world.pair().await;
    let mut hers = ana.socket().await;
    let auth = json!({ "token": ben.token, "deliveryAcks": true });
    let mut his = Raw::connect_with(world.rest.address, &auth).await;
    his.next("synced").await;
    let before = hers.call("sendMessage", &message(&conversation, "before")).await["data"].clone();
    traced(&ana, &conversation, &before, |trace| !instances(trace, &ben).is_empty()).await;
    assert_eq!(lost_notes(&world.rest).await, 0);

    let frozen = database.freeze().await;
    let mut during = Vec::new();
    let lost = until(
        "notes are lost",
        async || {
            let text = format!("during {}", during.len());
            let answer = hers.call("sendMessage", &message(&conversation, &text)).await;
            assert_eq!(answer["ok"], true, "{answer}");
            loop {
                let (event, data, number) = his.event_to_acknowledge().await.expect("a message");
                if event == "message" && data["text"] == text.as_str() {
                    his.acknowledge(number.expect("it is asked about")).await;
                    break;
                }
            }
            during.push(answer["data"].clone());
            lost_notes(&world.rest).await
        },
        |lost| *lost > 0,
    )
    .await;
    assert!(lost <= during.len() as u64, "{lost} of {}", during.len());
    assert_eq!(refused(&ana, &path(&conversation, &before["id"])).await, (503, "database_unavailable".to_owned()));
    drop(frozen);

    // The log knows the rest.
    let last = during.last().expect("some");
    let known = until(
        "a trace",
        async || ana.get(&path(&conversation, &last["id"])).await,
        |(status, trace)| *status == 200 && of(trace, &ben)["deliveredAt"].is_string(),
    )
    .await
    .1;
    assert!(known["storedAt"].is_string() && of(&known, &ben)["readAt"].is_null(), "{known}");
    world.history(&ben, &conversation, during.len() + 1).await;
    let after = hers.call("sendMessage", &message(&conversation, "after")).await["data"].clone();
    traced(&ana, &conversation, &after, |trace| !instances(trace, &ben).is_empty()).await;
    world.stop().await;
}
