//! `conversations`: who is in each, what was said last, and how far everybody has read.

use std::collections::{BTreeMap, HashMap};

use futures_util::TryStreamExt as _;
use mongodb::bson::{DateTime, Document, doc};
use serde::{Deserialize, Serialize};

use super::once::insert_missing;
use super::{Store, bounded, seq, stored_seq, stored_time, time};
use crate::domain::context::Context;
use crate::domain::conversation::{Conversation, Kind, LastMessage, Participant, ParticipantRole};
use crate::domain::ids::{ConversationId, MessageId, UserId};
use crate::domain::page::{Edge, Page};
use crate::domain::receipt::Marks;
use crate::domain::setting::Settings;
use crate::error::Result;

pub(super) const NAME: &str = "conversations";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ParticipantDocument {
    user_id: UserId,
    role: ParticipantRole,
    joined_at: DateTime,
    #[serde(default)]
    visible_from: i64,
}

/// How far a participant is. Each number only rises.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(clippy::struct_field_names, reason = "the names are the stored ones")]
pub(super) struct MarksDocument {
    pub(super) read_seq: i64,
    pub(super) shown_seq: i64,
    pub(super) delivered_seq: i64,
    /// The seq of their last receipt, whatever mark it carried.
    pub(super) change_seq: i64,
}

/// A register of a participant's settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Register<T> {
    pub(super) seq: i64,
    pub(super) value: T,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SettingsDocument {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) muted_until: Option<Register<DateTime>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) archived: Option<Register<bool>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) pinned: Option<Register<bool>>,
}

/// Somebody who was removed or has left, and the seq of the last time: one for each user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FormerDocument {
    pub(super) user_id: UserId,
    pub(super) seq: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LastMessageDocument {
    pub(super) id: MessageId,
    pub(super) seq: i64,
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) title: Option<String>,
    pub(super) created_by: UserId,
    pub(super) created_at: DateTime,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) closed_at: Option<DateTime>,
    /// A customer waits in it for an agent: follows from the rest of the state, and is there to be found.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) waiting: bool,
    /// The seq of the event that this state comes from.
    pub(super) state_seq: i64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) marks: BTreeMap<String, MarksDocument>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) settings: BTreeMap<String, SettingsDocument>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) former: Vec<FormerDocument>,
    /// Its newest message. What that says is read with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) last_message: Option<LastMessageDocument>,
    /// The seq of its newest message or of its last change, whichever is later: what lists are ordered by.
    pub(super) last_seq: i64,
    /// The seq of the last event that is about it.
    pub(super) change_seq: i64,
    /// The highest seq at which the log repeats one of its messages. See `touch`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) copy_seq: Option<i64>,
}

/// The fields that are the state of a conversation: one register, with `stateSeq`.
pub(super) const STATE: [&str; 9] =
    ["kind", "participants", "context", "title", "createdBy", "createdAt", "closedAt", "waiting", "stateSeq"];

/// A conversation as a list shows it.
#[derive(Debug, Clone)]
pub struct Listed {
    /// The conversation.
    pub conversation: Conversation,
    /// How far each participant is.
    pub marks: HashMap<UserId, Marks>,
    /// What it is to each participant who has said something about that.
    pub settings: HashMap<UserId, Settings>,
    /// Its newest message.
    pub last_message: Option<LastMessage>,
    /// The seq of the event that its state comes from.
    pub state_seq: u64,
    /// What it is ordered by.
    pub last_seq: u64,
}

/// Those whom somebody shares a conversation with.
#[derive(Debug, Clone)]
pub struct Shared {
    /// Who, sorted.
    pub users: Vec<UserId>,
    /// They may be in more conversations than were looked at.
    pub more: bool,
}

impl Listed {
    /// A conversation that nothing has happened in yet.
    #[must_use]
    pub fn fresh(conversation: Conversation, seq: u64) -> Self {
        Self {
            conversation,
            marks: HashMap::new(),
            settings: HashMap::new(),
            last_message: None,
            state_seq: seq,
            last_seq: seq,
        }
    }
}

impl From<&LastMessage> for LastMessageDocument {
    fn from(last: &LastMessage) -> Self {
        Self { id: last.id, seq: stored_seq(last.seq) }
    }
}

impl From<MarksDocument> for Marks {
    fn from(stored: MarksDocument) -> Self {
        Self { read: seq(stored.read_seq), shown: seq(stored.shown_seq), delivered: seq(stored.delivered_seq) }
    }
}

impl From<SettingsDocument> for Settings {
    fn from(stored: SettingsDocument) -> Self {
        Self {
            muted_until: stored.muted_until.map(|register| time(register.value)),
            archived: stored.archived.is_some_and(|register| register.value),
            pinned: stored.pinned.is_some_and(|register| register.value),
        }
    }
}

fn by_user<T, U: From<T>>(stored: BTreeMap<String, T>) -> HashMap<UserId, U> {
    stored.into_iter().filter_map(|(user, one)| Some((user.parse().ok()?, one.into()))).collect()
}

impl ConversationDocument {
    /// A conversation of this state, in which nothing else has happened yet.
    pub(super) fn opened(at: u64, conversation: &Conversation) -> Self {
        let participant = |participant: &Participant| ParticipantDocument {
            user_id: participant.user_id,
            role: participant.role,
            joined_at: stored_time(participant.joined_at),
            visible_from: stored_seq(participant.visible_from),
        };
        Self {
            id: conversation.id,
            kind: conversation.kind,
            participants: conversation.participants.iter().map(participant).collect(),
            context: conversation.context.clone(),
            title: conversation.title.clone(),
            created_by: conversation.created_by,
            created_at: stored_time(conversation.created_at),
            closed_at: conversation.closed_at.map(stored_time),
            waiting: conversation.is_waiting(),
            state_seq: stored_seq(at),
            marks: BTreeMap::new(),
            settings: BTreeMap::new(),
            former: Vec::new(),
            last_message: None,
            last_seq: stored_seq(at),
            change_seq: stored_seq(at),
            copy_seq: None,
        }
    }

    fn into_listed(self) -> Listed {
        let participant = |one: ParticipantDocument| Participant {
            user_id: one.user_id,
            role: one.role,
            joined_at: time(one.joined_at),
            visible_from: seq(one.visible_from),
        };
        Listed {
            conversation: Conversation {
                id: self.id,
                kind: self.kind,
                participants: self.participants.into_iter().map(participant).collect(),
                context: self.context,
                title: self.title,
                created_by: self.created_by,
                created_at: time(self.created_at),
                closed_at: self.closed_at.map(time),
                removed: Vec::new(),
            },
            marks: by_user(self.marks),
            settings: by_user(self.settings),
            last_message: self.last_message.map(|last| LastMessage { id: last.id, seq: seq(last.seq) }),
            state_seq: seq(self.state_seq),
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

    /// Conversations of these ids, in no order; unknown ones are left out.
    pub async fn conversations_by_id(&self, ids: &[ConversationId]) -> Result<Vec<Listed>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let conversations = self.collection::<ConversationDocument>(NAME);
        let found = self
            .read(async { conversations.find(doc! { "_id": { "$in": ids } }).await?.try_collect::<Vec<_>>().await });
        Ok(found.await?.into_iter().map(ConversationDocument::into_listed).collect())
    }

    /// A user's conversations, the most recently active first.
    pub async fn conversations_of(&self, user: UserId, before: Option<Edge>, limit: u32) -> Result<Page<Listed>> {
        self.newest_of(doc! { "participants.userId": user.to_string() }, before, limit).await
    }

    /// The support conversations that no agent has joined, the most recently active first.
    pub async fn conversations_waiting(&self, before: Option<Edge>, limit: u32) -> Result<Page<Listed>> {
        self.newest_of(doc! { "waiting": true }, before, limit).await
    }

    async fn newest_of(&self, which: Document, before: Option<Edge>, limit: u32) -> Result<Page<Listed>> {
        let mut filter = which;
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
    pub async fn contacts_of(&self, users: &[UserId]) -> Result<HashMap<UserId, Shared>> {
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
        let more = rows.len() == LIMIT as usize;
        if more && users.len() > 1 {
            // Somebody busy would hide the others: one by one, then.
            let mut contacts = HashMap::new();
            for user in users {
                contacts.extend(Box::pin(self.contacts_of(std::slice::from_ref(user))).await?);
            }
            return Ok(contacts);
        }
        let mut contacts: HashMap<UserId, Shared> =
            users.iter().map(|user| (*user, Shared { users: Vec::new(), more })).collect();
        for row in &rows {
            for one in &row.participants {
                if let Some(known) = contacts.get_mut(&one.user_id) {
                    known.users.extend(
                        row.participants.iter().map(|other| other.user_id).filter(|other| *other != one.user_id),
                    );
                }
            }
        }
        for known in contacts.values_mut() {
            known.users.sort_unstable();
            known.users.dedup();
        }
        Ok(contacts)
    }

    /// Projects the states of conversations that may be new; returns the places of those that were there before.
    pub(super) async fn insert_conversations(&self, states: &[(u64, &Conversation)]) -> Result<Vec<usize>> {
        let documents: Vec<_> = states.iter().map(|(at, one)| ConversationDocument::opened(*at, one)).collect();
        insert_missing(&self.collection(NAME), &documents).await
    }

    /// A user's conversations that an event after `since` has touched, in the order of their last such event. Those that
    /// the user has left since then come last.
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
        let since = stored_seq(since);
        let theirs = doc! { "participants.userId": user.to_string(), "changeSeq": { "$gt": since } };
        let former = doc! { "former": { "$elemMatch": { "userId": user.to_string(), "seq": { "$gt": since } } } };
        let conversations = self.collection::<Row>(NAME);
        let rows = |filter: Document| async {
            let find = conversations.find(filter).projection(doc! { "_id": 1 });
            find.sort(doc! { "changeSeq": 1 }).limit(i64::from(limit)).await?.try_collect::<Vec<_>>().await
        };
        let (theirs, former) = tokio::try_join!(self.read(rows(theirs)), self.read(rows(former)))?;
        let mut found: Vec<ConversationId> = Vec::with_capacity(theirs.len());
        for row in theirs.into_iter().chain(former) {
            if !found.contains(&row.id) {
                found.push(row.id);
            }
        }
        Ok(found)
    }

    /// Conversations as they are stored; those that are not there are left out.
    pub(super) async fn stored_conversations(&self, ids: &[ConversationId]) -> Result<Vec<ConversationDocument>> {
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let conversations = self.collection::<ConversationDocument>(NAME);
        bounded(async { conversations.find(doc! { "_id": { "$in": ids } }).await?.try_collect::<Vec<_>>().await }).await
    }
}
