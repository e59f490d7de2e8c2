//! What somebody has not read: derived from their mark whenever it is shown, and never stored.
//!
//! Up to the place that MongoDB surely has it is counted there, by index and within bounds; what is behind that place comes
//! from the overlay, and what the overlay says is gone is not counted either. So a read, a send and a deletion count at
//! once, on every instance, however far the projection is behind.

use std::collections::{HashMap, HashSet};

use futures_util::{StreamExt as _, TryStreamExt as _};

use super::{Queries, overlay};
use crate::auth::Actor;
use crate::domain::change::Scope;
use crate::domain::event::{Body, Stored};
use crate::domain::ids::{ConversationId, MessageId, UserId};
use crate::domain::state::MessageState;
use crate::error::Result;
use crate::store::conversations::Listed;
use crate::store::unread::Unseen;

/// A list counts this far: it means that many, or more.
pub(super) const SHOWN: u32 = 100;
/// A total counts this far.
const TOTAL: u32 = 999;
/// Conversations that a total looks at: the most recent ones.
const CONVERSATIONS: u32 = 1_000;
/// Conversations that are counted at once.
const AT_ONCE: usize = 8;
/// Messages that may be in the log twice and are looked up for that, at most.
const DOUBTFUL: usize = 1_000;

/// What a user has to read in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Total {
    /// Messages, counted up to 999.
    pub messages: u32,
    /// Conversations that they are in.
    pub conversations: u32,
    /// There may be more than that.
    pub more: bool,
}

/// What MongoDB may not have, as far as it matters to what somebody has not read.
#[derive(Debug, Default)]
pub(super) struct Newer {
    /// MongoDB is asked about everything up to here.
    floor: u64,
    said: HashMap<ConversationId, Vec<MessageState>>,
    /// Messages up to the floor that do not count any more.
    gone: HashMap<ConversationId, Vec<MessageId>>,
}

impl Newer {
    /// What the events behind a place say.
    pub(super) fn of<'a>(user: UserId, floor: u64, events: impl Iterator<Item = &'a Stored> + Clone) -> Self {
        let mut newer = Self { floor, ..Self::default() };
        let mut said = Vec::new();
        overlay::lay_over(&mut said, events.clone().filter(|stored| stored.seq > floor), |_| true);
        for state in said {
            newer.said.entry(state.message.conversation_id).or_default().push(state);
        }
        for stored in events {
            if let Body::Deletion(deletion) = &stored.event.body
                && (deletion.scope == Scope::Everybody || deletion.deleted_by == user)
            {
                newer.gone.entry(deletion.conversation_id).or_default().push(deletion.message_id);
            }
        }
        newer
    }

    /// How many messages behind a mark count that only the log has.
    fn count(&self, user: UserId, conversation: ConversationId, mark: u64) -> u32 {
        let said = self.said.get(&conversation).into_iter().flatten();
        let count = said.filter(|state| state.seq > mark && state.counts_for(user)).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Messages whose first one MongoDB may have: only those that can be sent again.
    fn doubtful(&self) -> Vec<MessageId> {
        let said = self.said.values().flatten();
        let resendable = said.filter(|state| state.message.client_message_id.is_some());
        resendable.map(|state| state.message.id).take(DOUBTFUL).collect()
    }

    /// These are in the log for the second time.
    fn forget(&mut self, repeated: &HashSet<MessageId>) {
        for said in self.said.values_mut() {
            said.retain(|state| !repeated.contains(&state.message.id));
        }
    }
}

/// Where somebody goes on to read: nothing up to here is news to them.
fn mark(user: UserId, listed: &Listed) -> u64 {
    let from = listed.conversation.participant(user).map_or(0, |participant| participant.visible_from);
    listed.marks.get(&user).map_or(0, |marks| marks.read).max(from)
}

impl Queries {
    /// How many messages a user has to read in each of these conversations, each counted up to `most`.
    pub(super) async fn unread(
        &self,
        user: UserId,
        listed: &[Listed],
        mut newer: Newer,
        most: u32,
    ) -> Result<HashMap<ConversationId, u32>> {
        self.settle(&mut newer).await?;
        let counts: Vec<_> = news(user, listed).map(|one| self.count(user, one, &newer, most)).collect();
        futures_util::stream::iter(counts).buffer_unordered(AT_ONCE).try_collect().await
    }

    /// What a user has to read in all, in the most recent of their conversations.
    pub async fn unread_total(&self, actor: &Actor) -> Result<Total> {
        actor.check_expiry(self.clock.now())?;
        let user = actor.user_id;
        let (page, mut newer) = self.recent_conversations(user, CONVERSATIONS).await?;
        self.settle(&mut newer).await?;
        let mut total = Total { more: page.next.is_some(), ..Total::default() };
        let counts: Vec<_> = news(user, &page.items).map(|one| self.count(user, one, &newer, TOTAL)).collect();
        let mut counts = futures_util::stream::iter(counts).buffered(AT_ONCE);
        while let Some((_, count)) = counts.try_next().await? {
            total.messages += count;
            total.conversations += u32::from(count > 0);
            if total.messages >= TOTAL {
                return Ok(Total { messages: TOTAL, more: true, ..total });
            }
        }
        Ok(total)
    }

    /// A message that the log has twice counts where it was first.
    async fn settle(&self, newer: &mut Newer) -> Result<()> {
        let known = self.store.messages_by_id(&newer.doubtful()).await?;
        let repeated = known.into_iter().filter(|state| state.seq <= newer.floor).map(|state| state.message.id);
        newer.forget(&repeated.collect());
        Ok(())
    }

    async fn count(&self, user: UserId, listed: &Listed, newer: &Newer, most: u32) -> Result<(ConversationId, u32)> {
        let (conversation, after) = (listed.conversation.id, mark(user, listed));
        let fresh = newer.count(user, conversation, after).min(most);
        if fresh >= most || after >= newer.floor {
            return Ok((conversation, fresh));
        }
        let unseen = Unseen { conversation, after, upto: newer.floor };
        let gone = newer.gone.get(&conversation).map_or(&[][..], Vec::as_slice);
        Ok((conversation, self.store.count_unread(user, unseen, gone, most - fresh).await? + fresh))
    }
}

/// The conversations in which anything was said behind somebody's mark: only those are counted.
fn news(user: UserId, listed: &[Listed]) -> impl Iterator<Item = &Listed> {
    let has_news = move |one: &&Listed| one.last_message.is_some_and(|last| last.seq > mark(user, one));
    listed.iter().filter(has_news)
}
