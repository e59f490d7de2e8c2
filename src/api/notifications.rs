//! `/notifications`: what the caller was told.

use poem::web::Data;
use poem_openapi::param::Query;
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};

use super::{Caller, Group, Reply};
use crate::domain::notification::Notification;
use crate::domain::page::{self, Edge};
use crate::query::Queries;

/// Where a notification leads.
#[derive(Debug, Object)]
#[oai(rename = "NotificationData", rename_all = "camelCase", skip_serializing_if_is_none)]
struct DataBody {
    /// The conversation.
    conversation_id: Option<String>,
    /// The message.
    message_id: Option<String>,
    /// Its place in the log: whoever has read the conversation that far has read this.
    message_seq: Option<u64>,
    /// Who caused it.
    sender_id: Option<String>,
    /// The order.
    order_id: Option<String>,
    /// What happened to it.
    status: Option<String>,
}

/// Something the caller was told.
#[derive(Debug, Object)]
#[oai(rename = "Notification", rename_all = "camelCase")]
struct NotificationBody {
    /// Names it for ever (`ntf_...`).
    id: String,
    /// Its place in the log.
    seq: u64,
    /// Whom it is for.
    user_id: String,
    /// What it is about: `message`, `mention`, `order`, `system` or `support`.
    kind: String,
    /// The headline.
    title: String,
    /// The first 140 characters of the text; empty once its message is deleted.
    body: String,
    /// Where it leads.
    data: DataBody,
    /// When it happened.
    created_at: String,
}

/// A page of notifications.
#[derive(Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct NotificationPage {
    /// The newest first.
    items: Vec<NotificationBody>,
    /// Where the next page begins; absent on the last one.
    next_cursor: Option<String>,
}

impl NotificationBody {
    fn new(seq: u64, notification: Notification) -> Self {
        Self {
            id: notification.id.to_string(),
            seq,
            user_id: notification.user_id.to_string(),
            kind: notification.kind.word().to_owned(),
            title: notification.title,
            body: notification.body,
            data: DataBody {
                conversation_id: notification.data.conversation_id.map(|id| id.to_string()),
                message_id: notification.data.message_id.map(|id| id.to_string()),
                message_seq: notification.data.message_seq,
                sender_id: notification.data.sender_id.map(|id| id.to_string()),
                order_id: notification.data.order_id,
                status: notification.data.status,
            },
            created_at: notification.created_at.to_string(),
        }
    }
}

/// The resource.
pub struct NotificationsApi;

#[OpenApi(prefix_path = "/notifications", tag = "Group::Notifications")]
impl NotificationsApi {
    /// The caller's notifications, newest first
    #[oai(path = "/", method = "get", operation_id = "listNotifications")]
    async fn list(
        &self,
        queries: Data<&Queries>,
        caller: Caller,
        /// How many, 1 to 200; 50 if not given.
        limit: Query<Option<u32>>,
        /// Where to go on: the `nextCursor` of the page before.
        cursor: Query<Option<String>>,
    ) -> Reply<Json<NotificationPage>> {
        let before = cursor.0.map(|cursor| cursor.parse()).transpose()?;
        let page = queries.notifications(&caller.0, before, page::limit(limit.0)?).await?;
        Ok(Json(NotificationPage {
            items: page.items.into_iter().map(|(seq, one)| NotificationBody::new(seq, one)).collect(),
            next_cursor: page.next.map(Edge::opaque),
        }))
    }
}
