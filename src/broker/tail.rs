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
        let first = self.subscribe(DeliverPolicy::New).await?;
        lifecycle.background("tail", read(self.clone(), first, lifecycle.clone(), reader));
        Ok(())
    }

    async fn subscribe(&self, from: DeliverPolicy) -> Result<Ordered> {
        let config = OrderedConfig {
            deliver_subject: self.client.new_inbox(),
            deliver_policy: from,
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

async fn read<F>(broker: Broker, mut messages: Ordered, lifecycle: Lifecycle, mut reader: F) -> Result<()>
where
    F: FnMut(Stored) + Send,
{
    let draining = lifecycle.draining();
    // Goes on pushing while sockets are being drained; `ending` stops the task.
    let ending = lifecycle.ending();
    let mut last: Option<u64> = None;
    loop {
        let next = tokio::select! {
            next = messages.next() => next,
            () = draining.cancelled() => return drain(messages, &ending, reader).await,
        };
        match next {
            Some(Ok(message)) => {
                if let Some(stored) = stored(&message) {
                    last = Some(stored.seq);
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
    ending: &tokio_util::sync::CancellationToken,
    mut reader: F,
) -> Result<()> {
    const QUIET: Duration = Duration::from_millis(300);
    while let Ok(Some(Ok(message))) = tokio::time::timeout(QUIET, messages.next()).await {
        if ending.is_cancelled() {
            break;
        }
        if let Some(stored) = stored(&message) {
            reader(stored);
        }
    }
    Ok(())
}

async fn resubscribe(broker: &Broker, last: Option<u64>, lifecycle: &Lifecycle) -> Ordered {
    let mut wait = Duration::from_millis(100);
    loop {
        let from = last.map_or(DeliverPolicy::New, |last| DeliverPolicy::ByStartSequence { start_sequence: last + 1 });
        match broker.subscribe(from).await {
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
