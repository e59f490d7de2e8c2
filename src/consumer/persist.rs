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
        made?;
        noted?;
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
    /// Conversations that something else happened in, and where that is in the log. Whoever resumes finds them by it, so
    /// every kind of event that is about a conversation counts, also those that nobody has thought of yet.
    changed: HashMap<ConversationId, u64>,
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
            let body = &stored.event.body;
            // Messages and receipts say so by what they write.
            if !matches!(body, Body::Message(_) | Body::Receipt(_))
                && let Some(id) = body.conversation()
            {
                batch.changed.insert(id, at);
            }
            match body {
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
        let changed = self.changed.iter().map(|(id, at)| Touch::Changed(*id, *at));
        newest.chain(self.marks.values().copied().map(Touch::Mark)).chain(copies).chain(changed).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::Timestamp;
    use crate::domain::event::{self, Event};
    use crate::domain::ids::EventId;
    use crate::domain::message::Kind;

    const HERE: ConversationId = ConversationId::from_bits(1);
    const ANA: UserId = UserId::from_bits(2);

    fn stored(seq: u64, body: Body) -> Stored {
        let event = Event {
            id: EventId::from_bits(seq.into()),
            version: event::VERSION,
            actor: ANA,
            occurred_at: Timestamp::from_millis(0),
            recipients: vec![ANA],
            body,
        };
        Stored { seq, event }
    }

    fn receipt(seq: u64, read_seq: u64) -> Stored {
        stored(seq, Body::Receipt(Receipt { conversation_id: HERE, user_id: ANA, read_seq }))
    }

    fn message(seq: u64, id: u128) -> Stored {
        let message = Message {
            id: MessageId::from_bits(id),
            conversation_id: HERE,
            sender_id: ANA,
            sender_name: "Ana".into(),
            kind: Kind::Text,
            text: String::new(),
            client_message_id: None,
            created_at: Timestamp::from_millis(0),
        };
        stored(seq, Body::Message(message))
    }

    /// The newest message and the highest copy that a batch means, when these were there before.
    fn meant(events: &[Stored], known: &[Known]) -> (Vec<u64>, Option<u64>, Option<u64>) {
        let mut batch = Batch::of(&events.iter().collect::<Vec<_>>());
        let late = batch.meet(known).iter().map(|(at, _)| *at).collect();
        let (mut newest, mut copy) = (None, None);
        for touch in batch.touches() {
            match touch {
                Touch::Newest(_, last) => newest = Some(last.seq),
                Touch::Copy(_, at) => copy = Some(at),
                Touch::Mark(_) | Touch::Changed(..) => {}
            }
        }
        (late, newest, copy)
    }

    #[test]
    fn a_mark_and_its_place_rise_each_by_itself() {
        let events = [receipt(9, 3), receipt(7, 5), receipt(9, 3)];
        let batch = Batch::of(&events.iter().collect::<Vec<_>>());
        let marks: Vec<(u64, u64)> = batch.marks.values().map(|mark| (mark.read_seq, mark.seq)).collect();
        assert_eq!(marks, [(5, 9)]);
    }

    #[test]
    fn a_message_counts_where_it_is_first() {
        // In one batch, in any order.
        assert_eq!(meant(&[message(8, 1), message(5, 2), message(4, 1)], &[]), (vec![], Some(5), Some(8)));
        // The first one was there before, is delivered again, or comes after the second one.
        assert_eq!(meant(&[message(8, 1), message(5, 2)], &[Known { place: 1, seq: 4 }]), (vec![], Some(5), Some(8)));
        assert_eq!(meant(&[message(4, 1)], &[Known { place: 0, seq: 4 }]), (vec![], Some(4), None));
        assert_eq!(meant(&[message(4, 1)], &[Known { place: 0, seq: 8 }]), (vec![4], Some(4), Some(8)));
    }
}
