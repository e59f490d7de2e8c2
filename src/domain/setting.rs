//! Settings: what a conversation is to one of its participants. Nobody else is told.

use serde::{Deserialize, Serialize};

use super::clock::Timestamp;
use super::ids::{ConversationId, UserId};

/// What a participant has changed; what is left out stays as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Setting {
    /// Which conversation.
    pub conversation_id: ConversationId,
    /// Whose setting.
    pub user_id: UserId,
    /// Until when it makes no noise; a time that is over means that it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub muted_until: Option<Timestamp>,
    /// Whether it is put away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archived: Option<bool>,
    /// Whether it is kept on top.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<bool>,
}

/// All of a participant's settings of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settings {
    /// Until when it makes no noise.
    pub muted_until: Option<Timestamp>,
    /// Whether it is put away.
    pub archived: bool,
    /// Whether it is kept on top.
    pub pinned: bool,
}

impl Settings {
    /// Takes a change over. Changes have to come in the order of the log.
    pub fn apply(&mut self, setting: &Setting) {
        self.muted_until = setting.muted_until.or(self.muted_until);
        self.archived = setting.archived.unwrap_or(self.archived);
        self.pinned = setting.pinned.unwrap_or(self.pinned);
    }
}
