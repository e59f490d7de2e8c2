//! The link to the broker: whether it answers, and how full the log is.
//!
//! A connection can look open long after the other end has stopped answering. So one task asks for the state of the log
//! every second: its answer proves the link, and its silence is noticed within seconds and not when TCP gives up. What it
//! says about the log (its ends, its size, how far it is projected) is kept for everybody who needs it often and a little
//! old is good enough.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream;
use async_nats::jetstream::consumer::pull;
use tokio::sync::watch;
use tokio::time::Instant;

use super::topology::{Durable, StreamName};
use super::{Broker, away, jittered};
use crate::domain::event::{Body, Event};
use crate::domain::notification;
use crate::error::Result;
use crate::lifecycle::Lifecycle;

/// How often the broker is asked.
const INTERVAL: Duration = Duration::from_secs(1);
/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(2);
/// A broker that was silent for this long is away: nothing is sent to it, and the instance is not ready.
const SILENCE: Duration = Duration::from_secs(5);

/// What a notification takes in the log, about.
const NOTIFICATION_BYTES: u64 = 1_000;
/// A connection that is lost after this much silence was dead before.
const SILENT_FIRST: Duration = Duration::from_secs(3);

/// What is known about the link and the log.
#[derive(Debug)]
pub(super) struct Link {
    /// When the broker last answered, once somebody asks regularly.
    heard: Mutex<Option<Instant>>,
    /// The broker had gone silent before the connection was lost.
    stalled: AtomicBool,
    /// Counts connections, the first one included.
    pub(super) connects: watch::Sender<u64>,
    /// The oldest seq in the log.
    first: AtomicU64,
    /// The newest.
    last: AtomicU64,
    /// Bytes of the log.
    bytes: AtomicU64,
    /// Everything up to here is in MongoDB.
    projected: AtomicU64,
    /// Notifications that follow from messages in the log and are not in it yet, about.
    owed: AtomicU64,
    /// Clients' events of this instance that wait for their answer.
    unanswered: AtomicUsize,
    /// Bytes at which clients' events are refused.
    limit: u64,
}

/// The log, as last heard of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogState {
    /// The oldest seq; one more than `last` if the log is empty.
    pub first: u64,
    /// The newest seq.
    pub last: u64,
    /// Its size.
    pub bytes: u64,
    /// The size at which clients' events are refused.
    pub limit: u64,
}

/// A client's event that waits for its answer.
#[derive(Debug)]
pub(super) struct Asked(Arc<Link>);

impl Drop for Asked {
    fn drop(&mut self) {
        self.0.unanswered.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Link {
    pub(super) fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self {
            heard: Mutex::new(None),
            stalled: AtomicBool::new(false),
            connects: watch::Sender::new(0),
            first: AtomicU64::new(0),
            last: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            projected: AtomicU64::new(0),
            owed: AtomicU64::new(0),
            unanswered: AtomicUsize::new(0),
            limit,
        })
    }

    fn silent_for(&self) -> Duration {
        let heard = *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.map_or(Duration::ZERO, |heard| heard.elapsed())
    }

    fn begin(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn hear(&self, state: &jetstream::stream::State) {
        if let Some(heard) = self.heard.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            *heard = Instant::now();
            self.stalled.store(false, Ordering::Relaxed);
        }
        self.first.store(state.first_sequence, Ordering::Relaxed);
        self.bytes.store(state.bytes, Ordering::Relaxed);
        self.last.fetch_max(state.last_sequence, Ordering::Relaxed);
    }

    /// The client has given the connection up.
    pub(super) fn lost(&self) {
        // A broker that ends closes its connections; one that was silent first is cut off from here, perhaps only from here.
        if self.silent_for() > SILENT_FIRST {
            self.stalled.store(true, Ordering::Relaxed);
        }
    }

    /// The tail has seen an event: the log has grown by about this much since the last answer.
    pub(super) fn grew(&self, seq: u64, bytes: u64) {
        if self.last.fetch_max(seq, Ordering::Relaxed) < seq {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// A client waits for an answer, until this is dropped.
    pub(super) fn asked(self: &Arc<Self>) -> Asked {
        self.unanswered.fetch_add(1, Ordering::Relaxed);
        Asked(self.clone())
    }

    /// How many clients wait for an answer.
    pub(super) fn unanswered(&self) -> usize {
        self.unanswered.load(Ordering::Relaxed)
    }

    /// The tail has seen an event: each of those whom a message is for will be notified, and then that is done.
    pub(super) fn accounts(&self, event: &Event) {
        match &event.body {
            Body::Message(message) => {
                let notifications = notification::told(message, &event.recipients).count() as u64;
                self.owed.fetch_add(notifications, Ordering::Relaxed);
            }
            Body::Notification(notification) if notification.kind.is_of_message() => {
                let paid = |owed: u64| Some(owed.saturating_sub(1));
                let _ = self.owed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, paid);
            }
            _ => {}
        }
    }

    /// Whether there is no room for what clients send. What follows from what is already there must still find some: the
    /// notifications of a full log could otherwise never be made, and what they are made from never be trimmed.
    pub(super) fn is_full(&self) -> bool {
        let owed = self.owed.load(Ordering::Relaxed).saturating_mul(NOTIFICATION_BYTES);
        self.bytes.load(Ordering::Relaxed).saturating_add(owed) >= self.limit
    }
}

impl Broker {
    /// Begins to ask; until then the link counts as good.
    pub fn watch_link(&self, lifecycle: &Lifecycle) {
        let (broker, ending) = (self.clone(), lifecycle.ending());
        self.link.begin();
        lifecycle.service("broker-link", async move {
            loop {
                match tokio::time::timeout(PATIENCE, broker.look()).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => tracing::debug!(error = %error, "the broker does not say how the log is"),
                    Err(_) => tracing::warn!(
                        silent.seconds = broker.link.silent_for().as_secs(),
                        "the broker does not answer"
                    ),
                }
                tokio::select! {
                    () = tokio::time::sleep(jittered(INTERVAL)) => {}
                    () = ending.cancelled() => return Ok(()),
                }
            }
        });
    }

    /// Asks for the state of the log now.
    pub async fn look(&self) -> Result<LogState> {
        let info = self.events.get_info().await.map_err(|error| away().caused_by(error))?;
        self.link.hear(&info.state);
        if let Ok(floor) = self.ack_floor(Durable::Persist).await {
            self.link.projected.fetch_max(floor, Ordering::Relaxed);
        }
        if let Ok((pending, idle)) = self.pending(Durable::Notify).await {
            if idle {
                self.link.owed.store(0, Ordering::Relaxed);
            } else {
                // At least one each, for messages from before this instance.
                self.link.owed.fetch_max(pending, Ordering::Relaxed);
            }
        }
        Ok(self.log())
    }

    /// The newest seq of the log, asked for now.
    pub async fn head(&self) -> Result<u64> {
        if !self.is_reachable() {
            return Err(away());
        }
        let info = self.events.get_info().await.map_err(|error| away().caused_by(error))?;
        self.link.hear(&info.state);
        Ok(info.state.last_sequence)
    }

    /// The log as last heard of.
    #[must_use]
    pub fn log(&self) -> LogState {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let link = &self.link;
        LogState { first: read(&link.first), last: read(&link.last), bytes: read(&link.bytes), limit: link.limit }
    }

    /// Everything up to here is in MongoDB; what is newer may be.
    pub async fn projected(&self) -> Result<u64> {
        let known = self.link.projected.load(Ordering::Relaxed);
        if known > 0 {
            return Ok(known);
        }
        let floor = self.ack_floor(Durable::Persist).await?;
        Ok(self.link.projected.fetch_max(floor, Ordering::Relaxed).max(floor))
    }

    /// The same as last heard of, which may be a moment ago; zero as long as nobody has said so.
    #[must_use]
    pub fn known_projected(&self) -> u64 {
        self.link.projected.load(Ordering::Relaxed)
    }

    /// A durable consumer has acknowledged everything up to here that it was given.
    pub(super) async fn ack_floor(&self, durable: Durable) -> Result<u64> {
        Ok(self.progress(durable).await?.0)
    }

    /// The same, and whether there is nothing that it has not acknowledged.
    pub(super) async fn progress(&self, durable: Durable) -> Result<(u64, bool)> {
        let consumer: jetstream::consumer::Consumer<pull::Config> =
            self.events.get_consumer(durable.name()).await.map_err(|error| away().caused_by(error.to_string()))?;
        let info = consumer.cached_info();
        Ok((info.ack_floor.stream_sequence, info.num_pending == 0 && info.num_ack_pending == 0))
    }

    /// Whether a durable consumer has nothing left to do.
    pub async fn is_idle(&self, durable: Durable) -> Result<bool> {
        Ok(self.progress(durable).await?.1)
    }

    /// How many events a durable consumer has not acknowledged, and whether that is none.
    async fn pending(&self, durable: Durable) -> Result<(u64, bool)> {
        let consumer: jetstream::consumer::Consumer<pull::Config> =
            self.events.get_consumer(durable.name()).await.map_err(|error| away().caused_by(error.to_string()))?;
        let info = consumer.cached_info();
        let pending = info.num_pending + info.num_ack_pending as u64;
        Ok((pending, pending == 0))
    }

    /// Whether the broker can be reached right now: connected, and it has answered lately.
    #[must_use]
    pub fn is_reachable(&self) -> bool {
        self.client.connection_state() == State::Connected && self.link.silent_for() < SILENCE
    }

    /// How long the broker has said nothing, if that is longer than it should be.
    #[must_use]
    pub fn silence(&self) -> Option<Duration> {
        let silent = self.link.silent_for();
        (silent >= SILENCE).then_some(silent)
    }

    /// Whether the client believes in its connection.
    pub(super) fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Whether the broker stopped answering on a connection that looked open, rather than ending.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        self.is_connected() || self.link.stalled.load(Ordering::Relaxed)
    }

    /// Changes with every new connection.
    #[must_use]
    pub fn connections(&self) -> watch::Receiver<u64> {
        self.link.connects.subscribe()
    }

    /// The name of the log, for those who read it directly.
    pub(super) const LOG: &'static str = StreamName::Events.name();
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const ANA: &str = "usr_00000000000000000000000001";
    const BEN: &str = "usr_00000000000000000000000002";

    fn event(kind: &str, data: &Value) -> Event {
        let event = json!({
            "id": "evt_00000000000000000000000001", "version": 1, "actor": ANA, "occurredAt": "2026-11-22T11:13:23.048Z",
            "recipients": [ANA, BEN], "type": kind, "data": data,
        });
        serde_json::from_value(event).expect("an event")
    }

    fn notification(kind: &str) -> Event {
        let id = "ntf_00000000000000000000000001";
        let about = json!({
            "id": id, "userId": BEN, "entryId": id, "kind": kind, "title": "", "body": "", "data": {},
            "createdAt": "2026-11-22T11:13:23.048Z",
        });
        event("notification", &about)
    }

    #[test]
    fn only_a_notification_of_a_message_settles_what_a_message_owes() {
        let link = Link::new(NOTIFICATION_BYTES);
        let message = json!({
            "id": "msg_00000000000000000000000001", "conversationId": "cnv_00000000000000000000000001", "senderId": ANA,
            "senderName": "Ana", "kind": "text", "text": "hello", "createdAt": "2026-11-22T11:13:23.048Z",
        });
        link.accounts(&event("message", &message));
        assert!(link.is_full(), "one is owed, and there is room for less");
        for kind in ["order", "system"] {
            link.accounts(&notification(kind));
            assert!(link.is_full(), "{kind}");
        }
        for kind in ["message", "mention", "support"] {
            let link = Link::new(NOTIFICATION_BYTES);
            link.owed.store(1, Ordering::Relaxed);
            link.accounts(&notification(kind));
            assert!(!link.is_full(), "{kind}");
        }
    }
}
