//! Buckets: small shared state with a watch.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::jetstream::kv::{Operation, Store};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::watch;

use super::topology::Bucket;
use super::{Broker, away, jittered};
use crate::domain::clock::Timestamp;
use crate::error::Result;
use crate::lifecycle::Lifecycle;

/// How long the mark of a removed key is kept. A watch that was cut off for longer would not hear of the removal, so it
/// begins anew with every connection.
const MARKER: Duration = Duration::from_mins(2);

/// A bucket.
#[derive(Debug, Clone)]
pub struct Shared {
    store: Store,
    connections: watch::Receiver<u64>,
}

/// What happened to a key.
#[derive(Debug, Clone)]
pub struct Change {
    /// The key.
    pub key: String,
    /// Its value, or nothing if it is gone (deleted, purged or run out).
    pub value: Option<Bytes>,
    /// When the broker stored this.
    pub at: Timestamp,
}

/// A key that is there.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Its value.
    pub value: Bytes,
    /// When the broker stored it.
    pub at: Timestamp,
}

/// What a watch tells.
#[derive(Debug, Clone)]
pub enum Watched {
    /// Everything there is, at the start and whenever the watch had to begin anew.
    All(HashMap<String, Kept>),
    /// One key changed.
    Changed(Change),
}

impl Broker {
    /// Opens a bucket that `provision` has made.
    pub async fn bucket(&self, bucket: Bucket) -> Result<Shared> {
        let store = self.jetstream.get_key_value(bucket.name()).await.map_err(|error| away().caused_by(error))?;
        Ok(Shared { store, connections: self.connections() })
    }
}

impl Shared {
    /// Reads a value.
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        self.store.get(key).await.map_err(|error| away().caused_by(error))
    }

    /// Writes a value.
    pub async fn put(&self, key: &str, value: Bytes) -> Result<()> {
        self.store.put(key, value).await.map(drop).map_err(|error| away().caused_by(error))
    }

    /// Removes a key. Watches hear of it, and what marks it goes too after a while.
    pub async fn delete(&self, key: &str) -> Result<()> {
        self.store.purge_with_ttl(key, MARKER).await.map_err(|error| away().caused_by(error))
    }

    /// Hands everything there is to `reader`, then every change. Polled in a task of its own, as a watch that is not
    /// polled during a broker restart may not come back.
    pub fn watch<F>(&self, name: &'static str, lifecycle: &Lifecycle, mut reader: F)
    where
        F: FnMut(Watched) + Send + 'static,
    {
        let store = self.store.clone();
        let (mut connections, draining) = (self.connections.clone(), lifecycle.draining());
        lifecycle.background(name, async move {
            let mut wait = Duration::from_millis(100);
            loop {
                connections.mark_unchanged();
                let watching = follow(&store, &mut reader, &mut wait);
                tokio::select! {
                    ended = watching => {
                        if let Err(error) = ended {
                            tracing::warn!(bucket.name = %store.name, error = %error, "a watch was interrupted");
                        }
                    }
                    _ = connections.changed() => {
                        tracing::debug!(bucket.name = %store.name, "a watch begins anew on a new connection");
                        continue;
                    }
                    () = draining.cancelled() => return Ok(()),
                }
                tokio::select! {
                    () = tokio::time::sleep(jittered(wait)) => {}
                    () = draining.cancelled() => return Ok(()),
                }
                wait = (wait * 2).min(Duration::from_secs(2));
            }
        });
    }
}

async fn follow<F: FnMut(Watched)>(store: &Store, reader: &mut F, wait: &mut Duration) -> Result<()> {
    let lost = |error| away().caused_by(std::io::Error::other(error));
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let known = store.status().await.map_err(|error| lost(text(&error)))?.values();
    let mut watch = store.watch_many_with_history([">"]).await.map_err(|error| lost(text(&error)))?;
    let mut all = HashMap::new();
    let mut current = known == 0;
    if current {
        reader(Watched::All(HashMap::new()));
    }
    while let Some(entry) = watch.next().await {
        let entry = entry.map_err(|error| lost(text(&error)))?;
        *wait = Duration::from_millis(100);
        let value = matches!(entry.operation, Operation::Put).then_some(entry.value);
        let at =
            Timestamp::from_millis(i64::try_from(entry.created.unix_timestamp_nanos() / 1_000_000).unwrap_or_default());
        if current {
            reader(Watched::Changed(Change { key: entry.key, value, at }));
            continue;
        }
        match value {
            Some(value) => all.insert(entry.key, Kept { value, at }),
            None => all.remove(&entry.key),
        };
        if entry.seen_current {
            current = true;
            reader(Watched::All(std::mem::take(&mut all)));
        }
    }
    Ok(())
}
