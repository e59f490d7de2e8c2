//! Notes of pushes: which messages went to whose sockets here, for those who ask later where a message is.
//!
//! The hub notes and goes on; a task hands the notes over about once a second. They are worth less than anything they
//! could be in the way of: what has no room in the queue, or cannot be kept right now, is forgotten and counted.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::domain::push::Push;
use crate::error::Result;
use crate::lifecycle::Lifecycle;
use crate::metrics::Metrics;

/// Notes in the queue, at most: those of a second and of much traffic.
const QUEUE: usize = 16_384;
/// Notes that are handed over at once, at most.
const BATCH: usize = 2_000;
/// Time between two looks at the queue.
const PAUSE: Duration = Duration::from_secs(1);
/// While the instance drains, notes still come for a moment.
const QUIET: Duration = Duration::from_millis(400);
const LONGEST_DRAIN: Duration = Duration::from_secs(3);

/// Takes notes; cheap to clone.
#[derive(Debug, Clone)]
pub struct Pushes {
    queue: mpsc::Sender<Push>,
    metrics: Metrics,
}

impl Pushes {
    /// Starts the task that hands notes over to `keep`.
    #[must_use]
    pub fn start<F, Fut>(lifecycle: &Lifecycle, metrics: Metrics, keep: F) -> Self
    where
        F: Fn(Vec<Push>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<()>> + Send,
    {
        let (queue, noted) = mpsc::channel(QUEUE);
        let keeper = Keeper { noted, metrics: metrics.clone(), keep };
        let draining = lifecycle.draining();
        lifecycle.background("pushes", async move {
            let mut keeper = keeper;
            loop {
                tokio::select! {
                    () = tokio::time::sleep(PAUSE) => keeper.keep_all().await,
                    () = draining.cancelled() => break,
                }
            }
            keeper.drain().await;
            Ok(())
        });
        Self { queue, metrics }
    }

    /// Takes a note, if there is room for it.
    pub fn note(&self, push: Push) {
        if self.queue.try_send(push).is_err() {
            self.metrics.push_notes("lost", 1);
        }
    }
}

/// The other end of the queue.
struct Keeper<F> {
    noted: mpsc::Receiver<Push>,
    metrics: Metrics,
    keep: F,
}

impl<F, Fut> Keeper<F>
where
    F: Fn(Vec<Push>) -> Fut,
    Fut: Future<Output = Result<()>>,
{
    /// Hands over what is in the queue.
    async fn keep_all(&mut self) {
        while let Ok(first) = self.noted.try_recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH
                && let Ok(next) = self.noted.try_recv()
            {
                batch.push(next);
            }
            self.keep_batch(batch).await;
        }
    }

    async fn keep_batch(&mut self, batch: Vec<Push>) {
        let count = batch.len();
        match (self.keep)(batch).await {
            Ok(()) => self.metrics.push_notes("kept", count),
            Err(error) => {
                self.metrics.push_notes("lost", count);
                tracing::debug!(error = %error, notes = count, "notes of pushes are not kept");
            }
        }
    }

    async fn drain(&mut self) {
        let until = Instant::now() + LONGEST_DRAIN;
        while Instant::now() < until
            && let Ok(Some(next)) = tokio::time::timeout(QUIET, self.noted.recv()).await
        {
            self.keep_batch(vec![next]).await;
            self.keep_all().await;
        }
        self.noted.close();
        self.keep_all().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use smallvec::smallvec;

    use super::*;
    use crate::domain::clock::Timestamp;
    use crate::domain::ids::UserId;
    use crate::error::Error;

    fn push(seq: u64) -> Push {
        let (sender_id, users) = (UserId::from_bits(2), smallvec![UserId::from_bits(1)]);
        Push { seq, sender_id, users, at: Timestamp::from_millis(0), replayed: false }
    }

    fn counted(metrics: &Metrics, outcome: &str) -> usize {
        let text = metrics.text().expect("text");
        let name = format!("shoptalk_push_notes_total{{outcome=\"{outcome}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap_or(0)
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_no_room_or_cannot_be_kept_is_forgotten_and_counted() {
        let (lifecycle, metrics) = (Lifecycle::new(), Metrics::default());
        let kept = Arc::<Mutex<Vec<u64>>>::default();
        let keeping = kept.clone();
        let pushes = Pushes::start(&lifecycle, metrics.clone(), move |batch: Vec<Push>| {
            let kept = keeping.clone();
            async move {
                if batch.iter().any(|push| push.seq == 0) {
                    return Err(Error::unavailable("database_unavailable", "away"));
                }
                kept.lock().expect("alone").extend(batch.iter().map(|push| push.seq));
                Ok(())
            }
        });
        let many = QUEUE as u64 + 7;
        for seq in 1..=many {
            pushes.note(push(seq));
        }
        tokio::time::sleep(2 * PAUSE).await;
        assert_eq!((counted(&metrics, "kept"), counted(&metrics, "lost")), (QUEUE, 7));
        pushes.note(push(0));
        tokio::time::sleep(2 * PAUSE).await;
        assert_eq!((counted(&metrics, "kept"), counted(&metrics, "lost")), (QUEUE, 8), "and it goes on");

        // What is noted while the instance drains is kept too.
        lifecycle.drain();
        pushes.note(push(many + 1));
        assert!(lifecycle.finished(Duration::from_mins(1)).await);
        let wanted: Vec<u64> = (1..=QUEUE as u64).chain([many + 1]).collect();
        assert_eq!(*kept.lock().expect("alone"), wanted);
        pushes.note(push(1));
        assert_eq!(counted(&metrics, "lost"), 9, "nobody is there any more");
    }
}
