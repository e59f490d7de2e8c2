//! The presence service of one instance: writes a record for each user with a socket here, keeps the instance's lease,
//! watches everybody else's, and tells contacts what changed.
//!
//! What a user's sockets say is put together here, and the record says the best of it; only a change of that causes a write.
//! Users who want to be invisible have no record. Writes, look-ups of contacts and pushes are done by two workers from sets
//! that coalesce: whoever flaps faster than a worker works is written and told once. An instance that dies leaves a lease
//! that runs out; whoever notices removes its records.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use smallvec::SmallVec;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::aggregate::Aggregate;
use super::contacts::Contacts;
use super::nearby::Nearby;
use super::partings::Partings;
use super::tell::TOLD;
use crate::auth::Actor;
use crate::broker::Broker;
use crate::broker::kv::Shared;
use crate::broker::topology::{Bucket, LEASE};
use crate::command::preferences::Preferred;
use crate::domain::clock::{Clock, Timestamp};
use crate::domain::conversation::Conversation;
use crate::domain::event::{Body, Stored};
use crate::domain::ids::{InstanceId, UserId};
use crate::domain::presence::{Presence, Sign, Status};
use crate::error::{Error, Result};
use crate::lifecycle::Lifecycle;
use crate::store::Store;

/// A lease is renewed this often: two renewals may fail before it runs out.
const RENEWAL: Duration = Duration::from_secs(LEASE.as_secs() / 3);
/// How often doubts and graces that are over are looked for.
const TICK: Duration = Duration::from_millis(250);

/// Whoever came into a conversation so short a time before a change of it was stored came in by that change.
const JUST_NOW: Duration = Duration::from_secs(10);

/// The sockets of this instance, as far as presence is told to them.
pub trait Audience: Send + Sync + 'static {
    /// Tells these users what somebody is now.
    fn tell(&self, presence: &Presence, to: &[UserId]);

    /// Tells these connections of a user who is there.
    fn tell_all(&self, user: UserId, connections: &[u64], there: &[Presence]);
}

/// The presence service; cheap to clone.
#[derive(Clone)]
pub struct Presences(pub(super) Arc<Inner>);

impl std::fmt::Debug for Presences {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Presences").field("instance", &self.0.instance).finish_non_exhaustive()
    }
}

pub(super) struct Inner {
    pub(super) instance: InstanceId,
    pub(super) clock: Clock,
    pub(super) broker: Broker,
    pub(super) store: Store,
    pub(super) preferred: Preferred,
    pub(super) leases: Shared,
    pub(super) records: Shared,
    pub(super) contacts: Contacts,
    state: Mutex<State>,
    /// Users whose record may have to be written.
    pub(super) write: Notify,
    /// Somebody has to be told something.
    pub(super) tell: Notify,
    /// An instance has died.
    pub(super) sweep: Notify,
}

/// What the connections of one user say.
pub(super) type Signs = SmallVec<[(u64, Sign); 1]>;

/// Others whom somebody may see now, or may not see any more.
pub(super) type Anew = HashMap<UserId, Why>;

/// Why somebody is to be told anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Why {
    /// They share a conversation now, or one of them blocks the other or does not any more.
    Turned,
    /// They were in a conversation of which one of them is no part any more.
    Parted,
}

#[derive(Default)]
pub(super) struct State {
    /// Users with a socket here.
    pub(super) here: HashMap<UserId, Signs>,
    /// Users whose record may not say what it should.
    pub(super) dirty: HashSet<UserId>,
    /// Users whose record is being written.
    pub(super) writing: usize,
    /// What the records say, as far as this instance has written them, and when each may be told to say something else.
    pub(super) written: HashMap<UserId, (Sign, Instant)>,
    /// Users whose record could not be written the last time, or perhaps it could.
    pub(super) uncertain: HashSet<UserId>,
    pub(super) all: Aggregate,
    /// Instances whose lease is gone, and when that is to be believed.
    pub(super) doubtful: HashMap<InstanceId, Instant>,
    /// What contacts have not been told yet.
    pub(super) changed: HashMap<UserId, Presence>,
    /// Connections that have not been told yet who is there.
    pub(super) newcomers: HashMap<UserId, SmallVec<[u64; 1]>>,
    /// What users here have to be told anew about others.
    pub(super) anew: HashMap<UserId, Anew>,
    /// Users here, and those with whom they may share nothing any more.
    pub(super) partings: Partings,
    /// Whom the users here share a conversation with.
    pub(super) nearby: Nearby,
    /// Both watches have told everything there is.
    pub(super) leases_known: bool,
    pub(super) records_known: bool,
}

impl State {
    pub(super) const fn is_known(&self) -> bool {
        self.leases_known && self.records_known
    }

    /// What the sockets of a user here say together.
    pub(super) fn sign(&self, user: UserId) -> Option<Sign> {
        self.here.get(&user)?.iter().map(|(_, sign)| *sign).max()
    }

    /// Two users are to be told anew about each other, each if they have a socket here.
    pub(super) fn turn(&mut self, one: UserId, other: UserId, why: Why) {
        for (user, about) in [(one, other), (other, one)] {
            if user == about || !self.here.contains_key(&user) {
                continue;
            }
            let anew = self.anew.entry(user).or_default();
            if anew.len() < TOLD || anew.contains_key(&about) {
                let known = anew.entry(about).or_insert(why);
                *known = why.max(*known);
            }
        }
    }

    fn part(&mut self, one: UserId, other: UserId, seq: u64) {
        if self.here.contains_key(&one) || self.here.contains_key(&other) {
            self.partings.add(one, other, seq, Instant::now());
            self.nearby.part(one, other);
        }
    }
}

impl Presences {
    /// What this instance is known by.
    #[must_use]
    pub fn instance(&self) -> InstanceId {
        self.0.instance
    }

    /// Takes the instance's lease and begins to watch. The audience is told of each change, and whom it concerns.
    pub async fn start(
        broker: &Broker,
        store: Store,
        preferred: Preferred,
        clock: Clock,
        lifecycle: &Lifecycle,
        audience: Arc<dyn Audience>,
    ) -> Result<Self> {
        let inner = Arc::new(Inner {
            instance: clock.fresh_id(),
            clock,
            contacts: Contacts::new(store.clone()),
            broker: broker.clone(),
            store,
            preferred,
            leases: broker.bucket(Bucket::Instances).await?,
            records: broker.bucket(Bucket::Presence).await?,
            state: Mutex::default(),
            write: Notify::new(),
            tell: Notify::new(),
            sweep: Notify::new(),
        });
        inner.renew().await?;
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
        lifecycle.service("presence-tick", async move {
            loop {
                tokio::time::sleep(TICK).await;
                this.settle();
            }
        });
        let this = inner.clone();
        lifecycle.service("presence-write", async move { this.write_records().await });
        let this = inner.clone();
        lifecycle.service("presence-tell", async move { this.tell_everybody(audience.as_ref()).await });
        let (this, draining) = (inner.clone(), lifecycle.draining());
        lifecycle.background("presence-sweep", async move {
            tokio::select! {
                swept = this.sweep() => swept,
                () = draining.cancelled() => Ok(()),
            }
        });
        Ok(Self(inner))
    }

    /// A connection of this user was opened here.
    pub fn opened(&self, user: UserId, connection: u64) {
        self.say(user, |state| {
            state.here.entry(user).or_default().push((connection, Sign::default()));
            state.newcomers.entry(user).or_default().push(connection);
        });
        self.0.tell.notify_one();
    }

    /// A connection of this user was closed here.
    pub fn closed(&self, user: UserId, connection: u64) {
        self.say(user, |state| {
            if let Some(signs) = state.here.get_mut(&user) {
                signs.retain(|(known, _)| *known != connection);
                if signs.is_empty() {
                    state.here.remove(&user);
                    state.nearby.remove(user);
                }
            }
            if let Some(waiting) = state.newcomers.get_mut(&user) {
                waiting.retain(|known| *known != connection);
                if waiting.is_empty() {
                    state.newcomers.remove(&user);
                }
            }
        });
    }

    /// A connection says what its user is.
    pub fn says(&self, user: UserId, connection: u64, sign: Sign) {
        self.say(user, |state| {
            let known =
                state.here.get_mut(&user).and_then(|signs| signs.iter_mut().find(|(one, _)| *one == connection));
            if let Some((_, said)) = known {
                *said = sign;
            }
        });
    }

    fn say(&self, user: UserId, change: impl FnOnce(&mut State)) {
        let mut state = self.0.lock();
        let before = state.sign(user);
        change(&mut state);
        if state.sign(user) != before {
            state.dirty.insert(user);
            self.0.write.notify_one();
        }
    }

    /// Takes note of an event, after [`Preferred`] has: a conversation makes contacts or ends them, users come out of the dark
    /// or go there, and block each other or do not any more. Called by the tail.
    pub fn observe(&self, stored: &Stored) {
        match &stored.event.body {
            Body::Conversation(conversation) => {
                self.0.contacts.observe(conversation);
                self.0.meet(conversation, stored);
            }
            Body::Preferences(preferences) => {
                let turned = self.0.preferred.take_turned(preferences.user_id);
                let mut state = self.0.lock();
                for other in turned {
                    state.turn(preferences.user_id, other, Why::Turned);
                }
                self.0.tell.notify_one();
                if state.here.contains_key(&preferences.user_id) {
                    state.dirty.insert(preferences.user_id);
                    if let Some((_, next)) = state.written.get_mut(&preferences.user_id) {
                        *next = Instant::now();
                    }
                    self.0.write.notify_one();
                }
            }
            _ => {}
        }
    }

    /// Looks up anew who knows whom: a part of the log was not heard.
    pub fn forget_contacts(&self) {
        self.0.contacts.forget_all();
        self.0.lock().nearby.clear();
    }

    /// What somebody's sockets everywhere say; nothing as long as this instance does not know.
    #[must_use]
    pub fn status(&self, user: UserId) -> Option<Status> {
        let state = self.0.lock();
        state.is_known().then(|| state.all.status(user))
    }

    /// What the caller may know of these users, in this order. Whoever is no contact, unknown, or blocked either way looks
    /// like somebody who was never there.
    pub async fn seen_by(&self, actor: &Actor, users: &[UserId]) -> Result<Vec<Presence>> {
        let me = actor.user_id;
        actor.check_expiry(self.0.clock.now())?;
        if !self.0.lock().is_known() {
            return Err(Error::unavailable("catching_up", "this instance does not know yet who is there, try again")
                .retry_after(Duration::from_secs(1)));
        }
        let contacts = self.0.contacts.of([me]).await?.remove(&me);
        let knows = |user: &UserId| contacts.as_ref().is_some_and(|known| known.users.binary_search(user).is_ok());
        let near: Vec<UserId> = users.iter().copied().filter(|user| *user == me || knows(user)).collect();
        let preferences = self.0.preferred.all(near.iter().copied().chain([me])).await?;
        let mut seen: HashMap<UserId, Presence> = HashMap::new();
        {
            let state = self.0.lock();
            for user_id in near.into_iter().filter(|user| *user == me || !preferences.blocked_between(me, *user)) {
                seen.insert(user_id, Presence { user_id, status: state.all.status(user_id), last_seen_at: None });
            }
        }
        let gone: Vec<UserId> =
            seen.values().filter(|one| one.status == Status::Offline).map(|one| one.user_id).collect();
        for (user, at) in self.0.store.last_seen(&gone).await? {
            if let Some(one) = seen.get_mut(&user) {
                one.last_seen_at = Some(at);
            }
        }
        Ok(users.iter().map(|user| seen.get(user).copied().unwrap_or(Presence::unknown(*user))).collect())
    }

    /// Waits until the records of closed sockets are gone, then gives the lease back.
    pub async fn stop(&self) {
        let settled = async {
            while self.0.is_writing() {
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
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Every change under this lock is complete before it can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whoever has just come into a conversation and those who are in it may see each other; whoever was removed may not.
    fn meet(&self, conversation: &Conversation, stored: &Stored) {
        let since = stored.event.occurred_at.millis() - i64::try_from(JUST_NOW.as_millis()).unwrap_or_default();
        let new = conversation.participants.iter().filter(|one| one.joined_at.millis() >= since);
        let mut state = self.lock();
        for new in new {
            for other in conversation.users() {
                state.turn(new.user_id, other, Why::Turned);
            }
        }
        for gone in &conversation.removed {
            for other in conversation.users() {
                state.part(*gone, other, stored.seq);
            }
        }
        self.tell.notify_one();
    }

    fn is_writing(&self) -> bool {
        let state = self.lock();
        state.writing > 0 || !state.dirty.is_empty()
    }

    /// What changed is to be told. Until everything is known nothing has changed: it is just being learned.
    pub(super) fn note(&self, state: &mut State, changed: Vec<Presence>) {
        if !state.is_known() || changed.is_empty() {
            return;
        }
        state.changed.extend(changed.into_iter().map(|change| (change.user_id, change)));
        self.tell.notify_one();
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }
}
