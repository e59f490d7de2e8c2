//! `messages`: everything that was said, by conversation and seq.

use futures_util::TryStreamExt as _;
use mongodb::bson::{DateTime, doc};
use serde::{Deserialize, Serialize};

use super::once::Placed;
use super::{Known, Store, bounded, seq, stored_seq, stored_time, time};
use crate::domain::ids::{ConversationId, MessageId, UserId};
use crate::domain::message::{Kind, Message};
use crate::error::Result;

const NAME: &str = "messages";

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MessageDocument {
    #[serde(rename = "_id")]
    id: MessageId,
    pub(super) conversation_id: ConversationId,
    seq: i64,
    /// The seq of the last event that touched it.
    change_seq: i64,
    sender_id: UserId,
    sender_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client_message_id: Option<String>,
    kind: Kind,
    text: String,
    created_at: DateTime,
}

impl MessageDocument {
    fn sent(at: u64, message: &Message) -> Self {
        Self {
            id: message.id,
            conversation_id: message.conversation_id,
            seq: stored_seq(at),
            change_seq: stored_seq(at),
            sender_id: message.sender_id,
            sender_name: message.sender_name.clone(),
            client_message_id: message.client_message_id.clone(),
            kind: message.kind,
            text: message.text.clone(),
            created_at: stored_time(message.created_at),
        }
    }

    fn into_message(self) -> (u64, Message) {
        let message = Message {
            id: self.id,
            conversation_id: self.conversation_id,
            sender_id: self.sender_id,
            sender_name: self.sender_name,
            kind: self.kind,
            text: self.text,
            client_message_id: self.client_message_id,
            created_at: time(self.created_at),
        };
        (seq(self.seq), message)
    }
}

impl Placed for MessageDocument {
    const NAME: &'static str = NAME;

    fn id(&self) -> String {
        self.id.to_string()
    }

    fn seq(&self) -> i64 {
        self.seq
    }
}

pub(super) fn documents(sent: &[(u64, &Message)]) -> Vec<MessageDocument> {
    sent.iter().map(|(at, message)| MessageDocument::sent(*at, message)).collect()
}

/// Which messages of a conversation, by seq.
#[derive(Debug, Clone, Copy)]
pub enum Stretch {
    /// The newest ones.
    Newest,
    /// The nearest ones before this seq.
    Before(u64),
    /// The nearest ones after this seq.
    After(u64),
}

impl Store {
    /// A stretch of a conversation, oldest first, at most `limit` long.
    pub async fn messages(
        &self,
        conversation: ConversationId,
        stretch: Stretch,
        limit: u32,
    ) -> Result<Vec<(u64, Message)>> {
        let mut filter = doc! { "conversationId": conversation.to_string() };
        let upwards = match stretch {
            Stretch::Newest => false,
            Stretch::Before(edge) => {
                filter.insert("seq", doc! { "$lt": stored_seq(edge) });
                false
            }
            Stretch::After(edge) => {
                filter.insert("seq", doc! { "$gt": stored_seq(edge) });
                true
            }
        };
        let order = if upwards { 1 } else { -1 };
        let messages = self.collection::<MessageDocument>(NAME);
        let found = self.read(async {
            let find = messages.find(filter).sort(doc! { "seq": order }).limit(i64::from(limit));
            find.await?.try_collect::<Vec<_>>().await
        });
        let mut found: Vec<_> = found.await?.into_iter().map(MessageDocument::into_message).collect();
        if !upwards {
            found.reverse();
        }
        Ok(found)
    }

    /// Where a message of this conversation stands.
    pub async fn seq_of_message(&self, conversation: ConversationId, id: MessageId) -> Result<Option<u64>> {
        let messages = self.collection::<MessageDocument>(NAME);
        let filter = doc! { "_id": id.to_string(), "conversationId": conversation.to_string() };
        Ok(self.read(messages.find_one(filter)).await?.map(|found| seq(found.seq)))
    }

    /// The messages of these ids with their places, in no order; unknown ones are left out.
    pub async fn messages_by_id(&self, ids: &[MessageId]) -> Result<Vec<(u64, Message)>> {
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let messages = self.collection::<MessageDocument>(NAME);
        let found =
            self.read(async { messages.find(doc! { "_id": { "$in": ids } }).await?.try_collect::<Vec<_>>().await });
        Ok(found.await?.into_iter().map(MessageDocument::into_message).collect())
    }

    /// Projects messages that were sent, each id once. Returns those that were there before.
    pub async fn insert_messages(&self, sent: &[(u64, &Message)]) -> Result<Vec<Known>> {
        self.insert_once(&documents(sent)).await
    }

    /// Moves messages to these places, which are earlier than the ones they were found at.
    pub async fn advance_messages(&self, sent: &[(u64, &Message)]) -> Result<()> {
        self.advance(&documents(sent)).await
    }

    /// The newest message of a conversation and the highest seq of any event that touched one of its messages.
    pub(super) async fn head_of(&self, conversation: &str) -> Result<Option<(u64, Message, u64)>> {
        let messages = self.collection::<MessageDocument>(NAME);
        let last = |by: &str| messages.find_one(doc! { "conversationId": conversation }).sort(doc! { by: -1 });
        let (newest, changed) = (bounded(last("seq")).await?, bounded(last("changeSeq")).await?);
        Ok(newest.zip(changed).map(|(newest, changed)| {
            let (at, message) = newest.into_message();
            (at, message, seq(changed.change_seq))
        }))
    }
}
