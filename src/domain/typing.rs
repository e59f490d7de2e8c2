//! Typing: a signal between participants that is never stored.

use serde::{Deserialize, Serialize};

use super::clock::Timestamp;
use super::ids::{ConversationId, UserId};

/// Somebody types in a conversation, or has stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Typing {
    /// Where.
    pub conversation_id: ConversationId,
    /// Who.
    pub sender_id: UserId,
    /// Whether they began or stopped.
    pub typing: bool,
    /// Who is told.
    pub recipients: Vec<UserId>,
    /// When; a sign from before a message of theirs came late. Instances of an earlier version do not say.
    #[serde(default = "whenever")]
    pub at: Timestamp,
}

const fn whenever() -> Timestamp {
    Timestamp::from_millis(i64::MAX)
}
