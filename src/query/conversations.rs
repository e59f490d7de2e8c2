//! The conversations of a user.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Queries, overlay};
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
    /// How far each participant is.
    pub marks: HashMap<UserId, Marks>,
    /// What it is to the caller.
    pub settings: Settings,
    /// Its newest message.
    pub last_message: Option<MessageState>,
}

impl Queries {
    /// The caller's conversations, the most recently active first.
    pub async fn conversations(&self, actor: &Actor, before: Option<Edge>, limit: u32) -> Result<Page<View>> {
        actor.check_expiry(self.clock.now())?;
        let newer = if before.is_none() { self.newer_of(actor.user_id).await? } else { Vec::new() };
        let mut page = self.store.conversations_of(actor.user_id, before, limit).await?;
        self.lay_over(&mut page, &newer, limit as usize).await?;
        let newer = newer.iter().map(AsRef::as_ref);
        Ok(Page { next: page.next, items: self.views(actor.user_id, page.items, newer).await? })
    }

    /// Events of a user that MongoDB may not have, as far as the window reaches back.
    async fn newer_of(&self, user: UserId) -> Result<Vec<Arc<Stored>>> {
        let (floor, head) = tokio::try_join!(self.broker.projected(), self.broker.head())?;
        self.recent.reaches(head, CATCH_UP).await;
        Ok(self.recent.since(user, floor, NEWER).map_or_else(Vec::new, |since| since.events))
    }

    /// Brings the first page up to date.
    async fn lay_over(&self, page: &mut Page<Listed>, newer: &[Arc<Stored>], limit: usize) -> Result<()> {
        let mut last_edge = page.next;
        for stored in newer {
            let Some(id) = stored.event.body.conversation() else { continue };
            if !page.items.iter().any(|listed| listed.conversation.id == id) {
                let moves_up = matches!(stored.event.body, Body::Message(_) | Body::Conversation(_));
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
        let newer = self.unprojected(Filter::Conversation(id), overlay::LIMIT).await?;
        let stored = self.store.conversation(id).await?;
        let mut listed = stored.unwrap_or_else(|| Listed::fresh(entry.conversation.clone(), entry.seq()));
        for stored in &newer {
            overlay::apply(&mut listed, stored);
        }
        self.views(actor.user_id, vec![listed], newer.iter()).await?.pop().ok_or_else(foreign)
    }

    /// A conversation that was just opened or found, as a client shows it. MongoDB may not have it yet.
    pub async fn opened(&self, actor: &Actor, conversation: Conversation, created: bool) -> Result<View> {
        let listed = if created { None } else { self.store.conversation(conversation.id).await? };
        let listed = listed.unwrap_or_else(|| Listed::fresh(conversation, 0));
        self.views(actor.user_id, vec![listed], [].into_iter()).await?.pop().ok_or_else(foreign)
    }

    /// Conversations as this user is shown them. `newer` is what MongoDB may not have of them.
    async fn views<'a>(
        &self,
        user: UserId,
        listed: Vec<Listed>,
        newer: impl Iterator<Item = &'a Stored>,
    ) -> Result<Vec<View>> {
        let mut ids: Vec<UserId> = listed.iter().flat_map(|one| one.conversation.users()).collect();
        ids.sort_unstable();
        ids.dedup();
        let last: Vec<MessageId> = listed.iter().filter_map(|one| one.last_message.map(|last| last.id)).collect();
        let (users, mut said) = tokio::try_join!(self.store.users(&ids), self.store.messages_by_id(&last))?;
        overlay::lay_over(&mut said, newer, |_| true);
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
                marks: one.marks,
                settings: one.settings.get(&user).copied().unwrap_or_default(),
                last_message: last.filter(|state| state.seq > from && !state.is_hidden_from(user)),
                conversation: one.conversation,
            }
        };
        Ok(listed.into_iter().map(view).collect())
    }
}
