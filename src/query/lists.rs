//! Lists of conversations: a user's own, and those that wait for an agent.
//!
//! MongoDB has them in the order of their last activity; what it may not have yet is laid over. What else is asked for is
//! looked at here, one conversation after the other, so that it is asked of what is so now and not of what was stored. Of
//! one page a bounded number is looked at: it may be short, and its cursor goes on all the same.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::conversations::{Newer, View};
use super::{Queries, overlay, unread};
use crate::auth::Actor;
use crate::domain::context::ContextKind;
use crate::domain::conversation::Kind;
use crate::domain::event::{Body, Stored};
use crate::domain::ids::{ConversationId, UserId};
use crate::domain::page::{Edge, Page};
use crate::domain::user::Role;
use crate::error::{Code, Error, Result};
use crate::store::conversations::Listed;

/// How long a list waits for this instance to hear of what others have accepted.
const CATCH_UP: Duration = Duration::from_secs(1);
/// Events that are laid over a list, at most.
const NEWER: usize = 10_000;
/// Conversations of one reading.
const BATCH: usize = 200;
/// Conversations looked at for one page, at most.
const LOOKED_AT: usize = 1_000;

/// Which conversations are wanted; what is not said does not matter.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Those of this kind.
    pub kind: Option<Kind>,
    /// Those about this sort of thing.
    pub context_type: Option<ContextKind>,
    /// Those about the thing with this id.
    pub context_id: Option<String>,
    /// Those that the caller has put away, or has not.
    pub archived: Option<bool>,
    /// Those in which the caller has something to read, or has not.
    pub unread: Option<bool>,
}

impl Wanted {
    fn is_everything(&self) -> bool {
        let Self { kind, context_type, context_id, archived, unread } = self;
        let plain = kind.is_none() && context_type.is_none() && context_id.is_none();
        plain && archived.is_none() && unread.is_none()
    }

    fn takes(&self, user: UserId, listed: &Listed) -> bool {
        let context = listed.conversation.context.as_ref();
        let archived = || listed.settings.get(&user).is_some_and(|settings| settings.archived);
        self.kind.is_none_or(|kind| kind == listed.conversation.kind)
            && self.context_type.is_none_or(|kind| context.is_some_and(|context| context.kind == kind))
            && self.context_id.as_ref().is_none_or(|id| context.is_some_and(|context| context.id == *id))
            && self.archived.is_none_or(|wanted| wanted == archived())
    }
}

impl Queries {
    /// The caller's conversations, the most recently active first.
    pub async fn conversations(
        &self,
        actor: &Actor,
        wanted: &Wanted,
        before: Option<Edge>,
        limit: u32,
    ) -> Result<Page<View>> {
        actor.check_expiry(self.clock.now())?;
        let (page, newer) = self.page_of(actor.user_id, wanted, before, limit).await?;
        Ok(Page { next: page.next, items: self.views(actor.user_id, page.items, &newer).await? })
    }

    /// The most recent conversations of a user, and what MongoDB may not have of them.
    pub(super) async fn recent_conversations(&self, user: UserId, limit: u32) -> Result<(Page<Listed>, unread::Newer)> {
        let (page, newer) = self.page_of(user, &Wanted::default(), None, limit).await?;
        Ok((page, newer.unread(user)))
    }

    async fn page_of(
        &self,
        user: UserId,
        wanted: &Wanted,
        before: Option<Edge>,
        limit: u32,
    ) -> Result<(Page<Listed>, Newer)> {
        let limit = limit as usize;
        let newer = self.newer_of(user).await?;
        // What has moved up meanwhile is put in its place by itself, wherever MongoDB still has it.
        let mut moved = self.moved(&newer.events).await?;
        let is_before = |listed: &Listed| before.is_none_or(|Edge(edge)| listed.last_seq < edge);
        let ids: HashSet<ConversationId> = moved.iter().map(|listed| listed.conversation.id).collect();
        moved.retain(|listed| is_before(listed));
        let batch = if wanted.is_everything() { limit } else { BATCH };
        let (mut items, mut edge, mut looked_at) = (Vec::new(), before, 0);
        let next = loop {
            let page = self.store.conversations_of(user, edge, u32::try_from(batch).unwrap_or(u32::MAX)).await?;
            looked_at += page.items.len();
            edge = page.next;
            let mut found: Vec<Listed> =
                page.items.into_iter().filter(|listed| !ids.contains(&listed.conversation.id)).collect();
            lay_over(&mut found, &newer.events);
            // Those of the moved ones that belong above what comes with the next reading.
            let floor = edge.map_or(0, |Edge(edge)| edge);
            let (here, below): (Vec<_>, Vec<_>) = moved.into_iter().partition(|listed| listed.last_seq >= floor);
            moved = below;
            found.extend(here);
            found.sort_by_key(|listed| std::cmp::Reverse(listed.last_seq));
            found.retain(|listed| listed.conversation.has(user) && wanted.takes(user, listed));
            if let Some(wanted) = wanted.unread {
                let left = self.unread(user, &found, newer.unread(user), 1).await?;
                found.retain(|listed| left.get(&listed.conversation.id).is_some_and(|count| *count > 0) == wanted);
            }
            items.extend(found);
            if items.len() > limit {
                items.truncate(limit);
                break items.last().map(|last: &Listed| Edge(last.last_seq));
            }
            if edge.is_none() || items.len() == limit || looked_at >= LOOKED_AT {
                break edge;
            }
        };
        Ok((Page { items, next }, newer))
    }

    /// The support conversations that no agent has joined, for those who may join them.
    pub async fn waiting(&self, actor: &Actor, before: Option<Edge>, limit: u32) -> Result<Page<View>> {
        actor.check_expiry(self.clock.now())?;
        if !matches!(actor.role, Role::Agent | Role::Admin) {
            return Err(Error::new(Code::Forbidden, "not_an_agent", "only agents see who waits for one"));
        }
        let mut page = self.store.conversations_waiting(before, limit).await?;
        // Somebody may have joined a moment ago.
        page.items.retain(|listed| {
            let kept = self.directory.kept(listed.conversation.id).filter(|entry| entry.seq() > listed.state_seq);
            kept.is_none_or(|entry| entry.conversation.is_waiting())
        });
        let newer = Newer { floor: u64::MAX, events: Vec::new() };
        Ok(Page { next: page.next, items: self.views(actor.user_id, page.items, &newer).await? })
    }

    /// Events of a user that MongoDB may not have, as far as the window reaches back. More than can be laid over are refused,
    /// as a history refuses them.
    pub(super) async fn newer_of(&self, user: UserId) -> Result<Newer> {
        let (floor, head) = tokio::try_join!(self.broker.projected(), self.broker.head())?;
        self.recent.reaches(head, CATCH_UP).await;
        Ok(match self.recent.since(user, floor, NEWER) {
            Some(since) => Newer { floor, events: since.whole()? },
            // MongoDB alone is what there is to show.
            None => Newer { floor: u64::MAX, events: Vec::new() },
        })
    }

    /// The conversations that these events have moved up or brought in, as they are now.
    async fn moved(&self, newer: &[Arc<Stored>]) -> Result<Vec<Listed>> {
        let mut ids: Vec<ConversationId> = Vec::new();
        let mut known = HashSet::new();
        for stored in newer {
            if let (Body::Message(_) | Body::Conversation(_), Some(id)) =
                (&stored.event.body, stored.event.body.conversation())
                && known.insert(id)
            {
                ids.push(id);
            }
        }
        let mut moved = Vec::with_capacity(ids.len());
        for ids in ids.chunks(BATCH) {
            moved.extend(self.store.conversations_by_id(ids).await?);
        }
        let stored: HashSet<ConversationId> = moved.iter().map(|listed| listed.conversation.id).collect();
        for id in ids.into_iter().filter(|id| !stored.contains(id)) {
            if let Some(entry) = self.directory.find(id).await? {
                moved.push(Listed::fresh(entry.conversation.clone(), entry.seq()));
            }
        }
        lay_over(&mut moved, newer);
        Ok(moved)
    }
}

/// Brings conversations up to date.
fn lay_over(listed: &mut [Listed], newer: &[Arc<Stored>]) {
    let places: HashMap<ConversationId, usize> =
        listed.iter().enumerate().map(|(place, one)| (one.conversation.id, place)).collect();
    for stored in newer {
        if let Some(place) = stored.event.body.conversation().and_then(|id| places.get(&id)) {
            overlay::apply(&mut listed[*place], stored);
        }
    }
}
