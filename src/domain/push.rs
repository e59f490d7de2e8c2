//! Pushes: notes of whose sockets a message was put in line for, where, and when.
//!
//! Whether its sender is to know that somebody had a socket there is said by what held then, and not by what holds when
//! somebody asks.

use smallvec::SmallVec;

use super::clock::Timestamp;
use super::ids::UserId;

/// Those who were told at once; most conversations are of two.
pub type Told = SmallVec<[UserId; 2]>;

/// A message was put in line for sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push {
    /// The place of the message in the log.
    pub seq: u64,
    /// Who said it.
    pub sender_id: UserId,
    /// Whose sockets.
    pub users: Told,
    /// When.
    pub at: Timestamp,
    /// It was told to somebody who came back, and not live.
    pub replayed: bool,
}

/// A note as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The note, with those whose sockets the sender may know of.
    pub push: Push,
    /// Whose sockets are nobody's to know of but their own, and agents'.
    pub hidden: Told,
}

impl Push {
    /// Parts those who show the sender that they are there from those who do not.
    #[must_use]
    pub fn part(mut self, shows: impl Fn(UserId) -> bool) -> Kept {
        let (shown, hidden) = self.users.into_iter().partition(|user| shows(*user));
        self.users = shown;
        Kept { push: self, hidden }
    }
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;

    #[test]
    fn whoever_does_not_show_that_they_are_there_is_kept_apart() {
        let [ana, ben, cleo] = [1, 2, 3].map(UserId::from_bits);
        let push = Push {
            seq: 7,
            sender_id: ana,
            users: smallvec![ben, cleo],
            at: Timestamp::from_millis(0),
            replayed: false,
        };
        let kept = push.clone().part(|user| user == cleo);
        assert_eq!((kept.push.users.as_slice(), kept.hidden.as_slice()), (&[cleo][..], &[ben][..]));
        assert_eq!(push.clone().part(|_| true), Kept { push, hidden: Told::new() });
    }
}
