//! What users do to their notifications: seen, read, put away, put off.
//!
//! A change holds up to a place in the log, so what comes at the same moment is not touched. It is an event that all of the
//! user's sockets hear of, with what is left after it.

use super::Commands;
use crate::auth::Actor;
use crate::domain::clock::Timestamp;
use crate::domain::event::Body;
use crate::domain::ids::NotificationId;
use crate::domain::inbox::{Counts, LONGEST_SNOOZE, NAMED_LIMIT, NotificationState};
use crate::domain::trace::TraceContext;
use crate::domain::words::required;
use crate::error::{Code, Error, Result};

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
        let user_id = actor.user_id;
        // What has not happened yet cannot be meant.
        let head = self.broker.head().await?;
        let entry_ids = match which {
            Which::All => Vec::new(),
            Which::Named(ids) => self.inboxes.resolve(user_id, &ids).await?,
        };
        let Deed { seen, read, archived, snoozed_until } = deed;
        let up_to = up_to.map_or(head, |up_to| up_to.min(head));
        let counts = Counts::default();
        let mut state = NotificationState { user_id, entry_ids, up_to, seen, read, archived, snoozed_until, counts };
        state.counts = self.inboxes.counts(user_id, Some(&state), now).await?;
        let counts = state.counts;
        let event = self.event(user_id, vec![user_id], Body::NotificationState(state));
        let stored = self.publisher.enqueue(&event, trace)?.stored().await?;
        Ok(InboxChanged { seq: stored.seq, counts })
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
