//! Whatever three people do from two instances, their inboxes are what the whole log says, counted from scratch.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;
use shoptalk::app::Roles;
use shoptalk::broker::topology::StreamName;
use shoptalk::domain::clock::{Clock, random_bits};
use shoptalk::domain::event::{Body, Stored};
use shoptalk::domain::ids::UserId;
use shoptalk::domain::inbox::{Counts, Inbox};
use shoptalk::operate;

use crate::support::client::Person;
use crate::support::world::World;

/// What is done, about.
const STEPS: usize = 60;

/// The whole log.
async fn log(world: &World) -> Vec<Stored> {
    let broker = operate::attach(&world.config).await.expect("the broker");
    let head = broker.head().await.expect("its end");
    let mut reading = broker.scan(StreamName::Events, Vec::new(), 1, head).await.expect("a reading");
    let mut events = Vec::new();
    loop {
        let batch = reading.batch(1_000).await.expect("a batch");
        if batch.is_empty() {
            break;
        }
        events.extend(batch.iter().map(|entry| entry.event().expect("an event")));
    }
    reading.close().await;
    broker.close().await;
    events
}

fn user(person: &Person) -> UserId {
    person.id.parse().expect("an id")
}

/// The inbox after everything up to a place.
fn recounted(user: UserId, log: &[Stored], upto: u64) -> Inbox {
    let mut inbox = Inbox::new(user);
    log.iter().filter(|stored| stored.seq <= upto).for_each(|stored| inbox.apply(stored));
    inbox
}

async fn ids(person: &Person) -> Vec<String> {
    let (status, page) = person.get("/api/notifications?limit=200").await;
    assert_eq!(status, 200, "{page}");
    page["items"].as_array().expect("a page").iter().map(|one| one["id"].as_str().expect("an id").to_owned()).collect()
}

/// Somebody does something somewhere.
async fn step(random: &mut StdRng, people: &[[Person; 2]], conversations: &[String]) {
    let whose = random.random_range(0..people.len());
    let person = &people[whose][random.random_range(0..2)];
    let conversation = conversations.choose(random).expect("conversations");
    // What wakes at different times says that it is the first of them.
    let days = random.random_range(30..60);
    let later = Clock::System.now().plus_seconds(days * 86_400).to_string();
    let until = if random.random_bool(0.5) { "2020-01-01T00:00:00Z" } else { later.as_str() };
    let (path, mut body) = match random.random_range(0..12) {
        0..3 => ("/api/messages".to_owned(), json!({ "conversationId": conversation, "text": "hello" })),
        3 | 4 => {
            let named = &people.choose(random).expect("people")[0].id;
            ("/api/messages".to_owned(), json!({ "conversationId": conversation, "text": "you", "mentions": [named] }))
        }
        5 | 6 => (format!("/api/conversations/{conversation}/read"), json!({})),
        7 => ("/api/notifications/seen".to_owned(), json!({ "all": true })),
        8 | 9 => ("/api/notifications/read".to_owned(), json!({ "all": true })),
        10 => ("/api/notifications/archive".to_owned(), json!({ "all": true, "archived": random.random_bool(0.7) })),
        _ => ("/api/notifications/snooze".to_owned(), json!({ "all": true, "until": until })),
    };
    if body["all"] == true
        && random.random_bool(0.8)
        && let Some(one) = ids(person).await.choose(random)
    {
        body["ids"] = json!([one]);
        body["all"] = json!(false);
    }
    let (status, done) = person.post(&path, &body).await;
    assert!(status < 300, "{path} {body}: {status} {done}");
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_and_lists_are_what_the_log_says() {
    let seed = u64::try_from(random_bits() >> 96).expect("32 bits");
    let mut random = StdRng::seed_from_u64(seed);
    let world = World::start().await;
    let other = world.another(Roles::ALL).await;
    let mut people = Vec::new();
    for name in ["Ana", "Ben", "Cleo"] {
        let person = world.person(name).await;
        people.push([person.clone(), person.at(other.address)]);
    }
    let [ana, ben, cleo] = [0, 1, 2].map(|place| &people[place][0]);
    let conversations = [ana.open(&[ben]).await, ana.open(&[ben, cleo]).await, ben.open(&[cleo, ana]).await];
    let everybody = &conversations[1..];
    let now = Clock::System.now();
    for number in 0..STEPS {
        step(&mut random, &people, everybody).await;
        // Somebody asks in the middle of it, wherever.
        let person = &people.choose(&mut random).expect("people")[random.random_range(0..2)];
        let (status, counts) = person.get("/api/notifications/unread-count").await;
        assert_eq!(status, 200, "{counts}");
        let counts: Counts = serde_json::from_value(counts).expect("counts");
        let inbox = recounted(user(person), &log(&world).await, counts.seq);
        assert_eq!(counts, inbox.counts(now, counts.seq), "seed {seed}, step {number}: {}", person.id);
    }
    let log = log(&world).await;
    for stored in &log {
        if let Body::NotificationState(state) = &stored.event.body {
            let mut inbox = recounted(state.user_id, &log, state.counts.seq);
            inbox.change(stored.seq, state);
            assert_eq!(state.counts, inbox.counts(now, state.counts.seq), "seed {seed}: told at {}", stored.seq);
        }
    }
    settled(&world).await;
    let log = self::log(&world).await;
    for person in people.iter().flatten() {
        let inbox = recounted(user(person), &log, u64::MAX);
        let mut wanted: Vec<(u64, String, u32)> = inbox
            .entries
            .iter()
            .filter(|(_, entry)| inbox.standing(entry, now).is_some_and(|standing| standing.is_listed()))
            .map(|(id, entry)| (entry.newest.map_or(0, |newest| newest.seq), id.to_string(), inbox.count(entry)))
            .collect();
        wanted.sort_unstable_by_key(|(seq, ..)| std::cmp::Reverse(*seq));
        let (_, page) = person.get("/api/notifications?limit=200").await;
        let found: Vec<(u64, String, u32)> = page["items"]
            .as_array()
            .expect("a page")
            .iter()
            .map(|one| {
                let text = one["id"].as_str().expect("an id").to_owned();
                (
                    one["seq"].as_u64().expect("a seq"),
                    text,
                    u32::try_from(one["count"].as_u64().expect("a count")).expect("small"),
                )
            })
            .collect();
        assert_eq!(found, wanted, "seed {seed}: {}", person.id);
    }
    other.stop().await.expect("a clean stop");
    world.stop().await;
}

/// Waits until every message has been worked off: what is told of the last ones is in the log.
async fn settled(world: &World) {
    let log = async_nats::jetstream::new(world.tenant.broker().await);
    let events = log.get_stream("EVENTS").await.expect("the stream");
    let left = async || {
        let mut consumer: async_nats::jetstream::consumer::PullConsumer =
            events.get_consumer("notify").await.expect("it is there");
        let info = consumer.info().await.expect("its state");
        info.num_pending + info.num_ack_pending as u64
    };
    crate::support::until("everything told", left, |left| *left == 0).await;
}
