//! Comparing conversations with their events, and putting back how they were opened.
//!
//! A conversation is the sum of many events, and a batch has some of them. So what a batch says is a bound: not before the
//! newest message of the batch, no mark behind its receipts. What the batch opens must be as it was opened.

use std::collections::{HashMap, HashSet};

use mongodb::bson::{Document, deserialize_from_document, doc, serialize_to_bson};

use super::audit::{Audit, Difference, Fault, Projected};
use super::conversations::{ConversationDocument, LastMessageDocument, NAME};
use super::{Store, bounded, stored_seq};
use crate::domain::conversation::{Conversation, LastMessage};
use crate::domain::event::{Body, Stored};
use crate::domain::ids::{ConversationId, UserId};
use crate::domain::message::Message;
use crate::error::{Error, Result};

/// What a batch says about a conversation.
#[derive(Debug, Default)]
struct Said<'a> {
    first: u64,
    opened: Option<(u64, &'a Conversation)>,
    /// Its messages that are no copies.
    messages: HashMap<u64, &'a Message>,
    newest: u64,
    /// The highest mark and the last receipt of each user.
    marks: HashMap<UserId, (u64, u64)>,
}

impl<'a> Said<'a> {
    fn hear(&mut self, stored: &'a Stored, copies: &HashSet<u64>) {
        let at = stored.seq;
        if self.first == 0 {
            self.first = at;
        }
        match &stored.event.body {
            Body::Conversation(conversation) => self.opened = self.opened.or(Some((at, conversation))),
            Body::Message(_) if copies.contains(&at) => {}
            Body::Message(message) => {
                self.messages.insert(at, message);
                self.newest = at;
            }
            Body::Receipt(receipt) => {
                let (mark, last) = self.marks.entry(receipt.user_id).or_default();
                *mark = receipt.read_seq.max(*mark);
                *last = at;
            }
            Body::Notification(_) => {}
        }
    }

    /// Whether one of its events put a conversation at this place.
    fn explains(&self, place: i64) -> bool {
        self.opened.is_some_and(|(at, _)| stored_seq(at) == place)
            || u64::try_from(place).is_ok_and(|place| self.messages.contains_key(&place))
    }

    /// The names of the fields that contradict this batch, which covers the places of `window`.
    fn contradicted(&self, found: &ConversationDocument, window: (u64, u64), head: u64) -> Vec<String> {
        let mut fields = Vec::new();
        let mut wrong = |name: &str, is: bool| {
            if is {
                fields.push(name.to_owned());
            }
        };
        let mut changed = self.newest;
        if let Some((at, opened)) = self.opened {
            let wanted = ConversationDocument::opened(at, opened);
            changed = changed.max(at);
            wrong("kind", wanted.kind != found.kind);
            wrong("context", wanted.context != found.context);
            wrong("createdBy", wanted.created_by != found.created_by);
            wrong("createdAt", wanted.created_at != found.created_at);
            let who = |one: &ConversationDocument| -> Vec<_> {
                one.participants.iter().map(|one| (one.user_id, one.role)).collect()
            };
            wrong("participants", who(&wanted) != who(found));
        }
        let mut behind = (false, false);
        for one in &found.participants {
            if let Some((mark, last)) = self.marks.get(&one.user_id) {
                behind.0 |= one.read_seq < stored_seq(*mark);
                behind.1 |= one.change_seq < stored_seq(*last);
                changed = changed.max(*last);
            }
        }
        wrong("readSeq", behind.0);
        let within = found.last_seq >= stored_seq(window.0) && found.last_seq <= stored_seq(window.1);
        let misplaced = found.last_seq < stored_seq(self.newest) || found.last_seq > stored_seq(head);
        wrong("lastSeq", misplaced || (within && !self.explains(found.last_seq)));
        let last = u64::try_from(found.last_seq).ok().and_then(|at| Some((at, *self.messages.get(&at)?)));
        let last = last.map(|(at, message)| LastMessageDocument::from(&LastMessage::of(at, message)));
        wrong("lastMessage", self.explains(found.last_seq) && found.last_message != last);
        let late = found.change_seq < stored_seq(changed) || found.change_seq > stored_seq(head);
        wrong("changeSeq", late || behind.1);
        fields
    }
}

impl Store {
    pub(super) async fn audit_conversations(&self, events: &[Stored], head: u64, audit: &mut Audit) -> Result<()> {
        let (Some(first), Some(last)) = (events.first(), events.last()) else { return Ok(()) };
        let window = (first.seq, last.seq);
        let mut said: HashMap<ConversationId, Said<'_>> = HashMap::new();
        for stored in events {
            if let Some(id) = stored.event.body.conversation() {
                said.entry(id).or_default().hear(stored, &audit.copies);
            }
        }
        let ids: Vec<String> = said.keys().map(ToString::to_string).collect();
        let mut found = self.raw(NAME, &ids).await?;
        for (id, said) in said {
            let text = id.to_string();
            let (fault, fields) = match found.remove(&text).map(deserialize_from_document::<ConversationDocument>) {
                None => (Fault::Missing, Vec::new()),
                Some(Err(_)) => {
                    audit.unreadable.push(id);
                    (Fault::Different, vec!["unreadable".to_owned()])
                }
                Some(Ok(found)) => {
                    if said.explains(found.last_seq) {
                        audit.explain(Projected::Conversations);
                    }
                    (Fault::Different, said.contradicted(&found, window, head))
                }
            };
            if fault == Fault::Missing || !fields.is_empty() {
                let collection = Projected::Conversations;
                audit.differences.push(Difference { collection, id: text, seq: said.first, fault, fields });
            }
        }
        Ok(())
    }

    /// Makes a conversation again what it was opened as; marks and the newest message stay.
    pub(super) async fn reopen_conversation(&self, at: u64, opened: &Conversation) -> Result<()> {
        let Some(found) = self.stored_conversations(&[opened.id]).await?.pop() else { return Ok(()) };
        let mut wanted = ConversationDocument::opened(at, opened);
        let before = serialize_to_bson(&found.participants).map_err(Error::internal)?;
        for one in &mut wanted.participants {
            if let Some(known) = found.participants.iter().find(|known| known.user_id == one.user_id) {
                one.keep_marks(known);
            }
        }
        let mut fields = super::audit::serialized(&wanted)?;
        for kept in ["_id", "lastSeq", "lastMessage", "changeSeq", "copySeq"] {
            fields.remove(kept);
        }
        let mut update = doc! { "$set": fields };
        if wanted.context.is_none() {
            update.insert("$unset", doc! { "context": "" });
        }
        // A mark that moved meanwhile is not to be lost: then the next round does it.
        let unchanged = doc! { "_id": opened.id.to_string(), "participants": before };
        bounded(self.collection::<Document>(NAME).update_one(unchanged, update)).await.map(drop)
    }

    /// Removes a conversation, so that it can be projected anew.
    pub async fn remove_conversation(&self, id: ConversationId) -> Result<()> {
        bounded(self.collection::<Document>(NAME).delete_one(doc! { "_id": id.to_string() })).await.map(drop)
    }
}
