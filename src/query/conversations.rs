//! The conversations of a user.

use std::collections::HashMap;

use super::Queries;
use crate::auth::Actor;
use crate::domain::conversation::{Conversation, LastMessage, foreign};
use crate::domain::ids::{ConversationId, UserId};
use crate::domain::page::{Edge, Page};
use crate::error::Result;
use crate::store::conversations::Listed;

/// A conversation as a client shows it.
#[derive(Debug)]
pub struct View {
    /// The conversation.
    pub conversation: Conversation,
    /// The names of its participants.
    pub names: HashMap<UserId, String>,
    /// How far each participant has read.
    pub read: HashMap<UserId, u64>,
    /// Its newest message.
    pub last_message: Option<LastMessage>,
}

impl Queries {
    /// The caller's conversations, the most recently active first.
    pub async fn conversations(&self, actor: &Actor, before: Option<Edge>, limit: u32) -> Result<Page<View>> {
        actor.check_expiry(self.clock.now())?;
        let page = self.store.conversations_of(actor.user_id, before, limit).await?;
        Ok(Page { next: page.next, items: self.named(page.items).await? })
    }

    /// One of the caller's conversations.
    pub async fn conversation(&self, actor: &Actor, id: ConversationId) -> Result<View> {
        actor.check_expiry(self.clock.now())?;
        let entry = self.directory.for_participant(id, actor.user_id).await?;
        let listed = self.store.conversation(id).await?.unwrap_or_else(|| fresh(entry.conversation.clone()));
        self.view(listed).await
    }

    /// A conversation that was just opened or found, as a client shows it. MongoDB may not have it yet.
    pub async fn opened(&self, conversation: Conversation, created: bool) -> Result<View> {
        let listed = if created { None } else { self.store.conversation(conversation.id).await? };
        self.view(listed.unwrap_or_else(|| fresh(conversation))).await
    }

    async fn view(&self, listed: Listed) -> Result<View> {
        self.named(vec![listed]).await?.pop().ok_or_else(foreign)
    }

    async fn named(&self, listed: Vec<Listed>) -> Result<Vec<View>> {
        let mut ids: Vec<UserId> = listed.iter().flat_map(|one| one.conversation.users()).collect();
        ids.sort_unstable();
        ids.dedup();
        let users = self.store.users(&ids).await?;
        let names: HashMap<UserId, String> = users.into_iter().map(|user| (user.id, user.name.into())).collect();
        Ok(listed
            .into_iter()
            .map(|one| View {
                names: one
                    .conversation
                    .users()
                    .filter_map(|user| names.get(&user).map(|name| (user, name.clone())))
                    .collect(),
                conversation: one.conversation,
                read: one.read,
                last_message: one.last_message,
            })
            .collect())
    }
}

/// A conversation that MongoDB does not have yet.
fn fresh(conversation: Conversation) -> Listed {
    Listed { conversation, read: HashMap::new(), last_message: None, last_seq: 0 }
}
