//! Nearby: whom the users of this instance share a conversation with, as it was looked up when they came.
//!
//! Somebody in very many conversations does not know all who know them: only the newest of these are looked at. Whoever was
//! told that such a user is there has to hear that they have gone, so those who are here are asked instead.

use std::collections::HashMap;
use std::sync::Arc;

use crate::domain::ids::UserId;

/// Contacts that are remembered, of all users together; each takes 16 bytes. Those of whoever comes when there are more
/// are not.
const LIMIT: usize = 4_000_000;

/// The contacts of those who are here, each sorted.
#[derive(Debug, Default)]
pub(super) struct Nearby {
    of: HashMap<UserId, Arc<[UserId]>>,
    size: usize,
}

impl Nearby {
    /// Somebody who is here has these contacts.
    pub(super) fn remember(&mut self, user: UserId, contacts: Arc<[UserId]>) {
        self.remove(user);
        if self.size + contacts.len() <= LIMIT {
            self.size += contacts.len();
            self.of.insert(user, contacts);
        }
    }

    /// Somebody is not here any more.
    pub(super) fn remove(&mut self, user: UserId) {
        self.size -= self.of.remove(&user).map_or(0, |contacts| contacts.len());
    }

    /// Two may share nothing any more.
    pub(super) fn part(&mut self, one: UserId, other: UserId) {
        for (user, about) in [(one, other), (other, one)] {
            if let Some(contacts) = self.of.get_mut(&user)
                && contacts.binary_search(&about).is_ok()
            {
                self.size -= 1;
                *contacts = contacts.iter().copied().filter(|known| *known != about).collect();
            }
        }
    }

    /// Nothing that was looked up is sure any more.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Those who are here and share a conversation with this user.
    pub(super) fn who_know(&self, user: UserId) -> impl Iterator<Item = UserId> {
        let knows = move |contacts: &Arc<[UserId]>| contacts.binary_search(&user).is_ok();
        self.of.iter().filter(move |(_, contacts)| knows(contacts)).map(|(here, _)| *here)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANA: UserId = UserId::from_bits(7);
    const BEN: UserId = UserId::from_bits(8);
    const CLEO: UserId = UserId::from_bits(9);

    fn who_know(nearby: &Nearby, user: UserId) -> Vec<UserId> {
        let mut users: Vec<UserId> = nearby.who_know(user).collect();
        users.sort_unstable();
        users
    }

    #[test]
    fn those_who_are_here_say_whom_they_know() {
        let mut nearby = Nearby::default();
        nearby.remember(BEN, [ANA, CLEO].into());
        nearby.remember(CLEO, [ANA].into());
        assert_eq!(who_know(&nearby, ANA), [BEN, CLEO]);
        nearby.part(ANA, CLEO);
        assert_eq!((who_know(&nearby, ANA), nearby.size), (vec![BEN], 2));
        nearby.remember(BEN, [ANA].into());
        assert_eq!((who_know(&nearby, CLEO), nearby.size), (vec![], 1));
        nearby.remove(BEN);
        assert_eq!((who_know(&nearby, ANA), nearby.size), (vec![], 0));
    }

    #[test]
    fn so_much_is_remembered_and_no_more() {
        let mut nearby = Nearby::default();
        let many: Arc<[UserId]> = (0..LIMIT as u128).map(UserId::from_bits).collect();
        nearby.remember(BEN, many.clone());
        nearby.remember(CLEO, [ANA].into());
        assert_eq!(who_know(&nearby, ANA), [BEN]);
        nearby.remember(BEN, many);
        assert_eq!(who_know(&nearby, ANA), [BEN], "it takes its own place");
    }
}
