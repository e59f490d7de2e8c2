//! Conversations as a client shows them, one at a time; lists of them are in `lists`.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Queries, overlay, unread};
use crate::auth::Actor;
use crate::broker::subject::Filter;
use crate::command::directory::Entry;
use crate::domain::conversation::{Conversation, foreign};
use crate::domain::event::Stored;
use crate::domain::ids::{ConversationId, MessageId, UserId};
use crate::domain::receipt::Marks;
use crate::domain::setting::Settings;
use crate::domain::state::MessageState;
use crate::error::Result;
use crate::store::conversations::Listed;

/// A conversation as a client shows it.
#[derive(Debug)]
pub struct View {
    /// Who is shown it.
    pub viewer: UserId,
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
pub(super) struct Newer {
    /// Everything up to here it has.
    pub(super) floor: u64,
    /// What is behind that.
    pub(super) events: Vec<Arc<Stored>>,
}

impl Newer {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Stored> + Clone {
        self.events.iter().map(AsRef::as_ref)
    }

    pub(super) fn unread(&self, user: UserId) -> unread::Newer {
        unread::Newer::of(user, self.floor, self.iter())
    }
}

/// Somebody's marks as this user may see them.
fn seen_by(user: UserId, whose: UserId, marks: Marks) -> Marks {
    marks.seen(whose == user)
}

impl Queries {
    /// One of the caller's conversations.
    pub async fn conversation(&self, actor: &Actor, id: ConversationId) -> Result<View> {
        actor.check_expiry(self.clock.now())?;
        let entry = self.directory.for_participant(id, actor.user_id).await?;
        let (listed, newer) = self.listed(&entry).await?;
        // They may have been removed meanwhile.
        listed.conversation.require(actor.user_id)?;
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

    /// What one of the caller's conversations is to them.
    pub async fn settings(&self, actor: &Actor, id: ConversationId) -> Result<Settings> {
        actor.check_expiry(self.clock.now())?;
        let entry = self.directory.for_participant(id, actor.user_id).await?;
        let (listed, _) = self.listed(&entry).await?;
        Ok(listed.settings.get(&actor.user_id).copied().unwrap_or_default())
    }

    /// A conversation as it is now, and what MongoDB may not have of it.
    async fn listed(&self, entry: &Entry) -> Result<(Listed, Newer)> {
        let id = entry.conversation.id;
        let (floor, events) = self.behind(Filter::Conversation(id), overlay::LIMIT).await?;
        let newer = Newer { floor, events: events.into_iter().map(Arc::new).collect() };
        let stored = self.store.conversation(id).await?;
        let mut listed = stored.unwrap_or_else(|| Listed::fresh(entry.conversation.clone(), entry.seq()));
        for stored in newer.iter() {
            overlay::apply(&mut listed, stored);
        }
        Ok((listed, newer))
    }

    /// Conversations as this user is shown them. `newer` is what MongoDB may not have of them.
    pub(super) async fn views(&self, user: UserId, listed: Vec<Listed>, newer: &Newer) -> Result<Vec<View>> {
        let mut ids: Vec<UserId> = listed.iter().flat_map(|one| one.conversation.users()).collect();
        ids.sort_unstable();
        ids.dedup();
        let last: Vec<MessageId> = listed.iter().filter_map(|one| one.last_message.map(|last| last.id)).collect();
        let (names, mut said, unread) = tokio::try_join!(
            self.store.names(&ids),
            self.store.messages_by_id(&last),
            self.unread(user, &listed, newer.unread(user), unread::SHOWN),
        )?;
        overlay::lay_over(&mut said, newer.iter(), |_| true);
        let mut said: HashMap<MessageId, MessageState> =
            said.into_iter().map(|state| (state.message.id, state)).collect();
        let view = |one: Listed| {
            let from = one.conversation.participant(user).map_or(0, |participant| participant.visible_from);
            let last = one.last_message.and_then(|last| said.remove(&last.id));
            View {
                viewer: user,
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
