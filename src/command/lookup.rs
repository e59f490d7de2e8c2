//! The lookup: what a message is right now, for whoever wants to change or to answer it.
//!
//! Of recent messages only their places in the log are kept, since most are never touched again: a few bytes for each.
//! A message that somebody touches is read once: out of the log if it is recent, so that this works while MongoDB is away,
//! else out of MongoDB and what the log has beyond that. From then on it is kept, bounded by bytes, and the tail keeps it
//! right: what happens to it passes through [`Lookup::observe`].

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use moka::ops::compute::Op;
use moka::sync::Cache;
use tokio::sync::watch;

use super::touched::Touched;
use crate::broker::Broker;
use crate::broker::subject::Filter;
use crate::domain::changing::unknown_message;
use crate::domain::event::{Body, Stored};
use crate::domain::ids::{ConversationId, MessageId};
use crate::domain::state::MessageState;
use crate::error::Result;
use crate::store::Store;

/// Bytes of messages kept, about.
const BYTES: u64 = 32 << 20;
/// Events of a conversation that are read to know a recent message.
const RECENT: usize = 1_000;
/// Events of a conversation that MongoDB may not have, at most.
const UNPROJECTED: usize = 10_000;
/// How long the tail is waited for.
const CATCH_UP: Duration = Duration::from_secs(1);

/// The places of recent messages.
#[derive(Debug, Default)]
struct Places {
    seqs: HashMap<MessageId, u64>,
    order: VecDeque<MessageId>,
}

impl Places {
    fn note(&mut self, id: MessageId, seq: u64, limit: usize) {
        // A message that the log has twice is where it was first.
        if self.seqs.contains_key(&id) {
            return;
        }
        self.seqs.insert(id, seq);
        self.order.push_back(id);
        while self.order.len() > limit {
            if let Some(gone) = self.order.pop_front() {
                self.seqs.remove(&gone);
            }
        }
    }
}

/// The lookup; cheap to clone.
#[derive(Debug, Clone)]
pub struct Lookup {
    broker: Broker,
    store: Store,
    /// Places kept, at most.
    limit: usize,
    places: Arc<Mutex<Places>>,
    touched: Cache<MessageId, Arc<Touched>>,
    /// How far the tail is.
    position: Arc<watch::Sender<u64>>,
}

impl Lookup {
    /// Knows the places of so many recent messages.
    #[must_use]
    pub fn new(broker: Broker, store: Store, limit: usize) -> Self {
        let touched = Cache::builder().max_capacity(BYTES).weigher(|_, one: &Arc<Touched>| one.weigh()).build();
        let position = Arc::new(watch::Sender::new(0));
        Self { broker, store, limit, places: Arc::default(), touched, position }
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of an event; called by the tail for every event, in order.
    pub fn observe(&self, stored: &Stored) {
        let body = &stored.event.body;
        if let Body::Message(message) = body {
            self.places().note(message.id, stored.seq, self.limit);
        } else if let Some(id) = body.changed_message()
            && let Some(touched) = self.touched.get(&id)
        {
            if !touched.apply(stored.seq, body) {
                // Whoever reads it has been at it for long: the next one begins anew.
                self.touched.invalidate(&id);
            } else if touched.has_outgrown() {
                self.weigh(id, &touched);
            }
        }
        self.passed(stored.seq);
    }

    /// The tail is this far.
    pub fn passed(&self, seq: u64) {
        self.position.send_replace(seq);
    }

    /// Waits until everything that the log has by now was heard of here; says whether it came to that.
    pub async fn is_up_to_date(&self) -> Result<bool> {
        let head = self.broker.head().await?;
        let mut position = self.position.subscribe();
        let waited = tokio::time::timeout(CATCH_UP, position.wait_for(|at| *at >= head)).await;
        Ok(matches!(waited, Ok(Ok(_))))
    }

    /// Tells the cache what a message takes by now, unless it has let go of it.
    fn weigh(&self, id: MessageId, touched: &Arc<Touched>) {
        self.touched.entry(id).and_compute_with(|kept| match kept {
            Some(kept) if Arc::ptr_eq(kept.value(), touched) => Op::Put(touched.clone()),
            _ => Op::Nop,
        });
    }

    /// Forgets what messages were: a part of the log was not heard. Their places stay what they are.
    pub fn forget_all(&self) {
        self.touched.invalidate_all();
    }

    /// A message of this conversation that exists for somebody who sees what is behind `from`, and has not deleted it for
    /// themselves; whoever did that finds it only to do it again.
    pub async fn find(&self, conversation: ConversationId, id: MessageId, from: u64) -> Result<Arc<Touched>> {
        let touched = self.touched(conversation, id).await?;
        let there = touched.look(|state| state.message.conversation_id == conversation && state.seq > from)?;
        if there { Ok(touched) } else { Err(unknown_message()) }
    }

    async fn touched(&self, conversation: ConversationId, id: MessageId) -> Result<Arc<Touched>> {
        // In the cache first and read then: what happens in between waits for it there.
        let touched = self.touched.get_with(id, Arc::default);
        if touched.is_read() {
            return Ok(touched);
        }
        match self.read(conversation, id).await {
            Ok(state) => {
                touched.fill(state);
                // Once more, as its weight is known only now.
                self.weigh(id, &touched);
                Ok(touched)
            }
            Err(error) => {
                self.touched.invalidate(&id);
                Err(error)
            }
        }
    }

    async fn read(&self, conversation: ConversationId, id: MessageId) -> Result<MessageState> {
        let place = self.places().seqs.get(&id).copied();
        if let Some(seq) = place {
            let found = self.broker.read(Filter::Conversation(conversation), seq, RECENT).await?;
            // A conversation in which much has happened since, or a log that was trimmed that far, is read the other way.
            if !found.more
                && let Some(state) = folded(None, conversation, id, &found.events)
            {
                return Ok(state);
            }
        }
        let newer = self.broker.unprojected(Filter::Conversation(conversation), UNPROJECTED).await?;
        let stored = self.store.message(id).await?;
        folded(stored, conversation, id, &newer).ok_or_else(unknown_message)
    }
}

/// A message as it is after these events of a conversation; nothing if it is one of another: what has happened to it there
/// is not among them.
fn folded(
    stored: Option<MessageState>,
    conversation: ConversationId,
    id: MessageId,
    events: &[Stored],
) -> Option<MessageState> {
    let mut state = stored.filter(|state| state.message.conversation_id == conversation);
    for stored in events {
        let body = &stored.event.body;
        match (&mut state, body) {
            (None, Body::Message(message)) if message.id == id => {
                state = Some(MessageState::new(stored.seq, message.clone()));
            }
            (Some(state), body) => drop(state.apply(stored.seq, body)),
            (None, _) => {}
        }
    }
    state
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::change::Edit;
    use crate::domain::clock::Timestamp;
    use crate::domain::event::{Event, VERSION};
    use crate::domain::ids::{EventId, UserId};
    use crate::domain::message::{Kind, Message};

    const ID: MessageId = MessageId::from_bits(4);
    const HERE: ConversationId = ConversationId::from_bits(5);
    const ANA: UserId = UserId::from_bits(1);

    fn said() -> Message {
        Message {
            id: ID,
            conversation_id: HERE,
            sender_id: ANA,
            sender_name: "Ana".into(),
            kind: Kind::Text,
            text: "first".into(),
            reply_to: None,
            mentions: Vec::new(),
            attachments: Vec::new(),
            entry: None,
            client_message_id: None,
            created_at: Timestamp::from_millis(0),
        }
    }

    fn edit(text: &str) -> Body {
        Body::Edit(Edit {
            message_id: ID,
            conversation_id: HERE,
            message_seq: 7,
            text: text.into(),
            mentions: Vec::new(),
            edited_at: Timestamp::from_millis(0),
        })
    }

    fn stored(seq: u64, body: Body) -> Stored {
        let (id, occurred_at) = (EventId::from_bits(u128::from(seq)), Timestamp::from_millis(0));
        Stored { seq, event: Event { id, version: VERSION, actor: ANA, occurred_at, recipients: vec![ANA], body } }
    }

    fn text(touched: &Touched) -> Option<String> {
        touched.look(|state| state.text().to_owned()).ok()
    }

    #[test]
    fn places_are_bounded_and_the_first_one_counts() {
        let mut places = Places::default();
        for (bits, seq) in [(1, 10), (2, 11), (1, 12), (3, 13)] {
            places.note(MessageId::from_bits(bits), seq, 2);
        }
        assert_eq!(places.seqs.len(), 2);
        assert_eq!(places.seqs.get(&MessageId::from_bits(1)), None, "the oldest one is gone");
        assert_eq!(places.seqs.get(&MessageId::from_bits(3)), Some(&13));
        places.note(MessageId::from_bits(2), 14, 2);
        assert_eq!(places.seqs.get(&MessageId::from_bits(2)), Some(&11));
    }

    #[test]
    fn what_happens_while_a_message_is_read_is_not_lost() {
        let touched = Touched::default();
        assert!(touched.apply(9, &edit("third")));
        assert_eq!(text(&touched), None, "it is not there yet");
        let read = folded(None, HERE, ID, &[stored(7, Body::Message(said())), stored(8, edit("second"))]);
        touched.fill(read.expect("it is in the log"));
        assert_eq!(text(&touched).as_deref(), Some("third"));
        // Somebody else has read it at the same time, a moment before.
        touched.fill(MessageState::new(7, said()));
        assert_eq!(text(&touched).as_deref(), Some("third"));
        assert!(touched.apply(8, &edit("late")), "told again, in the wrong order");
        assert_eq!(text(&touched).as_deref(), Some("third"));
    }

    #[test]
    fn a_message_is_not_read_by_way_of_another_conversation() {
        let kept = || Some(MessageState::new(7, said()));
        assert!(folded(kept(), HERE, ID, &[stored(8, edit("second"))]).is_some());
        assert_eq!(folded(kept(), ConversationId::from_bits(6), ID, &[]), None, "its edits are elsewhere");
    }

    #[test]
    fn what_a_message_takes_is_known_however_it_has_grown() {
        let touched = Touched::default();
        touched.fill(MessageState::new(7, said()));
        let small = touched.weigh();
        assert!(touched.apply(8, &edit("second")));
        assert!(!touched.has_outgrown(), "a word is not worth it");
        assert!(touched.apply(9, &edit(&"x".repeat(8_000))));
        assert!(touched.has_outgrown());
        assert!(touched.weigh() > small + 8_000);
        assert!(!touched.has_outgrown());
    }
}
