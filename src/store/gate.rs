//! The gate: operations of requests fail at once while the database is known to be away.
//!
//! Owns what is known about that, and nothing else. Only a probe (a ping on its own) opens and closes it, so that one slow
//! query refuses nobody but its own caller. An operation that takes long, or that the driver gives up on, raises a doubt;
//! a doubt is answered by a probe at once, before the operation's own time is over. While the database is away it is
//! probed again and again, and the first answer lets everybody in.
//!
//! An operation that is given up throws its connection away. That is why nothing is tried while the gate is shut, and
//! why the consumers, which have time, do not go through here: they wait longer and try less often.

use std::future::{Future, IntoFuture};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mongodb::Database;
use mongodb::bson::doc;
use mongodb::error::Error as MongoError;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::{away, failure};
use crate::error::Result;
use crate::lifecycle::Lifecycle;
use crate::metrics::Metrics;

/// How long a reading of a request may take: with the rest of the work it is answered within a second.
pub(super) const READ: Duration = Duration::from_millis(900);
/// How long a reading may take that is not waited for: it is given up before anybody doubts, and so raises a doubt itself.
pub(super) const GLANCE: Duration = Duration::from_millis(300);
/// How long a write of a request may take. Giving up on it says nothing about its outcome, so not too soon.
pub(super) const WRITE: Duration = Duration::from_secs(5);
/// An operation that takes longer raises a doubt.
const DOUBT: Duration = Duration::from_millis(400);
/// How long the probe that answers a doubt may take; both together stay below [`READ`].
const DOUBTFUL: Duration = Duration::from_millis(450);
/// How long any other probe may take. A server that comes back is slow at first.
const PATIENT: Duration = Duration::from_secs(2);
/// While the database is away it is probed this often.
const EVERY: Duration = Duration::from_millis(250);

/// What is known about the database. Time is handed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// It answers.
    Well,
    /// Somebody waits for it in vain, and no probe has been answered since.
    Doubted,
    /// It did not answer a probe.
    Away { since: Instant, probe_at: Instant },
}

/// What a probe has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Nothing,
    Lost,
    Back(Duration),
}

impl Known {
    fn doubt(&mut self) {
        if *self == Self::Well {
            *self = Self::Doubted;
        }
    }

    /// When to probe next; never, if nobody doubts.
    fn probe_at(self, now: Instant) -> Option<Instant> {
        match self {
            Self::Well => None,
            Self::Doubted => Some(now),
            Self::Away { probe_at, .. } => Some(probe_at),
        }
    }

    /// How long the next probe may take.
    const fn patience(self) -> Duration {
        match self {
            Self::Well | Self::Doubted => DOUBTFUL,
            Self::Away { .. } => PATIENT,
        }
    }

    fn probed(&mut self, answered: bool, now: Instant) -> Change {
        let (next, change) = match (*self, answered) {
            (Self::Away { since, .. }, true) => (Self::Well, Change::Back(now - since)),
            (Self::Away { since, .. }, false) => (Self::Away { since, probe_at: now + EVERY }, Change::Nothing),
            (Self::Well | Self::Doubted, true) => (Self::Well, Change::Nothing),
            (Self::Well | Self::Doubted, false) => (Self::Away { since: now, probe_at: now + EVERY }, Change::Lost),
        };
        *self = next;
        change
    }
}

/// The gate of one database; cheap to clone. Until somebody watches the database it is always open, which is right for
/// a tool that does one thing and ends.
#[derive(Debug, Clone)]
pub(super) struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    known: Mutex<Known>,
    doubted: Notify,
    shut: watch::Sender<bool>,
}

impl Gate {
    pub(super) fn open() -> Self {
        let known = Mutex::new(Known::Well);
        Self(Arc::new(Inner { known, doubted: Notify::new(), shut: watch::Sender::new(false) }))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn doubt(&self) {
        self.known().doubt();
        self.0.doubted.notify_one();
    }

    /// Refuses while the database is away.
    pub(super) fn admit(&self) -> Result<()> {
        if *self.0.shut.borrow() { Err(away()) } else { Ok(()) }
    }

    /// Runs an operation of a request, at most this long, and not at all while the database is away.
    pub(super) async fn run<T, F>(&self, longest: Duration, operation: F) -> Result<T>
    where
        F: IntoFuture<Output = std::result::Result<T, MongoError>>,
        F::IntoFuture: Future + Send,
    {
        self.admit()?;
        tokio::select! {
            biased;
            done = tokio::time::timeout(longest, operation.into_future()) => match done {
                Ok(Ok(done)) => Ok(done),
                Ok(Err(error)) => {
                    let error = failure(error);
                    if error.transient() {
                        self.doubt();
                    }
                    Err(error)
                }
                Err(late) => {
                self.doubt();
                Err(away().caused_by(late))
            }
            },
            () = self.lost() => Err(away().caused_by("it stopped answering")),
        }
    }

    /// Resolves when something that has begun now should be given up, because the database is away.
    async fn lost(&self) {
        let mut shut = self.0.shut.subscribe();
        while tokio::time::timeout(DOUBT, shut.wait_for(|shut| *shut)).await.is_err() {
            self.doubt();
        }
    }

    /// Begins to watch: probes whenever somebody doubts, and shuts and opens the gate.
    pub(super) fn watch(&self, database: Database, lifecycle: &Lifecycle, metrics: Metrics) {
        let gate = self.clone();
        // A service: what is still answered during a drain asks the database too.
        lifecycle.service("database-probe", async move {
            loop {
                gate.probe_when_due(&database, &metrics).await;
            }
        });
    }

    async fn probe_when_due(&self, database: &Database, metrics: &Metrics) {
        let (due, patience) = {
            let known = self.known();
            (known.probe_at(Instant::now()), known.patience())
        };
        match due {
            Some(at) => tokio::time::sleep_until(at).await,
            None => return self.0.doubted.notified().await,
        }
        let ping = database.run_command(doc! { "ping": 1 }).into_future();
        let answered = matches!(tokio::time::timeout(patience, ping).await, Ok(Ok(_)));
        match self.known().probed(answered, Instant::now()) {
            Change::Nothing => {}
            Change::Lost => {
                tracing::warn!("the database is away: requests that need it are refused");
                self.0.shut.send_replace(true);
                metrics.database(false);
            }
            Change::Back(after) => {
                tracing::info!(after.ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX), "the database is back");
                self.0.shut.send_replace(false);
                metrics.database(true);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_probe_that_fails_means_that_it_is_away() {
        let now = Instant::now();
        let mut known = Known::Well;
        assert_eq!(known.probe_at(now), None, "nobody doubts, nobody asks");
        known.doubt();
        assert_eq!((known.probe_at(now), known.patience()), (Some(now), DOUBTFUL), "a doubt is answered at once");
        assert_eq!((known.probed(true, now), known), (Change::Nothing, Known::Well), "one slow query is no outage");
        known.doubt();
        assert_eq!(known.probed(false, now), Change::Lost);
        assert_eq!((known.probe_at(now), known.patience()), (Some(now + EVERY), PATIENT));
    }

    #[test]
    fn the_first_answer_ends_an_outage() {
        let begin = Instant::now();
        let after = |millis| begin + Duration::from_millis(millis);
        let mut known = Known::Doubted;
        known.probed(false, begin);
        assert_eq!(known.probed(false, after(300)), Change::Nothing);
        known.doubt();
        assert_eq!(known.probe_at(after(310)), Some(after(550)), "a doubt does not hurry a probe that is due");
        assert_eq!(known.probed(true, after(600)), Change::Back(Duration::from_millis(600)));
        assert_eq!(known, Known::Well);
    }

    #[test]
    fn a_reading_is_refused_by_a_probe_before_its_own_time_is_over() {
        assert!(DOUBT + DOUBTFUL < READ && READ < Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_is_refused_when_the_gate_is_shut_and_others_are_not_let_in() {
        let gate = Gate::open();
        let shutting = async {
            gate.0.doubted.notified().await;
            assert_eq!(*gate.known(), Known::Doubted);
            gate.0.shut.send_replace(true);
        };
        let begin = Instant::now();
        let (refused, ()) = tokio::join!(gate.run(WRITE, std::future::pending::<Result<(), MongoError>>()), shutting);
        assert_eq!(refused.expect_err("refused").reason(), "database_unavailable");
        assert!(begin.elapsed() < READ);
        let asked = std::sync::atomic::AtomicBool::new(false);
        let operation = async {
            asked.store(true, std::sync::atomic::Ordering::Relaxed);
            Ok(())
        };
        assert!(gate.run(READ, operation).await.is_err());
        assert!(!asked.into_inner(), "nothing is asked of a database that is away");
    }
}
