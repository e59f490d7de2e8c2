//! Resends: finds the first of a message that is sent again after the broker has forgotten it.
//!
//! The broker recognises a repeated message for some minutes (`DEDUP_SECONDS`). Behind that only MongoDB knows, where a
//! message's id follows from the client's own. So a send with such an id is looked up before it is published, unless its
//! conversation is younger than what the broker remembers. Look-ups of many senders are one query. While the database is
//! away nothing waits for it: a resend is then stored in the log again, and recognised when it is projected.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::domain::clock::Timestamp;
use crate::domain::ids::MessageId;
use crate::domain::state::MessageState;
use crate::lifecycle::Lifecycle;
use crate::store::Store;

/// Look-ups in line, at most; behind that a send goes on without one.
const QUEUE: usize = 2_048;
/// Messages of one query.
const BATCH: usize = 256;
/// How long a send waits for a look-up.
const PATIENCE: Duration = Duration::from_secs(1);

type Found = Option<MessageState>;

/// Looks messages up; cheap to clone.
#[derive(Debug, Clone)]
pub struct Resends {
    asked: mpsc::Sender<(MessageId, oneshot::Sender<Found>)>,
    remembered: Duration,
}

impl Resends {
    /// Starts the task that asks the database. `remembered` is how long the broker recognises a repeated message.
    #[must_use]
    pub fn start(store: Store, remembered: Duration, lifecycle: &Lifecycle) -> Self {
        let (asked, queue) = mpsc::channel(QUEUE);
        lifecycle.service("resends", answer(store, queue));
        Self { asked, remembered }
    }

    /// The message of this id as MongoDB has it, if it was stored so long ago that the broker may not know it any more.
    pub async fn first(&self, id: MessageId, opened: Timestamp, now: Timestamp) -> Found {
        if is_young(opened, now, self.remembered) {
            return None;
        }
        let (answer, found) = oneshot::channel();
        self.asked.try_send((id, answer)).ok()?;
        tokio::time::timeout(PATIENCE, found).await.ok()?.ok()?
    }
}

/// Whether everything in a conversation that was opened then is still remembered by the broker, with some room for clocks
/// that disagree.
fn is_young(opened: Timestamp, now: Timestamp, remembered: Duration) -> bool {
    let age = u128::try_from(now.millis().saturating_sub(opened.millis())).unwrap_or(0);
    age < (remembered / 10 * 9).as_millis()
}

async fn answer(
    store: Store,
    mut queue: mpsc::Receiver<(MessageId, oneshot::Sender<Found>)>,
) -> crate::error::Result<()> {
    let mut asked = Vec::with_capacity(BATCH);
    while queue.recv_many(&mut asked, BATCH).await > 0 {
        let ids: Vec<MessageId> = asked.iter().map(|(id, _)| *id).collect();
        let found = store.messages_by_id(&ids).await.unwrap_or_else(|error| {
            tracing::debug!(error = %error, "resends cannot be looked up right now");
            Vec::new()
        });
        let found: HashMap<MessageId, MessageState> =
            found.into_iter().map(|state| (state.message.id, state)).collect();
        for (id, answer) in asked.drain(..) {
            let _ = answer.send(found.get(&id).cloned());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_broker_surely_remembers_needs_no_look_up() {
        let remembered = Duration::from_mins(10);
        let opened = Timestamp::from_millis(1_700_000_000_000);
        assert!(is_young(opened, opened.plus_seconds(500), remembered));
        assert!(!is_young(opened, opened.plus_seconds(560), remembered));
        assert!(!is_young(opened, opened.plus_seconds(86_400), remembered));
    }
}
