//! `/conversations`: opening, finding and listing places that messages are in.

use poem::Request;
use poem::web::Data;
use poem_openapi::param::{Header, Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::types::MaybeUndefined;
use poem_openapi::{ApiResponse, Object, OpenApi};

use super::place::{ContextBody, ConversationBody};
use super::text::Text;
use super::{Caller, Group, Reply, trace};
use crate::command::Commands;
use crate::command::conversations::OpenConversation;
use crate::domain::context::Context;
use crate::domain::ids::UserId;
use crate::domain::page::{self, Page};
use crate::domain::words::{ClientMessageId, Title, line};
use crate::error::Result;
use crate::query::Queries;
use crate::query::conversations::View;
use crate::query::lists::Wanted;

/// A conversation to open, or to find.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
struct NewConversation {
    /// The ids of everybody in it; your own may be left out.
    #[oai(default)]
    participants: Vec<Text>,
    /// The one other participant: short for `participants` with one id.
    recipient_id: Option<Text>,
    /// direct, group or support. If it is not said, two users talk directly and more are a group. Support conversations are
    /// opened by buyers and sellers alone; agents join them.
    kind: Option<Text>,
    /// What it is about. The same two users have one direct conversation for each context, and one without; so has everybody
    /// with the shop's support.
    context: Option<ContextBody>,
    /// Its name, 1 to 200 characters; a direct one has none.
    title: Option<Text>,
}

/// What is to change; what is left out stays as it is.
#[derive(Object)]
struct ConversationChange {
    /// Its new name, 1 to 200 characters; null takes it away.
    #[oai(nullable)]
    title: MaybeUndefined<Text>,
    /// Whether it is closed.
    closed: Option<bool>,
}

/// A page of conversations.
#[derive(Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct ConversationPage {
    /// The most recently active first.
    items: Vec<ConversationBody>,
    /// Where the next page begins; absent on the last one.
    next_cursor: Option<String>,
}

impl From<Page<View>> for ConversationPage {
    fn from(page: Page<View>) -> Self {
        Self {
            items: page.items.into_iter().map(ConversationBody::from).collect(),
            next_cursor: page.next.map(page::Edge::opaque),
        }
    }
}

impl NewConversation {
    fn into_command(self, key: Option<&str>) -> Result<OpenConversation> {
        let ids = self.participants.iter().chain(&self.recipient_id);
        Ok(OpenConversation {
            participants: ids.map(|id| id.parse()).collect::<Result<Vec<UserId>>>()?,
            kind: self.kind.map(|kind| kind.parse()).transpose()?,
            context: self.context.map(|context| Context::from(context).spelled()),
            title: self.title.map(|title| Title::new(&title)).transpose()?,
            key: key.map(ClientMessageId::new).transpose()?,
        })
    }
}

#[derive(ApiResponse)]
enum Opened {
    /// It was there already.
    #[oai(status = 200)]
    Found(Json<ConversationBody>),
    /// It is new.
    #[oai(status = 201)]
    Created(Json<ConversationBody>),
}

/// The resource.
pub struct ConversationsApi;

#[OpenApi(prefix_path = "/conversations", tag = "Group::Conversations")]
impl ConversationsApi {
    /// Open a conversation, or find the one that is there
    ///
    /// Direct and support conversations are there once. A group is a new one each time, unless the header
    /// `Idempotency-Key` names the opening: then the same caller and key are the same group.
    #[oai(path = "/", method = "post", operation_id = "openConversation")]
    async fn open(
        &self,
        commands: Data<&Commands>,
        queries: Data<&Queries>,
        caller: Caller,
        request: &Request,
        /// Your own name for this opening, 1 to 128 visible ASCII characters. It matters for groups.
        #[oai(name = "Idempotency-Key")]
        idempotency_key: Header<Option<String>>,
        body: Json<NewConversation>,
    ) -> Reply<Opened> {
        let open = body.0.into_command(idempotency_key.0.as_deref())?;
        let opened = commands.open_conversation(&caller.0, open, trace(request)).await?;
        let view = Json(queries.opened(&caller.0, opened.conversation, opened.created).await?.into());
        Ok(if opened.created { Opened::Created(view) } else { Opened::Found(view) })
    }

    /// The caller's conversations, the most recently active first
    ///
    /// A page may be short, or even empty, and still have a `nextCursor`: of one page a bounded number of conversations is
    /// looked at.
    #[expect(clippy::too_many_arguments, reason = "each is a parameter of the request")]
    #[oai(path = "/", method = "get", operation_id = "listConversations")]
    async fn list(
        &self,
        queries: Data<&Queries>,
        caller: Caller,
        /// Only those of this kind: direct, group or support.
        kind: Query<Option<String>>,
        /// Only those about this sort of thing: order, product or store.
        #[oai(name = "contextType")]
        context_type: Query<Option<String>>,
        /// Only those about the thing with this id.
        #[oai(name = "contextId")]
        context_id: Query<Option<String>>,
        /// Only those that you have archived, or have not.
        archived: Query<Option<bool>>,
        /// Only those in which you have something to read, or have not.
        unread: Query<Option<bool>>,
        /// For agents: the support conversations that wait for one, instead of your own. The other filters do not matter
        /// then.
        queue: Query<Option<bool>>,
        /// How many, 1 to 200; 50 if not given.
        limit: Query<Option<u32>>,
        /// Where to go on: the `nextCursor` of the page before.
        cursor: Query<Option<String>>,
    ) -> Reply<Json<ConversationPage>> {
        let before = cursor.0.map(|cursor| cursor.parse()).transpose()?;
        let limit = page::limit(limit.0)?;
        let wanted = Wanted {
            kind: kind.0.map(|kind| kind.parse()).transpose()?,
            context_type: context_type.0.map(|kind| kind.parse()).transpose()?,
            context_id: context_id.0.map(|id| line(&id)),
            archived: archived.0,
            unread: unread.0,
        };
        let page = if queue.0.unwrap_or_default() {
            queries.waiting(&caller.0, before, limit).await?
        } else {
            queries.conversations(&caller.0, &wanted, before, limit).await?
        };
        Ok(Json(page.into()))
    }

    /// One of the caller's conversations
    #[oai(path = "/:id", method = "get", operation_id = "getConversation")]
    async fn get(&self, queries: Data<&Queries>, caller: Caller, id: Path<String>) -> Reply<Json<ConversationBody>> {
        Ok(Json(queries.conversation(&caller.0, id.parse()?).await?.into()))
    }

    /// Rename a conversation, close it, or open it again
    #[oai(path = "/:id", method = "patch", operation_id = "changeConversation")]
    async fn change(
        &self,
        commands: Data<&Commands>,
        queries: Data<&Queries>,
        caller: Caller,
        request: &Request,
        id: Path<String>,
        body: Json<ConversationChange>,
    ) -> Reply<Json<ConversationBody>> {
        let id = id.parse()?;
        let title = match &body.title {
            MaybeUndefined::Undefined => None,
            MaybeUndefined::Null => Some(None),
            MaybeUndefined::Value(title) => Some(Some(Title::new(title)?)),
        };
        if let Some(title) = title {
            commands.rename_conversation(&caller.0, id, title, trace(request)).await?;
        }
        if let Some(closed) = body.closed {
            commands.close_conversation(&caller.0, id, closed, trace(request)).await?;
        }
        Ok(Json(queries.conversation(&caller.0, id).await?.into()))
    }
}
