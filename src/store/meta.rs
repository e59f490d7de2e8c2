//! `meta`: what the database knows about itself.

use mongodb::bson::{Document, doc};
use mongodb::options::ReturnDocument;
use serde::Deserialize;

use super::{Store, bounded, seq, stored_seq};
use crate::error::Result;

const PROJECTION: &str = "projection";
const ATTACHMENTS: &str = "attachments";

/// By what the object store is known that belongs to this database.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tie {
    /// The word that is in the store.
    pub owner: String,
    /// Nobody knows whether it has got there.
    #[serde(default)]
    pub begun: bool,
}

impl Store {
    /// Remembers that the log reached at least up to here.
    pub async fn note_highest_seq(&self, highest: u64) -> Result<()> {
        let meta = self.collection::<Document>("meta");
        bounded(
            meta.update_one(doc! { "_id": PROJECTION }, doc! { "$max": { "highestSeq": stored_seq(highest) } })
                .upsert(true),
        )
        .await
        .map(drop)
    }

    /// The highest seq of the log that this database has heard of; zero in a new one.
    pub async fn highest_seq(&self) -> Result<u64> {
        let meta = self.collection::<Document>("meta");
        let found = bounded(meta.find_one(doc! { "_id": PROJECTION })).await?;
        Ok(found.and_then(|found| found.get_i64("highestSeq").ok()).map_or(0, seq))
    }
    /// The tie to the object store; nothing in a database that was never tied to one.
    pub async fn tie(&self) -> Result<Option<Tie>> {
        bounded(self.collection::<Tie>("meta").find_one(doc! { "_id": ATTACHMENTS })).await
    }

    /// Begins to tie this database to the object store, by this word unless another one was chosen meanwhile; says which.
    pub async fn begin_tie(&self, owner: &str) -> Result<Option<Tie>> {
        let meta = self.collection::<Tie>("meta");
        let begin = doc! { "$setOnInsert": { "owner": owner, "begun": true } };
        let begun = meta.find_one_and_update(doc! { "_id": ATTACHMENTS }, begin).upsert(true);
        bounded(begun.return_document(ReturnDocument::After)).await
    }

    /// The word is in the store.
    pub async fn end_tie(&self, owner: &str) -> Result<()> {
        let meta = self.collection::<Document>("meta");
        let begun = doc! { "_id": ATTACHMENTS, "owner": owner };
        bounded(meta.update_one(begun, doc! { "$unset": { "begun": "" } })).await.map(drop)
    }
}
