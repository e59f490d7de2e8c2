//! Signals that are never stored: typing. Core NATS, at most once, and that is all they need.

use futures_util::StreamExt as _;

use super::subject::{LiveKind, Subject, TYPING};
use super::{Broker, away};
use crate::domain::typing::Typing;
use crate::error::{Error, Result};
use crate::lifecycle::Lifecycle;

impl Broker {
    /// Tells every instance. It may get lost; nobody waits for it.
    pub async fn signal(&self, typing: &Typing) -> Result<()> {
        let payload = serde_json::to_vec(typing).map_err(Error::internal)?;
        if !self.is_reachable() {
            return Err(away());
        }
        self.client
            .publish(Subject::Live(LiveKind::Typing, typing.conversation_id).to_string(), payload.into())
            .await
            .map_err(|error| away().caused_by(error))
    }

    /// Hands every signal of every instance to `reader`. It is subscribed when this returns.
    pub async fn signals<F>(&self, lifecycle: &Lifecycle, mut reader: F) -> Result<()>
    where
        F: FnMut(Typing) + Send + 'static,
    {
        let mut signals = self.client.subscribe(TYPING).await.map_err(|error| away().caused_by(error))?;
        self.client.flush().await.map_err(|error| away().caused_by(error))?;
        let draining = lifecycle.draining();
        lifecycle.background("signals", async move {
            loop {
                tokio::select! {
                    () = draining.cancelled() => return Ok(()),
                    signal = signals.next() => match signal {
                        Some(message) => match serde_json::from_slice(&message.payload) {
                            Ok(typing) => reader(typing),
                            Err(error) => tracing::warn!(error = %error, "a signal cannot be read"),
                        },
                        None => return Err(away()),
                    }
                }
            }
        });
        Ok(())
    }
}
