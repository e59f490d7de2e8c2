//! The tail: this instance's own ordered reading of the event log, from now on.
//!
//! An ordered push consumer resumes by sequence after a broker restart, so live push has no gap there. It is decoded here
//! once and handed on in order; the reader must not block, since everybody's live events wait behind it. It begins a little
//! before now: clients that come from another instance find here what they missed.

use std::time::Duration;

use async_nats::jetstream::consumer::push::{Ordered, OrderedConfig};
use async_nats::jetstream::consumer::{DeliverPolicy, ReplayPolicy};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::time::Instant;

use super::topology::StreamName;
use super::{Broker, away, decode, jittered};
use crate::domain::event::Stored;
use crate::error::Result;
use crate::lifecycle::Lifecycle;

/// Events before now that are read first, at most.
const BEFORE: u64 = 20_000;
/// How long reading them may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The log may be ahead of the tail for this long before the tail is taken for deaf.
const DEAF: Duration = Duration::from_secs(5);

/// What the tail hands on.
#[derive(Debug, Clone)]
pub enum Tailed {
    /// An event, and its bytes as the log has them.
    Event(Box<Stored>, Bytes),
    /// The event at this place cannot be read.
    Passed(u64),
    /// The reading begins behind this place.
    Begins(u64),
}

impl Broker {
    /// Reads the log from a little before now on and hands every event to `reader`, in order. What was there before has
    /// been handed over when this returns; `before` says how many events of it are wanted at most.
    pub async fn tail<F>(&self, lifecycle: &Lifecycle, before: u64, mut reader: F) -> Result<()>
    where
        F: FnMut(Tailed) + Send + 'static,
    {
        // From a place, not from "new": a consumer that has not delivered anything yet is made anew from the very first
        // event after a broker restart, and what lies before this place must not be pushed as live.
        let log = self.look().await?;
        let mut last = log.last.saturating_sub(before.min(BEFORE)).max(log.first.saturating_sub(1));
        reader(Tailed::Begins(last));
        let mut messages = self.subscribe(last).await?;
        let until = Instant::now() + PATIENCE;
        while last < log.last {
            let Ok(Some(Ok(message))) = tokio::time::timeout_at(until, messages.next()).await else {
                tracing::warn!(
                    "what was in the log before could not be read in time; clients reload instead of resuming"
                );
                last = log.last;
                reader(Tailed::Begins(last));
                messages = self.subscribe(last).await?;
                break;
            };
            hand_on(self, &message, &mut last, &mut reader);
        }
        let tail = Tail { broker: self.clone(), lifecycle: lifecycle.clone(), last, behind: None };
        lifecycle.background("tail", tail.read(messages, reader));
        Ok(())
    }

    async fn subscribe(&self, last: u64) -> Result<Ordered> {
        let config = OrderedConfig {
            deliver_subject: self.client.new_inbox(),
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: last + 1 },
            replay_policy: ReplayPolicy::Instant,
            ..OrderedConfig::default()
        };
        let consumer = self
            .jetstream
            .create_consumer_on_stream(config, StreamName::Events.name())
            .await
            .map_err(|error| away().caused_by(error))?;
        consumer.messages().await.map_err(|error| away().caused_by(error))
    }
}

/// The task behind a tail.
struct Tail {
    broker: Broker,
    lifecycle: Lifecycle,
    last: u64,
    /// Since when the log is known to be ahead, and where the tail was then.
    behind: Option<(Instant, u64)>,
}

impl Tail {
    async fn read<F: FnMut(Tailed) + Send>(mut self, mut messages: Ordered, mut reader: F) -> Result<()> {
        let draining = self.lifecycle.draining();
        let mut look = tokio::time::interval(Duration::from_secs(1));
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let next = tokio::select! {
                next = messages.next() => next,
                _ = look.tick() => {
                    if !self.is_deaf() {
                        continue;
                    }
                    tracing::warn!(tail.seq = self.last, "the log goes on and the tail hears nothing; it is made anew");
                    None
                }
                () = draining.cancelled() => {
                    self.drain(messages, reader).await;
                    return Ok(());
                }
            };
            match next {
                Some(Ok(message)) => {
                    hand_on(&self.broker, &message, &mut self.last, &mut reader);
                    continue;
                }
                Some(Err(error)) => tracing::warn!(error = %error, "the tail was interrupted"),
                None => {}
            }
            match self.resubscribe().await {
                Some(again) => messages = again,
                None => return Ok(()),
            }
        }
    }

    /// Whether the log has gone on for a while without this tail having moved, on a link that answers.
    fn is_deaf(&mut self) -> bool {
        let ahead = self.broker.log().last > self.last && self.broker.is_reachable();
        match self.behind {
            Some((since, at)) if ahead && at == self.last => {
                let deaf = since.elapsed() >= DEAF;
                if deaf {
                    self.behind = None;
                }
                deaf
            }
            _ => {
                self.behind = ahead.then(|| (Instant::now(), self.last));
                false
            }
        }
    }

    /// While the instance drains, what is already on its way is still pushed, for a moment.
    async fn drain<F: FnMut(Tailed)>(&mut self, mut messages: Ordered, mut reader: F) {
        const QUIET: Duration = Duration::from_millis(300);
        const LONGEST: Duration = Duration::from_secs(3);
        let ending = self.lifecycle.ending();
        let until = Instant::now() + LONGEST;
        while let Ok(Some(Ok(message))) = tokio::time::timeout(QUIET, messages.next()).await {
            if ending.is_cancelled() || Instant::now() > until {
                break;
            }
            hand_on(&self.broker, &message, &mut self.last, &mut reader);
        }
    }

    /// Subscribes again, however long that takes; nothing if the instance drains meanwhile.
    async fn resubscribe(&self) -> Option<Ordered> {
        let draining = self.lifecycle.draining();
        let mut wait = Duration::from_millis(100);
        loop {
            match self.broker.subscribe(self.last).await {
                Ok(messages) => return Some(messages),
                Err(error) => tracing::warn!(error = %error, "the tail cannot be resumed yet"),
            }
            tokio::select! {
                () = tokio::time::sleep(jittered(wait)) => {}
                () = draining.cancelled() => return None,
            }
            wait = (wait * 2).min(Duration::from_secs(2));
        }
    }
}

/// Hands an event on unless it was before.
fn hand_on<F: FnMut(Tailed)>(
    broker: &Broker,
    message: &async_nats::jetstream::Message,
    last: &mut u64,
    reader: &mut F,
) {
    let seq = match message.info() {
        Ok(info) => info.stream_sequence,
        Err(error) => {
            tracing::error!(error = %error, "a delivery of the tail has no place in the log");
            return;
        }
    };
    if seq <= *last {
        return;
    }
    if seq > *last + 1 {
        // The log was trimmed beyond the place where this tail was: what lies between is gone for it.
        tracing::error!(event.seq = seq, tail.seq = *last, "the tail has missed a part of the log");
        reader(Tailed::Begins(seq - 1));
    }
    *last = seq;
    broker.link.grew(seq, message.length as u64);
    broker.metrics.tail_at(seq);
    match decode(&message.payload) {
        Ok(event) => {
            broker.link.accounts(&event);
            reader(Tailed::Event(Box::new(Stored { seq, event }), message.payload.clone()));
        }
        Err(error) => {
            // `persist` sends it to the dead letters; here nobody can be told anything.
            tracing::error!(event.seq = seq, error = %error, "an event cannot be read and is not pushed");
            reader(Tailed::Passed(seq));
        }
    }
}
