//! `/conversations`: places messages are in.

use poem::Request;
use poem::web::Data;
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Enum, Object, OpenApi};

use super::text::Text;
use super::{Caller, Group, Reply, trace};
use crate::command::Commands;
use crate::command::conversations::OpenConversation;
use crate::domain::context::{Context, ContextKind, Price};
use crate::domain::conversation::Kind;
use crate::domain::ids::UserId;
use crate::domain::notification::excerpt;
use crate::domain::page;
use crate::error::Result;
use crate::query::Queries;
use crate::query::conversations::View;

/// The sorts of things a conversation can be about.
#[derive(Debug, Clone, Copy, Enum)]
#[oai(rename = "ContextType", rename_all = "lowercase")]
enum ContextType {
    Order,
    Product,
    Store,
}

/// What a conversation is about.
#[derive(Debug, Object)]
#[oai(rename = "Context", rename_all = "camelCase", skip_serializing_if_is_none)]
struct ContextBody {
    /// The sort of thing.
    #[oai(rename = "type")]
    kind: ContextType,
    /// The shop's own id of it, at most 128 characters.
    id: Text,
    /// Its name for people, at most 200 characters.
    title: Option<Text>,
    /// Its page (http or https).
    url: Option<Text>,
    /// Its picture (http or https).
    image_url: Option<Text>,
    /// What it costs.
    price: Option<PriceBody>,
}

/// What something costs, as the shop says it.
#[derive(Debug, Object)]
#[oai(rename = "Price")]
struct PriceBody {
    /// A decimal number, such as `19.90`.
    amount: Text,
    /// The currency, such as `EUR` (ISO 4217).
    currency: Text,
}

/// A conversation to open, or to find.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
struct NewConversation {
    /// The ids of everybody in it; your own may be left out.
    #[oai(default)]
    participants: Vec<Text>,
    /// The one other participant: short for `participants` with one id.
    recipient_id: Option<Text>,
    /// What it is about. The same users have one conversation for each context, and one without.
    context: Option<ContextBody>,
}

/// A user in a conversation.
#[derive(Debug, Object)]
#[oai(rename = "Participant", rename_all = "camelCase", skip_serializing_if_is_none)]
struct ParticipantBody {
    /// Who.
    user_id: String,
    /// Their name.
    name: Option<String>,
    /// As what: buyer, seller, agent or owner.
    role: String,
    /// The seq up to which they have read, as far as they show it.
    read_seq: u64,
    /// The seq up to which messages have come to them.
    delivered_seq: u64,
}

/// The newest message of a conversation.
#[derive(Debug, Object)]
#[oai(rename = "LastMessage", rename_all = "camelCase")]
struct LastMessageBody {
    /// Its id.
    id: String,
    /// Its place in the log.
    seq: u64,
    /// Who sent it.
    sender_id: String,
    /// The first 140 characters of its text.
    text: String,
    /// When it was sent.
    created_at: String,
}

/// A place messages are in.
#[derive(Debug, Object)]
#[oai(rename = "Conversation", rename_all = "camelCase", skip_serializing_if_is_none)]
struct ConversationBody {
    /// Names it for ever (`cnv_...`).
    id: String,
    /// direct or group.
    kind: String,
    /// Who is in it.
    participants: Vec<ParticipantBody>,
    /// What it is about.
    context: Option<ContextBody>,
    /// Who opened it.
    created_by: String,
    /// When.
    created_at: String,
    /// Its newest message.
    last_message: Option<LastMessageBody>,
    /// How many messages of others the caller has not read: 0 to 100, and 100 means that many or more.
    unread: u32,
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

impl From<ContextBody> for Context {
    fn from(body: ContextBody) -> Self {
        Self {
            kind: match body.kind {
                ContextType::Order => ContextKind::Order,
                ContextType::Product => ContextKind::Product,
                ContextType::Store => ContextKind::Store,
            },
            id: body.id.0,
            title: body.title.map(|text| text.0),
            url: body.url.map(|text| text.0),
            image_url: body.image_url.map(|text| text.0),
            price: body.price.map(|price| Price { amount: price.amount.0, currency: price.currency.0 }),
        }
    }
}

impl From<Context> for ContextBody {
    fn from(context: Context) -> Self {
        Self {
            kind: match context.kind {
                ContextKind::Order => ContextType::Order,
                ContextKind::Product => ContextType::Product,
                ContextKind::Store => ContextType::Store,
            },
            id: Text(context.id),
            title: context.title.map(Text),
            url: context.url.map(Text),
            image_url: context.image_url.map(Text),
            price: context.price.map(|price| PriceBody { amount: Text(price.amount), currency: Text(price.currency) }),
        }
    }
}

impl From<View> for ConversationBody {
    fn from(view: View) -> Self {
        let View { conversation, mut names, marks, last_message, unread, .. } = view;
        let marks = |user| marks.get(&user).copied().unwrap_or_default();
        Self {
            id: conversation.id.to_string(),
            kind: match conversation.kind {
                Kind::Direct => "direct".into(),
                Kind::Group => "group".into(),
                Kind::Support => "support".into(),
            },
            participants: conversation
                .participants
                .iter()
                .map(|participant| ParticipantBody {
                    user_id: participant.user_id.to_string(),
                    name: names.remove(&participant.user_id),
                    role: participant.role.word().into(),
                    read_seq: marks(participant.user_id).read,
                    delivered_seq: marks(participant.user_id).delivered.max(marks(participant.user_id).shown),
                })
                .collect(),
            context: conversation.context.map(ContextBody::from),
            created_by: conversation.created_by.to_string(),
            created_at: conversation.created_at.to_string(),
            last_message: last_message.map(|last| LastMessageBody {
                id: last.message.id.to_string(),
                seq: last.seq,
                sender_id: last.message.sender_id.to_string(),
                text: excerpt(last.text()),
                created_at: last.message.created_at.to_string(),
            }),
            unread,
        }
    }
}

impl NewConversation {
    fn into_command(self) -> Result<OpenConversation> {
        let ids = self.participants.iter().chain(&self.recipient_id);
        Ok(OpenConversation {
            participants: ids.map(|id| id.parse()).collect::<Result<Vec<UserId>>>()?,
            context: self.context.map(Context::from),
        })
    }
}

#[derive(ApiResponse)]
enum Opened {
    /// These users had it already.
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
    /// Open a conversation, or find the one these users have
    #[oai(path = "/", method = "post", operation_id = "openConversation")]
    async fn open(
        &self,
        commands: Data<&Commands>,
        queries: Data<&Queries>,
        caller: Caller,
        request: &Request,
        body: Json<NewConversation>,
    ) -> Reply<Opened> {
        let opened = commands.open_conversation(&caller.0, body.0.into_command()?, trace(request)).await?;
        let view = Json(queries.opened(&caller.0, opened.conversation, opened.created).await?.into());
        Ok(if opened.created { Opened::Created(view) } else { Opened::Found(view) })
    }

    /// The caller's conversations, the most recently active first
    #[oai(path = "/", method = "get", operation_id = "listConversations")]
    async fn list(
        &self,
        queries: Data<&Queries>,
        caller: Caller,
        /// How many, 1 to 200; 50 if not given.
        limit: Query<Option<u32>>,
        /// Where to go on: the `nextCursor` of the page before.
        cursor: Query<Option<String>>,
    ) -> Reply<Json<ConversationPage>> {
        let before = cursor.0.map(|cursor| cursor.parse()).transpose()?;
        let page = queries.conversations(&caller.0, before, page::limit(limit.0)?).await?;
        Ok(Json(ConversationPage {
            items: page.items.into_iter().map(ConversationBody::from).collect(),
            next_cursor: page.next.map(page::Edge::opaque),
        }))
    }

    /// One of the caller's conversations
    #[oai(path = "/:id", method = "get", operation_id = "getConversation")]
    async fn get(&self, queries: Data<&Queries>, caller: Caller, id: Path<String>) -> Reply<Json<ConversationBody>> {
        Ok(Json(queries.conversation(&caller.0, id.parse()?).await?.into()))
    }
}
