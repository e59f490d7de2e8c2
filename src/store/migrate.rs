//! Indexes, made at start. Making one that is there is no work; a changed one gets a new name and the old one is dropped.

use std::time::Duration;

use futures_util::TryStreamExt as _;
use mongodb::bson::{Document, doc};
use mongodb::options::IndexOptions;
use mongodb::{Collection, IndexModel};

use super::{Store, bounded};
use crate::error::Result;

fn index(keys: Document) -> IndexModel {
    IndexModel::builder().keys(keys).build()
}

fn partial(keys: Document, which: Document) -> IndexModel {
    let options = IndexOptions::builder().partial_filter_expression(which).build();
    IndexModel::builder().keys(keys).options(options).build()
}

fn unique(keys: Document) -> IndexModel {
    IndexModel::builder().keys(keys).options(IndexOptions::builder().unique(true).build()).build()
}

/// One for the few documents that have the field.
fn unique_where_there(field: &str) -> IndexModel {
    let there = doc! { field: { "$exists": true } };
    let options = IndexOptions::builder().unique(true).partial_filter_expression(there).build();
    IndexModel::builder().keys(doc! { field: 1 }).options(options).build()
}

/// Makes every index.
pub(super) async fn run(store: &Store) -> Result<()> {
    let expires = IndexOptions::builder().expire_after(std::time::Duration::ZERO).build();
    let wanted = [
        ("users", vec![unique(doc! { "email": 1 }), unique_where_there("externalId")]),
        (
            "sessions",
            vec![
                unique(doc! { "refreshHash": 1 }),
                IndexModel::builder().keys(doc! { "expiresAt": 1 }).options(expires.clone()).build(),
            ],
        ),
        (
            "conversations",
            vec![
                index(doc! { "participants.userId": 1, "lastSeq": -1 }),
                index(doc! { "participants.userId": 1, "changeSeq": 1 }),
                index(doc! { "former.userId": 1, "former.seq": 1 }),
                // Only those that wait for an agent are in it.
                partial(doc! { "waiting": 1, "lastSeq": -1 }, doc! { "waiting": true }),
            ],
        ),
        (
            "messages",
            vec![
                unique(doc! { "conversationId": 1, "seq": 1 }),
                // Only those that are pinned are in it.
                partial(doc! { "conversationId": 1, "pin.seq": -1 }, doc! { "pin.on": true }),
            ],
        ),
        ("notifications", vec![index(doc! { "entryId": 1, "seq": -1 })]),
        ("order_events", vec![index(doc! { "orderId": 1 })]),
        ("inbox", vec![index(doc! { "userId": 1, "seq": -1 })]),
        (
            "attachments",
            vec![
                index(doc! { "messageId": 1, "createdAt": 1 }),
                index(doc! { "ownerId": 1, "messageId": 1 }),
                // Only those that were claimed, and only those that are to go.
                partial(doc! { "messageSeq": 1, "claimedAt": 1 }, doc! { "claimedAt": { "$exists": true } }),
                partial(doc! { "deletedAt": 1 }, doc! { "deletedAt": { "$exists": true } }),
            ],
        ),
        (
            "blobs",
            vec![
                index(doc! { "key": 1 }),
                index(doc! { "createdAt": 1 }),
                partial(doc! { "condemned": 1 }, doc! { "condemned": true }),
            ],
        ),
        ("pushes", vec![IndexModel::builder().keys(doc! { "expiresAt": 1 }).options(expires).build()]),
    ];
    for (collection, indexes) in wanted {
        bounded(store.collection::<Document>(collection).create_indexes(indexes)).await?;
    }
    // What it was for is in `inbox` now.
    drop_index(&store.collection("notifications"), &doc! { "userId": 1, "seq": -1 }, None).await?;
    let days = u64::from(store.notification_days);
    for collection in ["notifications", "inbox"] {
        forget_after(&store.collection(collection), Duration::from_secs(days * 86_400)).await?;
    }
    Ok(())
}

/// Lets documents go this long after they were created. What was set before is replaced.
async fn forget_after(collection: &Collection<Document>, after: Duration) -> Result<()> {
    let keys = doc! { "createdAt": 1 };
    drop_index(collection, &keys, Some(after)).await?;
    let options = IndexOptions::builder().expire_after(after).build();
    let index = IndexModel::builder().keys(keys).options(options).build();
    bounded(collection.create_index(index)).await.map(drop)
}

/// Drops the index on these keys, unless it is one that lets documents go after this time.
async fn drop_index(collection: &Collection<Document>, keys: &Document, unless: Option<Duration>) -> Result<()> {
    let known = bounded(async { collection.list_indexes().await?.try_collect::<Vec<IndexModel>>().await }).await?;
    let same = |index: &&IndexModel| index.keys.keys().eq(keys.keys());
    let Some(known) = known.iter().find(same).and_then(|index| index.options.as_ref()) else { return Ok(()) };
    match &known.name {
        Some(name) if unless.is_none() || known.expire_after != unless => {
            match bounded(collection.drop_index(name.clone())).await {
                // Another instance was faster.
                Err(error) if !error.transient() && !is_there(collection, name).await? => Ok(()),
                done => done,
            }
        }
        _ => Ok(()),
    }
}

async fn is_there(collection: &Collection<Document>, name: &str) -> Result<bool> {
    let names = bounded(collection.list_index_names()).await?;
    Ok(names.iter().any(|known| known == name))
}
