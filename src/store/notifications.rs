//! `notifications`: what each user was told.

use std::collections::HashMap;

use futures_util::TryStreamExt as _;
use mongodb::bson::{DateTime, Document, doc};
use serde::{Deserialize, Serialize};

use super::once::Placed;
use super::{Store, seq, stored_seq, stored_time, time};
use crate::domain::clock::Timestamp;
use crate::domain::decision::Decisions;
use crate::domain::ids::{ConversationId, MessageId, NotificationId, UserId};
use crate::domain::notification::{Data, Kind, Notification};
use crate::error::Result;

pub(super) const NAME: &str = "notifications";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DataDocument {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    conversation_id: Option<ConversationId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message_id: Option<MessageId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message_seq: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sender_id: Option<UserId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    order_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NotificationDocument {
    #[serde(rename = "_id")]
    id: NotificationId,
    user_id: UserId,
    entry_id: NotificationId,
    kind: Kind,
    title: String,
    body: String,
    data: DataDocument,
    decision: Decisions,
    seq: i64,
    created_at: DateTime,
}

impl NotificationDocument {
    pub(super) fn made(at: u64, notification: &Notification) -> Self {
        let data = &notification.data;
        Self {
            id: notification.id,
            user_id: notification.user_id,
            entry_id: notification.entry_id,
            kind: notification.kind,
            title: notification.title.clone(),
            body: notification.body.clone(),
            data: DataDocument {
                conversation_id: data.conversation_id,
                message_id: data.message_id,
                message_seq: data.message_seq.map(stored_seq),
                sender_id: data.sender_id,
                order_id: data.order_id.clone(),
                status: data.status.clone(),
            },
            decision: notification.decision,
            seq: stored_seq(at),
            created_at: stored_time(notification.created_at),
        }
    }

    pub(super) fn into_notification(self) -> (u64, Notification) {
        let DataDocument { conversation_id, message_id, message_seq, sender_id, order_id, status } = self.data;
        let notification = Notification {
            id: self.id,
            user_id: self.user_id,
            entry_id: self.entry_id,
            kind: self.kind,
            title: self.title,
            body: self.body,
            data: Data { conversation_id, message_id, message_seq: message_seq.map(seq), sender_id, order_id, status },
            decision: self.decision,
            created_at: time(self.created_at),
        };
        (seq(self.seq), notification)
    }
}

impl NotificationDocument {
    /// Where the log has it.
    pub(super) const fn place(&self) -> i64 {
        self.seq
    }

    /// When it was made.
    pub(super) const fn made_at(&self) -> DateTime {
        self.created_at
    }
}

impl Placed for NotificationDocument {
    const NAME: &'static str = NAME;

    fn id(&self) -> String {
        self.id.to_string()
    }

    fn seq(&self) -> i64 {
        self.seq
    }

    fn expires_from(&self) -> Option<Timestamp> {
        Some(time(self.created_at))
    }
}

pub(super) fn documents(made: &[(u64, &Notification)]) -> Vec<NotificationDocument> {
    made.iter().map(|(at, one)| NotificationDocument::made(*at, one)).collect()
}

impl Store {
    /// A notification and its place, if it is there.
    pub async fn notification(&self, id: NotificationId) -> Result<Option<(u64, Notification)>> {
        let made = self.collection::<NotificationDocument>(NAME);
        let found = self.read(made.find_one(doc! { "_id": id.to_string() })).await?;
        Ok(found.map(NotificationDocument::into_notification))
    }

    /// Notifications of these ids with their places; unknown ones are left out.
    pub async fn notifications_by_id(&self, ids: &[NotificationId]) -> Result<Vec<(u64, Notification)>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let filter = doc! { "_id": { "$in": ids.iter().map(ToString::to_string).collect::<Vec<_>>() } };
        let made = self.collection::<NotificationDocument>(NAME);
        let found = self.read(async { made.find(filter).await?.try_collect::<Vec<_>>().await });
        Ok(found.await?.into_iter().map(NotificationDocument::into_notification).collect())
    }

    /// Where these notifications are stored to be in the log; those that are not there are left out.
    pub async fn notifications_placed(&self, ids: &[NotificationId]) -> Result<HashMap<NotificationId, u64>> {
        #[derive(Deserialize)]
        struct Row {
            #[serde(rename = "_id")]
            id: NotificationId,
            seq: i64,
        }
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let made = self.collection::<Row>(NAME);
        let found = self.read(async {
            let find = made.find(doc! { "_id": { "$in": ids } }).projection(doc! { "seq": 1 });
            find.await?.try_collect::<Vec<_>>().await
        });
        Ok(found.await?.into_iter().map(|row| (row.id, seq(row.seq))).collect())
    }

    /// Of which entries of a user's these notifications are that they were told of.
    pub async fn entries_of_told(
        &self,
        user: UserId,
        ids: &[NotificationId],
    ) -> Result<HashMap<NotificationId, NotificationId>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Row {
            #[serde(rename = "_id")]
            id: NotificationId,
            entry_id: NotificationId,
        }
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let told =
            doc! { "_id": { "$in": ids }, "userId": user.to_string(), "decision.inbox.outcome": { "$ne": "held" } };
        let made = self.collection::<Row>(NAME);
        let found = self.read(async {
            let find = made.find(told).projection(doc! { "entryId": 1 });
            find.await?.try_collect::<Vec<_>>().await
        });
        Ok(found.await?.into_iter().map(|row| (row.id, row.entry_id)).collect())
    }

    /// How many notifications of an entry its user was told of in a stretch of the log, at most so many. Those about messages
    /// up to `read` do not count.
    pub async fn count_told(&self, entry: NotificationId, stretch: (u64, u64), read: u64, most: u32) -> Result<u32> {
        let (after, upto) = (stored_seq(stretch.0), stored_seq(stretch.1));
        let told = doc! {
            "entryId": entry.to_string(),
            "seq": { "$gt": after, "$lte": upto },
            "decision.inbox.outcome": { "$ne": "held" },
            "data.messageSeq": { "$not": { "$lte": stored_seq(read) } },
        };
        let made = self.collection::<Document>(NAME);
        let counted = self.read(made.count_documents(told).limit(u64::from(most))).await?;
        Ok(u32::try_from(counted).unwrap_or(most))
    }
}
