//! What events mean for the conversations they are in: newest messages, marks, and messages that were sent again.
//!
//! Every write here commutes, so that the order of deliveries between instances does not matter:
//! - a mark and the seq of the receipt that carried it only rise, each by itself: a late receipt may carry a low mark;
//! - the newest message is the one with the highest seq, and it is in `messages` before it is named here;
//! - a message that the log has twice counts where it was first. Whoever meets the second one says so: `copySeq` rises,
//!   which keeps the later place from being named any more, and if it is named already the newest message is looked up
//!   again ([`Store::recount_conversations`]). All others pay nothing for it.

use std::collections::HashSet;

use mongodb::bson::{Document, doc, serialize_to_bson};
use mongodb::options::UpdateOneModel;

use super::conversations::{ConversationDocument, LastMessageDocument, NAME};
use super::{Store, bounded, stored_seq};
use crate::domain::conversation::LastMessage;
use crate::domain::ids::{ConversationId, UserId};
use crate::error::{Error, Result};

/// Rounds until a conversation that others write to at the same time is given back to the broker.
const ROUNDS: usize = 32;

/// How far a participant has read, as some receipts say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Where.
    pub conversation_id: ConversationId,
    /// Who.
    pub user_id: UserId,
    /// The highest mark.
    pub read_seq: u64,
    /// The highest seq of these receipts.
    pub seq: u64,
}

/// A write to one conversation.
#[derive(Debug, Clone)]
pub enum Touch {
    /// A message was sent.
    Newest(ConversationId, LastMessage),
    /// Somebody has read on.
    Mark(Mark),
    /// The log has a message of it here again.
    Copy(ConversationId, u64),
    /// Something happened in it that nothing above says.
    Changed(ConversationId, u64),
}

/// What has to be seen to after touching conversations.
#[derive(Debug, Default)]
pub struct Touched {
    /// Those that are not there yet.
    pub unopened: HashSet<ConversationId>,
    /// Those whose newest message may be a message that was sent again.
    pub doubtful: HashSet<ConversationId>,
}

impl Touch {
    const fn conversation(&self) -> ConversationId {
        match self {
            Self::Newest(id, _) | Self::Copy(id, _) | Self::Changed(id, _) => *id,
            Self::Mark(mark) => mark.conversation_id,
        }
    }

    /// The filter and the update.
    fn write(&self) -> Result<(Document, Document)> {
        let id = self.conversation().to_string();
        Ok(match self {
            Self::Newest(_, last) => {
                let at = stored_seq(last.seq);
                let last = serialize_to_bson(&LastMessageDocument::from(last)).map_err(Error::internal)?;
                (
                    doc! { "_id": id, "lastSeq": { "$lt": at }, "copySeq": { "$not": { "$gte": at } } },
                    doc! { "$set": { "lastMessage": last, "lastSeq": at }, "$max": { "changeSeq": at } },
                )
            }
            Self::Mark(mark) => {
                let at = stored_seq(mark.seq);
                let rise = doc! {
                    "participants.$.readSeq": stored_seq(mark.read_seq),
                    "participants.$.changeSeq": at,
                    "changeSeq": at,
                };
                (doc! { "_id": id, "participants.userId": mark.user_id.to_string() }, doc! { "$max": rise })
            }
            Self::Copy(_, at) => (doc! { "_id": id }, doc! { "$max": { "copySeq": stored_seq(*at) } }),
            Self::Changed(_, at) => (doc! { "_id": id }, doc! { "$max": { "changeSeq": stored_seq(*at) } }),
        })
    }

    /// Whether a conversation shows this already, or never will.
    fn shows_in(&self, found: &ConversationDocument) -> bool {
        match self {
            Self::Newest(_, last) => found.last_seq >= stored_seq(last.seq) || found.copied(stored_seq(last.seq)),
            Self::Mark(mark) => {
                let theirs = found.participants.iter().find(|one| one.user_id == mark.user_id);
                theirs.is_none_or(|one| {
                    one.read_seq >= stored_seq(mark.read_seq) && one.change_seq >= stored_seq(mark.seq)
                })
            }
            Self::Copy(_, at) => found.copied(stored_seq(*at)),
            Self::Changed(_, at) => found.change_seq >= stored_seq(*at),
        }
    }
}

impl ConversationDocument {
    /// Whether the log repeats one of its messages here or later.
    fn copied(&self, at: i64) -> bool {
        self.copy_seq.is_some_and(|copy| copy >= at)
    }

    /// Whether what it names as its newest message may be a repeated one.
    fn is_doubtful(&self) -> bool {
        self.copied(self.last_seq)
    }
}

impl Store {
    /// Touches conversations, in one bulk write unless something was not as usual. Messages must be inserted before they
    /// are named here.
    pub async fn touch_conversations(&self, mut touches: Vec<Touch>) -> Result<Touched> {
        let mut touched = Touched::default();
        for _ in 0..ROUNDS {
            if touches.is_empty() || self.write_touches(&touches).await? {
                return Ok(touched);
            }
            // Something did not match: it was projected before, or its conversation was not there. It may be by now.
            let mut ids: Vec<ConversationId> = touches.iter().map(Touch::conversation).collect();
            ids.sort_unstable();
            ids.dedup();
            let found = self.stored_conversations(&ids).await?;
            let found = |id| found.iter().find(|one: &&ConversationDocument| one.id == id);
            for id in ids {
                match found(id) {
                    None => drop(touched.unopened.insert(id)),
                    Some(known) if known.is_doubtful() => drop(touched.doubtful.insert(id)),
                    Some(_) => {}
                }
            }
            touches.retain(|touch| found(touch.conversation()).is_some_and(|known| !touch.shows_in(known)));
        }
        Err(Error::internal("conversations were changed again and again while they were touched"))
    }

    /// Whether every write found its conversation, and it in the state that it wants.
    async fn write_touches(&self, touches: &[Touch]) -> Result<bool> {
        let mut models = Vec::with_capacity(touches.len());
        for touch in touches {
            let (filter, update) = touch.write()?;
            let namespace = self.namespace(NAME);
            models.push(UpdateOneModel::builder().namespace(namespace).filter(filter).update(update).build());
        }
        let done = bounded(self.client.bulk_write(models).ordered(false)).await?;
        Ok(done.matched_count >= i64::try_from(touches.len()).unwrap_or(i64::MAX))
    }

    /// Looks up the newest messages of those conversations again that may name one which was sent again.
    pub async fn recount_conversations(&self, doubtful: impl IntoIterator<Item = ConversationId>) -> Result<()> {
        let ids: Vec<ConversationId> = doubtful.into_iter().collect();
        if ids.is_empty() {
            return Ok(());
        }
        let found = self.stored_conversations(&ids).await?;
        for known in found.iter().filter(|known| known.is_doubtful()) {
            self.recount(known.id, None).await?;
        }
        Ok(())
    }

    /// Makes a conversation's newest message that of `messages`; without any, what it was when it was opened, if the place
    /// of that is given.
    ///
    /// A message is inserted before its conversation names it, so what the conversation names and `messages` does not have
    /// was a repeated one. Others may write meanwhile: this goes on until nothing was left to change.
    pub async fn recount(&self, id: ConversationId, opened: Option<u64>) -> Result<()> {
        for _ in 0..ROUNDS {
            // In this order: what was named before the messages were read is among them.
            let Some(found) = self.stored_conversations(&[id]).await?.pop() else { return Ok(()) };
            let head = self.head_of(&id.to_string()).await?;
            let (at, changed, last) = match (&head, opened) {
                (Some((at, message, changed)), _) => (*at, *changed, Some(LastMessage::of(*at, message))),
                (None, Some(opened)) => (opened, opened, None),
                (None, None) => return Ok(()),
            };
            let last = last.as_ref().map(LastMessageDocument::from);
            let receipts = found.participants.iter().map(|one| one.change_seq).max().unwrap_or_default();
            let (at, changed) = (stored_seq(at), stored_seq(changed).max(receipts));
            if found.last_seq == at && found.change_seq == changed && found.last_message == last {
                return Ok(());
            }
            let unchanged = doc! { "_id": id.to_string(), "lastSeq": found.last_seq, "changeSeq": found.change_seq };
            let mut recounted = doc! { "$set": { "lastSeq": at, "changeSeq": changed } };
            if let Some(last) = last {
                let last = serialize_to_bson(&last).map_err(Error::internal)?;
                recounted = doc! { "$set": { "lastMessage": last, "lastSeq": at, "changeSeq": changed } };
            } else {
                recounted.insert("$unset", doc! { "lastMessage": "" });
            }
            bounded(self.collection::<Document>(NAME).update_one(unchanged, recounted)).await?;
        }
        Err(Error::internal(format!("the conversation {id} was changed again and again while it was recounted")))
    }
}
