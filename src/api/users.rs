//! `/users`: accounts.

use poem::web::Data;
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};

use super::{Caller, Group, Reply};
use crate::domain::user::User;
use crate::query::Queries;

/// An account.
#[derive(Debug, Object)]
#[oai(rename = "User", rename_all = "camelCase", skip_serializing_if_is_none)]
pub(super) struct UserBody {
    /// Names the user for ever (`usr_...`).
    id: String,
    /// As others see them.
    name: String,
    /// Their login.
    email: String,
    /// What they are to the shop: buyer, seller, agent or admin.
    role: String,
    /// The id that the shop knows them by, if it has said so.
    external_id: Option<String>,
    /// When the account was made (RFC 3339, UTC).
    created_at: String,
    /// When their last socket closed, if they ever had one.
    last_seen_at: Option<String>,
}

impl From<User> for UserBody {
    fn from(user: User) -> Self {
        Self {
            id: user.id.to_string(),
            name: user.name.into(),
            email: user.email.into(),
            role: user.role.to_string(),
            external_id: user.external_id.map(String::from),
            created_at: user.created_at.to_string(),
            last_seen_at: user.last_seen_at.map(|at| at.to_string()),
        }
    }
}

/// The resource.
pub struct UsersApi;

#[OpenApi(prefix_path = "/users", tag = "Group::Users")]
impl UsersApi {
    /// The caller's own account
    #[oai(path = "/me", method = "get", operation_id = "me")]
    async fn me(&self, queries: Data<&Queries>, caller: Caller) -> Reply<Json<UserBody>> {
        Ok(Json(queries.me(&caller.0).await?.into()))
    }
}
