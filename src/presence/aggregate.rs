//! Presence of users from records and leases: a user is online while at least one of their records is on an instance
//! whose lease is good. Pure; the service feeds it what the watches tell.

use std::collections::{HashMap, HashSet};

use smallvec::SmallVec;

use super::record::Record;
use crate::domain::ids::{InstanceId, UserId};
use crate::domain::presence::Status;

/// What every instance knows about everybody.
#[derive(Debug, Default)]
pub struct Aggregate {
    records: HashMap<UserId, SmallVec<[InstanceId; 1]>>,
    living: HashSet<InstanceId>,
}

impl Aggregate {
    /// Whether a user is online.
    #[must_use]
    pub fn status(&self, user: UserId) -> Status {
        let online = self.records.get(&user).is_some_and(|on| on.iter().any(|instance| self.living.contains(instance)));
        if online { Status::Online } else { Status::Offline }
    }

    /// A record appeared or went. Says what the user is now, if that changed.
    pub fn record(&mut self, record: Record, there: bool) -> Option<Status> {
        let before = self.status(record.user);
        let on = self.records.entry(record.user).or_default();
        on.retain(|instance| *instance != record.instance);
        if there {
            on.push(record.instance);
        } else if on.is_empty() {
            self.records.remove(&record.user);
        }
        let after = self.status(record.user);
        (before != after).then_some(after)
    }

    /// Instances whose lease is good.
    pub fn living(&self) -> impl Iterator<Item = InstanceId> + '_ {
        self.living.iter().copied()
    }

    /// A lease began or ended. Says what each user of that instance is now, where that changed.
    pub fn lease(&mut self, instance: InstanceId, good: bool) -> Vec<(UserId, Status)> {
        let changed = if good { self.living.insert(instance) } else { self.living.remove(&instance) };
        if !changed {
            return Vec::new();
        }
        // Before the change a user with another living instance was online, and is still.
        self.records
            .iter()
            .filter(|(_, on)| on.contains(&instance))
            .filter(|(_, on)| !on.iter().any(|other| *other != instance && self.living.contains(other)))
            .map(|(user, _)| (*user, self.status(*user)))
            .collect()
    }

    /// Everything there is, after a watch had to begin anew: what changed meanwhile.
    pub fn replace_records(&mut self, records: impl IntoIterator<Item = Record>) -> Vec<(UserId, Status)> {
        let mut fresh: HashMap<UserId, SmallVec<[InstanceId; 1]>> = HashMap::new();
        for record in records {
            fresh.entry(record.user).or_default().push(record.instance);
        }
        let users: HashSet<UserId> = self.records.keys().chain(fresh.keys()).copied().collect();
        let before: Vec<(UserId, Status)> = users.into_iter().map(|user| (user, self.status(user))).collect();
        self.records = fresh;
        self.changed_since(before)
    }

    /// The same for leases.
    pub fn replace_leases(&mut self, living: HashSet<InstanceId>) -> Vec<(UserId, Status)> {
        let before: Vec<(UserId, Status)> = self.records.keys().map(|user| (*user, self.status(*user))).collect();
        self.living = living;
        self.changed_since(before)
    }

    fn changed_since(&self, before: Vec<(UserId, Status)>) -> Vec<(UserId, Status)> {
        before
            .into_iter()
            .filter_map(|(user, before)| {
                let after = self.status(user);
                (before != after).then_some((user, after))
            })
            .collect()
    }

    /// Records on instances without a lease: void, and to be removed by whoever sees them.
    #[must_use]
    pub fn void(&self) -> Vec<Record> {
        let records = self
            .records
            .iter()
            .flat_map(|(user, on)| on.iter().map(|instance| Record { user: *user, instance: *instance }));
        records.filter(|record| !self.living.contains(&record.instance)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(user: u128, instance: u128) -> Record {
        Record { user: UserId::from_bits(user), instance: InstanceId::from_bits(instance) }
    }

    #[test]
    fn the_last_record_on_a_living_instance_decides() {
        let mut all = Aggregate::default();
        let (one, two) = (InstanceId::from_bits(1), InstanceId::from_bits(2));
        assert!(all.lease(one, true).is_empty());
        assert!(all.lease(two, true).is_empty());
        assert_eq!(all.record(record(7, 1), true), Some(Status::Online));
        assert_eq!(all.record(record(7, 2), true), None);
        assert_eq!(all.record(record(7, 1), false), None);
        assert_eq!(all.record(record(7, 2), false), Some(Status::Offline));
        assert_eq!(all.record(record(7, 2), false), None);
    }

    #[test]
    fn a_lease_that_ends_takes_its_users_with_it() {
        let mut all = Aggregate::default();
        let (one, two) = (InstanceId::from_bits(1), InstanceId::from_bits(2));
        all.lease(one, true);
        all.lease(two, true);
        all.record(record(7, 1), true);
        all.record(record(8, 1), true);
        all.record(record(8, 2), true);
        assert_eq!(all.lease(one, false), [(UserId::from_bits(7), Status::Offline)]);
        assert_eq!(all.void().len(), 2);
        assert_eq!(all.status(UserId::from_bits(8)), Status::Online);
        assert_eq!(all.lease(one, true), [(UserId::from_bits(7), Status::Online)]);
    }

    #[test]
    fn a_record_before_its_lease_counts_once_the_lease_is_seen() {
        let mut all = Aggregate::default();
        assert_eq!(all.record(record(7, 1), true), None);
        assert_eq!(all.lease(InstanceId::from_bits(1), true), [(UserId::from_bits(7), Status::Online)]);
    }

    #[test]
    fn a_new_beginning_tells_only_what_changed() {
        let mut all = Aggregate::default();
        all.lease(InstanceId::from_bits(1), true);
        all.record(record(7, 1), true);
        all.record(record(8, 1), true);
        let changed = all.replace_records([record(8, 1), record(9, 1)]);
        let mut changed: Vec<_> = changed.into_iter().map(|(user, status)| (user.bits(), status)).collect();
        changed.sort_unstable_by_key(|(user, _)| *user);
        assert_eq!(changed, [(7, Status::Offline), (9, Status::Online)]);
    }
}
