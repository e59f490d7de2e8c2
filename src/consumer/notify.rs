//! `notify`: tells the recipients of a message, through the log.
//!
//! A notification's id follows from the message and the user, and the broker recognises a repeated publish by it, so a
//! redelivered message notifies nobody twice.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::broker::consume::{Delivery, Handler, Verdict};
use crate::broker::publish::{Pending, Publisher};
use crate::domain::clock::Clock;
use crate::domain::event::{self, Body, Event};
use crate::domain::notification;
use crate::domain::roster::Roster;
use crate::error::Result;

/// Notifications in line at once, about: the line is shared with what clients send.
const IN_LINE: usize = 512;

/// Publishes notifications.
#[derive(Debug)]
pub struct Notify {
    publisher: Publisher,
    clock: Clock,
    roster: Arc<Mutex<Roster>>,
}

impl Notify {
    /// Publishes through this publisher.
    #[must_use]
    pub fn new(publisher: Publisher, clock: Clock) -> Self {
        Self { publisher, clock, roster: Arc::default() }
    }

    /// Tells nobody who, as this roster knows, has left a conversation meanwhile.
    #[must_use]
    pub fn knowing(self, roster: Arc<Mutex<Roster>>) -> Self {
        Self { roster, ..self }
    }

    async fn publish(&self, delivery: &Delivery) -> Result<Vec<Pending>> {
        let Body::Message(message) = &delivery.stored.event.body else {
            return Ok(Vec::new());
        };
        let mut recipients = delivery.stored.event.recipients.clone();
        self.roster.lock().unwrap_or_else(PoisonError::into_inner).retain(message.conversation_id, &mut recipients);
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

impl Handler for Notify {
    async fn handle(&self, batch: &[Delivery]) -> Vec<Verdict> {
        let mut verdicts = Vec::with_capacity(batch.len());
        let (mut under_way, mut in_line) = (Vec::new(), 0);
        for delivery in batch {
            // Many are in line before the first answer is waited for: one commit for many messages.
            let pending = self.publish(delivery).await;
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
