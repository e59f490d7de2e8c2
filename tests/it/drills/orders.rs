//! Drill: a service of the shop publishes order events, in disorder and many of them twice, while instances are killed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use async_nats::jetstream;
use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::checker::{Violation, violation};
use super::cluster::{Cluster, Shape};
use super::drill::{Drill, within};
use super::evidence;
use crate::support::client::Person;
use crate::support::commerce::{Commerce, Told, head, letters};

/// What a killed instance had in hand comes to another after ten seconds; the rest is work.
const PATIENCE: Duration = Duration::from_mins(4);
/// Events under way at the publisher.
const UNDER_WAY: usize = 64;
const STEPS: [&str; 5] = ["created", "paid", "packed", "shipped", "delivered"];
/// What can be wrong, in turn, and the reason that it ends with.
const WRONG: [&str; 6] =
    ["missing_field", "wrong_type", "wrong_subject", "unknown_customer", "unknown_seller", "not_json"];

/// An order of a customer, at a seller.
struct Order {
    id: String,
    customer: Person,
    seller: Person,
}

impl Order {
    fn told(&self, step: usize) -> Told<'_> {
        let number = u32::try_from(step).expect("few steps");
        let (customer, seller) = (&self.customer.id, Some(self.seller.id.as_str()));
        Told { order: &self.id, event: STEPS[step], number, customer, seller }
    }
}

/// Something to be published: the subject, the payload, and the `Nats-Msg-Id` if it has one.
struct Letter {
    subject: String,
    payload: Vec<u8>,
    id: Option<String>,
    /// What it is refused with.
    wrong: Option<&'static str>,
}

/// Every event of every order, one in five again, and one in a hundred wrong; shuffled.
fn letters_of(orders: &[Order], random: &mut StdRng) -> Vec<Letter> {
    let mut letters = Vec::new();
    for order in orders {
        for step in 0..STEPS.len() {
            let told = order.told(step);
            let payload = told.json().to_string().into_bytes();
            let letter = |id| Letter { subject: told.subject(), payload: payload.clone(), id, wrong: None };
            letters.push(letter(Some(told.id())));
            if random.random_range(0..5) == 0 {
                // The broker recognises one half of those that come again, Shoptalk the other.
                letters.push(letter(random.random_bool(0.5).then(|| told.id())));
            }
        }
    }
    for number in 0..letters.len().div_ceil(100) {
        let told = orders[number % orders.len()].told(1);
        let (mut subject, mut event, reason) = (told.subject(), told.json(), WRONG[number % WRONG.len()]);
        event["id"] = format!("wrong-{number}").into();
        match reason {
            "missing_field" => drop(event["data"].as_object_mut().expect("an object").remove("currency")),
            "wrong_type" => event["data"]["total"] = json!([]),
            "wrong_subject" => subject += ".again",
            "unknown_customer" => event["data"]["customerId"] = "nobody".into(),
            "unknown_seller" => event["data"]["sellerId"] = "nobody".into(),
            _ => {}
        }
        let payload = if reason == "not_json" { b"hello".to_vec() } else { event.to_string().into_bytes() };
        letters.push(Letter { subject, payload, id: None, wrong: Some(reason) });
    }
    letters.shuffle(random);
    letters
}

#[tokio::test(flavor = "multi_thread")]
async fn every_order_event_counts_once_while_instances_are_killed() {
    let mut drill = Drill::begin("orders", "kill -9 while order events come twice and in disorder").await;
    let settings = vec![("ORDERS_OPEN_CONVERSATIONS", "true".to_owned())];
    let mut cluster = Cluster::start("orders", Shape { instances: 2, settings, ..Shape::default() }).await;
    let mut random = StdRng::seed_from_u64(drill.seed);
    let rest = cluster.instances[0].rest();
    let people = join_all((0..drill.pick(8, 24)).map(|number| {
        let rest = rest.clone();
        async move { rest.sign_up(&format!("Person{number}")).await }
    }))
    .await;
    let orders: Vec<Order> = (0..drill.pick(120, 2_000))
        .map(|number| {
            let place = random.random_range(0..people.len());
            let other = (place + random.random_range(1..people.len())) % people.len();
            Order { id: format!("A-{number}"), customer: people[place].clone(), seller: people[other].clone() }
        })
        .collect();
    let published = letters_of(&orders, &mut random);

    // Killed in the middle of what they have in hand, each time at another place.
    let kills = drill.pick(1, 3);
    let commerce = Commerce::of(cluster.tenant()).await;
    let mut wrong: Vec<(u64, String)> = Vec::new();
    let mut killed = Instant::now();
    for (part, some) in published.chunks(published.len().div_ceil(kills + 1)).enumerate() {
        let all = CancellationToken::new();
        let publish = async {
            let mut seqs = Vec::new();
            for few in some.chunks(UNDER_WAY) {
                seqs.extend(
                    join_all(few.iter().map(|one| commerce.send(&one.subject, one.id.as_deref(), &one.payload))).await,
                );
            }
            all.cancel();
            seqs
        };
        let kill = async {
            if part < kills {
                busy(&cluster, &all).await;
                let address = cluster.kill(0).await;
                killed = Instant::now();
                cluster.forget(address);
                cluster.add().await;
            }
        };
        let (seqs, ()) = tokio::join!(publish, kill);
        wrong.extend(some.iter().zip(seqs).filter_map(|(one, seq)| Some((seq, one.wrong?.to_owned()))));
    }
    worked_off(&cluster).await;
    drill.recovered(killed.elapsed());
    let mut violations = examined(&cluster, &orders).await;
    violations.extend(misburied(&cluster, &wrong).await);
    drill.note(format!("{} events, {} of them wrong", published.len(), wrong.len()));

    // All of it again, as for a broker whose consumer was lost.
    let last = head(cluster.tenant(), "EVENTS").await;
    while !cluster.instances.is_empty() {
        assert!(cluster.retire(0).await.1, "an instance ends well");
    }
    let stream = evidence::broker(cluster.tenant()).await.get_stream("ORDERS").await.expect("the stream");
    assert!(stream.delete_consumer("orders").await.expect("deleted").success);
    cluster.add().await;
    worked_off(&cluster).await;
    let after = head(cluster.tenant(), "EVENTS").await;
    if after != last {
        violations.push(violation("replay", format!("{} events came of a replay", after - last)));
    }
    violations.extend(examined(&cluster, &orders).await);
    violations.extend(misburied(&cluster, &wrong).await);
    drill.end_with(published.len(), &violations);
}

/// Waits until an instance has events in hand, or everything was published.
async fn busy(cluster: &Cluster, all: &CancellationToken) {
    let stream = evidence::broker(cluster.tenant()).await.get_stream("ORDERS").await.expect("the stream");
    let in_hand = || async {
        let info = stream.consumer_info("orders").await.expect("its state");
        all.is_cancelled() || (info.num_ack_pending > 0 && info.ack_floor.stream_sequence > 0)
    };
    within(PATIENCE, "an instance with order events in hand", in_hand, |busy| *busy).await;
}

/// Waits until nothing is left to do.
async fn worked_off(cluster: &Cluster) {
    let broker: jetstream::Context = evidence::broker(cluster.tenant()).await;
    for (stream, consumer) in [("ORDERS", "orders"), ("EVENTS", "notify"), ("EVENTS", "persist")] {
        let stream = broker.get_stream(stream).await.expect("the stream");
        let open = || async {
            let info = stream.consumer_info(consumer).await.expect("its state");
            (info.num_pending, info.num_ack_pending)
        };
        within(PATIENCE, &format!("{consumer} without work"), open, |open| *open == (0, 0)).await;
    }
}

/// Where the dead letters are not those of what was wrong, one of each.
async fn misburied(cluster: &Cluster, wrong: &[(u64, String)]) -> Vec<Violation> {
    let mut balance: BTreeMap<(u64, String), i32> = BTreeMap::new();
    for one in wrong {
        *balance.entry(one.clone()).or_default() -= 1;
    }
    for (seq, reason, _) in letters(cluster.tenant()).await {
        *balance.entry((seq, reason)).or_default() += 1;
    }
    let off = balance.into_iter().filter(|(_, surplus)| *surplus != 0);
    off.map(|(one, surplus)| violation("dead letters", format!("{one:?}: {surplus:+}"))).collect()
}

/// What is not as it should be: orders as their customers see them, and what MongoDB has of notifications and entries.
async fn examined(cluster: &Cluster, orders: &[Order]) -> Vec<Violation> {
    let mut violations = Vec::new();
    let address = cluster.instances[0].address;
    let mut wanted: BTreeMap<(String, String, String), usize> = BTreeMap::new();
    for order in orders {
        let (status, shown) = order.customer.at(address).get(&format!("/api/orders/{}", order.id)).await;
        let steps = shown["timeline"].as_array().map(Vec::as_slice).unwrap_or_default();
        let steps = steps.iter().map(|step| step["status"].as_str().unwrap_or_default());
        let conversation = shown["conversationId"].as_str().unwrap_or_default().to_owned();
        let parties = shown["customerId"] == order.customer.id && shown["sellerId"] == order.seller.id;
        if status != 200 || shown["status"] != "delivered" || !steps.eq(STEPS) || !parties || conversation.is_empty() {
            violations.push(violation("order", shown.to_string()));
        }
        for step in STEPS {
            for place in [&order.customer.id, &order.seller.id, &conversation] {
                wanted.insert((place.clone(), order.id.clone(), step.to_owned()), 1);
            }
        }
    }
    let mut found: BTreeMap<(String, String, String), usize> = BTreeMap::new();
    let database = evidence::database(cluster.tenant()).await;
    for (collection, place, about) in [("notifications", "userId", "data"), ("messages", "conversationId", "entry")] {
        for document in evidence::documents(&database, collection).await {
            let word = |document: &mongodb::bson::Document, field: &str| {
                document.get_str(field).unwrap_or_default().to_owned()
            };
            let Ok(about) = document.get_document(about) else { continue };
            *found.entry((word(&document, place), word(about, "orderId"), word(about, "status"))).or_default() += 1;
        }
    }
    for key in wanted.keys().chain(found.keys()).collect::<BTreeSet<_>>() {
        let (wanted, found) = (wanted.get(key).unwrap_or(&0), found.get(key).unwrap_or(&0));
        if wanted != found {
            violations.push(violation("told once", format!("{key:?}: {found} and not {wanted}")));
        }
    }
    // The log has each once too: nobody's socket was told twice.
    let mut ids: BTreeMap<String, usize> = BTreeMap::new();
    for event in evidence::log(cluster.tenant()).await {
        if event.kind == "message" || event.kind == "notification" {
            *ids.entry(event.id).or_default() += 1;
        }
    }
    violations.extend(
        ids.into_iter()
            .filter(|(_, count)| *count > 1)
            .map(|(id, count)| violation("log", format!("{id}: {count} times"))),
    );
    violations
}
