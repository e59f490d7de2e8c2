//! Deliveries that clients confirm: whoever says so in the handshake (`deliveryAcks`) is asked to acknowledge each message of
//! somebody else, and the acknowledgement is a delivered mark.
//!
//! What nobody acknowledges is not marked, and a lost acknowledgement is made up for by the next one: marks go up to a place.

use std::sync::Arc;

use futures_util::StreamExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::auth::Actor;
use crate::command::Commands;
use crate::domain::frame::Carried;
use crate::lifecycle::Lifecycle;

/// Messages of one connection that wait to be acknowledged, at most; further ones are sent without asking.
const OUTSTANDING: usize = 256;
/// Confirmations in line, at most; behind that they are forgotten.
const QUEUE: usize = 8_192;
/// Confirmations that are looked into at once.
const AT_ONCE: usize = 64;

/// Takes confirmations; cheap to clone.
#[derive(Debug, Clone)]
pub struct Deliveries(mpsc::Sender<(Arc<Actor>, Carried)>);

impl Deliveries {
    /// Starts the task that makes marks of them.
    #[must_use]
    pub fn start(commands: Commands, lifecycle: &Lifecycle) -> Self {
        let (confirmed, queue) = mpsc::channel::<(Arc<Actor>, Carried)>(QUEUE);
        let queue = futures_util::stream::unfold(queue, |mut queue| async { Some((queue.recv().await?, queue)) });
        lifecycle.service("deliveries", async move {
            let mark = |(actor, carried): (Arc<Actor>, Carried)| {
                let commands = commands.clone();
                async move {
                    if let Err(error) = commands.confirm(&actor, carried).await {
                        tracing::debug!(error = %error, "a delivery is not marked");
                    }
                }
            };
            queue.for_each_concurrent(AT_ONCE, mark).await;
            Ok(())
        });
        Self(confirmed)
    }
}

/// What a connection whose client confirms has.
#[derive(Debug)]
pub struct Confirming {
    deliveries: Deliveries,
    outstanding: Arc<Semaphore>,
}

impl Confirming {
    /// Nothing is asked yet.
    #[must_use]
    pub fn new(deliveries: Deliveries) -> Self {
        Self { deliveries, outstanding: Arc::new(Semaphore::new(OUTSTANDING)) }
    }

    /// Whether the client is to be asked about a message: not if too many answers are outstanding.
    pub fn ask(&self, carried: Carried) -> Option<Asked> {
        let one = self.outstanding.clone().try_acquire_owned().ok()?;
        Some(Asked { deliveries: self.deliveries.clone(), carried, _one: one })
    }
}

/// A message that the client is asked about; it is outstanding until this is dropped.
#[derive(Debug)]
pub struct Asked {
    deliveries: Deliveries,
    carried: Carried,
    _one: OwnedSemaphorePermit,
}

impl Asked {
    /// The client has it.
    pub fn confirm(self, actor: Arc<Actor>) {
        let _ = self.deliveries.0.try_send((actor, self.carried));
    }
}
