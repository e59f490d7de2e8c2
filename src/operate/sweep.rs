//! The sweep: takes away what of attachments nobody needs any more, on one instance at a time.
//!
//! Every step may be cut off and done again: a record goes last, after what it leads to. Two sweeps at once do no harm
//! either; the lease only spares the work. What cannot be done, such as deleting one object, keeps nothing else from it.

use std::time::Duration;

use futures_util::StreamExt as _;

use super::tie;
use crate::blob::Blobs;
use crate::broker::Broker;
use crate::broker::lease::Lease;
use crate::broker::subject::Filter;
use crate::command::discards;
use crate::config::AttachmentConfig;
use crate::domain::clock::{Clock, Timestamp};
use crate::domain::event::{Body, Stored};
use crate::domain::message::Message;
use crate::error::{Error, Result};
use crate::lifecycle::Lifecycle;
use crate::metrics::Metrics;
use crate::store::Store;
use crate::store::attachments::{Claim, Record};

/// Documents of one step.
const STEP: usize = 500;
/// Objects that are looked up at once.
const OBJECTS: usize = 500;
/// Events of a conversation that MongoDB may not have, at most.
const UNPROJECTED: usize = 10_000;
/// So long bytes may be on their way to a record that knows them, however short anything is kept.
const ON_ITS_WAY: Duration = Duration::from_hours(1);

/// What was taken away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Attachments that nobody had sent, or whose messages were deleted.
    pub attachments: usize,
    /// Bytes that nobody held any more.
    pub blobs: usize,
    /// Objects that no record knew.
    pub strays: usize,
    /// Files on their way in that were left behind.
    pub spools: usize,
}

/// Sweeps.
#[derive(Debug, Clone)]
pub struct Sweep {
    broker: Broker,
    store: Store,
    blobs: Blobs,
    config: AttachmentConfig,
    clock: Clock,
    metrics: Metrics,
}

/// What a sweep has done so far, and the first thing that it could not do.
#[derive(Default)]
struct Tally {
    swept: Swept,
    first: Option<Error>,
}

impl Tally {
    /// What was done, or nothing if it could not be. Without the database nothing else can be done either.
    fn note<T>(&mut self, done: Result<T>) -> Result<Option<T>> {
        match done {
            Ok(done) => Ok(Some(done)),
            Err(error) if error.reason() == "database_unavailable" => Err(error),
            Err(error) => {
                self.first.get_or_insert(error);
                Ok(None)
            }
        }
    }
}

fn before(now: Timestamp, age: Duration) -> Timestamp {
    now.plus_seconds(-i64::try_from(age.as_secs()).unwrap_or(i64::MAX))
}

impl Sweep {
    /// Sweeps here.
    #[must_use]
    pub const fn new(
        broker: Broker,
        store: Store,
        blobs: Blobs,
        config: AttachmentConfig,
        clock: Clock,
        metrics: Metrics,
    ) -> Self {
        Self { broker, store, blobs, config, clock, metrics }
    }

    /// Sweeps now and then as long as the instance runs, whenever no other one does.
    pub fn run(self, lifecycle: &Lifecycle, lease: Lease) {
        let draining = lifecycle.draining();
        lifecycle.background("sweep", async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(self.config.sweep) => {}
                    () = draining.cancelled() => return Ok(()),
                }
                let swept = tokio::select! {
                    swept = lease.holding(self.once()) => swept,
                    () = draining.cancelled() => return Ok(()),
                };
                match swept {
                    Ok(Some(swept)) if swept != Swept::default() => {
                        let Swept { attachments, blobs, strays, spools } = swept;
                        tracing::info!(attachments, blobs, strays, spools, "attachments were swept");
                    }
                    Ok(_) => {}
                    // The next one finds what this one has left.
                    Err(error) => tracing::warn!(error = %error, "attachments could not be swept"),
                }
            }
        });
    }

    /// Sweeps once. What cannot be done now is left to the next time, and the rest is done all the same.
    ///
    /// # Errors
    /// The first of what could not be done.
    pub async fn once(&self) -> Result<Swept> {
        let now = self.clock.now();
        let mut tally = Tally::default();
        tally.note(self.store.expire_unattached(before(now, self.config.keep)).await)?;
        self.expire_abandoned(before(now, self.config.keep), &mut tally).await?;
        self.forget_deleted(before(now, self.config.grace), &mut tally).await?;
        self.delete_condemned(&mut tally).await?;
        let stale = before(now, self.config.keep.max(ON_ITS_WAY));
        if tally.note(tie::belongs(&self.store, &self.blobs).await)?.unwrap_or_default() {
            for prefix in ["blobs", "incoming", "probe"] {
                self.delete_strays(prefix, stale, &mut tally).await?;
            }
        }
        let blobs = self.blobs.clone();
        let spools = tokio::task::spawn_blocking(move || blobs.sweep_spools(stale)).await.map_err(Error::internal)?;
        tally.swept.spools = tally.note(spools.map_err(Error::internal))?.unwrap_or_default();
        self.count(tally.swept);
        tally.first.map_or(Ok(tally.swept), Err)
    }

    fn count(&self, swept: Swept) {
        let Swept { attachments, blobs, strays, spools } = swept;
        for (what, count) in [("attachments", attachments), ("blobs", blobs), ("strays", strays), ("spools", spools)] {
            self.metrics.swept(what, count);
        }
    }

    /// Expires what was claimed for messages that never were.
    async fn expire_abandoned(&self, before: Timestamp, tally: &mut Tally) -> Result<()> {
        let unconfirmed = tally.note(self.store.unconfirmed_claims(before, stored(STEP)).await)?;
        for record in unconfirmed.unwrap_or_default() {
            if let Some(claim) = record.claim {
                tally.note(self.expire_unless_carried(&record, claim).await)?;
            }
        }
        Ok(())
    }

    async fn expire_unless_carried(&self, record: &Record, claim: Claim) -> Result<()> {
        if self.is_carried(record, claim).await? {
            return Ok(());
        }
        self.store.release_claim(record.id, claim).await?;
        self.store.discard_attachment(record.owner_id, record.id).await.map(drop)
    }

    /// Whether the message that has claimed it is there, and carries it. The log is read first: what is not behind the place
    /// that is projected by then is in the database afterwards.
    async fn is_carried(&self, record: &Record, claim: Claim) -> Result<bool> {
        let carries = |message: &Message| {
            message.id == claim.message_id && message.attachments.iter().any(|one| one.id == record.id)
        };
        let newer = self.broker.unprojected(Filter::Conversation(claim.conversation_id), UNPROJECTED).await?;
        let is_said = |stored: &Stored| matches!(&stored.event.body, Body::Message(message) if carries(message));
        if newer.iter().any(is_said) {
            return Ok(true);
        }
        Ok(self.store.messages_by_id(&[claim.message_id]).await?.iter().any(|state| carries(&state.message)))
    }

    /// Forgets attachments that are to go.
    async fn forget_deleted(&self, before: Timestamp, tally: &mut Tally) -> Result<()> {
        while let Some(gone) = tally.note(self.store.deleted_attachments(before, stored(STEP)).await)? {
            let mut forgotten = 0;
            for record in &gone {
                forgotten += usize::from(tally.note(discards::forget(&self.store, record).await)?.is_some());
            }
            tally.swept.attachments += forgotten;
            // Those that are left over come again with the next ones.
            if gone.len() < STEP || forgotten == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Deletes bytes that nobody holds.
    async fn delete_condemned(&self, tally: &mut Tally) -> Result<()> {
        while let Some(condemned) = tally.note(self.store.condemned_blobs(stored(STEP)).await)? {
            let mut deleted = 0;
            for blob in &condemned {
                let done = discards::delete(&self.store, &self.blobs, blob).await;
                deleted += usize::from(tally.note(done)?.is_some());
            }
            tally.swept.blobs += deleted;
            if condemned.len() < STEP || deleted == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Deletes objects that are older than this and that no record knows.
    async fn delete_strays(&self, prefix: &str, before: Timestamp, tally: &mut Tally) -> Result<()> {
        let mut objects = std::pin::pin!(self.blobs.list(prefix).chunks(OBJECTS));
        while let Some(chunk) = objects.next().await {
            let mut old = Vec::new();
            for found in chunk {
                let old_one = tally.note(found)?.filter(|one| one.modified < before);
                old.extend(old_one.map(|one| one.key));
            }
            let keys: Vec<_> = old.iter().map(|key| whole(key).to_owned()).collect();
            let Some(known) = tally.note(self.store.known_keys(&keys).await)? else { continue };
            for key in old.iter().filter(|key| !known.contains(whole(key))) {
                tally.swept.strays += usize::from(tally.note(self.blobs.delete(key).await)?.is_some());
            }
        }
        Ok(())
    }
}

/// The key of the blob that an object is, or is a smaller picture of.
fn whole(key: &str) -> &str {
    key.split_once('.').map_or(key, |(whole, _)| whole)
}

fn stored(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
