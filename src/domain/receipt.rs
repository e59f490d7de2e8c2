//! Receipts: how far messages have come to a participant, and how far they have read. A mark only moves forward.

use serde::{Deserialize, Serialize};

use super::conversation::is_zero;
use super::ids::{ConversationId, UserId};

/// A participant has everything up to a seq, or has read it. Zero says nothing about a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// Where.
    pub conversation_id: ConversationId,
    /// Who.
    pub user_id: UserId,
    /// How far they have read. What is read was delivered.
    #[serde(default)]
    pub read_seq: u64,
    /// How far it was delivered.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub delivered_seq: u64,
    /// The others are not told how far they have read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hidden: bool,
}

/// How far a participant is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Marks {
    /// They have read up to here.
    pub read: u64,
    /// What the others know of that.
    pub shown: u64,
    /// Delivered up to here.
    pub delivered: u64,
}

impl Marks {
    /// Takes a receipt over, in whatever order they come.
    pub fn apply(&mut self, receipt: &Receipt) {
        self.read = receipt.read_seq.max(self.read);
        self.delivered = receipt.delivered_seq.max(self.delivered);
        if receipt.hidden {
            return;
        }
        self.shown = receipt.read_seq.max(self.shown);
        self.delivered = receipt.read_seq.max(self.delivered);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_only_rise_and_a_hidden_one_shows_nothing() {
        let receipt = |read_seq, delivered_seq, hidden| Receipt {
            conversation_id: ConversationId::from_bits(1),
            user_id: UserId::from_bits(2),
            read_seq,
            delivered_seq,
            hidden,
        };
        let mut marks = Marks::default();
        for one in [receipt(5, 0, false), receipt(3, 0, false), receipt(9, 0, true), receipt(0, 7, false)] {
            marks.apply(&one);
        }
        assert_eq!(marks, Marks { read: 9, shown: 5, delivered: 7 });
    }
}
