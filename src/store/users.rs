//! `users`: accounts and their secrets.

use futures_util::TryStreamExt as _;
use mongodb::bson::{DateTime, doc};
use serde::{Deserialize, Serialize};

use super::{Store, is_duplicate, stored_time, time, unreadable};
use crate::domain::clock::Timestamp;
use crate::domain::ids::UserId;
use crate::domain::user::{Role, User};
use crate::domain::words::{DisplayName, Email};
use crate::error::{Code, Error, Result};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct UserDocument {
    #[serde(rename = "_id")]
    id: UserId,
    name: String,
    email: String,
    password_hash: String,
    role: Role,
    created_at: DateTime,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_seen_at: Option<DateTime>,
}

impl UserDocument {
    fn into_user(self) -> Result<(User, String)> {
        let user = User {
            id: self.id,
            name: DisplayName::new(&self.name).map_err(unreadable("name"))?,
            email: Email::new(&self.email).map_err(unreadable("address"))?,
            role: self.role,
            created_at: time(self.created_at),
            last_seen_at: self.last_seen_at.map(time),
        };
        Ok((user, self.password_hash))
    }
}

impl Store {
    /// Keeps a new account; [`Code::Conflict`] if the address has one.
    pub async fn insert_user(&self, user: &User, password_hash: String) -> Result<()> {
        let document = UserDocument {
            id: user.id,
            name: user.name.to_string(),
            email: user.email.to_string(),
            password_hash,
            role: user.role,
            created_at: stored_time(user.created_at),
            last_seen_at: None,
        };
        self.write(async {
            match self.collection("users").insert_one(document).await {
                Ok(_) => Ok(true),
                Err(error) if is_duplicate(&error) => Ok(false),
                Err(error) => Err(error),
            }
        })
        .await?
        .then_some(())
        .ok_or_else(|| Error::new(Code::Conflict, "email_taken", "there is an account with this e-mail address"))
    }

    /// The account of an address, with its password hash.
    pub async fn user_by_email(&self, email: &Email) -> Result<Option<(User, String)>> {
        let users = self.collection::<UserDocument>("users");
        self.read(users.find_one(doc! { "email": email.as_str() })).await?.map(UserDocument::into_user).transpose()
    }

    /// An account.
    pub async fn user(&self, id: UserId) -> Result<Option<User>> {
        let users = self.collection::<UserDocument>("users");
        let found = self.read(users.find_one(doc! { "_id": id.to_string() })).await?;
        Ok(found.map(UserDocument::into_user).transpose()?.map(|(user, _)| user))
    }

    /// The accounts of these ids, in no order; unknown ones are left out.
    pub async fn users(&self, ids: &[UserId]) -> Result<Vec<User>> {
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let users = self.collection::<UserDocument>("users");
        let found = self
            .read(async { users.find(doc! { "_id": { "$in": ids } }).await?.try_collect::<Vec<_>>().await })
            .await?;
        found.into_iter().map(|document| document.into_user().map(|(user, _)| user)).collect()
    }

    /// Remembers when a user's last socket closed.
    pub async fn note_last_seen(&self, id: UserId, at: Timestamp) -> Result<()> {
        let users = self.collection::<UserDocument>("users");
        self.write(users.update_one(doc! { "_id": id.to_string() }, doc! { "$max": { "lastSeenAt": stored_time(at) } }))
            .await
            .map(drop)
    }
}
