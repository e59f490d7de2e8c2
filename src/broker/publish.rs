//! Publishing with group commit: nothing counts before the broker has stored it.
//!
//! With `sync_interval: always` the broker syncs its disk for every single publish, but only once for an atomic batch
//! (NATS ADR-50). So one task owns all publishing to the log: what arrives while it is idle goes out at once; what
//! queues up while a commit is under way goes out together as the next one. One commit is in flight at a time, so events
//! are stored in the order in which they were enqueued: that is what keeps one sender's messages in order.
//!
//! A batch is all or nothing: one repeated `Nats-Msg-Id` refuses it whole. Then the same events are published one by one,
//! and each gets its own answer. Whenever the broker does not answer, the outcome is unknown and the caller is told to try
//! again; it is never told that something was stored when it may not have been.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::header;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use bytes::Bytes;
use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::link::{Asked, Link};
use super::subject::Subject;
use super::{Broker, Connected, away, encode};
use crate::domain::clock::random_bits;
use crate::domain::event::Event;
use crate::domain::ids;
use crate::domain::trace::TraceContext;
use crate::error::{Code, Error, Result};
use crate::lifecycle::Lifecycle;
use crate::metrics::Metrics;

/// Events waiting for their commit, at most.
const QUEUE: usize = 2_048;
/// Bytes waiting for their commit, about: clients' events are refused from here on.
const QUEUE_BYTES: usize = 16 << 20;
/// Events of one commit, at most; the broker takes 1,000.
const COMMIT: usize = 512;
/// From here on a batch is cheaper than single publishes.
const BATCH_FROM: usize = 16;

/// An event as the broker gets it.
struct Part {
    subject: Subject,
    dedup_id: String,
    payload: Bytes,
}

/// What is to be published.
struct Job {
    event: Part,
    /// Stored right behind it, or neither is.
    companion: Option<Part>,
    trace: Option<TraceContext>,
    /// The seq that must be the last one of the event's subject; nothing if it does not matter.
    expected_last: Option<u64>,
    /// A client waits for it.
    asked: Option<Asked>,
    done: oneshot::Sender<Result<Published>>,
}

/// An event is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Its place.
    pub seq: u64,
    /// It had been there before; `seq` is the place of the first one.
    pub duplicate: bool,
}

/// A publish under way.
#[must_use = "a publish counts only once the broker has answered"]
pub struct Pending(oneshot::Receiver<Result<Published>>);

impl Pending {
    /// Waits for the broker's answer.
    pub async fn stored(self) -> Result<Published> {
        self.0.await.unwrap_or_else(|_| Err(away()))
    }
}

/// Publishes to the event log; cheap to clone.
#[derive(Debug, Clone)]
pub struct Publisher {
    jobs: mpsc::Sender<Job>,
    waiting: Arc<AtomicUsize>,
    link: Arc<Link>,
    metrics: Metrics,
}

impl Broker {
    /// Starts the task that owns publishing to the event log.
    #[must_use]
    pub fn publisher(&self, lifecycle: &Lifecycle) -> Publisher {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let waiting = Arc::<AtomicUsize>::default();
        lifecycle.service("publish", commit_loop(self.clone(), queue, waiting.clone()));
        Publisher { jobs, waiting, link: self.link.clone(), metrics: self.metrics.clone() }
    }
}

impl Publisher {
    /// Puts an event in line at once or refuses it: a full line is a reason to slow down, not to wait in silence.
    pub fn enqueue(&self, event: &Event, trace: Option<TraceContext>) -> Result<Pending> {
        self.enqueue_job(job(event, trace, None)?)
    }

    /// Puts an event in line, waiting for room. For what follows from the log itself: it still has room when clients are
    /// refused, or a full log could not be worked off.
    pub async fn enqueue_patiently(&self, event: &Event, trace: Option<TraceContext>) -> Result<Pending> {
        let (job, pending) = job(event, trace, None)?;
        self.waiting.fetch_add(job.bytes(), Ordering::Relaxed);
        self.jobs.send(job).await.map_err(|_| away())?;
        Ok(pending)
    }

    /// Whether the log has room for more than what follows from it: for what comes from outside and can wait there.
    pub fn has_room(&self) -> Result<()> {
        if self.link.is_full() { Err(log_full()) } else { Ok(()) }
    }

    /// Puts an event in line that is stored only if its subject is as the caller knows it: `last` is the seq of its last event
    /// (zero for none), else [`Code::Conflict`]. With a companion, both are stored, one right behind the other, or neither.
    pub fn enqueue_after(
        &self,
        last: u64,
        event: &Event,
        companion: Option<&Event>,
        trace: Option<TraceContext>,
    ) -> Result<Pending> {
        let (mut job, pending) = job(event, trace, Some(last))?;
        job.companion = companion.map(part).transpose()?;
        self.enqueue_job((job, pending))
    }

    fn enqueue_job(&self, (mut job, pending): (Job, Pending)) -> Result<Pending> {
        if self.link.is_full() {
            self.metrics.refused("log_full");
            return Err(log_full());
        }
        let bytes = job.bytes();
        job.asked = Some(self.link.asked());
        if self.waiting.fetch_add(bytes, Ordering::Relaxed) >= QUEUE_BYTES || self.jobs.try_send(job).is_err() {
            self.waiting.fetch_sub(bytes, Ordering::Relaxed);
            self.metrics.refused("busy");
            return Err(busy());
        }
        Ok(pending)
    }
}

fn job(event: &Event, trace: Option<TraceContext>, expected_last: Option<u64>) -> Result<(Job, Pending)> {
    let (done, pending) = oneshot::channel();
    let job = Job { event: part(event)?, companion: None, trace, expected_last, asked: None, done };
    Ok((job, Pending(pending)))
}

fn part(event: &Event) -> Result<Part> {
    Ok(Part { subject: Subject::of(&event.body), dedup_id: event.body.dedup_id(event.id), payload: encode(event)? })
}

fn busy() -> Error {
    Error::unavailable("busy", "the server has too much in hand right now, try again")
        .retry_after(Duration::from_millis(500))
}

fn log_full() -> Error {
    Error::unavailable("log_full", "the event log is full; it has room again once what is in it has been worked off")
        .retry_after(Duration::from_secs(2))
}

fn unknown_outcome(error: PublishError) -> Error {
    Error::unavailable(
        "outcome_unknown",
        "the message broker did not answer in time; the event may or may not be stored",
    )
    .retry_after(Duration::from_secs(1))
    .caused_by(error)
}

async fn commit_loop(broker: Broker, mut queue: mpsc::Receiver<Job>, waiting: Arc<AtomicUsize>) -> Result<()> {
    let mut jobs = Vec::with_capacity(COMMIT);
    while queue.recv_many(&mut jobs, COMMIT).await > 0 {
        waiting.fetch_sub(jobs.iter().map(Job::bytes).sum(), Ordering::Relaxed);
        broker.metrics.in_line(queue.len());
        broker.commit(&mut jobs).await;
    }
    // Every publisher is gone: nothing can come any more. The server holds one until its end.
    Ok(())
}

impl Broker {
    /// Stores these events and answers each caller.
    async fn commit(&self, jobs: &mut Vec<Job>) {
        if !self.is_reachable() {
            // The client would keep them and send them later, long after the caller has given up.
            for job in jobs.drain(..) {
                self.metrics.refused("broker_unavailable");
                let _ = job.done.send(Err(away()));
            }
            return;
        }
        let begin = Instant::now();
        if jobs.len() >= BATCH_FROM && jobs.iter().all(Job::is_plain) {
            match self.commit_batch(jobs).await {
                Ok(last) => {
                    self.metrics.committed(jobs.len(), begin.elapsed());
                    let first = last + 1 - jobs.len() as u64;
                    for (seq, job) in (first..).zip(jobs.drain(..)) {
                        let _ = job.done.send(Ok(Published { seq, duplicate: false }));
                    }
                    return;
                }
                Err(error) if refused(&error) => {
                    tracing::debug!(error = %error, events = jobs.len(), "a batch was refused, publishing one by one");
                }
                Err(error) => {
                    tracing::warn!(error = %error, events = jobs.len(), "a batch was not answered");
                    for job in jobs.drain(..) {
                        self.metrics.refused("outcome_unknown");
                        let _ = job.done.send(Err(unknown_outcome(PublishError::new(error.kind()))));
                    }
                    return;
                }
            }
        }
        let (events, stored) = (jobs.len(), self.commit_singly(jobs).await);
        if stored > 0 {
            self.metrics.committed(stored, begin.elapsed());
        }
        tracing::trace!(events, stored, "events were published one by one");
    }

    /// Publishes an atomic batch and returns the seq of its last event.
    async fn commit_batch(&self, jobs: &[Job]) -> Result<u64, PublishError> {
        let other = |error| PublishError::with_source(PublishErrorKind::BrokenPipe, error);
        let batch = batch_id();
        let Some((commit, before)) = jobs.split_last() else {
            return Err(PublishError::new(PublishErrorKind::Other));
        };
        for (place, job) in (1_usize..).zip(before) {
            let mut headers = job.event.headers(job.trace);
            headers.insert(header::NATS_BATCH_ID, batch.as_str());
            headers.insert(header::NATS_BATCH_SEQUENCE, place.to_string());
            self.client
                .publish_with_headers(job.event.subject.to_string(), headers, job.event.payload.clone())
                .await
                .map_err(other)?;
        }
        let mut headers = commit.event.headers(commit.trace);
        end_batch(&mut headers, &batch, jobs.len());
        let publish = PublishMessage::build().payload(commit.event.payload.clone()).headers(headers);
        let ack = self.jetstream.send_publish(commit.event.subject.to_string(), publish).await?.await?;
        if ack.batch_id.as_deref() == Some(&batch) && ack.batch_size == Some(jobs.len() as u64) {
            Ok(ack.sequence)
        } else {
            // A broker that does not know batches has stored the last message and nothing says what became of the rest.
            Err(PublishError::new(PublishErrorKind::BrokenPipe))
        }
    }

    /// Publishes each event by itself, all of them under way at once and in order; says how many are stored.
    async fn commit_singly(&self, jobs: &mut Vec<Job>) -> usize {
        let mut sent = Vec::with_capacity(jobs.len());
        for job in jobs.drain(..) {
            let mut headers = job.event.headers(job.trace);
            if let Some(last) = job.expected_last {
                headers.insert(header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, last.to_string());
            }
            // The answer to a pair carries the place of its companion.
            let behind = u64::from(job.companion.is_some());
            let (last, headers) = match job.companion {
                None => (job.event, headers),
                Some(companion) => {
                    let batch = batch_id();
                    headers.insert(header::NATS_BATCH_ID, batch.as_str());
                    headers.insert(header::NATS_BATCH_SEQUENCE, "1");
                    let subject = job.event.subject.to_string();
                    // If this is lost, so is the connection, and the end of the batch is not taken either.
                    if let Err(error) = self.client.publish_with_headers(subject, headers, job.event.payload).await {
                        tracing::debug!(error = %error, "the first of a pair cannot be sent");
                    }
                    let mut headers = companion.headers(job.trace);
                    end_batch(&mut headers, &batch, 2);
                    (companion, headers)
                }
            };
            let publish = PublishMessage::build().payload(last.payload).headers(headers);
            let under_way = self.jetstream.send_publish(last.subject.to_string(), publish).await;
            sent.push((under_way, behind, job.done, job.asked));
        }
        let stored = join_all(sent.into_iter().map(|(sent, behind, done, asked)| async move {
            let answer = match sent {
                Ok(ack) => ack.await,
                Err(error) => Err(error),
            };
            let answer = match answer {
                Ok(ack) if behind > 0 && ack.batch_size != Some(2) => {
                    Err(unknown_outcome(PublishError::new(PublishErrorKind::BrokenPipe)))
                }
                Ok(ack) => Ok(Published { seq: ack.sequence - behind, duplicate: ack.duplicate }),
                Err(error) => Err(failure(error)),
            };
            let stored = answer.is_ok();
            if let Err(error) = &answer {
                self.metrics.refused(error.reason());
            }
            let _ = done.send(answer);
            drop(asked);
            usize::from(stored)
        }));
        stored.await.into_iter().sum()
    }
}

impl Connected {
    /// Publishes an order event as another service does: nothing but the subject is allowed to it, and the answer.
    pub async fn publish_order(&self, subject: String, id: &str, payload: Bytes) -> Result<Published> {
        let publish = PublishMessage::build().payload(payload).message_id(id);
        let answer = async { self.jetstream.send_publish(subject, publish).await?.await };
        let ack = answer.await.map_err(failure)?;
        Ok(Published { seq: ack.sequence, duplicate: ack.duplicate })
    }
}

impl Job {
    fn bytes(&self) -> usize {
        self.event.payload.len() + self.companion.as_ref().map_or(0, |companion| companion.payload.len())
    }

    /// Whether it can be stored together with others.
    const fn is_plain(&self) -> bool {
        self.expected_last.is_none() && self.companion.is_none()
    }
}

fn batch_id() -> String {
    String::from_utf8_lossy(&ids::encode(random_bits())).into_owned()
}

/// Marks the last message of a batch.
fn end_batch(headers: &mut HeaderMap, batch: &str, size: usize) {
    headers.insert(header::NATS_BATCH_ID, batch);
    headers.insert(header::NATS_BATCH_SEQUENCE, size.to_string());
    headers.insert(header::NATS_BATCH_COMMIT, header::NATS_BATCH_COMMIT_FINAL);
}

impl Part {
    fn headers(&self, trace: Option<TraceContext>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::NATS_MESSAGE_ID, self.dedup_id.as_str());
        if let Some(trace) = trace {
            headers.insert(super::consume::TRACEPARENT, trace.to_string());
        }
        headers
    }
}

/// Whether the broker said no, so that nothing was stored. Silence is no answer.
fn refused(error: &PublishError) -> bool {
    match error.kind() {
        PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe => false,
        PublishErrorKind::StreamNotFound
        | PublishErrorKind::WrongLastMessageId
        | PublishErrorKind::WrongLastSequence
        | PublishErrorKind::MaxAckPending
        | PublishErrorKind::MaxPayloadExceeded
        | PublishErrorKind::Other => true,
    }
}

pub(super) fn failure(error: PublishError) -> Error {
    match error.kind() {
        PublishErrorKind::WrongLastSequence | PublishErrorKind::WrongLastMessageId => {
            Error::new(Code::Conflict, "already_there", "this already exists").caused_by(error)
        }
        PublishErrorKind::MaxPayloadExceeded => {
            Error::new(Code::TooLarge, "event_too_large", "this is larger than the message broker takes")
                .caused_by(error)
        }
        // The reserve is used up too.
        PublishErrorKind::Other if no_room(&error) => log_full().caused_by(error),
        PublishErrorKind::Other => {
            // Among them: its disk is full.
            Error::unavailable("not_stored", "the message broker did not take this, try again later")
                .retry_after(Duration::from_secs(5))
                .caused_by(error)
        }
        PublishErrorKind::StreamNotFound | PublishErrorKind::MaxAckPending => away().caused_by(error),
        PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe => unknown_outcome(error),
    }
}

/// Whether the stream is full.
pub(super) fn no_room(error: &PublishError) -> bool {
    error.kind() == PublishErrorKind::Other && told(error).contains("maximum bytes exceeded")
}

/// Everything that an error says, with its causes.
fn told(error: &PublishError) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
