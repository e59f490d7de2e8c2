//! Shares: how much of something an instance does at once, in all and for one user.
//!
//! One user alone cannot have all of it, however slow they are. What somebody else's instance does is not counted: each has
//! memory and descriptors of its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::ids::UserId;

/// Who has everything that there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// All users together.
    ByAll,
    /// This user has all of theirs.
    ByUser,
}

#[derive(Debug, Default)]
struct Held {
    all: usize,
    /// Only those who have something.
    each: HashMap<UserId, usize>,
}

/// What there is; cheap to clone.
#[derive(Debug, Clone)]
pub struct Shares {
    held: Arc<Mutex<Held>>,
    all: usize,
    each: usize,
}

/// A share; it is given back when it is dropped.
#[derive(Debug)]
#[must_use = "it is given back when it is dropped"]
pub struct Share {
    shares: Shares,
    user: UserId,
}

impl Shares {
    /// So many in all, and so many of them for each user.
    #[must_use]
    pub fn new(all: usize, each: usize) -> Self {
        Self { held: Arc::default(), all, each }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A share for this user, or who has them all.
    pub fn take(&self, user: UserId) -> Result<Share, Taken> {
        let mut held = self.held();
        let own = held.each.get(&user).copied().unwrap_or_default();
        // Their own first: that is what they can do something about.
        if own >= self.each {
            return Err(Taken::ByUser);
        }
        if held.all >= self.all {
            return Err(Taken::ByAll);
        }
        held.all += 1;
        held.each.insert(user, own + 1);
        Ok(Share { shares: self.clone(), user })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.shares.held();
        held.all = held.all.saturating_sub(1);
        let own = held.each.get(&self.user).copied().unwrap_or_default();
        if own > 1 {
            held.each.insert(self.user, own - 1);
        } else {
            held.each.remove(&self.user);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANA: UserId = UserId::from_bits(1);
    const BEN: UserId = UserId::from_bits(2);

    #[test]
    fn nobody_has_more_than_theirs_and_all_not_more_than_there_is() {
        let shares = Shares::new(3, 2);
        let take = |user| shares.take(user);
        let hers = [take(ANA).expect("the first"), take(ANA).expect("the second")];
        assert_eq!(take(ANA).err(), Some(Taken::ByUser));
        let his = take(BEN).expect("he has none yet");
        assert_eq!((take(BEN).err(), take(ANA).err()), (Some(Taken::ByAll), Some(Taken::ByUser)));
        drop(his);
        assert_eq!(take(ANA).err(), Some(Taken::ByUser), "what others give back is not hers");
        drop(hers);
        let _again = take(ANA).expect("what she has given back");
    }

    #[test]
    fn whoever_has_nothing_is_not_remembered() {
        let shares = Shares::new(3, 2);
        let (one, two) = (shares.take(ANA), shares.take(ANA));
        drop(one);
        assert_eq!(shares.held().each.get(&ANA), Some(&1));
        drop(two);
        let held = shares.held();
        assert!(held.all == 0 && held.each.is_empty(), "{held:?}");
    }
}
