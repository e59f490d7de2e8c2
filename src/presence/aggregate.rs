//! Presence of users from records and leases: a user is there while at least one of their records is on an instance whose
//! lease is good, and for a grace after the last of them went. Pure; the service feeds it what the watches tell, and the
//! time.
//!
//! The grace is for those who come back at once: a page that is loaded again, a deploy. It begins when a record is removed,
//! which an instance does when a socket closes. An instance that died removes nothing: its lease runs out, which takes
//! longer than the grace, so its users have been away for long enough by then.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::Instant;

use super::record::Record;
use crate::domain::clock::Timestamp;
use crate::domain::ids::{InstanceId, UserId};
use crate::domain::presence::{Presence, Sign, Status};

/// How long somebody whose last socket closed is still shown as they were.
pub const GRACE: Duration = Duration::from_secs(5);

/// A record that went.
#[derive(Debug, Clone, Copy)]
struct Leaving {
    /// What its user was before.
    was: Sign,
    /// When it went.
    at: Timestamp,
    /// The end of the grace.
    until: Instant,
}

type On = SmallVec<[(InstanceId, Sign); 1]>;

/// What every instance knows about everybody.
#[derive(Debug, Default)]
pub struct Aggregate {
    records: HashMap<UserId, On>,
    /// Instances whose lease is good, and when it was last renewed.
    living: HashMap<InstanceId, Timestamp>,
    /// Users of whom a record went within the grace, whether or not they have others.
    leaving: HashMap<UserId, Leaving>,
}

impl Aggregate {
    /// What a user is to others.
    #[must_use]
    pub fn status(&self, user: UserId) -> Status {
        self.shown(user).into()
    }

    fn shown(&self, user: UserId) -> Option<Sign> {
        self.there(user).or_else(|| self.leaving.get(&user).map(|leaving| leaving.was))
    }

    fn there(&self, user: UserId) -> Option<Sign> {
        self.best(self.records.get(&user)?)
    }

    fn best(&self, on: &On) -> Option<Sign> {
        on.iter().filter(|(instance, _)| self.living.contains_key(instance)).map(|(_, sign)| *sign).max()
    }

    /// A record says something, or went, at this time. Says what the user is now, if that changed.
    pub fn record(&mut self, record: Record, sign: Option<Sign>, at: Timestamp, now: Instant) -> Option<Presence> {
        let user = record.user;
        let before = self.shown(user);
        let there = self.there(user);
        let on = self.records.entry(user).or_default();
        let known = on.len();
        on.retain(|(instance, _)| *instance != record.instance);
        let went = on.len() < known;
        if let Some(sign) = sign {
            on.push((record.instance, sign));
        } else if on.is_empty() {
            self.records.remove(&user);
        }
        let living = self.living.contains_key(&record.instance);
        if sign.is_some() && living {
            self.leaving.remove(&user);
        } else if went && living {
            self.begin_leaving(user, there, at, now);
        }
        self.changed(user, before)
    }

    fn begin_leaving(&mut self, user: UserId, was: Option<Sign>, at: Timestamp, now: Instant) {
        if let Some(was) = was {
            self.leaving.insert(user, Leaving { was, at, until: now + GRACE });
        }
    }

    /// What a user is, if that is something else than before.
    fn changed(&self, user_id: UserId, before: Option<Sign>) -> Option<Presence> {
        let after = self.shown(user_id);
        (before != after).then(|| Presence { user_id, status: after.into(), last_seen_at: None })
    }

    /// Ends every grace that is over. Says who is offline now, and since when.
    pub fn settle(&mut self, now: Instant) -> Vec<Presence> {
        let over: Vec<(UserId, Timestamp)> = self
            .leaving
            .iter()
            .filter(|(_, leaving)| leaving.until <= now)
            .map(|(user, leaving)| (*user, leaving.at))
            .collect();
        over.into_iter()
            .filter_map(|(user_id, at)| {
                self.leaving.remove(&user_id);
                let gone = self.there(user_id).is_none();
                gone.then_some(Presence { user_id, status: Status::Offline, last_seen_at: Some(at) })
            })
            .collect()
    }

    /// Instances whose lease is good, and when it was last renewed.
    pub fn living(&self) -> impl Iterator<Item = (InstanceId, Timestamp)> + '_ {
        self.living.iter().map(|(instance, at)| (*instance, *at))
    }

    /// A lease is good. Says what changed for the users of that instance, if it was not before.
    pub fn renewed(&mut self, instance: InstanceId, at: Timestamp) -> Vec<Presence> {
        if let Some(last) = self.living.get_mut(&instance) {
            *last = at;
            return Vec::new();
        }
        let before = self.shown_of(|on| on.iter().any(|(other, _)| *other == instance));
        self.living.insert(instance, at);
        before.into_iter().filter_map(|(user, before)| self.changed(user, before)).collect()
    }

    /// A lease has been gone for so long that its instance is dead. Says which of its users are gone with it: they were last
    /// seen when it was last renewed.
    pub fn ended(&mut self, instance: InstanceId) -> Vec<Presence> {
        if !self.living.contains_key(&instance) {
            return Vec::new();
        }
        let before = self.shown_of(|on| on.iter().any(|(other, _)| *other == instance));
        let at = self.living.remove(&instance);
        before
            .into_iter()
            .filter_map(|(user, before)| self.changed(user, before))
            .map(|change| Self::since(change, at))
            .collect()
    }

    fn since(change: Presence, at: Option<Timestamp>) -> Presence {
        let last_seen_at = at.filter(|_| change.status == Status::Offline);
        Presence { last_seen_at, ..change }
    }

    fn shown_of(&self, wanted: impl Fn(&On) -> bool) -> Vec<(UserId, Option<Sign>)> {
        self.records.iter().filter(|(_, on)| wanted(on)).map(|(user, _)| (*user, self.shown(*user))).collect()
    }

    /// Every record there is, after a watch had to begin anew: what changed meanwhile.
    pub fn replace_records(
        &mut self,
        records: impl IntoIterator<Item = (Record, Sign)>,
        at: Timestamp,
        now: Instant,
    ) -> Vec<Presence> {
        let mut fresh: HashMap<UserId, On> = HashMap::new();
        for (record, sign) in records {
            fresh.entry(record.user).or_default().push((record.instance, sign));
        }
        let users: HashSet<UserId> = self.records.keys().chain(fresh.keys()).copied().collect();
        let before: Vec<_> = users.into_iter().map(|user| (user, self.shown(user), self.there(user))).collect();
        self.records = fresh;
        before
            .into_iter()
            .filter_map(|(user, before, was)| {
                if self.there(user).is_none() {
                    self.begin_leaving(user, was, at, now);
                }
                self.changed(user, before)
            })
            .collect()
    }

    /// The same for leases. Those that are not among them any more have ended.
    pub fn replace_leases(&mut self, living: HashMap<InstanceId, Timestamp>, at: Timestamp) -> Vec<Presence> {
        let before = self.shown_of(|_| true);
        self.living = living;
        before
            .into_iter()
            .filter_map(|(user, before)| self.changed(user, before))
            .map(|change| Self::since(change, Some(at)))
            .collect()
    }

    /// Records on instances without a lease, at most so many: void, and to be removed by whoever sees them.
    #[must_use]
    pub fn void(&self, most: usize) -> Vec<Record> {
        let records = self
            .records
            .iter()
            .flat_map(|(user, on)| on.iter().map(|(instance, _)| Record { user: *user, instance: *instance }));
        records.filter(|record| !self.living.contains_key(&record.instance)).take(most).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANA: UserId = UserId::from_bits(7);
    const BEN: UserId = UserId::from_bits(8);
    const ONE: InstanceId = InstanceId::from_bits(1);
    const TWO: InstanceId = InstanceId::from_bits(2);

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn record(user: UserId, instance: InstanceId) -> Record {
        Record { user, instance }
    }

    fn presence(user_id: UserId, status: Status, last_seen: Option<i64>) -> Presence {
        Presence { user_id, status, last_seen_at: last_seen.map(at) }
    }

    /// Two living instances, and what is done to records, a second apart.
    struct Play {
        all: Aggregate,
        begin: Instant,
        second: u64,
    }

    impl Play {
        fn new() -> Self {
            let mut all = Aggregate::default();
            assert!(all.renewed(ONE, at(0)).is_empty());
            assert!(all.renewed(TWO, at(0)).is_empty());
            Self { all, begin: Instant::now(), second: 0 }
        }

        fn now(&self) -> Instant {
            self.begin + Duration::from_secs(self.second)
        }

        fn record(&mut self, user: UserId, instance: InstanceId, sign: Option<Sign>) -> Option<Status> {
            self.second += 1;
            let millis = i64::try_from(self.second).expect("a short play") * 1_000;
            self.all.record(record(user, instance), sign, at(millis), self.now()).map(|change| change.status)
        }

        fn wait(&mut self, seconds: u64) -> Vec<Presence> {
            self.second += seconds;
            self.all.settle(self.now())
        }
    }

    #[test]
    fn the_last_record_on_a_living_instance_decides_after_a_grace() {
        let mut play = Play::new();
        assert_eq!(play.record(ANA, ONE, Some(Sign::Online)), Some(Status::Online));
        assert_eq!(play.record(ANA, TWO, Some(Sign::Online)), None);
        assert_eq!(play.record(ANA, ONE, None), None);
        assert_eq!(play.record(ANA, TWO, None), None, "within the grace nothing has changed");
        assert_eq!(play.wait(4), []);
        assert_eq!(play.all.status(ANA), Status::Online);
        assert_eq!(play.wait(1), [presence(ANA, Status::Offline, Some(4_000))], "since the socket closed");
        assert_eq!(play.all.status(ANA), Status::Offline);
        assert_eq!(play.wait(9), [], "once");
    }

    #[test]
    fn whoever_comes_back_within_the_grace_was_never_away_wherever_they_come_back() {
        let mut play = Play::new();
        play.record(ANA, ONE, Some(Sign::Online));
        assert_eq!(play.record(ANA, ONE, None), None);
        assert_eq!(play.record(ANA, TWO, Some(Sign::Online)), None);
        assert_eq!(play.wait(9), []);
        assert_eq!(play.all.status(ANA), Status::Online);
    }

    #[test]
    fn all_devices_have_to_say_that_somebody_is_away() {
        let mut play = Play::new();
        play.record(ANA, ONE, Some(Sign::Online));
        play.record(ANA, TWO, Some(Sign::Online));
        assert_eq!(play.record(ANA, ONE, Some(Sign::Away)), None);
        assert_eq!(play.record(ANA, TWO, Some(Sign::Away)), Some(Status::Away));
        assert_eq!(play.record(ANA, TWO, None), None);
        assert_eq!(play.record(ANA, ONE, Some(Sign::Online)), Some(Status::Online));
    }

    #[test]
    fn a_lease_that_ends_takes_its_users_with_it_at_once() {
        let mut play = Play::new();
        play.record(ANA, ONE, Some(Sign::Online));
        play.record(BEN, ONE, Some(Sign::Online));
        play.record(BEN, TWO, Some(Sign::Away));
        assert!(play.all.renewed(ONE, at(9_000)).is_empty());
        let mut gone = play.all.ended(ONE);
        gone.sort_unstable_by_key(|change| change.user_id);
        assert_eq!(gone, [presence(ANA, Status::Offline, Some(9_000)), presence(BEN, Status::Away, None)]);
        assert_eq!(play.all.void(9).len(), 2);
        assert_eq!(play.all.void(1).len(), 1);
        let back = play.all.renewed(ONE, at(10_000));
        assert_eq!(back.len(), 2, "it was alive after all: {back:?}");
    }

    #[test]
    fn a_page_that_is_loaded_again_while_another_instance_is_found_dead_is_still_there() {
        let mut play = Play::new();
        play.record(ANA, ONE, Some(Sign::Online));
        play.record(ANA, TWO, Some(Sign::Online));
        // The first instance is dead, and nobody knows yet.
        play.record(ANA, TWO, None);
        assert_eq!(play.all.ended(ONE), [], "the grace of the second one goes on");
        assert_eq!(play.record(ANA, TWO, Some(Sign::Online)), None);
        assert_eq!(play.wait(9), []);
    }

    #[test]
    fn a_record_before_its_lease_counts_once_the_lease_is_seen() {
        let mut all = Aggregate::default();
        assert_eq!(all.record(record(ANA, ONE), Some(Sign::Online), at(0), Instant::now()), None);
        assert_eq!(all.renewed(ONE, at(0)), [presence(ANA, Status::Online, None)]);
    }

    #[test]
    fn a_new_beginning_tells_only_what_changed() {
        let mut play = Play::new();
        let cleo = UserId::from_bits(9);
        play.record(ANA, ONE, Some(Sign::Online));
        play.record(BEN, ONE, Some(Sign::Online));
        let fresh = [(record(BEN, ONE), Sign::Online), (record(cleo, ONE), Sign::Away)];
        let now = play.now();
        assert_eq!(play.all.replace_records(fresh, at(3_000), now), [presence(cleo, Status::Away, None)]);
        assert_eq!(play.wait(5), [presence(ANA, Status::Offline, Some(3_000))]);
        assert_eq!(play.all.replace_leases(HashMap::new(), at(9_000)).len(), 2);
        assert_eq!(play.all.status(BEN), Status::Offline);
    }
}
