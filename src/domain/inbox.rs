//! The inbox: what a user has done to their notifications.
//!
//! An entry of the inbox is one notification, or all those of one conversation's messages. What is done to it holds up to a
//! place in the log: whatever comes later is new. So the order in which such changes are applied does not matter.

use serde::{Deserialize, Serialize};

use super::clock::Timestamp;
use super::ids::{NotificationId, UserId};

/// Entries that one change names, at most.
pub const NAMED_LIMIT: usize = 100;

/// What was done; what is left out stays as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NotificationState {
    /// Whose inbox.
    pub user_id: UserId,
    /// Which entries; all of them if none is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entry_ids: Vec<NotificationId>,
    /// Whatever is behind this place in the log is not touched.
    pub up_to: u64,
    /// They were shown.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub seen: bool,
    /// They were read; that includes having been shown.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read: bool,
    /// Whether they are put away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archived: Option<bool>,
    /// Until when they are out of sight; a time that is over means that they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snoozed_until: Option<Timestamp>,
    /// What is left after that.
    pub counts: Counts,
}

/// How many entries of an inbox wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Those that are not read, counted up to 999.
    pub unread: u32,
    /// Those that were not shown, counted up to 999.
    pub unseen: u32,
    /// The place in the log up to which this was counted: what is behind it comes on top.
    pub seq: u64,
}
