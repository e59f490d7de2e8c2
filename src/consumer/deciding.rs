//! What has to be known to decide whether somebody is told of something, asked for once for a batch.
//!
//! Nobody is told late because MongoDB is away: what only it could know is taken to be nothing, as on the live path.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use futures_util::StreamExt as _;

use crate::command::directory::{Directory, Entry};
use crate::command::preferences::{Everybody, Preferred};
use crate::domain::clock::Timestamp;
use crate::domain::conversation;
use crate::domain::decision::{Decisions, Facts, decide_all};
use crate::domain::ids::{ConversationId, UserId};
use crate::domain::notification::Notification;
use crate::domain::presence::Status;
use crate::error::Result;

/// Conversations that are looked up at once.
const AT_ONCE: usize = 16;

/// Says whether somebody is there, if that is known here.
pub type Presence = Arc<dyn Fn(UserId) -> Option<Status> + Send + Sync>;

/// Finds out what decisions need.
#[derive(Clone)]
pub struct Deciding {
    directory: Directory,
    preferred: Preferred,
    presence: Presence,
}

impl fmt::Debug for Deciding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deciding").finish_non_exhaustive()
    }
}

/// What is known of some users and some conversations.
pub struct Known {
    preferences: Everybody,
    entries: HashMap<ConversationId, Arc<Entry>>,
    presence: Presence,
}

impl Deciding {
    /// Asks these.
    #[must_use]
    pub const fn new(directory: Directory, preferred: Preferred, presence: Presence) -> Self {
        Self { directory, preferred, presence }
    }

    /// What is known of these users and these conversations.
    pub async fn know(&self, users: HashSet<UserId>, conversations: HashSet<ConversationId>) -> Result<Known> {
        let preferences = self.preferred.live(users).await?;
        let entries = futures_util::stream::iter(conversations)
            .map(|id| async move { (id, self.entry(id).await) })
            .buffer_unordered(AT_ONCE)
            .filter_map(async |(id, entry)| Some((id, entry?)))
            .collect()
            .await;
        Ok(Known { preferences, entries, presence: self.presence.clone() })
    }

    async fn entry(&self, id: ConversationId) -> Option<Arc<Entry>> {
        let entry = self.directory.find(id).await;
        let found = match entry {
            Ok(found) => found?,
            Err(error) => {
                tracing::debug!(error = %error, "what a conversation is to its participants is unknown for now");
                return None;
            }
        };
        if let Err(error) = self.directory.recall(&found).await {
            tracing::debug!(error = %error, "how far participants have read is unknown for now");
        }
        Some(found)
    }
}

impl Known {
    /// Of which kind a conversation is.
    #[must_use]
    pub fn kind(&self, id: ConversationId) -> Option<conversation::Kind> {
        self.entries.get(&id).map(|entry| entry.conversation.kind)
    }

    /// Whether its user is told of this.
    #[must_use]
    pub fn decide(&self, notification: &Notification, now: Timestamp) -> Decisions {
        let user = notification.user_id;
        let entry = notification.data.conversation_id.and_then(|id| self.entries.get(&id));
        let (read_seq, muted_until) = entry.map_or((0, None), |entry| entry.attention(user));
        let preferences = self.preferences.of(user);
        let facts = Facts {
            level: preferences.map_or_else(Default::default, |one| one.level(notification.kind)),
            blocked: preferences.zip(notification.data.sender_id).is_some_and(|(one, sender)| one.blocks(sender)),
            muted_until,
            read_seq,
            presence: (self.presence)(user),
        };
        decide_all(notification.matter(), facts, now)
    }
}
