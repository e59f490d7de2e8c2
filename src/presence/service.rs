//! The presence service of one instance: writes a record for each user with a socket here, keeps the instance's lease,
//! watches everybody else's, and tells contacts what changed.
//!
//! A user's sockets are counted here; only the first and the last one cause a write, so a reconnect storm costs at most
//! one write a user. Writes, look-ups of contacts and pushes are done by two workers from sets that coalesce: whoever
//! flaps faster than a worker works is written and told once. An instance that dies leaves a lease that runs out; whoever
//! notices removes its records.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use moka::sync::Cache;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::aggregate::Aggregate;
use super::record::Record;
use crate::broker::Broker;
use crate::broker::kv::{Shared, Watched};
use crate::broker::topology::{Bucket, LEASE};
use crate::domain::clock::{Clock, Timestamp};
use crate::domain::event::{Body, Stored};
use crate::domain::ids::{InstanceId, UserId};
use crate::domain::presence::{Presence, Status};
use crate::error::Result;
use crate::lifecycle::Lifecycle;
use crate::store::Store;

/// A lease is renewed this often: two renewals may fail before it runs out.
const RENEWAL: Duration = Duration::from_secs(LEASE.as_secs() / 3);
/// A lease that is gone is believed to be after this long: while the broker was away nobody could renew one, and each is
/// back a moment after the broker is.
const DOUBT: Duration = Duration::from_secs(3);
/// Writes to the bucket at once.
const WRITES: usize = 32;
/// Users whose contacts are looked up in one query.
const LOOK_UPS: usize = 64;
/// Users whose contacts are kept.
const CONTACTS_KEPT: u64 = 50_000;
/// How long contacts are kept; the tail corrects them meanwhile.
const CONTACTS_FOR: Duration = Duration::from_mins(5);
/// How long the tail's newest contacts are added to what MongoDB says, as that may be behind.
const RECENT_FOR: Duration = Duration::from_mins(1);

/// Tells these contacts what somebody is now.
type Push = Arc<dyn Fn(&Presence, &[UserId]) + Send + Sync>;

/// The presence service; cheap to clone.
#[derive(Clone)]
pub struct Presences(Arc<Inner>);

impl std::fmt::Debug for Presences {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Presences").field("instance", &self.0.instance).finish_non_exhaustive()
    }
}

struct Inner {
    instance: InstanceId,
    clock: Clock,
    store: Store,
    leases: Shared,
    records: Shared,
    state: Mutex<State>,
    /// Users whose record may have to be written.
    write: Notify,
    /// Users whose contacts have to be told.
    tell: Notify,
    contacts: Cache<UserId, Arc<Vec<UserId>>>,
    recent: Cache<UserId, Arc<Vec<UserId>>>,
}

#[derive(Default)]
struct State {
    /// Sockets of each user here.
    sockets: HashMap<UserId, u32>,
    dirty: HashSet<UserId>,
    /// Users whose record is in the bucket, as far as this instance has written it.
    written: HashSet<UserId>,
    all: Aggregate,
    /// Instances whose lease is gone, and when that is to be believed.
    doubtful: HashMap<InstanceId, Instant>,
    changed: HashMap<UserId, Presence>,
    /// Both watches have told everything there is.
    leases_known: bool,
    records_known: bool,
}

impl Presences {
    /// Takes the instance's lease and begins to watch. `push` is called for each change and the contacts it concerns.
    pub async fn start(
        broker: &Broker,
        store: Store,
        clock: Clock,
        lifecycle: &Lifecycle,
        push: impl Fn(&Presence, &[UserId]) + Send + Sync + 'static,
    ) -> Result<Self> {
        let inner = Arc::new(Inner {
            instance: clock.fresh_id(),
            clock,
            store,
            leases: broker.bucket(Bucket::Instances).await?,
            records: broker.bucket(Bucket::Presence).await?,
            state: Mutex::default(),
            write: Notify::new(),
            tell: Notify::new(),
            contacts: Cache::builder().max_capacity(CONTACTS_KEPT).time_to_live(CONTACTS_FOR).build(),
            recent: Cache::builder().max_capacity(CONTACTS_KEPT).time_to_live(RECENT_FOR).build(),
        });
        inner.renew().await?;
        let push: Push = Arc::new(push);
        let draining = lifecycle.draining();
        let this = inner.clone();
        inner.leases.watch("presence-leases", lifecycle, move |watched| this.saw_lease(watched));
        let this = inner.clone();
        inner.records.watch("presence-records", lifecycle, move |watched| this.saw_record(watched));
        let this = inner.clone();
        let mut connections = broker.connections();
        // These go on while sockets are being closed, so that closing them is told; they end with the instance.
        lifecycle.service("presence-lease", async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(RENEWAL) => {}
                    // It may have run out while the broker was away.
                    _ = connections.changed() => {}
                }
                if let Err(error) = this.renew().await {
                    tracing::warn!(error = %error, "the instance's lease was not renewed");
                }
            }
        });
        let this = inner.clone();
        lifecycle.service("presence-doubt", async move {
            loop {
                tokio::time::sleep(DOUBT / 6).await;
                this.settle_doubts();
            }
        });
        let this = inner.clone();
        lifecycle.service("presence-write", async move { this.write_records().await });
        let this = inner.clone();
        lifecycle.service("presence-tell", async move { this.tell_contacts(push).await });
        let this = inner.clone();
        lifecycle.background("presence-sweep", async move {
            // The first look comes after a full lease: until then a dead instance may still look alive.
            loop {
                tokio::select! {
                    () = tokio::time::sleep(LEASE) => this.sweep().await,
                    () = draining.cancelled() => return Ok(()),
                }
            }
        });
        Ok(Self(inner))
    }

    /// A socket of this user was opened here.
    pub fn opened(&self, user: UserId) {
        let mut state = self.0.lock();
        let sockets = state.sockets.entry(user).or_insert(0);
        *sockets += 1;
        if *sockets == 1 {
            state.dirty.insert(user);
            self.0.write.notify_one();
        }
    }

    /// A socket of this user was closed here.
    pub fn closed(&self, user: UserId) {
        let mut state = self.0.lock();
        if let Some(sockets) = state.sockets.get_mut(&user) {
            *sockets -= 1;
            if *sockets == 0 {
                state.sockets.remove(&user);
                state.dirty.insert(user);
                self.0.write.notify_one();
            }
        }
    }

    /// Takes note of an event: a new conversation makes contacts. Called by the tail.
    pub fn observe(&self, stored: &Stored) {
        let Body::Conversation(conversation) = &stored.event.body else { return };
        for user in conversation.users() {
            self.0.contacts.invalidate(&user);
            let mut known = self.0.recent.get(&user).map(|known| known.to_vec()).unwrap_or_default();
            known.extend(conversation.users().filter(|other| *other != user));
            known.sort_unstable();
            known.dedup();
            self.0.recent.insert(user, Arc::new(known));
        }
    }

    /// Waits until the records of closed sockets are gone, then gives the lease back.
    pub async fn stop(&self) {
        let settled = async {
            while !self.0.lock().dirty.is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(3), settled).await.is_err() {
            tracing::warn!("some presence records were not removed; they are void without this instance's lease");
        }
        if let Err(error) = self.0.leases.delete(&self.0.instance.to_string()).await {
            tracing::warn!(error = %error, "the instance's lease was not given back and has to run out");
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change below is complete before it can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn renew(&self) -> Result<()> {
        self.leases.put(&self.instance.to_string(), Bytes::new()).await
    }

    /// Brings the records of this instance's users in line with their sockets.
    async fn write_records(&self) -> Result<()> {
        loop {
            // Each with whether a record should be there, and whether that is news.
            let wanted: Vec<(UserId, bool, bool)> = {
                let state = self.lock();
                let dirty = state.dirty.iter().take(4 * WRITES);
                dirty
                    .map(|user| {
                        let there = state.sockets.contains_key(user);
                        (*user, there, state.written.contains(user) != there)
                    })
                    .collect()
            };
            if wanted.is_empty() {
                self.write.notified().await;
                continue;
            }
            let outcomes: Vec<(UserId, bool, Result<()>)> = futures_util::stream::iter(wanted)
                .map(|(user, there, news)| async move {
                    (user, there, if news { self.write_record(user, there).await } else { Ok(()) })
                })
                .buffer_unordered(WRITES)
                .collect()
                .await;
            let mut failed = None;
            {
                let mut state = self.lock();
                for (user, there, outcome) in outcomes {
                    match outcome {
                        Ok(()) => {
                            if there {
                                state.written.insert(user);
                            } else {
                                state.written.remove(&user);
                            }
                            // It may have changed again meanwhile.
                            if state.sockets.contains_key(&user) == there {
                                state.dirty.remove(&user);
                            }
                        }
                        Err(error) => failed = Some(error),
                    }
                }
            }
            if let Some(error) = failed {
                tracing::warn!(error = %error, "presence cannot be written right now");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    }

    async fn write_record(&self, user: UserId, there: bool) -> Result<()> {
        let key = Record { user, instance: self.instance }.to_string();
        if there { self.records.put(&key, Bytes::new()).await } else { self.records.delete(&key).await }
    }

    fn saw_lease(&self, watched: Watched) {
        let mut state = self.lock();
        let (changed, at) = match watched {
            Watched::All(leases) => {
                let mut living: HashSet<InstanceId> = leases.keys().filter_map(|key| key.parse().ok()).collect();
                state.leases_known = true;
                let gone: Vec<InstanceId> = state.all.living().filter(|known| !living.contains(known)).collect();
                state.doubtful.retain(|instance, _| !living.contains(instance));
                for instance in gone {
                    state.doubtful.entry(instance).or_insert_with(|| Instant::now() + DOUBT);
                    living.insert(instance);
                }
                (state.all.replace_leases(living), self.clock.now())
            }
            Watched::Changed(change) => match (change.key.parse(), change.value) {
                (Ok(instance), Some(_)) => {
                    state.doubtful.remove(&instance);
                    (state.all.lease(instance, true), change.at)
                }
                (Ok(instance), None) => {
                    state.doubtful.entry(instance).or_insert_with(|| Instant::now() + DOUBT);
                    return;
                }
                (Err(_), _) => return,
            },
        };
        self.note(&mut state, changed, at);
    }

    /// Believes that an instance is gone whose lease has been for a while.
    fn settle_doubts(&self) {
        let mut state = self.lock();
        let now = Instant::now();
        let gone: Vec<InstanceId> =
            state.doubtful.iter().filter(|(_, until)| **until <= now).map(|(instance, _)| *instance).collect();
        for instance in gone {
            state.doubtful.remove(&instance);
            let changed = state.all.lease(instance, false);
            self.note(&mut state, changed, self.clock.now());
        }
    }

    fn saw_record(&self, watched: Watched) {
        let mut state = self.lock();
        let (changed, at) = match watched {
            Watched::All(records) => {
                state.records_known = true;
                let mine = |user: &UserId| Record { user: *user, instance: self.instance }.to_string();
                let lost: Vec<UserId> =
                    state.written.iter().filter(|user| !records.contains_key(&mine(user))).copied().collect();
                for user in lost {
                    self.write_again(&mut state, user);
                }
                (state.all.replace_records(records.keys().filter_map(|key| key.parse().ok())), self.clock.now())
            }
            Watched::Changed(change) => match change.key.parse::<Record>() {
                Ok(record) => {
                    if record.instance == self.instance && change.value.is_none() {
                        self.write_again(&mut state, record.user);
                    }
                    let changed = state.all.record(record, change.value.is_some());
                    (changed.map(|status| (record.user, status)).into_iter().collect(), change.at)
                }
                Err(()) => return,
            },
        };
        self.note(&mut state, changed, at);
    }

    /// The record of a user is gone. If the user has sockets here, somebody took this instance for dead: it is not.
    fn write_again(&self, state: &mut State, user: UserId) {
        if state.written.contains(&user) && state.sockets.contains_key(&user) {
            state.written.remove(&user);
            state.dirty.insert(user);
            self.write.notify_one();
        }
    }

    fn note(&self, state: &mut State, changed: Vec<(UserId, Status)>, at: Timestamp) {
        // Until both watches have told everything, nothing has changed: it is just being learned.
        if !(state.leases_known && state.records_known) || changed.is_empty() {
            return;
        }
        for (user_id, status) in changed {
            let last_seen_at = (status == Status::Offline).then_some(at);
            state.changed.insert(user_id, Presence { user_id, status, last_seen_at });
        }
        self.tell.notify_one();
    }

    /// Tells contacts what changed, and remembers when somebody was last seen.
    async fn tell_contacts(&self, push: Push) -> Result<()> {
        loop {
            let changes: Vec<Presence> = {
                let mut state = self.lock();
                let users: Vec<UserId> = state.changed.keys().take(LOOK_UPS).copied().collect();
                users.iter().filter_map(|user| state.changed.remove(user)).collect()
            };
            if changes.is_empty() {
                self.tell.notified().await;
                continue;
            }
            let contacts = match self.contacts(&changes).await {
                Ok(contacts) => contacts,
                Err(error) => {
                    tracing::warn!(error = %error, "contacts cannot be looked up right now");
                    self.tell_later(changes);
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
            };
            for change in &changes {
                if let Some(contacts) = contacts.get(&change.user_id) {
                    push(change, contacts);
                }
                if let Some(at) = change.last_seen_at
                    && let Err(error) = self.store.note_last_seen(change.user_id, at).await
                {
                    tracing::warn!(error = %error, "when a user was last seen was not kept");
                }
            }
        }
    }

    /// Puts changes back, unless something newer has come up.
    fn tell_later(&self, changes: Vec<Presence>) {
        let mut state = self.lock();
        for change in changes {
            state.changed.entry(change.user_id).or_insert(change);
        }
    }

    async fn contacts(&self, changes: &[Presence]) -> Result<HashMap<UserId, Arc<Vec<UserId>>>> {
        let mut known: HashMap<UserId, Arc<Vec<UserId>>> = HashMap::new();
        let mut missing = Vec::new();
        for change in changes {
            match self.contacts.get(&change.user_id) {
                Some(contacts) => drop(known.insert(change.user_id, contacts)),
                None => missing.push(change.user_id),
            }
        }
        if !missing.is_empty() {
            for (user, mut contacts) in self.store.contacts_of(&missing).await? {
                if let Some(recent) = self.recent.get(&user) {
                    contacts.extend(recent.iter().copied());
                    contacts.sort_unstable();
                    contacts.dedup();
                }
                let contacts = Arc::new(contacts);
                self.contacts.insert(user, contacts.clone());
                known.insert(user, contacts);
            }
        }
        Ok(known)
    }

    /// Removes records of instances whose lease ran out. A lease that only this instance has not seen yet is asked for.
    async fn sweep(&self) {
        let void = {
            let state = self.lock();
            if !(state.leases_known && state.records_known) {
                return;
            }
            state.all.void()
        };
        let mut dead: HashMap<InstanceId, bool> = HashMap::new();
        for record in void {
            let is_dead = if let Some(known) = dead.get(&record.instance) {
                *known
            } else {
                let gone = matches!(self.leases.get(&record.instance.to_string()).await, Ok(None));
                dead.insert(record.instance, gone);
                gone
            };
            if is_dead && let Err(error) = self.records.delete(&record.to_string()).await {
                tracing::warn!(error = %error, "a void presence record was not removed");
                return;
            }
        }
    }
}
