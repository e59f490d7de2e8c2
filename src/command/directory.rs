//! The directory: which users are in which conversation, kept close so that a send needs no look-up.
//!
//! A bounded cache of conversations. What is missing is read from the log itself, whose newest `conversation` event
//! carries the whole state, and from MongoDB only once the log has been purged that far. The tail keeps it right: every
//! change passes through [`Directory::observe`], and an older state never replaces a newer one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt as _;
use moka::sync::Cache;

use crate::auth::Actor;
use crate::broker::Broker;
use crate::broker::subject::{ChatKind, Filter, Subject};
use crate::domain::clock::Timestamp;
use crate::domain::context::Context;
use crate::domain::conversation::{Conversation, Participant, foreign};
use crate::domain::event::{Body, Stored};
use crate::domain::ids::{ConversationId, UserId};
use crate::domain::receipt::Marks;
use crate::domain::rights::{self, Act, Who};
use crate::domain::setting::Setting;
use crate::error::{Error, Result};
use crate::store::Store;
use crate::store::messages::Sight;

/// Bytes of conversations kept, about: those of two users are some 50,000.
const BYTES: u64 = 32 << 20;
/// What a conversation takes beside its participants and its words, about.
const BESIDE: usize = 384;
/// What a participant takes with their marks and how long they are muted, about.
const PARTICIPANT: usize = 160;
/// Events of a conversation that are looked through for marks that MongoDB does not have yet, at most.
const NEWER: usize = 1_000;
/// Questions to the log at once.
const AT_ONCE: usize = 64;

/// A conversation as the live path knows it.
#[derive(Debug)]
pub struct Entry {
    /// The conversation.
    pub conversation: Conversation,
    /// The seq of the event that this state comes from.
    seq: u64,
    /// The seq of its newest message as far as known; zero if nobody has asked yet.
    head: AtomicU64,
    /// The marks that participants are known to have reached; further ones may be there.
    marks: Mutex<Known>,
}

/// What is known of marks.
#[derive(Debug, Clone, Default)]
struct Known {
    marks: Vec<(UserId, Marks)>,
    /// Until when it makes no noise for participants, each with the seq of the event that says so.
    muted: Vec<(UserId, u64, Timestamp)>,
    /// Nobody is further than that.
    whole: bool,
}

impl Known {
    fn of(&mut self, user: UserId) -> &mut Marks {
        let place = self.marks.iter().position(|(known, _)| *known == user).unwrap_or_else(|| {
            self.marks.push((user, Marks::default()));
            self.marks.len() - 1
        });
        &mut self.marks[place].1
    }

    fn mute(&mut self, user: UserId, seq: u64, until: Timestamp) {
        match self.muted.iter_mut().find(|(known, ..)| *known == user) {
            Some(known) if known.1 <= seq => *known = (user, seq, until),
            Some(_) => {}
            None => self.muted.push((user, seq, until)),
        }
    }
}

impl Entry {
    fn new(conversation: Conversation, seq: u64) -> Self {
        Self { conversation, seq, head: AtomicU64::new(0), marks: Mutex::default() }
    }

    /// Another state of the same conversation; what else is known of it still holds.
    fn succeed(&self, old: &Self) {
        self.head.fetch_max(old.head.load(Ordering::Acquire), Ordering::AcqRel);
        *self.marks() = old.marks().clone();
    }

    /// What it takes, about, with the marks of everybody in it.
    fn bytes(&self) -> usize {
        let Conversation { participants, removed, context, title, .. } = &self.conversation;
        let about = |one: &Context| {
            [Some(&one.id), one.title.as_ref(), one.url.as_ref(), one.image_url.as_ref()]
                .map(|word| word.map_or(0, String::len))
        };
        let words = context.as_ref().map_or(0, |one| about(one).iter().sum()) + title.as_ref().map_or(0, String::len);
        BESIDE + participants.len() * PARTICIPANT + size_of_val(removed.as_slice()) + words
    }

    fn marks(&self) -> MutexGuard<'_, Known> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// How far a participant is known to be.
    pub(super) fn known(&self, user: UserId) -> Marks {
        self.marks().marks.iter().find(|(known, _)| *known == user).map_or_else(Marks::default, |(_, marks)| *marks)
    }

    /// How far a participant is known to have read, and until when it makes no noise for them.
    #[must_use]
    pub fn attention(&self, user: UserId) -> (u64, Option<Timestamp>) {
        let known = self.marks();
        let read = known.marks.iter().find(|(one, _)| *one == user).map_or(0, |(_, marks)| marks.read);
        (read, known.muted.iter().find(|(one, ..)| *one == user).map(|(.., until)| *until))
    }

    /// A participant is this far, or further.
    pub(super) fn note(&self, user: UserId, marks: Marks) {
        self.marks().of(user).join(marks);
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
        let weight = |_: &ConversationId, one: &Arc<Entry>| u32::try_from(one.bytes()).unwrap_or(u32::MAX);
        Self { broker, store, entries: Cache::builder().max_capacity(BYTES).weigher(weight).build() }
    }

    /// A conversation that this user is in. Anybody else gets the same answer as for one that does not exist.
    pub async fn for_participant(&self, id: ConversationId, user: UserId) -> Result<Arc<Entry>> {
        let entry = self.find(id).await?.ok_or_else(foreign)?;
        if entry.conversation.has(user) {
            return Ok(entry);
        }
        // They may have been brought in a moment ago, on another instance. Whoever cannot be asked has told nothing new.
        let newest = self.renewed(id).await.ok().flatten().unwrap_or(entry);
        newest.conversation.require(user)?;
        Ok(newest)
    }

    /// A conversation as it is now, whatever is kept here; its seq is that of the last event of its subject.
    pub(super) async fn renewed(&self, id: ConversationId) -> Result<Option<Arc<Entry>>> {
        if let Some(Stored { seq, event }) = self.broker.last(Subject::Chat(id, ChatKind::Conversation)).await?
            && let Body::Conversation(conversation) = event.body
        {
            return Ok(Some(self.keep(conversation, seq)));
        }
        // The log was purged that far, so that the next event is the first of its subject again.
        let stored = self.store.conversation(id).await?;
        Ok(stored.map(|listed| Arc::new(Entry::new(listed.conversation, 0))))
    }

    /// A conversation, if it is kept here.
    #[must_use]
    pub fn kept(&self, id: ConversationId) -> Option<Arc<Entry>> {
        self.entries.get(&id)
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

    /// Those of these conversations that exist.
    pub async fn find_all(&self, ids: &[ConversationId]) -> Result<HashMap<ConversationId, Arc<Entry>>> {
        let mut found = HashMap::with_capacity(ids.len());
        let mut asked = futures_util::stream::iter(ids.iter().copied())
            .map(|id| async move {
                match self.entries.get(&id) {
                    Some(entry) => Ok((id, Some(entry))),
                    None => Ok::<_, Error>((id, self.logged(id).await?)),
                }
            })
            .buffer_unordered(AT_ONCE);
        let mut missing = Vec::new();
        while let Some(answer) = asked.next().await {
            match answer? {
                (id, Some(entry)) => drop(found.insert(id, entry)),
                (id, None) => missing.push(id),
            }
        }
        drop(asked);
        for listed in self.store.conversations_by_id(&missing).await? {
            found.insert(listed.conversation.id, self.keep(listed.conversation, 0));
        }
        Ok(found)
    }

    /// The newest state of a conversation that the log has.
    async fn logged(&self, id: ConversationId) -> Result<Option<Arc<Entry>>> {
        let last = self.broker.last(Subject::Chat(id, ChatKind::Conversation)).await?;
        Ok(last.and_then(|Stored { seq, event }| match event.body {
            Body::Conversation(conversation) => Some(self.keep(conversation, seq)),
            _ => None,
        }))
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

    /// The same, as the log says right now: this instance may be a moment behind.
    pub async fn newest(&self, entry: &Entry) -> Result<u64> {
        let newest = self.broker.last(Subject::Chat(entry.conversation.id, ChatKind::Message)).await?;
        let newest = newest.map_or(0, |newest| newest.seq);
        Ok(entry.head.fetch_max(newest, Ordering::AcqRel).max(newest))
    }

    /// Finds out how far the participants are and for whom it is muted; from then on the tail keeps it right.
    pub async fn recall(&self, entry: &Entry) -> Result<()> {
        if entry.marks().whole {
            return Ok(());
        }
        // Both are needed: nothing is read from the log for a database that is known to be away.
        self.store.admit()?;
        let id = entry.conversation.id;
        let floor = self.broker.projected().await?;
        let newer = self.broker.read(Filter::Conversation(id), floor + 1, NEWER).await?;
        let stored = self.store.conversation(id).await?;
        let mut known = entry.marks();
        if let Some(listed) = stored {
            for (user, marks) in listed.marks {
                known.of(user).join(marks);
            }
            for (user, until) in listed.settings.into_iter().filter_map(|(user, one)| Some((user, one.muted_until?))) {
                // Whatever the log has of it is as new as that, or newer.
                known.mute(user, 0, until);
            }
        }
        for Stored { seq, event } in newer.events {
            match event.body {
                Body::Receipt(receipt) => known.of(receipt.user_id).apply(&receipt),
                Body::Setting(Setting { user_id, muted_until: Some(until), .. }) => known.mute(user_id, seq, until),
                _ => {}
            }
        }
        known.whole = !newer.more;
        Ok(())
    }

    /// The log has a message of this conversation at this place. Whoever was told so counts on it, before the tail has it.
    pub fn stored(&self, conversation: ConversationId, seq: u64) {
        if let Some(entry) = self.entries.get(&conversation) {
            entry.head.fetch_max(seq, Ordering::AcqRel);
        }
    }

    /// Takes note of an event; called by the tail for every event, in order.
    pub fn observe(&self, stored: &Stored) {
        match &stored.event.body {
            Body::Conversation(conversation) => drop(self.keep(conversation.clone(), stored.seq)),
            Body::Message(message) => self.stored(message.conversation_id, stored.seq),
            Body::Receipt(receipt) => {
                if let Some(entry) = self.entries.get(&receipt.conversation_id) {
                    entry.marks().of(receipt.user_id).apply(receipt);
                }
            }
            Body::Setting(Setting { conversation_id, user_id, muted_until: Some(until), .. }) => {
                if let Some(entry) = self.entries.get(conversation_id) {
                    entry.marks().mute(*user_id, stored.seq, *until);
                }
            }
            _ => {}
        }
    }

    /// Forgets everything: a part of the log was not heard.
    pub fn forget_all(&self) {
        self.entries.invalidate_all();
    }

    /// Keeps a state unless a newer one is there; returns the one that is kept.
    pub(super) fn keep(&self, conversation: Conversation, seq: u64) -> Arc<Entry> {
        let id = conversation.id;
        let new = Arc::new(Entry::new(conversation, seq));
        self.entries
            .entry(id)
            .and_upsert_with(|kept| match kept {
                Some(kept) if kept.value().seq >= seq => kept.into_value(),
                Some(kept) => {
                    new.succeed(kept.value());
                    new
                }
                None => new,
            })
            .into_value()
    }
}
