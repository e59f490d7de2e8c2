//! `users`: accounts and their secrets.

use std::collections::HashMap;

use futures_util::TryStreamExt as _;
use mongodb::bson::{DateTime, doc};
use mongodb::options::UpdateOneModel;
use serde::{Deserialize, Serialize};

use super::{Store, bounded, is_duplicate, stored_time, time, unreadable};
use crate::domain::clock::Timestamp;
use crate::domain::ids::UserId;
use crate::domain::user::{Role, User};
use crate::domain::words::{DisplayName, Email, ExternalId};
use crate::error::{Code, Error, Result};

const NAME: &str = "users";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct UserDocument {
    #[serde(rename = "_id")]
    id: UserId,
    name: String,
    email: String,
    password_hash: String,
    role: Role,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    external_id: Option<String>,
    created_at: DateTime,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_seen_at: Option<DateTime>,
}

impl UserDocument {
    fn into_user(self) -> Result<(User, String)> {
        let user = User {
            id: self.id,
            name: DisplayName::known(self.name),
            email: Email::new(&self.email).map_err(unreadable("address"))?,
            role: self.role,
            external_id: self.external_id.as_deref().map(ExternalId::new).transpose().map_err(unreadable("id"))?,
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
            external_id: user.external_id.clone().map(String::from),
            created_at: stored_time(user.created_at),
            last_seen_at: None,
        };
        self.write(async {
            match self.collection(NAME).insert_one(document).await {
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
        let users = self.collection::<UserDocument>(NAME);
        self.read(users.find_one(doc! { "email": email.as_str() })).await?.map(UserDocument::into_user).transpose()
    }

    /// An account.
    pub async fn user(&self, id: UserId) -> Result<Option<User>> {
        let users = self.collection::<UserDocument>(NAME);
        let found = self.read(users.find_one(doc! { "_id": id.to_string() })).await?;
        Ok(found.map(UserDocument::into_user).transpose()?.map(|(user, _)| user))
    }

    /// The accounts of these ids, in no order; unknown ones are left out.
    pub async fn users(&self, ids: &[UserId]) -> Result<Vec<User>> {
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let users = self.collection::<UserDocument>(NAME);
        let found = self
            .read(async { users.find(doc! { "_id": { "$in": ids } }).await?.try_collect::<Vec<_>>().await })
            .await?;
        found.into_iter().map(|document| document.into_user().map(|(user, _)| user)).collect()
    }

    /// The names of these users; unknown ones are left out.
    pub async fn names(&self, ids: &[UserId]) -> Result<HashMap<UserId, String>> {
        #[derive(Deserialize)]
        struct Row {
            #[serde(rename = "_id")]
            id: UserId,
            name: String,
        }
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let rows = self.collection::<Row>(NAME);
        let found = self.read(async {
            let wanted = doc! { "_id": { "$in": ids } };
            rows.find(wanted).projection(doc! { "name": 1 }).await?.try_collect::<Vec<_>>().await
        });
        Ok(found.await?.into_iter().map(|row| (row.id, row.name)).collect())
    }

    /// Makes an account something else to the shop.
    pub async fn set_role(&self, id: UserId, role: Role) -> Result<()> {
        let users = self.collection::<UserDocument>(NAME);
        let set = doc! { "$set": { "role": role.word() } };
        self.write(users.update_one(doc! { "_id": id.to_string() }, set)).await.map(drop)
    }

    /// Makes an account known by an id of the shop, or by none; [`Code::Conflict`] if another account is.
    pub async fn set_external_id(&self, id: UserId, external: Option<&ExternalId>) -> Result<()> {
        let users = self.collection::<UserDocument>(NAME);
        let set = external.map(|external| doc! { "$set": { "externalId": external.as_str() } });
        let update = set.unwrap_or_else(|| doc! { "$unset": { "externalId": "" } });
        self.write(async {
            match users.update_one(doc! { "_id": id.to_string() }, update).await {
                Ok(_) => Ok(true),
                Err(error) if is_duplicate(&error) => Ok(false),
                Err(error) => Err(error),
            }
        })
        .await?
        .then_some(())
        .ok_or_else(|| Error::new(Code::Conflict, "external_id_taken", "another account has this externalId"))
    }

    /// The accounts that other services call by these names: ids of ours, or the shop's own. In no order; for a consumer.
    pub async fn users_called(&self, names: &[&str]) -> Result<Vec<User>> {
        let (ours, theirs): (Vec<&str>, Vec<&str>) = names.iter().partition(|name| name.parse::<UserId>().is_ok());
        let wanted = match (ours.is_empty(), theirs.is_empty()) {
            (true, true) => return Ok(Vec::new()),
            (false, true) => doc! { "_id": { "$in": ours } },
            (true, false) => doc! { "externalId": { "$in": theirs } },
            (false, false) => doc! { "$or": [{ "_id": { "$in": ours } }, { "externalId": { "$in": theirs } }] },
        };
        let users = self.collection::<UserDocument>(NAME);
        let found = bounded(async { users.find(wanted).await?.try_collect::<Vec<_>>().await }).await?;
        found.into_iter().map(|document| document.into_user().map(|(user, _)| user)).collect()
    }

    /// Remembers when the last socket of each of these users closed.
    pub async fn note_last_seen(&self, seen: &[(UserId, Timestamp)]) -> Result<()> {
        if seen.is_empty() {
            return Ok(());
        }
        let namespace = self.namespace(NAME);
        let models: Vec<_> = seen
            .iter()
            .map(|(user, at)| {
                let update = doc! { "$max": { "lastSeenAt": stored_time(*at) } };
                UpdateOneModel::builder()
                    .namespace(namespace.clone())
                    .filter(doc! { "_id": user.to_string() })
                    .update(update)
                    .build()
            })
            .collect();
        self.write(self.client.bulk_write(models).ordered(false)).await.map(drop)
    }

    /// When the last socket of each of these users closed; those who never had one, or whom there is not, are left out.
    pub async fn last_seen(&self, users: &[UserId]) -> Result<Vec<(UserId, Timestamp)>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Row {
            #[serde(rename = "_id")]
            id: UserId,
            last_seen_at: DateTime,
        }
        if users.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<String> = users.iter().map(ToString::to_string).collect();
        let rows = self.collection::<Row>(NAME);
        let found = self.read(async {
            let wanted = doc! { "_id": { "$in": ids }, "lastSeenAt": { "$exists": true } };
            rows.find(wanted).projection(doc! { "lastSeenAt": 1 }).await?.try_collect::<Vec<_>>().await
        });
        Ok(found.await?.into_iter().map(|row| (row.id, time(row.last_seen_at))).collect())
    }
}
