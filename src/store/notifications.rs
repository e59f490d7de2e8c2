//! `notifications`: what each user was told.

use futures_util::TryStreamExt as _;
use mongodb::bson::{DateTime, doc};
use serde::{Deserialize, Serialize};

use super::once::Placed;
use super::{Store, seq, stored_seq, stored_time, time};
use crate::domain::ids::{ConversationId, MessageId, NotificationId, UserId};
use crate::domain::notification::{Data, Kind, Notification};
use crate::domain::page::{Edge, Page};
use crate::error::Result;

const NAME: &str = "notifications";

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the names are the stored ones")]
struct DataDocument {
    conversation_id: ConversationId,
    message_id: MessageId,
    sender_id: UserId,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NotificationDocument {
    #[serde(rename = "_id")]
    id: NotificationId,
    user_id: UserId,
    kind: Kind,
    title: String,
    body: String,
    data: DataDocument,
    seq: i64,
    created_at: DateTime,
}

impl NotificationDocument {
    fn made(at: u64, notification: &Notification) -> Self {
        Self {
            id: notification.id,
            user_id: notification.user_id,
            kind: notification.kind,
            title: notification.title.clone(),
            body: notification.body.clone(),
            data: DataDocument {
                conversation_id: notification.data.conversation_id,
                message_id: notification.data.message_id,
                sender_id: notification.data.sender_id,
            },
            seq: stored_seq(at),
            created_at: stored_time(notification.created_at),
        }
    }

    fn into_notification(self) -> (u64, Notification) {
        let notification = Notification {
            id: self.id,
            user_id: self.user_id,
            kind: self.kind,
            title: self.title,
            body: self.body,
            data: Data {
                conversation_id: self.data.conversation_id,
                message_id: self.data.message_id,
                sender_id: self.data.sender_id,
            },
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
        let mut filter = doc! { "userId": user.to_string() };
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
