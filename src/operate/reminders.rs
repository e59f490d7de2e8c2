//! Reminders: what `previews` has not found out about attachments, and will not be told of any more, is told once more.
//!
//! The log does not wait for `previews`, and a delivery that was tried often enough is a dead letter. The records of blobs
//! say what is still open; once the consumer has nothing left to do, whatever is open was lost on the way.

use std::time::Duration;

use crate::broker::Broker;
use crate::broker::lease::Lease;
use crate::broker::publish::Publisher;
use crate::broker::topology::Durable;
use crate::domain::attachment::{Attachment, Progress};
use crate::domain::clock::{Clock, Timestamp};
use crate::domain::event::{self, Body, Event};
use crate::error::Result;
use crate::lifecycle::Lifecycle;
use crate::store::Store;

/// Time between two rounds.
const EVERY: Duration = Duration::from_mins(10);
/// Whatever is younger is probably being worked on.
const AGE: i64 = 15 * 60;
/// Whatever is older is given up: it was tried for a week.
const GIVEN_UP: i64 = 7 * 86_400;
/// Blobs of one round.
const ROUND: i64 = 500;
/// Attachments of one blob.
const EACH: i64 = 100;

/// Reminds.
#[derive(Debug, Clone)]
pub struct Reminders {
    broker: Broker,
    store: Store,
    publisher: Publisher,
    clock: Clock,
}

impl Reminders {
    /// Reminds here.
    #[must_use]
    pub const fn new(broker: Broker, store: Store, publisher: Publisher, clock: Clock) -> Self {
        Self { broker, store, publisher, clock }
    }

    /// Reminds now and then as long as the instance runs, whenever no other one does.
    pub fn run(self, lifecycle: &Lifecycle, lease: Lease) {
        let draining = lifecycle.draining();
        lifecycle.background("reminders", async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(EVERY) => {}
                    () = draining.cancelled() => return Ok(()),
                }
                let open = self.clock.now().plus_seconds(-AGE);
                let reminded = tokio::select! {
                    reminded = lease.holding(self.once(open)) => reminded,
                    () = draining.cancelled() => return Ok(()),
                };
                match reminded {
                    Ok(None | Some(0)) => {}
                    Ok(Some(attachments)) => tracing::info!(attachments, "previews was reminded of attachments"),
                    Err(error) => tracing::warn!(error = %error, "previews could not be reminded"),
                }
            }
        });
    }

    /// Tells once more of what is open since this time or longer; says of how many attachments.
    pub async fn once(&self, since: Timestamp) -> Result<usize> {
        if !self.broker.is_idle(Durable::Previews).await? {
            return Ok(0);
        }
        let mut reminded = 0;
        for blob in self.store.open_blobs(since.plus_seconds(-GIVEN_UP), since, ROUND).await? {
            for record in self.store.attachments_of_blob(blob.id, EACH).await? {
                let attachment = Attachment { id: record.id, name: record.name, content: blob.content.clone() };
                let progress = Progress { owner_id: record.owner_id, place: None, attachment };
                let event = Event {
                    id: self.clock.fresh_id(),
                    version: event::VERSION,
                    actor: record.owner_id,
                    occurred_at: self.clock.now(),
                    // It is no news to anybody.
                    recipients: Vec::new(),
                    body: Body::Attachment(progress),
                };
                self.publisher.enqueue_patiently(&event, None).await?.stored().await?;
                reminded += 1;
            }
        }
        Ok(reminded)
    }
}
