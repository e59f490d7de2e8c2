//! The overlay: events that MongoDB may not have yet, applied to what was read from it.
//!
//! Everything up to the place that `persist` has acknowledged is in MongoDB; what is behind that place is read from the log
//! and laid over. So a reader sees what was acknowledged, on whichever instance, however far the projection is behind.

use super::Queries;
use crate::broker::subject::Filter;
use crate::domain::conversation::LastMessage;
use crate::domain::event::{Body, Stored};
use crate::domain::notification::excerpt;
use crate::error::{Error, Result};
use crate::store::conversations::Listed;

/// Events of one conversation that are laid over, at most.
pub(super) const LIMIT: usize = 10_000;

impl Queries {
    /// The events that MongoDB may not have, at most so many. While the broker is away nobody can say what those are: a
    /// history that may lack what its reader has just been told is stored is refused, not shown.
    pub(super) async fn unprojected(&self, filter: Filter, limit: usize) -> Result<Vec<Stored>> {
        // What MongoDB has is needed as well.
        self.store.admit()?;
        let floor = self.broker.projected().await?;
        let found = self.broker.read(filter, floor + 1, limit).await?;
        if found.more {
            return Err(Error::unavailable(
                "catching_up",
                "what is stored is still catching up with what has happened, try again",
            )
            .retry_after(std::time::Duration::from_secs(2)));
        }
        Ok(found.events)
    }
}

/// Applies an event to a conversation as lists show it; one that MongoDB has applied already changes nothing.
pub(super) fn apply(listed: &mut Listed, stored: &Stored) {
    match &stored.event.body {
        Body::Message(message) => {
            if stored.seq > listed.last_seq && listed.last_message.as_ref().is_none_or(|last| last.id != message.id) {
                listed.last_seq = stored.seq;
                listed.last_message = Some(LastMessage {
                    id: message.id,
                    seq: stored.seq,
                    sender_id: message.sender_id,
                    excerpt: excerpt(&message.text),
                    created_at: message.created_at,
                });
            }
        }
        Body::Receipt(receipt) => {
            let mark = listed.read.entry(receipt.user_id).or_insert(0);
            *mark = receipt.read_seq.max(*mark);
        }
        Body::Conversation(_) | Body::Notification(_) => {}
    }
}
