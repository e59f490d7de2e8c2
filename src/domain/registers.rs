//! What was done to entries of an inbox, as it stays: marks that only rise, and registers of which the last one counts.
//!
//! Each holds up to a place in the log and knows its own, so it does not matter in which order changes are applied, or how
//! often.

use super::clock::Timestamp;
use super::inbox::NotificationState;

/// Something that was said about everything up to a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Register<T> {
    /// The place of the event that said it.
    pub at: u64,
    /// What is behind this place is not meant.
    pub up_to: u64,
    /// What was said.
    pub value: T,
}

/// What was done to one entry, or to all of a user's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Registers {
    /// Read up to here.
    pub read: u64,
    /// Shown up to here.
    pub seen: u64,
    /// Put away, or not any more.
    pub archived: Option<Register<bool>>,
    /// Out of sight until then.
    pub snoozed: Option<Register<Timestamp>>,
}

/// How an entry stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// It was read.
    pub read: bool,
    /// It was shown, or read.
    pub seen: bool,
    /// It is put away.
    pub archived: bool,
    /// It is out of sight until then.
    pub snoozed_until: Option<Timestamp>,
}

fn later<T: Copy>(one: Option<Register<T>>, other: Option<Register<T>>) -> Option<Register<T>> {
    one.into_iter().chain(other).max_by_key(|register| register.at)
}

impl Registers {
    /// What an event at this place says.
    #[must_use]
    pub fn of(at: u64, state: &NotificationState) -> Self {
        let up_to = state.up_to;
        Self {
            read: if state.read { up_to } else { 0 },
            seen: if state.seen { up_to } else { 0 },
            archived: state.archived.map(|value| Register { at, up_to, value }),
            snoozed: state.snoozed_until.map(|value| Register { at, up_to, value }),
        }
    }

    /// Takes over what was said elsewhere.
    pub fn join(&mut self, other: Self) {
        self.read = other.read.max(self.read);
        self.seen = other.seen.max(self.seen);
        self.archived = later(self.archived, other.archived);
        self.snoozed = later(self.snoozed, other.snoozed);
    }

    /// How an entry stands whose newest notification is at this place. `all` is what was done to all of them; `read` says
    /// that it was read with its conversation.
    #[must_use]
    pub fn standing(&self, all: &Self, seq: u64, read: bool, now: Timestamp) -> Standing {
        let read = read || seq <= self.read.max(all.read);
        Standing {
            read,
            seen: read || seq <= self.seen.max(all.seen),
            archived: said(self.archived, all.archived, seq).unwrap_or(false),
            snoozed_until: said(self.snoozed, all.snoozed, seq).filter(|until| *until > now),
        }
    }
}

/// What was said last about what is at this place.
fn said<T: Copy>(one: Option<Register<T>>, all: Option<Register<T>>, seq: u64) -> Option<T> {
    let meant = |register: &Register<T>| register.up_to >= seq;
    later(one.filter(meant), all.filter(meant)).map(|register| register.value)
}

impl Standing {
    /// Whether it is in its user's sight: neither put away nor put off.
    #[must_use]
    pub const fn is_listed(&self) -> bool {
        !self.archived && self.snoozed_until.is_none()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::ids::UserId;
    use crate::domain::inbox::Counts;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn state(up_to: u64) -> NotificationState {
        NotificationState {
            user_id: UserId::from_bits(1),
            entry_ids: Vec::new(),
            up_to,
            seen: false,
            read: false,
            archived: None,
            snoozed_until: None,
            counts: Counts::default(),
        }
    }

    fn any_state() -> impl Strategy<Value = NotificationState> {
        let flag = || prop::option::of(any::<bool>());
        (0..20_u64, any::<bool>(), any::<bool>(), flag(), prop::option::of(0..9_i64)).prop_map(
            |(up_to, seen, read, archived, until)| NotificationState {
                seen,
                read,
                archived,
                snoozed_until: until.map(|until| NOW.plus_seconds(until - 4)),
                ..state(up_to)
            },
        )
    }

    proptest! {
        #[test]
        fn the_order_of_changes_does_not_matter(
            said in prop::collection::vec(any_state(), 0..8), order in any::<prop::sample::Index>(),
        ) {
            let each: Vec<Registers> = (1..).zip(&said).map(|(at, state)| Registers::of(at, state)).collect();
            let fold = |all: &mut dyn Iterator<Item = &Registers>| {
                let mut folded = Registers::default();
                all.for_each(|one| folded.join(*one));
                folded
            };
            let begin = if each.is_empty() { 0 } else { order.index(each.len()) };
            let turned = fold(&mut each[begin..].iter().chain(&each[..begin]).chain(&each));
            prop_assert_eq!(turned, fold(&mut each.iter()));
            prop_assert_eq!(turned, fold(&mut each.iter().rev()));
        }
    }

    #[test]
    fn something_new_is_neither_read_nor_put_away() {
        let until = NOW.plus_seconds(60);
        let done = NotificationState { read: true, archived: Some(true), snoozed_until: Some(until), ..state(10) };
        let own = Registers::of(11, &done);
        let all = Registers::default();
        let old = own.standing(&all, 10, false, NOW);
        assert_eq!(old, Standing { read: true, seen: true, archived: true, snoozed_until: Some(until) });
        assert_eq!(own.standing(&all, 12, false, NOW), Standing::default());
        assert_eq!(all.standing(&own, 10, false, NOW), old, "done to all of them, it is the same");
        assert!(own.standing(&all, 10, false, until).snoozed_until.is_none(), "time wakes it");
        assert!(all.standing(&all, 12, true, NOW).seen, "read with its conversation");
    }

    #[test]
    fn the_last_word_counts_whether_it_was_about_one_or_all() {
        let archived = |up_to, on| NotificationState { archived: Some(on), ..state(up_to) };
        let (one, all) = (Registers::of(21, &archived(20, true)), Registers::of(31, &archived(30, false)));
        assert!(!one.standing(&all, 20, false, NOW).archived);
        let short = Registers::of(31, &archived(5, false));
        assert!(one.standing(&short, 20, false, NOW).archived, "what is behind its place is not touched");
        let again = Registers::of(41, &archived(40, true));
        assert!(again.standing(&all, 20, false, NOW).archived);
    }
}
