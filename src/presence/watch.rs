//! Watching: what the buckets say about every instance's users, and the removal of what dead instances have left.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::time::Instant;

use super::record::{Record, sign};
use super::service::{Inner, State, Why};
use super::write::WRITES;
use crate::broker::kv::Watched;
use crate::broker::{jittered, topology::LEASE};
use crate::domain::clock::Timestamp;
use crate::domain::ids::{InstanceId, UserId};
use crate::error::Result;

/// A lease that is gone is believed to be after this long: while the broker was away nobody could renew one, and each is
/// back a moment after the broker is.
const DOUBT: Duration = Duration::from_secs(3);
/// Instances that find another one dead do not all begin to sweep at once: what one has removed the others need not.
const SPREAD: Duration = Duration::from_secs(2);
/// Void records that are removed in one go.
const BATCH: usize = 4 * WRITES;

impl Inner {
    pub(super) fn saw_lease(&self, watched: Watched) {
        let mut state = self.lock();
        let changed = match watched {
            Watched::All(leases) => {
                let lease = |(key, kept): (&String, &crate::broker::kv::Kept)| Some((key.parse().ok()?, kept.at));
                let mut living: HashMap<InstanceId, Timestamp> = leases.iter().filter_map(lease).collect();
                let gone: Vec<_> = state.all.living().filter(|(known, _)| !living.contains_key(known)).collect();
                state.doubtful.retain(|instance, _| !living.contains_key(instance));
                for (instance, at) in gone {
                    state.doubtful.entry(instance).or_insert_with(|| Instant::now() + DOUBT);
                    living.insert(instance, at);
                }
                let changed = state.all.replace_leases(living, self.now());
                self.learned(&mut state, |state| &mut state.leases_known, changed)
            }
            Watched::Changed(change) => match (change.key.parse(), change.value) {
                (Ok(instance), Some(_)) => {
                    state.doubtful.remove(&instance);
                    state.all.renewed(instance, change.at)
                }
                (Ok(instance), None) => {
                    state.doubtful.entry(instance).or_insert_with(|| Instant::now() + DOUBT);
                    return;
                }
                (Err(_), _) => return,
            },
        };
        self.note(&mut state, changed);
    }

    pub(super) fn saw_record(&self, watched: Watched) {
        let mut state = self.lock();
        let changed = match watched {
            Watched::All(records) => {
                let mine = |user: &UserId| Record { user: *user, instance: self.instance }.to_string();
                let lost: Vec<UserId> =
                    state.written.keys().filter(|user| !records.contains_key(&mine(user))).copied().collect();
                for user in lost {
                    self.write_again(&mut state, user);
                }
                let records = records.iter().filter_map(|(key, kept)| Some((key.parse().ok()?, sign(&kept.value))));
                let changed = state.all.replace_records(records, self.now(), Instant::now());
                self.learned(&mut state, |state| &mut state.records_known, changed)
            }
            Watched::Changed(change) => {
                let Ok(record) = change.key.parse::<Record>() else { return };
                if record.instance == self.instance && change.value.is_none() {
                    self.write_again(&mut state, record.user);
                }
                let sign = change.value.as_deref().map(sign);
                state.all.record(record, sign, change.at, Instant::now()).into_iter().collect()
            }
        };
        self.note(&mut state, changed);
    }

    /// One of the watches has told everything. What that changes is news only if it is not the first time.
    fn learned<T: Default>(&self, state: &mut State, known: impl Fn(&mut State) -> &mut bool, changed: T) -> T {
        let before = state.is_known();
        *known(state) = true;
        if before {
            return changed;
        }
        if state.is_known() {
            // Those who came first have waited for this.
            self.tell.notify_one();
        }
        T::default()
    }

    /// The record of a user is gone. If the user has sockets here, somebody took this instance for dead: it is not.
    fn write_again(&self, state: &mut State, user: UserId) {
        if state.written.contains_key(&user) && state.here.contains_key(&user) {
            state.written.remove(&user);
            state.dirty.insert(user);
            self.write.notify_one();
        }
    }

    /// Believes that an instance is dead whose lease has been gone for a while, and that somebody has left whose grace is
    /// over; and has those told who have parted.
    pub(super) fn settle(&self) {
        let mut state = self.lock();
        let now = Instant::now();
        let gone: Vec<InstanceId> =
            state.doubtful.iter().filter(|(_, until)| **until <= now).map(|(instance, _)| *instance).collect();
        for instance in gone {
            state.doubtful.remove(&instance);
            let changed = state.all.ended(instance);
            self.note(&mut state, changed);
            self.sweep.notify_one();
        }
        let changed = state.all.settle(now);
        self.note(&mut state, changed);
        for (one, other) in state.partings.due(self.broker.known_projected(), now) {
            // What was looked up while MongoDB was behind says nothing.
            self.contacts.doubt([one, other]);
            state.turn(one, other, Why::Parted);
            self.tell.notify_one();
        }
    }

    /// Removes the records of instances that have died: when one is found dead, and now and then, as an instance may be dead
    /// since before this one was there to see it.
    pub(super) async fn sweep(&self) -> Result<()> {
        loop {
            let _ = tokio::time::timeout(LEASE, self.sweep.notified()).await;
            tokio::time::sleep(jittered(SPREAD)).await;
            if let Err(error) = self.sweep_once().await {
                tracing::warn!(error = %error, "void presence records were not removed");
            }
        }
    }

    async fn sweep_once(&self) -> Result<()> {
        let mut dead: HashMap<InstanceId, bool> = HashMap::new();
        let mut removed: HashSet<Record> = HashSet::new();
        loop {
            let void: Vec<Record> = {
                let state = self.lock();
                if !state.is_known() {
                    return Ok(());
                }
                state.all.void(BATCH + removed.len()).into_iter().filter(|one| !removed.contains(one)).collect()
            };
            if void.is_empty() {
                return Ok(());
            }
            for record in &void {
                // A lease that only this instance has not seen yet is asked for.
                if let Entry::Vacant(unknown) = dead.entry(record.instance) {
                    unknown.insert(self.leases.get(&record.instance.to_string()).await?.is_none());
                }
            }
            let doomed = void.iter().filter(|record| dead.get(&record.instance).copied().unwrap_or(false));
            let keys: Vec<String> = doomed.map(ToString::to_string).collect();
            futures_util::stream::iter(keys)
                .map(|key| async move { self.records.delete(&key).await })
                .buffer_unordered(WRITES)
                .try_collect::<()>()
                .await?;
            removed.extend(void);
        }
    }
}
