//! What is forgotten: the comparison does not miss it, and does not bring it back.

use async_nats::jetstream::Context;
use futures_util::TryStreamExt as _;
use mongodb::bson::{DateTime, Document, doc};
use serde_json::{Value, json};
use shoptalk::domain::clock::{Clock, Timestamp};
use shoptalk::domain::notification::entry_of;

use crate::drills::evidence::database;
use crate::operate::{log_of, settled, shoptalk};
use crate::support::client::Person;
use crate::support::world::World;

/// Puts an event of somebody's inbox into the log, as an instance would; returns its place.
async fn happen(log: &Context, person: &Person, kind: &str, number: u32, at: Timestamp, data: Value) -> u64 {
    let event = json!({
        "id": format!("evt_{number:026}"),
        "version": 1,
        "actor": person.id,
        "occurredAt": at,
        "recipients": [person.id],
        "type": kind,
        "data": data,
    });
    let subject = format!("inbox.{}.{kind}", person.id);
    log.publish(subject, event.to_string().into()).await.expect("sent").await.expect("stored").sequence
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forgotten_is_neither_missed_nor_brought_back() {
    let world = World::start().await;
    let (ana, ben, conversation) = world.pair().await;
    let log = log_of(&world).await;
    let days_ago = |days: i64| Clock::System.now().plus_seconds(-days * 86_400);
    let here = entry_of(conversation.parse().expect("an id"), ben.id.parse().expect("an id")).to_string();
    let named = "ntf_00000000000000000000000002";
    let mut last = 0;
    for (number, id, entry, kind) in
        [(1, "ntf_00000000000000000000000001", here.as_str(), "message"), (2, named, named, "mention")]
    {
        let made = json!({
            "id": id, "userId": ben.id, "entryId": entry, "kind": kind, "title": "Ana", "body": "long ago",
            "data": {}, "createdAt": days_ago(100),
        });
        last = happen(&log, &ben, "notification", number, days_ago(100), made).await;
    }
    // Done while they were there; that is not so long ago.
    let read = json!({
        "userId": ben.id, "entryIds": [here, named], "upTo": last, "read": true,
        "counts": { "unread": 0, "unseen": 0, "seq": last },
    });
    happen(&log, &ben, "notification_state", 3, days_ago(40), read).await;
    settled(&log).await;
    // As MongoDB does, some minutes later.
    let database = database(&world.tenant).await;
    let old = doc! { "createdAt": { "$lt": DateTime::from_millis(days_ago(90).millis()) } };
    for name in ["notifications", "inbox"] {
        database.collection::<Document>(name).delete_many(old.clone()).await.expect("forgotten");
    }
    ana.say(&conversation, "new").await;
    settled(&log).await;

    let clean = shoptalk(&world.tenant, &["check", "--json"]).await;
    assert!(clean.good && clean.json()["differences"] == 0, "{clean:?}");
    let notifications = database.collection::<Document>("notifications");
    notifications.delete_many(doc! { "userId": &ben.id }).await.expect("lost");
    let repaired = shoptalk(&world.tenant, &["check", "--repair", "--json"]).await;
    assert!(repaired.good && repaired.json()["differences"] == 1, "{repaired:?}");
    let ids = async |name: &str| {
        let found = database.collection::<Document>(name).find(doc! { "userId": &ben.id }).await.expect("an answer");
        let found = found.try_collect::<Vec<Document>>().await.expect("documents");
        found.iter().map(|one| one.get_str("_id").expect("an id").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids("notifications").await.len(), 1, "only what is new");
    assert_eq!(ids("inbox").await, [here]);
    world.stop().await;
}
