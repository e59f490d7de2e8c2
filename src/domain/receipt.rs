//! Receipts: how far a participant has read. A mark only moves forward.

use serde::{Deserialize, Serialize};

use super::ids::{ConversationId, UserId};

/// A participant has read everything up to and including `read_seq`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// Where.
    pub conversation_id: ConversationId,
    /// Who.
    pub user_id: UserId,
    /// How far.
    pub read_seq: u64,
}
