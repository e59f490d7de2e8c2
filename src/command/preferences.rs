//! Preferences: what each user wants to be seen as, and by whom not at all.
//!
//! Kept close like the directory keeps conversations: a bounded cache, behind it the newest event of the user's own subject
//! in the log, which carries the whole state, and MongoDB only once the log has been purged that far. Most users have never
//! said anything, and as long as the log is whole nobody else has to be asked to know that. The tail keeps it right.
//!
//! What is said in a conversation that there is does not wait for MongoDB: of whom the log says nothing while MongoDB does not
//! answer, it is taken for now that they have never said anything. So while MongoDB is away, a block that is older than the
//! log and that nobody has asked for since this instance started is not enforced. Opening a conversation and bringing
//! somebody into one wait instead, and nobody of whom it is unknown whether they want to be seen is shown to be there.
//!
//! A change is stored only if nothing else has changed since it was read, so two at once are both kept.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use moka::sync::Cache;

use super::Commands;
use crate::auth::Actor;
use crate::broker::Broker;
use crate::broker::subject::{InboxKind, Subject};
use crate::broker::topology::StreamName;
use crate::domain::conversation::Conversation;
use crate::domain::decision::Level;
use crate::domain::event::{Body, Stored};
use crate::domain::ids::UserId;
use crate::domain::notification::Kind;
use crate::domain::preferences::{BLOCKED_LIMIT, Preferences};
use crate::domain::trace::TraceContext;
use crate::error::{Code, Error, Result};
use crate::store::{Haste, Store};

/// What all preferences kept may weigh: a user is four, and each whom they block is one more, of 16 bytes.
const KEPT: u64 = 4_000_000;
/// Questions to the log at once.
const AT_ONCE: usize = 16;
/// Users whose turns are remembered, at most; nothing is left of them once the tail has brought them.
const TURNED: usize = 10_000;
/// Attempts to make a change while others make changes.
const ATTEMPTS: u32 = 8;
/// How long to wait after the first that failed: a copy of the log may be a moment behind.
const PAUSE: Duration = Duration::from_millis(10);

/// A user's preferences, and the seq of the event that they come from.
#[derive(Debug, Clone)]
struct Entry {
    preferences: Arc<Preferences>,
    seq: u64,
}

/// The cache; cheap to clone.
#[derive(Debug, Clone)]
pub struct Preferred {
    broker: Broker,
    store: Store,
    entries: Cache<UserId, Entry>,
    turned: Arc<Mutex<Turned>>,
}

/// Whom users block since a moment ago, or do not any more, until presence has taken note of it.
type Turned = HashMap<UserId, HashSet<UserId>>;

/// What could be found out about several users.
#[derive(Debug, Default)]
struct Found {
    known: HashMap<UserId, Arc<Preferences>>,
    /// Those of whom the log says nothing, and MongoDB could not be asked.
    unsaid: Vec<UserId>,
    /// Why not everybody is known, if that is so.
    trouble: Option<Error>,
    /// Not even the log could be asked.
    blind: bool,
}

/// The preferences of several users.
#[derive(Debug)]
pub struct Everybody(HashMap<UserId, Arc<Preferences>>);

impl Everybody {
    /// The preferences of one of them.
    #[must_use]
    pub fn of(&self, user: UserId) -> Option<&Preferences> {
        self.0.get(&user).map(AsRef::as_ref)
    }

    fn take(mut self, user: UserId) -> Result<Arc<Preferences>> {
        self.0.remove(&user).ok_or_else(|| Error::internal("preferences were asked for and not found"))
    }

    /// Whether somebody shows another one that they are there. Of whom that is not known, nobody does.
    #[must_use]
    pub fn shows(&self, user: UserId, other: UserId) -> bool {
        self.of(user).is_some_and(|own| !own.invisible) && !self.blocked_between(user, other)
    }

    /// Whether one of these two blocks the other. Whoever was not asked for may.
    #[must_use]
    pub fn blocked_between(&self, one: UserId, other: UserId) -> bool {
        match (self.of(one), self.of(other)) {
            (Some(ones), Some(others)) => ones.blocks(other) || others.blocks(one),
            _ => true,
        }
    }
}

impl Preferred {
    /// An empty cache.
    #[must_use]
    pub fn new(broker: Broker, store: Store) -> Self {
        let weight = |_: &UserId, entry: &Entry| u32::try_from(entry.preferences.blocked.len() + 4).unwrap_or(u32::MAX);
        let entries = Cache::builder().max_capacity(KEPT).weigher(weight).build();
        Self { broker, store, entries, turned: Arc::default() }
    }

    /// A user's preferences.
    pub async fn of(&self, user: UserId) -> Result<Arc<Preferences>> {
        self.all([user]).await?.take(user)
    }

    /// The same for what cannot wait for MongoDB.
    pub async fn live_of(&self, user: UserId) -> Result<Arc<Preferences>> {
        self.live([user]).await?.take(user)
    }

    /// A user's preferences, if nobody has to be asked. Those of users with a socket here usually are known.
    #[must_use]
    pub fn known(&self, user: UserId) -> Option<Arc<Preferences>> {
        self.entries.get(&user).map(|entry| entry.preferences)
    }

    /// Whether one of these two blocks the other.
    pub async fn blocked_between(&self, one: UserId, other: UserId) -> Result<bool> {
        Ok(self.all([one, other]).await?.blocked_between(one, other))
    }

    /// The preferences of all of these users.
    pub async fn all(&self, users: impl IntoIterator<Item = UserId>) -> Result<Everybody> {
        let Found { known, trouble, .. } = self.find(users, Haste::Patient).await;
        trouble.map_or(Ok(Everybody(known)), Err)
    }

    /// The preferences of those of these users who are known or can be asked about, and what is in the way of the others.
    pub async fn some(&self, users: impl IntoIterator<Item = UserId>, haste: Haste) -> (Everybody, Option<Error>) {
        let Found { known, trouble, .. } = self.find(users, haste).await;
        (Everybody(known), trouble)
    }

    /// The preferences of all of these users for what cannot wait for MongoDB. Whoever only MongoDB could know is taken to
    /// have said nothing; that is not kept.
    pub async fn live(&self, users: impl IntoIterator<Item = UserId>) -> Result<Everybody> {
        let Found { mut known, unsaid, trouble, blind } = self.find(users, Haste::Live).await;
        if let Some(trouble) = trouble {
            if blind {
                return Err(trouble);
            }
            tracing::debug!(error = %trouble, users = unsaid.len(), "what users want is unknown for now");
            known.extend(unsaid.into_iter().map(|user| (user, Arc::new(Preferences::of(user)))));
        }
        Ok(Everybody(known))
    }

    /// Whether what is not known of somebody here cannot be found out, as MongoDB is away.
    #[must_use]
    pub fn is_in_the_dark(&self) -> bool {
        self.store.admit().is_err()
    }

    async fn find(&self, users: impl IntoIterator<Item = UserId>, haste: Haste) -> Found {
        let mut found = Found::default();
        let mut missing = Vec::new();
        for user in users {
            match self.known(user) {
                Some(known) => drop(found.known.insert(user, known)),
                None => missing.push(user),
            }
        }
        let mut logged = futures_util::stream::iter(missing)
            .map(|user| async move { (user, self.logged(user).await) })
            .buffer_unordered(AT_ONCE);
        while let Some((user, logged)) = logged.next().await {
            match logged {
                Ok(Some((preferences, seq))) => {
                    found.known.insert(user, self.keep(preferences, seq).preferences);
                }
                Ok(None) => found.unsaid.push(user),
                Err(error) => (found.trouble, found.blind) = (Some(error), true),
            }
        }
        drop(logged);
        if found.unsaid.is_empty() {
            return found;
        }
        let whole = match self.log_is_whole().await {
            Ok(whole) => whole,
            Err(error) => {
                (found.trouble, found.blind) = (Some(error), true);
                return found;
            }
        };
        let stored = if whole { Ok(HashMap::new()) } else { self.store.preferences_of(&found.unsaid, haste).await };
        match stored {
            Ok(stored) => {
                for user in std::mem::take(&mut found.unsaid) {
                    let (seq, preferences) = stored.get(&user).cloned().unwrap_or_else(|| (0, Preferences::of(user)));
                    found.known.insert(user, self.keep(preferences, seq).preferences);
                }
            }
            Err(error) => found.trouble = found.trouble.or(Some(error)),
        }
        found
    }

    /// The newest event of a user's preferences that the log has.
    async fn logged(&self, user: UserId) -> Result<Option<(Preferences, u64)>> {
        let last = self.broker.last(Subject::Inbox(user, InboxKind::Preferences)).await?;
        Ok(last.and_then(|Stored { seq, event }| match event.body {
            Body::Preferences(preferences) => Some((preferences, seq)),
            _ => None,
        }))
    }

    /// Whether nothing was ever purged from the log, nor was there another one before it: what it does not say was not said.
    async fn log_is_whole(&self) -> Result<bool> {
        // What is known of it is a moment old, and it stays whole no longer than until it is trimmed.
        Ok(self.broker.log().first <= 1 && self.broker.extent(StreamName::Events).await?.first <= 1)
    }

    /// A user's preferences as they are now, and the seq that the next change of them must follow.
    pub async fn latest(&self, user: UserId) -> Result<(Arc<Preferences>, u64)> {
        match self.logged(user).await? {
            Some((preferences, seq)) => {
                // The tail may have been faster than the copy of the log that was asked.
                let Entry { preferences, seq } = self.keep(preferences, seq);
                Ok((preferences, seq))
            }
            // What MongoDB has is older than the log: for the broker the subject is empty.
            None => Ok((self.of(user).await?, 0)),
        }
    }

    /// Takes note of an event; called by the tail for every event, in order.
    pub fn observe(&self, stored: &Stored) {
        if let Body::Preferences(preferences) = &stored.event.body {
            if self.known(preferences.user_id).is_none() {
                self.turn(preferences.user_id, preferences.blocked.iter().copied());
            }
            drop(self.keep(preferences.clone(), stored.seq));
        }
    }

    /// Forgets everything: a part of the log was not heard.
    pub fn forget_all(&self) {
        self.entries.invalidate_all();
    }

    /// Whom a user blocks, or does not any more, since this was last asked; each change is told once. One that the tail brings
    /// of somebody who was not known here counts for everybody whom they block.
    #[must_use]
    pub fn take_turned(&self, user: UserId) -> HashSet<UserId> {
        self.turned().remove(&user).unwrap_or_default()
    }

    fn turned(&self) -> MutexGuard<'_, Turned> {
        self.turned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self, user: UserId, others: impl Iterator<Item = UserId>) {
        let mut others = others.peekable();
        let mut turned = self.turned();
        if others.peek().is_some() && (turned.len() < TURNED || turned.contains_key(&user)) {
            turned.entry(user).or_default().extend(others);
        }
    }

    /// Keeps preferences unless newer ones are there; returns those that are kept.
    fn keep(&self, preferences: Preferences, seq: u64) -> Entry {
        let user = preferences.user_id;
        let new = Entry { preferences: Arc::new(preferences), seq };
        let mut before = None;
        let kept = self.entries.entry(user).and_upsert_with(|kept| match kept {
            Some(kept) if kept.value().seq >= seq => kept.into_value(),
            Some(kept) => {
                before = Some(kept.into_value().preferences);
                new
            }
            None => new,
        });
        let kept = kept.into_value();
        if let Some(before) = before {
            self.turn(user, turned_between(&before, &kept.preferences));
        }
        kept
    }
}

/// Who is blocked by one of these and not by the other.
fn turned_between<'a>(before: &'a Preferences, after: &'a Preferences) -> impl Iterator<Item = UserId> + 'a {
    let lost = before.blocked.iter().filter(|user| !after.blocks(**user));
    lost.chain(after.blocked.iter().filter(|user| !before.blocks(**user))).copied()
}

/// What somebody wants to change of how they are seen; what is nothing stays.
#[derive(Debug, Clone, Default)]
pub struct ChangePreferences {
    /// Whether others are not told how far they have read.
    pub hide_read_receipts: Option<bool>,
    /// Whether others see them as offline.
    pub invisible: Option<bool>,
    /// How loud kinds of notifications are to be.
    pub notifications: Vec<(Kind, Level)>,
}

impl Commands {
    /// Whether one of these two blocks the other.
    pub async fn blocked_between(&self, one: UserId, other: UserId) -> Result<bool> {
        self.preferred.blocked_between(one, other).await
    }

    /// Refuses what somebody wants to say to others of whom one blocks them, or is blocked by them, as far as that can be
    /// known without waiting for MongoDB.
    pub(super) async fn require_unblocked(&self, user: UserId, others: impl Iterator<Item = UserId>) -> Result<()> {
        let others: Vec<UserId> = others.filter(|other| *other != user).collect();
        unblocked(&self.preferred.live(others.iter().copied().chain([user])).await?, user, &others)
    }

    /// Refuses to bring somebody together with others of whom one blocks them, or is blocked by them. Whoever cannot be asked
    /// about may.
    pub(super) async fn require_welcome(&self, user: UserId, others: impl Iterator<Item = UserId>) -> Result<()> {
        let others: Vec<UserId> = others.filter(|other| *other != user).collect();
        if others.is_empty() {
            return Ok(());
        }
        unblocked(&self.preferred.all(others.iter().copied().chain([user])).await?, user, &others)
    }

    /// Refuses what somebody wants to say where two talk with each other of whom one blocks the other: in a direct conversation
    /// or in a group of just them. Agents whom the two have called in are heard by both.
    pub(super) async fn require_heard(&self, user: UserId, conversation: &Conversation) -> Result<()> {
        match conversation.counterpart(user) {
            Some(other) => self.require_unblocked(user, [other].into_iter()).await,
            None => Ok(()),
        }
    }

    /// Changes how the caller is seen.
    pub async fn change_preferences(
        &self,
        actor: &Actor,
        change: ChangePreferences,
        trace: Option<TraceContext>,
    ) -> Result<Arc<Preferences>> {
        actor.check_expiry(self.clock.now())?;
        let apply = |preferences: &mut Preferences| {
            let ChangePreferences { hide_read_receipts, invisible, notifications } = &change;
            preferences.hide_read_receipts = hide_read_receipts.unwrap_or(preferences.hide_read_receipts);
            preferences.invisible = invisible.unwrap_or(preferences.invisible);
            notifications.iter().try_for_each(|(kind, level)| preferences.set_level(*kind, *level))
        };
        self.update_preferences(actor, apply, trace).await
    }

    /// The caller wants to hear nothing more of a user; doing it twice is doing it once.
    pub async fn block(&self, actor: &Actor, user: UserId, trace: Option<TraceContext>) -> Result<()> {
        actor.check_expiry(self.clock.now())?;
        if user == actor.user_id {
            return Err(Error::invalid("cannot_block_yourself", "nobody can block themselves"));
        }
        self.require_users(&[user]).await?;
        self.update_preferences(actor, |preferences| block(preferences, user), trace).await.map(drop)
    }

    /// The caller takes that back. It need not be somebody whom they block, or who exists.
    pub async fn unblock(&self, actor: &Actor, user: UserId, trace: Option<TraceContext>) -> Result<()> {
        actor.check_expiry(self.clock.now())?;
        let unblock = |preferences: &mut Preferences| {
            preferences.blocked.retain(|blocked| *blocked != user);
            Ok(())
        };
        self.update_preferences(actor, unblock, trace).await.map(drop)
    }

    async fn update_preferences(
        &self,
        actor: &Actor,
        change: impl Fn(&mut Preferences) -> Result<()>,
        trace: Option<TraceContext>,
    ) -> Result<Arc<Preferences>> {
        let _in_hand = self.limits.admit(actor.user_id, self.clock.now())?;
        for attempt in 1..=ATTEMPTS {
            let (before, last) = self.preferred.latest(actor.user_id).await?;
            let mut after = (*before).clone();
            change(&mut after)?;
            if after == *before {
                return Ok(before);
            }
            let event = self.event(actor.user_id, vec![actor.user_id], Body::Preferences(after.clone()));
            match self.publisher.enqueue_after(last, &event, None, trace)?.stored().await {
                Ok(published) => return Ok(self.preferred.keep(after, published.seq).preferences),
                // Another change came first: this one is made to that.
                Err(error) if error.code() == Code::Conflict => tokio::time::sleep(PAUSE * attempt).await,
                Err(error) => return Err(error),
            }
        }
        Err(Error::unavailable("busy", "your preferences are being changed elsewhere, try again")
            .retry_after(Duration::from_millis(500)))
    }
}

fn unblocked(preferences: &Everybody, user: UserId, others: &[UserId]) -> Result<()> {
    if others.iter().any(|other| preferences.blocked_between(user, *other)) {
        return Err(Error::new(Code::Forbidden, "blocked", "one of you has blocked the other"));
    }
    Ok(())
}

/// Adds to the users whom somebody blocks, which stay sorted.
fn block(preferences: &mut Preferences, user: UserId) -> Result<()> {
    if let Err(place) = preferences.blocked.binary_search(&user) {
        if preferences.blocked.len() >= BLOCKED_LIMIT {
            return Err(Error::new(Code::TooLarge, "too_many_blocked", "nobody can block more than 1,000 users"));
        }
        preferences.blocked.insert(place, user);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_blocked_is_so_once_and_there_is_a_limit() {
        let mut preferences = Preferences::of(UserId::from_bits(0));
        for bits in [3, 1, 2, 3] {
            block(&mut preferences, UserId::from_bits(bits)).expect("room");
        }
        assert_eq!(preferences.blocked, [1, 2, 3].map(UserId::from_bits), "sorted, each once");
        for bits in 4..=1_000 {
            block(&mut preferences, UserId::from_bits(bits)).expect("room");
        }
        assert!(block(&mut preferences, UserId::from_bits(7)).is_ok(), "already there");
        let full = block(&mut preferences, UserId::from_bits(1_001)).map_err(|error| error.reason());
        assert_eq!(full, Err("too_many_blocked"));
    }

    #[test]
    fn whoever_is_blocked_anew_or_no_longer_has_turned() {
        let of = |blocked: &[u128]| Preferences {
            blocked: blocked.iter().copied().map(UserId::from_bits).collect(),
            ..Preferences::of(UserId::from_bits(0))
        };
        let turned = |before: &[u128], after: &[u128]| -> Vec<u128> {
            turned_between(&of(before), &of(after)).map(UserId::bits).collect()
        };
        assert_eq!(turned(&[1, 2, 3], &[2, 3, 4]), [1, 4]);
        assert_eq!(turned(&[], &[7]), [7]);
        assert_eq!(turned(&[7], &[7]), [0; 0]);
    }

    #[test]
    fn a_block_counts_either_way_and_nobody_unknown_is_let_pass() {
        let [ana, ben, cleo, dan] = [1, 2, 3, 4].map(UserId::from_bits);
        let mut hers = Preferences::of(ana);
        block(&mut hers, ben).expect("room");
        let all = [hers, Preferences::of(ben), Preferences::of(cleo)];
        let all = Everybody(all.into_iter().map(|one| (one.user_id, Arc::new(one))).collect());
        assert!(all.blocked_between(ana, ben) && all.blocked_between(ben, ana));
        assert!(!all.blocked_between(ana, cleo) && !all.blocked_between(ben, cleo));
        assert!(all.blocked_between(cleo, dan), "nobody has asked what Dan wants");
    }
}
