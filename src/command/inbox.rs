//! What users do to their notifications: seen, read, put away, put off.
//!
//! A change holds up to a place in the log, so what comes at the same moment is not touched. It is an event that all of the
//! user's sockets hear of, with what is left after it: so it is stored only if no other one came since that was counted. What
//! is put away or off is so up to a later place each time, as the last word about an entry is the one with the latest place.

use std::time::Duration;

use super::Commands;
use crate::auth::Actor;
use crate::broker::subject::{InboxKind, Subject};
use crate::domain::clock::Timestamp;
use crate::domain::event::Body;
use crate::domain::ids::{NotificationId, UserId};
use crate::domain::inbox::{Counts, LONGEST_SNOOZE, NAMED_LIMIT, NotificationState};
use crate::domain::trace::TraceContext;
use crate::domain::words::required;
use crate::error::{Code, Error, Result};

/// Attempts to make a change while others are made.
const ATTEMPTS: u32 = 8;
/// How long to wait after the first that failed: a copy of the log may be a moment behind.
const PAUSE: Duration = Duration::from_millis(10);

/// Which entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// These, each by its own id or by that of a notification in it.
    Named(Vec<NotificationId>),
    /// All there are.
    All,
}

/// What is to be done; what is left out stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deed {
    /// They were shown.
    pub seen: bool,
    /// They were read.
    pub read: bool,
    /// Whether they are put away.
    pub archived: Option<bool>,
    /// Until when they are out of sight; a time that is over wakes them.
    pub snoozed_until: Option<Timestamp>,
}

/// A change of the caller's inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeInbox {
    which: Which,
    /// Nothing behind this place; everything that the log has if it is not said.
    up_to: Option<u64>,
    deed: Deed,
}

/// A change that is stored.
#[derive(Debug, Clone, Copy)]
pub struct InboxChanged {
    /// Its place in the log.
    pub seq: u64,
    /// What is left.
    pub counts: Counts,
}

impl Which {
    /// Reads it as clients write it: ids, or all of them.
    pub fn read<'a>(ids: Option<impl IntoIterator<Item = &'a str>>, all: bool) -> Result<Self> {
        match (ids, all) {
            (None, true) => Ok(Self::All),
            (Some(_), true) => Err(Error::invalid("ids_and_all", "give ids or all, not both")),
            (ids, false) => {
                let mut named: Vec<NotificationId> = Vec::new();
                for id in required(ids, "ids")? {
                    let id = id.parse()?;
                    if !named.contains(&id) {
                        named.push(id);
                    }
                    if named.len() > NAMED_LIMIT {
                        return Err(Error::new(
                            Code::TooLarge,
                            "too_many_notifications",
                            "a change names 100 notifications at most",
                        ));
                    }
                }
                Ok(Self::Named(named))
            }
        }
    }
}

/// Reads until when something is put off.
pub fn snooze(written: &str) -> Result<Timestamp> {
    Timestamp::parse(written)
        .ok_or_else(|| Error::invalid("malformed_snooze", "notifications are put off until a time in RFC 3339"))
}

impl ChangeInbox {
    /// Something to be done to some of them.
    pub fn new(which: Which, up_to: Option<u64>, deed: Deed) -> Result<Self> {
        if deed == Deed::default() || which == Which::Named(Vec::new()) {
            return Err(Error::invalid("nothing_to_change", "say which notifications, and what is to be done to them"));
        }
        Ok(Self { which, up_to, deed })
    }
}

impl Commands {
    /// Changes the caller's inbox and waits until that is stored.
    pub async fn change_inbox(
        &self,
        actor: &Actor,
        change: ChangeInbox,
        trace: Option<TraceContext>,
    ) -> Result<InboxChanged> {
        let now = self.clock.now();
        actor.check_expiry(now)?;
        let ChangeInbox { which, up_to, deed } = change;
        if deed.snoozed_until.is_some_and(|until| until > now.plus_seconds(LONGEST_SNOOZE)) {
            return Err(Error::invalid("snooze_too_long", "notifications can be put off for a year at most"));
        }
        let _in_hand = self.limits.admit(actor.user_id, now)?;
        for attempt in 1..=ATTEMPTS {
            // In this order: whatever is counted includes the change that this one follows.
            let last = self.broker.last(Subject::Inbox(actor.user_id, InboxKind::NotificationState)).await?;
            let Some(state) = self.inbox_state(actor.user_id, &which, up_to, deed, now).await? else {
                let counts = self.inboxes.counts(actor.user_id, None, now).await?;
                return Ok(InboxChanged { seq: counts.seq, counts });
            };
            let counts = state.counts;
            let event = self.event(actor.user_id, vec![actor.user_id], Body::NotificationState(state));
            let last = last.map_or(0, |stored| stored.seq);
            match self.publisher.enqueue_after(last, &event, None, trace)?.stored().await {
                Ok(stored) => return Ok(InboxChanged { seq: stored.seq, counts }),
                // Another change came first, perhaps from another device: what is left is counted again.
                Err(error) if error.code() == Code::Conflict => tokio::time::sleep(PAUSE * attempt).await,
                Err(error) => return Err(error),
            }
        }
        Err(Error::unavailable("busy", "your notifications are being changed elsewhere, try again")
            .retry_after(Duration::from_millis(500)))
    }

    /// What a change comes to now; nothing if none of the entries that it names is to be touched.
    async fn inbox_state(
        &self,
        user_id: UserId,
        which: &Which,
        up_to: Option<u64>,
        deed: Deed,
        now: Timestamp,
    ) -> Result<Option<NotificationState>> {
        // What has not happened yet cannot be meant.
        let head = self.broker.head().await?;
        let mut up_to = up_to.map_or(head, |up_to| up_to.min(head));
        let Deed { seen, read, archived, snoozed_until } = deed;
        let moves = archived.is_some() || snoozed_until.is_some();
        let mut entry_ids = Vec::new();
        match which {
            Which::All if moves && up_to < head => {
                let all = self.inboxes.all(user_id).await?;
                let behind = |said: Option<u64>| said.is_some_and(|said| said > up_to);
                let archived_later = archived.is_some() && behind(all.archived.map(|register| register.up_to));
                let snoozed_later = snoozed_until.is_some() && behind(all.snoozed.map(|register| register.up_to));
                if archived_later || snoozed_later {
                    let what = "more was put away or off since: look again, and say up to where";
                    return Err(Error::new(Code::Conflict, "stale_up_to", what));
                }
            }
            Which::All => {}
            Which::Named(ids) => {
                let mut entries = self.inboxes.resolve(user_id, ids).await?;
                if moves {
                    // An entry stands by its newest notification: where something newer came, nothing is put away or off.
                    entries.retain(|(_, newest)| *newest <= up_to);
                    up_to = head;
                }
                if entries.is_empty() {
                    return Ok(None);
                }
                entry_ids.extend(entries.into_iter().map(|(id, _)| id));
            }
        }
        if let Some(until) = snoozed_until
            && until > now
            && until >= self.inboxes.kept_until(user_id, &entry_ids, now).await?
        {
            return Err(Error::invalid("snooze_beyond_retention", "they are forgotten before they would come back"));
        }
        let counts = Counts::default();
        let mut state = NotificationState { user_id, entry_ids, up_to, seen, read, archived, snoozed_until, counts };
        state.counts = self.inboxes.counts(user_id, Some(&state), now).await?;
        Ok(Some(state))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "ntf_00000000000000000000000001";

    fn which(ids: Option<&[&str]>, all: bool) -> Result<Which, &'static str> {
        Which::read(ids.map(|ids| ids.iter().copied()), all).map_err(|error| error.reason())
    }

    #[test]
    fn either_some_are_named_or_all_are_meant() {
        assert_eq!(which(None, true), Ok(Which::All));
        assert_eq!(which(Some(&[ONE, ONE]), false), Ok(Which::Named(vec![NotificationId::from_bits(1)])));
        assert_eq!(which(Some(&[ONE]), true), Err("ids_and_all"));
        assert_eq!(which(None, false), Err("missing_field"));
        assert_eq!(which(Some(&["msg_00000000000000000000000001"]), false), Err("malformed_id"));
        let many: Vec<String> = (0..=100).map(|bits| NotificationId::from_bits(bits).to_string()).collect();
        let many: Vec<&str> = many.iter().map(AsRef::as_ref).collect();
        assert_eq!(which(Some(&many), false), Err("too_many_notifications"));
        assert!(which(Some(&many[..100]), false).is_ok());
    }

    #[test]
    fn a_change_changes_something() {
        let reason = |which, deed| ChangeInbox::new(which, None, deed).map(drop).map_err(|error| error.reason());
        let read = Deed { read: true, ..Deed::default() };
        assert_eq!(reason(Which::All, read), Ok(()));
        assert_eq!(reason(Which::All, Deed::default()), Err("nothing_to_change"));
        assert_eq!(reason(Which::Named(Vec::new()), read), Err("nothing_to_change"));
    }
}
