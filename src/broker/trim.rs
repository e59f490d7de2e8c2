//! Keeping the log within its limit. Only what every durable consumer is done with is ever removed.
//!
//! MongoDB has the history; the log is there for consumers that are behind and for clients that come back. So once it is
//! three quarters full, its oldest events go until it is half full, but none that `persist` or `notify` still has to work
//! on: a log that is full of those refuses clients, and drops nothing. `previews` is not waited for, since a scanner that is
//! away for a day must not stop the chat: what it has to do stands in the records of blobs, and it is reminded of it. Every
//! worker does this; doing it twice is harmless.

use std::time::Duration;

use super::link::LogState;
use super::topology::{Durable, StreamName};
use super::{Broker, away, jittered};
use crate::error::Result;
use crate::lifecycle::Lifecycle;

/// How often a worker looks.
const INTERVAL: Duration = Duration::from_secs(2);

impl Broker {
    /// Begins to trim the log.
    pub fn trim(&self, lifecycle: &Lifecycle) {
        let (broker, draining) = (self.clone(), lifecycle.draining());
        lifecycle.background("trim", async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(jittered(INTERVAL)) => {}
                    () = draining.cancelled() => return Ok(()),
                }
                if let Err(error) = broker.trim_once().await {
                    tracing::warn!(error = %error, "the log was not trimmed");
                }
            }
        });
    }

    async fn trim_once(&self) -> Result<()> {
        self.trim_orders().await?;
        if wanted(self.log(), u64::MAX).is_none() {
            return Ok(());
        }
        let log = self.look().await?;
        let mut done = log.last;
        for durable in [Durable::Persist, Durable::Notify] {
            let (floor, idle) = self.progress(durable).await?;
            // One that has nothing left to do is also done with the events it was never given.
            done = if idle { done } else { done.min(floor) };
        }
        if let Some(from) = wanted(log, done) {
            self.events.purge().sequence(from).await.map_err(|error| away().caused_by(error))?;
            let after = self.look().await?;
            tracing::info!(log.bytes = after.bytes, log.first = after.first, "the log was trimmed");
        }
        Ok(())
    }

    /// The same for what commerce publishes.
    async fn trim_orders(&self) -> Result<()> {
        let lost = |error: &dyn std::fmt::Display| away().caused_by(error.to_string());
        let orders = self.jetstream.get_stream(StreamName::Orders.name()).await.map_err(|error| lost(&error))?;
        let info = orders.cached_info();
        let log = LogState {
            first: info.state.first_sequence,
            last: info.state.last_sequence,
            bytes: info.state.bytes,
            limit: u64::try_from(info.config.max_bytes).unwrap_or(u64::MAX),
        };
        if wanted(log, u64::MAX).is_none() {
            return Ok(());
        }
        if let Some(from) = wanted(log, self.floor(Durable::Orders).await?) {
            orders.purge().sequence(from).await.map_err(|error| lost(&error))?;
            tracing::info!(orders.bytes = log.bytes, orders.first = from, "the orders were trimmed");
        }
        Ok(())
    }
}

/// The seq that the log should begin with, if that is another one than now. Everything up to `done` may go.
fn wanted(log: LogState, done: u64) -> Option<u64> {
    if log.bytes < log.limit / 4 * 3 || log.last < log.first {
        return None;
    }
    let events = log.last - log.first + 1;
    let each = (log.bytes / events).max(1);
    let surplus = log.bytes.saturating_sub(log.limit / 2) / each;
    let from = (log.first + surplus).min(done.saturating_add(1));
    (from > log.first).then_some(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(bytes: u64) -> LogState {
        LogState { first: 101, last: 200, bytes, limit: 1_000 }
    }

    #[test]
    fn a_log_with_room_is_left_alone() {
        assert_eq!(wanted(log(749), 200), None);
    }

    #[test]
    fn the_oldest_go_until_it_is_half_full() {
        assert_eq!(wanted(log(1_000), 200), Some(151));
    }

    #[test]
    fn nothing_goes_that_somebody_still_has_to_work_on() {
        assert_eq!(wanted(log(1_000), 120), Some(121));
        assert_eq!(wanted(log(1_000), 100), None);
        assert_eq!(wanted(log(1_000), 0), None);
    }
}
