//! Preferences: how a user wants to be seen, and by whom not at all.

use serde::{Deserialize, Serialize};

use super::ids::UserId;

/// Most users whom one user blocks: every instance keeps the list of those who are here.
pub const BLOCKED_LIMIT: usize = 1_000;

/// The whole of a user's preferences, as every change of them is written to the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Preferences {
    /// Whose.
    pub user_id: UserId,
    /// Others are not told how far this user has read.
    pub hide_read_receipts: bool,
    /// Others see this user as offline.
    pub invisible: bool,
    /// Users from whom nothing more is heard, sorted.
    pub blocked: Vec<UserId>,
}

impl Preferences {
    /// What holds for somebody who never said anything else.
    #[must_use]
    pub const fn of(user_id: UserId) -> Self {
        Self { user_id, hide_read_receipts: false, invisible: false, blocked: Vec::new() }
    }

    /// Whether this user blocks that one.
    #[must_use]
    pub fn blocks(&self, other: UserId) -> bool {
        self.blocked.binary_search(&other).is_ok()
    }
}
