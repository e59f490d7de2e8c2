//! Reading a history, in both directions.

use serde_json::{Value, json};

use crate::support::world::World;

fn texts(page: &Value) -> Vec<String> {
    let items = page["items"].as_array().expect("a page");
    items.iter().map(|one| one["text"].as_str().expect("a text").to_owned()).collect()
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_is_paged_both_ways_without_gap_or_overlap() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    for number in 0..25 {
        ana.say(&conversation, &number.to_string()).await;
    }
    let path = |query: String| format!("/api/messages/{conversation}?limit=10{query}");
    let (_, newest) = ben.get(&path(String::new())).await;
    assert_eq!(texts(&newest), numbers(15..25), "the newest page, oldest first");

    // Backwards to the beginning.
    let cursor = |page: &Value, name: &str| page[name].as_str().map(str::to_owned);
    let (_, middle) = ben.get(&path(format!("&before={}", cursor(&newest, "nextCursor").expect("more")))).await;
    assert_eq!(texts(&middle), numbers(5..15));
    let (_, oldest) = ben.get(&path(format!("&before={}", cursor(&middle, "olderCursor").expect("more")))).await;
    assert_eq!(texts(&oldest), numbers(0..5));
    assert_eq!(cursor(&oldest, "nextCursor"), None, "the beginning");

    // And forwards again, to the end and beyond.
    let (_, page) = ben.get(&path(format!("&after={}", cursor(&oldest, "newerCursor").expect("more")))).await;
    assert_eq!(texts(&page), numbers(5..15));
    let (_, page) = ben.get(&path(format!("&after={}", cursor(&page, "nextCursor").expect("more")))).await;
    assert_eq!(texts(&page), numbers(15..25));
    let (_, end) = ben.get(&path(format!("&after={}", cursor(&page, "nextCursor").expect("perhaps more")))).await;
    assert_eq!((texts(&end), cursor(&end, "nextCursor")), (Vec::new(), None));

    // Whoever is at the end has a place to go on from later.
    ana.say(&conversation, "25").await;
    world.history(&ben, &conversation, 26).await;
    let (_, later) = ben.get(&path(format!("&after={}", cursor(&end, "newerCursor").expect("a place")))).await;
    assert_eq!(texts(&later), numbers(25..26));
    assert_eq!((cursor(&later, "nextCursor"), cursor(&later, "newerCursor").is_some()), (None, true));

    // A message id is as good as a cursor.
    let fifteenth = newest["items"][0]["id"].as_str().expect("an id");
    let (_, before) = ben.get(&path(format!("&before={fifteenth}"))).await;
    assert_eq!(texts(&before), numbers(5..15));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledged_message_is_in_the_next_reading() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    for number in 1..=20 {
        let sent = ana.say(&conversation, &number.to_string()).await;
        let (status, page) = ben.get(&format!("/api/messages/{conversation}")).await;
        let items = page["items"].as_array().expect("a page");
        assert_eq!((status, items.len()), (200, number), "right after the acknowledgement");
        assert_eq!(items.last().map(|last| &last["id"]), Some(&sent["id"]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn contradicting_or_foreign_cursors_are_refused() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    let cleo = world.person("Cleo").await;
    let elsewhere = ana.open(&[&cleo]).await;
    let foreign = ana.say(&elsewhere, "elsewhere").await;
    let foreign = foreign["id"].as_str().expect("an id");
    for (query, reason) in [
        ("before=nonsense".to_owned(), "malformed_cursor"),
        ("before=00000000000000000000000001&after=00000000000000000000000001".to_owned(), "contradicting_cursors"),
        (format!("before={foreign}"), "unknown_anchor"),
        ("limit=0".to_owned(), "malformed_limit"),
        ("limit=201".to_owned(), "malformed_limit"),
        ("limit=many".to_owned(), "malformed_request"),
    ] {
        let (status, refused) = ben.get(&format!("/api/messages/{conversation}?{query}")).await;
        assert_eq!((status, &refused["reason"]), (400, &json!(reason)), "{query}");
    }
}
