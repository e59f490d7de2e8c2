//! The directory: which users are in which conversation, kept close so that a send needs no look-up.
//!
//! A bounded cache of conversations. What is missing is read from the log itself, whose newest `conversation` event
//! carries the whole state, and from MongoDB only once the log has been purged that far. The tail keeps it right: every
//! change passes through [`Directory::observe`], and an older state never replaces a newer one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use moka::sync::Cache;

use crate::auth::Actor;
use crate::broker::Broker;
use crate::broker::subject::{ChatKind, Subject};
use crate::domain::conversation::{Conversation, Participant, foreign};
use crate::domain::event::{Body, Stored};
use crate::domain::ids::{ConversationId, UserId};
use crate::domain::rights::{self, Act, Who};
use crate::error::Result;
use crate::store::Store;
use crate::store::messages::Sight;

/// Conversations kept, at most; one with two participants takes about 400 bytes.
const KEPT: u64 = 50_000;

/// A conversation as the live path knows it.
#[derive(Debug)]
pub struct Entry {
    /// The conversation.
    pub conversation: Conversation,
    /// The seq of the event that this state comes from.
    seq: u64,
    /// The seq of its newest message as far as known; zero if nobody has asked yet.
    head: AtomicU64,
    /// The marks that participants are known to have reached.
    read: Mutex<Vec<(UserId, u64)>>,
}

impl Entry {
    fn new(conversation: Conversation, seq: u64) -> Self {
        Self { conversation, seq, head: AtomicU64::new(0), read: Mutex::default() }
    }

    /// What exists for somebody who is in it.
    #[must_use]
    pub fn sight(&self, user: UserId) -> Sight {
        let from = self.conversation.participant(user).map_or(u64::MAX, |participant| participant.visible_from);
        Sight { user, from }
    }

    /// Refuses whoever may not do this here: an outsider as [`foreign`], a participant by their role, and everybody who says
    /// something once it is closed, but for those whose message opens it again.
    pub fn require(&self, actor: &Actor, act: Act) -> Result<&Participant> {
        let conversation = &self.conversation;
        let participant = conversation.participant(actor.user_id).ok_or_else(foreign)?;
        if !rights::may(conversation.kind, Who::Participant(participant.role), act) {
            return Err(rights::not_allowed());
        }
        let goes_on = act == Act::Send && conversation.reopens_for(actor.user_id);
        if conversation.closed_at.is_some() && act.speaks() && !goes_on {
            return Err(rights::closed());
        }
        Ok(participant)
    }

    /// The seq of the event that this state comes from; zero if only MongoDB knows it.
    #[must_use]
    pub const fn seq(&self) -> u64 {
        self.seq
    }

    /// Whether this participant is known to have read up to here.
    pub(super) fn has_read(&self, user: UserId, seq: u64) -> bool {
        self.read.lock().is_ok_and(|read| read.iter().any(|(reader, mark)| *reader == user && *mark >= seq))
    }

    fn note_read(&self, user: UserId, seq: u64) {
        if let Ok(mut read) = self.read.lock() {
            match read.iter_mut().find(|(reader, _)| *reader == user) {
                Some((_, mark)) => *mark = seq.max(*mark),
                None => read.push((user, seq)),
            }
        }
    }
}

/// The cache; cheap to clone.
#[derive(Debug, Clone)]
pub struct Directory {
    broker: Broker,
    store: Store,
    entries: Cache<ConversationId, Arc<Entry>>,
}

impl Directory {
    /// An empty directory.
    #[must_use]
    pub fn new(broker: Broker, store: Store) -> Self {
        Self { broker, store, entries: Cache::new(KEPT) }
    }

    /// A conversation that this user is in. Anybody else gets the same answer as for one that does not exist.
    pub async fn for_participant(&self, id: ConversationId, user: UserId) -> Result<Arc<Entry>> {
        let entry = self.find(id).await?.ok_or_else(foreign)?;
        entry.conversation.require(user)?;
        Ok(entry)
    }

    /// A conversation, if it exists.
    pub async fn find(&self, id: ConversationId) -> Result<Option<Arc<Entry>>> {
        if let Some(entry) = self.entries.get(&id) {
            return Ok(Some(entry));
        }
        let (logged, trouble) = match self.broker.last(Subject::Chat(id, ChatKind::Conversation)).await {
            Ok(found) => (found, None),
            // While the broker is away MongoDB can still say who may read.
            Err(error) => (None, Some(error)),
        };
        if let Some(Stored { seq, event }) = logged
            && let Body::Conversation(conversation) = event.body
        {
            return Ok(Some(self.keep(conversation, seq)));
        }
        let stored = self.store.conversation(id).await?;
        match (stored, trouble) {
            // Its opening is no longer in the log, so any state that the log still has is newer: seq zero.
            (Some(listed), _) => Ok(Some(self.keep(listed.conversation, 0))),
            // It may be in the log all the same.
            (None, Some(trouble)) => Err(trouble),
            (None, None) => Ok(None),
        }
    }

    /// The seq of a conversation's newest message; zero if it has none.
    pub async fn head(&self, entry: &Entry) -> Result<u64> {
        let known = entry.head.load(Ordering::Acquire);
        if known > 0 {
            return Ok(known);
        }
        let id = entry.conversation.id;
        let newest = match self.broker.last(Subject::Chat(id, ChatKind::Message)).await? {
            Some(newest) => newest.seq,
            None => {
                self.store.conversation(id).await?.and_then(|listed| listed.last_message).map_or(0, |last| last.seq)
            }
        };
        Ok(entry.head.fetch_max(newest, Ordering::AcqRel).max(newest))
    }

    /// Takes note of an event; called by the tail for every event, in order.
    pub fn observe(&self, stored: &Stored) {
        match &stored.event.body {
            Body::Conversation(conversation) => drop(self.keep(conversation.clone(), stored.seq)),
            Body::Message(message) => {
                if let Some(entry) = self.entries.get(&message.conversation_id) {
                    entry.head.fetch_max(stored.seq, Ordering::AcqRel);
                }
            }
            Body::Receipt(receipt) => {
                if let Some(entry) = self.entries.get(&receipt.conversation_id) {
                    entry.note_read(receipt.user_id, receipt.read_seq);
                }
            }
            _ => {}
        }
    }

    /// Keeps a state unless a newer one is there; returns the one that is kept.
    pub(super) fn keep(&self, conversation: Conversation, seq: u64) -> Arc<Entry> {
        let id = conversation.id;
        let new = Arc::new(Entry::new(conversation, seq));
        self.entries
            .entry(id)
            .and_upsert_with(|kept| match kept {
                Some(kept) if kept.value().seq >= seq => kept.into_value(),
                _ => new,
            })
            .into_value()
    }
}
