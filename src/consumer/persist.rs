//! `persist`: projects the log into MongoDB, a batch at a time.
//!
//! What a batch means for documents is said in `store::batch`. Each write is idempotent and they commute: redelivery,
//! overlap and order between instances change nothing.

use std::time::Duration;

use crate::broker::consume::{Delivery, Handler, Verdict};
use crate::domain::event::Stored;
use crate::error::{Error, Result};
use crate::store::Store;
use crate::store::batch::Unready;

/// How long to wait for the event that something depends on (the one that opens its conversation, the message that it
/// changes) when it arrives first. Another instance has it then; if that one dies, the broker delivers it again after its
/// ack wait, well before the last of our attempts.
const FIRST: Duration = Duration::from_secs(5);

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

    /// Projects events, in any order and any number of times; returns what could not be projected, as something else has
    /// to be there first.
    pub async fn project(&self, events: &[&Stored]) -> Result<Unready> {
        self.store.project(events).await
    }
}

impl Handler for Persist {
    type Given = Delivery;

    async fn handle(&self, batch: &[Delivery]) -> Vec<Verdict> {
        let events: Vec<&Stored> = batch.iter().map(|delivery| &delivery.stored).collect();
        match self.project(&events).await {
            Ok(unready) => verdicts(&events, &unready),
            // One event that cannot be written must not take the others with it.
            Err(why) if !why.transient() && events.len() > 1 => {
                tracing::warn!(error = %why, events = events.len(), "a batch was refused, writing one by one");
                let mut verdicts_alone = Vec::with_capacity(events.len());
                for event in &events {
                    let alone = std::slice::from_ref(event);
                    verdicts_alone.extend(match self.project(alone).await {
                        Ok(unready) => verdicts(alone, &unready),
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

fn verdicts(events: &[&Stored], unready: &Unready) -> Vec<Verdict> {
    events
        .iter()
        .map(|stored| match unready.waits_for(&stored.event.body) {
            Some(what) => Verdict::Retry { after: FIRST, why: Error::internal(format!("{what} is not there yet")) },
            None => Verdict::Done,
        })
        .collect()
}
