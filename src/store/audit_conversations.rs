//! Comparing conversations with their events, and putting back their states.
//!
//! A conversation is the sum of many events, and a batch has some of them. So what a batch says is a bound: every write that
//! it means must show, or be covered by a later one, and what lies within the batch must be explained by it.

use std::collections::{HashMap, HashSet};

use mongodb::bson::{Document, deserialize_from_document, doc};

use super::audit::{Audit, Difference, Fault, Projected};
use super::batch::Batch;
use super::conversations::{ConversationDocument, NAME};
use super::touch::Touch;
use super::{Store, bounded, stored_seq};
use crate::domain::conversation::Conversation;
use crate::domain::event::{Body, Stored};
use crate::domain::ids::{ConversationId, MessageId};
use crate::error::Result;

/// What a batch says about a conversation.
#[derive(Debug, Default)]
struct Said<'a> {
    first: u64,
    /// The places of its states.
    states: HashSet<i64>,
    /// Its messages that are no copies, by place.
    messages: HashMap<i64, MessageId>,
    touches: Vec<Touch<'a>>,
}

impl<'a> Said<'a> {
    fn hear(&mut self, stored: &'a Stored, copies: &HashSet<u64>) {
        if self.first == 0 {
            self.first = stored.seq;
        }
        let at = stored_seq(stored.seq);
        match &stored.event.body {
            Body::Conversation(_) => drop(self.states.insert(at)),
            Body::Message(message) if !copies.contains(&stored.seq) => drop(self.messages.insert(at, message.id)),
            _ => {}
        }
    }

    /// Whether one of its events put a conversation at this place.
    fn explains(&self, place: i64) -> bool {
        self.states.contains(&place) || self.messages.contains_key(&place)
    }

    /// The names of the fields that contradict this batch, which covers the places of `window`.
    fn contradicted(&self, found: &ConversationDocument, window: (u64, u64), head: u64) -> Vec<String> {
        let hidden = self.touches.iter().filter(|touch| !touch.shows_in(found));
        let mut fields: Vec<String> = hidden.map(|touch| touch.field().to_owned()).collect();
        let mut wrong = |name: &str, is: bool| {
            if is {
                fields.push(name.to_owned());
            }
        };
        let within = |at: i64| at >= stored_seq(window.0) && at <= stored_seq(window.1);
        wrong("state", within(found.state_seq) && !self.states.contains(&found.state_seq));
        let last = found.last_message.as_ref();
        wrong(
            "lastMessage",
            last.is_some_and(|last| within(last.seq) && self.messages.get(&last.seq) != Some(&last.id)),
        );
        let top = last.map_or(0, |last| last.seq).max(found.state_seq);
        wrong("lastSeq", found.last_seq != top || found.last_seq > stored_seq(head));
        wrong("changeSeq", found.change_seq > stored_seq(head));
        fields.sort_unstable();
        fields.dedup();
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
        let originals = events.iter().filter(|stored| !audit.copies.contains(&stored.seq));
        let batch = Batch::of(originals);
        let states = batch.states().into_iter().map(|(at, state)| Touch::State(at, state));
        for touch in states.chain(batch.touches()) {
            if let Some(said) = said.get_mut(&touch.conversation()) {
                said.touches.push(touch);
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

    /// Makes a conversation's state that of an event, the last one of it in a batch that ends at `last`. A state that comes
    /// after the batch stays, unless the log does not reach so far.
    pub(super) async fn force_state(&self, at: u64, state: &Conversation, last: u64, head: u64) -> Result<()> {
        let Some(found) = self.stored_conversations(&[state.id]).await?.pop() else { return Ok(()) };
        if found.state_seq > stored_seq(last) && found.state_seq <= stored_seq(head) {
            return Ok(());
        }
        let (_, update) = Touch::State(at, state).write()?;
        // What changed meanwhile is not to be lost: then the next round does it.
        let unchanged = doc! { "_id": state.id.to_string(), "stateSeq": found.state_seq };
        bounded(self.collection::<Document>(NAME).update_one(unchanged, update)).await.map(drop)
    }

    /// Removes a conversation, so that it can be projected anew.
    pub async fn remove_conversation(&self, id: ConversationId) -> Result<()> {
        bounded(self.collection::<Document>(NAME).delete_one(doc! { "_id": id.to_string() })).await.map(drop)
    }
}
