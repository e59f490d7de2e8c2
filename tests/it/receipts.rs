//! Marks: how far messages have come to somebody, and how far they have read.

use std::time::Instant;

use futures_util::TryStreamExt as _;
use serde_json::{Value, json};
use shoptalk::app::Roles;

use crate::support::client::Person;
use crate::support::proxy::Proxy;
use crate::support::servers::{self, Tenant};
use crate::support::socketio::Raw;
use crate::support::world::{World, message};

const GATEWAY: Roles = Roles { gateway: true, worker: false };

fn seq(sent: &Value) -> u64 {
    sent["seq"].as_u64().unwrap_or_else(|| panic!("no seq: {sent}"))
}

fn up_to(conversation: &str, up_to: impl Into<Value>) -> Value {
    json!({ "conversationId": conversation, "upTo": up_to.into() })
}

/// Says this many things; returns their seqs.
async fn say(person: &Person, conversation: &str, count: usize) -> Vec<u64> {
    let mut seqs = Vec::new();
    for number in 0..count {
        seqs.push(seq(&person.say(conversation, &number.to_string()).await));
    }
    seqs
}

/// Receipts of a conversation in the log.
async fn receipts(world: &World, conversation: &str) -> u64 {
    let log = async_nats::jetstream::new(world.tenant.broker().await);
    let events = log.get_stream("EVENTS").await.expect("the log");
    let info = events.info_with_subjects(format!("chat.{conversation}.receipt")).await.expect("its subjects");
    info.try_collect::<Vec<_>>().await.expect("subjects").into_iter().map(|(_, count)| count as u64).sum()
}

/// The read and the delivered mark of somebody, as another one sees them.
async fn marks(seen_by: &Person, conversation: &str, whose: &Person) -> (u64, u64) {
    let (status, one) = seen_by.get(&format!("/api/conversations/{conversation}")).await;
    assert_eq!(status, 200, "{one}");
    let participants = one["participants"].as_array().expect("participants");
    let found = participants.iter().find(|one| one["userId"] == whose.id.as_str()).expect("a participant");
    (found["readSeq"].as_u64().expect("a mark"), found["deliveredSeq"].as_u64().expect("a mark"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_marks_is_one_event() {
    let world = World::start().await;
    let other = world.another(Roles::ALL).await;
    let (ana, ben, conversation) = world.pair().await;
    let said = say(&ana, &conversation, 20).await;
    let (mut hers, mut phone, mut laptop) = (ana.socket().await, ben.socket().await, ben.socket().await);
    let mut tablet = ben.at(other.address).socket().await;

    // The same mark from everywhere is stored once.
    let head = up_to(&conversation, said[0]);
    let mut asked = Vec::new();
    for _ in 0..30 {
        asked.push((phone.ask("markRead", &head).await, laptop.ask("markRead", &head).await));
    }
    assert_eq!(tablet.call("markRead", &head).await["data"]["readSeq"], said[0]);
    for (here, there) in asked {
        assert_eq!(phone.answer(here).await["data"]["readSeq"], said[0]);
        assert_eq!(laptop.answer(there).await["data"]["readSeq"], said[0]);
    }
    assert_eq!(receipts(&world, &conversation).await, 1);

    // Different ones are a few events, however many they are.
    let begin = Instant::now();
    let mut asked = Vec::new();
    for round in 0..50 {
        let mark = up_to(&conversation, said[round % 20]);
        asked.push((said[round % 20], phone.ask("markRead", &mark).await));
    }
    for (wanted, ack) in asked {
        let answer = phone.answer(ack).await;
        assert!(answer["data"]["readSeq"].as_u64().is_some_and(|read| read >= wanted), "{answer}");
    }
    let most = 3 + u64::try_from(begin.elapsed().as_millis()).expect("a while") / 200;
    let stored = receipts(&world, &conversation).await;
    assert!(stored <= most, "{stored} events, at most {most} expected");
    assert_eq!(marks(&ana, &conversation, &ben).await, (said[19], said[19]));
    let heard: Vec<u64> =
        hers.drain("messagesRead").await.iter().map(|read| read["readSeq"].as_u64().unwrap_or(0)).collect();
    assert_eq!(heard.len() as u64, stored, "each event is pushed once");
    assert!(heard.is_sorted() && heard.last() == Some(&said[19]), "{heard:?}");
    other.stop().await.expect("a clean stop");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_only_moves_forward_on_whatever_instance() {
    // Nobody projects anything: the log alone knows.
    let world = World::with_roles(GATEWAY).await;
    let (ana, ben, conversation) = world.pair().await;
    let said = say(&ana, &conversation, 5).await;
    let first = ana.get(&format!("/api/messages/{conversation}")).await.1["items"][0]["id"].clone();
    let path = format!("/api/conversations/{conversation}/read");
    let (status, marked) = ben.post(&path, &json!({ "upTo": said[3] })).await;
    assert_eq!((status, &marked["readSeq"], &marked["deliveredSeq"]), (200, &json!(said[3]), &json!(said[3])));

    // One that has never heard of the conversation.
    let other = world.another(GATEWAY).await;
    let there = ben.at(other.address);
    for lower in [json!(said[1]), first.clone(), json!(0)] {
        let (status, marked) = there.post(&path, &json!({ "upTo": lower })).await;
        assert_eq!((status, &marked["readSeq"]), (200, &json!(said[3])), "up to {lower}");
    }
    let (_, marked) =
        there.post(&format!("/api/conversations/{conversation}/delivered"), &json!({ "upTo": first })).await;
    assert_eq!(marked["deliveredSeq"], said[3], "what is read was delivered");
    assert_eq!(receipts(&world, &conversation).await, 1);

    let (_, marked) = there.post(&format!("/api/conversations/{conversation}/delivered"), &json!({})).await;
    assert_eq!((&marked["readSeq"], &marked["deliveredSeq"]), (&json!(said[3]), &json!(said[4])));
    assert_eq!(marks(&ana, &conversation, &ben).await, (said[3], said[4]));
    let (_, marked) = ben.post(&path, &json!({})).await;
    assert_eq!(marked["readSeq"], said[4]);
    assert_eq!(marks(&ana.at(other.address), &conversation, &ben).await, (said[4], said[4]));
    other.stop().await.expect("a clean stop");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_another_instance_has_just_stored_can_be_marked() {
    let world = World::start().await;
    let other = world.another(GATEWAY).await;
    let (ana, ben, conversation) = world.pair().await;
    let mut his = ben.at(other.address).socket().await;
    for number in 0..20 {
        let sent = ana.say(&conversation, &number.to_string()).await;
        let wanted = if number % 2 == 0 { sent["seq"].clone() } else { sent["id"].clone() };
        let answer = his.call("markDelivered", &up_to(&conversation, wanted)).await;
        assert_eq!(answer["data"]["deliveredSeq"], sent["seq"], "{answer}");
    }
    other.stop().await.expect("a clean stop");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_hides_receipts_is_seen_where_they_were_before() {
    let world = World::start().await;
    let other = world.another(Roles::ALL).await;
    let (ana, ben, conversation) = world.pair().await;
    let said = say(&ana, &conversation, 3).await;
    let cursor = ana.get("/api/sync").await.1["cursor"].as_str().expect("a cursor").to_owned();
    let (mut hers, mut phone) = (ana.socket().await, ben.socket().await);
    let mut tablet = ben.at(other.address).socket().await;
    phone.call("markRead", &up_to(&conversation, said[0])).await;
    let preferences = "/api/users/me/preferences";
    assert_eq!(ben.patch(preferences, &json!({ "hideReadReceipts": true })).await.0, 200);

    assert_eq!(phone.call("markRead", &up_to(&conversation, said[1])).await["data"]["readSeq"], said[1]);
    assert_eq!(tablet.next("messagesRead").await["readSeq"], said[0]);
    let hidden = tablet.next("messagesRead").await;
    assert_eq!((&hidden["readSeq"], &hidden["hidden"]), (&json!(said[1]), &json!(true)), "his own devices know");
    assert_eq!(phone.call("markDelivered", &up_to(&conversation, said[2])).await["ok"], true);
    assert_eq!(hers.next("messagesDelivered").await["deliveredSeq"], said[2], "that it came is not hidden");
    assert_eq!(marks(&ana, &conversation, &ben).await, (said[0], said[2]));
    assert_eq!(marks(&ben.at(other.address), &conversation, &ben).await.0, said[1], "he knows better");

    assert_eq!(ben.patch(preferences, &json!({ "hideReadReceipts": false })).await.0, 200);
    assert_eq!(marks(&ana, &conversation, &ben).await.0, said[0], "what was hidden stays hidden");
    phone.call("markRead", &up_to(&conversation, said[2])).await;
    assert_eq!(marks(&ana, &conversation, &ben).await, (said[2], said[2]));

    // Live and by resume, she heard the same.
    let live: Vec<Value> = hers.drain("messagesRead").await;
    let mut later = ana.at(other.address).resume(&cursor).await;
    later.next("synced").await;
    let resumed: Vec<Value> = later.drain("messagesRead").await;
    let seqs = |all: &[Value]| all.iter().map(|read| read["readSeq"].clone()).collect::<Vec<_>>();
    assert_eq!(
        (seqs(&live), seqs(&resumed)),
        (vec![json!(said[0]), json!(said[2])], vec![json!(said[0]), json!(said[2])])
    );
    other.stop().await.expect("a clean stop");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn marks_that_cannot_be_are_refused_with_their_reason() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    let cleo = world.person("Cleo").await;
    let elsewhere = cleo.open(&[&ana]).await;
    let said = say(&ana, &conversation, 1).await;
    let foreign = cleo.say(&elsewhere, "not here").await;
    let mut his = ben.socket().await;
    let cases = [
        (json!(seq(&foreign) + 1_000), "mark_beyond_head"),
        (json!(said[0] + 1), "mark_beyond_head"),
        (foreign["id"].clone(), "unknown_message"),
        (json!("msg_00000000000000000000000007"), "unknown_message"),
        (json!("nonsense"), "malformed_id"),
        (json!(""), "malformed_id"),
        (json!(ben.id), "malformed_id"),
        (json!(-1), "malformed_up_to"),
        (json!(1.5), "malformed_up_to"),
        (json!(true), "malformed_up_to"),
        (json!([said[0]]), "malformed_up_to"),
        (json!({ "seq": said[0] }), "malformed_up_to"),
    ];
    for (wrong, reason) in cases {
        for event in ["markRead", "markDelivered"] {
            let answer = his.call(event, &up_to(&conversation, wrong.clone())).await;
            assert_eq!((&answer["ok"], &answer["error"]["reason"]), (&json!(false), &json!(reason)), "{event} {wrong}");
        }
        for mark in ["read", "delivered"] {
            let path = format!("/api/conversations/{conversation}/{mark}");
            let (status, refused) = ben.post(&path, &json!({ "upTo": wrong })).await;
            let expected = if reason == "unknown_message" { 404 } else { 400 };
            assert_eq!((status, &refused["reason"]), (expected, &json!(reason)), "{mark} {wrong}");
        }
    }
    let mut hers = cleo.socket().await;
    for event in ["markRead", "markDelivered"] {
        let answer = hers.call(event, &up_to(&conversation, said[0])).await;
        assert_eq!(answer["error"]["reason"], "not_a_participant");
        let claimed = json!({ "conversationId": conversation, "userId": ana.id });
        assert_eq!(his.call(event, &claimed).await["error"]["reason"], "identity_mismatch");
        assert_eq!(his.call(event, &json!({})).await["error"]["reason"], "missing_field");
    }
    let path = format!("/api/conversations/{conversation}/read");
    let (status, refused) = cleo.post(&path, &json!({})).await;
    assert_eq!((status, &refused["reason"]), (403, &json!("not_a_participant")));
    assert_eq!(ben.post("/api/conversations/nonsense/read", &json!({})).await.1["reason"], "malformed_id");
    assert_eq!(receipts(&world, &conversation).await, 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_marks_everything_means_what_was_acknowledged_before() {
    let world = World::with(GATEWAY, &[]).await;
    let (ana, ben, conversation) = world.pair().await;
    let path = format!("/api/conversations/{conversation}/delivered");
    // The instance hears of its own messages from the log a moment after their sender.
    for _ in 0..100 {
        let said = say(&ana, &conversation, 1).await;
        let (status, marked) = ben.post(&path, &json!({})).await;
        assert_eq!((status, marked["deliveredSeq"].as_u64()), (200, Some(said[0])), "{marked}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_back_is_told_of_marks() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    let said = say(&ana, &conversation, 2).await;
    let cursor = ana.get("/api/sync").await.1["cursor"].as_str().expect("a cursor").to_owned();
    let path = |mark: &str| format!("/api/conversations/{conversation}/{mark}");
    assert_eq!(ben.post(&path("delivered"), &json!({})).await.0, 200);
    assert_eq!(ben.post(&path("read"), &json!({ "upTo": said[0] })).await.0, 200);
    let mut later = ana.resume(&cursor).await;
    assert_eq!(later.next("messagesDelivered").await["deliveredSeq"], said[1]);
    let read = later.next("messagesRead").await;
    assert_eq!((&read["userId"], &read["readSeq"]), (&json!(ben.id), &json!(said[0])));
    assert_eq!(read["hidden"], Value::Null);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_a_client_acknowledges_is_delivered() {
    const MANY: usize = 300;
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    let mut hers = ana.socket().await;
    let mut his = Raw::connect_with(world.rest.address, &json!({ "token": ben.token, "deliveryAcks": true })).await;
    his.next("synced").await;

    let mut asked = Vec::new();
    for chunk in (0..MANY).collect::<Vec<_>>().chunks(100) {
        let mut sends = Vec::new();
        for number in chunk {
            sends.push(hers.ask("sendMessage", &message(&conversation, &number.to_string())).await);
        }
        for ack in sends {
            assert_eq!(hers.answer(ack).await["ok"], true);
        }
    }
    let mut last = 0;
    for _ in 0..MANY {
        let (data, number) = loop {
            let (event, data, number) = his.event_to_acknowledge().await.expect("a message");
            match event.as_str() {
                "message" => break (data, number),
                // Nothing else is asked about.
                _ => assert_eq!(number, None, "{event}"),
            }
        };
        last = seq(&data);
        asked.extend(number.map(|number| (number, last)));
    }
    assert_eq!(asked.len(), 256, "no more than that are asked about at once");
    assert_eq!(marks(&ana, &conversation, &ben).await, (0, 0), "nothing was acknowledged");

    let (number, newest) = *asked.last().expect("some");
    assert!(newest < last);
    his.acknowledge(number).await;
    assert_eq!(hers.next("messagesDelivered").await["deliveredSeq"], newest);
    assert_eq!(marks(&ana, &conversation, &ben).await, (0, newest));
    // An answer makes room for a question; older ones change nothing.
    his.acknowledge(asked[0].0).await;
    let sent = ana.say(&conversation, "once more").await;
    let number = loop {
        let (event, data, number) = his.event_to_acknowledge().await.expect("a message");
        if event == "message" {
            assert_eq!(data["id"], sent["id"]);
            break number.expect("it is asked about");
        }
    };
    his.acknowledge(number).await;
    assert_eq!(hers.next("messagesDelivered").await["deliveredSeq"], sent["seq"]);
    assert_eq!(receipts(&world, &conversation).await, 2);

    // Nobody confirms what they said themselves.
    ben.say(&conversation, "from Ben").await;
    loop {
        let (event, data, number) = his.event_to_acknowledge().await.expect("a message");
        if event == "message" {
            assert_eq!((&data["text"], number), (&json!("from Ben"), None));
            break;
        }
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_somebody_blocked_is_not_confirmed_by_itself() {
    let world = World::start().await;
    let (ana, ben, cleo) = (world.person("Ana").await, world.person("Ben").await, world.person("Cleo").await);
    let group = json!({ "kind": "group", "participants": [ben.id, cleo.id] });
    let (_, group) = ana.post("/api/conversations", &group).await;
    let group = group["id"].as_str().expect("a group");
    assert_eq!(cleo.put(&format!("/api/users/me/blocks/{}", ana.id)).await.0, 204);
    let mut hers = ana.socket().await;
    let mut cleos = Raw::connect_with(world.rest.address, &json!({ "token": cleo.token, "deliveryAcks": true })).await;
    cleos.next("synced").await;
    let mut last = 0;
    for sender in [&ana, &ben] {
        last = seq(&sender.say(group, "hello").await);
        let number = loop {
            let (event, data, number) = cleos.event_to_acknowledge().await.expect("a message");
            if event == "message" && seq(&data) == last {
                break number.expect("it is asked about");
            }
        };
        cleos.acknowledge(number).await;
    }
    // She says that she has what Ben has said, and with it all before; of Ana's message alone she says nothing.
    assert_eq!(hers.next("messagesDelivered").await["deliveredSeq"], last);
    assert_eq!(receipts(&world, group).await, 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_marks_than_a_user_may_make_are_refused() {
    const OTHERS: usize = 10;
    let world = World::with(Roles::ALL, &[("USER_SENDS_PER_SECOND", "1")]).await;
    let ben = world.person("Ben").await;
    let mut conversations = Vec::new();
    for _ in 0..OTHERS {
        let other = world.person("Ana").await;
        let conversation = other.open(&[&ben]).await;
        other.say(&conversation, "hello").await;
        conversations.push((other, conversation));
    }
    let mut last = 0;
    for (other, conversation) in &conversations {
        last = seq(&other.say(conversation, "again").await);
    }
    let mut his = ben.socket().await;
    let (mut made, mut refused) = (0, None);
    'marks: for place in 1..last {
        for (_, conversation) in &conversations {
            let answer = his.call("markRead", &up_to(conversation, place)).await;
            if answer["ok"] != true {
                refused = Some(answer["error"].clone());
                break 'marks;
            }
            made += 1;
        }
    }
    let refused = refused.expect("an end to it");
    assert_eq!((&refused["reason"], refused["retryAfterMs"].is_u64()), (&json!("too_many_sends"), true), "{refused}");
    assert!(made >= 20, "five marks count as one message: {made}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_socket_asks_while_the_broker_hangs_has_a_bound() {
    let tenant = servers::tenant().await;
    let link = Proxy::to(&tenant.nats_url).await;
    let tenant = Tenant { nats_url: link.url(), ..tenant };
    let world = World::on(tenant, Roles::ALL, &[]).await;
    let (ana, ben, conversation) = world.pair().await;
    let said = say(&ana, &conversation, 2).await;
    let mut socket = ben.socket().await;
    // The instance knows where everybody is; from here on a mark only needs the log to take it.
    let marked = socket.call("markRead", &up_to(&conversation, said[0])).await;
    assert_eq!(marked["ok"], true, "{marked}");
    link.stall();
    let mut numbers = Vec::new();
    for wave in [100, 100, 55, 301] {
        for _ in 0..wave {
            numbers.push(socket.ask("markRead", &up_to(&conversation, said[1])).await);
        }
        if numbers.len() < 256 {
            // Answered in its turn and at once: all the marks so far wait for the broker, none for its turn.
            let here = socket.call("setPresence", &json!({ "status": "online" })).await;
            assert_eq!(here["ok"], true, "{here}");
        }
    }
    // 256 wait for the broker, 256 for their turn, perhaps one in between; the last is refused while no other is answered.
    let last = socket.answer(numbers.pop().expect("a number")).await;
    assert_eq!((&last["error"]["reason"], &last["error"]["retryable"]), (&json!("too_many_in_flight"), &json!(true)));
    link.heal();
    let mut refused = 1;
    for number in numbers {
        let answer = socket.answer(number).await;
        if answer["ok"] == true {
            assert_eq!(answer["data"]["readSeq"], said[1], "{answer}");
        } else {
            assert_eq!(answer["error"]["reason"], "too_many_in_flight", "{answer}");
            refused += 1;
        }
    }
    assert!((43..=44).contains(&refused), "{refused} were refused");
    assert_eq!(marks(&ana, &conversation, &ben).await.0, said[1]);
    world.stop().await;
}
