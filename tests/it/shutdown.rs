//! Stopping in good order, and the roles of instances.

use std::time::{Duration, Instant};

use serde_json::json;
use shoptalk::app::Roles;
use shoptalk::domain::ids::{ConversationId, UserId};
use shoptalk::store::Store;
use shoptalk::store::messages::{Sight, Stretch};

use crate::support::until;
use crate::support::world::{World, config, message};

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_tells_the_sockets_and_loses_nothing() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    let (mut hers, mut his) = (ana.socket().await, ben.socket().await);
    let mut acks = Vec::new();
    for number in 0..100 {
        acks.push(hers.ask("sendMessage", &message(&conversation, &number.to_string())).await);
    }
    hers.answer(acks[0]).await;
    let begin = Instant::now();
    let tenant = world.tenant.clone();
    world.stop().await;
    assert!(begin.elapsed() < Duration::from_secs(15), "it did not wait for its deadline");
    // Whatever the server took was answered before it sent its sockets away: stored, or told to come back. What it had
    // not read by then has no answer, and must not be stored either.
    let mut stored = vec!["0".to_owned()];
    for (number, ack) in acks.iter().enumerate().skip(1) {
        let Some(answer) = hers.answer_unless_closed(*ack).await else { continue };
        if answer["ok"] == true {
            stored.push(number.to_string());
        } else {
            assert_eq!(answer["error"]["reason"], "going_away", "{answer}");
        }
    }
    assert_eq!(his.close_code().await, 1012, "going away: come back");

    // Another instance takes over where this one stopped.
    let next = Box::pin(shoptalk::app::App::start(&config(&tenant), Roles::ALL)).await.expect("another instance");
    let ben = ben.at(next.address);
    let path = format!("/api/messages/{conversation}?limit=200");
    let texts = |page: &serde_json::Value| -> Vec<String> {
        let items = page["items"].as_array().cloned().unwrap_or_default();
        items.iter().filter_map(|item| item["text"].as_str().map(str::to_owned)).collect()
    };
    let (_, page) = until(
        "everything acknowledged",
        || ben.get(&path),
        |(status, page): &(u16, serde_json::Value)| *status == 200 && texts(page).len() >= stored.len(),
    )
    .await;
    assert_eq!(texts(&page), stored, "what was acknowledged, each once, in order, and nothing else");

    let dead = async_nats::jetstream::new(tenant.broker().await).get_stream("DEAD").await.expect("the stream");
    assert_eq!(dead.cached_info().state.messages, 0, "a stop is no reason to give up on an event");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_in_mongodb_within_a_second_and_the_rest_once_a_worker_is_back() {
    let world = World::with_roles(Roles { gateway: true, worker: false }).await;
    let worker = world.another(Roles { gateway: false, worker: true }).await;
    let store = Store::connect(&config(&world.tenant).store).await.expect("the database");
    let (ana, _, conversation) = world.pair().await;
    let id: ConversationId = conversation.parse().expect("an id");
    let everything = Sight { user: UserId::from_bits(0), from: 0 };
    let kept = || async { store.messages(id, everything, Stretch::Newest, 0, 200).await.expect("a reading").len() };

    // The promise is for an idle server; here other tests share its two cores, so the quickest of five counts.
    let mut quickest = Duration::MAX;
    for number in 1..=5 {
        ana.say(&conversation, "early").await;
        let begin = Instant::now();
        until("the message in MongoDB", kept, |count| *count == number).await;
        quickest = quickest.min(begin.elapsed());
    }
    assert!(quickest < Duration::from_secs(1), "{quickest:?}");

    worker.stop().await.expect("a clean stop");
    for number in 0..50 {
        ana.say(&conversation, &number.to_string()).await;
    }
    assert_eq!(kept().await, 5, "nobody works on the log");
    let worker = world.another(Roles { gateway: false, worker: true }).await;
    until("everything in MongoDB", kept, |count| *count == 55).await;
    worker.stop().await.expect("a clean stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_serves_its_health_and_nothing_else() {
    let world = World::with_roles(Roles { gateway: false, worker: true }).await;
    let (status, ready) = world.rest.get("/readyz", None).await;
    assert_eq!((status, &ready["status"], &ready["draining"]), (200, &json!("ready"), &json!(false)));
    assert_eq!(world.rest.get("/api/users/me", None).await.0, 404);
}
