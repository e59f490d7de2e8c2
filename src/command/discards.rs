//! Taking back what was uploaded, and taking away what nobody holds any more.
//!
//! What was taken back is nobody's from its first write on, so the rest may be cut off anywhere: the sweep goes on with it.

use super::Commands;
use super::presigned::incoming;
use super::uploads::in_use;
use crate::auth::Actor;
use crate::blob::Blobs;
use crate::domain::ids::AttachmentId;
use crate::error::Result;
use crate::store::Store;
use crate::store::attachments::Record;
use crate::store::blobs::Blob;

/// Forgets an attachment that is to go; its bytes may be others' too.
pub async fn forget(store: &Store, record: &Record) -> Result<()> {
    if let Some(blob) = record.blob_id {
        store.release_blob(blob, record.id).await?;
    }
    store.forget_attachment(record.id).await
}

/// Deletes the objects of a condemned blob, then forgets it.
pub async fn delete(store: &Store, blobs: &Blobs, blob: &Blob) -> Result<()> {
    for thumbnail in &blob.content.thumbnails {
        blobs.delete(&format!("{}.{}", blob.key, thumbnail.edge)).await?;
    }
    blobs.delete(&blob.key).await?;
    store.forget_blob(blob).await
}

impl Commands {
    /// Takes back an attachment of the caller's that belongs to no message.
    pub async fn discard_upload(&self, actor: &Actor, id: AttachmentId) -> Result<()> {
        actor.check_expiry(self.clock.now())?;
        let record = self.own_attachment(actor.user_id, id).await?;
        if record.claim.is_some() || !self.store.discard_attachment(actor.user_id, id).await? {
            return Err(in_use());
        }
        let _ = match record.announced {
            None => self.take_away(&record).await,
            // What is being taken over right now may get hold of bytes yet: the record is for the sweep to find.
            Some(_) => self.uploads.blobs.delete(&incoming(id)).await,
        };
        Ok(())
    }

    async fn take_away(&self, record: &Record) -> Result<()> {
        forget(&self.store, record).await?;
        let Some(id) = record.blob_id else { return Ok(()) };
        match self.store.condemned_blob(id).await? {
            Some(blob) => delete(&self.store, &self.uploads.blobs, &blob).await,
            None => Ok(()),
        }
    }
}
