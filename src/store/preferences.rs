//! `preferences`: how each user wants to be seen. Only users who ever said something have one.

use std::collections::HashMap;

use futures_util::TryStreamExt as _;
use mongodb::bson::{Document, doc, serialize_to_document};
use mongodb::options::UpdateOneModel;
use serde::{Deserialize, Serialize};

use super::once::{Placed, insert_missing};
use super::{Store, bounded, seq, stored_seq};
use crate::domain::ids::UserId;
use crate::domain::preferences::Preferences;
use crate::error::{Error, Result};

const NAME: &str = "preferences";

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PreferencesDocument {
    #[serde(rename = "_id")]
    user_id: UserId,
    hide_read_receipts: bool,
    invisible: bool,
    blocked: Vec<UserId>,
    seq: i64,
}

impl PreferencesDocument {
    fn said(at: u64, preferences: &Preferences) -> Self {
        Self {
            user_id: preferences.user_id,
            hide_read_receipts: preferences.hide_read_receipts,
            invisible: preferences.invisible,
            blocked: preferences.blocked.clone(),
            seq: stored_seq(at),
        }
    }

    fn into_preferences(self) -> (u64, Preferences) {
        let Self { user_id, hide_read_receipts, invisible, blocked, .. } = self;
        (seq(self.seq), Preferences { user_id, hide_read_receipts, invisible, blocked })
    }
}

impl Placed for PreferencesDocument {
    const NAME: &'static str = NAME;

    fn id(&self) -> String {
        self.user_id.to_string()
    }

    fn seq(&self) -> i64 {
        self.seq
    }
}

impl Store {
    /// The preferences of these users, each with the seq of its event; those who never said anything are left out.
    pub async fn preferences_of(&self, users: &[UserId]) -> Result<HashMap<UserId, (u64, Preferences)>> {
        let ids: Vec<String> = users.iter().map(ToString::to_string).collect();
        let documents = self.collection::<PreferencesDocument>(NAME);
        let found = self
            .read(async { documents.find(doc! { "_id": { "$in": ids } }).await?.try_collect::<Vec<_>>().await })
            .await?;
        Ok(found.into_iter().map(|one| (one.user_id, one.into_preferences())).collect())
    }

    /// Projects preferences, of each user the newest. What is stored and newer stays.
    pub async fn put_preferences(&self, said: &[(u64, &Preferences)]) -> Result<()> {
        let documents: Vec<_> = said.iter().map(|(at, one)| PreferencesDocument::said(*at, one)).collect();
        let met = insert_missing(&self.collection(NAME), &documents).await?;
        if met.is_empty() {
            return Ok(());
        }
        let namespace = self.namespace(NAME);
        let mut models = Vec::with_capacity(met.len());
        for place in met {
            let document = &documents[place];
            let mut fields: Document = serialize_to_document(document).map_err(Error::internal)?;
            fields.remove("_id");
            let older = doc! { "_id": document.id(), "seq": { "$lt": document.seq } };
            let model = UpdateOneModel::builder().namespace(namespace.clone()).filter(older);
            models.push(model.update(doc! { "$set": fields }).build());
        }
        bounded(self.client.bulk_write(models).ordered(false)).await.map(drop)
    }
}
