//! `meta`: what the database knows about itself.

use mongodb::bson::{Document, doc};

use super::{Store, bounded, seq, stored_seq};
use crate::error::Result;

const PROJECTION: &str = "projection";

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
}
