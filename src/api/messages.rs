//! `/messages`: what was said.

use poem::Request;
use poem::web::Data;
use poem_openapi::param::{Header, Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Object, OpenApi};

use super::composed::{self, Composed, Read};
use super::wire::MessageBody;
use super::{Caller, Group, Reply, trace};
use crate::command::Commands;
use crate::domain::page::{self, Edge, Range};
use crate::query::Queries;

/// A page of a conversation's history, oldest first.
#[derive(Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct MessagePage {
    /// The messages.
    items: Vec<MessageBody>,
    /// Where to go on in the same direction: the next `before`, or the next `after` if you asked with `after`. Absent at
    /// the end, and if you asked with `around`. A page may be short of what you have deleted for yourself: only this says
    /// whether there is more.
    next_cursor: Option<String>,
    /// Where older messages go on: the next `before`. Absent at the beginning of the conversation.
    older_cursor: Option<String>,
    /// Where newer messages go on, now or later: the next `after`.
    newer_cursor: String,
}

#[derive(ApiResponse)]
enum Sent {
    /// The broker has stored it.
    #[oai(status = 201)]
    Created(Json<MessageBody>),
}

/// The resource.
pub struct MessagesApi;

#[OpenApi(prefix_path = "/messages", tag = "Group::Messages")]
impl MessagesApi {
    /// Send a message
    ///
    /// The reply comes once the broker has stored it. With a `clientMessageId`, or the header `Idempotency-Key`, it can be
    /// sent again without being said twice: the reply is then the first one as it is now. As a form it can bring files along,
    /// each as a part `attachment`.
    #[oai(path = "/", method = "post", operation_id = "sendMessage")]
    async fn send(
        &self,
        commands: Data<&Commands>,
        caller: Caller,
        request: &Request,
        /// The same as `clientMessageId`.
        #[oai(name = "Idempotency-Key")]
        idempotency_key: Header<Option<String>>,
        body: Composed,
    ) -> Reply<Sent> {
        let (actor, trace) = (&caller.0, trace(request));
        let Read { send, brought } = body.read(&commands, actor, idempotency_key.0.as_deref(), trace).await?;
        let id = commands.name_message(actor, &send);
        let sent = async { commands.sent(commands.send_message(actor, id, send, trace).await?).await };
        match sent.await {
            Ok(stored) => {
                if stored.duplicate {
                    // It carries what came with it first.
                    composed::discard(&commands, actor, &brought).await;
                }
                let state = commands.current(stored).await;
                Ok(Sent::Created(Json(commands.shown(actor, state).await.into())))
            }
            Err(error) => {
                // What cannot be told apart from sent stays claimed: it is not taken back then.
                composed::discard(&commands, actor, &brought).await;
                Err(error.into())
            }
        }
    }

    /// A conversation's history, oldest first; the newest page unless asked otherwise
    #[expect(clippy::too_many_arguments, reason = "each is a parameter of the request")]
    #[oai(path = "/:conversation_id", method = "get", operation_id = "listMessages")]
    async fn list(
        &self,
        queries: Data<&Queries>,
        caller: Caller,
        /// The conversation (`cnv_...`).
        conversation_id: Path<String>,
        /// How many, 1 to 200; 50 if not given.
        limit: Query<Option<u32>>,
        /// What came before this: a cursor of an earlier page, or a message id.
        before: Query<Option<String>>,
        /// What came after this: a cursor of an earlier page, or a message id.
        after: Query<Option<String>>,
        /// A message id: it, and about as many messages before it as after it.
        around: Query<Option<String>>,
    ) -> Reply<Json<MessagePage>> {
        let range = Range::new(before.0.as_deref(), after.0.as_deref(), around.0.as_deref())?;
        let history = queries.messages(&caller.0, conversation_id.parse()?, range, page::limit(limit.0)?).await?;
        let onwards = if matches!(range, Range::After(_)) { Some(history.newer) } else { history.older };
        Ok(Json(MessagePage {
            items: history.items.into_iter().map(MessageBody::from).collect(),
            next_cursor: onwards.filter(|_| history.more).map(Edge::opaque),
            older_cursor: history.older.map(Edge::opaque),
            newer_cursor: history.newer.opaque(),
        }))
    }
}
