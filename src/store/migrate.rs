//! Indexes, made at start. Making one that is there is no work; a changed one gets a new name and the old one is dropped.

use mongodb::IndexModel;
use mongodb::bson::{Document, doc};
use mongodb::options::IndexOptions;

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
                IndexModel::builder().keys(doc! { "expiresAt": 1 }).options(expires).build(),
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
        ("notifications", vec![index(doc! { "userId": 1, "seq": -1 })]),
    ];
    for (collection, indexes) in wanted {
        bounded(store.collection::<Document>(collection).create_indexes(indexes)).await?;
    }
    Ok(())
}
