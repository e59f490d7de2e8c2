//! `persist`: projects the log into MongoDB, a batch at a time.
//!
//! One batch becomes a handful of bulk writes, each idempotent: redelivery and overlap change nothing.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::broker::consume::{Delivery, Handler, Verdict};
use crate::domain::conversation::LastMessage;
use crate::domain::event::{Body, Stored};
use crate::domain::ids::{ConversationId, UserId};
use crate::domain::notification::excerpt;
use crate::domain::receipt::Receipt;
use crate::error::{Error, Result};
use crate::store::Store;

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

    /// Projects events; returns the conversations that something was said in before they were opened.
    async fn project(&self, events: &[&Stored]) -> Result<HashSet<ConversationId>> {
        let mut opened = Vec::new();
        let mut sent = Vec::new();
        let mut made = Vec::new();
        // Only the newest state of each conversation and reader is worth a write.
        let mut newest: HashMap<ConversationId, LastMessage> = HashMap::new();
        let mut receipts: HashMap<(ConversationId, UserId), (u64, Receipt)> = HashMap::new();
        let mut highest = 0;
        for stored in events {
            highest = highest.max(stored.seq);
            match &stored.event.body {
                Body::Conversation(conversation) => opened.push((stored.seq, conversation)),
                Body::Message(message) => {
                    sent.push((stored.seq, message));
                    let known = newest.get(&message.conversation_id).map_or(0, |last| last.seq);
                    if stored.seq > known {
                        let last = LastMessage {
                            id: message.id,
                            seq: stored.seq,
                            sender_id: message.sender_id,
                            excerpt: excerpt(&message.text),
                            created_at: message.created_at,
                        };
                        newest.insert(message.conversation_id, last);
                    }
                }
                Body::Receipt(receipt) => {
                    let kept =
                        receipts.entry((receipt.conversation_id, receipt.user_id)).or_insert((stored.seq, *receipt));
                    if receipt.read_seq > kept.1.read_seq {
                        *kept = (stored.seq, *receipt);
                    }
                }
                Body::Notification(notification) => made.push((stored.seq, notification)),
            }
        }
        self.store.insert_conversations(&opened).await?;
        let newest: Vec<_> = newest.into_iter().collect();
        let receipts: Vec<_> = receipts.into_values().collect();
        let (messages, notifications, unopened, noted) = tokio::join!(
            self.store.insert_messages(&sent),
            self.store.insert_notifications(&made),
            self.store.touch_conversations(&newest, &receipts),
            self.store.note_highest_seq(highest),
        );
        messages?;
        notifications?;
        noted?;
        Ok(unopened?.into_iter().collect())
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
