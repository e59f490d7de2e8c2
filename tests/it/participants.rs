//! Who comes and goes: what newcomers see, what those who are gone do not, and who runs a group.

use async_nats::jetstream;
use futures_util::TryStreamExt as _;
use mongodb::bson::{Document, doc};
use serde_json::{Value, json};
use shoptalk::app::Roles;

use crate::drills::evidence::database;
use crate::support::client::Person;
use crate::support::socket::Socket;
use crate::support::until;
use crate::support::world::{World, message};

const GATEWAY: Roles = Roles { gateway: true, worker: false };

fn reason(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["reason"].as_str().unwrap_or_default())
}

fn of(conversation: &str) -> String {
    format!("/api/conversations/{conversation}/participants")
}

fn one(conversation: &str, person: &Person) -> String {
    format!("{}/{}", of(conversation), person.id)
}

async fn group(owner: &Person, others: &[&Person]) -> String {
    let ids: Vec<&str> = others.iter().map(|other| other.id.as_str()).collect();
    let (status, opened) = owner.post("/api/conversations", &json!({ "kind": "group", "participants": ids })).await;
    assert_eq!(status, 201, "{opened}");
    opened["id"].as_str().expect("an id").to_owned()
}

async fn history(person: &Person, conversation: &str) -> Vec<Value> {
    let (status, page) = person.get(&format!("/api/messages/{conversation}?limit=200")).await;
    assert_eq!(status, 200, "{page}");
    page["items"].as_array().cloned().expect("a page")
}

async fn texts(person: &Person, conversation: &str) -> Vec<String> {
    let said = history(person, conversation).await.into_iter().filter(|one| one["kind"] == "text");
    said.map(|one| one["text"].as_str().expect("a text").to_owned()).collect()
}

/// The participants of a conversation with their roles, as somebody reads them.
async fn roles(person: &Person, conversation: &str) -> Vec<(String, String)> {
    let (status, found) = person.get(&format!("/api/conversations/{conversation}")).await;
    assert_eq!(status, 200, "{found}");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let all = found["participants"].as_array().cloned().expect("participants");
    all.iter().map(|one| (text(&one["userId"]), text(&one["role"]))).collect()
}

fn visible_from(found: &Value, person: &Person) -> Option<u64> {
    let all = found["participants"].as_array().expect("participants");
    all.iter().find(|one| one["userId"] == person.id.as_str())?["visibleFrom"].as_u64()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_comes_into_a_direct_conversation_and_sees_it_from_a_chosen_point() {
    let world = World::start().await;
    let other = world.another(GATEWAY).await;
    let (ana, ben, direct) = world.pair().await;
    let (gus, ada) = (world.staff("Gus", "agent").await, world.staff("Ada", "agent").await);
    let gus = gus.at(other.address);
    let mut said = Vec::new();
    for text in ["one", "two", "three"] {
        said.push(ana.say(&direct, text).await);
    }
    let mut his = gus.socket().await;
    let body = json!({ "userIds": [gus.id], "historyFrom": said[1]["id"] });
    let (status, added) = ana.post(&of(&direct), &body).await;
    assert_eq!((status, &added["kind"]), (200, &json!("direct")), "{added}");
    assert_eq!(visible_from(&added, &gus), None, "it is nobody else's business");
    let told = his.next("conversation").await;
    assert_eq!(told["id"], json!(direct));
    assert_eq!(visible_from(&told, &gus), None, "everybody gets the same frame");
    assert_eq!(his.next("message").await["entry"], json!({ "type": "joined", "users": [gus.id] }));
    assert_eq!(texts(&gus, &direct).await, ["two", "three"]);
    let (_, found) = gus.get(&format!("/api/conversations/{direct}")).await;
    assert_eq!(visible_from(&found, &gus), said[1]["seq"].as_u64().map(|seq| seq - 1));
    // What was said before does not exist for them, whichever way they ask.
    let anchor =
        |number: usize| format!("/api/messages/{direct}?after={}", said[number]["id"].as_str().expect("an id"));
    assert_eq!(reason(&gus.get(&anchor(0)).await), (400, "unknown_anchor"));
    assert_eq!(gus.get(&anchor(1)).await.0, 200);

    // Nobody shows more than they see; without a word a newcomer sees nothing of what the two said.
    let (status, _) = gus.post(&of(&direct), &json!({ "userIds": [ada.id], "historyFrom": "all" })).await;
    assert_eq!((status, texts(&ada, &direct).await), (200, vec!["two".to_owned(), "three".to_owned()]));
    assert_eq!(ben.delete(&one(&direct, &ada)).await.0, 204);
    assert_eq!(ben.post(&of(&direct), &json!({ "userIds": [ada.id] })).await.0, 200);
    assert_eq!(texts(&ada, &direct).await, [""; 0], "who comes back sees what is asked for then");
    ben.say(&direct, "four").await;
    assert_eq!(his.next("message").await["entry"]["type"], "joined");
    until("the message", || texts(&ada, &direct), |all: &Vec<String>| *all == ["four"]).await;

    // The two stay; the agents come and go.
    for (person, gone) in [(&ana, &ana), (&ana, &ben), (&gus, &ben), (&gus, &ada)] {
        assert_eq!(reason(&person.delete(&one(&direct, gone)).await), (403, "not_allowed"));
    }
    assert_eq!(gus.delete(&one(&direct, &gus)).await.0, 204);
    assert_eq!(reason(&gus.post("/api/messages", &message(&direct, "x")).await), (403, "not_a_participant"));
    assert_eq!(reason(&ana.post(&of(&direct), &json!({ "userIds": [world.person("Cleo").await.id] })).await).0, 403);
    assert_eq!(ana.open(&[&ben]).await, direct, "it is still theirs");
    other.stop().await.expect("a clean stop");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_at_once_all_happen_and_each_once() {
    let world = World::start().await;
    let other = world.another(GATEWAY).await;
    let (ana, ben) = (world.person("Ana").await, world.person("Ben").await);
    let (cleo, dan) = (world.person("Cleo").await, world.person("Dan").await);
    for _ in 0..5 {
        let place = group(&ana, &[&ben]).await;
        let there = ana.at(other.address);
        let (path, same) = (of(&place), json!({ "userIds": [cleo.id] }));
        let (one_add, two_add) = tokio::join!(ana.post(&path, &same), there.post(&path, &same));
        assert_eq!((one_add.0, two_add.0), (200, 200), "{one_add:?} {two_add:?}");
        let (brings, goes) = (json!({ "userIds": [dan.id] }), one(&place, &ben));
        let gone = ben.at(other.address);
        let (added, left) = tokio::join!(ana.post(&path, &brings), gone.delete(&goes));
        assert_eq!((added.0, left.0), (200, 204), "{added:?} {left:?}");
        let mut inside: Vec<String> = roles(&there, &place).await.into_iter().map(|(user, _)| user).collect();
        inside.sort_unstable();
        let mut wanted = [&ana, &cleo, &dan].map(|person| person.id.clone());
        wanted.sort_unstable();
        assert_eq!(inside, wanted);
        let mut notes: Vec<String> =
            history(&ana, &place).await.iter().map(|one| one["entry"]["type"].to_string()).collect();
        notes.sort_unstable();
        assert_eq!(notes, ["\"joined\"", "\"joined\"", "\"left\""]);
    }
    other.stop().await.expect("a clean stop");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_tells_those_who_are_there_however_late_it_comes_to_it() {
    let world = World::with_roles(GATEWAY).await;
    let (ana, ben) = (world.person("Ana").await, world.person("Ben").await);
    let (cleo, dan) = (world.person("Cleo").await, world.person("Dan").await);
    let place = group(&ana, &[&ben, &cleo]).await;
    assert_eq!(ana.delete(&one(&place, &ben)).await.0, 204);
    assert_eq!(ana.post(&of(&place), &json!({ "userIds": [dan.id] })).await.0, 200);
    // An instance that has heard of neither.
    let event = json!({
        "id": "evt_00000000000000000000000001", "version": 1, "type": "message", "actor": ana.id,
        "occurredAt": "2026-11-22T12:00:00.000Z", "recipients": [ana.id, ben.id, cleo.id],
        "data": {
            "id": format!("msg_{:026}", 1), "conversationId": place, "senderId": ana.id, "senderName": "Ana",
            "kind": "text", "text": "not for Ben", "createdAt": "2026-11-22T12:00:00.000Z",
        },
    });
    let log = jetstream::new(world.tenant.broker().await);
    let subject = format!("chat.{place}.message");
    log.publish(subject, event.to_string().into()).await.expect("sent").await.expect("stored");
    let own = ana.open(&[&ben]).await;
    ana.say(&own, "for Ben").await;
    ana.say(&place, "the end").await;
    let database = database(&world.tenant).await;
    // It has no sockets, and so hears of nothing but what it works on.
    let worker = world.another(Roles { gateway: false, worker: true }).await;
    for (person, told) in
        [(&cleo, &["not for Ben", "the end"][..]), (&dan, &["not for Ben", "the end"]), (&ben, &["for Ben"])]
    {
        let notified = || async {
            let made = database.collection::<Document>("notifications");
            let told = doc! { "userId": &person.id, "kind": "message", "decision.inbox.outcome": "sent" };
            let made = made.find(told).await.expect("an answer");
            let made: Vec<Document> = made.try_collect().await.expect("documents");
            let mut bodies: Vec<String> =
                made.iter().map(|one| one.get_str("body").expect("a body").to_owned()).collect();
            bodies.sort_unstable();
            bodies
        };
        let mut told = told.to_vec();
        told.sort_unstable();
        until("the notifications", notified, |all: &Vec<String>| *all == told).await;
    }
    worker.stop().await.expect("a clean stop");
    world.stop().await;
}

/// What a socket was told of a conversation, names and payloads, up to now.
async fn told(socket: &mut Socket, conversation: &str) -> Vec<(String, Value)> {
    let about = |data: &Value| {
        data["conversationId"] == conversation
            || data["data"]["conversationId"] == conversation
            || data["id"] == conversation
    };
    let frames = socket.everything().await.into_iter().filter(|frame| about(&frame["data"]));
    frames.map(|frame| (frame["event"].as_str().unwrap_or_default().to_owned(), frame["data"].clone())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_reaches_whoever_was_removed_not_even_what_was_under_way() {
    let world = World::start().await;
    let other = world.another(GATEWAY).await;
    let (ana, ben, cleo) = (world.person("Ana").await, world.person("Ben").await, world.person("Cleo").await);
    let place = group(&ana, &[&ben, &cleo]).await;
    let (mut hers, mut his) = (cleo.socket().await, ben.socket().await);
    let mut his_too = ben.at(other.address).socket().await;
    let mut sender = ana.socket().await;
    let remover = ana.at(other.address);
    // Messages flow through one instance, and the other one removes him.
    let gone = one(&place, &ben);
    let flow = async {
        for number in 0..60 {
            let sent = sender.call("sendMessage", &message(&place, &number.to_string())).await;
            assert_eq!(sent["ok"], true, "{sent}");
        }
    };
    let remove = async {
        hers.next("message").await;
        assert_eq!(remover.delete(&gone).await.0, 204);
    };
    tokio::join!(flow, remove);
    // Somebody who knew of nothing: he is named, and she is not.
    let log = jetstream::new(world.tenant.broker().await);
    let raw = |text: &str| {
        json!({
            "id": "evt_00000000000000000000000001", "version": 1, "type": "message", "actor": ana.id,
            "occurredAt": "2026-11-22T12:00:00.000Z", "recipients": [ana.id, ben.id],
            "data": {
                "id": format!("msg_{:026}", 1), "conversationId": place, "senderId": ana.id, "senderName": "Ana",
                "kind": "text", "text": text, "createdAt": "2026-11-22T12:00:00.000Z",
            },
        })
        .to_string()
    };
    let subject = format!("chat.{place}.message");
    let late = log.publish(subject, raw("late").into()).await.expect("sent").await.expect("stored");
    loop {
        if hers.next("message").await["text"] == "late" {
            break;
        }
    }
    // Up to here they have been told everything.
    let own = ben.open(&[&cleo]).await;
    cleo.say(&own, "the end").await;
    for socket in [&mut his, &mut his_too] {
        let mut seen: Vec<Value> = Vec::new();
        loop {
            let data = socket.next("message").await;
            let end = data["text"] == "the end";
            seen.push(data);
            if end {
                break;
            }
        }
        let events = told(socket, &place).await;
        let change = events.iter().find(|(event, data)| event == "conversation" && !data["removed"].is_null());
        let (_, change) = change.expect("he hears of it");
        assert_eq!(change["removed"], json!([ben.id]));
        let at = change["seq"].as_u64().expect("a seq");
        assert!(at < late.sequence);
        let after = seen.iter().filter(|one| one["conversationId"] == place.as_str() && one["seq"].as_u64() > Some(at));
        assert_eq!(after.count(), 0, "messages from behind his removal");
        let is_news = |event: &str, data: &Value| {
            event == "conversation" || (event == "notification" && data["kind"] == "system")
        };
        let noted = events.iter().filter(|(event, data)| !is_news(event, data) && data["seq"].as_u64() > Some(at));
        assert_eq!(noted.count(), 0, "anything but the news of it from behind it: {events:#?}");
    }
    assert_eq!(reason(&ben.get(&format!("/api/messages/{place}")).await), (403, "not_a_participant"));
    let (_, list) = ben.at(other.address).get("/api/conversations").await;
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1), "only his own with Cleo: {list}");
    other.stop().await.expect("a clean stop");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_removed_while_away_hears_of_that_and_of_nothing_behind_it() {
    // Out of memory, and out of the log.
    for window in ["65536", "1"] {
        let world = World::with(Roles::ALL, &[("WINDOW_EVENTS", window)]).await;
        let (ana, ben, cleo) = (world.person("Ana").await, world.person("Ben").await, world.person("Cleo").await);
        let place = group(&ana, &[&ben]).await;
        let own = ben.open(&[&cleo]).await;
        let mut his = ben.socket().await;
        ana.say(&place, "zero").await;
        let cursor = his.next("message").await["cursor"].as_str().expect("a cursor").to_owned();
        his.close().await;
        ana.say(&place, "one").await;
        assert_eq!(ana.post(&of(&place), &json!({ "userIds": [cleo.id], "historyFrom": "now" })).await.0, 200);
        assert_eq!(ana.delete(&one(&place, &ben)).await.0, 204);
        for number in 0..5 {
            ana.say(&place, &format!("secret {number}")).await;
            cleo.say(&own, &format!("own {number}")).await;
        }
        // Once MongoDB is that far, the log can be read by what has changed.
        let path = format!("/api/sync?cursor={cursor}");
        let recovered =
            |answer: &(u16, Value)| answer.1["recovered"] == true && answer.1["events"].to_string().contains("own 4");
        let (_, page) = until("what he has missed", || ben.get(&path), recovered).await;
        let events = page["events"].as_array().cloned().expect("events");
        let about =
            |event: &&Value| event["data"]["conversationId"] == place.as_str() || event["data"]["id"] == place.as_str();
        let names: Vec<&str> = events.iter().filter(about).filter_map(|event| event["event"].as_str()).collect();
        assert_eq!(names, ["message", "conversation", "message", "conversation"], "one, her coming, his going");
        assert!(!page.to_string().contains("secret"), "{page:#}");
        let own = events
            .iter()
            .filter(|event| event["event"] == "message" && event["data"]["conversationId"] == own.as_str());
        assert_eq!(own.count(), 5);
        assert_eq!(texts(&cleo, &place).await.len(), 5, "she came before the first of these");
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_and_goes_is_remembered_once() {
    let world = World::start().await;
    let (ana, ben, cleo) = (world.person("Ana").await, world.person("Ben").await, world.person("Cleo").await);
    let group = group(&ana, &[&cleo]).await;
    let mut cursor = String::new();
    for round in 0..4 {
        assert_eq!(ana.post(&of(&group), &json!({ "userIds": [ben.id] })).await.0, 200);
        if round == 3 {
            let mut his = ben.socket().await;
            cleo.say(&group, "still here").await;
            cursor = his.next("message").await["cursor"].as_str().expect("a cursor").to_owned();
        }
        assert_eq!(ana.delete(&one(&group, &ben)).await.0, 204);
    }
    assert_eq!(cleo.delete(&one(&group, &cleo)).await.0, 204);
    ana.say(&group, "alone").await;
    // All of it is stored, in whatever order and number of batches.
    let conversations = database(&world.tenant).await.collection::<Document>("conversations");
    let former = |found: &Option<Document>| -> Vec<(String, i64)> {
        let former = found.as_ref().and_then(|one| one.get_array("former").ok()).cloned().unwrap_or_default();
        let former = former.iter().filter_map(|one| one.as_document());
        former.filter_map(|one| Some((one.get_str("userId").ok()?.to_owned(), one.get_i64("seq").ok()?))).collect()
    };
    let both = |found: &Option<Document>| former(found).iter().any(|(user, _)| *user == cleo.id);
    let find = || async { conversations.find_one(doc! { "_id": &group }).await.expect("an answer") };
    let mut known = former(&until("everybody who has left", find, both).await);
    known.sort_by_key(|(_, seq)| *seq);
    let users: Vec<&str> = known.iter().map(|(user, _)| user.as_str()).collect();
    assert_eq!(users, [ben.id.as_str(), cleo.id.as_str()], "{known:?}");
    // The last time is what counts.
    let (status, missed) = ben.get(&format!("/api/sync?cursor={cursor}")).await;
    assert_eq!(status, 200, "{missed}");
    assert!(missed.to_string().contains(&group), "{missed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_has_an_owner_for_as_long_as_somebody_is_in_it() {
    let world = World::start().await;
    let (ana, ben, cleo) = (world.person("Ana").await, world.person("Ben").await, world.person("Cleo").await);
    let gus = world.staff("Gus", "agent").await;
    let place = group(&ana, &[&ben]).await;
    for person in [&cleo, &gus] {
        assert_eq!(ana.post(&of(&place), &json!({ "userIds": [person.id] })).await.0, 200);
        assert_eq!(ana.post(&of(&place), &json!({ "userIds": [person.id, ben.id] })).await.0, 200, "nothing happens");
    }
    assert_eq!(history(&ana, &place).await.len(), 2, "one note for each");
    let owner = |person: Person| {
        let place = place.clone();
        async move {
            let all = roles(&person, &place).await;
            all.into_iter().filter(|(_, role)| role == "owner").map(|(user, _)| user).collect::<Vec<_>>()
        }
    };
    let set = |person: &Person, role: &str| (one(&place, person), json!({ "role": role }));
    for (person, role, status, expected) in [
        (&ana, "buyer", 409, "last_owner"),
        (&ben, "agent", 400, "role_not_theirs"),
        (&ben, "seller", 400, "role_not_theirs"),
        (&ben, "king", 400, "unknown_role"),
        (&world.person("Dan").await, "owner", 404, "unknown_participant"),
    ] {
        let (path, body) = set(person, role);
        assert_eq!(reason(&ana.patch(&path, &body).await), (status, expected), "{role}");
    }
    let (path, body) = set(&ben, "owner");
    assert_eq!(reason(&gus.patch(&path, &body).await), (403, "not_allowed"));
    assert_eq!(ana.patch(&path, &body).await.0, 200);
    assert_eq!(ana.patch(&path, &body).await.0, 200, "nothing happens");
    let (path, body) = set(&ana, "buyer");
    assert_eq!(ben.patch(&path, &body).await.0, 200);
    assert_eq!(owner(ana.clone()).await, [ben.id.as_str()]);
    // The last owner goes: the agent has it, then whoever was there first.
    assert_eq!(ben.delete(&one(&place, &ben)).await.0, 204);
    assert_eq!(owner(ana.clone()).await, [gus.id.as_str()]);
    assert_eq!(ben.delete(&one(&place, &ben)).await.0, 204, "whoever does not know whether they left leaves again");
    assert_eq!(reason(&ben.delete(&one(&place, &gus)).await), (403, "not_a_participant"));
    assert_eq!(world.person("Eve").await.delete(&one(&place, &ben)).await.0, 403);
    assert_eq!(gus.delete(&one(&place, &ben)).await.0, 204, "he is gone already");
    assert_eq!(gus.delete(&one(&place, &gus)).await.0, 204);
    assert_eq!(owner(cleo.clone()).await, [ana.id.as_str()]);
    assert_eq!(ana.delete(&one(&place, &ana)).await.0, 204);
    assert_eq!(owner(cleo.clone()).await, [cleo.id.as_str()]);
    assert_eq!(cleo.delete(&one(&place, &cleo)).await.0, 204);
    assert_eq!(reason(&cleo.get(&format!("/api/conversations/{place}")).await), (403, "not_a_participant"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_additions_have_their_reasons() {
    let world = World::start().await;
    let (ana, ben) = (world.person("Ana").await, world.person("Ben").await);
    let place = group(&ana, &[&ben]).await;
    let elsewhere = ana.open(&[&ben]).await;
    let foreign = ana.say(&elsewhere, "elsewhere").await;
    let cleo = world.person("Cleo").await;
    let with = |history: &str| json!({ "userIds": [cleo.id], "historyFrom": history });
    for (body, status, expected) in [
        (json!({}), 400, "missing_field"),
        (json!({ "userIds": [] }), 400, "missing_field"),
        (json!({ "userIds": ["cleo"] }), 400, "malformed_id"),
        (json!({ "userIds": "cleo" }), 400, "malformed_request"),
        (json!({ "userIds": ["usr_00000000000000000000000000"] }), 404, "unknown_user"),
        (with("yesterday"), 400, "malformed_history_from"),
        (with("msg_1"), 400, "malformed_id"),
        (with("msg_00000000000000000000000000"), 404, "unknown_message"),
        (with(foreign["id"].as_str().expect("an id")), 404, "unknown_message"),
    ] {
        assert_eq!(reason(&ana.post(&of(&place), &body).await), (status, expected), "{body}");
    }
    let unknown = of("cnv_00000000000000000000000000");
    assert_eq!(reason(&ana.post(&unknown, &with("all")).await), (403, "not_a_participant"));
    assert_eq!(reason(&ana.delete(&format!("{unknown}/{}", ben.id)).await), (403, "not_a_participant"));
    assert_eq!(ana.delete(&format!("{unknown}/{}", ana.id)).await.0, 204, "as where somebody else is");
    assert_eq!(cleo.delete(&one(&place, &cleo)).await.0, 204);
    assert_eq!(history(&ana, &place).await.len(), 0);
    let mut crowd = Vec::new();
    for number in 0..98 {
        crowd.push(world.person(&format!("P{number}")).await.id);
    }
    assert_eq!(ana.post(&of(&place), &json!({ "userIds": crowd })).await.0, 200);
    assert_eq!(reason(&ana.post(&of(&place), &with("all")).await), (413, "too_many_participants"));
    world.stop().await;
}
