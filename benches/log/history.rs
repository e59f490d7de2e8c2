//! Long conversations: a page of a history of 100,000 messages, against the same page of one of 1,000.
//!
//! The messages are written into the database directly: what is measured is how they are read.

use std::time::{Duration, Instant};

use mongodb::bson::{DateTime, Document, doc};
use shoptalk::domain::ids::MessageId;

use super::instance::Instance;
use super::servers::Servers;
use super::table::{Figures, Pair, Row, Wanted};

const ROUNDS: usize = 9;
/// Readings of one round.
const READINGS: u32 = 10;
const LONG: u64 = 100_000;
const SHORT: u64 = 1_000;
/// Documents of one insert.
const AT_ONCE: usize = 10_000;

/// What is read, and how its path goes on, with a message id in the place of the star.
const PAGES: [(&str, &str); 4] = [
    ("the newest page of 100,000 messages, against 1,000", ""),
    ("a page in the middle of them", "&before=*"),
    ("a page in the middle of them, forwards", "&after=*"),
    ("a jump to a message in the middle", "&around=*"),
];

pub async fn measure(servers: &Servers) -> Vec<Row> {
    let tenant = servers.tenant();
    let client = mongodb::Client::with_uri_str(&tenant.mongodb_uri).await.expect("the database");
    let database = client.database(&tenant.database);
    let instance = Instance::start(&tenant, "gateway,worker").await;
    let (ana, ben, cleo) = (instance.person("ana").await, instance.person("ben").await, instance.person("cleo").await);
    let (long, short) = (instance.conversation(&ana, &ben).await, instance.conversation(&ana, &cleo).await);
    let messages = database.collection::<Document>("messages");
    for (conversation, behind, count) in [(&long, 0, LONG), (&short, LONG, SHORT)] {
        fill(&messages, conversation, &ana.id, behind, count).await;
        name_last(&database, conversation, behind, count).await;
    }
    println!("history: {LONG} and {SHORT} messages, {ROUNDS} rounds of {READINGS} readings");
    let mut pairs = PAGES.map(|_| Pair::new());
    for _ in 0..ROUNDS {
        for ((_, query), pair) in PAGES.iter().zip(&mut pairs) {
            let path = |conversation: &str, middle: u64| {
                let middle = MessageId::from_bits(u128::from(middle)).to_string();
                format!("/api/messages/{conversation}?limit=50{}", query.replace('*', &middle))
            };
            pair.ours.push(read(&instance, &path(&long, LONG / 2), &ana.token).await);
            pair.against.push(read(&instance, &path(&short, LONG + SHORT / 2), &ana.token).await);
        }
    }
    instance.end().await;
    let row =
        |((figure, _), pair)| Row { figure, unit: "us", wanted: Wanted::AtMost(2.0), figures: Figures::Beside(pair) };
    PAGES.into_iter().zip(pairs).map(row).collect()
}

/// The time of one reading, in microseconds.
async fn read(instance: &Instance, path: &str, token: &str) -> f64 {
    let mut took = Duration::ZERO;
    for _ in 0..READINGS {
        let begin = Instant::now();
        let (status, page) = instance.get(path, token).await;
        took += begin.elapsed();
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&page));
    }
    took.as_secs_f64() * 1e6 / f64::from(READINGS)
}

/// Names the last message, once the conversation is there.
async fn name_last(database: &mongodb::Database, conversation: &str, behind: u64, count: u64) {
    let id = MessageId::from_bits(u128::from(behind + count)).to_string();
    let last = doc! { "id": id, "seq": i64::try_from(count + 10).unwrap_or(i64::MAX) };
    let conversations = database.collection::<Document>("conversations");
    loop {
        let named = doc! { "$set": { "lastMessage": &last } };
        if conversations.update_one(doc! { "_id": conversation }, named).await.expect("named").matched_count > 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn fill(messages: &mongodb::Collection<Document>, conversation: &str, sender: &str, behind: u64, count: u64) {
    let written: Vec<Document> = (1..=count)
        .map(|number| {
            doc! {
                "_id": MessageId::from_bits(u128::from(behind + number)).to_string(),
                "conversationId": conversation,
                "seq": i64::try_from(number + 10).unwrap_or(i64::MAX),
                "senderId": sender,
                "senderName": "ana",
                "kind": "text",
                "text": format!("{number:>100}"),
                "createdAt": DateTime::from_millis(1_700_000_000_000),
            }
        })
        .collect();
    for part in written.chunks(AT_ONCE) {
        messages.insert_many(part).await.expect("written");
    }
}
