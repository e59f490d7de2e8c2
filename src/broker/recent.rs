//! The window: the newest events of the log, in memory, as the tail brings them.
//!
//! Whoever was away for a moment is served from here, without a question to the broker or the database: a thousand clients
//! that reconnect at once cost a scan each. It is bounded by count and by bytes; what fell out of it is in the log.
//!
//! Events are kept as the log has them, each in one piece of memory, and read again when somebody needs them: most never
//! are, and thousands of small pieces that live for minutes would slow down everybody's allocations.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use smallvec::SmallVec;
use tokio::sync::watch;

use super::decode;
use super::read::catching_up;
use super::tail::Tailed;
use crate::domain::event::Stored;
use crate::domain::ids::UserId;
use crate::error::Result;

/// Bytes of events kept.
const BYTES: usize = 32 << 20;
/// What an event takes beside its bytes, about.
const BESIDE: usize = 96;
/// Events looked at under one hold of the lock: the tail waits for it.
const SCAN: usize = 4_096;

#[derive(Debug)]
struct Kept {
    seq: u64,
    recipients: SmallVec<[UserId; 2]>,
    payload: Arc<[u8]>,
}

impl Kept {
    fn bytes(&self) -> usize {
        self.payload.len() + BESIDE
    }
}

#[derive(Debug, Default)]
struct Ring {
    events: VecDeque<Kept>,
    bytes: usize,
    /// Everything behind this seq is here.
    after: u64,
}

/// The window; filled by the tail.
#[derive(Debug)]
pub struct Recent {
    /// Events kept, at most.
    limit: usize,
    ring: Mutex<Ring>,
    /// How far the tail is.
    position: watch::Sender<u64>,
}

/// What the window has for somebody.
#[derive(Debug)]
pub struct Since {
    /// The events that concern them, in order.
    pub events: Vec<Arc<Stored>>,
    /// Everything up to here was looked at.
    pub upto: u64,
    /// There are more; the last of `events` is where to go on.
    pub more: bool,
}

impl Since {
    /// All the events there are; a part of them is refused.
    pub fn whole(self) -> Result<Vec<Arc<Stored>>> {
        if self.more { Err(catching_up()) } else { Ok(self.events) }
    }
}

impl Recent {
    /// A window of at most so many events.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, ring: Mutex::default(), position: watch::Sender::new(0) }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        // Every change under this lock is complete before it can panic.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of what the tail brings.
    pub fn observe(&self, tailed: &Tailed) {
        let seq = match tailed {
            Tailed::Begins(seq) => {
                *self.ring() = Ring { after: *seq, ..Ring::default() };
                *seq
            }
            Tailed::Passed(seq) => *seq,
            Tailed::Event(stored, payload) => {
                let kept = Kept {
                    seq: stored.seq,
                    recipients: SmallVec::from_slice(&stored.event.recipients),
                    // Its own copy: the one at hand is a part of a much larger buffer.
                    payload: payload.as_ref().into(),
                };
                let mut ring = self.ring();
                ring.bytes += kept.bytes();
                ring.events.push_back(kept);
                while ring.events.len() > self.limit || ring.bytes > BYTES {
                    let Some(gone) = ring.events.pop_front() else { break };
                    ring.bytes -= gone.bytes();
                    ring.after = gone.seq;
                }
                stored.seq
            }
        };
        self.position.send_replace(seq);
    }

    /// How far the tail is.
    #[must_use]
    pub fn position(&self) -> u64 {
        *self.position.borrow()
    }

    /// Everything behind this seq is in the window.
    #[must_use]
    pub fn after(&self) -> u64 {
        self.ring().after
    }

    /// Waits until the tail is this far; says whether it came to that.
    pub async fn reaches(&self, seq: u64, longest: Duration) -> bool {
        let mut position = self.position.subscribe();
        let waited = tokio::time::timeout(longest, position.wait_for(|at| *at >= seq)).await;
        matches!(waited, Ok(Ok(_)))
    }

    /// The first events behind a place that concern a user, at most `limit`; nothing if the window does not reach back
    /// that far.
    #[must_use]
    pub fn since(&self, user: UserId, seq: u64, limit: usize) -> Option<Since> {
        let mut found: Vec<(u64, Arc<[u8]>)> = Vec::new();
        let (mut upto, mut more) = (seq, false);
        'scan: loop {
            let ring = self.ring();
            if upto < ring.after {
                return None;
            }
            let begin = ring.events.partition_point(|kept| kept.seq <= upto);
            let end = (begin + SCAN).min(ring.events.len());
            for kept in ring.events.range(begin..end) {
                if kept.recipients.contains(&user) {
                    if found.len() == limit {
                        upto = found.last().map_or(seq, |(last, _)| *last);
                        more = true;
                        break 'scan;
                    }
                    found.push((kept.seq, kept.payload.clone()));
                }
                upto = kept.seq;
            }
            if end == ring.events.len() {
                upto = upto.max(self.position());
                break;
            }
        }
        // It was read once before, when the tail brought it.
        let read =
            |(seq, payload): (u64, Arc<[u8]>)| decode(&payload).ok().map(|event| Arc::new(Stored { seq, event }));
        Some(Since { events: found.into_iter().filter_map(read).collect(), upto, more })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::Timestamp;
    use crate::domain::event::{Body, Event, VERSION};
    use crate::domain::ids::{ConversationId, EventId};
    use crate::domain::receipt::Receipt;

    fn event(seq: u64, recipient: u128) -> Tailed {
        let user_id = UserId::from_bits(recipient);
        let conversation_id = ConversationId::from_bits(1);
        let receipt = Receipt { conversation_id, user_id, read_seq: seq, delivered_seq: 0, hidden: false };
        let body = Body::Receipt(receipt);
        let event = Event {
            id: EventId::from_bits(u128::from(seq)),
            version: VERSION,
            actor: user_id,
            occurred_at: Timestamp::from_millis(0),
            recipients: vec![user_id],
            body,
        };
        let mut payload = serde_json::to_vec(&event).expect("an event is JSON");
        payload.resize((1 << 10) - BESIDE, b' ');
        Tailed::Event(Box::new(Stored { seq, event }), payload.into())
    }

    fn seqs(since: Option<Since>) -> Option<(Vec<u64>, u64, bool)> {
        since.map(|since| (since.events.iter().map(|stored| stored.seq).collect(), since.upto, since.more))
    }

    #[test]
    fn everybody_finds_what_concerns_them() {
        let recent = Recent::new(65_536);
        recent.observe(&Tailed::Begins(10));
        for seq in 11..=20 {
            recent.observe(&event(seq, u128::from(seq % 2)));
        }
        recent.observe(&Tailed::Passed(21));
        let user = UserId::from_bits(1);
        assert_eq!(seqs(recent.since(user, 10, 9)), Some((vec![11, 13, 15, 17, 19], 21, false)));
        assert_eq!(seqs(recent.since(user, 15, 9)), Some((vec![17, 19], 21, false)));
        assert_eq!(seqs(recent.since(user, 10, 2)), Some((vec![11, 13], 13, true)));
        let whole = |limit| recent.since(user, 10, limit).map(|since| since.whole().map_err(|error| error.reason()));
        assert_eq!(whole(5).map(|all| all.map(|all| all.len())), Some(Ok(5)));
        assert_eq!(whole(4).map(|all| all.map(|all| all.len())), Some(Err("catching_up")), "a part is not the whole");
        assert_eq!(seqs(recent.since(user, 21, 9)), Some((vec![], 21, false)));
        assert_eq!(seqs(recent.since(user, 9, 9)), None, "it does not reach back that far");
    }

    #[test]
    fn it_is_bounded_and_knows_what_it_has_lost() {
        let recent = Recent::new(65_536);
        recent.observe(&Tailed::Begins(0));
        let count = (BYTES >> 10) as u64 + 100;
        for seq in 1..=count {
            recent.observe(&event(seq, 1));
        }
        assert_eq!(recent.after(), 100);
        assert!(recent.since(UserId::from_bits(1), 99, 9).is_none());
        assert_eq!(seqs(recent.since(UserId::from_bits(2), 100, 9)), Some((vec![], count, false)));
    }
}
