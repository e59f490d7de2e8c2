//! `conversations`: who is in each, what was said last, and how far everybody has read.

use std::collections::HashMap;

use futures_util::TryStreamExt as _;
use mongodb::bson::{DateTime, doc};
use serde::{Deserialize, Serialize};

use super::once::insert_missing;
use super::{Store, bounded, seq, stored_seq, stored_time, time};
use crate::domain::conversation::{Context, Conversation, Kind, LastMessage, Participant};
use crate::domain::ids::{ConversationId, MessageId, UserId};
use crate::domain::page::{Edge, Page};
use crate::domain::user::Role;
use crate::error::Result;

pub(super) const NAME: &str = "conversations";

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ParticipantDocument {
    pub(super) user_id: UserId,
    pub(super) role: Role,
    pub(super) read_seq: i64,
    delivered_seq: i64,
    /// The seq of their last receipt, whatever mark it carried.
    #[serde(default)]
    pub(super) change_seq: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LastMessageDocument {
    pub(super) id: MessageId,
    seq: i64,
    sender_id: UserId,
    excerpt: String,
    created_at: DateTime,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConversationDocument {
    #[serde(rename = "_id")]
    pub(super) id: ConversationId,
    pub(super) kind: Kind,
    pub(super) participants: Vec<ParticipantDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) context: Option<Context>,
    pub(super) created_by: UserId,
    pub(super) created_at: DateTime,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) last_message: Option<LastMessageDocument>,
    /// The seq of its newest message, or of its opening: what lists are ordered by.
    pub(super) last_seq: i64,
    /// The seq of the last event that touched it: the highest of its messages' and its participants'.
    pub(super) change_seq: i64,
    /// The highest seq at which the log repeats one of its messages. See `touch`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) copy_seq: Option<i64>,
}

/// A conversation as a list shows it.
#[derive(Debug, Clone)]
pub struct Listed {
    /// The conversation.
    pub conversation: Conversation,
    /// How far each participant has read.
    pub read: HashMap<UserId, u64>,
    /// Its newest message.
    pub last_message: Option<LastMessage>,
    /// What it is ordered by.
    pub last_seq: u64,
}

impl ParticipantDocument {
    /// Takes over how far the same participant has got elsewhere.
    pub(super) fn keep_marks(&mut self, known: &Self) {
        (self.read_seq, self.delivered_seq) = (known.read_seq, known.delivered_seq);
        self.change_seq = known.change_seq;
    }
}

impl From<&LastMessage> for LastMessageDocument {
    fn from(last: &LastMessage) -> Self {
        Self {
            id: last.id,
            seq: stored_seq(last.seq),
            sender_id: last.sender_id,
            excerpt: last.excerpt.clone(),
            created_at: stored_time(last.created_at),
        }
    }
}

impl ConversationDocument {
    pub(super) fn opened(at: u64, conversation: &Conversation) -> Self {
        let participant = |participant: &Participant| ParticipantDocument {
            user_id: participant.user_id,
            role: participant.role,
            read_seq: 0,
            delivered_seq: 0,
            change_seq: 0,
        };
        Self {
            id: conversation.id,
            kind: conversation.kind,
            participants: conversation.participants.iter().map(participant).collect(),
            context: conversation.context.clone(),
            created_by: conversation.created_by,
            created_at: stored_time(conversation.created_at),
            last_message: None,
            last_seq: stored_seq(at),
            change_seq: stored_seq(at),
            copy_seq: None,
        }
    }

    fn into_listed(self) -> Listed {
        let read = self.participants.iter().map(|one| (one.user_id, seq(one.read_seq))).collect();
        let participants =
            self.participants.iter().map(|one| Participant { user_id: one.user_id, role: one.role }).collect();
        Listed {
            conversation: Conversation {
                id: self.id,
                kind: self.kind,
                participants,
                context: self.context,
                created_by: self.created_by,
                created_at: time(self.created_at),
            },
            read,
            last_message: self.last_message.map(|last| LastMessage {
                id: last.id,
                seq: seq(last.seq),
                sender_id: last.sender_id,
                excerpt: last.excerpt,
                created_at: time(last.created_at),
            }),
            last_seq: seq(self.last_seq),
        }
    }
}

impl Store {
    /// A conversation and where it stands.
    pub async fn conversation(&self, id: ConversationId) -> Result<Option<Listed>> {
        let conversations = self.collection::<ConversationDocument>(NAME);
        let found = self.read(conversations.find_one(doc! { "_id": id.to_string() })).await?;
        Ok(found.map(ConversationDocument::into_listed))
    }

    /// A user's conversations, the most recently active first.
    pub async fn conversations_of(&self, user: UserId, before: Option<Edge>, limit: u32) -> Result<Page<Listed>> {
        let mut filter = doc! { "participants.userId": user.to_string() };
        if let Some(Edge(edge)) = before {
            filter.insert("lastSeq", doc! { "$lt": stored_seq(edge) });
        }
        let conversations = self.collection::<ConversationDocument>(NAME);
        let found = self.read(async {
            let find = conversations.find(filter).sort(doc! { "lastSeq": -1 }).limit(i64::from(limit) + 1);
            find.await?.try_collect::<Vec<_>>().await
        });
        let mut items: Vec<Listed> = found.await?.into_iter().map(ConversationDocument::into_listed).collect();
        let more = items.len() > limit as usize;
        items.truncate(limit as usize);
        let next = items.last().filter(|_| more).map(|last| Edge(last.last_seq));
        Ok(Page { items, next })
    }

    /// Everybody whom each of these users shares a conversation with, in the 1,000 most recent conversations of each.
    pub async fn contacts_of(&self, users: &[UserId]) -> Result<HashMap<UserId, Vec<UserId>>> {
        const LIMIT: u32 = 1_000;
        #[derive(Deserialize)]
        struct Row {
            participants: Vec<RowParticipant>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct RowParticipant {
            user_id: UserId,
        }
        let ids: Vec<String> = users.iter().map(ToString::to_string).collect();
        let conversations = self.collection::<Row>(NAME);
        let rows = self
            .read(async {
                let find = conversations
                    .find(doc! { "participants.userId": { "$in": ids } })
                    .projection(doc! { "_id": 0, "participants.userId": 1 })
                    .sort(doc! { "lastSeq": -1 })
                    .limit(i64::from(LIMIT));
                find.await?.try_collect::<Vec<_>>().await
            })
            .await?;
        if rows.len() == LIMIT as usize && users.len() > 1 {
            // Somebody busy would hide the others: one by one, then.
            let mut contacts = HashMap::new();
            for user in users {
                contacts.extend(Box::pin(self.contacts_of(std::slice::from_ref(user))).await?);
            }
            return Ok(contacts);
        }
        let mut contacts: HashMap<UserId, Vec<UserId>> = users.iter().map(|user| (*user, Vec::new())).collect();
        for row in &rows {
            for one in &row.participants {
                if let Some(known) = contacts.get_mut(&one.user_id) {
                    known.extend(
                        row.participants.iter().map(|other| other.user_id).filter(|other| *other != one.user_id),
                    );
                }
            }
        }
        for known in contacts.values_mut() {
            known.sort_unstable();
            known.dedup();
        }
        Ok(contacts)
    }

    /// Projects conversations that were opened.
    pub async fn insert_conversations(&self, opened: &[(u64, &Conversation)]) -> Result<()> {
        let documents: Vec<_> = opened.iter().map(|(at, one)| ConversationDocument::opened(*at, one)).collect();
        insert_missing(&self.collection(NAME), &documents).await.map(drop)
    }

    /// A user's conversations that an event after `since` has touched, in the order of their last such event.
    pub async fn conversations_changed_since(
        &self,
        user: UserId,
        since: u64,
        limit: u32,
    ) -> Result<Vec<ConversationId>> {
        #[derive(Deserialize)]
        struct Row {
            #[serde(rename = "_id")]
            id: ConversationId,
        }
        let filter = doc! { "participants.userId": user.to_string(), "changeSeq": { "$gt": stored_seq(since) } };
        let conversations = self.collection::<Row>(NAME);
        let rows = self.read(async {
            let find = conversations.find(filter).projection(doc! { "_id": 1 });
            find.sort(doc! { "changeSeq": 1 }).limit(i64::from(limit)).await?.try_collect::<Vec<_>>().await
        });
        Ok(rows.await?.into_iter().map(|row| row.id).collect())
    }

    /// Conversations as they are stored; those that are not there are left out.
    pub(super) async fn stored_conversations(&self, ids: &[ConversationId]) -> Result<Vec<ConversationDocument>> {
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let conversations = self.collection::<ConversationDocument>(NAME);
        bounded(async { conversations.find(doc! { "_id": { "$in": ids } }).await?.try_collect::<Vec<_>>().await }).await
    }
}
