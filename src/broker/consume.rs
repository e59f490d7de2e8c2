//! Durable consumers: takes deliveries in batches, asks a handler, and is the only place that acknowledges.
//!
//! A handler decides and never acks. What it cannot do now because a part is away is held here and tried again, however
//! long that takes, without the broker counting attempts. What it rejects is copied to DEAD, with the reason, before it is
//! taken off the consumer; a handler that panics rejects the one delivery that makes it panic. Nothing is acknowledged and
//! forgotten.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::consumer::{Consumer, pull::Stream as Messages};
use async_nats::jetstream::{AckKind, Message};
use async_nats::{HeaderMap, HeaderValue};
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::apart::Apart;
use super::dead::Death;
use super::quarantine::Quarantine;
use super::subject::Original;
use super::topology::Durable;
use super::{Broker, away, decode, jittered};
use crate::domain::event::Stored;
use crate::domain::trace::TraceContext;
use crate::error::{Error, Result};
use crate::lifecycle::Lifecycle;
use crate::metrics::Settlement;
use crate::telemetry::trace_of;

/// The header that carries the trace context (W3C).
pub(super) const TRACEPARENT: &str = "traceparent";

/// Deliveries of one batch, at most. A batch costs the database about the same few syncs whatever its size, so a consumer
/// that is behind catches up by larger ones: with 500, a saturated machine fell behind; with 2,000 it did not.
const BATCH: usize = 2_000;
/// Attachments are worked on one by one: each takes long, and what lies here is done by nobody else.
const ONE: usize = 1;
/// Bytes of one batch of ORDERS, about: an event there may be a thousand times as large as another, and the database takes
/// a batch within seconds or not at all. The log has what clients send, and they may send little at once.
const BATCH_BYTES: usize = 8 << 20;
/// How long a batch waits to fill.
const LINGER: Duration = Duration::from_millis(5);
/// A delivery that was tried this often goes to the dead letters.
const ATTEMPTS: i64 = 10;
/// A delivery that came back this often without a verdict brings its instances down: it is not tried again.
const CRASHES: i64 = 100;
/// After the drain has begun, what the broker has sent already is worked on this long.
const DRAIN: Duration = Duration::from_secs(2);
/// Nothing came for this long: what the broker had sent before the drain is here.
const QUIET: Duration = Duration::from_millis(50);
/// So many clients that wait for an answer are a burst: what they ask comes first, and consumers work off what it meant
/// when it is over.
const BURST: usize = 32;
/// A consumer that has been behind for this long gives way no more.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest it rests at once.
const LONGEST_REST: Duration = Duration::from_millis(500);
/// A batch of this size says that more is waiting.
const BEHIND: usize = BATCH / 8;
/// The longest pause before a part that is away is tried again; well below the broker's ack wait.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What a handler decides about a delivery.
#[derive(Debug)]
pub enum Verdict {
    /// It is done; it may be done again without harm.
    Done,
    /// Not now.
    Retry {
        /// When to try again.
        after: Duration,
        /// Why not now.
        why: Error,
    },
    /// Never. It is copied to DEAD, then taken off the consumer.
    Reject {
        /// Why.
        why: Error,
    },
}

/// What a consumer was given, before anybody has looked at it.
#[derive(Debug)]
pub struct Raw {
    /// Its place in its stream.
    pub seq: u64,
    /// Its subject.
    pub subject: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its bytes.
    pub payload: Bytes,
}

impl Raw {
    /// A header of it.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(HeaderValue::as_str)
    }

    /// Every header of it; of one that is there more than once, each value.
    #[must_use]
    pub fn pairs(&self) -> Vec<(String, String)> {
        let all = self.headers.iter().flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
        all.map(|(name, value)| (name.to_string(), value.as_str().to_owned())).collect()
    }

    /// The trace that caused it.
    #[must_use]
    pub fn trace(&self) -> TraceContext {
        trace_of(self.header(TRACEPARENT))
    }
}

/// What a handler is given, as it wants to be given it.
pub trait Parcel: Sized + Send + Sync + 'static {
    /// Opens it; what cannot be opened is dead at once.
    fn open(raw: Raw) -> Result<Self>;
}

impl Parcel for Raw {
    fn open(raw: Raw) -> Result<Self> {
        Ok(raw)
    }
}

/// An event for a handler.
#[derive(Debug)]
pub struct Delivery {
    /// The event and its place.
    pub stored: Stored,
    /// The trace that caused it.
    pub trace: TraceContext,
}

impl Parcel for Delivery {
    fn open(raw: Raw) -> Result<Self> {
        let trace = raw.trace();
        Ok(Self { stored: Stored { seq: raw.seq, event: decode(&raw.payload)? }, trace })
    }
}

/// Decides about deliveries. It must be idempotent: a crash delivers again what was done but not acknowledged.
pub trait Handler: Send + Sync + 'static {
    /// What it is given.
    type Given: Parcel;

    /// One verdict for each delivery, in order.
    fn handle(&self, batch: &[Self::Given]) -> impl Future<Output = Vec<Verdict>> + Send;
}

/// Deliveries that are worked on together.
struct Batch {
    messages: Vec<Message>,
    /// Deliveries that it takes.
    most: usize,
    /// Bytes that it still takes, about.
    room: usize,
}

impl Batch {
    fn push(&mut self, message: Message) {
        self.room = self.room.saturating_sub(message.length);
        self.messages.push(message);
    }

    const fn is_full(&self) -> bool {
        self.messages.len() >= self.most || self.room == 0
    }
}

/// A delivery and the means to settle it.
struct Held<T> {
    parcel: T,
    place: Place,
    message: Message,
}

/// Which delivery this is.
#[derive(Clone, Copy)]
struct Place {
    seq: u64,
    attempts: i64,
    trace: TraceContext,
}

impl Broker {
    /// Runs a durable consumer until the instance drains.
    pub fn consume(&self, durable: Durable, lifecycle: &Lifecycle, handler: impl Handler) {
        let runner = Runner { broker: self.clone(), durable, handler, lifecycle: lifecycle.clone() };
        lifecycle.background(durable.name(), async move { runner.run().await });
    }
}

struct Runner<H> {
    broker: Broker,
    durable: Durable,
    handler: H,
    lifecycle: Lifecycle,
}

impl<H: Handler> Runner<H> {
    async fn run(&self) -> Result<()> {
        let draining = self.lifecycle.draining();
        let mut wait = Duration::from_millis(100);
        let mut ward = Quarantine::of(&self.broker, self.durable);
        while !draining.is_cancelled() {
            match self.open(ward.is_some()).await {
                Ok((messages, way)) => {
                    wait = Duration::from_millis(100);
                    let pulled = self.pull(messages, &way.lost, ward.as_mut()).await;
                    way.close().await;
                    if let Some(ward) = ward.as_mut().filter(|_| !draining.is_cancelled()) {
                        // It may be something that came in which ended it, and would end it again.
                        ward.inspect(&draining).await;
                    }
                    match pulled {
                        Ok(()) => continue,
                        Err(error) => {
                            tracing::warn!(consumer.name = self.durable.name(), error = %error, "a consumer was interrupted");
                        }
                    }
                }
                Err(error) => {
                    tracing::warn!(consumer.name = self.durable.name(), error = %error, "a consumer cannot be opened yet");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(jittered(wait)) => {}
                () = draining.cancelled() => {}
            }
            wait = (wait * 2).min(Duration::from_secs(2));
        }
        Ok(())
    }

    /// The deliveries, and the way on which they come.
    async fn open(&self, apart: bool) -> Result<(Messages, Apart)> {
        let lost = |error: &dyn std::fmt::Display| away().caused_by(error.to_string());
        let way = if apart { self.broker.apart().await? } else { self.broker.together() };
        let consumer: Consumer<pull::Config> = way
            .jetstream
            .get_consumer_from_stream(self.durable.name(), self.durable.stream().name())
            .await
            .map_err(|error| lost(&error))?;
        let mut stream = consumer.stream().max_messages_per_batch(self.most());
        if let Some(bytes) = self.most_bytes() {
            // What lies here unopened is not delivered elsewhere for a while, and then it is.
            stream = stream.max_bytes_per_batch(bytes);
        }
        let messages = stream
            .expires(Duration::from_secs(30))
            .heartbeat(Duration::from_secs(10))
            .messages()
            .await
            .map_err(|error| lost(&error))?;
        Ok((messages, way))
    }

    /// Deliveries of a batch.
    fn most(&self) -> usize {
        if self.durable == Durable::Previews { ONE } else { BATCH }
    }

    /// The bytes of a batch, if they are limited.
    fn most_bytes(&self) -> Option<usize> {
        (self.durable == Durable::Orders).then_some(BATCH_BYTES)
    }

    fn batch(&self) -> Batch {
        Batch { messages: Vec::new(), most: self.most(), room: self.most_bytes().unwrap_or(usize::MAX) }
    }

    async fn pull(
        &self,
        mut messages: Messages,
        lost: &CancellationToken,
        mut ward: Option<&mut Quarantine>,
    ) -> Result<()> {
        let draining = self.lifecycle.draining();
        let mut behind: Option<Instant> = None;
        loop {
            let first = tokio::select! {
                biased;
                () = draining.cancelled() => {
                    self.drain(messages).await;
                    return Ok(());
                }
                () = Quarantine::due(ward.as_deref()) => {
                    if let Some(ward) = &mut ward {
                        ward.look(&draining).await;
                    }
                    continue;
                }
                first = messages.next() => first,
                () = lost.cancelled() => return Err(away().caused_by("its connection was lost")),
            };
            let Some(first) = first else { return Ok(()) };
            let mut batch = self.batch();
            batch.push(first.map_err(|error| away().caused_by(error))?);
            let full = tokio::time::sleep(LINGER);
            tokio::pin!(full);
            let mut interrupted = None;
            while !batch.is_full() {
                tokio::select! {
                    biased;
                    next = messages.next() => match next {
                        Some(Ok(message)) => batch.push(message),
                        Some(Err(error)) => {
                            interrupted = Some(away().caused_by(error));
                            break;
                        }
                        None => break,
                    },
                    () = &mut full => break,
                }
            }
            let (begin, size) = (Instant::now(), batch.messages.len());
            self.settle(batch.messages).await;
            if let Some(error) = interrupted {
                return Err(error);
            }
            if lost.is_cancelled() {
                return Err(away().caused_by("its connection was lost"));
            }
            behind = if size < BEHIND { None } else { behind.or(Some(begin)) };
            if behind.is_some_and(|since| since.elapsed() < PATIENCE) && self.broker.link.unanswered() >= BURST {
                let rest = (begin.elapsed() * 2).min(LONGEST_REST);
                tokio::select! {
                    () = tokio::time::sleep(rest) => {}
                    () = draining.cancelled() => {}
                }
            }
        }
    }

    /// Works on what the broker has sent already, for a while: it would only be delivered elsewhere after the broker's ack
    /// wait, as what is left after that while is. Nothing is given back by name, since the broker would send it here again.
    async fn drain(&self, mut messages: Messages) {
        let until = tokio::time::Instant::now() + DRAIN;
        let mut batch = self.batch();
        while tokio::time::Instant::now() < until {
            let Ok(Some(Ok(message))) = tokio::time::timeout(QUIET, messages.next()).await else { break };
            batch.push(message);
            if batch.is_full() {
                self.settle(std::mem::replace(&mut batch, self.batch()).messages).await;
            }
        }
        drop(messages);
        self.settle(batch.messages).await;
    }

    /// Works on a batch until each of its deliveries is acknowledged, given back or dead.
    async fn settle(&self, batch: Vec<Message>) {
        let mut held = Vec::with_capacity(batch.len());
        for message in batch {
            held.extend(self.take(message).await);
        }
        let mut pause = Duration::from_millis(100);
        while !held.is_empty() {
            held = self.try_once(held).await;
            if held.is_empty() {
                return;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
            tokio::select! {
                () = tokio::time::sleep(jittered(pause)) => {}
                () = self.lifecycle.draining().cancelled_owned() => {
                    for one in held.drain(..) {
                        acknowledge(&one.message, AckKind::Nak(None)).await;
                    }
                }
            }
            for one in &held {
                acknowledge(&one.message, AckKind::Progress).await;
            }
        }
    }

    /// Opens a delivery; what cannot be opened is dead at once.
    async fn take(&self, message: Message) -> Option<Held<H::Given>> {
        let (seq, attempts) = match message.info() {
            Ok(info) => (info.stream_sequence, info.delivered),
            Err(error) => {
                tracing::error!(consumer.name = self.durable.name(), error = %error, "a delivery without a place");
                acknowledge(&message, AckKind::Nak(Some(LONGEST_PAUSE))).await;
                return None;
            }
        };
        if attempts > CRASHES {
            self.bury(&message, attempts, &Error::internal("delivered again and again without a verdict")).await;
            return None;
        }
        let raw = Raw {
            seq,
            subject: message.subject.to_string(),
            headers: message.headers.clone().unwrap_or_default(),
            payload: message.payload.clone(),
        };
        let place = Place { seq, attempts, trace: raw.trace() };
        match H::Given::open(raw) {
            Ok(parcel) => Some(Held { parcel, place, message }),
            Err(why) => {
                self.bury(&message, attempts, &why).await;
                None
            }
        }
    }

    /// Asks the handler once and settles what it decided; returns what has to wait for a part that is away.
    async fn try_once(&self, held: Vec<Held<H::Given>>) -> Vec<Held<H::Given>> {
        let (mut parcels, mut rest) = (Vec::with_capacity(held.len()), Vec::with_capacity(held.len()));
        for one in held {
            parcels.push(one.parcel);
            rest.push((one.place, one.message));
        }
        let verdicts = self.ask(&parcels).await;
        let mut waiting: Vec<Held<H::Given>> = Vec::new();
        for ((parcel, (place, message)), verdict) in parcels.into_iter().zip(rest).zip(verdicts) {
            if waiting.is_empty()
                && let Verdict::Retry { why, .. } = &verdict
                && why.transient()
            {
                tracing::warn!(consumer.name = self.durable.name(), error = %why, "a consumer has to wait");
            }
            let span = tracing::debug_span!(
                "delivery",
                consumer.name = self.durable.name(),
                event.seq = place.seq,
                attempts = place.attempts,
                trace.id = format_args!("{:032x}", place.trace.trace),
            );
            waiting.extend(self.settle_one(Held { parcel, place, message }, verdict).instrument(span).await);
        }
        waiting
    }

    fn count(&self, settlement: Settlement) {
        self.broker.metrics.settled(self.durable.name(), settlement);
    }

    /// Settles one delivery; gives it back if it has to wait for a part that is away.
    async fn settle_one(&self, held: Held<H::Given>, verdict: Verdict) -> Option<Held<H::Given>> {
        let attempts = held.place.attempts;
        match verdict {
            Verdict::Done => {
                acknowledge(&held.message, AckKind::Ack).await;
                self.count(Settlement::Done);
                tracing::trace!("a delivery is done");
            }
            Verdict::Reject { why } => self.bury(&held.message, attempts, &why).await,
            Verdict::Retry { why, .. } if why.transient() => {
                self.count(Settlement::Waits);
                return Some(held);
            }
            Verdict::Retry { why, .. } if attempts >= ATTEMPTS => self.bury(&held.message, attempts, &why).await,
            Verdict::Retry { after, why } => {
                tracing::info!(error = %why, "a delivery is tried again later");
                acknowledge(&held.message, AckKind::Nak(Some(after))).await;
                self.count(Settlement::Again);
            }
        }
        None
    }

    /// The handler's verdicts. When it panics over a batch, each delivery is tried alone to find the one to blame.
    async fn ask(&self, deliveries: &[H::Given]) -> Vec<Verdict> {
        if let Some(verdicts) = self.ask_unharmed(deliveries).await {
            return verdicts;
        }
        let mut verdicts = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            let alone = self.ask_unharmed(std::slice::from_ref(delivery)).await;
            verdicts.push(alone.and_then(|mut one| one.pop()).unwrap_or_else(|| Verdict::Reject {
                why: Error::internal(format!("the handler of {} panicked", self.durable.name())),
            }));
        }
        verdicts
    }

    async fn ask_unharmed(&self, deliveries: &[H::Given]) -> Option<Vec<Verdict>> {
        let span = tracing::debug_span!("batch", consumer.name = self.durable.name(), events = deliveries.len());
        let begin = tokio::time::Instant::now();
        let handled = AssertUnwindSafe(self.handler.handle(deliveries).instrument(span)).catch_unwind().await;
        self.broker.metrics.worked(self.durable.name(), begin.elapsed());
        handled.ok().filter(|verdicts| {
            debug_assert_eq!(verdicts.len(), deliveries.len(), "a verdict for each delivery");
            verdicts.len() == deliveries.len()
        })
    }

    /// Copies a delivery to DEAD; only then is it taken off the consumer.
    async fn bury(&self, message: &Message, attempts: i64, why: &Error) {
        // Without a place it comes again; but then it could not have been opened.
        let Ok(info) = message.info() else { return };
        let seq = info.stream_sequence;
        let nanos = u64::try_from(info.published.unix_timestamp_nanos()).unwrap_or_default();
        tracing::error!(consumer.name = self.durable.name(), event.seq = seq, attempts, error = %why, "a delivery is dead");
        let death = Death { durable: self.durable, original: Original { seq, nanos }, attempts, why, raw: None };
        match self.broker.bury(message, &death).await {
            Ok(()) => {
                acknowledge(message, AckKind::Term).await;
                self.count(Settlement::Dead);
            }
            Err(error) => {
                tracing::error!(consumer.name = self.durable.name(), event.seq = seq, error = %error, "a dead letter was not stored");
                acknowledge(message, AckKind::Nak(Some(LONGEST_PAUSE))).await;
            }
        }
    }
}

async fn acknowledge(message: &Message, kind: AckKind) {
    if let Err(error) = message.ack_with(kind).await {
        // The broker will deliver it again, which is harmless.
        tracing::debug!(error = %error, "an acknowledgement was not sent");
    }
}
