//! Order events that no client can read: they stop nobody, and somebody hears of them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::jetstream;
use serde_json::json;
use shoptalk::broker;
use shoptalk::broker::consume::{Handler, Raw, Verdict};
use shoptalk::broker::topology::Durable;
use shoptalk::lifecycle::Lifecycle;

use crate::operate::shoptalk;
use crate::support::commerce::{Scribe, Told, letters, settled};
use crate::support::servers;
use crate::support::until;
use crate::support::world::{World, config};

const GOOD: &[u8] = b"NATS/1.0\r\nce-id: 1\r\n\r\n";

/// The reason of its letter, its subject, and its headers.
type Published<'a> = (&'static str, &'a [u8], Option<&'a [u8]>);

/// Does everything, and notes what.
struct Noting(Arc<Mutex<Vec<String>>>);

impl Handler for Noting {
    type Given = Raw;

    async fn handle(&self, batch: &[Raw]) -> Vec<Verdict> {
        let mut noted = self.0.lock().expect("notes");
        noted.extend(batch.iter().map(|raw| format!("{} {}", raw.subject, String::from_utf8_lossy(&raw.payload))));
        batch.iter().map(|_| Verdict::Done).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_client_can_read_is_set_aside_and_no_connection_of_others_is_lost() {
    let tenant = servers::tenant().await;
    let config = config(&tenant).broker;
    let broker = broker::connect(&config).await.expect("the broker").provision(&config, 0).await.expect("its streams");
    let (lifecycle, done) = (Lifecycle::new(), Arc::<Mutex<Vec<String>>>::default());
    let connections = broker.connections();
    until("the first connection", async || *connections.borrow(), |count| *count == 1).await;
    broker.consume(Durable::Orders, &lifecycle, Noting(done.clone()));
    let mut scribe = Scribe::of(&tenant).await;

    let headers = "malformed_headers";
    let subject = "wrong_subject";
    let poison: [Published<'_>; 11] = [
        (headers, b"orders.A-1.created", Some(b"NATS/1.0\r\nbad name: x\r\n\r\n")),
        (headers, b"orders.A-1.created", Some("NATS/1.0\r\nnáme: x\r\n\r\n".as_bytes())),
        (headers, b"orders.A-1.created", Some(b"NATS/1.0\r\nno colon\r\n\r\n")),
        (headers, b"orders.A-1.created", Some(b"NATS/1.0\r\nce-id: \xff\r\n\r\n")),
        (headers, b"orders.A-1.created", Some(b"HTTP/1.1 200 OK\r\n\r\n")),
        (subject, b"orders.A\xff1.created", None),
        (subject, b"orders.A\xff1.created", Some(GOOD)),
        (subject, "orders.A\u{a0}1.created".as_bytes(), Some(GOOD)),
        (subject, "orders.A\u{2003}1.created".as_bytes(), Some(GOOD)),
        (subject, "orders.A\u{b}1.created".as_bytes(), Some(GOOD)),
        (subject, "orders.A\u{c}1.created".as_bytes(), Some(GOOD)),
    ];
    // Strange, but nothing that cannot be delivered.
    let odd: [(&str, Option<&[u8]>); 4] = [
        ("orders.A\u{a0}1.created", None),
        ("orders.ž.created", Some(GOOD)),
        ("orders.A-1.created", Some(b"NATS/1.0 200 OK\r\n:nameless\r\n\r\n")),
        ("orders.A-1.created", Some(b"NATS/1.0\nce-id: \xc5\xbe\n  folded\n\n")),
    ];
    let (mut seq, mut wanted, mut good) = (0, Vec::new(), Vec::new());
    for (number, (reason, poisonous, headers)) in poison.into_iter().enumerate() {
        let (subject, strange) = odd[number % odd.len()];
        scribe.publish(subject.as_bytes(), strange, format!("{number}").as_bytes()).await;
        good.push(format!("{subject} {number}"));
        scribe.publish(poisonous, headers, b"poison").await;
        seq += 2;
        wanted.push((seq, reason.to_owned()));
    }
    // This one is alone: over it the client panics.
    let fatal: &[u8] = b"NATS/1.0\r\nce-id: a\rb\r\n\r\n";
    for headers in [None, Some(fatal)] {
        if headers.is_some() {
            scribe.publish(b"orders.A-1.created", headers, b"poison").await;
            seq += 1;
            wanted.push((seq, "malformed_headers".to_owned()));
        }
        let name = format!("behind-{seq}");
        scribe.publish(b"orders.A-2.created", Some(GOOD), name.as_bytes()).await;
        seq += 1;
        good.push(format!("orders.A-2.created {name}"));
        let found =
            async || letters(&tenant).await.into_iter().map(|(seq, reason, _)| (seq, reason)).collect::<Vec<_>>();
        until("a letter of each", found, |found| *found == wanted).await;
        let noted = async || {
            let mut noted = done.lock().expect("notes").clone();
            noted.sort();
            // What was on its way when the connection was lost comes again.
            noted.dedup();
            noted
        };
        good.sort();
        until("all the others are done", noted, |noted| *noted == good).await;
        settled(&tenant).await;
    }
    assert_eq!(*connections.borrow(), 1, "everybody else is still connected as they were");

    let log = jetstream::new(tenant.broker().await);
    let orders = log.get_stream("ORDERS").await.expect("ORDERS");
    assert_eq!(orders.cached_info().state.messages, good.len() as u64, "nothing comes again");
    let floor = orders.consumer_info("orders").await.expect("its state").ack_floor.stream_sequence;
    assert_eq!(floor, seq, "what is done can be trimmed");
    lifecycle.drain();
    assert!(lifecycle.finished(Duration::from_secs(10)).await);
    lifecycle.end();
    broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn people_talk_on_over_poisoned_orders_whose_letters_can_be_read_and_replayed() {
    let world = World::start().await;
    let (ana, ben, here) = world.pair().await;
    let mut socket = ben.socket().await;
    let mut scribe = Scribe::of(&world.tenant).await;
    let told = |order, number| Told { order, event: "created", number, customer: &ana.id, seller: Some(&ben.id) };
    let (front, lost, behind) = (told("A-1", 0), told("A-2", 1), told("A-3", 2));
    let payload = |told: &Told<'_>| told.json().to_string().into_bytes();
    scribe.publish(front.subject().as_bytes(), None, &payload(&front)).await;
    let headers = b"NATS/1.0\r\nNats-Msg-Id: evt-2\r\n\x1b[2J: x\r\n\r\n";
    scribe.publish(lost.subject().as_bytes(), Some(headers), &payload(&lost)).await;
    scribe.publish(b"orders.A\xff.created", Some(b"NATS/1.0\r\n\r\n"), b"\xff\x00").await;
    scribe.publish(behind.subject().as_bytes(), None, &payload(&behind)).await;
    let mut said = 0;
    let talk = async || {
        // Refused, or without an answer, it would not come back.
        ana.say(&here, &format!("number {said}")).await;
        said += 1;
        let behind = ana.get("/api/orders/A-3").await.0;
        (letters(&world.tenant).await.len(), behind)
    };
    until("both are set aside, and what is behind them is done", talk, |now| *now == (2, 200)).await;
    for number in 0..said {
        let frame = socket.next("message").await;
        assert_eq!(frame["text"], format!("number {number}"), "{frame}");
    }
    settled(&world.tenant).await;
    assert_eq!((ana.get("/api/orders/A-1").await.0, ana.get("/api/orders/A-2").await.0), (200, 404));

    let listed = shoptalk(&world.tenant, &["dead", "list", "--consumer", "orders", "--json"]).await;
    assert!(listed.good, "{listed:?}");
    let listed: Vec<_> = listed.lines().iter().map(|one| (one["reason"].clone(), one["eventSeq"].clone())).collect();
    assert_eq!(listed, [(json!("malformed_headers"), json!(2)), (json!("wrong_subject"), json!(3))]);
    let shown = shoptalk(&world.tenant, &["dead", "show", "1"]).await.text();
    let published = r"Shoptalk-Raw-Headers: NATS/1.0\r\nNats-Msg-Id: evt-2\r\n\x1b[2J: x\r\n\r\n";
    assert!(shown.lines().any(|line| line == published), "{shown}");
    assert!(shown.lines().any(|line| line == "Shoptalk-Msg-Id: evt-2"), "{shown}");
    assert!(shoptalk(&world.tenant, &["dead", "show", "2"]).await.text().contains(r"\xff\x00"));
    // What could be read of it is enough.
    let replayed = shoptalk(&world.tenant, &["dead", "replay", "1", "2"]).await;
    assert_eq!(replayed.text().lines().next(), Some("1: done"), "{replayed:?}");
    assert!(replayed.text().contains("2: wrong_subject"), "{replayed:?}");
    assert_eq!(ana.get("/api/orders/A-2").await.0, 200);
    assert_eq!(letters(&world.tenant).await.len(), 1);
    world.stop().await;
}
