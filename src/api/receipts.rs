//! How far messages have come, how far they were read, and what is left to read.

use poem::Request;
use poem::web::Data;
use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use poem_openapi::types::Any;
use poem_openapi::{Object, OpenApi};

use super::{Caller, Group, Reply, trace};
use crate::command::Commands;
use crate::command::receipts::{Mark, Marked, UpTo};
use crate::error::Result;
use crate::query::Queries;
use crate::query::unread::Total;

/// How far a mark is to go.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
struct NewMark {
    /// A `seq`, or the id of a message; everything that was said if it is not given.
    up_to: Option<Any<serde_json::Value>>,
}

/// Where the caller's marks are. They only move forward.
#[derive(Object)]
#[oai(rename = "Marks", rename_all = "camelCase")]
struct MarksBody {
    /// Where.
    conversation_id: String,
    /// How far the caller has read.
    read_seq: u64,
    /// How far messages have come to the caller.
    delivered_seq: u64,
}

/// What the caller has to read in all.
#[derive(Object)]
struct Unread {
    /// Messages of others, counted up to 999.
    messages: u32,
    /// Conversations that they are in.
    conversations: u32,
    /// Whether there may be more: 999 messages, or more than 1,000 conversations.
    more: bool,
}

impl NewMark {
    fn up_to(&self) -> Result<UpTo> {
        UpTo::read(self.up_to.as_ref().map(|any| &any.0))
    }
}

impl From<Marked> for MarksBody {
    fn from(marked: Marked) -> Self {
        Self {
            conversation_id: marked.conversation_id.to_string(),
            read_seq: marked.read_seq,
            delivered_seq: marked.delivered_seq,
        }
    }
}

impl From<Total> for Unread {
    fn from(Total { messages, conversations, more }: Total) -> Self {
        Self { messages, conversations, more }
    }
}

/// The resource.
pub struct ReceiptsApi;

#[OpenApi(prefix_path = "/conversations", tag = "Group::Conversations")]
impl ReceiptsApi {
    /// What the caller has to read in all
    ///
    /// In the 1,000 conversations that were active last.
    #[oai(path = "/unread", method = "get", operation_id = "getUnread")]
    async fn unread(&self, queries: Data<&Queries>, caller: Caller) -> Reply<Json<Unread>> {
        Ok(Json(queries.unread_total(&caller.0).await?.into()))
    }

    /// Mark a conversation as read
    #[oai(path = "/:id/read", method = "post", operation_id = "markRead")]
    async fn read(
        &self,
        commands: Data<&Commands>,
        caller: Caller,
        request: &Request,
        id: Path<String>,
        body: Json<NewMark>,
    ) -> Reply<Json<MarksBody>> {
        let marking = commands.mark(&caller.0, id.parse()?, Mark::Read, body.up_to()?, trace(request)).await?;
        Ok(Json(commands.marked(marking).await?.into()))
    }

    /// Mark what was said in a conversation as delivered
    #[oai(path = "/:id/delivered", method = "post", operation_id = "markDelivered")]
    async fn delivered(
        &self,
        commands: Data<&Commands>,
        caller: Caller,
        request: &Request,
        id: Path<String>,
        body: Json<NewMark>,
    ) -> Reply<Json<MarksBody>> {
        let marking = commands.mark(&caller.0, id.parse()?, Mark::Delivered, body.up_to()?, trace(request)).await?;
        Ok(Json(commands.marked(marking).await?.into()))
    }
}
