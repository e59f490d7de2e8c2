//! `/users/me/preferences` and `/users/me/blocks`: how the caller is seen, and by whom not at all.

use poem::Request;
use poem::web::Data;
use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Object, OpenApi};

use super::{Caller, Group, Reply, trace};
use crate::command::Commands;
use crate::command::preferences::ChangePreferences;
use crate::domain::decision::Level;
use crate::domain::notification::Kind;
use crate::domain::preferences::Preferences;
use crate::error::Result;
use crate::query::Queries;

/// How the caller is seen.
#[derive(Object)]
#[oai(rename = "Preferences", rename_all = "camelCase")]
struct PreferencesBody {
    /// Others are not told how far the caller has read.
    hide_read_receipts: bool,
    /// Others see the caller as offline.
    invisible: bool,
    /// How loud each kind of notification is.
    notifications: LevelsBody,
}

/// How loud each kind of notification is: `on`, `silent` (it is listed and makes no noise) or `off`.
#[derive(Object)]
#[oai(rename = "NotificationLevels")]
struct LevelsBody {
    /// Messages from others.
    message: String,
    /// Messages that name the caller.
    mention: String,
    /// Orders of the caller.
    order: String,
    /// Messages in support conversations.
    support: String,
    /// What the caller is in, or may do: always `on`.
    system: String,
}

/// How loud kinds of notifications are to be: `on`, `silent` or `off`; what is left out stays.
#[derive(Default, Object)]
#[oai(rename = "NotificationLevelsChange", default)]
struct LevelsChange {
    /// Messages from others.
    message: Option<String>,
    /// Messages that name the caller.
    mention: Option<String>,
    /// Orders of the caller.
    order: Option<String>,
    /// Messages in support conversations.
    support: Option<String>,
    /// Cannot be anything but `on`.
    system: Option<String>,
}

impl LevelsChange {
    fn read(&self) -> Result<Vec<(Kind, Level)>> {
        let level = |kind: Kind| match kind {
            Kind::Message => &self.message,
            Kind::Mention => &self.mention,
            Kind::Order => &self.order,
            Kind::Support => &self.support,
            Kind::System => &self.system,
        };
        Kind::ALL
            .into_iter()
            .filter_map(|kind| Some(level(kind).as_ref()?.parse().map(|level| (kind, level))))
            .collect()
    }
}

/// What is to change; what is left out stays.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
struct PreferencesChange {
    /// Whether others are not told how far the caller has read.
    hide_read_receipts: Option<bool>,
    /// Whether others see the caller as offline.
    invisible: Option<bool>,
    /// How loud kinds of notifications are to be.
    notifications: Option<LevelsChange>,
}

/// Somebody whom the caller blocks.
#[derive(Object)]
#[oai(rename = "Blocked", rename_all = "camelCase", skip_serializing_if_is_none)]
struct BlockedBody {
    /// Who.
    user_id: String,
    /// Their name.
    name: Option<String>,
}

/// Everybody whom the caller blocks.
#[derive(Object)]
struct BlockedList {
    /// In the order of their ids.
    items: Vec<BlockedBody>,
}

#[derive(ApiResponse)]
enum BlockChanged {
    /// So it is, whether or not it was before.
    #[oai(status = 204)]
    Done,
}

impl From<&Preferences> for PreferencesBody {
    fn from(preferences: &Preferences) -> Self {
        let level = |kind| preferences.level(kind).word().to_owned();
        Self {
            hide_read_receipts: preferences.hide_read_receipts,
            invisible: preferences.invisible,
            notifications: LevelsBody {
                message: level(Kind::Message),
                mention: level(Kind::Mention),
                order: level(Kind::Order),
                support: level(Kind::Support),
                system: level(Kind::System),
            },
        }
    }
}

/// The resource.
pub struct PreferencesApi;

#[OpenApi(prefix_path = "/users/me", tag = "Group::Users")]
impl PreferencesApi {
    /// How the caller is seen
    #[oai(path = "/preferences", method = "get", operation_id = "getPreferences")]
    async fn get(&self, queries: Data<&Queries>, caller: Caller) -> Reply<Json<PreferencesBody>> {
        Ok(Json(queries.preferences(&caller.0).await?.as_ref().into()))
    }

    /// Change how the caller is seen
    #[oai(path = "/preferences", method = "patch", operation_id = "changePreferences")]
    async fn change(
        &self,
        commands: Data<&Commands>,
        caller: Caller,
        request: &Request,
        body: Json<PreferencesChange>,
    ) -> Reply<Json<PreferencesBody>> {
        let PreferencesChange { hide_read_receipts, invisible, notifications } = body.0;
        let notifications = notifications.unwrap_or_default().read()?;
        let change = ChangePreferences { hide_read_receipts, invisible, notifications };
        Ok(Json(commands.change_preferences(&caller.0, change, trace(request)).await?.as_ref().into()))
    }

    /// Everybody whom the caller blocks
    #[oai(path = "/blocks", method = "get", operation_id = "listBlocks")]
    async fn blocks(&self, queries: Data<&Queries>, caller: Caller) -> Reply<Json<BlockedList>> {
        let blocked = queries.blocked(&caller.0).await?.into_iter();
        let items = blocked.map(|(user, name)| BlockedBody { user_id: user.to_string(), name }).collect();
        Ok(Json(BlockedList { items }))
    }

    /// Block a user
    ///
    /// The two have no new direct conversation, say nothing to each other in those they have, and are not told of each other
    /// that they type or are there. Groups and histories stay. At most 1,000 users.
    #[oai(path = "/blocks/:user_id", method = "put", operation_id = "blockUser")]
    async fn block(
        &self,
        commands: Data<&Commands>,
        caller: Caller,
        request: &Request,
        user_id: Path<String>,
    ) -> Reply<BlockChanged> {
        commands.block(&caller.0, user_id.parse()?, trace(request)).await?;
        Ok(BlockChanged::Done)
    }

    /// Take a block back
    #[oai(path = "/blocks/:user_id", method = "delete", operation_id = "unblockUser")]
    async fn unblock(
        &self,
        commands: Data<&Commands>,
        caller: Caller,
        request: &Request,
        user_id: Path<String>,
    ) -> Reply<BlockChanged> {
        commands.unblock(&caller.0, user_id.parse()?, trace(request)).await?;
        Ok(BlockChanged::Done)
    }
}
