//! `notifications`: what each user was told.

use futures_util::TryStreamExt as _;
use mongodb::bson::{DateTime, doc};
use serde::{Deserialize, Serialize};

use super::once::Placed;
use super::{Store, seq, stored_seq, stored_time, time};
use crate::domain::decision::Decisions;
use crate::domain::ids::{ConversationId, MessageId, NotificationId, UserId};
use crate::domain::notification::{Data, Kind, Notification};
use crate::domain::page::{Edge, Page};
use crate::error::Result;

const NAME: &str = "notifications";

#[derive(Debug, Serialize, Deserialize)]
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

#[derive(Debug, Serialize, Deserialize)]
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
    fn made(at: u64, notification: &Notification) -> Self {
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

    fn into_notification(self) -> (u64, Notification) {
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

impl Placed for NotificationDocument {
    const NAME: &'static str = NAME;

    fn id(&self) -> String {
        self.id.to_string()
    }

    fn seq(&self) -> i64 {
        self.seq
    }
}

pub(super) fn documents(made: &[(u64, &Notification)]) -> Vec<NotificationDocument> {
    made.iter().map(|(at, one)| NotificationDocument::made(*at, one)).collect()
}

impl Store {
    /// A user's notifications, newest first.
    pub async fn notifications_of(
        &self,
        user: UserId,
        before: Option<Edge>,
        limit: u32,
    ) -> Result<Page<(u64, Notification)>> {
        let mut filter = doc! { "userId": user.to_string(), "decision.inbox.outcome": { "$ne": "held" } };
        if let Some(Edge(edge)) = before {
            filter.insert("seq", doc! { "$lt": stored_seq(edge) });
        }
        let notifications = self.collection::<NotificationDocument>(NAME);
        let found = self.read(async {
            let find = notifications.find(filter).sort(doc! { "seq": -1 }).limit(i64::from(limit) + 1);
            find.await?.try_collect::<Vec<_>>().await
        });
        let mut items: Vec<_> = found.await?.into_iter().map(NotificationDocument::into_notification).collect();
        let more = items.len() > limit as usize;
        items.truncate(limit as usize);
        let next = items.last().filter(|_| more).map(|(seq, _)| Edge(*seq));
        Ok(Page { items, next })
    }

    /// Projects notifications that were made, each id once. One that was made twice is the earlier one.
    pub(super) async fn insert_notifications(&self, made: &[(u64, &Notification)]) -> Result<()> {
        let known = self.insert_once(&documents(made)).await?;
        let late = known.iter().filter(|known| known.seq > made[known.place].0);
        let late: Vec<_> = late.map(|known| made[known.place]).collect();
        self.advance(&documents(&late)).await
    }
}
