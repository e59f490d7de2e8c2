//! Long conversations: whatever is read of one takes a bounded number of keys of an index, however long it is.

use mongodb::bson::{DateTime, Document, doc};
use mongodb::{Client, Database};
use serde_json::Value;
use shoptalk::domain::ids::{ConversationId, MessageId};
use shoptalk::store::messages::{Stretch, pins_query, window_query};
use shoptalk::store::windows::windows;

use crate::support::world::World;

/// Messages of a long conversation.
const LONG: u64 = 100_000;
/// Messages of a short one.
const SHORT: u64 = 1_000;
/// Messages of a page.
const PAGE: u32 = 50;
/// The place before the first of them.
const FIRST: u64 = 10;
/// Those of them that are pinned.
const PINNED: i64 = 20;
/// Documents of one insert.
const AT_ONCE: usize = 10_000;

/// The messages of a conversation, written where they are read from: saying them one by one would take minutes.
async fn fill(database: &Database, conversation: &str, sender: &str, behind: u64, count: u64) {
    let messages: Vec<Document> = (1..=count)
        .map(|number| {
            let seq = i64::try_from(FIRST + number).expect("a place");
            let mut message = doc! {
                "_id": MessageId::from_bits(u128::from(behind + number)).to_string(),
                "conversationId": conversation,
                "seq": seq,
                "senderId": sender,
                "senderName": "Ana",
                "kind": "text",
                "text": number.to_string(),
                "createdAt": DateTime::from_millis(1_700_000_000_000),
            };
            // Many were pinned once, a few are.
            if number % 10 == 0 {
                let on = number % (count / PINNED.unsigned_abs()) == 0;
                message.insert(
                    "pin",
                    doc! { "seq": seq + 1_000_000, "userId": sender, "at": DateTime::from_millis(0), "on": on },
                );
            }
            message
        })
        .collect();
    for part in messages.chunks(AT_ONCE) {
        database.collection::<Document>("messages").insert_many(part).await.expect("inserted");
    }
}

/// What a find goes by: the name of the index, and how many of its keys it looks at.
async fn plan(database: &Database, (filter, order): (Document, Document), limit: u32) -> (String, i64) {
    let find = doc! { "find": "messages", "filter": filter, "sort": order, "limit": i64::from(limit) };
    let explain = doc! { "explain": find, "verbosity": "executionStats" };
    let explained = database.run_command(explain).await.expect("the database explains");
    let explained = serde_json::to_value(&explained).expect("a plan is JSON");
    let mut stage = &explained["queryPlanner"]["winningPlan"];
    while stage["inputStage"].is_object() {
        stage = &stage["inputStage"];
    }
    assert_eq!(stage["stage"], "IXSCAN", "{explained:#}");
    let keys = explained["executionStats"]["totalKeysExamined"].as_i64().expect("a count");
    (stage["indexName"].as_str().expect("an index").to_owned(), keys)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_a_long_conversation_takes_a_page_of_keys() {
    let world = World::start().await;
    let (ana, ben, long) = world.pair().await;
    let short = ana.open(&[&world.person("Cleo").await]).await;
    let client = Client::with_uri_str(&world.tenant.mongodb_uri).await.expect("the database");
    let database = client.database(&world.tenant.database);
    fill(&database, &long, &ana.id, 0, LONG).await;
    fill(&database, &short, &ana.id, LONG, SHORT).await;

    for (conversation, count) in [(&long, LONG), (&short, SHORT)] {
        let id: ConversationId = conversation.parse().expect("an id");
        let middle = FIRST + count / 2;
        for (from, stretch) in [
            (0, Stretch::Newest),
            (0, Stretch::Before(middle)),
            (0, Stretch::After(middle)),
            (0, Stretch::After(1)),
            (middle, Stretch::Newest),
            (middle, Stretch::After(1)),
        ] {
            // The first window has enough, wherever in the conversation it is.
            let window = windows(from, stretch, FIRST + count).next().expect("a window");
            let (index, keys) = plan(&database, window_query(id, window, stretch), PAGE).await;
            eprintln!("{count} messages, {stretch:?} behind {from}: {keys} keys of {index}");
            assert_eq!(index, "conversationId_1_seq_1");
            assert!(keys <= i64::from(PAGE) + 1, "{stretch:?} behind {from} looks at {keys} keys");
        }
        let (index, keys) = plan(&database, pins_query(id), 100).await;
        eprintln!("{count} messages, pins: {keys} keys of {index}");
        assert_eq!(index, "conversationId_1_pin.seq_-1");
        assert!(keys <= PINNED + 1, "the pins take {keys} keys");
    }

    // And what is read is what was asked for.
    let texts = |page: &Value| -> Vec<String> {
        let items = page["items"].as_array().expect("a page");
        items.iter().map(|one| one["text"].as_str().expect("a text").to_owned()).collect()
    };
    let middle = MessageId::from_bits(u128::from(LONG / 2)).to_string();
    let numbers = |range: std::ops::Range<u64>| range.map(|number| number.to_string()).collect::<Vec<_>>();
    for (query, expected) in [
        (String::new(), numbers(LONG - 4..LONG + 1)),
        (format!("&before={middle}"), numbers(LONG / 2 - 5..LONG / 2)),
        (format!("&after={middle}"), numbers(LONG / 2 + 1..LONG / 2 + 6)),
        (format!("&around={middle}"), numbers(LONG / 2 - 2..LONG / 2 + 3)),
    ] {
        let (status, page) = ben.get(&format!("/api/messages/{long}?limit=5{query}")).await;
        assert_eq!((status, texts(&page)), (200, expected), "{query}");
    }
    let (_, pins) = ben.get(&format!("/api/conversations/{long}/pins")).await;
    assert_eq!(texts(&pins).first(), Some(&LONG.to_string()), "the last one pinned");
}
