//! The hub: which sockets are here, by user, and how events get to them.
//!
//! An event is encoded once and handed to each socket of each of its recipients. Pushing never waits: a socket that
//! falls too far behind is closed and catches up when it comes back.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use smallvec::SmallVec;

use super::closing::Closing;
use super::connection::{Connection, ConnectionId};
use super::pushes::Pushes;
use crate::domain::clock::{Clock, Timestamp};
use crate::domain::cursor::Cursor;
use crate::domain::event::{Body, Stored};
use crate::domain::frame::{Carried, Frame};
use crate::domain::ids::UserId;
use crate::domain::presence::Presence;
use crate::domain::push::{Push, Told};
use crate::domain::typing::Typing;
use crate::metrics::Metrics;
use crate::presence::Audience;

/// Locks that the users are spread over.
const SHARDS: usize = 16;

type Connections = SmallVec<[Arc<Connection>; 1]>;
/// Sockets, each with whose it is; those of one user are together.
type Listeners = SmallVec<[(UserId, Arc<Connection>); 1]>;

/// The sockets of this instance.
#[derive(Debug)]
pub struct Hub {
    shards: [Mutex<HashMap<UserId, Connections>>; SHARDS],
    count: AtomicUsize,
    last_id: AtomicU64,
    clock: Clock,
    /// Half of every cursor.
    epoch: u64,
    /// Everything up to here has been pushed.
    position: AtomicU64,
    metrics: Metrics,
    /// Takes notes of what was pushed, if anybody wants them.
    pushes: OnceLock<Pushes>,
}

impl Hub {
    /// Nobody is here yet.
    #[must_use]
    pub fn new(clock: Clock, epoch: u64, metrics: Metrics) -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            count: AtomicUsize::new(0),
            last_id: AtomicU64::new(0),
            clock,
            epoch,
            position: AtomicU64::new(0),
            metrics,
            pushes: OnceLock::new(),
        }
    }

    /// Notes from now on what is pushed.
    pub fn note_into(&self, pushes: Pushes) {
        let _ = self.pushes.set(pushes);
    }

    /// Somebody who came back was told these messages.
    pub fn note_replay(&self, user: UserId, messages: impl IntoIterator<Item = Carried>) {
        let Some(pushes) = self.pushes.get() else { return };
        let at = self.clock.now();
        for Carried { seq, sender_id, .. } in messages {
            pushes.note(Push { seq, sender_id, users: Told::from_slice(&[user]), at, replayed: true });
        }
    }

    /// How far the sockets here have been told.
    #[must_use]
    pub fn position(&self) -> Cursor {
        Cursor { epoch: self.epoch, seq: self.position.load(Ordering::Acquire) }
    }

    /// A part of the log is missing between what the sockets here were told and what comes: they have to catch up anew.
    pub fn begin_anew(&self, seq: u64) {
        for (_, connection) in self.all() {
            connection.close(Closing::Resync);
        }
        self.passed(seq);
    }

    /// The tail is this far.
    pub fn passed(&self, seq: u64) {
        self.position.store(seq, Ordering::Release);
    }

    fn shard(&self, user: UserId) -> MutexGuard<'_, HashMap<UserId, Connections>> {
        let place = usize::try_from(user.bits() % SHARDS as u128).unwrap_or(0);
        self.shards[place].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A name for a new connection.
    pub fn next_id(&self) -> ConnectionId {
        self.last_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Identified sockets here.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// A socket has become this user's.
    pub fn attach(&self, user: UserId, connection: Arc<Connection>) {
        self.shard(user).entry(user).or_default().push(connection);
        self.count.fetch_add(1, Ordering::Relaxed);
        self.metrics.socket_opened();
    }

    /// Whether a user has a socket here.
    #[must_use]
    pub fn has(&self, user: UserId) -> bool {
        self.shard(user).contains_key(&user)
    }

    /// A socket is gone. Hands it back if it was here, so that its end is counted once.
    pub fn detach(&self, user: UserId, id: ConnectionId) -> Option<Arc<Connection>> {
        let mut shard = self.shard(user);
        let connections = shard.get_mut(&user)?;
        let place = connections.iter().position(|connection| connection.id == id);
        let gone = place.map(|place| connections.swap_remove(place));
        if connections.is_empty() {
            shard.remove(&user);
        }
        drop(shard);
        if let Some(connection) = &gone {
            self.count.fetch_sub(1, Ordering::Relaxed);
            connection.gone();
            self.metrics.socket_closed(connection.end());
        }
        gone
    }

    /// Tells everybody concerned of an event.
    pub fn push(&self, stored: &Stored) {
        self.push_durable(stored);
        self.passed(stored.seq);
    }

    fn push_durable(&self, stored: &Stored) {
        let mut listeners = self.listeners(&stored.event.recipients);
        for (_, connection) in &listeners {
            connection.note_head(stored.seq);
        }
        if let Body::Message(message) = &stored.event.body {
            listeners.retain(|(_, connection)| !connection.take_own(message.id));
        }
        if listeners.is_empty() {
            return;
        }
        match Frame::durable(stored, self.epoch) {
            Ok(frame) => self.send(&listeners, &frame),
            Err(error) => tracing::error!(event.seq = stored.seq, error = %error, "an event cannot be pushed"),
        }
    }

    /// Tells the others that somebody types, or has stopped.
    pub fn push_typing(&self, typing: &Typing) {
        let listeners = self.listeners(&typing.recipients);
        if !listeners.is_empty()
            && let Ok(frame) = Frame::typing(typing)
        {
            self.send(&listeners, &frame);
        }
    }

    /// The sockets here of these users. No lock is held while they are written to.
    fn listeners(&self, users: &[UserId]) -> Listeners {
        let mut listeners = Listeners::new();
        if self.count() == 0 {
            return listeners;
        }
        for user in users {
            if let Some(connections) = self.shard(*user).get(user) {
                listeners.extend(connections.iter().map(|connection| (*user, connection.clone())));
            }
        }
        listeners
    }

    fn send(&self, listeners: &Listeners, frame: &Frame) {
        let now = self.clock.now();
        self.metrics.pushed(listeners.len());
        // Only where a message has come to is asked later; its sender knows it.
        let noting = self.pushes.get().zip(frame.carries);
        let mut told = Told::new();
        for (user, connection) in listeners {
            if connection.expired(now) {
                connection.close(Closing::Expired);
            } else if connection.push(frame)
                && noting.is_some_and(|(_, carried)| carried.sender_id != *user)
                && told.last() != Some(user)
            {
                told.push(*user);
            }
        }
        if let Some((pushes, carried)) = noting
            && !told.is_empty()
        {
            let Carried { seq, sender_id, .. } = carried;
            pushes.note(Push { seq, sender_id, users: told, at: now, replayed: false });
        }
    }

    /// Every socket here.
    #[must_use]
    pub fn all(&self) -> Vec<(UserId, Arc<Connection>)> {
        let mut all = Vec::with_capacity(self.count());
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            for (user, connections) in shard.iter() {
                all.extend(connections.iter().map(|connection| (*user, connection.clone())));
            }
        }
        all
    }

    /// Closes sockets whose token has run out or that could not be closed before; returns those whose other end is gone
    /// without anybody having noticed.
    pub fn sweep(&self, now: Timestamp) -> Vec<(UserId, ConnectionId)> {
        let mut lost = Vec::new();
        for (user, connection) in self.all() {
            if !connection.is_there(now) {
                lost.push((user, connection.id));
            } else if connection.expired(now) {
                connection.close(Closing::Expired);
            } else if let Some(why) = connection.closing() {
                connection.close(why);
            }
        }
        lost
    }
}

impl Audience for Hub {
    fn tell(&self, presence: &Presence, to: &[UserId]) {
        let listeners = self.listeners(to);
        if !listeners.is_empty()
            && let Ok(frame) = Frame::presence(presence)
        {
            self.send(&listeners, &frame);
        }
    }

    fn tell_all(&self, user: UserId, connections: &[ConnectionId], there: &[Presence]) {
        let mut listeners = self.listeners(&[user]);
        listeners.retain(|(_, connection)| connections.contains(&connection.id));
        if !listeners.is_empty()
            && let Ok(frame) = Frame::presence_snapshot(there)
        {
            self.send(&listeners, &frame);
        }
    }
}
