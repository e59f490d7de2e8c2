//! Partings: two who may share nothing any more are told so once MongoDB has heard of it, as it is MongoDB that says whether
//! they share anything else.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::ids::UserId;

/// How much later it is looked first, and from then on as long as MongoDB is behind.
const PAUSE: Duration = Duration::from_secs(2);
/// Partings that wait, at most; whoever is beyond that learns of it with the next snapshot.
const LIMIT: usize = 10_000;

#[derive(Debug, Clone, Copy)]
struct Parting {
    /// When to look.
    at: Instant,
    /// The place in the log that MongoDB has to have come to.
    seq: u64,
    both: (UserId, UserId),
}

/// Those who wait, in the order in which they are looked at.
#[derive(Debug, Default)]
pub(super) struct Partings(VecDeque<Parting>);

impl Partings {
    /// An event at this place has parted two users.
    pub(super) fn add(&mut self, one: UserId, other: UserId, seq: u64, now: Instant) {
        if self.0.len() < LIMIT {
            self.0.push_back(Parting { at: now + PAUSE, seq, both: (one, other) });
        }
    }

    /// Those whose time has come, if MongoDB has everything up to this place.
    pub(super) fn due(&mut self, projected: u64, now: Instant) -> Vec<(UserId, UserId)> {
        let mut due = Vec::new();
        while let Some(parting) = self.0.pop_front_if(|parting| parting.at <= now) {
            if parting.seq <= projected {
                due.push(parting.both);
            } else {
                self.0.push_back(Parting { at: now + PAUSE, ..parting });
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANA: UserId = UserId::from_bits(7);
    const BEN: UserId = UserId::from_bits(8);
    const CLEO: UserId = UserId::from_bits(9);

    #[test]
    fn nobody_is_told_before_mongodb_has_heard_of_it_however_long_that_takes() {
        let (begin, mut partings) = (Instant::now(), Partings::default());
        let after = |seconds| begin + Duration::from_secs(seconds);
        partings.add(ANA, BEN, 10, begin);
        partings.add(ANA, CLEO, 20, begin);
        assert_eq!(partings.due(20, after(1)), [], "not at once");
        assert_eq!(partings.due(10, after(2)), [(ANA, BEN)]);
        assert_eq!(partings.due(19, after(60)), [], "it is behind");
        assert_eq!(partings.due(20, after(61)), [], "looked at a moment ago");
        assert_eq!(partings.due(20, after(62)), [(ANA, CLEO)]);
        assert_eq!(partings.due(30, after(99)), [], "once");
    }

    #[test]
    fn so_many_wait_and_no_more() {
        let (now, mut partings) = (Instant::now(), Partings::default());
        for _ in 0..LIMIT + 5 {
            partings.add(ANA, BEN, 1, now);
        }
        assert_eq!(partings.due(1, now + PAUSE).len(), LIMIT);
    }
}
