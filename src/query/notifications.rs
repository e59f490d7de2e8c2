//! The notifications of a user.

use std::collections::HashSet;

use super::Queries;
use crate::auth::Actor;
use crate::broker::subject::Filter;
use crate::domain::event::Body;
use crate::domain::ids::NotificationId;
use crate::domain::notification::Notification;
use crate::domain::page::{Edge, Page};
use crate::error::Result;

/// Events of an inbox that are laid over, at most.
const NEWER: usize = 5_000;

impl Queries {
    /// The caller's notifications with their places in the log, newest first. The first page has what the log has, also
    /// what MongoDB does not have yet: whoever reloads and then goes on from a cursor must not fall between the two.
    pub async fn notifications(
        &self,
        actor: &Actor,
        before: Option<Edge>,
        limit: u32,
    ) -> Result<Page<(u64, Notification)>> {
        actor.check_expiry(self.clock.now())?;
        let newer = match before {
            None => self.unprojected(Filter::Inbox(actor.user_id), NEWER).await?,
            Some(_) => Vec::new(),
        };
        let mut page = self.store.notifications_of(actor.user_id, before, limit).await?;
        let mut known: HashSet<NotificationId> = page.items.iter().map(|(_, one)| one.id).collect();
        for stored in newer {
            if let Body::Notification(notification) = stored.event.body
                && known.insert(notification.id)
            {
                page.items.push((stored.seq, notification));
            }
        }
        page.items.sort_unstable_by_key(|(seq, _)| std::cmp::Reverse(*seq));
        if page.items.len() > limit as usize {
            page.items.truncate(limit as usize);
            page.next = page.items.last().map(|(seq, _)| Edge(*seq));
        }
        Ok(page)
    }
}
