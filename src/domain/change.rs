//! What can happen to a message after it was sent. The message itself stays as it was said; what is shown follows from it
//! and from these (see `state`).

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::clock::Timestamp;
use super::ids::{ConversationId, MessageId, UserId};
use crate::error::Error;

/// The sender has put it in other words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Edit {
    /// Which message.
    pub message_id: MessageId,
    /// Where it is.
    pub conversation_id: ConversationId,
    /// Its place in the log.
    pub message_seq: u64,
    /// The words.
    pub text: String,
    /// Participants they name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<UserId>,
    /// When.
    pub edited_at: Timestamp,
}

/// For whom a message is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// For everybody: what is left says only that it was there.
    #[default]
    Everybody,
    /// For whoever deleted it.
    Me,
}

impl FromStr for Scope {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "everybody" => Ok(Self::Everybody),
            "me" => Ok(Self::Me),
            _ => Err(Error::invalid("unknown_scope", "scope must be everybody or me")),
        }
    }
}

/// Somebody has deleted it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deletion {
    /// Which message.
    pub message_id: MessageId,
    /// Where it is.
    pub conversation_id: ConversationId,
    /// Its place in the log.
    pub message_seq: u64,
    /// Who had sent it.
    pub sender_id: UserId,
    /// Who deleted it.
    pub deleted_by: UserId,
    /// For whom.
    pub scope: Scope,
    /// When.
    pub deleted_at: Timestamp,
}

/// Somebody has put an emoji on it, or taken one back. A user has each emoji once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reaction {
    /// Which message.
    pub message_id: MessageId,
    /// Where it is.
    pub conversation_id: ConversationId,
    /// Its place in the log.
    pub message_seq: u64,
    /// Who.
    pub user_id: UserId,
    /// What.
    pub emoji: String,
    /// Put on or taken back.
    pub on: bool,
}

/// Somebody has pinned it, or taken it down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pin {
    /// Which message.
    pub message_id: MessageId,
    /// Where it is.
    pub conversation_id: ConversationId,
    /// Its place in the log.
    pub message_seq: u64,
    /// Who.
    pub user_id: UserId,
    /// Pinned or taken down.
    pub on: bool,
    /// When.
    pub at: Timestamp,
}
