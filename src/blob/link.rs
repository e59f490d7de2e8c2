//! The way to the store: how long it may take to answer, what its failures mean, and whether it is there.
//!
//! A store that did not answer is not asked again for a second, so that a request does not wait for what the one before it
//! waited for in vain. Whether it is there is also looked at beside that, as nobody may ask for a long time.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use object_store::Error as StoreError;
use object_store::client::HttpError;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::error::Error;

/// How long a store may take for one step: a request to it, one part, the next piece.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);
/// For how long nobody is let through after it did not answer.
const REST: Duration = Duration::from_secs(1);
/// How long it may take to say that it is there.
const GLANCE: Duration = Duration::from_secs(3);
/// How often it is looked at when it is well, and when it is not.
const EVERY: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(1)];
/// So much of what a store says is repeated.
const SAID: usize = 600;

type Cause = Box<dyn StdError + Send + Sync>;

/// What a failure means.
#[derive(Debug)]
pub(super) enum Failure {
    /// There is nothing in this place.
    Missing(Cause),
    /// Nobody answers: whoever asks next would wait in vain.
    Silent(Cause),
    /// It answers that it cannot.
    Unwell(Cause),
    /// It answers that we may not, and that will stay so until somebody does something.
    Refused(Cause),
    /// A fault of ours.
    Fault(Cause),
}

impl Failure {
    pub(super) const fn cause(&self) -> &Cause {
        match self {
            Self::Missing(cause)
            | Self::Silent(cause)
            | Self::Unwell(cause)
            | Self::Refused(cause)
            | Self::Fault(cause) => cause,
        }
    }

    /// Whether it will pass by itself.
    pub(super) const fn passes(&self) -> bool {
        matches!(self, Self::Silent(_) | Self::Unwell(_))
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::NotFound { .. } => Self::Missing(error.into()),
            StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => Self::Refused(error.into()),
            StoreError::Generic { .. } => {
                let in_the_way = find::<io::Error>(&error).is_some_and(|error| needs_somebody(error.kind()));
                if find::<HttpError>(&error).is_some() {
                    Self::Silent(error.into())
                } else if in_the_way {
                    Self::Refused(error.into())
                } else {
                    Self::Unwell(error.into())
                }
            }
            _ => Self::Fault(error.into()),
        }
    }
}

/// Of a folder.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if needs_somebody(error.kind()) { Self::Refused(error.into()) } else { Self::Unwell(error.into()) }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Fault(cause) => Self::internal(cause),
            // Nothing in a place where something was to be stored: the bucket is gone.
            Failure::Missing(cause) | Failure::Silent(cause) | Failure::Unwell(cause) | Failure::Refused(cause) => {
                Self::unavailable("attachments_unavailable", "attachments cannot be stored or read right now")
                    .retry_after(REST)
                    .caused_by(cause)
            }
        }
    }
}

impl fmt::Display for Failure {
    /// All that is known of it, on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut told = self.cause().to_string();
        let mut next = self.cause().source();
        while let Some(source) = next {
            let more = source.to_string();
            // Many repeat what they were caused by.
            if !told.contains(&more) {
                told = format!("{told}: {more}");
            }
            next = source.source();
        }
        let words: Vec<&str> = told.split_whitespace().collect();
        f.write_str(&words.join(" ").chars().take(SAID).collect::<String>())
    }
}

/// The first of the causes that is of this kind.
fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// Whether a folder stays as it is until somebody does something about it.
const fn needs_somebody(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{CrossesDevices, IsADirectory, NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem};
    matches!(kind, PermissionDenied | ReadOnlyFilesystem | NotADirectory | IsADirectory | NotFound | CrossesDevices)
}

/// What is known of the store. Time is handed in.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Known {
    away: bool,
    shut_until: Option<Instant>,
}

impl Known {
    fn admits(self, now: Instant) -> bool {
        self.shut_until.is_none_or(|until| until <= now)
    }

    /// Learns how an operation ended; says whether that is news.
    fn learn(&mut self, failure: Option<&Failure>, now: Instant) -> bool {
        let before = self.away;
        *self = match failure {
            None | Some(Failure::Missing(_)) => Self::default(),
            Some(Failure::Silent(_)) => Self { away: true, shut_until: Some(now + REST) },
            Some(Failure::Unwell(_) | Failure::Refused(_)) => Self { away: true, ..*self },
            Some(Failure::Fault(_)) => *self,
        };
        before != self.away
    }
}

/// The way to one store; cheap to clone.
#[derive(Debug, Default, Clone)]
pub(super) struct Link(Arc<Mutex<Known>>);

impl Link {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it answered when it was last asked.
    pub(super) fn answers(&self) -> bool {
        !self.known().away
    }

    /// Refuses for a moment after the store did not answer.
    pub(super) fn admit(&self) -> Result<(), Failure> {
        if self.known().admits(Instant::now()) {
            Ok(())
        } else {
            Err(Failure::Silent("the store did not answer a moment ago".into()))
        }
    }

    /// Does something with the store, at most this long, and not at all if it did not answer a moment ago.
    pub(super) async fn run<T, E>(
        &self,
        longest: Duration,
        operation: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Failure>
    where
        E: Into<Failure>,
    {
        self.admit()?;
        self.ask(longest, operation).await
    }

    /// The same, whatever happened a moment ago.
    pub(super) async fn ask<T, E>(
        &self,
        longest: Duration,
        operation: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Failure>
    where
        E: Into<Failure>,
    {
        let done = match timeout(longest, operation).await {
            Ok(done) => done.map_err(Into::into),
            Err(_) => Err(Failure::Silent(format!("no answer within {} seconds", longest.as_secs()).into())),
        };
        let news = self.known().learn(done.as_ref().err(), Instant::now());
        match &done {
            Err(failure) if news => tracing::warn!(error = %failure, "the attachment store is away"),
            _ if news => tracing::info!("the attachment store is back"),
            _ => {}
        }
        done
    }

    /// Looks whether it is there, now and then, until the end.
    pub(super) async fn watch<E, F>(&self, draining: CancellationToken, ask: impl Fn() -> F)
    where
        F: Future<Output = Result<(), E>>,
        E: Into<Failure>,
    {
        loop {
            let [well, away] = EVERY;
            let looked = async {
                sleep(if self.answers() { well } else { away }).await;
                // What it says is learnt, and nobody waits for it.
                let _ = self.ask(GLANCE, ask()).await;
            };
            tokio::select! {
                () = draining.cancelled() => return,
                () = looked => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silent() -> Failure {
        Failure::Silent("nobody there".into())
    }

    #[test]
    fn after_silence_nobody_is_let_through_for_a_moment() {
        let (mut known, now) = (Known::default(), Instant::now());
        assert!(known.admits(now) && !known.learn(None, now));
        assert!(known.learn(Some(&silent()), now), "that it is away is news");
        assert!(!known.admits(now) && !known.admits(now + REST / 2) && known.admits(now + REST));
        assert!(!known.learn(Some(&silent()), now + REST), "that it is still away is none");
        assert!(!known.admits(now + REST));
        assert!(known.learn(Some(&Failure::Missing("no such object".into())), now), "who says no is there");
        assert_eq!(known, Known::default());
    }

    #[test]
    fn who_answers_badly_is_away_and_refuses_by_themselves() {
        let (mut known, now) = (Known::default(), Instant::now());
        assert!(known.learn(Some(&Failure::Unwell("500".into())), now));
        assert!(known.away && known.admits(now));
        assert!(!known.learn(Some(&Failure::Fault("a bug".into())), now), "a fault of ours says nothing of the store");
        assert!(known.away);
    }

    #[tokio::test]
    async fn a_store_that_hangs_is_given_up_and_then_not_asked() {
        let link = Link::default();
        let hangs = std::future::pending::<Result<(), Failure>>();
        let error = Error::from(link.run(Duration::from_millis(10), hangs).await.expect_err("no answer"));
        assert_eq!((error.reason(), error.wait()), ("attachments_unavailable", Some(REST)));
        assert!(!link.answers());
        let mut asked = false;
        let asking = async {
            asked = true;
            Ok::<_, Failure>(())
        };
        assert!(matches!(link.run(DEADLINE, asking).await, Err(Failure::Silent(_))));
        assert!(!asked);
        // Whoever looks whether it is there does ask.
        link.ask(DEADLINE, async { Ok::<_, Failure>(()) }).await.expect("an answer");
        assert!(link.answers());
        link.run(DEADLINE, async { Ok::<_, Failure>(()) }).await.expect("it is asked again");
    }

    #[test]
    fn what_is_in_the_way_stays_there_and_a_full_disk_may_not() {
        let of = |kind| Failure::from(io::Error::from(kind));
        assert!(!of(io::ErrorKind::PermissionDenied).passes());
        assert!(of(io::ErrorKind::StorageFull).passes());
        assert!(!Failure::Missing("no such bucket".into()).passes());
        let wrapped =
            StoreError::Generic { store: "folder", source: io::Error::from(io::ErrorKind::ReadOnlyFilesystem).into() };
        assert!(matches!(Failure::from(wrapped), Failure::Refused(_)));
    }

    #[test]
    fn all_causes_are_told_once_and_on_one_line() {
        let inner = Error::internal("<Error>\n  <Code>No</Code>");
        let outer = StoreError::Generic { store: "S3", source: Box::new(inner) };
        let told = Failure::from(outer).to_string();
        assert_eq!(told.matches("<Code>No</Code>").count(), 1, "{told}");
        assert!(!told.contains('\n'), "{told}");
    }
}
