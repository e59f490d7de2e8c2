//! Rebuilds from the log what differs from it, through the projection itself wherever that can do it.

use std::collections::HashSet;

use super::Projection;
use super::check::{BATCH, Range};
use crate::broker::subject::{self, ChatKind, Subject};
use crate::broker::topology::StreamName;
use crate::domain::event::Stored;
use crate::domain::ids::ConversationId;
use crate::error::Result;
use crate::store::audit::{Audit, Fault, Projected};

impl Projection {
    /// Mends what an audit found in a batch. Conversations that have to be counted again in the end are added to `recount`.
    pub(super) async fn mend(
        &self,
        events: &[Stored],
        audit: &Audit,
        range: Range,
        recount: &mut HashSet<ConversationId>,
    ) -> Result<()> {
        for id in &audit.unreadable {
            self.store.remove_conversation(*id).await?;
        }
        self.store.restore(events, audit, range.head).await?;
        // What is forgotten is not brought back.
        let unopened = self.project(&self.store.remaining(events, audit).await?).await?;
        for id in unopened.iter().chain(&audit.unreadable) {
            self.bring_back(*id, range).await?;
        }
        self.store.recount_named(audit).await?;
        let conversations = audit.differences.iter().filter(|one| one.collection == Projected::Conversations);
        let different = conversations.filter(|one| one.fault == Fault::Different);
        recount.extend(different.filter_map(|one| one.id.parse::<ConversationId>().ok()));
        Ok(())
    }

    /// Projects events; one that cannot be written does not take the others with it and stays a difference.
    async fn project(&self, events: &[Stored]) -> Result<HashSet<ConversationId>> {
        let all: Vec<&Stored> = events.iter().collect();
        match self.persist.project(&all).await {
            Err(error) if !error.transient() => {
                let mut unopened = HashSet::new();
                for one in &all {
                    match self.persist.project(std::slice::from_ref(one)).await {
                        Ok(more) => unopened.extend(more.conversations),
                        Err(error) if error.transient() => return Err(error),
                        Err(error) => {
                            tracing::error!(event.seq = one.seq, error = %error, "an event cannot be projected");
                        }
                    }
                }
                Ok(unopened)
            }
            done => done.map(|unready| unready.conversations),
        }
    }

    /// Projects everything that the log has about a conversation, if it has its opening.
    async fn bring_back(&self, id: ConversationId, range: Range) -> Result<()> {
        let Some(opening) = self.broker.last(Subject::Chat(id, ChatKind::Conversation)).await? else { return Ok(()) };
        self.project(&[opening]).await?;
        let mut log = self.broker.scan(StreamName::Events, vec![subject::of_conversation(id)], 1, range.to).await?;
        loop {
            let entries = log.batch(BATCH).await?;
            if entries.is_empty() {
                break;
            }
            let events: Vec<Stored> = entries.into_iter().filter_map(|entry| entry.event().ok()).collect();
            self.project(&events).await?;
        }
        log.close().await;
        Ok(())
    }
}
