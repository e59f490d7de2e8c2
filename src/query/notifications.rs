//! The notifications of a user.

use std::collections::HashSet;

use super::conversations::Newer;
use super::{Queries, overlay};
use crate::auth::Actor;
use crate::broker::subject::Filter;
use crate::domain::event::Body;
use crate::domain::ids::{MessageId, NotificationId, UserId};
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
        // Before anything is read from MongoDB: what is projected in between is in both, and never in none.
        let happened = self.newer_of(actor.user_id).await?;
        let newer = match before {
            None => self.unprojected(Filter::Inbox(actor.user_id), NEWER).await?,
            Some(_) => Vec::new(),
        };
        let mut page = self.store.notifications_of(actor.user_id, before, limit).await?;
        let mut known: HashSet<NotificationId> = page.items.iter().map(|(_, one)| one.id).collect();
        for stored in newer {
            if let Body::Notification(notification) = stored.event.body
                && notification.is_told()
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
        self.silence_deleted(actor.user_id, &mut page.items, &happened).await?;
        Ok(page)
    }

    /// A message that is deleted says nothing any more, here either. One that was edited does: a notification is what
    /// somebody was told then, and they may have left since.
    async fn silence_deleted(&self, user: UserId, items: &mut [(u64, Notification)], happened: &Newer) -> Result<()> {
        let ids: Vec<MessageId> = items.iter().filter_map(|(_, one)| one.data.message_id).collect();
        let mut said = self.store.messages_by_id(&ids).await?;
        overlay::lay_over(&mut said, happened.iter(), |_| true);
        let gone = said.iter().filter(|state| state.deleted.is_some() || state.is_hidden_from(user));
        let gone: HashSet<MessageId> = gone.map(|state| state.message.id).collect();
        for (_, one) in items.iter_mut().filter(|(_, one)| one.data.message_id.is_some_and(|id| gone.contains(&id))) {
            one.body.clear();
        }
        Ok(())
    }
}
