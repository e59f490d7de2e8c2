//! What exists in the broker: streams, durable consumers and buckets, described once.
//!
//! The same description provisions a broker and is written to `nats/topology.json`, which a test compares.

use std::time::Duration;

use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy};
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::{Config as StreamConfig, DiscardPolicy, StorageType};
use async_nats::jetstream::{self, kv};
use serde::Serialize;

use super::subject;
use crate::config::BrokerConfig;
use crate::error::{Error, Result};

/// The streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamName {
    /// The event log.
    Events,
    /// What commerce says happened to orders.
    Orders,
    /// Rejected deliveries.
    Dead,
}

/// The durable consumers, shared by all instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durable {
    /// Projects the log into MongoDB.
    Persist,
    /// Derives notifications from messages.
    Notify,
    /// Takes in what commerce says happened to orders.
    Orders,
    /// Looks attachments through and makes smaller pictures of them.
    Previews,
}

/// The buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bucket {
    /// Living instances, as leases.
    Instances,
    /// Which users have a socket on which instance.
    Presence,
    /// Who does what one instance at a time does.
    Leases,
}

impl StreamName {
    /// Its name in the broker.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Events => "EVENTS",
            Self::Orders => "ORDERS",
            Self::Dead => "DEAD",
        }
    }
}

impl Durable {
    /// Every durable consumer.
    pub const ALL: [Self; 4] = [Self::Persist, Self::Notify, Self::Orders, Self::Previews];

    /// The stream that it reads.
    #[must_use]
    pub const fn stream(self) -> StreamName {
        match self {
            Self::Persist | Self::Notify | Self::Previews => StreamName::Events,
            Self::Orders => StreamName::Orders,
        }
    }

    /// Its name in the broker.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Persist => "persist",
            Self::Notify => "notify",
            Self::Orders => "orders",
            Self::Previews => "previews",
        }
    }
}

impl Bucket {
    /// Its name in the broker.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Instances => "instances",
            Self::Presence => "presence",
            Self::Leases => "leases",
        }
    }
}

/// Room in the event log beyond its limit, at least.
const RESERVE: i64 = 4 << 20;

/// The size of a stream beside the log.
pub(super) fn beside(events_max_bytes: i64) -> i64 {
    (events_max_bytes / 8).min(1 << 30)
}

/// A lease is void this long after it was last renewed.
pub const LEASE: Duration = Duration::from_secs(15);

/// Everything that exists in the broker.
#[derive(Debug, Clone, Serialize)]
pub struct Topology {
    streams: Vec<StreamSpec>,
    consumers: Vec<ConsumerSpec>,
    buckets: Vec<BucketSpec>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct StreamSpec {
    name: &'static str,
    about: &'static str,
    subjects: Vec<&'static str>,
    storage: &'static str,
    discard: &'static str,
    max_bytes: i64,
    max_age_seconds: u64,
    duplicate_window_seconds: u64,
    allow_direct: bool,
    allow_atomic_publish: bool,
    replicas: usize,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct ConsumerSpec {
    name: &'static str,
    about: &'static str,
    stream: &'static str,
    filter_subject: Option<&'static str>,
    /// Until a delivery of an instance that died is given to another.
    ack_wait_seconds: u64,
    /// Without limit: a delivery that the broker gave up on would be lost in silence. `consume` counts, and buries.
    max_deliver: i64,
    max_ack_pending: i64,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct BucketSpec {
    name: &'static str,
    about: &'static str,
    key: &'static str,
    history: i64,
    ttl_seconds: u64,
    limit_markers: bool,
    replicas: usize,
}

impl Topology {
    /// The topology for this configuration.
    #[must_use]
    pub fn of(config: &BrokerConfig) -> Self {
        let replicas = config.replicas;
        Self {
            streams: vec![
                StreamSpec {
                    name: StreamName::Events.name(),
                    about: "every change, in one total order; a full log refuses new events and drops none",
                    subjects: subject::EVENTS.to_vec(),
                    storage: "file",
                    discard: "new",
                    // Clients are refused at the configured size; what follows from what is there needs room beyond it.
                    max_bytes: config.events_max_bytes.saturating_add((config.events_max_bytes / 8).max(RESERVE)),
                    max_age_seconds: 0,
                    duplicate_window_seconds: config.dedup_seconds,
                    allow_direct: true,
                    allow_atomic_publish: true,
                    replicas,
                },
                StreamSpec {
                    name: StreamName::Orders.name(),
                    about: "what other services say happened to orders, as CloudEvents; what is worked off makes room",
                    subjects: vec![subject::ORDERS],
                    storage: "file",
                    discard: "new",
                    max_bytes: beside(config.events_max_bytes),
                    max_age_seconds: 0,
                    duplicate_window_seconds: config.dedup_seconds,
                    allow_direct: true,
                    allow_atomic_publish: false,
                    replicas,
                },
                StreamSpec {
                    name: StreamName::Dead.name(),
                    about: "deliveries that were rejected, with the reason and the original",
                    subjects: vec![subject::DEAD],
                    storage: "file",
                    discard: "new",
                    max_bytes: beside(config.events_max_bytes),
                    max_age_seconds: 0,
                    duplicate_window_seconds: 120,
                    allow_direct: true,
                    allow_atomic_publish: false,
                    replicas,
                },
            ],
            consumers: consumers(),
            buckets: buckets(replicas),
        }
    }

    /// Creates what is missing and brings the rest up to date.
    pub(super) async fn provision(&self, jetstream: &jetstream::Context, highest: u64) -> Result<()> {
        for stream in &self.streams {
            let first = (stream.name == StreamName::Events.name() && highest > 0).then_some(highest + 1);
            stream.provision(jetstream, first).await?;
        }
        for consumer in &self.consumers {
            consumer.provision(jetstream).await?;
        }
        for bucket in &self.buckets {
            bucket.provision(jetstream).await?;
        }
        Ok(())
    }
}

/// The durable consumers.
fn consumers() -> Vec<ConsumerSpec> {
    vec![
        ConsumerSpec {
            name: Durable::Persist.name(),
            about: "projects the log into MongoDB, in batches",
            stream: StreamName::Events.name(),
            filter_subject: None,
            ack_wait_seconds: 10,
            max_deliver: -1,
            max_ack_pending: 6_000,
        },
        ConsumerSpec {
            name: Durable::Notify.name(),
            about: "publishes a notification for each recipient of a message",
            stream: StreamName::Events.name(),
            filter_subject: Some(subject::MESSAGES),
            ack_wait_seconds: 10,
            max_deliver: -1,
            max_ack_pending: 6_000,
        },
        ConsumerSpec {
            name: Durable::Orders.name(),
            about: "keeps orders, writes entries into their conversations and publishes notifications",
            stream: StreamName::Orders.name(),
            filter_subject: None,
            ack_wait_seconds: 10,
            max_deliver: -1,
            max_ack_pending: 6_000,
        },
        ConsumerSpec {
            name: Durable::Previews.name(),
            about: "looks attachments through and makes smaller pictures of them",
            stream: StreamName::Events.name(),
            filter_subject: Some(subject::UPLOADS),
            // A large picture on a small machine, or a scanner that takes its time.
            ack_wait_seconds: 240,
            max_deliver: -1,
            max_ack_pending: 1_000,
        },
    ]
}

/// The buckets.
fn buckets(replicas: usize) -> Vec<BucketSpec> {
    vec![
        BucketSpec {
            name: Bucket::Instances.name(),
            about: "a lease per living instance, renewed every five seconds",
            key: "<instance>",
            history: 1,
            ttl_seconds: LEASE.as_secs(),
            limit_markers: true,
            replicas,
        },
        BucketSpec {
            name: Bucket::Presence.name(),
            about: "what the sockets of a user on this instance say, online or away; void without the instance's lease",
            key: "<user>.<instance>",
            history: 1,
            ttl_seconds: 0,
            limit_markers: true,
            replicas,
        },
        BucketSpec {
            name: Bucket::Leases.name(),
            about: "which instance does what one at a time does, renewed every five seconds",
            key: "<work>",
            history: 1,
            ttl_seconds: LEASE.as_secs(),
            limit_markers: true,
            replicas,
        },
    ]
}

fn refused(what: &'static str, name: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::unavailable("broker_not_provisioned", format!("the broker refuses the {what} {name}: {error}"))
        .caused_by(error)
}

impl StreamSpec {
    async fn provision(&self, jetstream: &jetstream::Context, first: Option<u64>) -> Result<()> {
        let mut config = StreamConfig {
            name: self.name.to_owned(),
            description: Some(self.about.to_owned()),
            subjects: self.subjects.iter().map(|subject| (*subject).to_owned()).collect(),
            storage: StorageType::File,
            discard: DiscardPolicy::New,
            max_bytes: self.max_bytes,
            max_age: Duration::from_secs(self.max_age_seconds),
            duplicate_window: Duration::from_secs(self.duplicate_window_seconds),
            allow_direct: self.allow_direct,
            allow_atomic_publish: self.allow_atomic_publish,
            num_replicas: self.replicas,
            ..StreamConfig::default()
        };
        match jetstream.get_stream(self.name).await {
            Ok(stream) => {
                // A stream's beginning is fixed when it is made.
                config.first_sequence = stream.cached_info().config.first_sequence;
                jetstream.update_stream(&config).await.map_err(|error| self.refused(error))?;
            }
            Err(error) if missing(&error) => {
                config.first_sequence = first;
                jetstream.create_stream(config).await.map_err(|error| self.refused(error))?;
            }
            Err(error) => return Err(refused("stream", self.name, error)),
        }
        Ok(())
    }

    /// The broker sets room aside for whole streams when they are made, and says only that it has not got enough.
    fn refused(&self, error: async_nats::jetstream::context::CreateStreamError) -> Error {
        use async_nats::jetstream::context::CreateStreamErrorKind::JetStream;
        match error.kind() {
            JetStream(why) if why.error_code() == jetstream::ErrorCode::STORAGE_RESOURCES_EXCEEDED => {
                let (name, bytes) = (self.name, self.max_bytes);
                let what = format!(
                    "the broker has no room for the {bytes} bytes that the stream {name} may take: lower \
                     EVENTS_MAX_BYTES, or raise max_file_store of the broker, which is three quarters of its free disk"
                );
                Error::unavailable("broker_not_provisioned", what).caused_by(error)
            }
            _ => refused("stream", self.name, error),
        }
    }
}

pub(super) fn missing(error: &async_nats::jetstream::context::GetStreamError) -> bool {
    matches!(
        error.kind(),
        GetStreamErrorKind::JetStream(error) if error.error_code() == jetstream::ErrorCode::STREAM_NOT_FOUND
    )
}

impl ConsumerSpec {
    async fn provision(&self, jetstream: &jetstream::Context) -> Result<()> {
        let config = pull::Config {
            durable_name: Some(self.name.to_owned()),
            description: Some(self.about.to_owned()),
            deliver_policy: DeliverPolicy::All,
            ack_policy: AckPolicy::Explicit,
            ack_wait: Duration::from_secs(self.ack_wait_seconds),
            max_deliver: self.max_deliver,
            max_ack_pending: self.max_ack_pending,
            filter_subject: self.filter_subject.unwrap_or_default().to_owned(),
            ..pull::Config::default()
        };
        jetstream
            .create_consumer_on_stream(config, self.stream)
            .await
            .map(drop)
            .map_err(|error| refused("consumer", self.name, error))
    }
}

impl BucketSpec {
    async fn provision(&self, jetstream: &jetstream::Context) -> Result<()> {
        let config = kv::Config {
            bucket: self.name.to_owned(),
            description: self.about.to_owned(),
            history: self.history,
            max_age: Duration::from_secs(self.ttl_seconds),
            storage: StorageType::File,
            num_replicas: self.replicas,
            limit_markers: self.limit_markers.then_some(LEASE),
            ..kv::Config::default()
        };
        jetstream
            .create_or_update_key_value(config)
            .await
            .map(drop)
            .map_err(|error| refused("bucket", self.name, error))
    }
}
