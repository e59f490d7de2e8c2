//! Documents that an event makes once, however often the log has it.
//!
//! The log may hold the same message or notification at two places: a client sent it again when the broker had forgotten
//! the first time. The id is the same, so there is one document, and it is the one of the first place, whichever of the
//! two is projected first.

use std::collections::HashMap;
use std::future::IntoFuture as _;

use futures_util::TryStreamExt as _;
use mongodb::bson::{Document, doc, serialize_to_document};
use mongodb::error::ErrorKind;
use mongodb::options::UpdateOneModel;
use mongodb::{Collection, Namespace};
use serde::Serialize;

use super::{DUPLICATE_KEY, PATIENCE, Store, away, bounded, failure, seq};
use crate::domain::clock::Timestamp;
use crate::error::{Error, Result};

/// A document that one event makes, and the seq of that event.
pub(super) trait Placed: Serialize + Send + Sync {
    /// The collection.
    const NAME: &'static str;

    /// Its `_id`.
    fn id(&self) -> String;

    /// Where the log has it.
    fn seq(&self) -> i64;

    /// When it was made, if it goes a while after that.
    fn expires_from(&self) -> Option<Timestamp> {
        None
    }

    /// What the stored document should be, if this is what its event makes of it: later events may have added to it.
    #[must_use]
    fn settled(wanted: Document, _found: &Document) -> Document {
        wanted
    }
}

/// Something that was there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Which of those that were to be inserted.
    pub place: usize,
    /// The seq that it is stored with: the same if it was delivered again, another if it was sent again.
    pub seq: u64,
}

impl Store {
    /// Inserts what is not there yet and says what was, with the seqs it was found with.
    pub(super) async fn insert_once<T: Placed>(&self, documents: &[T]) -> Result<Vec<Known>> {
        let met = insert_missing(&self.collection(T::NAME), documents).await?;
        if met.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<String> = met.iter().map(|place| documents[*place].id()).collect();
        let seqs = seqs_of(&self.collection(T::NAME), &ids).await?;
        met.into_iter()
            .zip(ids)
            .map(|(place, id)| match seqs.get(&id) {
                Some(seq) => Ok(Known { place, seq: *seq }),
                // Not its own id was taken but another unique key of it, which in an unharmed database cannot be.
                None => Err(Error::internal(format!("another document of {} is in the place of {id}", T::NAME))),
            })
            .collect()
    }

    /// Makes documents those of these places if they are of later ones.
    pub(super) async fn advance<T: Placed>(&self, documents: &[T]) -> Result<()> {
        if documents.is_empty() {
            return Ok(());
        }
        let mut models = Vec::with_capacity(2 * documents.len());
        for document in documents {
            let mut fields = serialize_to_document(document).map_err(Error::internal)?;
            fields.remove("_id");
            // What was deleted meanwhile does not get its words back.
            let mut emptied = T::settled(fields.clone(), &doc! { "deleted": true });
            emptied.remove("deleted");
            for (deleted, fields) in [(false, fields), (true, emptied)] {
                let filter = doc! {
                    "_id": document.id(),
                    "seq": { "$gt": document.seq() },
                    "deleted": { "$exists": deleted },
                };
                let (namespace, update) = (self.namespace(T::NAME), doc! { "$set": fields });
                models.push(UpdateOneModel::builder().namespace(namespace).filter(filter).update(update).build());
            }
        }
        bounded(self.client.bulk_write(models).ordered(false)).await.map(drop)
    }

    pub(super) fn namespace(&self, collection: &str) -> Namespace {
        Namespace { db: self.database.name().to_owned(), coll: collection.to_owned() }
    }
}

/// Inserts what is not there yet: a document whose key exists is an event that was projected before. Returns the places
/// of those.
pub(super) async fn insert_missing<T>(collection: &Collection<T>, documents: &[T]) -> Result<Vec<usize>>
where
    T: Serialize + Send + Sync,
{
    if documents.is_empty() {
        return Ok(Vec::new());
    }
    let inserted = tokio::time::timeout(PATIENCE, collection.insert_many(documents).ordered(false).into_future()).await;
    let error = match inserted {
        Ok(Ok(_)) => return Ok(Vec::new()),
        Ok(Err(error)) => error,
        Err(late) => return Err(away().caused_by(late)),
    };
    match &*error.kind {
        ErrorKind::InsertMany(failed) if failed.write_concern_error.is_none() => match &failed.write_errors {
            Some(errors) if !errors.is_empty() && errors.iter().all(|error| error.code == DUPLICATE_KEY) => {
                Ok(errors.iter().map(|error| error.index).collect())
            }
            _ => Err(failure(error)),
        },
        _ => Err(failure(error)),
    }
}

async fn seqs_of(collection: &Collection<Document>, ids: &[String]) -> Result<HashMap<String, u64>> {
    let found = bounded(async {
        let cursor = collection.find(doc! { "_id": { "$in": ids } }).projection(doc! { "seq": 1 }).await?;
        cursor.try_collect::<Vec<Document>>().await
    });
    let place = |one: Document| Some((one.get_str("_id").ok()?.to_owned(), seq(one.get_i64("seq").ok()?)));
    Ok(found.await?.into_iter().filter_map(place).collect())
}
