//! `attachments`: who has uploaded what, what they call it, and which message it belongs to.
//!
//! A message claims its attachments before it is stored, each for itself alone; `persist` confirms that once it projects
//! the message. A message may be sent more than once, at the same time even, and each attempt claims: what one of them
//! gives back stays claimed as long as another one holds it, and of an attempt that was stored nothing is ever given back.
//! What nobody claims in time is expired, by a write that no claim gets past.

use futures_util::TryStreamExt as _;
use mongodb::bson::{DateTime, Document, doc};
use mongodb::options::UpdateManyModel;
use serde::{Deserialize, Serialize};

use super::{Store, bounded, seq, stored_seq, stored_time, time};
use crate::domain::change::{Deletion, Scope};
use crate::domain::clock::Timestamp;
use crate::domain::ids::{AttachmentId, BlobId, ConversationId, EventId, MessageId, UserId};
use crate::domain::message::Message;
use crate::error::Result;

const NAME: &str = "attachments";

/// What a client has said that it will bring to the store itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Announced {
    /// Its media type, if the client said it.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// How many bytes.
    pub size: u64,
    /// Their SHA-256, in hexadecimal.
    pub sha256: String,
}

/// Which message has claimed an attachment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Where the message is, or is to be.
    pub conversation_id: ConversationId,
    /// Which message.
    pub message_id: MessageId,
    /// Its place in the log, once it is known to have one.
    pub message_seq: Option<u64>,
    /// When.
    pub at: Timestamp,
}

/// Names one attempt to send a message.
pub type Attempt = EventId;

/// The record of an attachment.
#[derive(Debug, Clone)]
pub struct Record {
    /// Names it.
    pub id: AttachmentId,
    /// Who has uploaded it.
    pub owner_id: UserId,
    /// What they call it.
    pub name: String,
    /// Its bytes; nothing before they are here.
    pub blob_id: Option<BlobId>,
    /// What its bytes will be, as long as they are not here.
    pub announced: Option<Announced>,
    /// When it was uploaded.
    pub created_at: Timestamp,
    /// Which message it belongs to.
    pub claim: Option<Claim>,
    /// It goes: its message was deleted, or nobody has claimed it.
    pub is_deleted: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AttachmentDocument {
    #[serde(rename = "_id")]
    id: AttachmentId,
    owner_id: UserId,
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    blob_id: Option<BlobId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    announced: Option<Announced>,
    created_at: DateTime,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    conversation_id: Option<ConversationId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message_id: Option<MessageId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message_seq: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    claimed_at: Option<DateTime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deleted_at: Option<DateTime>,
}

impl From<AttachmentDocument> for Record {
    fn from(document: AttachmentDocument) -> Self {
        let claim = match (document.conversation_id, document.message_id, document.claimed_at) {
            (Some(conversation_id), Some(message_id), Some(at)) => {
                let message_seq = document.message_seq.map(seq);
                Some(Claim { conversation_id, message_id, message_seq, at: time(at) })
            }
            _ => None,
        };
        Self {
            id: document.id,
            owner_id: document.owner_id,
            name: document.name,
            blob_id: document.blob_id,
            announced: document.announced,
            created_at: time(document.created_at),
            claim,
            is_deleted: document.deleted_at.is_some(),
        }
    }
}

fn by_id(ids: &[AttachmentId]) -> Document {
    doc! { "$in": ids.iter().map(ToString::to_string).collect::<Vec<_>>() }
}

/// What makes an attachment one that nobody has claimed.
fn free() -> Document {
    doc! { "$unset": { "conversationId": "", "messageId": "", "claimedAt": "", "attempts": "" } }
}

/// A time before every grace: what has it goes with the next sweep.
const fn long_ago() -> DateTime {
    DateTime::from_millis(0)
}

impl Store {
    /// Keeps a new attachment.
    pub async fn insert_attachment(&self, record: &Record) -> Result<()> {
        let document = AttachmentDocument {
            id: record.id,
            owner_id: record.owner_id,
            name: record.name.clone(),
            blob_id: record.blob_id,
            announced: record.announced.clone(),
            created_at: stored_time(record.created_at),
            conversation_id: None,
            message_id: None,
            message_seq: None,
            claimed_at: None,
            deleted_at: None,
        };
        self.write(self.collection(NAME).insert_one(document)).await.map(drop)
    }

    /// An attachment; nothing if it is not there.
    pub async fn attachment(&self, id: AttachmentId) -> Result<Option<Record>> {
        let attachments = self.collection::<AttachmentDocument>(NAME);
        Ok(self.read(attachments.find_one(doc! { "_id": id.to_string() })).await?.map(Record::from))
    }

    /// The attachments of these ids, in no order; unknown ones are left out.
    pub async fn attachments_by_id(&self, ids: &[AttachmentId]) -> Result<Vec<Record>> {
        let attachments = self.collection::<AttachmentDocument>(NAME);
        let found = async { attachments.find(doc! { "_id": by_id(ids) }).await?.try_collect::<Vec<_>>().await };
        Ok(self.read(found).await?.into_iter().map(Record::from).collect())
    }

    /// Attachments of somebody that belong to no message, at most so many.
    pub async fn count_unattached(&self, owner: UserId, most: u64) -> Result<u64> {
        let filter = doc! {
            "ownerId": owner.to_string(), "messageId": { "$exists": false }, "deletedAt": { "$exists": false },
        };
        self.read(self.collection::<Document>(NAME).count_documents(filter).limit(most)).await
    }

    /// The bytes of an attachment are these; what was announced of them has come true.
    pub async fn set_blob(&self, id: AttachmentId, blob: BlobId) -> Result<()> {
        let update = doc! { "$set": { "blobId": blob.to_string() } };
        self.write(self.collection::<Document>(NAME).update_one(doc! { "_id": id.to_string() }, update)).await.map(drop)
    }

    /// The bytes that were announced are here; says whether anybody wants them still.
    pub async fn complete_attachment(&self, id: AttachmentId, name: &str) -> Result<bool> {
        let wanted = doc! { "_id": id.to_string(), "deletedAt": { "$exists": false } };
        let update = doc! { "$unset": { "announced": "" }, "$set": { "name": name } };
        let done = self.write(self.collection::<Document>(NAME).update_one(wanted, update)).await?;
        Ok(done.matched_count > 0)
    }

    /// Claims somebody's attachments for an attempt to send a message, each that is free or claimed by this message already.
    pub async fn claim_attachments(
        &self,
        owner: UserId,
        ids: &[AttachmentId],
        claim: Claim,
        attempt: Attempt,
    ) -> Result<()> {
        let message = claim.message_id.to_string();
        let filter = doc! {
            "_id": by_id(ids),
            "ownerId": owner.to_string(),
            "announced": { "$exists": false },
            "deletedAt": { "$exists": false },
            "$or": [{ "messageId": { "$exists": false } }, { "messageId": &message }],
        };
        let set = doc! {
            "conversationId": claim.conversation_id.to_string(),
            "messageId": message,
            "claimedAt": stored_time(claim.at),
        };
        let update = doc! { "$set": set, "$addToSet": { "attempts": attempt.to_string() } };
        self.write(self.collection::<Document>(NAME).update_many(filter, update)).await.map(drop)
    }

    /// An attempt that comes to nothing gives back what it has claimed.
    pub async fn release_attempt(&self, ids: &[AttachmentId], message: MessageId, attempt: Attempt) -> Result<()> {
        let attachments = self.collection::<Document>(NAME);
        let (ids, message) = (by_id(ids), message.to_string());
        let held = doc! { "_id": &ids, "messageId": &message };
        let pull = doc! { "$pull": { "attempts": attempt.to_string() } };
        self.write(attachments.update_many(held, pull)).await?;
        let unheld = doc! {
            "_id": ids, "messageId": message, "messageSeq": { "$exists": false }, "attempts": { "$size": 0 },
        };
        self.write(attachments.update_many(unheld, free())).await.map(drop)
    }

    /// Gives back what was claimed for a message that will not be: this claim, and none that was made since.
    pub async fn release_claim(&self, id: AttachmentId, claim: Claim) -> Result<()> {
        let filter = doc! {
            "_id": id.to_string(),
            "messageId": claim.message_id.to_string(),
            "claimedAt": stored_time(claim.at),
            "messageSeq": { "$exists": false },
        };
        self.write(self.collection::<Document>(NAME).update_one(filter, free())).await.map(drop)
    }

    /// Attachments that belong to messages are theirs for good; those of deleted messages go. The log has the last word: an
    /// attachment that nobody has claimed any more is its message's all the same.
    pub(super) async fn project_attachments(&self, sent: &[(u64, &Message)], deleted: &[&Deletion]) -> Result<()> {
        let namespace = self.namespace(NAME);
        let model = |filter: Document, update: Document| {
            UpdateManyModel::builder().namespace(namespace.clone()).filter(filter).update(update).build()
        };
        let confirmed = sent.iter().filter(|(_, message)| !message.attachments.is_empty()).map(|(at, message)| {
            let ids: Vec<AttachmentId> = message.attachments.iter().map(|one| one.id).collect();
            let filter = doc! {
                "_id": by_id(&ids),
                "ownerId": message.sender_id.to_string(),
                "deletedAt": { "$exists": false },
                "$or": [{ "messageId": { "$exists": false } }, { "messageId": message.id.to_string() }],
            };
            let set = doc! {
                "conversationId": message.conversation_id.to_string(),
                "messageId": message.id.to_string(),
                "claimedAt": stored_time(message.created_at),
            };
            model(filter, doc! { "$set": set, "$min": { "messageSeq": stored_seq(*at) } })
        });
        let gone = deleted.iter().filter(|deletion| deletion.scope == Scope::Everybody).map(|deletion| {
            let at = stored_time(deletion.deleted_at);
            model(doc! { "messageId": deletion.message_id.to_string() }, doc! { "$min": { "deletedAt": at } })
        });
        let models: Vec<UpdateManyModel> = confirmed.chain(gone).collect();
        if models.is_empty() {
            return Ok(());
        }
        bounded(self.client.bulk_write(models).ordered(false)).await.map(drop)
    }

    /// Somebody does not want their attachment any more; says whether it was theirs and belonged to no message.
    pub async fn discard_attachment(&self, owner: UserId, id: AttachmentId) -> Result<bool> {
        let filter = doc! { "_id": id.to_string(), "ownerId": owner.to_string(), "messageId": { "$exists": false } };
        let update = doc! { "$set": { "deletedAt": long_ago() } };
        let done = self.write(self.collection::<Document>(NAME).update_one(filter, update)).await?;
        Ok(done.matched_count > 0)
    }

    /// Expires what was uploaded before this and never claimed.
    pub async fn expire_unattached(&self, before: Timestamp) -> Result<u64> {
        let filter = doc! {
            "messageId": { "$exists": false },
            "createdAt": { "$lt": stored_time(before) },
            "deletedAt": { "$exists": false },
        };
        let update = doc! { "$set": { "deletedAt": long_ago() } };
        Ok(bounded(self.collection::<Document>(NAME).update_many(filter, update)).await?.modified_count)
    }

    /// Claims from before this that nobody has confirmed, at most so many.
    pub async fn unconfirmed_claims(&self, before: Timestamp, limit: i64) -> Result<Vec<Record>> {
        let filter = doc! {
            "messageSeq": { "$exists": false },
            "claimedAt": { "$lt": stored_time(before) },
            "deletedAt": { "$exists": false },
        };
        let attachments = self.collection::<AttachmentDocument>(NAME);
        let found = async { attachments.find(filter).limit(limit).await?.try_collect::<Vec<_>>().await };
        Ok(bounded(found).await?.into_iter().map(Record::from).collect())
    }

    /// What is to go: deleted before this, at most so many.
    pub async fn deleted_attachments(&self, before: Timestamp, limit: i64) -> Result<Vec<Record>> {
        let filter = doc! { "deletedAt": { "$lt": stored_time(before) } };
        let attachments = self.collection::<AttachmentDocument>(NAME);
        let found = async { attachments.find(filter).limit(limit).await?.try_collect::<Vec<_>>().await };
        Ok(bounded(found).await?.into_iter().map(Record::from).collect())
    }

    /// Forgets a deleted attachment.
    pub async fn forget_attachment(&self, id: AttachmentId) -> Result<()> {
        let filter = doc! { "_id": id.to_string(), "deletedAt": { "$exists": true } };
        bounded(self.collection::<Document>(NAME).delete_one(filter)).await.map(drop)
    }

    /// Those of a blob's holders that belong to a message by now, or to nobody yet.
    pub async fn attachments_of_blob(&self, blob: BlobId, limit: i64) -> Result<Vec<Record>> {
        let attachments = self.collection::<AttachmentDocument>(NAME);
        let filter = doc! { "blobId": blob.to_string(), "deletedAt": { "$exists": false } };
        let found = async { attachments.find(filter).limit(limit).await?.try_collect::<Vec<_>>().await };
        Ok(bounded(found).await?.into_iter().map(Record::from).collect())
    }
}
