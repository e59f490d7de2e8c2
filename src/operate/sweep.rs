//! The sweep: takes away what of attachments nobody needs any more, on one instance at a time.
//!
//! Every step may be cut off and done again: a record goes last, after what it leads to. Two sweeps at once do no harm
//! either; the lease only spares the work.

use std::time::Duration;

use futures_util::StreamExt as _;

use crate::blob::Blobs;
use crate::broker::Broker;
use crate::broker::lease::Lease;
use crate::broker::subject::Filter;
use crate::command::discards;
use crate::config::AttachmentConfig;
use crate::domain::clock::{Clock, Timestamp};
use crate::domain::event::Body;
use crate::error::{Error, Result};
use crate::lifecycle::Lifecycle;
use crate::store::Store;
use crate::store::attachments::{Claim, Record};

/// Documents of one step.
const STEP: usize = 500;
/// Objects that are looked up at once.
const OBJECTS: usize = 500;
/// Events of a conversation that MongoDB may not have, at most.
const UNPROJECTED: usize = 10_000;

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
}

fn before(now: Timestamp, age: Duration) -> Timestamp {
    now.plus_seconds(-i64::try_from(age.as_secs()).unwrap_or(i64::MAX))
}

impl Sweep {
    /// Sweeps here.
    #[must_use]
    pub const fn new(broker: Broker, store: Store, blobs: Blobs, config: AttachmentConfig, clock: Clock) -> Self {
        Self { broker, store, blobs, config, clock }
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

    /// Sweeps once.
    pub async fn once(&self) -> Result<Swept> {
        let now = self.clock.now();
        let mut swept = Swept::default();
        self.store.expire_unattached(before(now, self.config.keep)).await?;
        self.expire_abandoned(before(now, self.config.keep)).await?;
        loop {
            let gone = self.store.deleted_attachments(before(now, self.config.grace), stored(STEP)).await?;
            for record in &gone {
                discards::forget(&self.store, record).await?;
            }
            swept.attachments += gone.len();
            if gone.len() < STEP {
                break;
            }
        }
        loop {
            let condemned = self.store.condemned_blobs(stored(STEP)).await?;
            for blob in &condemned {
                discards::delete(&self.store, &self.blobs, blob).await?;
            }
            swept.blobs += condemned.len();
            if condemned.len() < STEP {
                break;
            }
        }
        for prefix in ["blobs", "incoming", "probe"] {
            swept.strays += self.delete_strays(prefix, before(now, self.config.keep)).await?;
        }
        let (blobs, stale) = (self.blobs.clone(), before(now, self.config.keep));
        let spools = tokio::task::spawn_blocking(move || blobs.sweep_spools(stale)).await;
        swept.spools = spools.map_err(Error::internal)?.map_err(Error::internal)?;
        Ok(swept)
    }

    /// Expires what was claimed for messages that never were.
    async fn expire_abandoned(&self, before: Timestamp) -> Result<()> {
        for record in self.store.unconfirmed_claims(before, stored(STEP)).await? {
            if let Some(claim) = record.claim
                && !self.is_carried(&record, claim).await?
            {
                self.store.release_claims(&[record.id], claim.message_id).await?;
                self.store.discard_attachment(record.owner_id, record.id).await?;
            }
        }
        Ok(())
    }

    /// Whether the message that has claimed it is there, and carries it.
    async fn is_carried(&self, record: &Record, claim: Claim) -> Result<bool> {
        let carries = |state: &crate::domain::state::MessageState| {
            state.deleted.is_some() || state.message.attachments.iter().any(|one| one.id == record.id)
        };
        if self.store.messages_by_id(&[claim.message_id]).await?.iter().any(carries) {
            return Ok(true);
        }
        let newer = self.broker.unprojected(Filter::Conversation(claim.conversation_id), UNPROJECTED).await?;
        Ok(newer.iter().any(|stored| match &stored.event.body {
            Body::Message(message) => message.id == claim.message_id,
            _ => false,
        }))
    }

    /// Deletes objects that are older than this and that no record knows.
    async fn delete_strays(&self, prefix: &str, before: Timestamp) -> Result<usize> {
        let mut objects = std::pin::pin!(self.blobs.list(prefix).chunks(OBJECTS));
        let mut deleted = 0;
        while let Some(chunk) = objects.next().await {
            let found: Vec<_> = chunk.into_iter().collect::<Result<_>>()?;
            let old: Vec<_> = found.into_iter().filter(|one| one.modified < before).map(|one| one.key).collect();
            let known = self.store.known_keys(&old.iter().map(|key| whole(key).to_owned()).collect::<Vec<_>>()).await?;
            for key in old.iter().filter(|key| !known.contains(whole(key))) {
                self.blobs.delete(key).await?;
                deleted += 1;
            }
        }
        Ok(deleted)
    }
}

/// The key of the blob that an object is, or is a smaller picture of.
fn whole(key: &str) -> &str {
    key.split_once('.').map_or(key, |(whole, _)| whole)
}

fn stored(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
