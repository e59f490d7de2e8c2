//! Presence: whether a user has a socket anywhere.

use serde::{Deserialize, Serialize};

use super::clock::Timestamp;
use super::ids::UserId;

/// Online or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// At least one socket on a living instance.
    Online,
    /// None.
    Offline,
}

/// A change of somebody's presence, as their contacts see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Presence {
    /// Who.
    pub user_id: UserId,
    /// What they are now.
    pub status: Status,
    /// When their last socket closed; nothing while they are online.
    pub last_seen_at: Option<Timestamp>,
}
