//! `notify`: tells the recipients of a message, through the log.
//!
//! A notification's id follows from the message and the user, and the broker recognises a repeated publish by it, so a
//! redelivered message notifies nobody twice.
//!
//! Whoever published a message may not have heard of who had left or come by then, and what is told carries an excerpt. So
//! each message is read by the state of its conversation: as the roster has it, where the tail of this instance keeps one
//! that reaches that far; else as the log has it, which is right on any instance and however late a delivery comes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;

use crate::broker::Broker;
use crate::broker::consume::{Delivery, Handler, Verdict};
use crate::broker::publish::{Pending, Publisher};
use crate::broker::subject::{ChatKind, Subject};
use crate::domain::clock::Clock;
use crate::domain::conversation::Conversation;
use crate::domain::event::{self, Body, Event, Stored};
use crate::domain::ids::{ConversationId, UserId};
use crate::domain::message::{Kind, Message};
use crate::domain::notification;
use crate::domain::roster::{self, Roster};
use crate::error::{Error, Result};

/// Notifications in line at once, about: the line is shared with what clients send.
const IN_LINE: usize = 512;
/// Questions to the log at once.
const AT_ONCE: usize = 16;

/// What the log says of conversations: the newest state of each, and its place. What it has no state of has not changed for
/// longer than it reaches back.
type States = HashMap<ConversationId, Result<Option<(u64, Conversation)>>>;

/// Publishes notifications.
#[derive(Debug)]
pub struct Notify {
    broker: Broker,
    publisher: Publisher,
    clock: Clock,
    roster: Arc<Mutex<Roster>>,
}

impl Notify {
    /// Publishes through this publisher, and asks this broker's log whom a message concerns.
    #[must_use]
    pub fn new(broker: Broker, publisher: Publisher, clock: Clock) -> Self {
        Self { broker, publisher, clock, roster: Arc::default() }
    }

    /// Asks this roster first, which somebody keeps right.
    #[must_use]
    pub fn knowing(self, roster: Arc<Mutex<Roster>>) -> Self {
        Self { roster, ..self }
    }

    fn by_roster(&self, message: &Stored) -> Option<Vec<UserId>> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner).concerned(message)
    }

    /// What the log says of the conversations of those messages that the roster does not settle.
    async fn ask(&self, batch: &[Delivery]) -> States {
        let mut unsettled: Vec<ConversationId> = batch
            .iter()
            .filter_map(|delivery| notifying(&delivery.stored).map(|message| (delivery, message.conversation_id)))
            .filter(|(delivery, _)| self.by_roster(&delivery.stored).is_none())
            .map(|(_, id)| id)
            .collect();
        unsettled.sort_unstable();
        unsettled.dedup();
        futures_util::stream::iter(unsettled)
            .map(|id| async move { (id, self.state(id).await) })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await
    }

    async fn state(&self, id: ConversationId) -> Result<Option<(u64, Conversation)>> {
        let last = self.broker.last(Subject::Chat(id, ChatKind::Conversation)).await?;
        Ok(last.and_then(|Stored { seq, event }| match event.body {
            Body::Conversation(conversation) => Some((seq, conversation)),
            _ => None,
        }))
    }

    /// Whom a message concerns.
    fn concerned(&self, stored: &Stored, id: ConversationId, states: &States) -> Result<Vec<UserId>> {
        match states.get(&id) {
            Some(Ok(Some((seq, conversation)))) => Ok(roster::concerned(*seq, conversation, stored)),
            Some(Ok(None)) => Ok(stored.event.recipients.clone()),
            Some(Err(error)) => {
                let unknown = Error::unavailable("catching_up", "the log does not say who is there");
                Err(unknown.caused_by(error.to_string()))
            }
            None => self.by_roster(stored).ok_or_else(|| Error::unavailable("catching_up", "the roster has moved on")),
        }
    }

    async fn publish(&self, delivery: &Delivery, states: &States) -> Result<Vec<Pending>> {
        let Some(message) = notifying(&delivery.stored) else {
            return Ok(Vec::new());
        };
        let recipients = self.concerned(&delivery.stored, message.conversation_id, states)?;
        let mut pending = Vec::new();
        for notification in notification::of_message(message, &recipients) {
            let event = Event {
                id: self.clock.fresh_id(),
                version: event::VERSION,
                actor: message.sender_id,
                occurred_at: self.clock.now(),
                recipients: vec![notification.user_id],
                body: Body::Notification(notification),
            };
            pending.push(self.publisher.enqueue_patiently(&event, Some(delivery.trace)).await?);
        }
        Ok(pending)
    }
}

/// The message that this is, if it is one that anybody may be told of.
fn notifying(stored: &Stored) -> Option<&Message> {
    match &stored.event.body {
        Body::Message(message) if message.kind != Kind::System => Some(message),
        _ => None,
    }
}

impl Handler for Notify {
    async fn handle(&self, batch: &[Delivery]) -> Vec<Verdict> {
        let states = self.ask(batch).await;
        let mut verdicts = Vec::with_capacity(batch.len());
        let (mut under_way, mut in_line) = (Vec::new(), 0);
        for delivery in batch {
            // Many are in line before the first answer is waited for: one commit for many messages.
            let pending = self.publish(delivery, &states).await;
            in_line += pending.as_ref().map_or(0, Vec::len);
            under_way.push(pending);
            if in_line >= IN_LINE {
                settle_all(&mut under_way, &mut verdicts).await;
                in_line = 0;
            }
        }
        settle_all(&mut under_way, &mut verdicts).await;
        verdicts
    }
}

async fn settle_all(under_way: &mut Vec<Result<Vec<Pending>>>, verdicts: &mut Vec<Verdict>) {
    for pending in under_way.drain(..) {
        verdicts.push(match settle(pending).await {
            Ok(()) => Verdict::Done,
            Err(why) => Verdict::Retry { after: Duration::from_secs(1), why },
        });
    }
}

async fn settle(pending: Result<Vec<Pending>>) -> Result<()> {
    for one in pending? {
        one.stored().await?;
    }
    Ok(())
}
