//! The way of a message to one of its recipients, as receipts tell it.

use super::clock::Timestamp;
use super::event::{Body, Stored};
use super::ids::UserId;
use super::receipt::Marks;

/// When a message had come to somebody and when they had read it, as far as that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Journey {
    /// When it was delivered.
    pub delivered_at: Option<Timestamp>,
    /// When it was read.
    pub read_at: Option<Timestamp>,
}

impl Journey {
    /// What a part of the log says of the message at `seq` and one of its recipients: the times of the first receipts that
    /// cover it. `events` come in the order of the log, from the message on, and are complete as far as they go. `own` says
    /// that it is the recipient who asks; others do not learn what is hidden from them.
    #[must_use]
    pub fn of<'a>(seq: u64, user: UserId, own: bool, events: impl IntoIterator<Item = &'a Stored>) -> Self {
        let (mut journey, mut marks) = (Self::default(), Marks::default());
        for stored in events {
            let Body::Receipt(receipt) = &stored.event.body else { continue };
            if receipt.user_id != user {
                continue;
            }
            marks.apply(receipt);
            let seen = marks.seen(own);
            if seen.delivered >= seq {
                journey.delivered_at.get_or_insert(stored.event.occurred_at);
            }
            if seen.read >= seq {
                journey.read_at.get_or_insert(stored.event.occurred_at);
                break;
            }
        }
        journey
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::{Event, VERSION};
    use crate::domain::ids::{ConversationId, EventId};
    use crate::domain::receipt::Receipt;

    const ANA: UserId = UserId::from_bits(1);
    const BEN: UserId = UserId::from_bits(2);

    fn receipt(at: u64, user_id: UserId, delivered_seq: u64, read_seq: u64, hidden: bool) -> Stored {
        let conversation_id = ConversationId::from_bits(3);
        let event = Event {
            id: EventId::from_bits(at.into()),
            version: VERSION,
            actor: user_id,
            occurred_at: Timestamp::from_millis(i64::try_from(at).expect("small")),
            recipients: vec![ANA, BEN],
            body: Body::Receipt(Receipt { conversation_id, user_id, read_seq, delivered_seq, hidden }),
        };
        Stored { seq: at, event }
    }

    fn times(own: bool, events: &[Stored]) -> (Option<i64>, Option<i64>) {
        let journey = Journey::of(10, BEN, own, events);
        (journey.delivered_at.map(Timestamp::millis), journey.read_at.map(Timestamp::millis))
    }

    #[test]
    fn the_first_receipt_that_covers_a_message_counts() {
        let before = receipt(11, BEN, 9, 9, false);
        let hers = receipt(12, ANA, 10, 10, false);
        assert_eq!(times(false, &[before.clone(), hers.clone()]), (None, None), "somebody else's say nothing");
        let came = receipt(13, BEN, 10, 0, false);
        let on = receipt(14, BEN, 12, 0, false);
        let read = receipt(15, BEN, 0, 12, false);
        let again = receipt(16, BEN, 13, 13, false);
        assert_eq!(times(false, &[before, hers, came, on, read.clone(), again]), (Some(13), Some(15)));
        assert_eq!(times(false, &[read]), (Some(15), Some(15)), "what is read was delivered");
    }

    #[test]
    fn what_is_hidden_only_its_owner_learns() {
        let events = [receipt(11, BEN, 0, 10, true), receipt(12, BEN, 10, 0, false), receipt(13, BEN, 0, 11, false)];
        assert_eq!(times(false, &events), (Some(12), Some(13)));
        assert_eq!(times(true, &events), (Some(11), Some(11)));
    }
}
