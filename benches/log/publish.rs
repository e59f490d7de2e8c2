//! The publisher of this code against plain publishes to the bare broker.
//!
//! Both sides have a stream with the same settings, in accounts of their own, and the same payload, subjects and
//! `Nats-Msg-Id` on each publish: what is stored is worth the same. Both are driven by the same loop, in which each of the
//! senders waits for its answer before it sends again.

use std::time::{Duration, Instant};

use async_nats::jetstream;
use async_nats::jetstream::message::PublishMessage;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use shoptalk::broker::publish::Publisher;
use shoptalk::domain::clock::Clock;
use shoptalk::domain::event::{Body, Event, VERSION};
use shoptalk::domain::ids::{ConversationId, UserId};
use shoptalk::domain::message::{Kind, Message};
use shoptalk::lifecycle::Lifecycle;

use super::disk;
use super::servers::Servers;
use super::table::{Figures, Pair, Row, Wanted};

const ROUNDS: usize = 5;
const SENDERS: usize = 256;
const WARM_UP: Duration = Duration::from_millis(300);
const WINDOW: Duration = Duration::from_secs(2);
/// Conversations that are written to in turn.
const CONVERSATIONS: usize = 64;

/// What came of a window.
struct Driven {
    per_second: f64,
    p50_us: f64,
}

pub async fn measure(servers: &Servers) -> Vec<Row> {
    let (ours, bare) = (servers.tenant(), servers.tenant());
    let lifecycle = Lifecycle::new();
    let publisher = ours.broker().await.publisher(&lifecycle);
    // Made by the same code, so that both streams have the same settings.
    bare.broker().await.close().await;
    let bare = bare.jetstream().await;
    let people = People::new();
    let bytes = serde_json::to_vec(&people.event(0)).expect("JSON").len();
    println!("publish: events of {bytes} bytes, {ROUNDS} rounds of {} s each", WINDOW.as_secs());

    let mut rows = Vec::new();
    for (senders, figure, unit, wanted) in [
        (SENDERS, "256 senders, each waits: acks, against 256 in flight", "1/s", Wanted::AtLeast(4.0)),
        (1, "one sender alone: p50 of an ack, against a bare publish", "us", Wanted::AtMost(1.3)),
    ] {
        let mut pair = Pair::new();
        for round in 0..ROUNDS {
            // Whoever is first has the quieter disk or the colder one; so they take turns.
            let (first, second) = if round % 2 == 0 {
                let against = plain(&bare, &people, senders).await;
                (through(&publisher, &people, senders).await, against)
            } else {
                let ours = through(&publisher, &people, senders).await;
                (ours, plain(&bare, &people, senders).await)
            };
            let figure = |driven: &Driven| if senders == 1 { driven.p50_us } else { driven.per_second };
            pair.ours.push(figure(&first));
            pair.against.push(figure(&second));
            println!(
                "  {senders:>3} senders, round {}: ours {:>7.0}/s, p50 {:>6.0} us; bare {:>7.0}/s, p50 {:>6.0} us",
                round + 1,
                first.per_second,
                first.p50_us,
                second.per_second,
                second.p50_us
            );
        }
        rows.push(Row { figure, unit, wanted, figures: Figures::Beside(pair) });
    }
    lifecycle.end();
    rows
}

/// Publishes through the group commit.
async fn through(publisher: &Publisher, people: &People, senders: usize) -> Driven {
    drive(senders, |number| {
        let pending = publisher.enqueue(&people.event(number), None);
        async move {
            let stored = pending.expect("there is room in line").stored().await.expect("stored");
            assert!(!stored.duplicate, "each is a new one");
        }
    })
    .await
}

/// Publishes one by one to the bare broker.
async fn plain(jetstream: &jetstream::Context, people: &People, senders: usize) -> Driven {
    let payload = Bytes::from(serde_json::to_vec(&people.event(0)).expect("JSON"));
    drive(senders, |number| {
        let publish = PublishMessage::build()
            .payload(payload.clone())
            .message_id(Clock::System.fresh_id::<shoptalk::domain::ids::MessageTag>().to_string());
        let subject = format!("chat.{}.message", people.conversation(number));
        async move {
            let ack = jetstream.send_publish(subject, publish).await.expect("sent").await.expect("stored");
            assert!(!ack.duplicate, "each is a new one");
        }
    })
    .await
}

/// Keeps this many under way: a warm-up that does not count, then a window that does.
async fn drive<F>(senders: usize, send: impl Fn(usize) -> F) -> Driven
where
    F: Future<Output = ()>,
{
    let timed = |number: usize| {
        let begin = Instant::now();
        let sending = send(number);
        async move {
            sending.await;
            begin.elapsed()
        }
    };
    let from = Instant::now() + WARM_UP;
    let until = from + WINDOW;
    let mut times = disk::micros();
    let mut number = senders;
    let mut under_way: FuturesUnordered<_> = (0..senders).map(timed).collect();
    while let Some(took) = under_way.next().await {
        let now = Instant::now();
        if now >= until {
            continue;
        }
        if now >= from {
            times.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        }
        under_way.push(timed(number));
        number += 1;
    }
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let (count, p50) = (times.len() as f64, times.value_at_quantile(0.5) as f64);
    Driven { per_second: count / WINDOW.as_secs_f64(), p50_us: p50 }
}

/// Two users with many conversations.
struct People {
    users: [UserId; 2],
    conversations: Vec<ConversationId>,
}

impl People {
    fn new() -> Self {
        let conversations = (0..CONVERSATIONS).map(|_| Clock::System.fresh_id()).collect();
        Self { users: [Clock::System.fresh_id(), Clock::System.fresh_id()], conversations }
    }

    fn conversation(&self, number: usize) -> ConversationId {
        self.conversations[number % CONVERSATIONS]
    }

    /// A message of 100 characters.
    fn event(&self, number: usize) -> Event {
        let now = Clock::System.now();
        let message = Message {
            id: Clock::System.fresh_id(),
            conversation_id: self.conversation(number),
            sender_id: self.users[0],
            sender_name: "Ana".into(),
            kind: Kind::Text,
            text: format!("{number:>100}"),
            reply_to: None,
            mentions: Vec::new(),
            attachments: Vec::new(),
            entry: None,
            client_message_id: None,
            created_at: now,
        };
        Event {
            id: Clock::System.fresh_id(),
            version: VERSION,
            actor: self.users[0],
            occurred_at: now,
            recipients: self.users.to_vec(),
            body: Body::Message(message),
        }
    }
}
