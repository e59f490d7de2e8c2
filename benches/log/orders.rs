//! Order events drained by an instance, against a consumer that does nothing but acknowledge them.
//!
//! Both read the same stream, with the same settings of the consumer, one after the other. What is drained by an instance is
//! in MongoDB, in the conversation of customer and seller, and a notification for each of them: three events of the log for
//! each of these.

use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::stream::Stream;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use serde_json::json;

use super::instance::{Instance, Person};
use super::servers::{Servers, Tenant};
use super::table::{Figures, Pair, Row, Wanted};

const ROUNDS: usize = 3;
/// Orders, and events of each.
const ORDERS: usize = 1_000;
const STEPS: [&str; 5] = ["created", "paid", "packed", "shipped", "delivered"];
const EVENTS: usize = ORDERS * STEPS.len();
/// Customers, and as many sellers.
const PEOPLE: usize = 50;
/// Publishes and requests under way.
const AT_ONCE: usize = 256;
const PATIENCE: Duration = Duration::from_mins(2);

pub async fn measure(servers: &Servers) -> Vec<Row> {
    println!("orders: {EVENTS} events of {ORDERS} orders with a conversation each, {ROUNDS} rounds");
    let (mut sent, mut confirmed) = (Pair::new(), Pair::new());
    for round in 0..ROUNDS {
        let tenant = servers.tenant();
        publish(&tenant).await;
        let jetstream = tenant.jetstream().await;
        let stream = jetstream.get_stream("ORDERS").await.expect("the stream");
        let bare = async || (acknowledged(&stream, Ack::Sent).await, acknowledged(&stream, Ack::Confirmed).await);
        let (ours, (fast, sure)) = if round % 2 == 0 {
            let against = bare().await;
            (drained(&tenant, &stream).await, against)
        } else {
            let ours = drained(&tenant, &stream).await;
            (ours, bare().await)
        };
        println!("  round {}: ours {ours:>6.0}/s; bare {fast:>6.0}/s, {sure:>6.0}/s with confirmed acks", round + 1);
        for (pair, against) in [(&mut sent, fast), (&mut confirmed, sure)] {
            pair.ours.push(ours);
            pair.against.push(against);
        }
    }
    let row = |figure, pair| Row { figure, unit: "1/s", wanted: Wanted::AtLeast(0.3), figures: Figures::Beside(pair) };
    vec![
        row("5,000 order events drained, against acks that are only sent", sent),
        row("the same, against acks that are confirmed, one by one", confirmed),
    ]
}

/// How a bare consumer acknowledges.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ack {
    /// Without waiting for anything.
    Sent,
    /// Waiting until the broker has it, before the next.
    Confirmed,
}

/// People, their conversations, and all events, which nobody works on yet.
async fn publish(tenant: &Tenant) {
    let gateway = Instance::start(tenant, "gateway").await;
    let mut people: Vec<Person> = Vec::new();
    for number in 0..2 * PEOPLE {
        people.push(gateway.person(&format!("person{number}")).await);
    }
    let (customers, sellers) = people.split_at(PEOPLE);
    let of = |order: usize| (&customers[order % PEOPLE], &sellers[order / PEOPLE % PEOPLE]);
    let at = &gateway;
    for some in (0..ORDERS).collect::<Vec<_>>().chunks(16) {
        join_all(some.iter().map(|order| async move {
            let (customer, seller) = of(*order);
            let context = json!({ "type": "order", "id": format!("A-{order}") });
            let open = json!({ "recipientId": seller.id, "context": context });
            at.post("/api/conversations", &customer.token, &open).await
        }))
        .await;
    }
    let jetstream = tenant.jetstream().await;
    let jetstream = &jetstream;
    let events: Vec<(usize, &str)> =
        STEPS.iter().flat_map(|step| (0..ORDERS).map(move |order| (order, *step))).collect();
    for some in events.chunks(AT_ONCE) {
        join_all(some.iter().map(|(order, step)| async move {
            let (customer, seller) = of(*order);
            let event = json!({
                "specversion": "1.0", "id": format!("A-{order}-{step}"), "source": "/shop/orders",
                "type": format!("com.example.order.{step}"), "time": "2026-11-22T11:13:22Z",
                "data": {
                    "orderId": format!("A-{order}"), "customerId": customer.id, "sellerId": seller.id,
                    "total": "59.80", "currency": "EUR",
                    "items": [{ "title": "Green tea", "quantity": 2, "price": "29.90" }],
                },
            });
            let stored = jetstream.publish(format!("orders.A-{order}.{step}"), event.to_string().into()).await;
            stored.expect("sent").await.expect("stored");
        }))
        .await;
    }
    gateway.end().await;
}

/// Events in a second by a consumer that only acknowledges, each as it comes.
async fn acknowledged(stream: &Stream, ack: Ack) -> f64 {
    let name = if ack == Ack::Sent { "bare" } else { "bare-confirmed" };
    let config = pull::Config {
        durable_name: Some(name.to_owned()),
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::Explicit,
        max_ack_pending: 6_000,
        ..pull::Config::default()
    };
    let consumer = stream.create_consumer(config).await.expect("a consumer");
    let begin = Instant::now();
    let mut messages = consumer.messages().await.expect("messages");
    for _ in 0..EVENTS {
        let message = messages.next().await.expect("one more").expect("readable");
        match ack {
            Ack::Sent => message.ack().await.expect("sent"),
            Ack::Confirmed => message.double_ack().await.expect("confirmed"),
        }
    }
    until(stream, name, |open| open == (0, 0)).await;
    per_second(begin)
}

/// Events in a second by an instance, from the first delivery to the last acknowledgement.
async fn drained(tenant: &Tenant, stream: &Stream) -> f64 {
    let starting = Instance::start(tenant, "worker");
    let measured = async {
        until(stream, "orders", |(pending, _)| pending < EVENTS as u64).await;
        let begin = Instant::now();
        until(stream, "orders", |open| open == (0, 0)).await;
        per_second(begin)
    };
    let (worker, per_second) = tokio::join!(starting, measured);
    drop(worker);
    per_second
}

/// Waits until what is left fits: how many were not delivered, and how many were not acknowledged.
async fn until(stream: &Stream, consumer: &str, fits: impl Fn((u64, usize)) -> bool) {
    let begin = Instant::now();
    loop {
        let info = stream.consumer_info(consumer).await.expect("its state");
        if fits((info.num_pending, info.num_ack_pending)) {
            return;
        }
        assert!(begin.elapsed() < PATIENCE, "{consumer} does not get ready");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn per_second(begin: Instant) -> f64 {
    EVENTS as f64 / begin.elapsed().as_secs_f64()
}
