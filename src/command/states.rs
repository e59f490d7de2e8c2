//! Changing a conversation: its next state and the note that says so, stored together, or neither.
//!
//! A state has rules (a group has an owner, a hundred users are the most), so it is written only if nobody wrote another one
//! meanwhile; then the change is decided anew, from what is there now. Whatever is asked for twice happens once.

use std::sync::Arc;
use std::time::Duration;

use super::Commands;
use super::directory::Entry;
use crate::auth::Actor;
use crate::broker::jittered;
use crate::domain::conversation::{Conversation, foreign};
use crate::domain::event::Body;
use crate::domain::ids::ConversationId;
use crate::domain::message::{self, Kind, Message};
use crate::domain::trace::TraceContext;
use crate::error::{Code, Error, Result};

/// Attempts while others change the same conversation.
const ATTEMPTS: u32 = 12;
/// The first wait between two; it grows.
const PAUSE: Duration = Duration::from_millis(10);

/// A change to be made.
#[derive(Debug)]
pub(super) struct Change {
    /// The state that it leads to.
    pub(super) next: Conversation,
    /// What the note says.
    pub(super) note: message::Entry,
}

impl Commands {
    /// Makes the change that `decide` wants of the state it is shown, if it wants one; returns the state it comes to.
    pub(super) async fn change<F>(
        &self,
        actor: &Actor,
        id: ConversationId,
        trace: Option<TraceContext>,
        decide: F,
    ) -> Result<Arc<Entry>>
    where
        F: Fn(&Entry) -> Result<Option<Change>> + Send,
    {
        let now = self.clock.now();
        actor.check_expiry(now)?;
        let mut entry = self.directory.find(id).await?.ok_or_else(foreign)?;
        // What this instance knows may be a moment old: nobody is refused for that, nor told that something is so already.
        if !matches!(decide(&entry), Ok(Some(_))) {
            entry = self.directory.renewed(id).await?.ok_or_else(foreign)?;
        }
        for attempt in 0..ATTEMPTS {
            let Some(change) = decide(&entry)? else { return Ok(entry) };
            // A note is a message like others: it counts for its sender.
            let in_hand = self.limits.admit(actor.user_id, now)?;
            match self.store_change(actor, entry.seq(), change, trace).await {
                Ok(entry) => return Ok(entry),
                Err(error) if error.code() == Code::Conflict => {
                    drop(in_hand);
                    tokio::time::sleep(jittered(PAUSE * attempt)).await;
                    entry = self.directory.renewed(id).await?.ok_or_else(foreign)?;
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::unavailable("changed_meanwhile", "others change this conversation right now, try again")
            .retry_after(Duration::from_millis(500)))
    }

    async fn store_change(
        &self,
        actor: &Actor,
        last: u64,
        change: Change,
        trace: Option<TraceContext>,
    ) -> Result<Arc<Entry>> {
        let Change { next, note } = change;
        let inside: Vec<_> = next.users().collect();
        let note = Message {
            id: self.clock.fresh_id(),
            conversation_id: next.id,
            sender_id: actor.user_id,
            sender_name: actor.name.to_string(),
            kind: Kind::System,
            text: String::new(),
            reply_to: None,
            mentions: Vec::new(),
            attachments: Vec::new(),
            entry: Some(note),
            client_message_id: None,
            created_at: self.clock.now(),
        };
        // Whoever is removed hears of that, and of nothing behind it.
        let told = inside.iter().chain(&next.removed).copied().collect();
        let event = self.event(actor.user_id, told, Body::Conversation(next.clone()));
        let note = self.event(actor.user_id, inside, Body::Message(note));
        let stored = self.publisher.enqueue_after(last, &event, Some(&note), trace)?.stored().await?;
        Ok(self.directory.keep(next, stored.seq))
    }
}
