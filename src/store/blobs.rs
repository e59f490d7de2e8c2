//! `blobs`: what is known of the bytes of attachments, and which attachments hold them.
//!
//! The same bytes of one owner are one blob with several holders. It goes once nobody holds it: it is condemned first, by a
//! write that finds it without holders, and from then on nobody gets hold of it again; whoever brings the same bytes later
//! begins another one. Its object has a key of its own for ever, so whoever deletes an object late deletes no other one.

use std::collections::HashSet;

use futures_util::TryStreamExt as _;
use mongodb::bson::{DateTime, Document, doc, serialize_to_bson};
use mongodb::options::ReturnDocument;
use serde::{Deserialize, Serialize};

use super::{Store, bounded, is_duplicate, stored_time};
use crate::domain::attachment::Content;
use crate::domain::clock::Timestamp;
use crate::domain::ids::{AttachmentId, BlobId, UserId};
use crate::error::{Error, Result};

const NAME: &str = "blobs";
/// Holders of one blob, at most: it is one document.
const HOLDERS: usize = 10_000;

/// Bytes in the object store.
#[derive(Debug, Clone)]
pub struct Blob {
    /// Names it.
    pub id: BlobId,
    /// Whose bytes these are.
    pub owner_id: UserId,
    /// Where the object store has them.
    pub key: String,
    /// What is known of them.
    pub content: Content,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct BlobDocument {
    #[serde(rename = "_id")]
    id: BlobId,
    owner_id: UserId,
    key: String,
    content: Content,
    holders: Vec<AttachmentId>,
    created_at: DateTime,
    /// Nobody holds it, and nobody gets hold of it any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    condemned: bool,
}

impl From<BlobDocument> for Blob {
    fn from(document: BlobDocument) -> Self {
        let BlobDocument { id, owner_id, key, content, .. } = document;
        Self { id, owner_id, key, content }
    }
}

#[derive(Debug, Deserialize)]
struct KeyDocument {
    key: String,
}

impl Store {
    /// Gets hold of a blob for an attachment; nothing if it is not there, or on its way out.
    pub async fn hold_blob(&self, id: BlobId, holder: AttachmentId) -> Result<Option<Blob>> {
        let mut free = doc! { "_id": id.to_string(), "condemned": { "$exists": false } };
        free.insert(format!("holders.{}", HOLDERS - 1), doc! { "$exists": false });
        let hold = doc! { "$addToSet": { "holders": holder.to_string() } };
        let blobs = self.collection::<BlobDocument>(NAME);
        let held = blobs.find_one_and_update(free, hold).return_document(ReturnDocument::After);
        Ok(self.write(held).await?.map(Blob::from))
    }

    /// Keeps a new blob, which this attachment holds; says whether its id was free.
    pub async fn insert_blob(&self, blob: &Blob, holder: AttachmentId, now: Timestamp) -> Result<bool> {
        let document = BlobDocument {
            id: blob.id,
            owner_id: blob.owner_id,
            key: blob.key.clone(),
            content: blob.content.clone(),
            holders: vec![holder],
            created_at: stored_time(now),
            condemned: false,
        };
        let blobs = self.collection::<BlobDocument>(NAME);
        let inserted = async {
            match blobs.insert_one(document).await {
                Err(error) if is_duplicate(&error) => Ok(false),
                done => done.map(|_| true),
            }
        };
        self.write(inserted).await
    }

    /// The blobs of these ids, in no order; unknown ones are left out.
    pub async fn blobs_by_id(&self, ids: &[BlobId]) -> Result<Vec<Blob>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let blobs = self.collection::<BlobDocument>(NAME);
        let filter = doc! { "_id": { "$in": ids.iter().map(ToString::to_string).collect::<Vec<_>>() } };
        let found = self.read(async { blobs.find(filter).await?.try_collect::<Vec<_>>().await });
        Ok(found.await?.into_iter().map(Blob::from).collect())
    }

    /// More is known of the bytes; what was settled before stays.
    pub async fn settle_blob(&self, blob: &Blob) -> Result<()> {
        let content = serialize_to_bson(&blob.content).map_err(Error::internal)?;
        let open = doc! { "$or": [{ "content.state": "scanning" }, { "content.preview": "pending" }] };
        let filter = doc! { "$and": [{ "_id": blob.id.to_string() }, open] };
        let update = doc! { "$set": { "content": content } };
        let blobs = self.collection::<Document>(NAME);
        bounded(blobs.update_one(filter, update)).await.map(drop)
    }

    /// Blobs from this time on and before that one, of which something is still to be found out, at most so many.
    pub async fn open_blobs(&self, from: Timestamp, before: Timestamp, limit: i64) -> Result<Vec<Blob>> {
        let filter = doc! {
            "createdAt": { "$gte": stored_time(from), "$lt": stored_time(before) },
            "condemned": { "$exists": false },
            "$or": [{ "content.state": "scanning" }, { "content.state": "ready", "content.preview": "pending" }],
        };
        let blobs = self.collection::<BlobDocument>(NAME);
        let found = async { blobs.find(filter).limit(limit).await?.try_collect::<Vec<_>>().await };
        Ok(bounded(found).await?.into_iter().map(Blob::from).collect())
    }

    /// An attachment does not hold a blob any more; without holders it is condemned. May be done again.
    pub async fn release_blob(&self, id: BlobId, holder: AttachmentId) -> Result<()> {
        let blobs = self.collection::<Document>(NAME);
        let id = id.to_string();
        let release = doc! { "$pull": { "holders": holder.to_string() } };
        bounded(blobs.update_one(doc! { "_id": &id }, release)).await?;
        let unheld = doc! { "_id": &id, "holders": { "$size": 0 } };
        bounded(blobs.update_one(unheld, doc! { "$set": { "condemned": true } })).await.map(drop)
    }

    /// Blobs whose objects are to be deleted, at most so many.
    pub async fn condemned_blobs(&self, limit: i64) -> Result<Vec<Blob>> {
        let blobs = self.collection::<BlobDocument>(NAME);
        let found = async { blobs.find(doc! { "condemned": true }).limit(limit).await?.try_collect::<Vec<_>>().await };
        Ok(bounded(found).await?.into_iter().map(Blob::from).collect())
    }

    /// A blob, if it is condemned.
    pub async fn condemned_blob(&self, id: BlobId) -> Result<Option<Blob>> {
        let blobs = self.collection::<BlobDocument>(NAME);
        let filter = doc! { "_id": id.to_string(), "condemned": true };
        Ok(bounded(blobs.find_one(filter)).await?.map(Blob::from))
    }

    /// Forgets a condemned blob; its object is gone.
    pub async fn forget_blob(&self, blob: &Blob) -> Result<()> {
        let blobs = self.collection::<Document>(NAME);
        let filter = doc! { "_id": blob.id.to_string(), "key": &blob.key, "condemned": true };
        bounded(blobs.delete_one(filter)).await.map(drop)
    }

    /// Which of these keys belong to a blob.
    pub async fn known_keys(&self, keys: &[String]) -> Result<HashSet<String>> {
        let blobs = self.collection::<KeyDocument>(NAME);
        let filter = doc! { "key": { "$in": keys } };
        let found =
            async { blobs.find(filter).projection(doc! { "key": 1 }).await?.try_collect::<Vec<KeyDocument>>().await };
        Ok(bounded(found).await?.into_iter().map(|found| found.key).collect())
    }
}
