//! `/conversations/{id}/participants` and `/conversations/{id}/settings`: who is in one, and what it is to the caller.

use poem::Request;
use poem::web::Data;
use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use poem_openapi::types::MaybeUndefined;
use poem_openapi::{ApiResponse, Object, OpenApi};

use super::place::{ConversationBody, SettingsBody};
use super::text::Text;
use super::{Caller, Group, Reply, trace};
use crate::command::Commands;
use crate::command::settings::ChangeSetting;
use crate::domain::clock::Timestamp;
use crate::domain::ids::UserId;
use crate::error::{Error, Result};
use crate::query::Queries;

/// Who is to come in.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
struct NewParticipants {
    /// The ids of the users. Who is in the conversation already stays as they are.
    #[oai(default)]
    user_ids: Vec<Text>,
    /// From where on they see what was said: `all`, `now`, or the id of a message, which they see. Never more than you see
    /// yourself. If not given: `now` in a direct conversation, `all` in others.
    history_from: Option<Text>,
}

/// What a participant is to be.
#[derive(Object)]
struct ParticipantChange {
    /// owner, or what they are to the shop: buyer, seller or agent.
    role: Text,
}

/// What is to change; what is left out stays as it is.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
struct SettingsChange {
    /// Until when it makes no noise (RFC 3339, from 1970 to 9999); null ends that.
    #[oai(nullable)]
    muted_until: MaybeUndefined<Text>,
    /// Whether it is put away.
    archived: Option<bool>,
    /// Whether it is kept on top.
    pinned: Option<bool>,
}

impl SettingsChange {
    fn into_command(self) -> Result<ChangeSetting> {
        let muted_until = match self.muted_until {
            MaybeUndefined::Undefined => None,
            // A time that is over.
            MaybeUndefined::Null => Some(Timestamp::zero()),
            MaybeUndefined::Value(text) => Some(Timestamp::parse(&text).ok_or_else(|| {
                Error::invalid(
                    "malformed_muted_until",
                    "mutedUntil must be a time in RFC 3339 from 1970 to 9999, or null",
                )
            })?),
        };
        Ok(ChangeSetting { muted_until, archived: self.archived, pinned: self.pinned })
    }
}

#[derive(ApiResponse)]
enum Removed {
    /// The user is not in the conversation any more.
    #[oai(status = 204)]
    Gone,
}

/// The resource.
pub struct ParticipantsApi;

#[OpenApi(prefix_path = "/conversations", tag = "Group::Conversations")]
impl ParticipantsApi {
    /// Bring users into a conversation
    ///
    /// Agents of the shop join a support conversation with their own id.
    #[oai(path = "/:id/participants", method = "post", operation_id = "addParticipants")]
    async fn add(
        &self,
        commands: Data<&Commands>,
        queries: Data<&Queries>,
        caller: Caller,
        request: &Request,
        id: Path<String>,
        body: Json<NewParticipants>,
    ) -> Reply<Json<ConversationBody>> {
        let id = id.parse()?;
        let users = body.user_ids.iter().map(|user| user.parse()).collect::<Result<Vec<UserId>>>()?;
        let history = body.history_from.as_deref().map(str::parse).transpose()?;
        commands.add_participants(&caller.0, id, &users, history, trace(request)).await?;
        Ok(Json(queries.conversation(&caller.0, id).await?.into()))
    }

    /// Make a participant something else in a group
    #[expect(clippy::too_many_arguments, reason = "each is a part of the request")]
    #[oai(path = "/:id/participants/:user_id", method = "patch", operation_id = "changeParticipant")]
    async fn change(
        &self,
        commands: Data<&Commands>,
        queries: Data<&Queries>,
        caller: Caller,
        request: &Request,
        id: Path<String>,
        user_id: Path<String>,
        body: Json<ParticipantChange>,
    ) -> Reply<Json<ConversationBody>> {
        let id = id.parse()?;
        commands.set_role(&caller.0, id, user_id.parse()?, body.role.parse()?, trace(request)).await?;
        Ok(Json(queries.conversation(&caller.0, id).await?.into()))
    }

    /// Send a participant away; with your own id, leave
    ///
    /// Whoever is not in the conversation, or not any more, has left: leaving may be asked for again.
    #[oai(path = "/:id/participants/:user_id", method = "delete", operation_id = "removeParticipant")]
    async fn remove(
        &self,
        commands: Data<&Commands>,
        caller: Caller,
        request: &Request,
        id: Path<String>,
        user_id: Path<String>,
    ) -> Reply<Removed> {
        commands.remove_participant(&caller.0, id.parse()?, user_id.parse()?, trace(request)).await?;
        Ok(Removed::Gone)
    }

    /// Change what a conversation is to you: mute it, archive it, pin it
    #[oai(path = "/:id/settings", method = "patch", operation_id = "changeSettings")]
    async fn settings(
        &self,
        commands: Data<&Commands>,
        queries: Data<&Queries>,
        caller: Caller,
        request: &Request,
        id: Path<String>,
        body: Json<SettingsChange>,
    ) -> Reply<Json<SettingsBody>> {
        let id = id.parse()?;
        commands.change_setting(&caller.0, id, body.0.into_command()?, trace(request)).await?;
        Ok(Json(queries.settings(&caller.0, id).await?.into()))
    }
}
