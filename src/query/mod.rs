//! Queries: everything that is read. Each authorises first and reads a bounded page.

pub mod attachments;
pub mod conversations;
pub mod downloads;
pub mod lists;
pub mod message;
pub mod messages;
pub mod notifications;
pub mod orders;
mod overlay;
pub mod preferences;
pub mod sync;
pub mod trace;
pub mod unread;
pub mod users;

use std::sync::Arc;

use crate::auth::Actor;
use crate::broker::Broker;
use crate::broker::recent::Recent;
use crate::command::directory::Directory;
use crate::command::inboxes::Inboxes;
use crate::command::preferences::Preferred;
use crate::command::uploads::Uploads;
use crate::domain::clock::Clock;
use crate::error::Result;
use crate::metrics::Metrics;
use crate::store::Store;
use downloads::Downloads;
use sync::Readers;
pub use users::BrokerLink;

/// Everything a query needs; cheap to clone.
#[derive(Debug, Clone)]
pub struct Queries {
    pub(crate) broker: Broker,
    pub(crate) store: Store,
    pub(crate) directory: Directory,
    pub(crate) inboxes: Inboxes,
    pub(crate) preferred: Preferred,
    pub(crate) uploads: Uploads,
    pub(crate) recent: Arc<Recent>,
    pub(crate) readers: Readers,
    pub(crate) downloads: Downloads,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Clock,
}

impl Queries {
    /// Bytes of an attachment, at most.
    #[must_use]
    pub fn largest_upload(&self) -> u64 {
        self.uploads.limits.bytes
    }

    /// Refuses a caller whose token has run out meanwhile.
    pub fn check(&self, actor: &Actor) -> Result<()> {
        actor.check_expiry(self.clock.now())
    }
}
