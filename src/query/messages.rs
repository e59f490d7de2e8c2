//! The history of a conversation.

use super::{Queries, overlay};
use crate::auth::Actor;
use crate::broker::subject::Filter;
use crate::domain::event::{Body, Stored};
use crate::domain::ids::{ConversationId, MessageId};
use crate::domain::page::{Anchor, Edge, Range};
use crate::domain::state::MessageState;
use crate::error::{Error, Result};
use crate::store::messages::{Sight, Stretch};

/// A page of a history, oldest first, and the ways on.
#[derive(Debug)]
pub struct History {
    /// Messages as they are now.
    pub items: Vec<MessageState>,
    /// Where older messages go on: the next `before`.
    pub older: Option<Edge>,
    /// Where newer messages go on, now or later: the next `after`.
    pub newer: Edge,
    /// Whether there may be more in the direction that was asked for.
    pub more: bool,
}

impl Queries {
    /// A page of a conversation's history. It shows everything that was acknowledged, also what MongoDB does not have yet.
    pub async fn messages(
        &self,
        actor: &Actor,
        conversation: ConversationId,
        range: Range,
        limit: u32,
    ) -> Result<History> {
        actor.check_expiry(self.clock.now())?;
        let entry = self.directory.for_participant(conversation, actor.user_id).await?;
        let sight = entry.sight(actor.user_id);
        // The newer events first: what is projected between the two readings is then in both, and never in none.
        let newer = self.unprojected(Filter::Conversation(conversation), overlay::LIMIT).await?;
        let head = self.directory.head(&entry).await?;
        let mut history = if let Range::Around(id) = range {
            self.around(conversation, sight, id, &newer, head, limit).await?
        } else {
            self.one_way(conversation, sight, range, &newer, head, limit).await?
        };
        // Behind the cursors, which go by what there is: a page may be short of what its reader has deleted for themselves.
        history.items.retain(|state| !state.is_hidden_from(actor.user_id));
        self.renew_quotes(&mut history.items, sight, &newer).await?;
        Ok(history)
    }

    /// A page that goes one way.
    async fn one_way(
        &self,
        conversation: ConversationId,
        sight: Sight,
        range: Range,
        newer: &[Stored],
        head: u64,
        limit: u32,
    ) -> Result<History> {
        let (stretch, from) = match range {
            Range::Newest | Range::Around(_) => (Stretch::Newest, 0),
            Range::Before(anchor) => {
                let edge = self.place(conversation, sight, anchor, newer).await?;
                // Behind an empty page is what the caller had before.
                (Stretch::Before(edge), edge.saturating_sub(1))
            }
            Range::After(anchor) => {
                let edge = self.place(conversation, sight, anchor, newer).await?;
                (Stretch::After(edge), edge)
            }
        };
        let items = self.stretch(conversation, sight, stretch, newer, head, limit).await?;
        // A short page is the last one in its direction.
        let more = items.len() >= limit as usize;
        let forwards = matches!(range, Range::After(_));
        let older = items.first().map(at).filter(|_| more || forwards);
        let newer = items.last().map_or(Edge(from), at);
        Ok(History { items, older, newer, more })
    }

    /// A message in the middle, as many before it as after it.
    async fn around(
        &self,
        conversation: ConversationId,
        sight: Sight,
        id: MessageId,
        newer: &[Stored],
        head: u64,
        limit: u32,
    ) -> Result<History> {
        let edge = self.place(conversation, sight, Anchor::Message(id), newer).await?;
        let before = (limit - 1) / 2;
        let (mut items, rest) = tokio::try_join!(
            self.stretch(conversation, sight, Stretch::Before(edge), newer, head, before),
            // With the message itself.
            self.stretch(conversation, sight, Stretch::After(edge - 1), newer, head, limit - before),
        )?;
        let more = items.len() >= before as usize;
        items.extend(rest);
        let older = items.first().map(at).filter(|_| more);
        let newer = items.last().map_or(Edge(edge), at);
        Ok(History { items, older, newer, more: false })
    }

    /// One stretch out of what is stored and what is newer, oldest first.
    async fn stretch(
        &self,
        conversation: ConversationId,
        sight: Sight,
        stretch: Stretch,
        newer: &[Stored],
        head: u64,
        limit: u32,
    ) -> Result<Vec<MessageState>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let stored = self.store.messages(conversation, sight, stretch, head, limit).await?;
        Ok(merged(stored, newer, sight, stretch, limit as usize))
    }

    /// Where a page begins. A message that does not exist for the caller is no place.
    async fn place(&self, conversation: ConversationId, sight: Sight, anchor: Anchor, newer: &[Stored]) -> Result<u64> {
        let among = |id: MessageId| {
            newer.iter().find_map(|stored| match &stored.event.body {
                Body::Message(message) if message.id == id => Some(stored.seq),
                _ => None,
            })
        };
        match anchor {
            Anchor::Edge(Edge(seq)) => Ok(seq),
            Anchor::Message(id) => self
                .store
                .seq_of_message(conversation, id)
                .await?
                .or_else(|| among(id))
                .filter(|seq| *seq > sight.from)
                .ok_or_else(|| Error::invalid("unknown_anchor", "there is no such message in this conversation")),
        }
    }
}

/// What is stored and what is newer, in one.
fn merged(
    stored: Vec<MessageState>,
    newer: &[Stored],
    sight: Sight,
    stretch: Stretch,
    limit: usize,
) -> Vec<MessageState> {
    let mut items = stored;
    overlay::lay_over(&mut items, newer, |seq| {
        seq > sight.from
            && match stretch {
                Stretch::Newest => true,
                Stretch::Before(edge) => seq < edge,
                Stretch::After(edge) => seq > edge,
            }
    });
    if matches!(stretch, Stretch::After(_)) {
        items.truncate(limit);
    } else {
        items.drain(..items.len().saturating_sub(limit));
    }
    items
}

fn at(state: &MessageState) -> Edge {
    Edge(state.seq)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::change::Edit;
    use crate::domain::clock::Timestamp;
    use crate::domain::event::{Event, VERSION};
    use crate::domain::ids::{EventId, UserId};
    use crate::domain::message::{Kind, Message};

    fn message(seq: u64, id: u128) -> Message {
        Message {
            id: MessageId::from_bits(id),
            conversation_id: ConversationId::from_bits(1),
            sender_id: UserId::from_bits(1),
            sender_name: "Ana".into(),
            kind: Kind::Text,
            text: seq.to_string(),
            reply_to: None,
            mentions: Vec::new(),
            attachments: Vec::new(),
            entry: None,
            client_message_id: None,
            created_at: Timestamp::from_millis(0),
        }
    }

    fn states(seqs: &[u64]) -> Vec<MessageState> {
        seqs.iter().map(|seq| MessageState::new(*seq, message(*seq, u128::from(*seq)))).collect()
    }

    fn event(seq: u64, body: Body) -> Stored {
        let event = Event {
            id: EventId::from_bits(u128::from(seq)),
            version: VERSION,
            actor: UserId::from_bits(1),
            occurred_at: Timestamp::from_millis(0),
            recipients: Vec::new(),
            body,
        };
        Stored { seq, event }
    }

    fn seqs(items: &[MessageState]) -> Vec<u64> {
        items.iter().map(|state| state.seq).collect()
    }

    const SIGHT: Sight = Sight { user: UserId::from_bits(2), from: 0 };

    fn merge(stored: &[u64], newer: &[u64], stretch: Stretch) -> Vec<u64> {
        let newer: Vec<Stored> =
            newer.iter().map(|seq| event(*seq, Body::Message(message(*seq, u128::from(*seq))))).collect();
        seqs(&merged(states(stored), &newer, SIGHT, stretch, 3))
    }

    #[test]
    fn what_is_newer_is_laid_over_what_is_stored() {
        assert_eq!(merge(&[1, 2, 4], &[3, 4, 5], Stretch::Newest), [3, 4, 5]);
        assert_eq!(merge(&[1, 2], &[3, 4, 5], Stretch::Before(4)), [1, 2, 3]);
        assert_eq!(merge(&[2, 4], &[3, 4, 5], Stretch::After(1)), [2, 3, 4]);
        assert_eq!(merge(&[], &[3, 4, 5], Stretch::After(4)), [5]);
    }

    #[test]
    fn a_message_that_is_in_the_log_twice_is_where_it_was_first() {
        let again = event(9, Body::Message(message(9, 2)));
        assert_eq!(seqs(&merged(states(&[1, 2]), &[again], SIGHT, Stretch::Newest, 9)), [1, 2]);
    }

    #[test]
    fn what_happened_to_a_message_since_is_shown() {
        let edit = Body::Edit(Edit {
            message_id: MessageId::from_bits(2),
            conversation_id: ConversationId::from_bits(1),
            message_seq: 2,
            text: "better".into(),
            mentions: Vec::new(),
            edited_at: Timestamp::from_millis(0),
        });
        let items = merged(states(&[1, 2]), &[event(9, edit)], SIGHT, Stretch::Newest, 9);
        assert_eq!(items.iter().map(MessageState::text).collect::<Vec<_>>(), ["1", "better"]);
    }

    #[test]
    fn what_was_said_before_somebody_came_is_not_shown() {
        let late = Sight { from: 4, ..SIGHT };
        let newer: Vec<Stored> = [4, 5].map(|seq| event(seq, Body::Message(message(seq, u128::from(seq))))).into();
        assert_eq!(seqs(&merged(Vec::new(), &newer, late, Stretch::Newest, 9)), [5]);
    }
}
