//! What an operator does with a running system: dead letters, the comparison of the log with MongoDB, accounts, and
//! a sample of an order event.
//!
//! The tools use what instances use (the same handlers, the same projection) and make nothing in the broker. They can run
//! beside any number of instances, because everything they write is idempotent and commutes.

pub mod check;
pub mod dead;
pub mod orders;
pub mod reminders;
mod repair;
pub mod sweep;
mod tie;
pub mod users;

use crate::broker::{self, Broker};
use crate::config::Config;
use crate::consumer::persist::Persist;
use crate::domain::clock::Clock;
use crate::error::Result;
use crate::store::Store;

/// A connection to the broker for tools.
pub async fn attach(config: &Config) -> Result<Broker> {
    broker::connect(&config.broker).await?.attach().await
}

/// The log and its projection.
pub struct Projection {
    pub(crate) broker: Broker,
    pub(crate) store: Store,
    pub(crate) persist: Persist,
    pub(crate) clock: Clock,
}

impl Projection {
    /// Connects to both.
    pub async fn connect(config: &Config) -> Result<Self> {
        let broker = attach(config).await?;
        let store = Store::connect(&config.store).await?;
        Ok(Self { broker, persist: Persist::new(store.clone()), store, clock: Clock::System })
    }

    /// Closes the connection to the broker.
    pub async fn close(&self) {
        self.broker.close().await;
    }
}
