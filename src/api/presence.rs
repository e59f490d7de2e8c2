//! `/presence`: who is there.

use poem::web::Data;
use poem_openapi::param::Query;
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};

use super::{Caller, Group, Reply};
use crate::domain::ids::UserId;
use crate::domain::presence::Presence;
use crate::error::{Error, Result};
use crate::presence::Presences;

/// Users of one question, at most.
const LIMIT: usize = 100;

/// Somebody's presence.
#[derive(Object)]
#[oai(rename = "Presence", rename_all = "camelCase")]
struct PresenceBody {
    /// Who.
    user_id: String,
    /// online, away or offline.
    status: String,
    /// When their last socket closed; null while they are there, or if the caller is not to know.
    #[oai(nullable)]
    last_seen_at: Option<String>,
}

/// Presence of several users.
#[derive(Object)]
struct PresenceList {
    /// In the order of the question.
    items: Vec<PresenceBody>,
}

impl From<Presence> for PresenceBody {
    fn from(presence: Presence) -> Self {
        Self {
            user_id: presence.user_id.to_string(),
            status: presence.status.word().into(),
            last_seen_at: presence.last_seen_at.map(|at| at.to_string()),
        }
    }
}

fn users(ids: &str) -> Result<Vec<UserId>> {
    if ids.is_empty() || ids.split(',').count() > LIMIT {
        return Err(Error::invalid("malformed_user_ids", "userIds must be 1 to 100 ids with commas between"));
    }
    ids.split(',').map(str::parse).collect()
}

/// The resource.
pub struct PresenceApi;

#[OpenApi(prefix_path = "/presence", tag = "Group::Presence")]
impl PresenceApi {
    /// Who is there
    ///
    /// Of users whom the caller shares no conversation with, who block the caller or are blocked, and of unknown ones it says
    /// that they are offline.
    #[oai(path = "/", method = "get", operation_id = "getPresence")]
    async fn get(
        &self,
        presences: Data<&Presences>,
        caller: Caller,
        /// The ids of 1 to 100 users, with commas between.
        #[oai(name = "userIds")]
        user_ids: Query<String>,
    ) -> Reply<Json<PresenceList>> {
        let seen = presences.seen_by(&caller.0, &users(&user_ids)?).await?;
        Ok(Json(PresenceList { items: seen.into_iter().map(PresenceBody::from).collect() }))
    }
}
