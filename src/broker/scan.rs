//! Reading a stream from one place to another, in order and in batches: for the tools of an operator.
//!
//! A reading is complete or it fails: whoever compares the log with something must not take a gap for the truth.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy, pull};
use async_nats::jetstream::stream::Stream;
use bytes::Bytes;
use futures_util::StreamExt as _;

use super::topology::{Durable, StreamName, missing};
use super::{Broker, Connected, PATIENCE, away, decode};
use crate::domain::clock::Timestamp;
use crate::domain::event::Stored;
use crate::error::{Code, Error, Result};
use crate::metrics::Metrics;

/// The broker forgets a reading that nobody goes on with.
const FORGOTTEN: Duration = Duration::from_mins(5);

/// A message of a stream.
#[derive(Debug)]
pub struct Entry {
    /// Its place.
    pub seq: u64,
    pub(super) headers: HeaderMap,
    pub(super) payload: Bytes,
    pub(super) at: Timestamp,
}

impl Entry {
    /// The event, if it can be read.
    pub fn event(&self) -> Result<Stored> {
        Ok(Stored { seq: self.seq, event: decode(&self.payload)? })
    }
}

/// How far a stream reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The place of its first message.
    pub first: u64,
    /// The place of its last message; below the first if it is empty.
    pub last: u64,
    /// Nothing was ever purged from its beginning.
    pub whole: bool,
}

/// A reading under way.
pub struct Reading {
    stream: Stream<()>,
    consumer: Consumer<pull::Config>,
    name: String,
    /// What the broker has not sent yet.
    pending: u64,
    /// The number that the broker gave to the last message of this reading.
    count: u64,
    to: u64,
}

impl Connected {
    /// Uses what is there and makes nothing: tools must not change what they look at.
    pub async fn attach(self) -> Result<Broker> {
        let mut events = self.jetstream.get_stream(StreamName::Events.name()).await.map_err(|error| {
            if !missing(&error) {
                return lost(error);
            }
            Error::new(
                Code::NotFound,
                "no_event_log",
                "this broker has no event log; an instance makes it when it starts",
            )
            .caused_by(error)
        })?;
        let created = events.info().await.map_err(lost)?.created;
        let events = self.jetstream.get_stream_no_info(StreamName::Events.name()).await.map_err(lost)?;
        Ok(Broker {
            client: self.client,
            jetstream: self.jetstream,
            events,
            epoch: u64::try_from(created.unix_timestamp_nanos()).unwrap_or(0),
            link: self.link,
            metrics: Metrics::default(),
            dial: self.dial,
        })
    }
}

impl Broker {
    /// How far a stream reaches right now.
    pub async fn extent(&self, stream: StreamName) -> Result<Extent> {
        let info = self.jetstream.get_stream(stream.name()).await.map_err(lost)?.cached_info().clone();
        let (first, last) = (info.state.first_sequence, info.state.last_sequence);
        Ok(Extent { first, last, whole: first <= info.config.first_sequence.unwrap_or(1).max(1) })
    }

    /// Everything up to here a consumer has dealt with.
    pub async fn floor(&self, durable: Durable) -> Result<u64> {
        let consumer: Consumer<pull::Config> =
            self.jetstream.get_consumer_from_stream(durable.name(), durable.stream().name()).await.map_err(lost)?;
        Ok(consumer.cached_info().ack_floor.stream_sequence)
    }

    /// Reads a stream between two places, both included; of these subjects and patterns if any are given.
    pub async fn scan(&self, stream: StreamName, filters: Vec<String>, from: u64, to: u64) -> Result<Reading> {
        let stream = self.jetstream.get_stream_no_info(stream.name()).await.map_err(lost)?;
        let config = pull::Config {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: from.max(1) },
            ack_policy: AckPolicy::None,
            filter_subjects: filters,
            inactive_threshold: FORGOTTEN,
            memory_storage: true,
            num_replicas: 1,
            ..pull::Config::default()
        };
        let consumer = stream.create_consumer(config).await.map_err(lost)?;
        let (name, pending) = (consumer.cached_info().name.clone(), consumer.cached_info().num_pending);
        Ok(Reading { stream, consumer, name, pending, count: 0, to })
    }
}

impl Reading {
    /// The next messages, at most so many; none at the end.
    pub async fn batch(&mut self, most: usize) -> Result<Vec<Entry>> {
        let mut batch = Vec::new();
        while self.pending > 0 && batch.len() < most {
            let wanted = usize::try_from(self.pending).unwrap_or(most).min(most - batch.len());
            let before = batch.len();
            let fetched = async {
                let mut messages = self.consumer.fetch().max_messages(wanted).messages().await.map_err(lost)?;
                while let Some(message) = messages.next().await {
                    let message = message.map_err(|error| away().caused_by(error))?;
                    let info = message.info().map_err(|error| away().caused_by(error))?;
                    self.count += 1;
                    if info.consumer_sequence != self.count {
                        return Err(away().caused_by("a part of the stream was not delivered"));
                    }
                    self.pending = info.pending;
                    let at = Timestamp::from_millis(
                        i64::try_from(info.published.unix_timestamp_nanos() / 1_000_000).unwrap_or_default(),
                    );
                    let seq = info.stream_sequence;
                    let headers = message.headers.clone().unwrap_or_default();
                    batch.push(Entry { seq, headers, payload: message.payload.clone(), at });
                }
                Ok(())
            };
            tokio::time::timeout(2 * PATIENCE, fetched).await.map_err(|late| away().caused_by(late))??;
            if batch.last().is_some_and(|last| last.seq >= self.to) {
                self.pending = 0;
            } else if batch.len() == before {
                return Err(away().caused_by("the broker sends nothing more of what it has"));
            }
        }
        batch.retain(|entry| entry.seq <= self.to);
        Ok(batch)
    }

    /// How many messages are left to be read, those behind its end included.
    pub(super) const fn left(&self) -> u64 {
        self.pending
    }

    /// Ends the reading.
    pub async fn close(self) {
        // The broker forgets it by itself otherwise.
        let _ = self.stream.delete_consumer(&self.name).await;
    }
}

fn lost(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    away().caused_by(error)
}
