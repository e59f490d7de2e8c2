//! The history of a conversation.

use std::collections::HashSet;

use super::{Queries, overlay};
use crate::auth::Actor;
use crate::broker::subject::Filter;
use crate::domain::event::Body;
use crate::domain::ids::{ConversationId, MessageId};
use crate::domain::message::Message;
use crate::domain::page::{Anchor, Edge, Range};
use crate::error::{Error, Result};
use crate::store::messages::Stretch;

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
    /// A page of a conversation's history. It shows everything that was acknowledged, also what MongoDB does not have yet.
    pub async fn messages(
        &self,
        actor: &Actor,
        conversation: ConversationId,
        range: Range,
        limit: u32,
    ) -> Result<History> {
        actor.check_expiry(self.clock.now())?;
        self.directory.for_participant(conversation, actor.user_id).await?;
        // The newer events first: what is projected between the two readings is then in both, and never in none.
        let newer = self.unprojected(Filter::Conversation(conversation), overlay::LIMIT).await?;
        let newer: Vec<(u64, Message)> = newer
            .into_iter()
            .filter_map(|stored| match stored.event.body {
                Body::Message(message) => Some((stored.seq, message)),
                _ => None,
            })
            .collect();
        let (stretch, from) = match range {
            Range::Newest => (Stretch::Newest, 0),
            Range::Before(anchor) => {
                let edge = self.place(conversation, anchor, &newer).await?;
                // Behind an empty page is what the caller had before.
                (Stretch::Before(edge), edge.saturating_sub(1))
            }
            Range::After(anchor) => {
                let edge = self.place(conversation, anchor, &newer).await?;
                (Stretch::After(edge), edge)
            }
        };
        let stored = self.store.messages(conversation, stretch, limit).await?;
        let items = merged(stored, newer, stretch, limit as usize);
        // A short page is the last one in its direction.
        let more = items.len() >= limit as usize;
        let forwards = matches!(range, Range::After(_));
        let older = items.first().map(at).filter(|_| more || forwards);
        let newer = items.last().map_or(Edge(from), at);
        Ok(History { items, older, newer, more })
    }

    async fn place(&self, conversation: ConversationId, anchor: Anchor, newer: &[(u64, Message)]) -> Result<u64> {
        match anchor {
            Anchor::Edge(Edge(seq)) => Ok(seq),
            Anchor::Message(id) => self
                .store
                .seq_of_message(conversation, id)
                .await?
                .or_else(|| newer.iter().find(|(_, message)| message.id == id).map(|(seq, _)| *seq))
                .ok_or_else(|| Error::invalid("unknown_anchor", "there is no such message in this conversation")),
        }
    }
}

/// One stretch out of what is stored and what is newer, oldest first. A message that is in both, or twice in the log, is
/// where it was first.
fn merged(
    stored: Vec<(u64, Message)>,
    newer: Vec<(u64, Message)>,
    stretch: Stretch,
    limit: usize,
) -> Vec<(u64, Message)> {
    let fits = |seq: u64| match stretch {
        Stretch::Newest => true,
        Stretch::Before(edge) => seq < edge,
        Stretch::After(edge) => seq > edge,
    };
    let mut known: HashSet<MessageId> = stored.iter().map(|(_, message)| message.id).collect();
    let mut items = stored;
    items.extend(newer.into_iter().filter(|(seq, message)| fits(*seq) && known.insert(message.id)));
    items.sort_unstable_by_key(|(seq, _)| *seq);
    if matches!(stretch, Stretch::After(_)) {
        items.truncate(limit);
    } else {
        items.drain(..items.len().saturating_sub(limit));
    }
    items
}

fn at((seq, _): &(u64, Message)) -> Edge {
    Edge(*seq)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::Timestamp;
    use crate::domain::ids::UserId;
    use crate::domain::message::Kind;

    fn messages(seqs: &[u64]) -> Vec<(u64, Message)> {
        let message = |seq: &u64| Message {
            id: MessageId::from_bits(u128::from(*seq)),
            conversation_id: ConversationId::from_bits(1),
            sender_id: UserId::from_bits(1),
            sender_name: "Ana".into(),
            kind: Kind::Text,
            text: seq.to_string(),
            client_message_id: None,
            created_at: Timestamp::from_millis(0),
        };
        seqs.iter().map(|seq| (*seq, message(seq))).collect()
    }

    fn merge(stored: &[u64], newer: &[u64], stretch: Stretch) -> Vec<u64> {
        merged(messages(stored), messages(newer), stretch, 3).iter().map(at).map(|Edge(seq)| seq).collect()
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
        let mut again = messages(&[9]);
        again[0].1.id = MessageId::from_bits(2);
        let items = merged(messages(&[1, 2]), again, Stretch::Newest, 9);
        assert_eq!(items.iter().map(at).collect::<Vec<_>>(), [Edge(1), Edge(2)]);
    }
}
