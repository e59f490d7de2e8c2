//! How users want to be seen, and by whom not at all.

use std::time::Instant;

use reqwest::Method;
use serde_json::{Value, json};
use shoptalk::app::Roles;

use crate::support::client::Person;
use crate::support::messages::{delete, pin, react};
use crate::support::world::{World, message};
use crate::support::{DEADLINE, until};

const GATEWAY: Roles = Roles { gateway: true, worker: false };

fn of(person: &Person) -> String {
    format!("/api/users/me/blocks/{}", person.id)
}

async fn blocked(person: &Person) -> Vec<Value> {
    let (status, list) = person.get("/api/users/me/blocks").await;
    assert_eq!(status, 200, "{list}");
    list["items"].as_array().expect("a list").clone()
}

fn reason((_, failure): &(u16, Value)) -> Value {
    failure["reason"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn preferences_are_the_same_at_every_instance_at_once() {
    let world = World::start().await;
    let other = world.another(GATEWAY).await;
    let ana = world.person("Ana").await;
    let there = ana.at(other.address);
    let path = "/api/users/me/preferences";
    let on = json!({ "message": "on", "mention": "on", "order": "on", "support": "on", "system": "on" });
    let seen = |hidden, invisible| json!({ "hideReadReceipts": hidden, "invisible": invisible, "notifications": on });
    let (shown, hidden) = (seen(false, false), json!({ "hideReadReceipts": true }));
    assert_eq!(ana.get(path).await, (200, shown.clone()));
    assert_eq!(there.get(path).await, (200, shown));
    // Two changes at once are both kept.
    let invisible = json!({ "invisible": true });
    let both = tokio::join!(ana.patch(path, &hidden), there.patch(path, &invisible));
    assert_eq!((both.0.0, both.1.0), (200, 200), "{both:?}");
    let both = seen(true, true);
    assert_eq!((ana.get(path).await, there.get(path).await), ((200, both.clone()), (200, both.clone())));
    assert_eq!(ana.patch(path, &json!({})).await, (200, both), "nothing to change");
    assert_eq!(reason(&ana.patch(path, &json!({ "invisible": "yes" })).await), "malformed_request");
    other.stop().await.expect("a clean stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_blocked_users_is_kept() {
    let world = World::start().await;
    let (ana, ben, cleo) = (world.person("Ana").await, world.person("Ben").await, world.person("Cleo").await);
    assert!(blocked(&ana).await.is_empty());
    for person in [&ben, &cleo, &ben] {
        assert_eq!(ana.put(&of(person)).await.0, 204);
    }
    let listed = blocked(&ana).await;
    assert_eq!(listed, [json!({ "userId": ben.id, "name": "Ben" }), json!({ "userId": cleo.id, "name": "Cleo" })]);
    assert_eq!(ana.delete(&of(&cleo)).await.0, 204);
    assert_eq!(ana.delete(&of(&cleo)).await.0, 204, "twice is once");
    assert_eq!(blocked(&ana).await.len(), 1);
    assert!(blocked(&ben).await.is_empty(), "nobody is told");

    assert_eq!(reason(&ana.put(&of(&ana)).await), "cannot_block_yourself");
    assert_eq!(reason(&ana.put("/api/users/me/blocks/usr_00000000000000000000000001").await), "unknown_user");
    assert_eq!(reason(&ana.put("/api/users/me/blocks/ben").await), "malformed_id");
    // Whoever starts later knows it from the log, and MongoDB has it for when the log has not.
    let stored = || async {
        let database = crate::drills::evidence::database(&world.tenant).await;
        let found = database.collection::<mongodb::bson::Document>("preferences");
        found.find_one(mongodb::bson::doc! { "_id": &ana.id }).await.expect("an answer")
    };
    let projected = |found: &Option<mongodb::bson::Document>| {
        found.as_ref().is_some_and(|one| one.get_array("blocked").is_ok_and(|all| all.len() == 1))
    };
    until("the preferences in MongoDB", stored, projected).await;
    let later = world.another(GATEWAY).await;
    assert_eq!(blocked(&ana.at(later.address)).await, listed[..1]);
    later.stop().await.expect("a clean stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_stops_what_is_said_between_two_either_way() {
    let world = World::start().await;
    let other = world.another(GATEWAY).await;
    let (ana, ben, conversation) = world.pair().await;
    let cleo = world.person("Cleo").await;
    let group = ana.open(&[&ben, &cleo]).await;
    ana.say(&conversation, "before").await;
    let mut his = ben.at(other.address).socket().await;
    assert_eq!(ana.put(&of(&ben)).await.0, 204);

    // The other instance has it from the tail.
    let begin = Instant::now();
    while his.call("sendMessage", &message(&conversation, "hello?")).await["error"]["reason"] != "blocked" {
        assert!(begin.elapsed() < DEADLINE, "the block counts there too");
    }
    for person in [&ana, &ben] {
        assert_eq!(reason(&person.post("/api/messages", &message(&conversation, "hello?")).await), "blocked");
    }
    let context = json!({ "type": "order", "id": "1" });
    let about = |person: &Person| json!({ "recipientId": person.id, "context": context });
    assert_eq!(reason(&ana.post("/api/conversations", &about(&ben)).await), "blocked");
    assert_eq!(reason(&ben.post("/api/conversations", &about(&ana)).await), "blocked");
    // What there is stays, and so do groups.
    assert_eq!(ben.open(&[&ana]).await, conversation);
    assert!(!world.history(&ben, &conversation, 1).await.is_empty());
    ben.say(&group, "hello, all").await;
    assert_eq!(ana.delete(&of(&ben)).await.0, 204);
    ben.say(&conversation, "hello again").await;
    assert_eq!(ana.post("/api/conversations", &about(&ben)).await.0, 201);
    other.stop().await.expect("a clean stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_of_an_agent_silences_nobody_in_a_direct_conversation() {
    let world = World::start().await;
    let (ana, ben, direct) = world.pair().await;
    let gus = world.staff("Gus", "agent").await;
    let place = format!("/api/conversations/{direct}/participants");
    assert_eq!(ana.post(&place, &json!({ "userIds": [gus.id] })).await.0, 200);
    assert_eq!(ben.put(&of(&gus)).await.0, 204);
    for person in [&ana, &ben, &gus] {
        person.say(&direct, "hello").await;
    }
    let id = ben.say(&direct, "mine").await["id"].clone();
    assert_eq!(pin(&ben, Method::PUT, &direct, &id).await.0, 200);
    // Between the two it counts as ever, for whatever is put before the other.
    assert_eq!(ana.put(&of(&ben)).await.0, 204);
    assert_eq!(reason(&ben.post("/api/messages", &message(&direct, "hello?")).await), "blocked");
    for method in [Method::DELETE, Method::PUT] {
        assert_eq!(reason(&pin(&ben, method, &direct, &id).await), "blocked");
    }
    assert_eq!(reason(&react(&ben, Method::PUT, &direct, &id, "👍").await), "blocked");
    gus.say(&direct, "and I?").await;
    assert_eq!(delete(&ben, &direct, &id, "everybody").await.0, 200, "one may always take back what one said");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_hides_typing_and_presence_either_way() {
    let world = World::start().await;
    let other = world.another(GATEWAY).await;
    let (ana, ben) = (world.person("Ana").await, world.person("Ben").await);
    let cleo = world.person("Cleo").await;
    let group = ana.open(&[&ben, &cleo]).await;
    let here = json!({ "conversationId": group });
    let (mut hers, mut his) = (ana.socket().await, ben.at(other.address).socket().await);
    hers.next("presence").await;
    let mut watching = cleo.socket().await;
    for socket in [&mut hers, &mut his] {
        while socket.next("presence").await["userId"] != *cleo.id {}
        socket.drain("presence").await;
    }
    assert_eq!(ana.put(&of(&ben)).await.0, 204);
    // Whoever was there is gone at once, and nobody knows since when.
    let gone = |person: &Person| json!({ "userId": person.id, "status": "offline", "lastSeenAt": null });
    assert_eq!(hers.next("presence").await, gone(&ben));
    assert_eq!(his.next("presence").await, gone(&ana));

    for (typing, name) in [(&mut hers, &ana.id), (&mut his, &ben.id)] {
        assert_eq!(typing.call("typing", &here).await["ok"], true, "nobody is told that they are blocked");
        assert_eq!(watching.next("typing").await["senderId"], **name);
        typing.call("setPresence", &json!({ "status": "away" })).await;
        assert_eq!(watching.next("presence").await["userId"], **name);
    }
    for (asking, about) in [(&ana, &ben), (&ben, &ana)] {
        let (_, seen) = asking.get(&format!("/api/presence?userIds={},{}", about.id, cleo.id)).await;
        assert_eq!(seen["items"][0], json!({ "userId": about.id, "status": "offline", "lastSeenAt": null }));
        assert_eq!(seen["items"][1]["status"], "online");
        let there = asking.socket().await.next("presenceSnapshot").await;
        assert_eq!(there["items"].as_array().map(Vec::len), Some(1), "{there}");
        assert_eq!(there["items"][0]["userId"], cleo.id);
    }
    // What comes by the same way after it would have been told before.
    watching.call("setPresence", &json!({ "status": "away" })).await;
    watching.call("typing", &here).await;
    for (socket, foreign) in [(&mut hers, &ben.id), (&mut his, &ana.id)] {
        assert_eq!(socket.next("typing").await["senderId"], cleo.id);
        loop {
            let presence = socket.next("presence").await;
            assert_ne!(presence["userId"], **foreign);
            if presence["status"] == "away" {
                break;
            }
        }
    }
    // And back.
    assert_eq!(ana.delete(&of(&ben)).await.0, 204);
    for (socket, back) in [(&mut hers, &ben.id), (&mut his, &ana.id)] {
        assert_eq!(socket.next("presence").await, json!({ "userId": back, "status": "away", "lastSeenAt": null }));
    }
    other.stop().await.expect("a clean stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_around_a_block_with_a_group() {
    let world = World::start().await;
    let (ana, ben, cleo) = (world.person("Ana").await, world.person("Ben").await, world.person("Cleo").await);
    let two = async |opening: &Person, other: &Person| {
        let body = json!({ "kind": "group", "participants": [other.id] });
        opening.post("/api/conversations", &body).await
    };
    let (_, before) = two(&ben, &ana).await;
    let before = before["id"].as_str().expect("a group").to_owned();
    let with_cleo = ben.open(&[&cleo]).await;
    let (_, group) = two(&ben, &cleo).await;
    assert_eq!(ana.put(&of(&ben)).await.0, 204);
    assert_eq!(reason(&two(&ben, &ana).await), "blocked");
    assert_eq!(reason(&two(&ana, &ben).await), "blocked");
    let three = json!({ "participants": [ana.id, cleo.id] });
    assert_eq!(reason(&ben.post("/api/conversations", &three).await), "blocked");
    let path = format!("/api/conversations/{}/participants", group["id"].as_str().expect("a group"));
    assert_eq!(reason(&ben.post(&path, &json!({ "userIds": [ana.id] })).await), "blocked");
    // Nor does anybody get around it where the two are alone.
    for person in [&ana, &ben] {
        assert_eq!(reason(&person.post("/api/messages", &message(&before, "hello?")).await), "blocked");
    }
    ben.say(&with_cleo, "somebody else").await;
    let add = format!("/api/conversations/{before}/participants");
    assert_eq!(ben.post(&add, &json!({ "userIds": [cleo.id] })).await.0, 200);
    ben.say(&before, "hello, all").await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_changes_preferences_as_fast_as_they_can() {
    let world = World::with(Roles::ALL, &[("USER_SENDS_PER_SECOND", "2")]).await;
    let (ana, ben) = (world.person("Ana").await, world.person("Ben").await);
    let changes = async || {
        assert!(ana.put(&of(&ben)).await.0 < 500);
        ana.delete(&of(&ben)).await
    };
    // Each counts as ten messages, once this instance has it from the tail.
    let refused = until("a limit", changes, |answer| answer.0 != 204).await;
    assert_eq!((refused.0, reason(&refused)), (429, json!("too_many_sends")), "{refused:?}");
    assert_eq!(ben.put(&of(&ana)).await.0, 204, "others may");
    world.stop().await;
}
