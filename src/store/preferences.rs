//! `preferences`: how each user wants to be seen. Only users who ever said something have one.

use std::collections::{BTreeMap, HashMap};

use futures_util::TryStreamExt as _;
use mongodb::bson::{Document, doc};
use mongodb::options::UpdateOneModel;
use serde::{Deserialize, Serialize};

use super::audit::{Audit, Difference, Fault, Projected, differing, serialized};
use super::batch::Batch;
use super::once::{Placed, insert_missing};
use super::{Haste, Store, bounded, seq, stored_seq};
use crate::domain::decision::Level;
use crate::domain::event::Stored;
use crate::domain::ids::UserId;
use crate::domain::notification::Kind;
use crate::domain::preferences::Preferences;
use crate::error::Result;

const NAME: &str = "preferences";

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PreferencesDocument {
    #[serde(rename = "_id")]
    user_id: UserId,
    hide_read_receipts: bool,
    invisible: bool,
    blocked: Vec<UserId>,
    #[serde(default)]
    notifications: BTreeMap<Kind, Level>,
    seq: i64,
}

impl PreferencesDocument {
    fn said(at: u64, preferences: &Preferences) -> Self {
        Self {
            user_id: preferences.user_id,
            hide_read_receipts: preferences.hide_read_receipts,
            invisible: preferences.invisible,
            blocked: preferences.blocked.clone(),
            notifications: preferences.notifications.clone(),
            seq: stored_seq(at),
        }
    }

    fn into_preferences(self) -> (u64, Preferences) {
        let Self { user_id, hide_read_receipts, invisible, blocked, notifications, seq: at } = self;
        (seq(at), Preferences { user_id, hide_read_receipts, invisible, blocked, notifications })
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

fn documents(said: &[(u64, &Preferences)]) -> Vec<PreferencesDocument> {
    said.iter().map(|(at, one)| PreferencesDocument::said(*at, one)).collect()
}

impl Store {
    /// The preferences of these users, each with the seq of its event; those who never said anything are left out.
    pub async fn preferences_of(&self, users: &[UserId], haste: Haste) -> Result<HashMap<UserId, (u64, Preferences)>> {
        let ids: Vec<String> = users.iter().map(ToString::to_string).collect();
        let documents = self.collection::<PreferencesDocument>(NAME);
        let find = async { documents.find(doc! { "_id": { "$in": ids } }).await?.try_collect::<Vec<_>>().await };
        let found = match haste {
            Haste::Patient => self.read(find).await?,
            Haste::Live => self.glance(find).await?,
        };
        Ok(found.into_iter().map(|one| (one.user_id, one.into_preferences())).collect())
    }

    /// Projects preferences, of each user the newest. What is stored and newer stays.
    pub(super) async fn put_preferences(&self, said: &[(u64, &Preferences)]) -> Result<()> {
        let documents = documents(said);
        let met = insert_missing(&self.collection(NAME), &documents).await?;
        let there: Vec<_> = met.into_iter().map(|place| &documents[place]).collect();
        self.overwrite(&there, "$lt").await
    }

    /// Overwrites what is stored with an older seq, or with one that compares to it in this way.
    async fn overwrite(&self, documents: &[&PreferencesDocument], older: &str) -> Result<()> {
        if documents.is_empty() {
            return Ok(());
        }
        let namespace = self.namespace(NAME);
        let mut models = Vec::with_capacity(documents.len());
        for document in documents {
            let mut fields = serialized(document)?;
            fields.remove("_id");
            let mut seq = Document::new();
            seq.insert(older, document.seq);
            let older = doc! { "_id": document.id(), "seq": seq };
            let model = UpdateOneModel::builder().namespace(namespace.clone()).filter(older);
            models.push(model.update(doc! { "$set": fields }).build());
        }
        bounded(self.client.bulk_write(models).ordered(false)).await.map(drop)
    }

    /// Compares the last preferences of each user in a batch with what is stored. What is stored and newer is for a later
    /// batch to judge.
    pub(super) async fn audit_preferences(&self, events: &[Stored], audit: &mut Audit) -> Result<()> {
        let wanted = documents(&Batch::of(events).preferred());
        if wanted.is_empty() {
            return Ok(());
        }
        let ids: Vec<String> = wanted.iter().map(Placed::id).collect();
        let stored = self.raw(NAME, &ids).await?;
        let collection = Projected::Preferences;
        for (wanted, id) in wanted.iter().zip(ids) {
            let found = stored.get(&id);
            let found_at = found.and_then(|found| found.get_i64("seq").ok());
            if found_at.is_some_and(|found| found > wanted.seq) {
                continue;
            }
            if found_at == Some(wanted.seq) {
                audit.explain(collection);
            }
            let (fault, fields) = match found {
                None => (Fault::Missing, Vec::new()),
                Some(found) => (Fault::Different, differing(&serialized(wanted)?, found)),
            };
            if fault == Fault::Missing || !fields.is_empty() {
                audit.differences.push(Difference { collection, id, seq: seq(wanted.seq), fault, fields });
            }
        }
        Ok(())
    }

    /// Puts back the preferences of a batch that an audit found to be different.
    pub(super) async fn restore_preferences(&self, events: &[Stored], audit: &Audit) -> Result<()> {
        let said = documents(&Batch::of(events).preferred());
        let wrong: Vec<_> = said.iter().filter(|one| audit.names(Projected::Preferences, &one.id())).collect();
        self.overwrite(&wrong, "$lte").await
    }
}
