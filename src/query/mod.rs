//! Queries: everything that is read. Each authorises first and reads a bounded page.

pub mod conversations;
pub mod messages;
pub mod notifications;
pub mod users;

use crate::broker::Broker;
use crate::command::directory::Directory;
use crate::domain::clock::Clock;
use crate::store::Store;

/// Everything a query needs; cheap to clone.
#[derive(Debug, Clone)]
pub struct Queries {
    pub(crate) broker: Broker,
    pub(crate) store: Store,
    pub(crate) directory: Directory,
    pub(crate) clock: Clock,
}
