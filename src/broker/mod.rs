//! The broker: the event log, its consumers and the KV buckets. The only importer of `async_nats`.
//!
//! It moves events and says nothing about what they mean. A publish counts only once the broker has stored it; a
//! delivery is acknowledged in one place, `consume`; every subject and name comes from `subject` and `topology`.

mod apart;
mod burial;
pub mod consume;
pub mod dead;
mod gauges;
pub mod kv;
pub mod lease;
mod link;
pub mod live;
mod login;
pub mod publish;
mod quarantine;
pub mod read;
pub mod recent;
pub mod scan;
pub mod subject;
pub mod tail;
pub mod topology;
mod trim;

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::{self, stream::Stream};
use async_nats::{Client, ConnectErrorKind, Event as ClientEvent};
use bytes::Bytes;

use crate::config::BrokerConfig;
use crate::domain::clock::{Timestamp, random_bits};
use crate::domain::event::{Event, Stored};
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use apart::Dial;
use link::Link;
use subject::Subject;
use topology::Topology;

/// How long a request to the broker may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection to the broker; cheap to clone.
#[derive(Clone)]
pub struct Broker {
    client: Client,
    jetstream: jetstream::Context,
    events: Stream<()>,
    epoch: u64,
    link: Arc<Link>,
    metrics: Metrics,
    dial: Arc<Dial>,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

/// A connection before anybody has looked whether the streams are there.
pub struct Connected {
    client: Client,
    jetstream: jetstream::Context,
    link: Arc<Link>,
    dial: Arc<Dial>,
}

/// Connects; the client then reconnects by itself for ever.
pub async fn connect(config: &BrokerConfig) -> Result<Connected> {
    let dial = Arc::new(Dial::new(config)?);
    let link = Link::new(config.events_max_bytes.unsigned_abs());
    let watched = link.clone();
    let client = dial
        .connect(move |event| match event {
            ClientEvent::Connected => {
                watched.connects.send_modify(|count| *count += 1);
                tracing::info!("connected to the broker");
            }
            ClientEvent::Disconnected => {
                watched.lost();
                tracing::warn!("lost the broker");
            }
            other => tracing::warn!(broker.event = %other, "the broker client reports"),
        })
        .await
        .map_err(|error| match error.kind() {
            ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                Error::invalid("bad_configuration", "the broker refuses the user of NATS_URL or SHOPTALK_NATS_...")
                    .caused_by(error)
            }
            _ => away().caused_by(error),
        })?;
    let jetstream = apart::jetstream(&client);
    Ok(Connected { client, jetstream, link, dial })
}

/// From 50 ms, doubling, up to 2 s; half of it random, so that instances do not come back in step.
fn reconnect_delay(attempts: usize) -> Duration {
    jittered(Duration::from_millis(50 << attempts.min(6)).min(Duration::from_secs(2)))
}

/// Between half of this time and all of it.
pub(crate) fn jittered(time: Duration) -> Duration {
    let part = u32::try_from(random_bits() % 1000).unwrap_or(0);
    time / 2 + time / 2 * part / 1000
}

impl Connected {
    /// Makes sure that streams, consumers and buckets are there. `highest` is the last seq the database knows: a log
    /// made anew goes on behind it, so that no seq ever names two events.
    pub async fn provision(self, config: &BrokerConfig, highest: u64) -> Result<Broker> {
        Topology::of(config).provision(&self.jetstream, highest).await?;
        self.attach().await
    }
}

impl Broker {
    /// When the event log was created, in nanoseconds since 1970: half of every cursor.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Counts into these metrics from now on.
    #[must_use]
    pub fn counted_by(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    /// The newest event on a subject of the log, without a consumer.
    pub async fn last(&self, subject: Subject) -> Result<Option<Stored>> {
        use jetstream::stream::DirectGetErrorKind;
        if !self.is_reachable() {
            return Err(away());
        }
        match self.events.direct_get_last_for_subject(subject.to_string()).await {
            Ok(message) => match decode(&message.payload) {
                Ok(event) => Ok(Some(Stored { seq: message.sequence, event })),
                Err(error) => {
                    // It is in the dead letters; what was before it may be in MongoDB.
                    tracing::error!(event.seq = message.sequence, error = %error, "the newest event cannot be read");
                    Ok(None)
                }
            },
            Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(None),
            Err(error) => Err(away().caused_by(error)),
        }
    }

    /// The event at a place in the log, if it is still there.
    pub async fn at(&self, seq: u64) -> Result<Option<Stored>> {
        Ok(self.at_with_time(seq).await?.map(|(stored, _)| stored))
    }

    /// The same, and when the log took it.
    pub async fn at_with_time(&self, seq: u64) -> Result<Option<(Stored, Timestamp)>> {
        use jetstream::stream::DirectGetErrorKind;
        if !self.is_reachable() {
            return Err(away());
        }
        match self.events.direct_get(seq).await {
            Ok(message) => {
                let stored = Stored { seq: message.sequence, event: decode(&message.payload)? };
                let millis = message.time.unix_timestamp_nanos() / 1_000_000;
                Ok(Some((stored, Timestamp::from_millis(i64::try_from(millis).unwrap_or_default()))))
            }
            Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(None),
            Err(error) => Err(away().caused_by(error)),
        }
    }

    /// Sends what is still buffered, then ends all subscriptions.
    pub async fn close(&self) {
        if self.is_connected()
            && let Err(error) = self.client.flush().await
        {
            tracing::warn!(error = %error, "the last acknowledgements may not have been sent; they will be delivered again");
        }
        if let Err(error) = self.client.drain().await {
            tracing::debug!(error = %error, "the broker connection was already closed");
        }
    }
}

/// Reads an event as the log keeps it.
pub fn decode(payload: &[u8]) -> Result<Event> {
    serde_json::from_slice(payload)
        .map_err(|error| Error::invalid("undecodable_event", "an event in the log cannot be read").caused_by(error))
}

/// An event as the log keeps it.
pub fn encode(event: &Event) -> Result<Bytes> {
    serde_json::to_vec(event).map(Bytes::from).map_err(Error::internal)
}

/// The answer while the broker cannot be reached.
#[must_use]
pub fn away() -> Error {
    Error::unavailable("broker_unavailable", "the message broker is not reachable right now, try again")
        .retry_after(Duration::from_secs(1))
}
