//! How the log and its consumers stand, looked up every few seconds for the metrics.
//!
//! Asked by a task of its own and not when somebody reads the metrics: a scrape must not wait for the broker, and many
//! scrapes must not ask it more often.

use std::time::Duration;

use async_nats::jetstream::consumer::{Consumer, pull};

use super::topology::{Durable, StreamName};
use super::{Broker, away, jittered};
use crate::error::{Error, Result};
use crate::lifecycle::Lifecycle;

/// The broker is asked this often, or a little more often.
const EVERY: Duration = Duration::from_secs(4);

impl Broker {
    /// Begins to measure the log until the instance drains.
    pub fn measure(&self, lifecycle: &Lifecycle) {
        let broker = self.clone();
        let draining = lifecycle.draining();
        lifecycle.background("broker-gauges", async move {
            while !draining.is_cancelled() {
                broker.metrics.broker(broker.is_reachable());
                if broker.is_reachable()
                    && let Err(error) = broker.measure_once().await
                {
                    tracing::debug!(error = %error, "the log cannot be measured right now");
                }
                tokio::select! {
                    () = tokio::time::sleep(jittered(EVERY)) => {}
                    () = draining.cancelled() => {}
                }
            }
            Ok(())
        });
    }

    async fn measure_once(&self) -> Result<()> {
        let lost = |error: &dyn std::fmt::Display| -> Error { away().caused_by(error.to_string()) };
        let log = self.jetstream.get_stream(StreamName::Events.name()).await.map_err(|error| lost(&error))?;
        let info = log.cached_info();
        self.metrics.log(info.state.last_sequence, info.state.bytes, Some(self.log().limit));
        let dead = self.jetstream.get_stream(StreamName::Dead.name()).await.map_err(|error| lost(&error))?;
        self.metrics.buried(dead.cached_info().state.messages);
        for durable in Durable::ALL {
            let consumer: Consumer<pull::Config> = self
                .jetstream
                .get_consumer_from_stream(durable.name(), durable.stream().name())
                .await
                .map_err(|error| lost(&error))?;
            let info = consumer.cached_info();
            self.metrics.lag(durable.name(), info.num_pending + info.num_ack_pending as u64);
        }
        Ok(())
    }
}
