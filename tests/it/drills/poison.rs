//! Drill: events that cannot be read, make no sense, or make a handler panic, among good ones.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream;
use serde_json::Value;
use shoptalk::broker;
use shoptalk::broker::consume::{Delivery, Handler, Verdict};
use shoptalk::broker::topology::Durable;
use shoptalk::command::directory::Directory;
use shoptalk::command::preferences::Preferred;
use shoptalk::consumer::deciding::Deciding;
use shoptalk::consumer::notify::Notify;
use shoptalk::consumer::persist::Persist;
use shoptalk::domain::clock::Clock;
use shoptalk::domain::event::Body;
use shoptalk::lifecycle::Lifecycle;
use shoptalk::store::Store;

use super::actor::Pace;
use super::canary::Canary;
use super::checker::violation;
use super::cluster::{Cluster, Shape};
use super::drill::{Drill, within};
use super::evidence;
use super::load::Load;
use super::vitals::Vitals;

/// Whatever is said with it makes the handler of this drill panic.
const MARK: &str = "this one is poison";
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_set_aside_and_the_rest_goes_on() {
    let mut drill = Drill::begin("poison", "undecodable and schema-wrong among good ones").await;
    let cluster = Cluster::start("poison", Shape { instances: 2, ..Shape::default() }).await;
    let mut load = Load::listen(&cluster, drill.seed).await;
    let canary = Canary::hatch(&cluster).await;
    load.others.extend(canary.people());
    let before = Vitals::of(&cluster).await;
    load.talk(Pace { think: drill.pick(40, 10), ..Pace::default() });
    let log = evidence::broker(cluster.tenant()).await;
    let subject = format!("chat.{}.message", load.conversations[3]);
    let poison: [&[u8]; 5] = [
        b"\xff\xfe not even text",
        b"{\"id\":",
        b"",
        br#"{"id":"evt_00000000000000000000000001","version":1,"type":"message","data":{"text":7}}"#,
        br#"{"id":"evt_00000000000000000000000001","version":1,"type":"nonsense","data":{}}"#,
    ];
    let (good, times) = drill.pick((500, 4), (5_000, 20));
    for _ in 0..times {
        load.acked(good / times, Duration::from_mins(2)).await;
        for payload in poison {
            let stored = log.publish(subject.clone(), payload.to_vec().into()).await.expect("sent").await;
            stored.expect("the log takes anything");
        }
    }
    load.hush().await;
    // Both consumers read messages, so each sets each of them aside.
    let expected = 2 * times * poison.len();
    let letters = || async { letters(&log).await.len() };
    within(PATIENCE, "every poisonous event among the dead letters", letters, |count| *count >= expected).await;
    canary.sings(&cluster, Duration::from_secs(15), &mut drill).await;
    let letters = self::letters(&log).await;
    let mut violations = Vec::new();
    if letters.len() != expected {
        violations.push(violation("dead letters", format!("{} instead of {expected}", letters.len())));
    }
    for (reason, payload) in letters {
        if reason != "undecodable_event" || !poison.contains(&payload.as_slice()) {
            violations.push(violation("dead letters", format!("{reason}: {}", String::from_utf8_lossy(&payload))));
        }
    }
    let (record, late) = load.end(&cluster).await;
    violations.extend(late);
    violations.extend(before.compare(&cluster, &mut drill).await);
    drill.end(&record, violations);
}

/// The real handler, but for what is marked.
struct Brittle(Persist);

impl Handler for Brittle {
    type Given = Delivery;

    async fn handle(&self, batch: &[Delivery]) -> Vec<Verdict> {
        for delivery in batch {
            if let Body::Message(message) = &delivery.stored.event.body {
                assert!(!message.text.contains(MARK), "a handler that panics, as this drill wants it");
            }
        }
        self.0.handle(batch).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_a_handler_panic_is_set_aside_and_can_be_replayed() {
    let mut drill = Drill::begin("poison, panicking", "a handler panics over some of many").await;
    // Only gateways: the one worker is within this test.
    let shape = Shape { instances: 2, roles: Some("gateway"), ..Shape::default() };
    let cluster = Cluster::start("panic", shape).await;
    let config = cluster.config();
    let store = Store::connect(&config.store).await.expect("the database");
    let broker = broker::connect(&config.broker).await.expect("the broker");
    let broker = broker.provision(&config.broker, 0).await.expect("the topology");
    let lifecycle = Lifecycle::new();
    let directory = Directory::new(broker.clone(), store.clone());
    let deciding = Deciding::new(directory, Preferred::new(broker.clone(), store.clone()), Arc::new(|_| None));
    broker.consume(Durable::Persist, &lifecycle, Brittle(Persist::new(store)));
    let notify = Notify::new(broker.clone(), broker.publisher(&lifecycle), Clock::System, deciding);
    broker.consume(Durable::Notify, &lifecycle, notify);

    let mut load = Load::listen(&cluster, drill.seed).await;
    load.talk(Pace { think: 30, ..Pace::default() });
    let mut marked = Vec::new();
    for _ in 0..drill.pick(5, 50) {
        load.acked(drill.pick(20, 100), Duration::from_mins(1)).await;
        let sent = load.people[0].say(&load.conversations[3], MARK).await;
        marked.push(sent["id"].as_str().expect("an id").to_owned());
    }
    load.hush().await;
    let log = evidence::broker(cluster.tenant()).await;
    let letters = || async { self::letters(&log).await.len() };
    within(PATIENCE, "what panics among the dead letters", letters, |count| *count >= marked.len()).await;
    for (reason, payload) in self::letters(&log).await {
        let event: Value = serde_json::from_slice(&payload).expect("the original");
        let id = event["data"]["id"].as_str().unwrap_or_default();
        assert!(reason == "internal" && marked.iter().any(|one| one == id), "{reason}: {event}");
    }

    // Whoever has mended the handler plays them again.
    let replayed = cluster.command().args(["dead", "replay", "--all"]).output().await.expect("it runs");
    let said = [replayed.stdout.as_slice(), &replayed.stderr].concat();
    assert!(replayed.status.success(), "{}", String::from_utf8_lossy(&said));
    within(PATIENCE, "no dead letters", letters, |count| *count == 0).await;
    let (record, violations) = load.end(&cluster).await;
    for id in &marked {
        assert!(record.messages.iter().any(|kept| kept.id == *id), "{id} is in MongoDB");
    }
    drill.note(format!("{} were replayed", marked.len()));
    lifecycle.drain();
    lifecycle.finished(Duration::from_secs(10)).await;
    lifecycle.end();
    broker.close().await;
    drill.end(&record, violations);
}

/// The dead letters: reason and original.
async fn letters(log: &jetstream::Context) -> Vec<(String, Vec<u8>)> {
    let stream = log.get_stream("DEAD").await.expect("the dead letters");
    let state = stream.cached_info().state.clone();
    let mut letters = Vec::new();
    for seq in state.first_sequence..=state.last_sequence {
        let Ok(letter) = stream.get_raw_message(seq).await else { continue };
        let reason = letter.headers.get("Shoptalk-Reason").map(ToString::to_string).unwrap_or_default();
        letters.push((reason, letter.payload.to_vec()));
    }
    letters
}
