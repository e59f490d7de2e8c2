//! Claims: an attachment belongs to one message for ever, and what came to nothing keeps nobody from it.

use futures_util::future::join_all;
use mongodb::bson::{DateTime, Document, doc};
use reqwest::Method;
use serde_json::{Value, json};
use shoptalk::app::Roles;
use shoptalk::domain::message::id_of;
use shoptalk::domain::words::ClientMessageId;

use super::{download, get, id, path, send, sent, uploaded, with};
use crate::drills::evidence::database;
use crate::support::client::Person;
use crate::support::messages::{call, shown};
use crate::support::until;
use crate::support::world::World;

/// A message that nobody has ever said.
const NEVER: &str = "msg_00000000000000000000000007";

fn reason((status, failure): &(u16, Value)) -> (u16, &str) {
    (*status, failure["reason"].as_str().unwrap_or_default())
}

fn seconds_ago(seconds: i64) -> DateTime {
    DateTime::from_millis(DateTime::now().timestamp_millis() - seconds * 1_000)
}

/// Changes the record of an attachment by hand.
async fn set(world: &World, attachment: &Value, change: Document) {
    let records = database(&world.tenant).await.collection::<Document>("attachments");
    let done = records.update_one(doc! { "_id": id(attachment) }, doc! { "$set": change }).await.expect("an answer");
    assert_eq!(done.matched_count, 1);
}

/// What an instance leaves that dies between claiming an attachment and saying the message.
async fn claim(world: &World, attachment: &Value, conversation: &str, message: &str, seconds: i64) {
    let claim = doc! { "conversationId": conversation, "messageId": message, "claimedAt": seconds_ago(seconds) };
    set(world, attachment, claim).await;
}

async fn claimed_by(world: &World, attachment: &Value) -> Option<String> {
    let records = database(&world.tenant).await.collection::<Document>("attachments");
    let record = records.find_one(doc! { "_id": id(attachment) }).await.expect("an answer").expect("a record");
    record.get_str("messageId").ok().map(str::to_owned)
}

fn named(conversation: &str, name: &str, attachments: &[&Value]) -> Value {
    let mut message = with(conversation, "", attachments);
    message["clientMessageId"] = json!(name);
    message
}

/// The id that a send has by its client's name for it.
fn id_by(person: &Person, conversation: &str, name: &str) -> String {
    let (conversation, sender) = (conversation.parse().expect("an id"), person.id.parse().expect("an id"));
    id_of(conversation, sender, &ClientMessageId::new(name).expect("a name")).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_all_who_send_an_attachment_at_once_one_has_it() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    let other = world.another(Roles { gateway: true, worker: false }).await;
    let there = ana.at(other.address);
    for round in 0..4 {
        let one = uploaded(&ana, "one.txt", format!("round {round}").as_bytes()).await;
        let two = uploaded(&ana, "two.txt", format!("and {round}").as_bytes()).await;
        // The first is wanted by all, in both orders with one that is wanted by half of them.
        let sends = (0..8).map(|number| {
            let who = if number % 2 == 0 { &ana } else { &there };
            let (one, two, conversation) = (&one, &two, &conversation);
            async move {
                let both: &[&Value] = if number % 3 == 0 { &[two, one] } else { &[one] };
                send(who, conversation, "mine", both).await
            }
        });
        let answers = join_all(sends).await;
        let won: Vec<&Value> = answers.iter().filter(|(status, _)| *status == 201).map(|(_, sent)| sent).collect();
        let lost = answers.iter().filter(|answer| reason(answer) == (409, "attachment_in_use")).count();
        assert!(won.len() <= 1 && won.len() + lost == 8, "{answers:#?}");
        // Those who want both may keep each other from it; then it is free, and nobody has it by halves.
        let winner = match won.first() {
            Some(winner) => (*winner).clone(),
            None => sent(&ana, &conversation, "mine", &[&one]).await,
        };
        assert_eq!(reason(&send(&there, &conversation, "mine", &[&one]).await), (409, "attachment_in_use"));
        let both = winner["attachments"].as_array().is_some_and(|all| all.len() == 2);
        assert_eq!(claimed_by(&world, &one).await.as_deref(), winner["id"].as_str());
        assert_eq!(claimed_by(&world, &two).await.is_some(), both);
        let kept = world.history(&ben, &conversation, round + 1).await;
        assert_eq!(kept.len(), round + 1, "one message has it");
    }
    other.stop().await.expect("a clean stop");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_send_that_is_repeated_is_the_same_message_with_the_same_attachments() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    let other = world.another(Roles { gateway: true, worker: false }).await;
    let there = ana.at(other.address);
    let (one, two) = (uploaded(&ana, "one.txt", b"one").await, uploaded(&ana, "two.txt", b"two").await);
    let message = named(&conversation, "c-1", &[&one, &two]);
    let answers = join_all([&ana, &there, &ana, &there].map(|who| who.post("/api/messages", &message))).await;
    for (status, sent) in &answers {
        assert_eq!(
            (*status, &sent["id"], &sent["attachments"]),
            (201, &answers[0].1["id"], &json!([one, two])),
            "{sent}"
        );
    }
    // Later, over a socket, and when what it brings is said to be something else.
    world.history(&ben, &conversation, 1).await;
    let mut socket = there.socket().await;
    let again = socket.call("sendMessage", &named(&conversation, "c-1", &[])).await;
    assert_eq!(again["ok"], false, "a message says something: {again}");
    for attachments in [&[&one, &two][..], &[&two], &[&json!({ "id": "att_00000000000000000000000007" })]] {
        let again = socket.call("sendMessage", &named(&conversation, "c-1", attachments)).await;
        assert_eq!(again["data"]["id"], answers[0].1["id"], "{again}");
    }
    assert_eq!(shown(&ben, &conversation, &answers[0].1["id"]).await["attachments"], json!([one, two]));
    assert_eq!(world.history(&ben, &conversation, 1).await.len(), 1);
    assert_eq!(claimed_by(&world, &two).await.as_deref(), answers[0].1["id"].as_str());
    assert!(download(&ben, &two).await == b"two");
    other.stop().await.expect("a clean stop");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_claimed_for_a_message_that_never_was_can_be_had_again() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    let one = uploaded(&ana, "one.txt", b"one").await;
    claim(&world, &one, &conversation, NEVER, 5).await;
    // It may still be on its way: nobody else gets it meanwhile, and it is its uploader's.
    assert_eq!(reason(&send(&ana, &conversation, "", &[&one]).await), (409, "attachment_in_use"));
    assert_eq!(claimed_by(&world, &one).await.as_deref(), Some(NEVER));
    assert!(download(&ana, &one).await == b"one");
    assert_eq!(get(&ben, &path(&one), &[]).await.status, 404);
    assert_eq!(reason(&call(&ana, Method::DELETE, &path(&one), None).await), (409, "attachment_in_use"));

    // After a minute it will not come any more. Two that were left by different messages go along.
    let two = uploaded(&ana, "two.txt", b"two").await;
    claim(&world, &one, &conversation, NEVER, 61).await;
    claim(&world, &two, &conversation, "msg_00000000000000000000000008", 61).await;
    let message = sent(&ana, &conversation, "", &[&one, &two]).await;
    for attachment in [&one, &two] {
        assert_eq!(claimed_by(&world, attachment).await.as_deref(), message["id"].as_str());
    }
    assert!(download(&ben, &one).await == b"one");

    // The same send again, by the same name: what it left is its own at once.
    let three = uploaded(&ana, "three.txt", b"three").await;
    let name = id_by(&ana, &conversation, "c-9");
    claim(&world, &three, &conversation, &name, 0).await;
    assert_eq!(reason(&send(&ana, &conversation, "", &[&three]).await), (409, "attachment_in_use"));
    let (status, message) = ana.post("/api/messages", &named(&conversation, "c-9", &[&three])).await;
    assert_eq!((status, &message["id"]), (201, &json!(name)), "{message}");
    assert_eq!(world.history(&ben, &conversation, 2).await.len(), 2);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_said_keeps_what_it_brings_though_nobody_has_confirmed_it() {
    // Nobody projects.
    let world = World::with_roles(Roles { gateway: true, worker: false }).await;
    let (ana, ben, conversation) = world.pair().await;
    let one = uploaded(&ana, "one.txt", b"one").await;
    let message = sent(&ana, &conversation, "", &[&one]).await;
    set(&world, &one, doc! { "claimedAt": seconds_ago(3_600) }).await;
    assert_eq!(reason(&send(&ana, &conversation, "", &[&one]).await), (409, "attachment_in_use"));
    assert_eq!(claimed_by(&world, &one).await.as_deref(), message["id"].as_str());
    assert!(download(&ben, &one).await == b"one", "it is there for whoever sees the message");
    assert_eq!(shown(&ben, &conversation, &message["id"]).await["attachments"], json!([one]));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resend_that_fails_takes_nothing_from_what_is_said() {
    // Nobody projects, so that nobody has confirmed anything.
    let world = World::with_roles(Roles { gateway: true, worker: false }).await;
    let (ana, ben, conversation) = world.pair().await;
    let one = uploaded(&ana, "one.txt", b"one").await;
    let (status, message) = ana.post("/api/messages", &named(&conversation, "c-1", &[&one])).await;
    assert_eq!(status, 201, "{message}");
    let unknown = json!({ "id": "att_00000000000000000000000007" });
    for both in [[&one, &unknown], [&unknown, &one]] {
        let (_, again) = ana.post("/api/messages", &named(&conversation, "c-1", &both)).await;
        assert_eq!(again["id"], message["id"], "{again}");
        assert_eq!(claimed_by(&world, &one).await.as_deref(), message["id"].as_str());
    }
    assert!(download(&ben, &one).await == b"one");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stored_message_brings_is_its_own_whoever_has_given_it_back() {
    let world = World::with_roles(Roles { gateway: true, worker: false }).await;
    let (ana, ben, conversation) = world.pair().await;
    let one = uploaded(&ana, "one.txt", b"one").await;
    let message = sent(&ana, &conversation, "", &[&one]).await;
    let records = database(&world.tenant).await.collection::<Document>("attachments");
    let unset = doc! { "$unset": { "messageId": "", "conversationId": "", "claimedAt": "", "attempts": "" } };
    records.update_one(doc! { "_id": id(&one) }, unset).await.expect("an answer");
    let worker = world.another(Roles { gateway: false, worker: true }).await;
    world.history(&ben, &conversation, 1).await;
    let owner = async || claimed_by(&world, &one).await;
    assert_eq!(until("its claim", owner, Option::is_some).await.as_deref(), message["id"].as_str());
    assert!(download(&ben, &one).await == b"one");
    worker.stop().await.expect("a clean stop");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_has_all_of_its_attachments_or_claims_none() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    let (one, used) = (uploaded(&ana, "one.txt", b"one").await, uploaded(&ana, "used.txt", b"used").await);
    let foreign = uploaded(&ben, "his.txt", b"his").await;
    let first = sent(&ana, &conversation, "", &[&used]).await;
    let unknown = json!({ "id": "att_00000000000000000000000007" });
    for (other, expected) in [
        (&foreign, (404, "unknown_attachment")),
        (&unknown, (404, "unknown_attachment")),
        (&used, (409, "attachment_in_use")),
    ] {
        for both in [[&one, other], [other, &one]] {
            assert_eq!(reason(&send(&ana, &conversation, "", &both).await), expected);
            assert_eq!(claimed_by(&world, &one).await, None);
        }
    }
    assert_eq!(claimed_by(&world, &foreign).await, None);
    assert_eq!(claimed_by(&world, &used).await.as_deref(), first["id"].as_str());
    // What cannot be said claims nothing either.
    let mut refused = with(&conversation, "", &[&one]);
    refused["replyTo"] = json!(NEVER);
    assert_eq!(reason(&ana.post("/api/messages", &refused).await), (404, "unknown_message"));
    assert_eq!(claimed_by(&world, &one).await, None);
    // What its uploader takes back is gone.
    assert_eq!(call(&ana, Method::DELETE, &path(&one), None).await.0, 204);
    assert_eq!(get(&ana, &path(&one), &[]).await.status, 404);
    assert_eq!(reason(&send(&ana, &conversation, "", &[&one]).await), (404, "unknown_attachment"));
    assert_eq!(world.history(&ben, &conversation, 1).await.len(), 1);
    world.stop().await;
}
