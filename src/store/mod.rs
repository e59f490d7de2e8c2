//! The database: one file per collection, each with its stored shape, its indexes and its queries. The only importer of
//! `mongodb`.
//!
//! Every write that projects the log is idempotent and conditional on seq, so that redelivery, overlap and reordering
//! between instances end in the same documents. What was found is turned into domain types before it leaves.

pub mod attachments;
pub mod audit;
mod audit_conversations;
mod audit_inbox;
pub mod batch;
pub mod blobs;
pub mod conversations;
mod gate;
mod inbox;
mod inbox_read;
mod message_touch;
pub mod messages;
pub mod meta;
pub mod migrate;
pub mod notifications;
mod once;
pub mod orders;
pub mod places;
mod preferences;
pub mod pushes;
pub mod sessions;
mod touch;
pub mod unread;
pub mod users;
pub mod windows;

use std::future::{Future, IntoFuture};
use std::time::Duration;

use mongodb::bson::{DateTime, doc};
use mongodb::error::{Error as MongoError, ErrorKind, WriteFailure};
use mongodb::options::{Acknowledgment, ClientOptions, WriteConcern};
use mongodb::{Client, Collection, Database};

use crate::config::StoreConfig;
use crate::domain::clock::Timestamp;
use crate::error::{Error, Result};
use crate::lifecycle::Lifecycle;
use crate::metrics::Metrics;
use gate::Gate;

pub use once::Known;

/// How long an operation of a consumer, or of the start, may take. They can wait, and try again.
const PATIENCE: Duration = Duration::from_secs(5);
/// MongoDB's codes for a server that is going away or is no primary any more: `PrimarySteppedDown`, `ShutdownInProgress`,
/// `NotWritablePrimary`, `InterruptedAtShutdown`, `InterruptedDueToReplStateChange`, `NotPrimaryNoSecondaryOk`,
/// `NotPrimaryOrSecondary`.
const LEAVING: [i32; 7] = [189, 91, 10_107, 11_600, 11_602, 13_435, 13_436];
/// MongoDB's code for a broken unique index.
const DUPLICATE_KEY: i32 = 11_000;

/// How long somebody can wait for a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Haste {
    /// A request that cannot be answered without it.
    Patient,
    /// What goes on without it.
    Live,
}

/// The database; cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    client: Client,
    database: Database,
    gate: Gate,
    notification_days: u32,
}

impl Store {
    /// Connects and waits until the database answers; then indexes are made.
    pub async fn connect(config: &StoreConfig) -> Result<Self> {
        let bad = |error: MongoError| {
            Error::invalid("bad_configuration", "MONGODB_URI cannot be used as it is").caused_by(error)
        };
        let mut options = ClientOptions::parse(&config.uri).await.map_err(bad)?;
        options.app_name.get_or_insert_with(|| "shoptalk".into());
        options.server_selection_timeout.get_or_insert(Duration::from_secs(2));
        options.connect_timeout.get_or_insert(Duration::from_secs(2));
        // A cold pool opens two connections at a time; warm ones keep the first requests fast.
        options.min_pool_size.get_or_insert(4);
        options.max_pool_size.get_or_insert(64);
        options.write_concern.get_or_insert_with(|| WriteConcern::builder().w(Acknowledgment::Majority).build());
        let client = Client::with_options(options).map_err(bad)?;
        let database = match client.default_database() {
            Some(database) => database,
            None => client.database(&config.database),
        };
        let store = Self { client, database, gate: Gate::open(), notification_days: config.notification_days };
        store.warm_up().await;
        bounded(store.database.run_command(doc! { "ping": 1 })).await?;
        migrate::run(&store).await?;
        Ok(store)
    }

    /// Opens the pool's connections before the first request needs them. Its outcome does not matter.
    async fn warm_up(&self) {
        let _ = tokio::time::timeout(PATIENCE, self.client.warm_connection_pool()).await;
    }

    /// Begins to watch whether the database answers, so that requests are refused at once while it does not.
    pub fn watch(&self, lifecycle: &Lifecycle, metrics: &Metrics) {
        self.gate.watch(self.database.clone(), lifecycle, metrics.clone());
    }

    /// Refuses at once what would be refused later, as long as the database is known to be away.
    pub fn admit(&self) -> Result<()> {
        self.gate.admit()
    }

    /// Days after which notifications are forgotten.
    #[must_use]
    pub const fn notification_days(&self) -> u32 {
        self.notification_days
    }

    /// Asks whether the database is there; the answer takes less than a second.
    pub async fn ping(&self) -> Result<()> {
        self.read(self.database.run_command(doc! { "ping": 1 })).await.map(drop)
    }

    /// Runs a reading for a request: it has an answer within a second, and at once while the database is away.
    async fn read<T, F>(&self, operation: F) -> Result<T>
    where
        F: IntoFuture<Output = std::result::Result<T, MongoError>>,
        F::IntoFuture: Future + Send,
    {
        self.gate.run(gate::READ, operation).await
    }

    /// The same for what goes on without an answer.
    async fn glance<T, F>(&self, operation: F) -> Result<T>
    where
        F: IntoFuture<Output = std::result::Result<T, MongoError>>,
        F::IntoFuture: Future + Send,
    {
        self.gate.run(gate::GLANCE, operation).await
    }

    /// Runs a write for a request: it has five seconds while the database is there, and is refused like a reading while
    /// it is away. A write that was given up may still happen.
    async fn write<T, F>(&self, operation: F) -> Result<T>
    where
        F: IntoFuture<Output = std::result::Result<T, MongoError>>,
        F::IntoFuture: Future + Send,
    {
        self.gate.run(gate::WRITE, operation).await
    }

    fn collection<T: Send + Sync>(&self, name: &str) -> Collection<T> {
        self.database.collection(name)
    }
}

/// Runs one operation of a consumer or of the start, at most [`PATIENCE`] long. Requests use [`Store::read`] and
/// [`Store::write`].
async fn bounded<T, F>(operation: F) -> Result<T>
where
    F: IntoFuture<Output = std::result::Result<T, MongoError>>,
    F::IntoFuture: Future + Send,
{
    match tokio::time::timeout(PATIENCE, operation.into_future()).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(failure(error)),
        Err(late) => Err(away().caused_by(late)),
    }
}

/// The answer while the database cannot be reached.
fn away() -> Error {
    Error::unavailable("database_unavailable", "the database is not reachable right now, try again")
        .retry_after(Duration::from_secs(1))
}

fn failure(error: MongoError) -> Error {
    match *error.kind {
        ErrorKind::ServerSelection { .. }
        | ErrorKind::Io(_)
        | ErrorKind::ConnectionPoolCleared { .. }
        | ErrorKind::DnsResolve { .. } => away().caused_by(error),
        // The server is being shut down, or is no primary any more.
        ErrorKind::Command(ref command) if LEAVING.contains(&command.code) => away().caused_by(error),
        // The server says no for a reason of its own that passes, such as a change of primary.
        _ if error.contains_label("RetryableWriteError") || error.contains_label("TransientTransactionError") => {
            away().caused_by(error)
        }
        _ => Error::internal(error),
    }
}

fn is_duplicate(error: &MongoError) -> bool {
    match &*error.kind {
        ErrorKind::Write(WriteFailure::WriteError(error)) => error.code == DUPLICATE_KEY,
        _ => false,
    }
}

fn stored_time(time: Timestamp) -> DateTime {
    DateTime::from_millis(time.millis())
}

fn time(stored: DateTime) -> Timestamp {
    Timestamp::from_millis(stored.timestamp_millis())
}

/// A seq as BSON keeps it. The broker counts in 64 bits without a sign, but from one, so this never loses anything.
fn stored_seq(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

fn seq(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or_default()
}

/// A document that does not fit its type: a fault of ours, or somebody wrote to the database by hand.
fn unreadable(what: &'static str) -> impl Fn(Error) -> Error {
    move |error| Error::internal(format!("a stored {what} cannot be read: {error}"))
}
