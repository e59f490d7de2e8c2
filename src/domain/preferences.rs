//! Preferences: how a user wants to be seen, and by whom not at all.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::decision::Level;
use super::ids::UserId;
use super::notification::Kind;
use crate::error::{Error, Result};

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
    /// How loud each kind of notification is to be; what is not named is on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub notifications: BTreeMap<Kind, Level>,
}

impl Preferences {
    /// What holds for somebody who never said anything else.
    #[must_use]
    pub const fn of(user_id: UserId) -> Self {
        Self {
            user_id,
            hide_read_receipts: false,
            invisible: false,
            blocked: Vec::new(),
            notifications: BTreeMap::new(),
        }
    }

    /// How loud a kind of notification is to be.
    #[must_use]
    pub fn level(&self, kind: Kind) -> Level {
        self.notifications.get(&kind).copied().unwrap_or_default()
    }

    /// Sets how loud a kind is to be. What nobody can turn off stays as it is.
    pub fn set_level(&mut self, kind: Kind, level: Level) -> Result<()> {
        if kind.is_critical() && level != Level::On {
            return Err(Error::invalid("critical_kind", "notifications of the system cannot be turned off or down"));
        }
        if level == Level::On {
            self.notifications.remove(&kind);
        } else {
            self.notifications.insert(kind, level);
        }
        Ok(())
    }

    /// Whether this user blocks that one.
    #[must_use]
    pub fn blocks(&self, other: UserId) -> bool {
        self.blocked.binary_search(&other).is_ok()
    }
}
