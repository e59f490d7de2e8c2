//! `persist`: projects the log into MongoDB, a batch at a time.
//!
//! One batch becomes a handful of bulk writes. Each is idempotent and they commute: redelivery, overlap and order between
//! instances change nothing. A message that the log has twice is the first one; a batch without such pays nothing for it.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::broker::consume::{Delivery, Handler, Verdict};
use crate::domain::conversation::{Conversation, LastMessage};
use crate::domain::event::{Body, Stored};
use crate::domain::ids::{ConversationId, MessageId, UserId};
use crate::domain::message::Message;
use crate::domain::notification::Notification;
use crate::domain::receipt::Receipt;
use crate::error::{Error, Result};
use crate::store::touch::{Mark, Touch};
use crate::store::{Known, Store};

/// How long to wait for the event that opens a conversation when something in it arrives first. Another instance has it
/// then; if that one dies, the broker delivers it again after its ack wait, well before the last of our attempts.
const OPENING: Duration = Duration::from_secs(5);

/// Writes the projection.
#[derive(Debug)]
pub struct Persist {
    store: Store,
}

impl Persist {
    /// Writes to this database.
    #[must_use]
    pub const fn new(store: Store) -> Self {
        Self { store }
    }

    /// Projects events, in any order and any number of times; returns the conversations that something was said in before
    /// they were opened.
    pub async fn project(&self, events: &[&Stored]) -> Result<HashSet<ConversationId>> {
        let mut batch = Batch::of(events);
        self.store.insert_conversations(&batch.opened).await?;
        let (known, made, noted) = tokio::join!(
            self.store.insert_messages(&batch.sent),
            self.store.insert_notifications(&batch.made),
            self.store.note_highest_seq(batch.highest),
        );
        (made?, noted?);
        let late = batch.meet(&known?);
        // Messages are there before their conversations name them.
        let touched = self.store.touch_conversations(batch.touches()).await?;
        self.store.advance_messages(&late).await?;
        self.store.recount_conversations(touched.doubtful.into_iter().chain(batch.met)).await?;
        Ok(touched.unopened)
    }
}

/// A batch in the order of the log, and only what is worth a write.
#[derive(Debug, Default)]
struct Batch<'a> {
    opened: Vec<(u64, &'a Conversation)>,
    /// Each message once, where it is first.
    sent: Vec<(u64, &'a Message)>,
    /// Each notification once, where it is first.
    made: Vec<(u64, &'a Notification)>,
    marks: HashMap<(ConversationId, UserId), Mark>,
    /// Messages that are known to be at an earlier place.
    repeated: HashSet<MessageId>,
    /// The highest place of a repeated message, for each conversation that has one.
    copies: HashMap<ConversationId, u64>,
    /// Conversations of messages that had been there before.
    met: HashSet<ConversationId>,
    highest: u64,
}

impl<'a> Batch<'a> {
    fn of(events: &[&'a Stored]) -> Self {
        let mut events = events.to_vec();
        events.sort_unstable_by_key(|stored| stored.seq);
        events.dedup_by_key(|stored| stored.seq);
        let mut batch = Self { highest: events.last().map_or(0, |last| last.seq), ..Self::default() };
        let (mut said, mut told) = (HashSet::new(), HashSet::new());
        for stored in events {
            let at = stored.seq;
            match &stored.event.body {
                Body::Conversation(conversation) => batch.opened.push((at, conversation)),
                Body::Message(message) if said.insert(message.id) => batch.sent.push((at, message)),
                Body::Message(message) => batch.copy(message.conversation_id, at),
                Body::Receipt(receipt) => batch.mark(at, receipt),
                Body::Notification(notification) if told.insert(notification.id) => batch.made.push((at, notification)),
                Body::Notification(_) => {}
            }
        }
        batch
    }

    fn copy(&mut self, id: ConversationId, at: u64) {
        let highest = self.copies.entry(id).or_default();
        *highest = at.max(*highest);
    }

    /// The mark and the place rise each by itself: the last receipt need not carry the highest mark.
    fn mark(&mut self, at: u64, receipt: &Receipt) {
        let Receipt { conversation_id, user_id, read_seq } = *receipt;
        let kept = self.marks.entry((conversation_id, user_id));
        let kept = kept.or_insert(Mark { conversation_id, user_id, read_seq, seq: at });
        kept.read_seq = read_seq.max(kept.read_seq);
        kept.seq = at.max(kept.seq);
    }

    /// Takes note of messages that were there before. Returns those that are stored with a place after their first one.
    fn meet(&mut self, known: &[Known]) -> Vec<(u64, &'a Message)> {
        let mut late = Vec::new();
        for known in known {
            let (at, message) = self.sent[known.place];
            self.met.insert(message.conversation_id);
            if known.seq < at {
                self.repeated.insert(message.id);
            }
            if known.seq > at {
                late.push((at, message));
            }
            if known.seq != at {
                self.copy(message.conversation_id, at.max(known.seq));
            }
        }
        late
    }

    /// What all this means for conversations: of each only the newest message.
    fn touches(&self) -> Vec<Touch> {
        let firsts = self.sent.iter().filter(|(_, message)| !self.repeated.contains(&message.id));
        // The last one in the order of the log stays.
        let newest: HashMap<ConversationId, &(u64, &Message)> =
            firsts.map(|sent| (sent.1.conversation_id, sent)).collect();
        let newest = newest.into_iter().map(|(id, (at, message))| Touch::Newest(id, LastMessage::of(*at, message)));
        let copies = self.copies.iter().map(|(id, at)| Touch::Copy(*id, *at));
        newest.chain(self.marks.values().copied().map(Touch::Mark)).chain(copies).collect()
    }
}

impl Handler for Persist {
    async fn handle(&self, batch: &[Delivery]) -> Vec<Verdict> {
        let events: Vec<&Stored> = batch.iter().map(|delivery| &delivery.stored).collect();
        match self.project(&events).await {
            Ok(unopened) => verdicts(&events, &unopened),
            // One event that cannot be written must not take the others with it.
            Err(why) if !why.transient() && events.len() > 1 => {
                tracing::warn!(error = %why, events = events.len(), "a batch was refused, writing one by one");
                let mut verdicts_alone = Vec::with_capacity(events.len());
                for event in &events {
                    let alone = std::slice::from_ref(event);
                    verdicts_alone.extend(match self.project(alone).await {
                        Ok(unopened) => verdicts(alone, &unopened),
                        Err(why) => vec![Verdict::Retry { after: Duration::from_secs(1), why }],
                    });
                }
                verdicts_alone
            }
            Err(why) => {
                let again = || Verdict::Retry { after: Duration::from_secs(1), why: why.echo() };
                let mut all: Vec<Verdict> = events.iter().skip(1).map(|_| again()).collect();
                all.insert(0, Verdict::Retry { after: Duration::from_secs(1), why });
                all
            }
        }
    }
}

fn verdicts(events: &[&Stored], unopened: &HashSet<ConversationId>) -> Vec<Verdict> {
    events
        .iter()
        .map(|stored| match stored.event.body.conversation() {
            Some(id) if unopened.contains(&id) => Verdict::Retry {
                after: OPENING,
                why: Error::internal(format!("the conversation {id} is not there yet")),
            },
            _ => Verdict::Done,
        })
        .collect()
}
