//! Bursts of marks: what one participant marks in one conversation within a moment is one event.
//!
//! The first mark goes out at once. Those that come while it is under way, or soon after it began, wait together and are
//! the next one; a mark that the one under way covers waits for that. Nothing here publishes or waits: it says whose turn it is.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::ids::{ConversationId, UserId};
use crate::domain::receipt::Marks;

/// Time between the beginnings of two bursts.
const PAUSE: Duration = Duration::from_millis(200);
/// Marks that wait, for their turn or for the broker, from which on no more are taken.
const WAITING: usize = 8_192;

/// Whose marks, and where.
pub(super) type Line = (ConversationId, UserId);

/// Marks that go out together, and who waits for them.
#[derive(Debug)]
pub(super) struct Burst<W> {
    pub(super) marks: Marks,
    pub(super) waiting: Vec<W>,
}

#[derive(Debug)]
struct Turn<W> {
    under_way: Option<Burst<W>>,
    /// The last one has only just begun.
    rests: bool,
    next: Option<Burst<W>>,
}

/// All bursts of an instance; a conversation and user that nothing waits for takes no room.
#[derive(Debug)]
pub(super) struct Bursts<W> {
    turns: HashMap<Line, Turn<W>>,
    /// When each rest ends, in order.
    rests: VecDeque<(Instant, Line)>,
    waiting: usize,
}

impl<W> Default for Bursts<W> {
    fn default() -> Self {
        Self { turns: HashMap::new(), rests: VecDeque::new(), waiting: 0 }
    }
}

impl<W> Bursts<W> {
    /// Whether no more marks are taken for now.
    pub(super) const fn is_full(&self) -> bool {
        self.waiting >= WAITING
    }

    /// Somebody waits for these marks. Returns what is to be published at once.
    pub(super) fn ask(&mut self, line: Line, marks: Marks, waiter: W, now: Instant) -> Option<&Burst<W>> {
        let turn = self.turns.entry(line).or_insert(Turn { under_way: None, rests: false, next: None });
        if let Some(under_way) = &mut turn.under_way {
            let mut both = under_way.marks;
            both.join(marks);
            if both == under_way.marks {
                under_way.waiting.push(waiter);
                self.waiting += 1;
                return None;
            }
        }
        let next = turn.next.get_or_insert_with(|| Burst { marks, waiting: Vec::new() });
        next.marks.join(marks);
        next.waiting.push(waiter);
        self.waiting += 1;
        self.go_on(line, now)
    }

    /// What was under way is done with; returns it, to tell those who wait for it.
    pub(super) fn done(&mut self, line: Line) -> Option<Burst<W>> {
        let done = self.turns.get_mut(&line)?.under_way.take()?;
        self.waiting -= done.waiting.len();
        Some(done)
    }

    /// When the next rest ends.
    pub(super) fn rest(&self) -> Option<Instant> {
        self.rests.front().map(|(until, _)| *until)
    }

    /// Somebody whose rest is over.
    pub(super) fn rested(&mut self, now: Instant) -> Option<Line> {
        let (_, line) = self.rests.pop_front_if(|(until, _)| *until <= now)?;
        if let Some(turn) = self.turns.get_mut(&line) {
            turn.rests = false;
        }
        Some(line)
    }

    /// What is to be published next for somebody, if it is their turn.
    pub(super) fn go_on(&mut self, line: Line, now: Instant) -> Option<&Burst<W>> {
        let Entry::Occupied(mut turn) = self.turns.entry(line) else { return None };
        if turn.get().under_way.is_some() || turn.get().rests {
            return None;
        }
        let Some(next) = turn.get_mut().next.take() else {
            turn.remove();
            return None;
        };
        self.rests.push_back((now + PAUSE, line));
        let turn = turn.into_mut();
        turn.rests = true;
        Some(turn.under_way.insert(next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: Line = (ConversationId::from_bits(1), UserId::from_bits(2));

    fn read(seq: u64) -> Marks {
        Marks { read: seq, shown: seq, delivered: seq }
    }

    fn seq(burst: Option<&Burst<u8>>) -> Option<u64> {
        burst.map(|burst| burst.marks.read)
    }

    #[test]
    fn the_first_goes_at_once_and_the_rest_together() {
        let (mut bursts, now) = (Bursts::default(), Instant::now());
        assert_eq!(seq(bursts.ask(LINE, read(1), 1, now)), Some(1));
        for at in [2, 4, 3] {
            assert_eq!(seq(bursts.ask(LINE, read(at), 2, now)), None);
        }
        let other = (LINE.0, UserId::from_bits(3));
        assert_eq!(seq(bursts.ask(other, read(2), 9, now)), Some(2), "others do not wait for it");
        assert_eq!(bursts.done(LINE).map(|burst| burst.waiting), Some(vec![1]));
        assert_eq!(seq(bursts.go_on(LINE, now)), None, "it has only just begun");
        assert_eq!(bursts.rested(now + PAUSE / 2), None);
        assert_eq!(bursts.rested(now + PAUSE), Some(LINE));
        assert_eq!(seq(bursts.go_on(LINE, now + PAUSE)), Some(4));
        assert_eq!(bursts.done(LINE).map(|burst| burst.waiting), Some(vec![2, 2, 2]));
    }

    #[test]
    fn a_mark_that_is_under_way_waits_for_that() {
        let (mut bursts, now) = (Bursts::default(), Instant::now());
        assert_eq!(seq(bursts.ask(LINE, read(5), 1, now)), Some(5));
        assert_eq!(seq(bursts.ask(LINE, read(3), 2, now)), None);
        assert_eq!(bursts.waiting, 2, "both are counted, so that a broker that hangs has a bound here too");
        assert_eq!(bursts.done(LINE).map(|burst| burst.waiting), Some(vec![1, 2]));
        assert_eq!(bursts.waiting, 0);
    }

    #[test]
    fn a_slow_one_is_not_overtaken_and_nothing_is_left_behind() {
        let (mut bursts, now) = (Bursts::default(), Instant::now());
        assert!(bursts.ask(LINE, read(1), 1, now).is_some());
        assert!(bursts.ask(LINE, read(2), 2, now).is_none());
        assert_eq!(bursts.rested(now + PAUSE), Some(LINE));
        assert_eq!(seq(bursts.go_on(LINE, now + PAUSE)), None, "the first is still under way");
        assert!(bursts.done(LINE).is_some());
        assert_eq!(seq(bursts.go_on(LINE, now + PAUSE)), Some(2));
        assert!(bursts.done(LINE).is_some());
        assert_eq!(bursts.rest(), Some(now + 2 * PAUSE));
        assert_eq!(bursts.rested(now + 2 * PAUSE), Some(LINE));
        assert_eq!(seq(bursts.go_on(LINE, now + 2 * PAUSE)), None);
        assert!(bursts.turns.is_empty() && bursts.rests.is_empty() && bursts.waiting == 0);
    }
}
