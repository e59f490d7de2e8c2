//! `notify`: tells the recipients of a message, through the log.
//!
//! A notification's id follows from the message and the user, and the broker recognises a repeated publish by it, so a
//! redelivered message notifies nobody twice.
//!
//! Whoever published a message may not have heard of who had left or come by then, and what is told carries an excerpt. So
//! each message is read by the state of its conversation: as the roster has it, where the tail of this instance keeps one
//! that reaches that far; else as the log has it, which is right on any instance and however late a delivery comes.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;

use super::deciding::{Deciding, Known};
use crate::broker::Broker;
use crate::broker::consume::{Delivery, Handler, Verdict};
use crate::broker::publish::{Pending, Publisher};
use crate::broker::recent::Recent;
use crate::broker::subject::{ChatKind, Subject};
use crate::domain::clock::Clock;
use crate::domain::conversation::{self, Conversation};
use crate::domain::event::{self, Body, Event, Stored};
use crate::domain::ids::{ConversationId, UserId};
use crate::domain::message::Message;
use crate::domain::notification;
use crate::domain::roster::{self, Roster};
use crate::error::{Error, Result};

/// Notifications in line at once, about: the line is shared with what clients send.
const IN_LINE: usize = 512;
/// Questions to the log at once.
const AT_ONCE: usize = 16;
/// How long the tail of this instance may take to hear of what was delivered.
const CATCH_UP: Duration = Duration::from_secs(1);

/// What the log says of conversations: the newest state of each, and its place. What it has no state of has not changed for
/// longer than it reaches back.
type States = HashMap<ConversationId, Result<Option<(u64, Conversation)>>>;

/// What is known for a batch.
struct Batch {
    states: States,
    known: Known,
}

/// Publishes notifications.
#[derive(Debug)]
pub struct Notify {
    broker: Broker,
    publisher: Publisher,
    clock: Clock,
    roster: Arc<Mutex<Roster>>,
    recent: Option<Arc<Recent>>,
    deciding: Deciding,
}

impl Notify {
    /// Publishes through this publisher, and asks this broker's log whom a message concerns.
    #[must_use]
    pub fn new(broker: Broker, publisher: Publisher, clock: Clock, deciding: Deciding) -> Self {
        Self { broker, publisher, clock, roster: Arc::default(), recent: None, deciding }
    }

    /// Asks this roster first, which a tail keeps right, as it keeps this window.
    #[must_use]
    pub fn knowing(self, roster: Arc<Mutex<Roster>>, recent: Arc<Recent>) -> Self {
        Self { roster, recent: Some(recent), ..self }
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

    /// What has to be known to decide about a batch.
    async fn prepare(&self, batch: &[Delivery]) -> Result<Batch> {
        // What was wanted or read before a message counts for it. A tail that is behind for longer is not waited for.
        if let (Some(recent), Some(last)) = (&self.recent, batch.iter().map(|delivery| delivery.stored.seq).max()) {
            recent.reaches(last, CATCH_UP).await;
        }
        let states = self.ask(batch).await;
        let (mut conversations, mut users) = (HashSet::new(), HashSet::new());
        for delivery in batch {
            if let Some(message) = notifying(&delivery.stored) {
                conversations.insert(message.conversation_id);
                users.extend(notification::told(message, &delivery.stored.event.recipients));
                if let Ok(concerned) = self.concerned(&delivery.stored, message.conversation_id, &states) {
                    users.extend(concerned);
                }
            }
        }
        let known = self.deciding.know(users, conversations).await?;
        Ok(Batch { states, known })
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

    async fn publish(&self, delivery: &Delivery, batch: &Batch) -> Result<Vec<Pending>> {
        let Some(message) = notifying(&delivery.stored) else {
            return Ok(Vec::new());
        };
        let id = message.conversation_id;
        let recipients = self.concerned(&delivery.stored, id, &batch.states)?;
        let within = batch.known.kind(id).unwrap_or(conversation::Kind::Group);
        let mut pending = Vec::new();
        for mut notification in notification::of_message(delivery.stored.seq, message, within, &recipients) {
            let now = self.clock.now();
            notification.decision = batch.known.decide(&notification, now);
            let event = Event {
                id: self.clock.fresh_id(),
                version: event::VERSION,
                actor: message.sender_id,
                occurred_at: now,
                // What is held is kept, for whoever asks why; nobody is told.
                recipients: if notification.is_told() { vec![notification.user_id] } else { Vec::new() },
                body: Body::Notification(notification),
            };
            pending.push(self.publisher.enqueue_patiently(&event, Some(delivery.trace)).await?);
        }
        Ok(pending)
    }
}

/// The message that this is, if anybody may be told of it.
fn notifying(stored: &Stored) -> Option<&Message> {
    match &stored.event.body {
        Body::Message(message) if notification::told(message, &stored.event.recipients).next().is_some() => {
            Some(message)
        }
        _ => None,
    }
}

impl Handler for Notify {
    type Given = Delivery;

    async fn handle(&self, batch: &[Delivery]) -> Vec<Verdict> {
        let known = match self.prepare(batch).await {
            Ok(known) => known,
            Err(why) => {
                let later = |why| Verdict::Retry { after: Duration::from_secs(1), why };
                return batch.iter().map(|_| later(why.echo())).collect();
            }
        };
        let mut verdicts = Vec::with_capacity(batch.len());
        let (mut under_way, mut in_line) = (Vec::new(), 0);
        for delivery in batch {
            // Many are in line before the first answer is waited for: one commit for many messages.
            let pending = self.publish(delivery, &known).await;
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
