//! The conversations about orders: found, or opened where the shop wants that.

use std::collections::HashMap;

use futures_util::StreamExt as _;

use super::admit::{Parties, People};
use crate::broker::publish::Publisher;
use crate::command::directory::Directory;
use crate::command::preferences::Preferred;
use crate::domain::clock::Clock;
use crate::domain::conversation::{Conversation, Kind, Participant};
use crate::domain::event::{self, Body, Event};
use crate::domain::ids::{ConversationId, UserId};
use crate::domain::order::{self, OrderId};
use crate::domain::trace::TraceContext;
use crate::error::{Code, Error, Result};

/// Openings under way at once: each is a commit of its own, and clients' events come between.
const AT_ONCE: usize = 16;

/// A conversation that an order event belongs into.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) order: OrderId,
    pub(super) customer: UserId,
    pub(super) seller: UserId,
    pub(super) trace: TraceContext,
}

impl Wanted {
    /// The one that customer and seller have about an order; nothing without a seller.
    pub(super) fn of(order: &OrderId, parties: Parties, trace: TraceContext) -> Option<Self> {
        parties.seller.map(|seller| Self { order: order.clone(), customer: parties.customer, seller, trace })
    }

    pub(super) fn id(&self) -> ConversationId {
        order::thread(&self.order, self.customer, self.seller)
    }
}

/// A conversation as it was found or opened.
#[derive(Debug)]
pub(super) struct Thread {
    /// Who is in it.
    pub(super) users: Vec<UserId>,
    /// It was there before.
    pub(super) found: bool,
}

/// Finds conversations about orders, and opens them.
#[derive(Debug)]
pub(super) struct Threads {
    pub(super) directory: Directory,
    pub(super) preferred: Preferred,
    pub(super) publisher: Publisher,
    pub(super) clock: Clock,
    /// Whether those that are not there are opened.
    pub(super) opens: bool,
}

impl Threads {
    /// Those of these conversations that are there, or can be opened. What cannot be found out stands for itself.
    pub(super) async fn all(
        &self,
        wanted: HashMap<ConversationId, Wanted>,
        people: &People,
    ) -> Result<HashMap<ConversationId, Result<Thread>>> {
        let ids: Vec<ConversationId> = wanted.keys().copied().collect();
        let found = self.directory.find_all(&ids).await?;
        let mut threads: HashMap<ConversationId, Result<Thread>> = found
            .into_iter()
            .map(|(id, entry)| (id, Ok(Thread { users: entry.conversation.users().collect(), found: true })))
            .collect();
        if !self.opens {
            return Ok(threads);
        }
        let mut missing: Vec<Wanted> =
            wanted.into_iter().filter(|(id, _)| !threads.contains_key(id)).map(|(_, wanted)| wanted).collect();
        if missing.is_empty() {
            return Ok(threads);
        }
        let wishes = self.preferred.all(missing.iter().flat_map(|one| [one.customer, one.seller])).await?;
        missing.retain(|one| !wishes.blocked_between(one.customer, one.seller));
        let opened: Vec<_> = futures_util::stream::iter(missing)
            .map(|one| async move { (one.id(), self.open(&one, people).await) })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        threads.extend(opened);
        Ok(threads)
    }

    /// Opens a conversation unless somebody else does at the same moment.
    async fn open(&self, wanted: &Wanted, people: &People) -> Result<Thread> {
        let (id, now) = (wanted.id(), self.clock.now());
        let mut users = vec![wanted.customer, wanted.seller];
        users.sort_unstable();
        let participant = |user: &UserId| {
            let role = people.of(*user).map(|user| user.role).unwrap_or_default().into();
            Participant { user_id: *user, role, joined_at: now, visible_from: 0 }
        };
        let conversation = Conversation {
            id,
            kind: Kind::Direct,
            participants: users.iter().map(participant).collect(),
            context: Some(order::context(&wanted.order)),
            title: None,
            created_by: wanted.seller,
            created_at: now,
            closed_at: None,
            removed: Vec::new(),
        };
        let event = Event {
            id: self.clock.fresh_id(),
            version: event::VERSION,
            actor: wanted.seller,
            occurred_at: now,
            recipients: users.clone(),
            body: Body::Conversation(conversation),
        };
        match self.publisher.enqueue_after(0, &event, None, Some(wanted.trace))?.stored().await {
            Ok(_) => Ok(Thread { users, found: false }),
            Err(error) if error.code() == Code::Conflict => {
                let there = self.directory.find(id).await?;
                let there = there.ok_or_else(|| Error::unavailable("catching_up", "a conversation is being opened"))?;
                Ok(Thread { users: there.conversation.users().collect(), found: true })
            }
            Err(error) => Err(error),
        }
    }
}
