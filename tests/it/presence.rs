//! Who is there.

use std::time::Duration;

use async_nats::jetstream::kv::Store;
use futures_util::TryStreamExt as _;
use mongodb::bson::{Document, doc};
use serde_json::{Value, json};
use shoptalk::app::Roles;
use shoptalk::domain::clock::{Clock, Timestamp};
use shoptalk::domain::ids::{ConversationId, UserId};

use crate::drills::evidence;
use crate::support::client::Person;
use crate::support::socket::Socket;
use crate::support::socketio::Raw;
use crate::support::until;
use crate::support::world::World;

const GATEWAY: Roles = Roles { gateway: true, worker: false };

async fn records(world: &World) -> Store {
    let broker = async_nats::jetstream::new(world.tenant.broker().await);
    broker.get_key_value("presence").await.expect("the bucket")
}

/// Waits until a user has this many records.
async fn recorded(records: &Store, person: &Person, count: usize) {
    let of = || async {
        let keys: Vec<String> = records.keys().await.expect("keys").try_collect().await.expect("keys");
        keys.into_iter().filter(|key| key.starts_with(&person.id)).count()
    };
    until(&format!("{count} records of {}", person.id), of, |found| *found == count).await;
}

/// What somebody is, as another one asks.
async fn asked(asking: &Person, about: &[&Person]) -> Vec<Value> {
    let ids: Vec<&str> = about.iter().map(|one| one.id.as_str()).collect();
    let (status, seen) = asking.get(&format!("/api/presence?userIds={}", ids.join(","))).await;
    assert_eq!(status, 200, "{seen}");
    seen["items"].as_array().expect("a list").clone()
}

async fn told(socket: &mut Socket, person: &Person, status: &str) -> Value {
    let presence = socket.next("presence").await;
    assert_eq!((&presence["userId"], &presence["status"]), (&json!(person.id), &json!(status)), "{presence}");
    presence
}

async fn say(socket: &mut Socket, status: &str) {
    assert_eq!(socket.call("setPresence", &json!({ "status": status })).await, json!({ "ok": true, "data": {} }));
}

#[tokio::test(flavor = "multi_thread")]
async fn contacts_hear_of_the_first_socket_and_of_the_last() {
    let world = World::start().await;
    let (ana, ben, _) = world.pair().await;
    let cleo = world.person("Cleo").await;
    let (mut hers, mut strangers) = (ana.socket().await, cleo.socket().await);

    let phone = ben.socket().await;
    let online = hers.next("presence").await;
    assert_eq!(online, json!({ "userId": ben.id, "status": "online", "lastSeenAt": null }));
    let laptop = ben.socket().await;
    phone.close().await;
    laptop.close().await;
    let closed = Clock::System.now();
    let offline = told(&mut hers, &ben, "offline").await;
    let seen = Timestamp::parse(offline["lastSeenAt"].as_str().expect("a time")).expect("a time");
    let (after_closing, heard) = (seen.millis() - closed.millis(), Clock::System.now().millis() - seen.millis());
    assert!(after_closing < 3_000 && heard >= 4_900, "{after_closing} ms after the last one, told {heard} ms later");

    let me = until(
        "when Ben was last seen",
        || ben.get("/api/users/me"),
        |(_, me): &(u16, Value)| me["lastSeenAt"].is_string(),
    )
    .await
    .1;
    assert_eq!(me["lastSeenAt"], offline["lastSeenAt"]);
    assert!(strangers.drain("presence").await.is_empty(), "strangers hear nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_online_while_any_instance_has_a_socket() {
    let world = World::start().await;
    let other = world.another(GATEWAY).await;
    let (ana, ben, _) = world.pair().await;
    let mut hers = ana.socket().await;
    let here = ben.socket().await;
    told(&mut hers, &ben, "online").await;
    let there = ben.at(other.address).socket().await;
    recorded(&records(&world).await, &ben, 2).await;
    here.close().await;
    // The other instance stops in good order and gives its lease back.
    there.close().await;
    told(&mut hers, &ben, "offline").await;
    assert!(hers.drain("presence").await.is_empty());
    other.stop().await.expect("a clean stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_back_at_once_was_never_away() {
    let world = World::start().await;
    let other = world.another(GATEWAY).await;
    let (ana, ben, _) = world.pair().await;
    let (mut hers, mut there) = (ana.socket().await, ana.at(other.address).socket().await);
    let records = records(&world).await;
    let page = ben.socket().await;
    told(&mut hers, &ben, "online").await;
    told(&mut there, &ben, "online").await;
    page.close().await;
    recorded(&records, &ben, 0).await;
    let mut again = ben.at(other.address).socket().await;
    recorded(&records, &ben, 1).await;
    // The next that anybody hears is this, so nothing was told before it.
    say(&mut again, "away").await;
    told(&mut hers, &ben, "away").await;
    told(&mut there, &ben, "away").await;
    other.stop().await.expect("a clean stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_is_away_when_all_their_devices_say_so() {
    let world = World::start().await;
    let other = world.another(GATEWAY).await;
    let (ana, ben, _) = world.pair().await;
    let mut hers = Raw::connect(world.rest.address, &ana.token, None).await;
    let mut phone = ben.socket().await;
    assert_eq!(hers.next("presence").await["status"], "online");
    let mut laptop = Raw::connect(other.address, &ben.token, None).await;
    recorded(&records(&world).await, &ben, 2).await;
    say(&mut phone, "away").await;
    // Nobody hears of that while the laptop is used.
    laptop.say("setPresence", &json!({ "status": "away" })).await;
    let away = hers.next("presence").await;
    assert_eq!(away, json!({ "userId": ben.id, "status": "away", "lastSeenAt": null }));
    assert_eq!(asked(&ana, &[&ben]).await, [away]);
    laptop.say("setPresence", &json!({ "status": "online" })).await;
    assert_eq!(hers.next("presence").await["status"], "online");
    laptop.close().await;
    assert_eq!(hers.next("presence").await["status"], "away", "what the phone says is left");
    let refused = phone.call("setPresence", &json!({ "status": "offline" })).await;
    assert_eq!(refused["error"]["reason"], "unknown_status");
    other.stop().await.expect("a clean stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_connects_is_told_who_is_there() {
    let world = World::start().await;
    let other = world.another(GATEWAY).await;
    let (ana, ben, _) = world.pair().await;
    let (cleo, dan) = (world.person("Cleo").await, world.person("Dan").await);
    ana.open(&[&cleo]).await;
    let _stranger = dan.socket().await;
    let mut alone = ana.socket().await;
    assert_eq!(alone.next("presenceSnapshot").await, json!({ "items": [] }));

    let mut his = ben.at(other.address).socket().await;
    told(&mut alone, &ben, "online").await;
    say(&mut his, "away").await;
    told(&mut alone, &ben, "away").await;
    let ben_is_away = json!({ "items": [{ "userId": ben.id, "status": "away", "lastSeenAt": null }] });
    assert_eq!(ana.socket().await.next("presenceSnapshot").await, ben_is_away);
    let mut by_socket_io = Raw::connect(world.rest.address, &ana.token, None).await;
    assert_eq!(by_socket_io.next("presenceSnapshot").await, ben_is_away);
    assert!(alone.drain("presenceSnapshot").await.is_empty(), "only those who have just come");
    let ana_is_there = json!({ "items": [{ "userId": ana.id, "status": "online", "lastSeenAt": null }] });
    assert_eq!(cleo.at(other.address).socket().await.next("presenceSnapshot").await, ana_is_there);
    // Also a socket that is nobody's at first.
    let mut nobody = Socket::connect(world.rest.address, None).await.expect("a socket");
    nobody.call("authenticate", &json!({ "token": ben.token })).await;
    assert_eq!(nobody.next("presenceSnapshot").await, ana_is_there);
    other.stop().await.expect("a clean stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_contacts_learn_who_is_there() {
    let world = World::start().await;
    let (ana, ben, _) = world.pair().await;
    let (cleo, dan) = (world.person("Cleo").await, world.person("Dan").await);
    let mut hers = ana.socket().await;
    ana.open(&[&cleo]).await;
    let _his = ben.socket().await;
    told(&mut hers, &ben, "online").await;
    let visit = cleo.socket().await;
    told(&mut hers, &cleo, "online").await;
    visit.close().await;
    let gone = told(&mut hers, &cleo, "offline").await;
    let _strangers = dan.socket().await;
    recorded(&records(&world).await, &dan, 1).await;

    let unknown = Person { id: "usr_00000000000000000000000001".into(), ..dan.clone() };
    let nobody = |person: &Person| json!({ "userId": person.id, "status": "offline", "lastSeenAt": null });
    let everybody = [&unknown, &cleo, &dan, &ben];
    let seen =
        until("when Cleo was last seen", || asked(&ana, &everybody), |seen| seen[1]["lastSeenAt"].is_string()).await;
    let ben_is_there = json!({ "userId": ben.id, "status": "online", "lastSeenAt": null });
    assert_eq!(seen, [nobody(&unknown), gone, nobody(&dan), ben_is_there]);
    assert_eq!(
        asked(&ben, &[&cleo, &dan]).await,
        [nobody(&cleo), nobody(&dan)],
        "who was there and who is look the same"
    );

    let reason = async |ids: &str| ana.get(&format!("/api/presence?userIds={ids}")).await.1["reason"].clone();
    assert_eq!(reason("").await, "malformed_user_ids");
    assert_eq!(reason(&vec![ben.id.as_str(); 101].join(",")).await, "malformed_user_ids");
    assert_eq!(reason("usr_1").await, "malformed_id");
    assert_eq!(asked(&ana, &[&ben; 100]).await.len(), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_invisible_is_offline_to_everybody_at_every_instance() {
    let world = World::start().await;
    let other = world.another(GATEWAY).await;
    let (ana, ben, _) = world.pair().await;
    let records = records(&world).await;
    let (mut hers, mut his, mut there) = (ana.socket().await, ben.socket().await, ben.at(other.address).socket().await);
    told(&mut hers, &ben, "online").await;
    recorded(&records, &ben, 2).await;

    let preferences = json!({ "invisible": true });
    let (status, changed) = ben.at(other.address).patch("/api/users/me/preferences", &preferences).await;
    assert_eq!((status, &changed["hideReadReceipts"], &changed["invisible"]), (200, &json!(false), &json!(true)));
    assert_eq!(his.next("preferences").await["invisible"], true, "his other devices hear of it");
    recorded(&records, &ben, 0).await;
    let offline = told(&mut hers, &ben, "offline").await;
    // Whatever he does now is seen by nobody.
    say(&mut there, "away").await;
    his.close().await;
    let mut his = ben.socket().await;
    his.next("presenceSnapshot").await;
    say(&mut his, "away").await;
    assert_eq!(asked(&ana, &[&ben]).await[0]["status"], "offline");
    assert_eq!(ana.socket().await.next("presenceSnapshot").await, json!({ "items": [] }));
    recorded(&records, &ben, 0).await;

    let (status, _) = ben.patch("/api/users/me/preferences", &json!({ "invisible": false })).await;
    assert_eq!(status, 200);
    told(&mut hers, &ben, "away").await;
    recorded(&records, &ben, 2).await;
    assert!(offline["lastSeenAt"].is_string());
    other.stop().await.expect("a clean stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_with_thousands_of_conversations_is_told_of_the_newest_and_seen_in_all() {
    const CONVERSATIONS: u32 = 5_000;
    let world = World::start().await;
    let (ana, ben, cleo) = (world.person("Ana").await, world.person("Ben").await, world.person("Cleo").await);
    let nobody = |number: u32| UserId::from_bits(number.into()).to_string();
    let conversation = |number: u32| {
        let other = match number {
            1 => ben.id.clone(),
            CONVERSATIONS => cleo.id.clone(),
            _ => nobody(number),
        };
        let id = ConversationId::from_bits(number.into()).to_string();
        doc! { "_id": id, "participants": [{ "userId": &ana.id }, { "userId": other }], "lastSeq": i64::from(number) }
    };
    let database = evidence::database(&world.tenant).await;
    let conversations = database.collection::<Document>("conversations");
    conversations.insert_many((1..=CONVERSATIONS).map(conversation)).await.expect("put in");
    let records = records(&world).await;
    let (mut his, mut hers) = (ben.socket().await, cleo.socket().await);
    his.next("presenceSnapshot").await;
    recorded(&records, &ben, 1).await;
    recorded(&records, &cleo, 1).await;
    database.run_command(doc! { "profile": 2 }).await.expect("a profile");
    let mut socket = ana.socket().await;
    let there = json!({ "userId": cleo.id, "status": "online", "lastSeenAt": null });
    assert_eq!(socket.next("presenceSnapshot").await, json!({ "items": [there] }), "those of her 1,000 newest");
    told(&mut hers, &ana, "online").await;
    database.run_command(doc! { "profile": 0 }).await.expect("its end");
    let of_conversations =
        doc! { "ns": format!("{}.conversations", database.name()), "op": { "$in": ["query", "getmore"] } };
    let profile = database.collection::<Document>("system.profile");
    let read: Vec<Document> = profile.find(of_conversations).await.expect("a profile").try_collect().await.expect("it");
    let rows: i32 = read.iter().filter_map(|one| one.get_i32("nreturned").ok()).sum();
    // Once together with others who are looked up in the same turn, and once alone as they are too many for that.
    assert!((1_000..=2_100).contains(&rows), "{rows} rows were read: {read:#?}");

    // Whoever sees her there, in whichever conversation, sees her come and go.
    told(&mut his, &ana, "online").await;
    let mut late = ben.socket().await;
    assert_eq!(late.next("presenceSnapshot").await["items"][0]["userId"], json!(ana.id));
    socket.close().await;
    for each in [&mut his, &mut late, &mut hers] {
        told(each, &ana, "offline").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_meet_see_each_other_and_those_who_part_do_not() {
    let world = World::start().await;
    let other = world.another(GATEWAY).await;
    let (ana, ben, cleo) = (world.person("Ana").await, world.person("Ben").await, world.person("Cleo").await);
    let (mut hers, mut his) = (ana.socket().await, ben.at(other.address).socket().await);
    let mut third = cleo.socket().await;
    let records = records(&world).await;
    for person in [&ana, &ben, &cleo] {
        recorded(&records, person, 1).await;
    }
    for socket in [&mut hers, &mut his, &mut third] {
        assert_eq!(socket.next("presenceSnapshot").await, json!({ "items": [] }));
    }
    let group = ana.post("/api/conversations", &json!({ "kind": "group", "participants": [ben.id] })).await.1;
    told(&mut hers, &ben, "online").await;
    told(&mut his, &ana, "online").await;
    let participants = format!("/api/conversations/{}/participants", group["id"].as_str().expect("a group"));
    assert_eq!(ana.post(&participants, &json!({ "userIds": [cleo.id] })).await.0, 200);
    let mut both = [third.next("presence").await, third.next("presence").await];
    both.sort_by_key(|one| one["userId"] != ana.id);
    let online = |person: &Person| json!({ "userId": person.id, "status": "online", "lastSeenAt": null });
    assert_eq!(both, [online(&ana), online(&ben)]);

    // He shares nothing with Cleo any more, and still something with Ana.
    let direct = ana.open(&[&ben]).await;
    assert_eq!(ana.delete(&format!("{participants}/{}", ben.id)).await.0, 204, "{direct}");
    let gone = |person: &Person| json!({ "userId": person.id, "status": "offline", "lastSeenAt": null });
    for (socket, about) in [(&mut third, &ben), (&mut his, &cleo)] {
        while socket.next("presence").await != gone(about) {}
    }
    for (asking, about) in [(&mut hers, &ben), (&mut his, &ana)] {
        let told = asking.drain("presence").await;
        assert!(!told.contains(&gone(about)), "{told:?}");
    }
    other.stop().await.expect("a clean stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_part_are_told_so_however_far_the_database_is_behind() {
    let mut world = World::start().await;
    let other = world.another(GATEWAY).await;
    let (ana, ben, cleo) = (world.person("Ana").await, world.person("Ben").await, world.person("Cleo").await);
    let group = ana.post("/api/conversations", &json!({ "kind": "group", "participants": [ben.id, cleo.id] })).await.1;
    let group = group["id"].as_str().expect("a group").to_owned();
    let conversations = evidence::database(&world.tenant).await.collection::<Document>("conversations");
    let find = || async { conversations.find_one(doc! { "_id": &group }).await.expect("an answer") };
    until("the group in MongoDB", find, Option::is_some).await;
    let records = records(&world).await;
    let (ana, ben) = (ana.at(other.address), ben.at(other.address));
    let (mut his, mut hers) = (ben.socket().await, cleo.at(other.address).socket().await);
    recorded(&records, &ben, 1).await;
    let is_there = |seen: &Vec<Value>| seen[0]["status"] == "online";
    let (him, her) = ([&ben], cleo.at(other.address));
    until("Ben being there for Cleo", || asked(&her, &him), is_there).await;
    world.app.take().expect("it runs").stop().await.expect("a clean stop");
    hers.drain("presence").await;

    // Nothing is projected now, and MongoDB still says that she shares a conversation with him.
    assert_eq!(ana.delete(&format!("/api/conversations/{group}/participants/{}", cleo.id)).await.0, 204);
    his.next("conversation").await;
    let early = tokio::time::timeout(Duration::from_secs(3), hers.next("presence")).await;
    assert!(early.is_err(), "nobody knows yet what they share: {early:?}");
    let worker = world.another(Roles { gateway: false, worker: true }).await;
    let nobody = json!({ "userId": ben.id, "status": "offline", "lastSeenAt": null });
    while hers.next("presence").await != nobody {}
    for app in [worker, other] {
        app.stop().await.expect("a clean stop");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_removed_is_no_contact_any_more() {
    let world = World::start().await;
    let (ana, ben, cleo) = (world.person("Ana").await, world.person("Ben").await, world.person("Cleo").await);
    let group = ana.open(&[&ben, &cleo]).await;
    let (mut hers, mut cleos) = (ana.socket().await, cleo.socket().await);
    let mut his = ben.socket().await;
    while cleos.next("presence").await["userId"] != *ben.id {}
    let (status, _) = ana.delete(&format!("/api/conversations/{group}/participants/{}", cleo.id)).await;
    assert!((200..300).contains(&status), "{status}");
    let nobody = json!({ "userId": ben.id, "status": "offline", "lastSeenAt": null });
    let (him, her) = ([&ben], [&cleo]);
    until("Ben being nobody to Cleo", || asked(&cleo, &him), |seen| seen[0] == nobody).await;
    until("Cleo being nobody to Ben", || asked(&ben, &her), |seen| seen[0]["status"] == "offline").await;
    cleos.drain("presence").await;
    say(&mut his, "away").await;
    while hers.next("presence").await["status"] != "away" {}
    assert!(cleos.drain("presence").await.is_empty(), "she hears no more of him");
    assert_eq!(cleo.socket().await.next("presenceSnapshot").await, json!({ "items": [] }));
}
