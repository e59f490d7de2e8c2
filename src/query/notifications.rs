//! The inbox of a user: what they were told, and what has become of it.
//!
//! MongoDB has the entries in the order of their newest notifications; what it may not have yet is joined. What else is asked
//! for is looked at here, one entry after the other, so that it is asked of what is so now. Of one page a bounded number is
//! looked at: it may be short, and its cursor goes on all the same.

use std::collections::HashSet;

use futures_util::{StreamExt as _, TryStreamExt as _};

use super::{Queries, overlay};
use crate::auth::Actor;
use crate::command::inboxes::{Newer, unknown};
use crate::domain::clock::Timestamp;
use crate::domain::ids::{MessageId, NotificationId, UserId};
use crate::domain::inbox::{COUNT_LIMIT, Counts, Inbox};
use crate::domain::notification::{Kind, Notification};
use crate::domain::page::{Edge, Page};
use crate::domain::registers::Standing;
use crate::domain::user::Role;
use crate::error::Result;

/// Entries of one reading, at least and at most.
const LEAST: u32 = 20;
const BATCH: u32 = 200;
/// Entries looked at for one page, at most.
const LOOKED_AT: usize = 1_000;
/// Entries that are counted at once.
const AT_ONCE: usize = 8;
/// Seconds of a day.
const DAY: i64 = 86_400;

/// Which entries are wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted {
    /// Those of this kind.
    pub kind: Option<Kind>,
    /// Those that were not read, or were.
    pub unread: Option<bool>,
    /// Those that are put away; else those that are not.
    pub archived: bool,
    /// Those that are out of sight for now; else those that are not.
    pub snoozed: bool,
}

/// An entry of an inbox.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Names the entry.
    pub id: NotificationId,
    /// The place of its newest notification.
    pub seq: u64,
    /// Its newest notification.
    pub newest: Notification,
    /// How many of what it stands for were not read; 100 means that many or more.
    pub count: u32,
    /// How it stands.
    pub standing: Standing,
}

impl Wanted {
    fn takes(self, kind: Kind, standing: Standing) -> bool {
        self.kind.is_none_or(|wanted| wanted == kind)
            && self.unread.is_none_or(|wanted| wanted != standing.read)
            && self.archived == standing.archived
            && self.snoozed == standing.snoozed_until.is_some()
    }
}

impl Queries {
    /// The caller's inbox, the newest first.
    pub async fn notifications(
        &self,
        actor: &Actor,
        wanted: Wanted,
        before: Option<Edge>,
        limit: u32,
    ) -> Result<Page<Listed>> {
        let now = self.clock.now();
        actor.check_expiry(now)?;
        let (user, limit) = (actor.user_id, limit as usize);
        let floor = self.inboxes.floor().await?;
        let mut newer = self.inboxes.newer(user, floor).await?;
        newer.inbox.all.join(self.store.registers_of(user).await?);
        // What is new is put in its place by itself, wherever MongoDB still has it.
        let mut moved: Vec<(u64, NotificationId)> =
            newer.inbox.entries.iter().filter_map(|(id, entry)| Some((entry.newest?.seq, *id))).collect();
        let new: HashSet<NotificationId> = moved.iter().map(|(_, id)| *id).collect();
        // How much of them was read before is to be known, wherever in the list MongoDB has them.
        for (id, entry) in self.store.entries_by_id(&new.iter().copied().collect::<Vec<_>>()).await? {
            newer.inbox.join(id, entry);
        }
        moved.retain(|(seq, _)| before.is_none_or(|Edge(edge)| *seq < edge));
        let batch = u32::try_from(limit).unwrap_or(BATCH).clamp(LEAST, BATCH);
        let (mut items, mut edge, mut looked_at) = (Vec::new(), before, 0);
        let next = loop {
            let page = self.store.entries_of(user, edge, batch).await?;
            looked_at += page.items.len();
            edge = page.next;
            let mut here: Vec<(u64, NotificationId)> = Vec::new();
            for (id, entry) in page.items.into_iter().filter(|(id, _)| !new.contains(id)) {
                here.extend(entry.newest.map(|newest| (newest.seq, id)));
                newer.inbox.join(id, entry);
            }
            let last = edge.map_or(0, |Edge(edge)| edge);
            let (above, below): (Vec<_>, Vec<_>) = moved.into_iter().partition(|(seq, _)| *seq >= last);
            moved = below;
            here.extend(above);
            here.sort_unstable_by_key(|(seq, _)| std::cmp::Reverse(*seq));
            let ids: Vec<NotificationId> = here.iter().map(|(_, id)| *id).collect();
            self.inboxes.read_marks(user, &mut newer.inbox, &ids).await?;
            items.extend(here.into_iter().filter_map(|(_, id)| listed(&newer.inbox, id, now, wanted)));
            if items.len() > limit {
                items.truncate(limit);
                break items.last().map(|last: &Listed| Edge(last.seq));
            }
            if edge.is_none() || items.len() == limit || looked_at >= LOOKED_AT {
                break edge;
            }
        };
        self.count_entries(&newer, &mut items).await?;
        self.silence_deleted(user, &mut items).await?;
        Ok(Page { items, next })
    }

    /// How many entries of the caller's inbox wait: of the 1,000 newest, those that are neither put away nor put off.
    pub async fn waiting_notifications(&self, actor: &Actor) -> Result<Counts> {
        let now = self.clock.now();
        actor.check_expiry(now)?;
        self.inboxes.counts(actor.user_id, None, now).await
    }

    /// A notification, or the newest one of an entry, with what was decided about it, also one that its user was not told of:
    /// for them, and for agents.
    pub async fn decided(&self, actor: &Actor, id: NotificationId) -> Result<Notification> {
        let now = self.clock.now();
        actor.check_expiry(now)?;
        let (_, made) = self.inboxes.notification(actor.user_id, id).await?;
        let may = made.user_id == actor.user_id || matches!(actor.role, Role::Agent | Role::Admin);
        let expired = made.created_at.plus_seconds(i64::from(self.store.notification_days()) * DAY) <= now;
        if may && !expired { Ok(made) } else { Err(unknown()) }
    }

    /// Counts what entries stand for: up to the floor in MongoDB, behind it what was applied.
    async fn count_entries(&self, newer: &Newer, items: &mut [Listed]) -> Result<()> {
        let many = items.iter_mut().filter(|one| one.newest.kind.collapses() && !one.standing.read);
        let counts: Vec<_> = many.map(|one| self.count_one(newer, one)).collect();
        futures_util::stream::iter(counts).buffer_unordered(AT_ONCE).try_collect::<()>().await
    }

    async fn count_one(&self, newer: &Newer, one: &mut Listed) -> Result<()> {
        let Some(entry) = newer.inbox.entries.get(&one.id) else { return Ok(()) };
        let fresh = newer.inbox.count(entry);
        let mut count = fresh;
        if fresh < COUNT_LIMIT
            && let Some(stretch) = newer.inbox.uncounted(entry, newer.floor)
        {
            let read = newer.inbox.read_there(entry);
            count += self.store.count_told(one.id, stretch, read, COUNT_LIMIT - fresh).await?;
        }
        one.count = count.clamp(1, COUNT_LIMIT);
        Ok(())
    }

    /// A message that is deleted says nothing any more, here either. One that was edited does: a notification is what
    /// somebody was told then, and they may have left since.
    async fn silence_deleted(&self, user: UserId, items: &mut [Listed]) -> Result<()> {
        let ids: Vec<MessageId> = items.iter().filter_map(|one| one.newest.data.message_id).collect();
        if ids.is_empty() {
            return Ok(());
        }
        // Before anything is read from MongoDB: what is projected in between is in both, and never in none.
        let happened = self.newer_of(user).await?;
        let mut said = self.store.messages_by_id(&ids).await?;
        overlay::lay_over(&mut said, happened.iter(), |_| true);
        let gone = said.iter().filter(|state| state.deleted.is_some() || state.is_hidden_from(user));
        let gone: HashSet<MessageId> = gone.map(|state| state.message.id).collect();
        for one in items.iter_mut().filter(|one| one.newest.data.message_id.is_some_and(|id| gone.contains(&id))) {
            one.newest.body.clear();
        }
        Ok(())
    }
}

/// An entry as it is listed, if it is wanted. What it stands for is counted later.
fn listed(inbox: &Inbox, id: NotificationId, now: Timestamp, wanted: Wanted) -> Option<Listed> {
    let entry = inbox.entries.get(&id)?;
    let (seq, newest) = (entry.newest?.seq, entry.notification.clone()?);
    let standing = inbox.standing(entry, now)?;
    let count = u32::from(!standing.read);
    wanted.takes(newest.kind, standing).then_some(Listed { id, seq, newest, count, standing })
}
