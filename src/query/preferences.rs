//! How the caller is seen, and whom they block.

use std::collections::HashMap;
use std::sync::Arc;

use super::Queries;
use crate::auth::Actor;
use crate::domain::ids::UserId;
use crate::domain::preferences::Preferences;
use crate::error::Result;

impl Queries {
    /// The caller's preferences, as they were last stored, at whichever instance.
    pub async fn preferences(&self, actor: &Actor) -> Result<Arc<Preferences>> {
        actor.check_expiry(self.clock.now())?;
        Ok(self.preferred.latest(actor.user_id).await?.0)
    }

    /// Everybody whom the caller blocks, with their names.
    pub async fn blocked(&self, actor: &Actor) -> Result<Vec<(UserId, Option<String>)>> {
        let preferences = self.preferences(actor).await?;
        if preferences.blocked.is_empty() {
            return Ok(Vec::new());
        }
        let users = self.store.users(&preferences.blocked).await?;
        let mut names: HashMap<UserId, String> = users.into_iter().map(|user| (user.id, user.name.into())).collect();
        Ok(preferences.blocked.iter().map(|user| (*user, names.remove(user))).collect())
    }
}
