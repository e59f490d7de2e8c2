//! The history of a conversation.

use std::time::Duration;

use super::Queries;
use crate::auth::Actor;
use crate::broker::subject::{ChatKind, Subject};
use crate::domain::event::{Body, Event, Stored};
use crate::domain::ids::ConversationId;
use crate::domain::message::Message;
use crate::domain::page::{Anchor, Edge, Range};
use crate::error::{Error, Result};
use crate::store::messages::Stretch;

/// How long a reader waits for the projection to catch up with the log.
const CATCH_UP: Duration = Duration::from_secs(1);

/// A page of a history, oldest first, and the ways on.
#[derive(Debug)]
pub struct History {
    /// Messages with their places in the log.
    pub items: Vec<(u64, Message)>,
    /// Where older messages go on: the next `before`.
    pub older: Option<Edge>,
    /// Where newer messages go on, now or later: the next `after`.
    pub newer: Edge,
    /// Whether there may be more in the direction that was asked for.
    pub more: bool,
}

impl Queries {
    /// A page of a conversation's history. The newest page shows what the log has stored: it waits a moment for MongoDB
    /// if that is behind.
    pub async fn messages(
        &self,
        actor: &Actor,
        conversation: ConversationId,
        range: Range,
        limit: u32,
    ) -> Result<History> {
        actor.check_expiry(self.clock.now())?;
        self.directory.for_participant(conversation, actor.user_id).await?;
        let (items, from) = match range {
            Range::Newest => (self.newest(conversation, limit).await?, 0),
            Range::Before(anchor) => {
                let edge = self.place(conversation, anchor).await?;
                // Behind an empty page is what the caller had before.
                (self.store.messages(conversation, Stretch::Before(edge), limit).await?, edge.saturating_sub(1))
            }
            Range::After(anchor) => {
                let edge = self.place(conversation, anchor).await?;
                (self.store.messages(conversation, Stretch::After(edge), limit).await?, edge)
            }
        };
        // A short page is the last one in its direction.
        let more = items.len() >= limit as usize;
        let forwards = matches!(range, Range::After(_));
        let older = items.first().map(at).filter(|_| more || forwards);
        let newer = items.last().map_or(Edge(from), at);
        Ok(History { items, older, newer, more })
    }

    async fn newest(&self, conversation: ConversationId, limit: u32) -> Result<Vec<(u64, Message)>> {
        // If the broker is away there is nothing newer to wait for.
        let logged = self.broker.last(Subject::Chat(conversation, ChatKind::Message)).await.ok().flatten();
        let Some(Stored { seq: head, event: Event { body: Body::Message(newest), .. } }) = logged else {
            return self.store.messages(conversation, Stretch::Newest, limit).await;
        };
        let deadline = tokio::time::Instant::now() + CATCH_UP;
        let mut pause = Duration::from_millis(2);
        loop {
            let items = self.store.messages(conversation, Stretch::Newest, limit).await?;
            // A message that was sent again long after the first time is in the log twice, and here once.
            let caught_up = items.iter().any(|(seq, message)| *seq >= head || message.id == newest.id);
            if caught_up || tokio::time::Instant::now() + pause > deadline {
                return Ok(items);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    async fn place(&self, conversation: ConversationId, anchor: Anchor) -> Result<u64> {
        match anchor {
            Anchor::Edge(Edge(seq)) => Ok(seq),
            Anchor::Message(id) => self
                .store
                .seq_of_message(conversation, id)
                .await?
                .ok_or_else(|| Error::invalid("unknown_anchor", "there is no such message in this conversation")),
        }
    }
}

fn at((seq, _): &(u64, Message)) -> Edge {
    Edge(*seq)
}
