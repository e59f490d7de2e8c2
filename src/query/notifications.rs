//! The notifications of a user.

use super::Queries;
use crate::auth::Actor;
use crate::domain::notification::Notification;
use crate::domain::page::{Edge, Page};
use crate::error::Result;

impl Queries {
    /// The caller's notifications with their places in the log, newest first.
    pub async fn notifications(
        &self,
        actor: &Actor,
        before: Option<Edge>,
        limit: u32,
    ) -> Result<Page<(u64, Notification)>> {
        actor.check_expiry(self.clock.now())?;
        self.store.notifications_of(actor.user_id, before, limit).await
    }
}
