//! What orders may not do to others: fill the dead letters, leave a letter twice, come in too large a piece, or take the room
//! that the log keeps for what follows from it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::jetstream;
use futures_util::future::join_all;
use serde_json::{Value, json};
use shoptalk::app::Roles;
use shoptalk::broker;
use shoptalk::broker::consume::{Handler, Raw, Verdict};
use shoptalk::broker::topology::Durable;
use shoptalk::command::directory::Directory;
use shoptalk::command::preferences::Preferred;
use shoptalk::consumer::deciding::Deciding;
use shoptalk::consumer::orders::{Means, Orders};
use shoptalk::domain::clock::Clock;
use shoptalk::lifecycle::Lifecycle;
use shoptalk::store::Store;
use tokio_util::sync::CancellationToken;

use crate::http::metric;
use crate::support::commerce::{Commerce, Told, head, letters, settled, told};
use crate::support::until;
use crate::support::world::World;

const GATEWAY: Roles = Roles { gateway: true, worker: false };
/// The smallest log there is; DEAD and ORDERS have an eighth of it each.
const TINY: (&str, &str) = ("EVENTS_MAX_BYTES", "1048576");

async fn log_of(world: &World) -> jetstream::Context {
    jetstream::new(world.tenant.broker().await)
}

/// Puts an event into the log that nobody can read.
async fn poison(log: &jetstream::Context) {
    let subject = "chat.cnv_00000000000000000000000000.message";
    log.publish(subject, "not json".into()).await.expect("sent").await.expect("stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_of_orders_give_way_and_nobody_is_stopped() {
    let world = World::with(Roles::ALL, &[TINY]).await;
    let ana = world.person("Ana").await;
    let (log, commerce) = (log_of(&world).await, Commerce::of(&world.tenant).await);
    poison(&log).await;
    settled(&world.tenant).await;
    // Far more letters than there is room for.
    let mut last = 0;
    for _ in 0..10 {
        let wrong = (0..80).map(|_| commerce.publish("orders.A-1.paid", &[], b"?".to_vec()));
        last = join_all(wrong).await.into_iter().fold(last, u64::max);
    }
    let order = Told { order: "A-17", event: "created", number: 0, customer: &ana.id, seller: None };
    commerce.tell(&order).await;
    poison(&log).await;
    settled(&world.tenant).await;
    assert_eq!(told(&ana).await, [("A-17".to_owned(), "created".to_owned())], "order handling goes on");
    let letters = letters(&world.tenant).await;
    let of =
        |reason: &str| letters.iter().filter(|(_, why, _)| why == reason).map(|(seq, ..)| *seq).collect::<Vec<_>>();
    assert_eq!(of("undecodable_event").len(), 4, "those of others stay, and more of them are taken");
    let left = of("not_json");
    let gone = last - left.len() as u64;
    assert!(gone > 0 && left.len() > 50, "{gone} have gone and {} are left", left.len());
    assert!(left.iter().copied().eq(gone + 1..=last), "the oldest have gone: {left:?}");
    let counted = u32::try_from(gone).expect("few");
    assert_eq!(metric(&world.rest, "shoptalk_dead_letters_gone_total").await, Some(counted.into()));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_of_what_is_wrong_leaves_no_second_letter() {
    let mut world = World::start().await;
    let log = log_of(&world).await;
    let dead = log.get_stream("DEAD").await.expect("the stream");
    // What the broker would recognise by an id, it has forgotten soon.
    let mut forgetful = dead.cached_info().config.clone();
    forgetful.duplicate_window = Duration::from_millis(100);
    log.update_stream(&forgetful).await.expect("another window");
    let commerce = Commerce::of(&world.tenant).await;
    let stranger = Told { order: "A-1", event: "paid", number: 1, customer: "nobody", seller: None };
    commerce.tell(&stranger).await;
    commerce.publish("orders.A-1.paid", &[], b"?".to_vec()).await;
    commerce.publish("orders.A-1.paid.now", &[], b"?".to_vec()).await;
    poison(&log).await;
    settled(&world.tenant).await;
    let before = letters(&world.tenant).await;
    assert_eq!(before.len(), 5, "{before:?}");
    world.app.take().expect("it runs").stop().await.expect("a clean stop");
    let known = async || {
        let probe = jetstream::message::PublishMessage::build().message_id("probe");
        log.send_publish("dead.probe", probe).await.expect("sent").await.expect("stored").duplicate
    };
    known().await;
    until("an id is forgotten", known, |known| !known).await;
    dead.purge().filter("dead.probe").await.expect("removed");

    // As for a broker whose consumers were lost.
    for (stream, consumer) in [("ORDERS", "orders"), ("EVENTS", "persist"), ("EVENTS", "notify")] {
        log.delete_consumer_from_stream(consumer, stream).await.expect("deleted");
    }
    let again = world.another(Roles::ALL).await;
    settled(&world.tenant).await;
    assert_eq!(letters(&world.tenant).await, before);
    again.stop().await.expect("a clean stop");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_hears_that_the_orders_are_full_and_when_there_is_room() {
    let world = World::with(GATEWAY, &[TINY]).await;
    let shop = world.tenant.commerce().await;
    let publish = async || -> Value {
        let answer = shop.request("orders.A-1.paid", vec![b'?'; 8_000].into()).await.expect("an answer");
        serde_json::from_slice(&answer.payload).expect("JSON")
    };
    let refused = until("a full stream", publish, |answer| answer.get("error").is_some()).await;
    assert_eq!(
        refused["error"],
        json!({ "code": 503, "err_code": 10077, "description": "maximum bytes exceeded" }),
        "as nats/README.md says"
    );
    let worker = world.another(Roles { gateway: false, worker: true }).await;
    until("room", publish, |answer| answer["stream"] == "ORDERS" && answer.get("error").is_none()).await;
    worker.stop().await.expect("a clean stop");
    world.stop().await;
}

/// Notes the bytes of its batches; the first one waits.
struct Scales {
    go: CancellationToken,
    batches: Arc<Mutex<Vec<usize>>>,
}

impl Handler for Scales {
    type Given = Raw;

    async fn handle(&self, batch: &[Raw]) -> Vec<Verdict> {
        self.go.cancelled().await;
        let bytes = batch.iter().map(|raw| raw.payload.len()).sum();
        self.batches.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
        batch.iter().map(|_| Verdict::Done).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_orders_is_no_larger_than_the_database_takes() {
    const EACH: usize = 60_000;
    const ALL: usize = 250;
    let world = World::with(GATEWAY, &[("EVENTS_MAX_BYTES", "134217728")]).await;
    let commerce = Commerce::of(&world.tenant).await;
    for _ in 0..ALL / 10 {
        join_all((0..10).map(|_| commerce.publish("orders.A-1.paid", &[], vec![b' '; EACH]))).await;
    }
    let broker = broker::connect(&world.config.broker).await.expect("the broker");
    let broker = broker.attach().await.expect("the streams");
    let (lifecycle, go, batches) = (Lifecycle::new(), CancellationToken::new(), Arc::<Mutex<Vec<usize>>>::default());
    broker.consume(Durable::Orders, &lifecycle, Scales { go: go.clone(), batches: batches.clone() });
    let orders = log_of(&world).await.get_stream("ORDERS").await.expect("the stream");
    let in_hand = async || orders.consumer_info("orders").await.expect("its state").num_ack_pending;
    until("about as many in hand as a batch takes", in_hand, |count| count * EACH > 6 << 20).await;
    go.cancel();
    let seen = async || batches.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let seen = until("everything", seen, |seen| seen.iter().sum::<usize>() >= ALL * EACH).await;
    assert!(seen.iter().all(|bytes| *bytes <= (8 << 20) + EACH), "{seen:?}");
    assert_eq!(seen.iter().sum::<usize>(), ALL * EACH, "each once");
    lifecycle.drain();
    lifecycle.finished(Duration::from_secs(10)).await;
    lifecycle.end();
    broker.close().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn order_events_wait_while_the_log_is_full() {
    let world = World::with(GATEWAY, &[]).await;
    let (ana, ben, _) = world.pair().await;
    // For this one the log was full with the first event.
    let mut tight = world.config.broker.clone();
    tight.events_max_bytes = 1;
    let store = Store::connect(&world.config.store).await.expect("the database");
    let lifecycle = Lifecycle::new();
    let mut verdicts = Vec::new();
    for config in [&tight, &world.config.broker] {
        let broker = broker::connect(config).await.expect("the broker").attach().await.expect("the streams");
        broker.look().await.expect("the log");
        let preferred = Preferred::new(broker.clone(), store.clone());
        let directory = Directory::new(broker.clone(), store.clone());
        let means = Means {
            publisher: broker.publisher(&lifecycle),
            deciding: Deciding::new(directory.clone(), preferred.clone(), Arc::new(|_| None)),
            store: store.clone(),
            directory,
            preferred,
            clock: Clock::System,
            opens: false,
        };
        let told = Told { order: "A-17", event: "paid", number: 0, customer: &ana.id, seller: Some(&ben.id) };
        let payload = told.json().to_string().into_bytes().into();
        let raw = Raw { seq: 1, subject: told.subject(), headers: async_nats::HeaderMap::new(), payload };
        let before = head(&world.tenant, "EVENTS").await;
        let verdict = Orders::new(means).expect("the schema").handle(&[raw]).await.pop();
        verdicts.push((verdict, head(&world.tenant, "EVENTS").await - before));
        broker.close().await;
    }
    let [(Some(Verdict::Retry { why, .. }), 0), (Some(Verdict::Done), 2)] = verdicts.as_slice() else {
        panic!("{verdicts:?}");
    };
    assert!(why.reason() == "log_full" && why.transient(), "it waits, however long that takes: {why}");
    lifecycle.end();
    world.stop().await;
}
