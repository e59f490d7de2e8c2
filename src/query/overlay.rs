//! The overlay: events that MongoDB may not have yet, applied to what was read from it.
//!
//! Everything up to the place that `persist` has acknowledged is in MongoDB; what is behind that place is read from the log
//! and laid over. So a reader sees what was acknowledged, on whichever instance, however far the projection is behind.

use std::collections::HashMap;

use super::Queries;
use crate::broker::subject::Filter;
use crate::domain::conversation::LastMessage;
use crate::domain::event::{Body, Stored};
use crate::domain::ids::MessageId;
use crate::domain::state::MessageState;
use crate::error::Result;
use crate::store::conversations::Listed;

/// Events of one conversation that are laid over, at most.
pub(super) const LIMIT: usize = 10_000;

impl Queries {
    /// The events that MongoDB may not have, at most so many. While the broker is away nobody can say what those are: a
    /// history that may lack what its reader has just been told is stored is refused, not shown.
    pub(super) async fn unprojected(&self, filter: Filter, limit: usize) -> Result<Vec<Stored>> {
        self.behind(filter, limit).await.map(|(_, events)| events)
    }

    /// The same, and the place behind which they are: MongoDB has everything up to there.
    pub(super) async fn behind(&self, filter: Filter, limit: usize) -> Result<(u64, Vec<Stored>)> {
        // What MongoDB has is needed as well.
        self.store.admit()?;
        self.broker.behind(filter, limit).await
    }
}

/// Applies an event to a conversation as lists show it. Events come in the order of the log; one that MongoDB has applied
/// already changes nothing.
pub(super) fn apply(listed: &mut Listed, stored: &Stored) {
    let at = stored.seq;
    match &stored.event.body {
        Body::Conversation(conversation) if at >= listed.state_seq => {
            listed.conversation = conversation.clone();
            listed.state_seq = at;
            listed.last_seq = at.max(listed.last_seq);
        }
        Body::Message(message) if listed.last_message.is_none_or(|last| last.seq < at && last.id != message.id) => {
            listed.last_message = Some(LastMessage { id: message.id, seq: at });
            listed.last_seq = at.max(listed.last_seq);
        }
        Body::Receipt(receipt) => listed.marks.entry(receipt.user_id).or_default().apply(receipt),
        Body::Setting(setting) => listed.settings.entry(setting.user_id).or_default().apply(setting),
        _ => {}
    }
}

/// Brings messages of a conversation up to date: what was said since is added in the order of the log, what happened to any
/// of them is applied. A message that the log has twice is where it was first.
pub(super) fn lay_over<'a>(
    messages: &mut Vec<MessageState>,
    newer: impl IntoIterator<Item = &'a Stored>,
    fits: impl Fn(u64) -> bool,
) {
    let mut places: HashMap<MessageId, usize> =
        messages.iter().enumerate().map(|(place, state)| (state.message.id, place)).collect();
    for stored in newer {
        let body = &stored.event.body;
        if let Body::Message(message) = body
            && fits(stored.seq)
            && !places.contains_key(&message.id)
        {
            places.insert(message.id, messages.len());
            messages.push(MessageState::new(stored.seq, message.clone()));
        }
        if let Some(place) = body.changed_message().and_then(|id| places.get(&id)) {
            messages[*place].apply(stored.seq, body);
        }
    }
    messages.sort_unstable_by_key(|state| state.seq);
}
