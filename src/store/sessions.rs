//! `sessions`: logins, each with the hash of its current refresh token.

use mongodb::bson::{DateTime, doc};
use serde::{Deserialize, Serialize};

use super::{Store, stored_time};
use crate::domain::clock::Timestamp;
use crate::domain::ids::{SessionId, UserId};
use crate::error::Result;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SessionDocument {
    #[serde(rename = "_id")]
    id: SessionId,
    user_id: UserId,
    refresh_hash: String,
    created_at: DateTime,
    expires_at: DateTime,
}

impl Store {
    /// Keeps a new login.
    pub async fn insert_session(
        &self,
        id: SessionId,
        user_id: UserId,
        refresh_hash: String,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<()> {
        let document = SessionDocument {
            id,
            user_id,
            refresh_hash,
            created_at: stored_time(now),
            expires_at: stored_time(expires_at),
        };
        self.write(self.collection("sessions").insert_one(document)).await.map(drop)
    }

    /// Replaces a refresh token by the next one, once: of two attempts with the same token one finds nothing.
    pub async fn rotate_session(
        &self,
        refresh_hash: &str,
        next_hash: &str,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<Option<UserId>> {
        let sessions = self.collection::<SessionDocument>("sessions");
        let filter = doc! { "refreshHash": refresh_hash, "expiresAt": { "$gt": stored_time(now) } };
        let update = doc! { "$set": { "refreshHash": next_hash, "expiresAt": stored_time(expires_at) } };
        Ok(self.write(sessions.find_one_and_update(filter, update)).await?.map(|session| session.user_id))
    }

    /// Ends a login. An unknown token ends nothing.
    pub async fn delete_session(&self, refresh_hash: &str) -> Result<()> {
        let sessions = self.collection::<SessionDocument>("sessions");
        self.write(sessions.delete_one(doc! { "refreshHash": refresh_hash })).await.map(drop)
    }
}
