//! Resuming: what somebody has missed since a cursor.
//!
//! Out of the window if that reaches back far enough. Else out of the log: the conversations that changed are in MongoDB,
//! and the broker reads each of them, and the user's inbox, by subject. Both ways go by subject and recipients and never by
//! kind, so that a new kind of event is covered the day it exists. Whatever cannot be told completely is not told as if it
//! were: the answer says so, and gives a fresh cursor to go on from after a reload.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::Semaphore;

use super::Queries;
use crate::broker::read::Found;
use crate::broker::subject::{ChatKind, Filter, Subject};
use crate::domain::cursor::Cursor;
use crate::domain::event::{Body, Stored};
use crate::domain::ids::UserId;
use crate::domain::roster::Roster;
use crate::error::Result;

/// Conversations that may have changed, at most; whoever missed more is quicker with a reload.
const CONVERSATIONS: u32 = 500;
/// Readings of the log at once, for all clients of an instance.
pub(super) const READERS: usize = 4;
/// Conversations that one reader reads at once.
const AT_ONCE: usize = 8;
/// How long a cursor may be ahead of this instance, as another one may be a moment faster.
const AHEAD: Duration = Duration::from_secs(1);

/// Why what was missed is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// The client has none yet.
    NoCursor,
    /// It cannot be read.
    MalformedCursor,
    /// It is from another log.
    UnknownEpoch,
    /// It points behind the end of the log.
    AheadOfLog,
    /// The log no longer reaches back that far.
    TooOld,
    /// There is more than a replay may have.
    TooMuch,
    /// A part that is needed is away; the same cursor can be tried again later.
    Unavailable,
}

impl Lost {
    /// The word, as on the wire.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::NoCursor => "no_cursor",
            Self::MalformedCursor => "malformed_cursor",
            Self::UnknownEpoch => "unknown_epoch",
            Self::AheadOfLog => "ahead_of_log",
            Self::TooOld => "too_old",
            Self::TooMuch => "too_much",
            Self::Unavailable => "unavailable",
        }
    }
}

/// What somebody has missed.
#[derive(Debug)]
pub struct Missed {
    /// The events, in order.
    pub events: Vec<Arc<Stored>>,
    /// Where to resume from next.
    pub cursor: Cursor,
    /// There are more behind this cursor.
    pub more: bool,
}

/// The answer to a cursor.
#[derive(Debug)]
pub enum Resumed {
    /// Everything up to the cursor in it.
    Recovered(Missed),
    /// Nothing, and where to go on from after a reload.
    Lost(Lost, Cursor),
}

/// Bounds the readings of the log.
#[derive(Debug, Clone)]
pub struct Readers(Arc<Semaphore>);

impl Default for Readers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(READERS)))
    }
}

impl Queries {
    /// Where the live events of this instance are.
    #[must_use]
    pub fn position(&self) -> Cursor {
        Cursor { epoch: self.broker.epoch(), seq: self.recent.position() }
    }

    /// What a user has missed since a cursor, at most `limit` events.
    pub async fn missed(&self, user: UserId, cursor: &str, limit: usize) -> Resumed {
        let resumed = self.find_missed(user, cursor, limit).await;
        self.metrics.resumed(match &resumed {
            Resumed::Recovered(_) => "recovered",
            Resumed::Lost(lost, _) => lost.word(),
        });
        resumed
    }

    async fn find_missed(&self, user: UserId, cursor: &str, limit: usize) -> Resumed {
        let Ok(cursor) = cursor.parse::<Cursor>() else {
            return Resumed::Lost(Lost::MalformedCursor, self.position());
        };
        if cursor.epoch != self.broker.epoch() {
            return Resumed::Lost(Lost::UnknownEpoch, self.position());
        }
        if cursor.seq > self.recent.position() && !self.recent.reaches(cursor.seq, AHEAD).await {
            return match self.broker.head().await {
                Ok(head) if head < cursor.seq => Resumed::Lost(Lost::AheadOfLog, self.position()),
                // It is this instance that is behind.
                _ => Resumed::Lost(Lost::Unavailable, cursor),
            };
        }
        if let Some(since) = self.recent.since(user, cursor.seq, limit) {
            let cursor = Cursor { seq: since.upto, ..cursor };
            return Resumed::Recovered(Missed { events: since.events, cursor, more: since.more });
        }
        match self.missed_long_ago(user, cursor, limit).await {
            Ok(Ok(missed)) => Resumed::Recovered(missed),
            Ok(Err(lost)) => Resumed::Lost(lost, self.position()),
            Err(error) => {
                tracing::warn!(error = %error, "a client cannot be told right now what it missed");
                Resumed::Lost(Lost::Unavailable, cursor)
            }
        }
    }

    /// A part of the log, with the recipients that the window would have.
    async fn read_again(&self, filter: Filter, from: u64, limit: usize) -> Result<Found> {
        let mut found = self.broker.read(filter, from, limit).await?;
        if let Filter::Conversation(id) = filter {
            // As it was where the reading begins: whoever published the first events may not have known that yet.
            let known = self.directory.kept(id).filter(|entry| (1..from).contains(&entry.seq()));
            let before = match &known {
                Some(_) => None,
                None => self.broker.last_until(Subject::Chat(id, ChatKind::Conversation), from - 1).await?,
            };
            let before = before.as_ref().and_then(|stored| match &stored.event.body {
                Body::Conversation(conversation) => Some((stored.seq, conversation)),
                _ => None,
            });
            let known = known.as_ref().map(|entry| (entry.seq(), &entry.conversation)).or(before);
            Roster::replay(known, &mut found.events);
        }
        Ok(found)
    }

    async fn missed_long_ago(&self, user: UserId, cursor: Cursor, limit: usize) -> Result<Result<Missed, Lost>> {
        let _reader = self.readers.0.acquire().await.map_err(crate::error::Error::internal)?;
        let log = self.broker.look().await?;
        if cursor.seq + 1 < log.first {
            return Ok(Err(Lost::TooOld));
        }
        // Where the window begins; it may move on meanwhile, but what was in it stays in the log.
        let window = self.recent.after();
        // MongoDB must know every conversation that changed before that.
        if self.broker.projected().await? < window {
            return Err(crate::broker::away());
        }
        let changed = self.store.conversations_changed_since(user, cursor.seq, CONVERSATIONS + 1).await?;
        if changed.len() > CONVERSATIONS as usize {
            return Ok(Err(Lost::TooMuch));
        }
        let filters = changed.into_iter().map(Filter::Conversation).chain([Filter::Inbox(user)]);
        let mut reads = futures_util::stream::iter(filters)
            .map(|filter| self.read_again(filter, cursor.seq + 1, limit + 1))
            .buffer_unordered(AT_ONCE);
        let mut events: BTreeMap<u64, Arc<Stored>> = BTreeMap::new();
        // Up to where the window begins, since behind that there may be conversations that MongoDB does not know yet; and
        // no further than the first reading that was cut off.
        let mut edge = window;
        while let Some(found) = reads.next().await {
            let found = found?;
            if found.more {
                edge = edge.min(found.upto);
            }
            for stored in found.events {
                if stored.seq <= edge && stored.event.recipients.contains(&user) {
                    events.insert(stored.seq, Arc::new(stored));
                }
            }
            while events.last_key_value().is_some_and(|(seq, _)| *seq > edge) || events.len() > limit + 1 {
                events.pop_last();
            }
        }
        drop(reads);
        if cursor.seq + 1 < self.broker.look().await?.first {
            return Ok(Err(Lost::TooOld));
        }
        let fits = events.len() <= limit;
        let mut events: Vec<Arc<Stored>> = events.into_values().take(limit).collect();
        let (mut upto, mut more) =
            if fits { (edge, edge < window) } else { (events.last().map_or(edge, |last| last.seq), true) };
        if !more {
            // If the window has moved on meanwhile, the next page begins where this one ends.
            match self.recent.since(user, window, limit - events.len()) {
                Some(newest) => {
                    events.extend(newest.events);
                    (upto, more) = (newest.upto, newest.more);
                }
                None => more = true,
            }
        }
        Ok(Ok(Missed { events, cursor: Cursor { seq: upto, ..cursor }, more }))
    }
}
