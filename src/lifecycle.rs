//! Tasks and shutdown: the one place that spawns, names what it spawns, and notices when it dies.
//!
//! There are two stages. `draining` asks everybody to stop taking on work; `ending` tells whoever is left to drop it.
//! A background task that ends before `draining` has died, whatever it returned: the process then drains and exits with
//! an error, because half a server is worse than none.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::error::{Error, Result};

/// A handle to spawn tasks and to stop them; cheap to clone.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    draining: CancellationToken,
    ending: CancellationToken,
    tasks: TaskTracker,
    first_death: Arc<Mutex<Option<Error>>>,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self::new()
    }
}

impl Lifecycle {
    /// Nothing runs yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            draining: CancellationToken::new(),
            ending: CancellationToken::new(),
            tasks: TaskTracker::new(),
            first_death: Arc::default(),
        }
    }

    /// Resolves when no new work is to be taken on.
    #[must_use]
    pub fn draining(&self) -> CancellationToken {
        self.draining.clone()
    }

    /// Whether no new work is to be taken on.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Resolves when work in hand is to be dropped.
    #[must_use]
    pub fn ending(&self) -> CancellationToken {
        self.ending.clone()
    }

    /// Begins to drain.
    pub fn drain(&self) {
        self.draining.cancel();
    }

    /// Runs a part of the server that lives until the server drains. Its early end, or panic, ends the server.
    pub fn background<F>(&self, name: &'static str, part: F)
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let watched = self.clone().watch(name, part);
        self.spawn(self.tasks.track_future(watched));
    }

    /// Runs a part that the others need until they are done: it is dropped only at the very end, when nobody is left to
    /// ask it for anything. Its early end, or panic, ends the server.
    pub fn service<F>(&self, name: &'static str, part: F)
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let watched = self.clone().watch(name, part);
        self.spawn(watched);
    }

    async fn watch<F>(self, name: &'static str, part: F)
    where
        F: Future<Output = Result<()>> + Send,
    {
        let ended = tokio::select! {
            ended = AssertUnwindSafe(part).catch_unwind() => ended,
            () = self.ending.cancelled() => return,
        };
        let death = match ended {
            Ok(Ok(())) if self.is_draining() => return,
            Ok(Ok(())) => Error::internal(format!("the task {name} ended by itself")),
            Ok(Err(error)) => error,
            Err(_) => Error::internal(format!("the task {name} panicked")),
        };
        tracing::error!(task.name = name, error = %death, "a background task died, the instance stops");
        if let Ok(mut first) = self.first_death.lock() {
            first.get_or_insert(death);
        }
        self.drain();
    }

    /// Runs a short piece of work on the side, such as waiting for one acknowledgement. It is finished before the
    /// process ends, unless the deadline comes first.
    pub fn job<F>(&self, job: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.spawn(self.tasks.track_future(job));
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
    #[expect(clippy::unused_self, reason = "spawning is a right that only a lifecycle gives")]
    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        drop(tokio::spawn(future));
    }

    /// Waits for everything but the services, at most this long. Says whether all of it finished.
    pub async fn finished(&self, deadline: Duration) -> bool {
        self.drain();
        self.tasks.close();
        tokio::time::timeout(deadline, self.tasks.wait()).await.is_ok()
    }

    /// Drops whatever still runs.
    pub fn end(&self) {
        self.ending.cancel();
    }

    /// What made the server stop by itself, if anything did.
    #[must_use]
    pub fn death(&self) -> Option<Error> {
        self.first_death.lock().ok()?.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_dies_alone_is_noticed() {
        for part in [true, false] {
            let lifecycle = Lifecycle::new();
            lifecycle.background("probe", async move {
                assert!(part, "a panic");
                Ok(())
            });
            lifecycle.draining().cancelled().await;
            assert!(lifecycle.death().is_some());
        }
    }

    #[tokio::test]
    async fn work_in_hand_is_finished_before_the_end() {
        let lifecycle = Lifecycle::new();
        let (done, waits) = tokio::sync::oneshot::channel();
        let draining = lifecycle.draining();
        lifecycle.background("probe", async move {
            draining.cancelled().await;
            done.send(()).map_err(|()| Error::internal("nobody waits"))
        });
        assert!(lifecycle.finished(Duration::from_secs(5)).await);
        lifecycle.end();
        waits.await.expect("the work was finished");
        assert!(lifecycle.death().is_none());
    }
}
