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

    /// These marks as others have them, each where it is further.
    pub fn join(&mut self, other: Self) {
        self.read = other.read.max(self.read);
        self.shown = other.shown.max(self.shown);
        self.delivered = other.delivered.max(self.delivered);
    }

    /// These marks as their owner knows them, or as the others do.
    #[must_use]
    pub fn seen(self, own: bool) -> Self {
        let read = if own { self.read } else { self.shown };
        Self { read, delivered: self.delivered.max(read), ..self }
    }

    /// Whether a receipt would say nothing new.
    #[must_use]
    pub fn covers(&self, receipt: &Receipt) -> bool {
        let mut after = *self;
        after.apply(receipt);
        after == *self
    }

    /// The fewest receipts that say all this: one for everybody, and one for the user alone about what the others are not
    /// told.
    pub fn receipts(self, conversation_id: ConversationId, user_id: UserId) -> impl Iterator<Item = Receipt> {
        let receipt =
            |read_seq, delivered_seq, hidden| Receipt { conversation_id, user_id, read_seq, delivered_seq, hidden };
        let delivered = if self.delivered > self.shown { self.delivered } else { 0 };
        let told = (self.shown > 0 || delivered > 0).then(|| receipt(self.shown, delivered, false));
        let hidden = (self.read > self.shown).then(|| receipt(self.read, 0, true));
        told.into_iter().chain(hidden)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn receipt() -> impl Strategy<Value = Receipt> {
        (0..9_u64, 0..9_u64, any::<bool>()).prop_map(|(read_seq, delivered_seq, hidden)| Receipt {
            conversation_id: ConversationId::from_bits(1),
            user_id: UserId::from_bits(2),
            read_seq,
            delivered_seq,
            hidden,
        })
    }

    proptest! {
        #[test]
        fn a_burst_of_receipts_comes_to_the_same_as_what_is_told_of_it(burst in prop::collection::vec(receipt(), 0..6)) {
            let mut one_by_one = Marks::default();
            for receipt in &burst {
                one_by_one.apply(receipt);
            }
            let mut at_once = Marks::default();
            let told: Vec<Receipt> =
                one_by_one.receipts(ConversationId::from_bits(1), UserId::from_bits(2)).collect();
            for receipt in &told {
                at_once.apply(receipt);
            }
            prop_assert_eq!(at_once, one_by_one);
            prop_assert!(told.len() <= 2 && told.iter().all(|receipt| one_by_one.covers(receipt)));
        }
    }

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
