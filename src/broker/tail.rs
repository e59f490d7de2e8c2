//! The tail: this instance's own ordered reading of the event log, from now on.
//!
//! An ordered push consumer resumes by sequence after a broker restart, so live push has no gap there. It is decoded here
//! once and handed on in order; the reader must not block, since everybody's live events wait behind it.

use std::time::Duration;

use async_nats::jetstream::consumer::push::{Ordered, OrderedConfig};
use async_nats::jetstream::consumer::{DeliverPolicy, ReplayPolicy};
use futures_util::StreamExt as _;

use super::topology::StreamName;
use super::{Broker, away, decode, jittered};
use crate::domain::event::Stored;
use crate::error::Result;
use crate::lifecycle::Lifecycle;

impl Broker {
    /// Reads the log from now on and hands every event to `reader`, in order. It is subscribed when this returns.
    pub async fn tail<F>(&self, lifecycle: &Lifecycle, reader: F) -> Result<()>
    where
        F: FnMut(Stored) + Send + 'static,
    {
        // From a place, not from "new": a consumer that has not delivered anything yet is made anew from the very first
        // event after a broker restart, and what lies before this place must not be pushed as live.
        let stream =
            self.jetstream.get_stream(StreamName::Events.name()).await.map_err(|error| away().caused_by(error))?;
        let last = stream.cached_info().state.last_sequence;
        let first = self.subscribe(last).await?;
        lifecycle.background("tail", read(self.clone(), first, last, lifecycle.clone(), reader));
        Ok(())
    }

    async fn subscribe(&self, last: u64) -> Result<Ordered> {
        let config = OrderedConfig {
            deliver_subject: self.client.new_inbox(),
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: last + 1 },
            replay_policy: ReplayPolicy::Instant,
            ..OrderedConfig::default()
        };
        let consumer = self
            .jetstream
            .create_consumer_on_stream(config, StreamName::Events.name())
            .await
            .map_err(|error| away().caused_by(error))?;
        consumer.messages().await.map_err(|error| away().caused_by(error))
    }
}

async fn read<F>(
    broker: Broker,
    mut messages: Ordered,
    mut last: u64,
    lifecycle: Lifecycle,
    mut reader: F,
) -> Result<()>
where
    F: FnMut(Stored) + Send,
{
    let draining = lifecycle.draining();
    // Goes on pushing while sockets are being drained; `ending` stops the task.
    let ending = lifecycle.ending();
    loop {
        let next = tokio::select! {
            next = messages.next() => next,
            () = draining.cancelled() => return drain(messages, last, &ending, reader).await,
        };
        match next {
            Some(Ok(message)) => {
                if let Some(stored) = stored(&message).filter(|stored| stored.seq > last) {
                    last = stored.seq;
                    reader(stored);
                }
            }
            Some(Err(error)) => {
                tracing::warn!(error = %error, "the tail was interrupted");
                messages = resubscribe(&broker, last, &lifecycle).await;
            }
            None => messages = resubscribe(&broker, last, &lifecycle).await,
        }
    }
}

/// While the instance drains, what is already on its way is still pushed, for a moment.
async fn drain<F: FnMut(Stored)>(
    mut messages: Ordered,
    last: u64,
    ending: &tokio_util::sync::CancellationToken,
    mut reader: F,
) -> Result<()> {
    const QUIET: Duration = Duration::from_millis(300);
    const LONGEST: Duration = Duration::from_secs(3);
    let until = tokio::time::Instant::now() + LONGEST;
    while let Ok(Some(Ok(message))) = tokio::time::timeout(QUIET, messages.next()).await {
        if ending.is_cancelled() || tokio::time::Instant::now() > until {
            break;
        }
        if let Some(stored) = stored(&message).filter(|stored| stored.seq > last) {
            reader(stored);
        }
    }
    Ok(())
}

async fn resubscribe(broker: &Broker, last: u64, lifecycle: &Lifecycle) -> Ordered {
    let mut wait = Duration::from_millis(100);
    loop {
        match broker.subscribe(last).await {
            Ok(messages) => return messages,
            Err(error) => tracing::warn!(error = %error, "the tail cannot be resumed yet"),
        }
        tokio::select! {
            () = tokio::time::sleep(jittered(wait)) => {}
            () = lifecycle.ending().cancelled_owned() => std::future::pending().await,
        }
        wait = (wait * 2).min(Duration::from_secs(2));
    }
}

fn stored(message: &async_nats::jetstream::Message) -> Option<Stored> {
    let seq = match message.info() {
        Ok(info) => info.stream_sequence,
        Err(error) => {
            tracing::error!(error = %error, "a delivery of the tail has no place in the log");
            return None;
        }
    };
    match decode(&message.payload) {
        Ok(event) => Some(Stored { seq, event }),
        Err(error) => {
            // `persist` sends it to the dead letters; here nobody can be told anything.
            tracing::error!(event.seq = seq, error = %error, "an event cannot be read and is not pushed");
            None
        }
    }
}
