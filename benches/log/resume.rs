//! Resuming: 1,000 missed messages by `GET /api/sync`, against the plain MongoDB find of the same and its JSON.
//!
//! Whoever missed a message also missed its notification, so both are resumed and both are found. Twice: at the instance
//! that took the messages, and at one that was started after them.

use std::time::{Duration, Instant};

use futures_util::TryStreamExt as _;
use mongodb::bson::{Document, doc};
use serde::Deserialize;
use serde_json::json;

use super::instance::{Instance, Person};
use super::servers::{Servers, Tenant};
use super::table::{Figures, Pair, Row, Wanted};

const ROUNDS: usize = 9;
const MISSED: usize = 1_000;
/// Messages sent at once while they are being made.
const TOGETHER: usize = 50;
const PATIENCE: Duration = Duration::from_secs(30);

/// What is read of a page.
#[derive(Deserialize)]
struct Page<'a> {
    recovered: bool,
    #[serde(borrow)]
    events: Vec<&'a serde_json::value::RawValue>,
    cursor: String,
    more: bool,
}

pub async fn measure(servers: &Servers) -> Vec<Row> {
    let tenant = servers.tenant();
    let warm = Instance::start(&tenant, "gateway,worker").await;
    let (from, to) = (warm.person("from").await, warm.person("to").await);
    let conversation = warm.conversation(&from, &to).await;
    let cursor = cursor_now(&warm, &to).await;
    for number in (0..MISSED).step_by(TOGETHER) {
        let said = |number: usize| json!({ "conversationId": conversation, "text": format!("{number:>100}") });
        let bodies: Vec<_> = (number..number + TOGETHER).map(said).collect();
        let sending = bodies.iter().map(|body| warm.post("/api/messages", &from.token, body));
        futures_util::future::join_all(sending).await;
    }
    let database = database(&tenant).await;
    let begin = Instant::now();
    while find_and_encode(&database, &conversation, &to).await.1 < 2 * MISSED {
        assert!(begin.elapsed() < PATIENCE, "what was sent does not get into MongoDB");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let cold = Instance::start(&tenant, "gateway").await;
    println!("resume: {MISSED} messages and their notifications, {ROUNDS} rounds");
    let (mut here, mut later) = (Pair::new(), Pair::new());
    for round in 0..ROUNDS {
        let Some(cursor) = &cursor else { break };
        let (against, _) = find_and_encode(&database, &conversation, &to).await;
        let ours = resume(&warm, &to, cursor).await;
        let theirs = resume(&cold, &to, cursor).await;
        println!(
            "  round {}: find {:.1} ms; resume {:.1} ms, at the later instance {:.1} ms",
            round + 1,
            micros(against) / 1e3,
            micros(ours) / 1e3,
            micros(theirs) / 1e3
        );
        for (pair, took) in [(&mut here, ours), (&mut later, theirs)] {
            pair.ours.push(micros(took));
            pair.against.push(micros(against));
        }
    }
    warm.end().await;
    cold.end().await;
    let row = |figure, pair| Row {
        figure,
        unit: "us",
        wanted: Wanted::AtMost(2.0),
        figures: if cursor.is_some() { Figures::Beside(pair) } else { Figures::Unmeasured },
    };
    vec![
        row("resume of 1,000 messages, against find and JSON", here),
        row("the same at an instance that started later", later),
    ]
}

/// The reader's cursor before anything was missed; nothing if this server cannot resume.
async fn cursor_now(instance: &Instance, reader: &Person) -> Option<String> {
    let (status, page) = instance.get("/api/sync", &reader.token).await;
    (status == 200).then(|| serde_json::from_slice::<Page<'_>>(&page).expect("a page").cursor)
}

/// The time of all pages from this cursor on. The connection is open already, as that of the find is.
async fn resume(instance: &Instance, reader: &Person, cursor: &str) -> Duration {
    let (mut cursor, mut count) = (cursor.to_owned(), 0);
    let begin = Instant::now();
    loop {
        let (status, page) = instance.get(&format!("/api/sync?limit=1000&cursor={cursor}"), &reader.token).await;
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&page));
        let page: Page<'_> = serde_json::from_slice(&page).expect("a page");
        assert!(page.recovered, "what was missed is known");
        count += page.events.len();
        if !page.more {
            break;
        }
        cursor = page.cursor;
    }
    let took = begin.elapsed();
    assert!(count >= 2 * MISSED, "only {count} events were told");
    took
}

async fn database(tenant: &Tenant) -> mongodb::Database {
    mongodb::Client::with_uri_str(&tenant.mongodb_uri).await.expect("the database").database(&tenant.database)
}

/// The least that answering takes: indexed finds, and their documents as JSON. Says also how many there were.
async fn find_and_encode(database: &mongodb::Database, conversation: &str, reader: &Person) -> (Duration, usize) {
    let (place, user) = (conversation.parse().expect("an id"), reader.id.parse().expect("an id"));
    let entry = shoptalk::domain::notification::entry_of(place, user);
    let begin = Instant::now();
    let mut count = 0;
    for (collection, filter) in [
        ("messages", doc! { "conversationId": conversation, "seq": { "$gt": 0_i64 } }),
        ("notifications", doc! { "entryId": entry.to_string(), "seq": { "$gt": 0_i64 } }),
    ] {
        let collection = database.collection::<Document>(collection);
        let find = collection.find(filter).sort(doc! { "seq": 1 }).limit(i64::try_from(MISSED).unwrap_or(i64::MAX));
        let found = find.await.expect("a find");
        let documents: Vec<Document> = found.try_collect().await.expect("documents");
        count += documents.len();
        std::hint::black_box(serde_json::to_vec(&documents).expect("JSON"));
    }
    (begin.elapsed(), count)
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
