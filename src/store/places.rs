//! Which documents name which places in the log, and the removal of those that nothing explains.

use std::future::IntoFuture;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use mongodb::Cursor;
use mongodb::bson::{Bson, Document, doc};
use mongodb::error::Error as MongoError;
use mongodb::options::DeleteOneModel;

use super::audit::{Place, Projected};
use super::messages::MessageDocument;
use super::once::Placed;
use super::{Store, away, bounded, failure, seq, stored_seq};
use crate::error::Result;

/// A whole collection is looked through without an index; that may take its time.
const PATIENCE: Duration = Duration::from_mins(10);

async fn patiently<T>(operation: impl IntoFuture<Output = std::result::Result<T, MongoError>>) -> Result<T> {
    match tokio::time::timeout(PATIENCE, operation.into_future()).await {
        Ok(done) => done.map_err(failure),
        Err(late) => Err(away().caused_by(late)),
    }
}

/// Documents of one collection with the places they name, in no order.
pub struct Places {
    cursor: Cursor<Document>,
    field: &'static str,
}

impl Places {
    /// The next ones, at most so many; none at the end.
    pub async fn batch(&mut self, most: usize) -> Result<Vec<Place>> {
        let mut batch = Vec::new();
        while batch.len() < most
            && let Some(found) = patiently(self.cursor.try_next()).await?
        {
            batch.push(place(&found, self.field));
        }
        Ok(batch)
    }
}

fn place(found: &Document, field: &str) -> Place {
    // Somebody who writes by hand easily writes a number of another kind.
    let at = match found.get(field) {
        Some(Bson::Int64(at)) => *at,
        Some(Bson::Int32(at)) => i64::from(*at),
        _ => 0,
    };
    Place { key: found.get("_id").cloned().unwrap_or(Bson::Null), seq: seq(at) }
}

fn between(collection: Projected, from: u64, to: u64) -> Document {
    let mut filter = Document::new();
    filter.insert(collection.place(), doc! { "$gte": stored_seq(from), "$lte": stored_seq(to) });
    filter
}

impl Store {
    /// How many documents name a place between these, both included.
    pub async fn count_places(&self, collection: Projected, from: u64, to: u64) -> Result<u64> {
        let documents = self.collection::<Document>(collection.name());
        patiently(documents.count_documents(between(collection, from, to))).await
    }

    /// Those documents.
    pub async fn places(&self, collection: Projected, from: u64, to: u64) -> Result<Places> {
        let field = collection.place();
        let mut shown = doc! { "_id": 1 };
        shown.insert(field, 1);
        let documents = self.collection::<Document>(collection.name());
        let cursor = patiently(documents.find(between(collection, from, to)).projection(shown)).await?;
        Ok(Places { cursor, field })
    }

    /// Removes documents, unless they name another place by now.
    pub async fn remove_places(&self, collection: Projected, places: &[Place]) -> Result<()> {
        if places.is_empty() {
            return Ok(());
        }
        let namespace = self.namespace(collection.name());
        let models: Vec<_> = places
            .iter()
            .map(|place| {
                DeleteOneModel::builder().namespace(namespace.clone()).filter(place.filter(collection)).build()
            })
            .collect();
        bounded(self.client.bulk_write(models).ordered(false)).await.map(drop)
    }

    /// Removes whatever has another id and the place of one of these messages.
    pub(super) async fn clear_places(&self, messages: &[MessageDocument]) -> Result<()> {
        if messages.is_empty() {
            return Ok(());
        }
        let conversations: Vec<String> = messages.iter().map(|one| one.conversation_id.to_string()).collect();
        let seqs: Vec<i64> = messages.iter().map(Placed::seq).collect();
        let documents = self.collection::<Document>(Projected::Messages.name());
        let filter = doc! { "conversationId": { "$in": conversations }, "seq": { "$in": seqs } };
        let found = bounded(async {
            let found = documents.find(filter).projection(doc! { "_id": 1, "seq": 1 }).await?;
            found.try_collect::<Vec<Document>>().await
        });
        let mut strangers = Vec::new();
        for found in found.await? {
            let place = place(&found, Projected::Messages.place());
            // The log has one event in each place.
            if messages.iter().any(|one| seq(one.seq()) == place.seq && one.id() != place.id()) {
                strangers.push(place);
            }
        }
        self.remove_places(Projected::Messages, &strangers).await
    }
}
