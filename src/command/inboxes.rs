//! Reading inboxes as they are now: what MongoDB has, and what the log and the window have on top of that.
//!
//! Everything up to the place that `persist` has acknowledged is in MongoDB; what is behind it is applied here, and both are
//! joined. How far conversations were read comes from the window, so that reading one counts at once, on every instance; while
//! the window does not reach back as far as MongoDB has come, nobody is told a number that may be wrong.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::broker::Broker;
use crate::broker::read::catching_up;
use crate::broker::recent::Recent;
use crate::broker::subject::Filter;
use crate::domain::clock::Timestamp;
use crate::domain::event::{Body, Stored};
use crate::domain::ids::{ConversationId, NotificationId, UserId};
use crate::domain::inbox::{COUNTED, Counts, Inbox, NotificationState};
use crate::domain::notification::Notification;
use crate::domain::registers::Registers;
use crate::error::{Code, Error, Result};
use crate::store::Store;

/// Events of an inbox that MongoDB does not have yet, at most.
const NEWER: usize = 5_000;
/// Events of a user in the window, at most.
const WINDOW: usize = 10_000;
/// Seconds of a day.
const DAY: i64 = 86_400;
/// How long this instance may take to hear of what others have accepted.
const CATCH_UP: Duration = Duration::from_secs(1);

/// What MongoDB may not have of an inbox.
#[derive(Debug)]
pub struct Newer {
    /// Everything up to here it has.
    pub floor: u64,
    /// How far the log was looked at.
    pub head: u64,
    /// What has happened behind that place.
    pub inbox: Inbox,
    /// The entries of the notifications that were told there.
    pub told: HashMap<NotificationId, NotificationId>,
}

/// Reads inboxes; cheap to clone.
#[derive(Debug, Clone)]
pub struct Inboxes {
    broker: Broker,
    store: Store,
    recent: Arc<Recent>,
}

impl Inboxes {
    /// Reads these.
    #[must_use]
    pub const fn new(broker: Broker, store: Store, recent: Arc<Recent>) -> Self {
        Self { broker, store, recent }
    }

    /// Everything up to here MongoDB has. Asked for before anything is read from there: what is projected in between is in
    /// both, and never in none.
    pub async fn floor(&self) -> Result<u64> {
        self.store.admit()?;
        self.broker.projected().await
    }

    /// What has happened behind that place.
    pub async fn newer(&self, user: UserId, floor: u64) -> Result<Newer> {
        let head = self.broker.head().await?;
        let found = self.broker.read(Filter::Inbox(user), floor + 1, NEWER).await?;
        if found.more {
            return Err(catching_up());
        }
        let events: Vec<Stored> = found.events.into_iter().filter(|stored| stored.seq <= head).collect();
        let again = self.made_before(&events).await?;
        let (mut inbox, mut told) = (Inbox::new(user), HashMap::new());
        for stored in &events {
            if let Body::Notification(made) = &stored.event.body {
                if again.contains(&stored.seq) {
                    continue;
                }
                told.extend(made.is_told().then_some((made.id, made.entry_id)));
            }
            inbox.apply(stored);
        }
        // What was read is in the window only, as far as MongoDB does not have it: without it, what waits would be wrong.
        if !self.recent.reaches(head, CATCH_UP).await {
            return Err(catching_up());
        }
        let since = self.recent.since(user, floor, WINDOW).ok_or_else(catching_up)?;
        let receipts = since.whole()?;
        let receipts = receipts.iter().filter(|stored| matches!(stored.event.body, Body::Receipt(_)));
        receipts.for_each(|stored| inbox.apply(stored));
        Ok(Newer { floor, head, inbox, told })
    }

    /// What was done to all entries of a user's inbox.
    pub async fn all(&self, user: UserId) -> Result<Registers> {
        let floor = self.floor().await?;
        let mut all = self.store.registers_of(user).await?;
        all.join(self.newer(user, floor).await?.inbox.all);
        Ok(all)
    }

    /// Places at which the log repeats a notification that MongoDB has from an earlier one.
    async fn made_before(&self, events: &[Stored]) -> Result<HashSet<u64>> {
        let made: Vec<(u64, NotificationId)> = events
            .iter()
            .filter_map(|stored| match &stored.event.body {
                Body::Notification(made) => Some((stored.seq, made.id)),
                _ => None,
            })
            .collect();
        let ids: Vec<NotificationId> = made.iter().map(|(_, id)| *id).collect();
        let placed = self.store.notifications_placed(&ids).await?;
        let before = |(at, id): &(u64, NotificationId)| placed.get(id).is_some_and(|placed| placed < at);
        Ok(made.into_iter().filter(before).map(|(at, _)| at).collect())
    }

    /// Finds out how far the conversations of these entries were read.
    pub async fn read_marks(&self, user: UserId, inbox: &mut Inbox, ids: &[NotificationId]) -> Result<()> {
        let about: Vec<ConversationId> = inbox.conversations(ids.iter().copied()).into_iter().collect();
        let marks = self.store.read_marks(user, &about).await?;
        for (id, seq) in marks {
            inbox.has_read(id, seq);
        }
        Ok(())
    }

    /// How many entries wait, once this was done as well.
    pub async fn counts(&self, user: UserId, done: Option<&NotificationState>, now: Timestamp) -> Result<Counts> {
        let floor = self.floor().await?;
        let all = self.store.registers_of(user).await?;
        // What all of them are read up to does not count.
        let waiting = self.store.waiting_entries(user, all.read, COUNTED).await?;
        let Newer { head, mut inbox, .. } = self.newer(user, floor).await?;
        inbox.all.join(all);
        for (id, entry) in waiting {
            inbox.join(id, entry);
        }
        let ids: Vec<NotificationId> = inbox.entries.keys().copied().collect();
        self.read_marks(user, &mut inbox, &ids).await?;
        if let Some(done) = done {
            // It will be behind everything that is there.
            inbox.change(head + 1, done);
        }
        Ok(inbox.counts(now, head))
    }

    /// The entries that these ids name, each an entry's own or that of a notification in it, and where the newest
    /// notification of each is.
    pub async fn resolve(&self, user: UserId, ids: &[NotificationId]) -> Result<Vec<(NotificationId, u64)>> {
        let floor = self.floor().await?;
        let newer = self.newer(user, floor).await?;
        let told = self.store.entries_of_told(user, ids).await?;
        let meant = |id: &NotificationId| told.get(id).or_else(|| newer.told.get(id)).copied();
        let asked: Vec<NotificationId> = ids.iter().copied().chain(ids.iter().filter_map(meant)).collect();
        let stored = self.store.known_entries(user, &asked).await?;
        let newest = |id: &NotificationId| {
            let new = newer.inbox.entries.get(id).and_then(|entry| entry.newest);
            stored.get(id).copied().max(new.map(|told| told.seq))
        };
        let mut found = Vec::with_capacity(ids.len());
        for id in ids {
            let entry = newest(id).map(|at| (*id, at)).or_else(|| {
                let entry = meant(id)?;
                // One that has gone meanwhile is named all the same.
                Some((entry, newest(&entry).unwrap_or(0)))
            });
            let entry = entry.ok_or_else(unknown)?;
            if !found.contains(&entry) {
                found.push(entry);
            }
        }
        Ok(found)
    }

    /// When the first of these entries will be forgotten, or what comes now if none is named.
    pub async fn kept_until(&self, user: UserId, ids: &[NotificationId], now: Timestamp) -> Result<Timestamp> {
        let kept = i64::from(self.store.notification_days()) * DAY;
        if ids.is_empty() {
            return Ok(now.plus_seconds(kept));
        }
        let floor = self.floor().await?;
        let mut inbox = self.newer(user, floor).await?.inbox;
        for (id, entry) in self.store.entries_by_id(ids).await? {
            inbox.join(id, entry);
        }
        let made = ids.iter().filter_map(|id| Some(inbox.entries.get(id)?.notification.as_ref()?.created_at));
        Ok(made.min().unwrap_or(now).plus_seconds(kept))
    }

    /// A notification of anybody's, also one that is held, or the newest one of an entry. What only the log has is found for
    /// its own user.
    pub async fn notification(&self, asking: UserId, id: NotificationId) -> Result<(u64, Notification)> {
        let floor = self.floor().await?;
        if let Some(found) = self.store.notification(id).await? {
            return Ok(found);
        }
        let found = self.broker.read(Filter::Inbox(asking), floor + 1, NEWER).await?;
        let mut newest = None;
        for stored in found.events {
            match stored.event.body {
                Body::Notification(made) if made.id == id => return Ok((stored.seq, made)),
                Body::Notification(made) if made.entry_id == id && made.is_told() => newest = Some((stored.seq, made)),
                _ => {}
            }
        }
        if newest.is_none() {
            let known = self.store.entries_by_id(&[id]).await?.pop();
            newest = known.and_then(|(_, entry)| Some((entry.newest?.seq, entry.notification?)));
        }
        newest.ok_or_else(unknown)
    }
}

/// The answer for a notification that is not there, or not for this caller.
#[must_use]
pub fn unknown() -> Error {
    Error::new(Code::NotFound, "unknown_notification", "there is no such notification, or not for you")
}
