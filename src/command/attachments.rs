//! Attachments of messages: a message claims them before it is stored, each belongs to one message for ever.
//!
//! A claim is a write to MongoDB, so a message with attachments waits for it; no other one does. A message that came to
//! nothing may leave its claims behind: whoever wants the attachment next finds that out, after a while in which the message
//! may still be on its way.

use super::Commands;
use super::uploads::{in_use, unknown_attachment};
use crate::auth::Actor;
use crate::domain::attachment::{Attachment, LIMIT, State};
use crate::domain::ids::{AttachmentId, ConversationId, MessageId};
use crate::domain::words::required;
use crate::error::{Code, Error, Result};
use crate::store::attachments::{Attempt, Claim, Record};

/// Seconds after which a message that nobody knows will not come any more.
const ABANDONED: i64 = 60;

/// The ids by which somebody names attachments.
pub fn ids<'a>(asked: impl IntoIterator<Item = Option<&'a str>>) -> Result<Vec<&'a str>> {
    asked.into_iter().map(|id| required(id, "the id of an attachment")).collect()
}

/// The attachments that somebody wants to send, each once.
pub fn named<'a>(asked: impl IntoIterator<Item = &'a str>) -> Result<Vec<AttachmentId>> {
    let mut ids: Vec<AttachmentId> = Vec::new();
    for id in asked {
        let id = id.parse()?;
        if !ids.contains(&id) {
            ids.push(id);
        }
        if ids.len() > LIMIT {
            return Err(too_many());
        }
    }
    Ok(ids)
}

/// The answer to a message with more attachments than there may be.
#[must_use]
pub fn too_many() -> Error {
    Error::new(Code::TooLarge, "too_many_attachments", "a message can have 10 attachments")
}

/// The answer about an attachment that is harmful.
#[must_use]
pub fn infected() -> Error {
    Error::new(Code::Conflict, "attachment_infected", "this attachment is harmful, nobody gets it")
}

impl Commands {
    /// Claims attachments for an attempt to send a message, all of them or none.
    pub(super) async fn claim(
        &self,
        actor: &Actor,
        conversation_id: ConversationId,
        message_id: MessageId,
        ids: &[AttachmentId],
        attempt: Attempt,
    ) -> Result<Vec<Attachment>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let claim = Claim { conversation_id, message_id, message_seq: None, at: self.clock.now() };
        match self.claim_or_take_over(actor, ids, claim, attempt).await {
            Ok(attachments) => Ok(attachments),
            Err(refused) => {
                self.release(ids, message_id, attempt).await;
                Err(match refused {
                    Refused::Taken(..) => in_use(),
                    Refused::Because(error) => error,
                })
            }
        }
    }

    /// Gives attachments back that an attempt has claimed which came to nothing. What cannot be given back now is abandoned,
    /// and found so later.
    pub(super) async fn release(&self, ids: &[AttachmentId], message: MessageId, attempt: Attempt) {
        if !ids.is_empty() {
            let _ = self.store.release_attempt(ids, message, attempt).await;
        }
    }

    /// Claims them, also those that messages have claimed which will not be: each may have been left by another one.
    async fn claim_or_take_over(
        &self,
        actor: &Actor,
        ids: &[AttachmentId],
        claim: Claim,
        attempt: Attempt,
    ) -> Result<Vec<Attachment>, Refused> {
        for _ in ids {
            match self.try_claim(actor, ids, claim, attempt).await {
                Err(Refused::Taken(id, by)) if self.is_abandoned(&by).await? => {
                    self.store.release_claim(id, by).await?;
                }
                done => return done,
            }
        }
        self.try_claim(actor, ids, claim, attempt).await
    }

    async fn try_claim(
        &self,
        actor: &Actor,
        ids: &[AttachmentId],
        claim: Claim,
        attempt: Attempt,
    ) -> Result<Vec<Attachment>, Refused> {
        self.store.claim_attachments(actor.user_id, ids, claim, attempt).await?;
        let records = self.store.attachments_by_id(ids).await?;
        let mut claimed = Vec::with_capacity(ids.len());
        for id in ids {
            let record = records.iter().find(|record| record.id == *id && record.owner_id == actor.user_id);
            claimed.push(judge(record, claim.message_id)?);
        }
        let blobs: Vec<_> = claimed.iter().filter_map(|record| record.blob_id).collect();
        let blobs = self.store.blobs_by_id(&blobs).await?;
        let attachment = |record: &&Record| {
            let blob = blobs.iter().find(|blob| Some(blob.id) == record.blob_id).ok_or_else(unknown_attachment)?;
            if blob.content.state == State::Infected {
                return Err(infected());
            }
            Ok(Attachment { id: record.id, name: record.name.clone(), content: blob.content.clone() })
        };
        Ok(claimed.iter().map(attachment).collect::<Result<_>>()?)
    }

    /// Whether a message that has claimed something will not be.
    async fn is_abandoned(&self, claim: &Claim) -> Result<bool> {
        if claim.message_seq.is_some() || claim.at.plus_seconds(ABANDONED) > self.clock.now() {
            return Ok(false);
        }
        Ok(self.said(claim.conversation_id, claim.message_id).await?.is_none())
    }
}

/// Why an attachment was not claimed.
enum Refused {
    /// Another message has this one.
    Taken(AttachmentId, Claim),
    /// It cannot be.
    Because(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Because(error)
    }
}

/// Whether this message has claimed it.
fn judge(record: Option<&Record>, message: MessageId) -> Result<&Record, Refused> {
    let record = record.filter(|record| !record.is_deleted).ok_or_else(unknown_attachment)?;
    match record.claim {
        Some(claim) if claim.message_id == message => Ok(record),
        Some(claim) => Err(Refused::Taken(record.id, claim)),
        // It was free, and was not taken all the same.
        None => {
            Err(Error::new(Code::Conflict, "upload_pending", "the bytes of this attachment are not there yet").into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attachment_is_named_once_and_there_is_an_end_to_it() {
        let ids: Vec<String> = (1..=11).map(|bits| AttachmentId::from_bits(bits).to_string()).collect();
        let asked = |ids: &[String]| named(ids.iter().map(String::as_str));
        assert_eq!(asked(&ids[..10]).map(|all| all.len()).ok(), Some(10));
        assert_eq!(asked(&ids).err().map(|error| error.reason()), Some("too_many_attachments"));
        assert_eq!(asked(&vec![ids[0].clone(); 20]).map(|all| all.len()).ok(), Some(1));
        assert_eq!(named(["nonsense"]).err().map(|error| error.reason()), Some("malformed_id"));
    }
}
