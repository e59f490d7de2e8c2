//! Accounts.

use std::time::Duration;

use super::Queries;
use crate::auth::Actor;
use crate::domain::user::User;
use crate::error::{Code, Error, Result};

impl Queries {
    /// The caller's own account.
    pub async fn me(&self, actor: &Actor) -> Result<User> {
        actor.check_expiry(self.clock.now())?;
        let found = self.store.user(actor.user_id).await?;
        found.ok_or_else(|| Error::new(Code::NotFound, "unknown_user", "there is no such user"))
    }

    /// Whether the database answers.
    pub async fn database_answers(&self) -> bool {
        self.store.ping().await.is_ok()
    }

    /// Whether the broker is reachable.
    #[must_use]
    pub fn broker_answers(&self) -> bool {
        self.broker.is_reachable()
    }

    /// What the link to the broker is like.
    #[must_use]
    pub fn broker_link(&self) -> BrokerLink {
        match self.broker.silence() {
            None => BrokerLink::Good,
            Some(silent) if self.broker.is_stalled() => BrokerLink::Stalled(silent),
            Some(silent) => BrokerLink::Lost(silent),
        }
    }
}

/// What the link to the broker is like, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokerLink {
    /// It answers.
    Good,
    /// It stopped answering on a connection that looked open.
    Stalled(Duration),
    /// It ended, and cannot be connected to.
    Lost(Duration),
}
