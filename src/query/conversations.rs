//! The conversations of a user.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Queries, overlay, unread};
use crate::auth::Actor;
use crate::broker::subject::Filter;
use crate::domain::conversation::{Conversation, foreign};
use crate::domain::event::{Body, Stored};
use crate::domain::ids::{ConversationId, MessageId, UserId};
use crate::domain::page::{Edge, Page};
use crate::domain::receipt::Marks;
use crate::domain::setting::Settings;
use crate::domain::state::MessageState;
use crate::error::Result;
use crate::store::conversations::Listed;

/// How long a list waits for this instance to hear of what others have accepted.
const CATCH_UP: Duration = Duration::from_secs(1);
/// Events that are laid over a list, at most.
const NEWER: usize = 10_000;

/// A conversation as a client shows it.
#[derive(Debug)]
pub struct View {
    /// The conversation.
    pub conversation: Conversation,
    /// The names of its participants.
    pub names: HashMap<UserId, String>,
    /// How far each participant is, as far as the caller is to know: of others, what is shown.
    pub marks: HashMap<UserId, Marks>,
    /// What it is to the caller.
    pub settings: Settings,
    /// Its newest message.
    pub last_message: Option<MessageState>,
    /// How many messages the caller has not read; 100 means that many or more.
    pub unread: u32,
}

/// What MongoDB may not have.
#[derive(Debug)]
struct Newer {
    /// Everything up to here it has.
    floor: u64,
    events: Vec<Arc<Stored>>,
}

impl Newer {
    fn iter(&self) -> impl Iterator<Item = &Stored> + Clone {
        self.events.iter().map(AsRef::as_ref)
    }

    fn unread(&self, user: UserId) -> unread::Newer {
        unread::Newer::of(user, self.floor, self.iter())
    }
}

/// Somebody's marks as this user may see them.
fn seen_by(user: UserId, whose: UserId, marks: Marks) -> Marks {
    Marks { read: if whose == user { marks.read } else { marks.shown }, ..marks }
}

impl Queries {
    /// The caller's conversations, the most recently active first.
    pub async fn conversations(&self, actor: &Actor, before: Option<Edge>, limit: u32) -> Result<Page<View>> {
        actor.check_expiry(self.clock.now())?;
        let (mut page, newer) = self.page_of(actor.user_id, before, limit).await?;
        let items = std::mem::take(&mut page.items);
        Ok(Page { next: page.next, items: self.views(actor.user_id, items, &newer).await? })
    }

    /// The most recent conversations of a user, and what MongoDB may not have of them.
    pub(super) async fn recent_conversations(&self, user: UserId, limit: u32) -> Result<(Page<Listed>, unread::Newer)> {
        let (page, newer) = self.page_of(user, None, limit).await?;
        Ok((page, newer.unread(user)))
    }

    async fn page_of(&self, user: UserId, before: Option<Edge>, limit: u32) -> Result<(Page<Listed>, Newer)> {
        let newer = self.newer_of(user).await?;
        let mut page = self.store.conversations_of(user, before, limit).await?;
        self.lay_over(&mut page, &newer.events, before, limit as usize).await?;
        Ok((page, newer))
    }

    /// Events of a user that MongoDB may not have, as far as the window reaches back.
    async fn newer_of(&self, user: UserId) -> Result<Newer> {
        let (floor, head) = tokio::try_join!(self.broker.projected(), self.broker.head())?;
        self.recent.reaches(head, CATCH_UP).await;
        Ok(match self.recent.since(user, floor, NEWER) {
            Some(since) => Newer { floor, events: since.events },
            // MongoDB alone is what there is to show.
            None => Newer { floor: u64::MAX, events: Vec::new() },
        })
    }

    /// Brings a page up to date. What has happened since may bring a conversation to the first one.
    async fn lay_over(
        &self,
        page: &mut Page<Listed>,
        newer: &[Arc<Stored>],
        before: Option<Edge>,
        limit: usize,
    ) -> Result<()> {
        let mut last_edge = page.next;
        for stored in newer {
            let Some(id) = stored.event.body.conversation() else { continue };
            if !page.items.iter().any(|listed| listed.conversation.id == id) {
                let moves_up =
                    before.is_none() && matches!(stored.event.body, Body::Message(_) | Body::Conversation(_));
                if !moves_up {
                    continue;
                }
                let found = self.store.conversation(id).await?;
                let Some(entry) = self.directory.find(id).await? else { continue };
                page.items.push(found.unwrap_or_else(|| Listed::fresh(entry.conversation.clone(), entry.seq())));
            }
            if let Some(listed) = page.items.iter_mut().find(|listed| listed.conversation.id == id) {
                overlay::apply(listed, stored);
            }
        }
        page.items.sort_by_key(|listed| std::cmp::Reverse(listed.last_seq));
        if page.items.len() > limit {
            page.items.truncate(limit);
            last_edge = page.items.last().map(|last| Edge(last.last_seq));
        }
        page.next = last_edge;
        Ok(())
    }

    /// One of the caller's conversations.
    pub async fn conversation(&self, actor: &Actor, id: ConversationId) -> Result<View> {
        actor.check_expiry(self.clock.now())?;
        let entry = self.directory.for_participant(id, actor.user_id).await?;
        let (floor, events) = self.behind(Filter::Conversation(id), overlay::LIMIT).await?;
        let newer = Newer { floor, events: events.into_iter().map(Arc::new).collect() };
        let stored = self.store.conversation(id).await?;
        let mut listed = stored.unwrap_or_else(|| Listed::fresh(entry.conversation.clone(), entry.seq()));
        for stored in &newer.events {
            overlay::apply(&mut listed, stored);
        }
        self.views(actor.user_id, vec![listed], &newer).await?.pop().ok_or_else(foreign)
    }

    /// A conversation that was just opened or found, as a client shows it. MongoDB may not have it yet.
    pub async fn opened(&self, actor: &Actor, conversation: Conversation, created: bool) -> Result<View> {
        if !created {
            return self.conversation(actor, conversation.id).await;
        }
        let newer = Newer { floor: 0, events: Vec::new() };
        self.views(actor.user_id, vec![Listed::fresh(conversation, 0)], &newer).await?.pop().ok_or_else(foreign)
    }

    /// Conversations as this user is shown them. `newer` is what MongoDB may not have of them.
    async fn views(&self, user: UserId, listed: Vec<Listed>, newer: &Newer) -> Result<Vec<View>> {
        let mut ids: Vec<UserId> = listed.iter().flat_map(|one| one.conversation.users()).collect();
        ids.sort_unstable();
        ids.dedup();
        let last: Vec<MessageId> = listed.iter().filter_map(|one| one.last_message.map(|last| last.id)).collect();
        let (users, mut said, unread) = tokio::try_join!(
            self.store.users(&ids),
            self.store.messages_by_id(&last),
            self.unread(user, &listed, newer.unread(user), unread::SHOWN),
        )?;
        overlay::lay_over(&mut said, newer.iter(), |_| true);
        let names: HashMap<UserId, String> = users.into_iter().map(|user| (user.id, user.name.into())).collect();
        let mut said: HashMap<MessageId, MessageState> =
            said.into_iter().map(|state| (state.message.id, state)).collect();
        let view = |one: Listed| {
            let from = one.conversation.participant(user).map_or(0, |participant| participant.visible_from);
            let last = one.last_message.and_then(|last| said.remove(&last.id));
            View {
                names: one
                    .conversation
                    .users()
                    .filter_map(|user| names.get(&user).map(|name| (user, name.clone())))
                    .collect(),
                marks: one.marks.into_iter().map(|(whose, marks)| (whose, seen_by(user, whose, marks))).collect(),
                settings: one.settings.get(&user).copied().unwrap_or_default(),
                last_message: last.filter(|state| state.seq > from),
                unread: unread.get(&one.conversation.id).copied().unwrap_or(0),
                conversation: one.conversation,
            }
        };
        let mut views: Vec<View> = listed.into_iter().map(view).collect();
        self.step_back(user, &mut views, newer.iter()).await?;
        Ok(views)
    }
}
