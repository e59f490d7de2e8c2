//! Commands: everything that changes something, called by REST and sockets alike.
//!
//! A command authorises, checks and publishes; it never writes a projection. Accounts, sessions and the records of
//! attachments are the exception: they are plain synchronous writes to MongoDB.

pub mod accounts;
pub mod attachments;
mod bursts;
pub mod changes;
pub mod conversations;
pub mod directory;
pub mod discards;
pub mod inbox;
pub mod inboxes;
pub mod limits;
pub mod lookup;
pub mod messages;
pub mod participants;
pub mod preferences;
pub mod presigned;
pub mod receipts;
pub mod resends;
pub mod settings;
pub mod shares;
mod states;
pub mod touched;
pub mod typing;
pub mod uploads;

use std::sync::Arc;
use std::time::Duration;

use crate::auth::password::Passwords;
use crate::auth::token::Tokens;
use crate::broker::Broker;
use crate::broker::publish::Publisher;
use crate::domain::clock::Clock;
use crate::domain::event::{self, Body, Event};
use crate::domain::ids::UserId;
use crate::store::Store;
use directory::Directory;
use inboxes::Inboxes;
use limits::Limits;
use lookup::Lookup;
use preferences::Preferred;
use receipts::Receipts;
use resends::Resends;
use uploads::Uploads;

/// Everything a command needs; cheap to clone.
#[derive(Debug, Clone)]
pub struct Commands {
    pub(crate) broker: Broker,
    pub(crate) publisher: Publisher,
    pub(crate) store: Store,
    pub(crate) directory: Directory,
    pub(crate) inboxes: Inboxes,
    pub(crate) preferred: Preferred,
    pub(crate) limits: Limits,
    pub(crate) receipts: Receipts,
    pub(crate) resends: Resends,
    pub(crate) lookup: Lookup,
    pub(crate) uploads: Uploads,
    pub(crate) editable: Option<Duration>,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) passwords: Passwords,
    pub(crate) refresh_days: u32,
    pub(crate) clock: Clock,
}

impl Commands {
    /// The tokens that callers are known by.
    #[must_use]
    pub fn tokens(&self) -> &Arc<Tokens> {
        &self.tokens
    }

    /// The clock that commands go by.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// An event of this moment.
    fn event(&self, actor: UserId, recipients: Vec<UserId>, body: Body) -> Event {
        let now = self.clock.now();
        Event { id: self.clock.fresh_id(), version: event::VERSION, actor, occurred_at: now, recipients, body }
    }
}
