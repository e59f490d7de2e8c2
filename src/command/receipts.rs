//! Marks: how far messages have come to somebody, and how far they have read.
//!
//! Marking is two steps. The first authorises and needs no database; the second finds the place, waits for the burst that
//! the mark goes out with, and may be done on the side. A mark that is there already is answered without an event.

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use super::Commands;
use super::bursts::{Burst, Bursts, Line};
use super::directory::Entry;
use crate::auth::Actor;
use crate::broker::publish::{Pending, Publisher};
use crate::domain::clock::Clock;
use crate::domain::event::{self, Body, Event};
use crate::domain::frame::Carried;
use crate::domain::ids::{ConversationId, MessageId, UserId};
use crate::domain::receipt::{Marks, Receipt};
use crate::domain::rights::Act;
use crate::domain::trace::TraceContext;
use crate::error::{Error, Result};
use crate::lifecycle::Lifecycle;
use crate::store::Haste;

/// Marks in line, at most; behind that they are refused.
const QUEUE: usize = 4_096;
/// Places and marks that are looked up at once, at most.
const LOOK_UPS: usize = 64;

/// What is marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Messages have come.
    Delivered,
    /// Messages were read.
    Read,
}

/// How far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UpTo {
    /// Everything that this instance has seen.
    #[default]
    Seen,
    /// Up to this place.
    Seq(u64),
    /// Up to this message.
    Message(MessageId),
}

impl UpTo {
    /// Reads it as clients write it: a seq, the id of a message, or nothing.
    pub fn read(written: Option<&serde_json::Value>) -> Result<Self> {
        let malformed = || Error::invalid("malformed_up_to", "upTo is a seq or the id of a message");
        match written {
            None | Some(serde_json::Value::Null) => Ok(Self::Seen),
            Some(serde_json::Value::Number(seq)) => seq.as_u64().map(Self::Seq).ok_or_else(malformed),
            Some(serde_json::Value::String(id)) => id.parse().map(Self::Message),
            Some(_) => Err(malformed()),
        }
    }
}

/// A mark that may be made.
#[must_use = "a mark counts only once it is stored"]
#[derive(Debug)]
pub struct Marking {
    entry: Arc<Entry>,
    user: UserId,
    mark: Mark,
    up_to: UpTo,
    /// The newest message, as far as this instance had seen.
    head: u64,
    trace: Option<TraceContext>,
}

/// Where somebody's marks are.
#[derive(Debug, Clone, Copy)]
pub struct Marked {
    /// Where.
    pub conversation_id: ConversationId,
    /// How far they have read.
    pub read_seq: u64,
    /// How far it has come to them.
    pub delivered_seq: u64,
}

/// Somebody who waits for a mark.
#[derive(Debug)]
struct Waiter {
    entry: Arc<Entry>,
    trace: Option<TraceContext>,
    answer: oneshot::Sender<Result<()>>,
}

type Asked = (UserId, Marks, Waiter);
type Answer = oneshot::Receiver<Result<()>>;

/// Publishes marks in bursts; cheap to clone.
#[derive(Debug, Clone)]
pub struct Receipts {
    asked: mpsc::Sender<Asked>,
    look_ups: Arc<Semaphore>,
}

impl Receipts {
    /// Starts the task that publishes marks.
    #[must_use]
    pub fn start(publisher: Publisher, clock: Clock, lifecycle: &Lifecycle) -> Self {
        let (asked, queue) = mpsc::channel(QUEUE);
        lifecycle.service("receipts", Telling { publisher, clock }.work(queue));
        Self { asked, look_ups: Arc::new(Semaphore::new(LOOK_UPS)) }
    }

    /// Puts marks in line; the answer comes once the log has them.
    fn ask(&self, user: UserId, marks: Marks, entry: Arc<Entry>, trace: Option<TraceContext>) -> Result<Answer> {
        let (answer, told) = oneshot::channel();
        self.asked.try_send((user, marks, Waiter { entry, trace, answer })).map_err(|_| busy())?;
        Ok(told)
    }
}

impl Commands {
    /// Authorises a mark of the caller's.
    pub async fn mark(
        &self,
        actor: &Actor,
        conversation_id: ConversationId,
        mark: Mark,
        up_to: UpTo,
        trace: Option<TraceContext>,
    ) -> Result<Marking> {
        let now = self.clock.now();
        actor.check_expiry(now)?;
        let entry = self.directory.for_participant(conversation_id, actor.user_id).await?;
        self.limits.admit_mark(actor.user_id, now)?;
        entry.require(actor, Act::Read)?;
        let head = self.directory.head(&entry).await?;
        Ok(Marking { entry, user: actor.user_id, mark, up_to, head, trace })
    }

    /// Waits until the log has the mark. It only moves forward: a lower one is answered with what is there.
    pub async fn marked(&self, marking: Marking) -> Result<Marked> {
        let (entry, user) = (marking.entry.clone(), marking.user);
        if let Some(answer) = self.line_up(marking).await? {
            answer.await.unwrap_or_else(|_| Err(busy()))?;
        }
        let Marks { read, shown, delivered } = entry.known(user);
        Ok(Marked { conversation_id: entry.conversation.id, read_seq: read, delivered_seq: delivered.max(shown) })
    }

    /// A client of the caller has confirmed that it has got a message. Nobody waits for the mark.
    pub async fn confirm(&self, actor: &Actor, carried: Carried) -> Result<()> {
        let Carried { conversation_id, sender_id, seq } = carried;
        // Nobody is to know that they are there, unless they say so themselves; and no sender from whom a block keeps that.
        let preferences = self.preferred.live([actor.user_id, sender_id]).await?;
        let invisible = preferences.of(actor.user_id).is_none_or(|own| own.invisible);
        if invisible || preferences.blocked_between(actor.user_id, sender_id) {
            return Ok(());
        }
        let marking = self.mark(actor, conversation_id, Mark::Delivered, UpTo::Seq(seq), None).await?;
        self.line_up(marking).await.map(drop)
    }

    /// Puts a mark in line, unless it is there already.
    async fn line_up(&self, marking: Marking) -> Result<Option<Answer>> {
        let Marking { entry, user, mark, up_to, head, trace } = marking;
        let seq = match up_to {
            UpTo::Seen => head,
            UpTo::Seq(seq) => seq,
            UpTo::Message(id) => self.place(&entry, user, id).await?,
        };
        if seq > head && seq > self.directory.newest(&entry).await? {
            return Err(Error::invalid("mark_beyond_head", "upTo is beyond the newest message of this conversation"));
        }
        let conversation_id = entry.conversation.id;
        let receipt = match mark {
            Mark::Delivered => {
                Receipt { conversation_id, user_id: user, read_seq: 0, delivered_seq: seq, hidden: false }
            }
            Mark::Read => {
                // While that cannot be known it is hidden: the next mark makes up for it, but nothing told is taken back.
                let (preferences, _) = self.preferred.some([user], Haste::Live).await;
                let hidden = preferences.of(user).is_none_or(|one| one.hide_read_receipts);
                Receipt { conversation_id, user_id: user, read_seq: seq, delivered_seq: 0, hidden }
            }
        };
        if seq < head && !entry.known(user).covers(&receipt) {
            // Another instance may know of a higher one. Nothing is lost if that cannot be found out: no mark ever falls.
            if let Ok(_one) = self.receipts.look_ups.try_acquire()
                && let Err(error) = self.directory.recall(&entry).await
            {
                tracing::debug!(error = %error, "how far the participants are cannot be looked up right now");
            }
        }
        if entry.known(user).covers(&receipt) {
            return Ok(None);
        }
        let mut marks = Marks::default();
        marks.apply(&receipt);
        self.receipts.ask(user, marks, entry, trace).map(Some)
    }

    /// Where a message stands that exists for this user.
    async fn place(&self, entry: &Entry, user: UserId, id: MessageId) -> Result<u64> {
        let _one = self.receipts.look_ups.try_acquire().map_err(|_| busy())?;
        let found = self.lookup.find(entry.conversation.id, id, entry.sight(user).from).await?;
        found.look(|state| state.seq)
    }
}

fn busy() -> Error {
    Error::unavailable("busy", "the server has too much in hand right now, try again")
        .retry_after(std::time::Duration::from_millis(500))
}

/// What the task needs.
struct Telling {
    publisher: Publisher,
    clock: Clock,
}

impl Telling {
    async fn work(self, mut queue: mpsc::Receiver<Asked>) -> Result<()> {
        let mut bursts = Bursts::<Waiter>::default();
        let mut under_way = FuturesUnordered::new();
        loop {
            let rest = bursts.rest();
            tokio::select! {
                asked = queue.recv(), if !bursts.is_full() => {
                    let Some((user, marks, waiter)) = asked else { return Ok(()) };
                    let line = (waiter.entry.conversation.id, user);
                    under_way.extend(bursts.ask(line, marks, waiter, Instant::now()).map(|burst| self.publish(line, burst)));
                }
                Some((line, outcome)) = under_way.next() => {
                    if let Some(burst) = bursts.done(line) {
                        answer(line, burst, &outcome);
                    }
                    under_way.extend(bursts.go_on(line, Instant::now()).map(|burst| self.publish(line, burst)));
                }
                () = tokio::time::sleep_until(rest.unwrap_or_else(Instant::now)), if rest.is_some() => {
                    let now = Instant::now();
                    while let Some(line) = bursts.rested(now) {
                        under_way.extend(bursts.go_on(line, now).map(|burst| self.publish(line, burst)));
                    }
                }
            }
        }
    }

    /// Puts the events of a burst in line; resolves once the log has them.
    fn publish(&self, line: Line, burst: &Burst<Waiter>) -> impl Future<Output = (Line, Result<()>)> + use<> {
        let (conversation_id, user_id) = line;
        let pending: Result<Vec<Pending>> = match burst.waiting.last() {
            None => Ok(Vec::new()),
            Some(last) => burst
                .marks
                .receipts(conversation_id, user_id)
                .map(|receipt| {
                    let everybody = last.entry.conversation.users();
                    let event = Event {
                        id: self.clock.fresh_id(),
                        version: event::VERSION,
                        actor: user_id,
                        occurred_at: self.clock.now(),
                        recipients: if receipt.hidden { vec![user_id] } else { everybody.collect() },
                        body: Body::Receipt(receipt),
                    };
                    self.publisher.enqueue(&event, last.trace)
                })
                .collect(),
        };
        async move {
            let stored = async {
                for one in pending? {
                    one.stored().await?;
                }
                Ok(())
            };
            (line, stored.await)
        }
    }
}

/// Tells those who wait for a burst. What is stored is known at once, before the tail brings it.
fn answer((_, user): Line, burst: Burst<Waiter>, outcome: &Result<()>) {
    for waiter in burst.waiting {
        if outcome.is_ok() {
            waiter.entry.note(user, burst.marks);
        }
        let _ = waiter.answer.send(outcome.as_ref().map_err(Error::echo).copied());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_is_a_seq_or_a_message_or_everything() {
        let read = |json: &str| UpTo::read(Some(&serde_json::from_str(json).expect("JSON")));
        assert_eq!(UpTo::read(None).expect("nothing"), UpTo::Seen);
        assert_eq!(read("null").expect("nothing"), UpTo::Seen);
        assert_eq!(read("7").expect("a seq"), UpTo::Seq(7));
        let id = MessageId::from_bits(9);
        assert_eq!(read(&format!("\"{id}\"")).expect("an id"), UpTo::Message(id));
        for wrong in ["-1", "1.5", "true", "[]", "{}"] {
            assert_eq!(read(wrong).expect_err("refused").reason(), "malformed_up_to", "{wrong}");
        }
        for wrong in ["\"\"", "\"7\"", "\"cnv_00000000000000000000000005\""] {
            assert_eq!(read(wrong).expect_err("refused").reason(), "malformed_id", "{wrong}");
        }
    }
}
