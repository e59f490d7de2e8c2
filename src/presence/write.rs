//! Writing: the instance's lease, and the records of the users who have sockets here.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::time::Instant;

use super::record::{Record, value};
use super::service::Inner;
use crate::command::preferences::Everybody;
use crate::domain::ids::UserId;
use crate::domain::presence::Sign;
use crate::error::{Error, Result};
use crate::store::Haste;

/// Writes to the bucket at once.
pub(super) const WRITES: usize = 32;
/// Records that are looked at in one go.
const BATCH: usize = 4 * WRITES;
/// The time between two changes of one record: a client that changes its mind all the time is told of now and then.
const BETWEEN: Duration = Duration::from_millis(250);
/// How long to wait after something could not be written.
const PAUSE: Duration = Duration::from_millis(500);

impl Inner {
    pub(super) async fn renew(&self) -> Result<()> {
        self.leases.put(&self.instance.to_string(), Bytes::new()).await
    }

    /// Brings the records of this instance's users in line with what their sockets say.
    pub(super) async fn write_records(&self) -> Result<()> {
        loop {
            let (users, later) = self.take_due();
            if users.is_empty() {
                let wait = if later { BETWEEN / 5 } else { Duration::MAX };
                let _ = tokio::time::timeout(wait, self.write.notified()).await;
                continue;
            }
            let failed = self.bring_in_line(&users).await;
            {
                let mut state = self.lock();
                state.writing = 0;
                state.dirty.extend(failed.iter().map(|(user, _)| *user));
            }
            if let Some((_, error)) = failed.first() {
                tracing::warn!(error = %error, users = failed.len(), "presence cannot be written right now");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Users whose records are to be written now, and whether there are others whose turn comes later.
    fn take_due(&self) -> (Vec<UserId>, bool) {
        let (mut state, now) = (self.lock(), Instant::now());
        let is_due = |user: &&UserId| {
            // Leaving is never put off.
            state.sign(**user).is_none() || state.written.get(user).is_none_or(|(_, next)| *next <= now)
        };
        let users: Vec<UserId> = state.dirty.iter().filter(is_due).take(BATCH).copied().collect();
        for user in &users {
            state.dirty.remove(user);
        }
        state.writing = users.len();
        (users, !state.dirty.is_empty())
    }

    /// Writes what has to be written for these users; returns those for whom it could not be done.
    async fn bring_in_line(&self, users: &[UserId]) -> Vec<(UserId, Error)> {
        let here: Vec<UserId> = {
            let state = self.lock();
            users.iter().copied().filter(|user| state.here.contains_key(user)).collect()
        };
        let (preferences, trouble) = self.preferred.some(here.iter().copied(), Haste::Patient).await;
        let wanted = self.wanted(users, &preferences);
        let mut failed: Vec<(UserId, Error)> = match trouble {
            None => Vec::new(),
            Some(error) => {
                let unknown = here.into_iter().filter(|user| preferences.of(*user).is_none());
                unknown.map(|user| (user, error.echo())).collect()
            }
        };
        let mut writes = futures_util::stream::iter(wanted)
            .map(|(user, sign)| async move { (user, sign, self.write_record(user, sign).await) })
            .buffer_unordered(WRITES);
        while let Some((user, sign, outcome)) = writes.next().await {
            let mut state = self.lock();
            match outcome {
                Ok(()) => {
                    state.uncertain.remove(&user);
                    match sign {
                        Some(sign) => drop(state.written.insert(user, (sign, Instant::now() + BETWEEN))),
                        None => drop(state.written.remove(&user)),
                    }
                }
                Err(error) => {
                    // It may have been written all the same.
                    state.uncertain.insert(user);
                    failed.push((user, error));
                }
            }
        }
        failed
    }

    /// What the records of these users should say, where they may say something else. Whoever cannot be asked may want to be
    /// invisible; whoever has left need not be asked.
    fn wanted(&self, users: &[UserId], preferences: &Everybody) -> Vec<(UserId, Option<Sign>)> {
        let state = self.lock();
        let wanted = users.iter().filter_map(|user| {
            let sign = match state.sign(*user) {
                None => None,
                Some(sign) => (!preferences.of(*user)?.invisible).then_some(sign),
            };
            let said = state.written.get(user).map(|(said, _)| *said);
            let news = said != sign || state.uncertain.contains(user);
            news.then_some((*user, sign))
        });
        wanted.collect()
    }

    async fn write_record(&self, user: UserId, sign: Option<Sign>) -> Result<()> {
        let key = Record { user, instance: self.instance }.to_string();
        match sign {
            Some(sign) => self.records.put(&key, value(sign)).await,
            None => self.records.delete(&key).await,
        }
    }
}
