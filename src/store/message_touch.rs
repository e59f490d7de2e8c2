//! What events do to messages that were sent before: edits, deletions, emoji, pins.
//!
//! Each is a register of the message's document with the seq of the event that set it, so all these writes commute and can
//! be repeated. A deletion empties the message and keeps every other register from being set again.

use std::collections::HashSet;

use mongodb::bson::{Document, doc, serialize_to_bson};
use mongodb::options::UpdateOneModel;
use serde::Serialize;

use super::messages::{
    DeletedDocument, EditDocument, MessageDocument, NAME, PinDocument, ProgressDocument, ReactionDocument,
    WordingDocument,
};
use super::{Store, bounded, stored_seq, stored_time};
use crate::domain::change::{Reaction, Scope};
use crate::domain::event::Body;
use crate::domain::ids::MessageId;
use crate::error::{Error, Result};

/// The fields that a deletion removes.
const EMPTIED: [&str; 8] = ["replyTo", "mentions", "attachments", "edits", "wording", "reactions", "pin", "progress"];
/// Rounds until messages that others write to at the same time are given back to the broker.
const ROUNDS: usize = 32;

/// What one event does to a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct MessageTouch<'a> {
    /// Which message.
    pub(super) id: MessageId,
    /// The seq of the event.
    pub(super) at: u64,
    body: &'a Body,
    sets: Sets,
}

/// Which register an event sets. An edit has two: its words are kept among all the others, and as the last ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sets {
    Own,
    Wording,
}

/// The key of somebody's emoji: a field's name cannot be any text.
fn reaction_key(reaction: &Reaction) -> String {
    use std::fmt::Write as _;
    reaction.emoji.bytes().fold(format!("{}_", reaction.user_id), |mut key, byte| {
        let _ = write!(key, "{byte:02x}");
        key
    })
}

impl<'a> MessageTouch<'a> {
    /// What an event does, if it does something to a message that was sent before.
    pub(super) fn of(at: u64, body: &'a Body) -> Option<Self> {
        body.changed_message().map(|id| Self { id, at, body, sets: Sets::Own })
    }

    /// Its words as the last ones of the message, if it is an edit.
    pub(super) fn wording(self) -> Option<Self> {
        matches!(self.body, Body::Edit(_)).then_some(Self { sets: Sets::Wording, ..self })
    }

    /// The name of the register.
    pub(super) const fn register(&self) -> &'static str {
        match self.body {
            Body::Edit(_) if matches!(self.sets, Sets::Wording) => "wording",
            Body::Edit(_) => "edits",
            Body::Deletion(deletion) => match deletion.scope {
                Scope::Everybody => "deleted",
                Scope::Me => "hidden",
            },
            Body::Pin(_) => "pin",
            Body::Attachment(_) => "progress",
            _ => "reactions",
        }
    }

    /// The filter and the update.
    fn write(&self) -> Result<(Document, Document)> {
        let at = stored_seq(self.at);
        // What this very event has set may be set again: somebody may have written to the database by hand.
        let older = doc! { "$not": { "$gt": at } };
        let mut filter = doc! { "_id": self.id.to_string() };
        let set = |path: String, value: mongodb::bson::Bson| {
            let mut set = Document::new();
            set.insert(path, value);
            set
        };
        let update = match self.body {
            Body::Deletion(deletion) if deletion.scope == Scope::Me => {
                let path = format!("hidden.{}", deletion.deleted_by);
                filter.insert(path.clone(), older);
                doc! { "$set": set(path, at.into()) }
            }
            Body::Deletion(_) => {
                filter.insert("deleted.seq", older);
                let mut set = set("deleted".into(), self.value()?);
                set.insert("text", "");
                doc! { "$set": set, "$unset": EMPTIED.map(|field| (field.to_owned(), "".into())).into_iter().collect::<Document>() }
            }
            Body::Edit(_) if self.sets == Sets::Wording => {
                filter.insert("deleted", doc! { "$exists": false });
                filter.insert("wording.seq", older);
                doc! { "$set": set("wording".into(), self.value()?) }
            }
            Body::Edit(_) => {
                filter.insert("deleted", doc! { "$exists": false });
                doc! { "$set": set(format!("edits.{at}"), self.value()?) }
            }
            Body::Reaction(reaction) => {
                let path = format!("reactions.{}", reaction_key(reaction));
                filter.insert("deleted", doc! { "$exists": false });
                filter.insert(format!("{path}.seq"), older);
                doc! { "$set": set(path, self.value()?) }
            }
            Body::Attachment(progress) => {
                let path = format!("progress.{}", progress.attachment.id);
                filter.insert("deleted", doc! { "$exists": false });
                filter.insert(format!("{path}.seq"), older);
                doc! { "$set": set(path, self.value()?) }
            }
            _ => {
                filter.insert("deleted", doc! { "$exists": false });
                filter.insert("pin.seq", older);
                doc! { "$set": set("pin".into(), self.value()?) }
            }
        };
        Ok((filter, update))
    }

    /// What the register is set to.
    fn value(&self) -> Result<mongodb::bson::Bson> {
        fn bson(value: &impl Serialize) -> Result<mongodb::bson::Bson> {
            serialize_to_bson(value).map_err(Error::internal)
        }
        let at = stored_seq(self.at);
        match self.body {
            Body::Edit(_) if self.sets == Sets::Wording => bson(&self.last_wording()),
            Body::Edit(_) => bson(&self.edit()),
            Body::Deletion(_) => bson(&self.deleted()),
            Body::Reaction(_) => bson(&self.reaction()),
            Body::Pin(_) => bson(&self.pin()),
            Body::Attachment(_) => bson(&self.progress()),
            _ => Ok(at.into()),
        }
    }

    fn edit(&self) -> Option<EditDocument> {
        let Body::Edit(edit) = self.body else { return None };
        Some(EditDocument { text: edit.text.clone(), mentions: edit.mentions.clone(), at: stored_time(edit.edited_at) })
    }

    fn last_wording(&self) -> Option<WordingDocument> {
        let EditDocument { text, mentions, at } = self.edit()?;
        Some(WordingDocument { seq: stored_seq(self.at), text, mentions, at })
    }

    fn deleted(&self) -> Option<DeletedDocument> {
        let Body::Deletion(deletion) = self.body else { return None };
        let at = stored_time(deletion.deleted_at);
        Some(DeletedDocument { seq: stored_seq(self.at), by: deletion.deleted_by, at })
    }

    fn reaction(&self) -> Option<ReactionDocument> {
        let Body::Reaction(Reaction { user_id, emoji, on, .. }) = self.body else { return None };
        Some(ReactionDocument { seq: stored_seq(self.at), user_id: *user_id, emoji: emoji.clone(), on: *on })
    }

    fn pin(&self) -> Option<PinDocument> {
        let Body::Pin(pin) = self.body else { return None };
        Some(PinDocument { seq: stored_seq(self.at), user_id: pin.user_id, at: stored_time(pin.at), on: pin.on })
    }

    fn progress(&self) -> Option<ProgressDocument> {
        let Body::Attachment(progress) = self.body else { return None };
        Some(ProgressDocument { seq: stored_seq(self.at), attachment: progress.attachment.clone() })
    }

    /// Whether a message shows this already, or never will.
    pub(super) fn shows_in(&self, found: &MessageDocument) -> bool {
        let at = stored_seq(self.at);
        match self.body {
            Body::Deletion(deletion) if deletion.scope == Scope::Me => {
                found.hidden.get(&deletion.deleted_by.to_string()).is_some_and(|known| *known >= at)
            }
            Body::Deletion(_) => found
                .deleted
                .as_ref()
                .is_some_and(|known| known.seq > at || (known.seq == at && Some(known) == self.deleted().as_ref())),
            _ if found.deleted.is_some() => true,
            Body::Edit(_) if self.sets == Sets::Wording => found.wording.as_ref().is_some_and(|known| {
                known.seq > at || (known.seq == at && Some(known) == self.last_wording().as_ref())
            }),
            Body::Edit(_) => found.edits.get(&at.to_string()) == self.edit().as_ref(),
            Body::Reaction(reaction) => found
                .reactions
                .get(&reaction_key(reaction))
                .is_some_and(|known| known.seq > at || (known.seq == at && Some(known) == self.reaction().as_ref())),
            Body::Attachment(progress) => found
                .progress
                .get(&progress.attachment.id.to_string())
                .is_some_and(|known| known.seq > at || (known.seq == at && Some(known) == self.progress().as_ref())),
            _ => found
                .pin
                .as_ref()
                .is_some_and(|known| known.seq > at || (known.seq == at && Some(known) == self.pin().as_ref())),
        }
    }
}

impl Store {
    /// Touches messages, in one bulk write unless something was not as usual. Returns those that are not there yet.
    pub(super) async fn touch_messages(&self, mut touches: Vec<MessageTouch<'_>>) -> Result<HashSet<MessageId>> {
        let mut missing = HashSet::new();
        for _ in 0..ROUNDS {
            if touches.is_empty() || self.write_message_touches(&touches).await? {
                return Ok(missing);
            }
            // Something did not match: it was projected before, or its message was not there. It may be by now.
            let mut ids: Vec<MessageId> = touches.iter().map(|touch| touch.id).collect();
            ids.sort_unstable();
            ids.dedup();
            let found = self.stored_messages(&ids).await?;
            let found = |id| found.iter().find(|one: &&MessageDocument| one.id == id);
            missing.extend(ids.into_iter().filter(|id| found(*id).is_none()));
            touches.retain(|touch| found(touch.id).is_some_and(|known| !touch.shows_in(known)));
        }
        Err(Error::internal("messages were changed again and again while they were touched"))
    }

    /// Whether every write found its message, and it in the state that it wants.
    async fn write_message_touches(&self, touches: &[MessageTouch<'_>]) -> Result<bool> {
        let mut models = Vec::with_capacity(touches.len());
        for touch in touches {
            let (filter, update) = touch.write()?;
            let namespace = self.namespace(NAME);
            models.push(UpdateOneModel::builder().namespace(namespace).filter(filter).update(update).build());
        }
        let done = bounded(self.client.bulk_write(models).ordered(false)).await?;
        Ok(done.matched_count >= i64::try_from(touches.len()).unwrap_or(i64::MAX))
    }
}
