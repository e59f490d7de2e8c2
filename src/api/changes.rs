//! `/conversations/{id}/messages/{messageId}`: one message, and what can be done to it.

use poem::Request;
use poem::web::Data;
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};

use super::text::Text;
use super::wire::{MessageBody, strings};
use super::{Caller, Group, Reply, trace};
use crate::command::Commands;
use crate::command::changes::{self, ChangeMessage, Changed};
use crate::domain::change::Scope;
use crate::domain::changing::What;
use crate::domain::emoji::Emoji;
use crate::domain::state::MessageState;
use crate::domain::words::{MessageText, required};
use crate::query::Queries;

/// Other words for a message.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
struct MessageEdit {
    /// The words: 1 to 8,000 characters.
    text: Option<Text>,
    /// The ids of participants that they name, at most 50; as before if absent.
    mentions: Option<Vec<Text>>,
}

/// A message that is as you asked for.
#[derive(Object)]
#[oai(rename = "Changed", rename_all = "camelCase", skip_serializing_if_is_none)]
struct ChangedBody {
    /// Where it is.
    conversation_id: String,
    /// Which message.
    message_id: String,
    /// The place of the change in the log; absent if it was so already.
    seq: Option<u64>,
}

/// What a message said at some time.
#[derive(Object)]
#[oai(rename = "Wording", rename_all = "camelCase")]
struct WordingBody {
    /// The text.
    text: String,
    /// The participants it named.
    #[oai(default, skip_serializing_if_is_empty)]
    mentions: Vec<String>,
    /// Since when it said so.
    at: String,
}

/// A message with everything it has said.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
struct MessageInFull {
    #[oai(flatten)]
    message: MessageBody,
    /// Every wording it has had, oldest first; the last one is what it says now. Empty if it is deleted.
    wordings: Vec<WordingBody>,
}

/// Messages that are pinned.
#[derive(Object)]
struct Pins {
    /// The last one pinned first, at most 50.
    items: Vec<MessageBody>,
}

impl From<Changed> for ChangedBody {
    fn from(changed: Changed) -> Self {
        Self {
            conversation_id: changed.conversation_id.to_string(),
            message_id: changed.message_id.to_string(),
            seq: changed.seq,
        }
    }
}

impl From<MessageState> for MessageInFull {
    fn from(state: MessageState) -> Self {
        let wording = |(text, mentions, at): (&str, &[_], _)| WordingBody {
            text: text.to_owned(),
            mentions: strings(mentions),
            at: ToString::to_string(&at),
        };
        let wordings = if state.deleted.is_some() { Vec::new() } else { state.wordings().map(wording).collect() };
        Self { message: state.into(), wordings }
    }
}

/// Changes a message and waits until that is stored.
async fn change(
    commands: &Commands,
    caller: &Caller,
    request: &Request,
    (conversation, message): (&str, &str),
    what: What,
) -> Reply<Changed> {
    let change = ChangeMessage::new(Some(conversation), Some(message), what)?;
    Ok(commands.change_message(&caller.0, change, trace(request)).await?.stored().await?)
}

/// The resource.
pub struct ChangesApi;

#[OpenApi(prefix_path = "/conversations", tag = "Group::Messages")]
impl ChangesApi {
    /// A message, with every wording it has had
    #[oai(path = "/:id/messages/:message_id", method = "get", operation_id = "getMessage")]
    async fn get(
        &self,
        queries: Data<&Queries>,
        caller: Caller,
        id: Path<String>,
        message_id: Path<String>,
    ) -> Reply<Json<MessageInFull>> {
        Ok(Json(queries.message(&caller.0, id.parse()?, message_id.parse()?).await?.into()))
    }

    /// Put your message in other words
    ///
    /// Within `EDIT_SECONDS` of sending it, and at most 50 times. The reply is the message as it is now.
    #[oai(path = "/:id/messages/:message_id", method = "patch", operation_id = "editMessage")]
    async fn edit(
        &self,
        commands: Data<&Commands>,
        caller: Caller,
        request: &Request,
        id: Path<String>,
        message_id: Path<String>,
        body: Json<MessageEdit>,
    ) -> Reply<Json<MessageBody>> {
        let text = MessageText::new(required(body.text.as_deref(), "text")?)?;
        let mentions = body.mentions.as_ref().map(|all| changes::mentions(all.iter().map(|user| &**user)));
        let what = What::Edit { text, mentions: mentions.transpose()? };
        let changed = change(&commands, &caller, request, (&id, &message_id), what).await?;
        Ok(Json(commands.shown(&caller.0, changed.state).await.into()))
    }

    /// Delete a message, for everybody or for yourself
    ///
    /// For everybody: your own at any time, others' if your role allows it. What is left says only that it was there.
    #[oai(path = "/:id/messages/:message_id", method = "delete", operation_id = "deleteMessage")]
    async fn delete(
        &self,
        commands: Data<&Commands>,
        caller: Caller,
        request: &Request,
        id: Path<String>,
        message_id: Path<String>,
        /// `everybody`, also if not given, or `me`.
        scope: Query<Option<String>>,
    ) -> Reply<Json<ChangedBody>> {
        let scope = scope.0.map_or(Ok(Scope::Everybody), |scope| scope.parse())?;
        Ok(Json(change(&commands, &caller, request, (&id, &message_id), What::Delete(scope)).await?.into()))
    }

    /// Put an emoji on a message
    #[oai(path = "/:id/messages/:message_id/reactions/:emoji", method = "put", operation_id = "addReaction")]
    async fn react(
        &self,
        commands: Data<&Commands>,
        caller: Caller,
        request: &Request,
        id: Path<String>,
        message_id: Path<String>,
        /// Exactly one emoji.
        emoji: Path<String>,
    ) -> Reply<Json<ChangedBody>> {
        let what = What::React { emoji: Emoji::new(&emoji)?, on: true };
        Ok(Json(change(&commands, &caller, request, (&id, &message_id), what).await?.into()))
    }

    /// Take your emoji back
    #[oai(path = "/:id/messages/:message_id/reactions/:emoji", method = "delete", operation_id = "removeReaction")]
    async fn take_back(
        &self,
        commands: Data<&Commands>,
        caller: Caller,
        request: &Request,
        id: Path<String>,
        message_id: Path<String>,
        /// Exactly one emoji.
        emoji: Path<String>,
    ) -> Reply<Json<ChangedBody>> {
        let what = What::React { emoji: Emoji::new(&emoji)?, on: false };
        Ok(Json(change(&commands, &caller, request, (&id, &message_id), what).await?.into()))
    }

    /// Pin a message
    #[oai(path = "/:id/messages/:message_id/pin", method = "put", operation_id = "pinMessage")]
    async fn pin(
        &self,
        commands: Data<&Commands>,
        caller: Caller,
        request: &Request,
        id: Path<String>,
        message_id: Path<String>,
    ) -> Reply<Json<ChangedBody>> {
        Ok(Json(change(&commands, &caller, request, (&id, &message_id), What::Pin { on: true }).await?.into()))
    }

    /// Take a pinned message down
    #[oai(path = "/:id/messages/:message_id/pin", method = "delete", operation_id = "unpinMessage")]
    async fn unpin(
        &self,
        commands: Data<&Commands>,
        caller: Caller,
        request: &Request,
        id: Path<String>,
        message_id: Path<String>,
    ) -> Reply<Json<ChangedBody>> {
        Ok(Json(change(&commands, &caller, request, (&id, &message_id), What::Pin { on: false }).await?.into()))
    }

    /// The pinned messages of a conversation, the last one pinned first
    #[oai(path = "/:id/pins", method = "get", operation_id = "listPins")]
    async fn pins(&self, queries: Data<&Queries>, caller: Caller, id: Path<String>) -> Reply<Json<Pins>> {
        let items = queries.pins(&caller.0, id.parse()?).await?;
        Ok(Json(Pins { items: items.into_iter().map(MessageBody::from).collect() }))
    }
}
