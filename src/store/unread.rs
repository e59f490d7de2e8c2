//! Counting what somebody has not read: a bounded stretch of one conversation, by its index.

use futures_util::TryStreamExt as _;
use mongodb::bson::{Bson, Document, doc};

use super::messages::NAME;
use super::{Store, stored_seq};
use crate::domain::ids::{ConversationId, MessageId, UserId};
use crate::error::Result;

/// Messages of one conversation that are looked at, at most: the newest ones.
const KEYS: i64 = 1_000;

/// A stretch of a conversation.
#[derive(Debug, Clone, Copy)]
pub struct Unseen {
    /// Where.
    pub conversation: ConversationId,
    /// Nothing up to this seq.
    pub after: u64,
    /// Nothing behind this seq.
    pub upto: u64,
}

impl Store {
    /// How many messages of a stretch somebody has to read, at most so many: those of others that are neither notes nor
    /// deleted. Some are known to be gone already.
    pub async fn count_unread(&self, user: UserId, unseen: Unseen, gone: &[MessageId], most: u32) -> Result<u32> {
        let Unseen { conversation, after, upto } = unseen;
        let range = doc! { "$gt": stored_seq(after), "$lte": stored_seq(upto) };
        let mut counts = doc! {
            "senderId": { "$ne": user.to_string() },
            "kind": { "$in": ["text", "attachment"] },
            "deleted": { "$exists": false },
        };
        counts.insert(format!("hidden.{user}"), doc! { "$exists": false });
        if !gone.is_empty() {
            counts.insert("_id", doc! { "$nin": gone.iter().map(ToString::to_string).collect::<Vec<_>>() });
        }
        let steps = [
            doc! { "$match": { "conversationId": conversation.to_string(), "seq": range } },
            doc! { "$sort": { "seq": -1 } },
            doc! { "$limit": KEYS },
            doc! { "$match": counts },
            doc! { "$limit": i64::from(most) },
            doc! { "$count": "unread" },
        ];
        let messages = self.collection::<Document>(NAME);
        let found = self.read(async { messages.aggregate(steps).await?.try_collect::<Vec<Document>>().await });
        let counted = found.await?.pop();
        Ok(match counted.as_ref().and_then(|counted| counted.get("unread")) {
            Some(Bson::Int32(count)) => u32::try_from(*count).unwrap_or(0),
            Some(Bson::Int64(count)) => u32::try_from(*count).unwrap_or(0),
            _ => 0,
        })
    }
}
