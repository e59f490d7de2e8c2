//! `inbox`: one document for each entry of somebody's inbox, and one, by the user's own id, for what was done to all of them.
//!
//! Every write here commutes, as in `touch`: marks rise, a register is set unless a later event has set it, and the newest
//! notification is the one with the highest seq. It is in `notifications` before it is named here. One that the log has
//! twice counts where it was first: whoever meets the second one lets `copySeq` rise, which keeps the later place from being
//! named any more, and what may have been named is looked up again ([`Store::recount_inbox`]).

use std::collections::{HashMap, HashSet};

use futures_util::TryStreamExt as _;
use mongodb::bson::{Bson, DateTime, Document, doc, serialize_to_bson};
use mongodb::options::UpdateOneModel;
use serde::{Deserialize, Serialize};

use super::batch::Batch;
use super::notifications::{self, NotificationDocument};
use super::once::insert_missing;
use super::{Store, bounded, seq, stored_seq, stored_time, time};
use crate::domain::ids::{NotificationId, UserId};
use crate::domain::inbox::NotificationState;
use crate::domain::notification::Notification;
use crate::domain::registers::{Register, Registers};
use crate::error::{Error, Result};

pub(super) const NAME: &str = "inbox";
/// Rounds until an entry that others write to at the same time is given back to the broker.
const ROUNDS: usize = 32;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RegisterDocument<T> {
    at: i64,
    up_to: i64,
    value: T,
}

impl<T: Clone> RegisterDocument<T> {
    fn of<S: Copy>(register: Register<S>, stored: impl Fn(S) -> T) -> Self {
        Self { at: stored_seq(register.at), up_to: stored_seq(register.up_to), value: stored(register.value) }
    }

    fn read<S>(&self, value: impl Fn(T) -> S) -> Register<S> {
        Register { at: seq(self.at), up_to: seq(self.up_to), value: value(self.value.clone()) }
    }
}

/// What was done to an entry, or to all of them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RegistersDocument {
    #[serde(default)]
    read_seq: i64,
    #[serde(default)]
    seen_seq: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    archived: Option<RegisterDocument<bool>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    snoozed: Option<RegisterDocument<DateTime>>,
}

impl RegistersDocument {
    fn of(registers: Registers) -> Self {
        Self {
            read_seq: stored_seq(registers.read),
            seen_seq: stored_seq(registers.seen),
            archived: registers.archived.map(|one| RegisterDocument::of(one, |on| on)),
            snoozed: registers.snoozed.map(|one| RegisterDocument::of(one, stored_time)),
        }
    }

    pub(super) fn read(&self) -> Registers {
        Registers {
            read: seq(self.read_seq),
            seen: seq(self.seen_seq),
            archived: self.archived.as_ref().map(|one| one.read(|on| on)),
            snoozed: self.snoozed.as_ref().map(|one| one.read(time)),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct InboxDocument {
    /// The entry, or the user.
    #[serde(rename = "_id")]
    pub(super) id: String,
    pub(super) user_id: UserId,
    /// Where the log has the newest notification; zero if nothing was told.
    pub(super) seq: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) newest: Option<NotificationDocument>,
    /// Where the log has the last message that it was told for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) about_seq: Option<i64>,
    /// When that was: after `NOTIFICATION_DAYS` the entry goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    created_at: Option<DateTime>,
    #[serde(flatten)]
    pub(super) registers: RegistersDocument,
    /// The highest seq at which the log repeats one of its notifications.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    copy_seq: Option<i64>,
}

impl InboxDocument {
    fn is_copied(&self, at: i64) -> bool {
        self.copy_seq.is_some_and(|copy| copy >= at)
    }

    /// Whether what it says of its notifications may come from a repeated one.
    const fn is_doubtful(&self) -> bool {
        self.copy_seq.is_some()
    }
}

/// What a batch says about one document.
#[derive(Debug, Clone, Default)]
pub(super) struct Said<'a> {
    pub(super) newest: Option<(u64, &'a Notification)>,
    about: u64,
    registers: Registers,
    copy: u64,
}

/// What a batch says about entries, and about all of a user's, by document.
#[derive(Debug, Default)]
pub(super) struct Sayings<'a>(pub(super) HashMap<String, (UserId, Said<'a>)>);

impl<'a> Sayings<'a> {
    fn of(&mut self, id: &impl ToString, user: UserId) -> &mut Said<'a> {
        &mut self.0.entry(id.to_string()).or_insert_with(|| (user, Said::default())).1
    }

    /// Somebody was told something. What is held is told to nobody.
    pub(super) fn made(&mut self, at: u64, made: &'a Notification) {
        if made.is_told() {
            let said = self.of(&made.entry_id, made.user_id);
            said.newest = said.newest.into_iter().chain([(at, made)]).max_by_key(|(at, _)| *at);
            said.about = made.data.message_seq.unwrap_or(0).max(said.about);
        }
    }

    /// The log has a notification here again.
    pub(super) fn copy(&mut self, at: u64, made: &Notification) {
        let said = self.of(&made.entry_id, made.user_id);
        said.copy = at.max(said.copy);
    }

    /// Somebody has done something.
    pub(super) fn done(&mut self, at: u64, state: &NotificationState) {
        let registers = Registers::of(at, state);
        if state.entry_ids.is_empty() {
            self.of(&state.user_id, state.user_id).registers.join(registers);
        }
        for id in &state.entry_ids {
            self.of(id, state.user_id).registers.join(registers);
        }
    }
}

fn stored_bson(value: &impl Serialize) -> Result<Bson> {
    serialize_to_bson(value).map_err(Error::internal)
}

/// Sets a register unless a later event has. What this very event has set may be set again.
fn set(id: &str, path: &str, at: i64, value: Bson) -> (Document, Document) {
    let mut filter = doc! { "_id": id };
    filter.insert(format!("{path}.at"), doc! { "$not": { "$gt": at } });
    let mut set = Document::new();
    set.insert(path, value);
    (filter, doc! { "$set": set })
}

fn holds<T: PartialEq>(known: Option<&RegisterDocument<T>>, wanted: Option<&RegisterDocument<T>>) -> bool {
    wanted.is_none_or(|wanted| known.is_some_and(|known| known.at > wanted.at || known == wanted))
}

impl Said<'_> {
    /// The document, if there is none yet.
    fn document(&self, id: &str, user_id: UserId) -> InboxDocument {
        InboxDocument {
            id: id.to_owned(),
            user_id,
            seq: self.newest.map_or(0, |(at, _)| stored_seq(at)),
            newest: self.newest.map(|(at, made)| NotificationDocument::made(at, made)),
            about_seq: (self.about > 0).then(|| stored_seq(self.about)),
            created_at: self.newest.map(|(_, made)| stored_time(made.created_at)),
            registers: RegistersDocument::of(self.registers),
            copy_seq: (self.copy > 0).then(|| stored_seq(self.copy)),
        }
    }

    /// The filters and the updates.
    fn writes(&self, id: &str) -> Result<Vec<(Document, Document)>> {
        let mut writes = Vec::new();
        if let Some((at, made)) = self.newest {
            let at_most = stored_seq(at);
            let filter = doc! { "_id": id, "seq": { "$lt": at_most }, "copySeq": { "$not": { "$gte": at_most } } };
            let newest = stored_bson(&NotificationDocument::made(at, made))?;
            let set = doc! { "seq": at_most, "newest": newest, "createdAt": stored_time(made.created_at) };
            writes.push((filter, doc! { "$set": set }));
        }
        if self.about > 0 {
            // Where the log repeats one of its notifications, this may be what only the repeated one says: it is looked up.
            let filter = doc! { "_id": id, "copySeq": { "$exists": false } };
            writes.push((filter, doc! { "$max": { "aboutSeq": stored_seq(self.about) } }));
        }
        let wanted = RegistersDocument::of(self.registers);
        let mut rise = Document::new();
        for (field, to) in
            [("readSeq", wanted.read_seq), ("seenSeq", wanted.seen_seq), ("copySeq", stored_seq(self.copy))]
        {
            if to > 0 {
                rise.insert(field, to);
            }
        }
        if !rise.is_empty() {
            writes.push((doc! { "_id": id }, doc! { "$max": rise }));
        }
        if let Some(archived) = &wanted.archived {
            writes.push(set(id, "archived", archived.at, stored_bson(archived)?));
        }
        if let Some(snoozed) = &wanted.snoozed {
            writes.push(set(id, "snoozed", snoozed.at, stored_bson(snoozed)?));
        }
        Ok(writes)
    }

    /// What a document does not show of this, and is to show.
    pub(super) fn missing_in(&self, found: &InboxDocument) -> Vec<&'static str> {
        let wanted = RegistersDocument::of(self.registers);
        let registers = &found.registers;
        let mut missing = Vec::new();
        let mut wants = |field, shown: bool| {
            if !shown {
                missing.push(field);
            }
        };
        if let Some((at, _)) = self.newest {
            let at = stored_seq(at);
            wants("newest", found.seq >= at || found.is_copied(at));
        }
        wants("aboutSeq", found.about_seq.unwrap_or(0) >= stored_seq(self.about) || found.is_doubtful());
        wants("readSeq", registers.read_seq >= wanted.read_seq);
        wants("seenSeq", registers.seen_seq >= wanted.seen_seq);
        wants("archived", holds(registers.archived.as_ref(), wanted.archived.as_ref()));
        wants("snoozed", holds(registers.snoozed.as_ref(), wanted.snoozed.as_ref()));
        wants("copySeq", self.copy == 0 || found.is_copied(stored_seq(self.copy)));
        missing
    }
}

impl Store {
    /// Projects notifications that were made, each id once, and what was done to them. One that was made twice is the earlier
    /// one.
    pub(super) async fn project_inbox(&self, batch: &Batch<'_>) -> Result<()> {
        let made = &batch.made;
        let known = self.insert_once(&notifications::documents(made)).await?;
        let mut said = Sayings::default();
        let (mut repeated, mut late, mut met) = (HashSet::new(), Vec::new(), HashSet::new());
        for known in &known {
            let (at, one) = made[known.place];
            met.insert(one.entry_id.to_string());
            if known.seq < at {
                repeated.insert(at);
            }
            if known.seq > at {
                late.push((at, one));
            }
            if known.seq != at {
                said.copy(at.max(known.seq), one);
            }
        }
        made.iter().filter(|(at, _)| !repeated.contains(at)).for_each(|(at, one)| said.made(*at, one));
        batch.made_again.iter().for_each(|(at, one)| said.copy(*at, one));
        batch.done.iter().for_each(|(at, state)| said.done(*at, state));
        // Before the place of a copy is given up: whoever names it meanwhile is found out.
        met.extend(self.touch_inbox(said).await?);
        self.advance(&notifications::documents(&late)).await?;
        self.recount_doubtful(met).await
    }

    /// Brings what a batch says into the inboxes. Returns the documents whose newest notification may be one that the log
    /// has twice. Notifications must be inserted before they are named here.
    pub(super) async fn touch_inbox(&self, mut said: Sayings<'_>) -> Result<HashSet<String>> {
        let said = &mut said.0;
        let mut doubtful: HashSet<String> =
            said.iter().filter(|(_, (_, one))| one.copy > 0).map(|(id, _)| id.clone()).collect();
        for _ in 0..ROUNDS {
            if said.is_empty() {
                return Ok(doubtful);
            }
            let documents: Vec<_> = said.iter().map(|(id, (user, one))| one.document(id, *user)).collect();
            let met = insert_missing(&self.collection(NAME), &documents).await?;
            let met: HashSet<&str> = met.into_iter().map(|place| documents[place].id.as_str()).collect();
            said.retain(|id, _| met.contains(id.as_str()));
            if said.is_empty() || self.write_said(said).await? {
                return Ok(doubtful);
            }
            // Something did not match: it was projected before, or the entry has just gone.
            let found = self.stored_inbox(&met.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>()).await?;
            doubtful.extend(found.values().filter(|known| known.is_doubtful()).map(|known| known.id.clone()));
            said.retain(|id, (_, one)| found.get(id).is_none_or(|known| !one.missing_in(known).is_empty()));
        }
        Err(Error::internal("entries of inboxes were changed again and again while they were touched"))
    }

    /// Whether every write found its document, and it in the state that it wants.
    async fn write_said(&self, said: &HashMap<String, (UserId, Said<'_>)>) -> Result<bool> {
        let namespace = self.namespace(NAME);
        let mut models = Vec::new();
        for (id, (_, one)) in said {
            for (filter, update) in one.writes(id)? {
                models
                    .push(UpdateOneModel::builder().namespace(namespace.clone()).filter(filter).update(update).build());
            }
        }
        let wanted = models.len();
        if wanted == 0 {
            return Ok(true);
        }
        let done = bounded(self.client.bulk_write(models).ordered(false)).await?;
        Ok(done.matched_count >= i64::try_from(wanted).unwrap_or(i64::MAX))
    }

    /// Documents as they are stored; those that are not there are left out.
    pub(super) async fn stored_inbox(&self, ids: &[String]) -> Result<HashMap<String, InboxDocument>> {
        let inbox = self.collection::<InboxDocument>(NAME);
        let found = bounded(async { inbox.find(doc! { "_id": { "$in": ids } }).await?.try_collect::<Vec<_>>().await });
        Ok(found.await?.into_iter().map(|one| (one.id.clone(), one)).collect())
    }

    /// Looks up the newest notifications of those entries again that may name one which the log has twice.
    pub(super) async fn recount_doubtful(&self, ids: HashSet<String>) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let found = self.stored_inbox(&ids.into_iter().collect::<Vec<_>>()).await?;
        for known in found.into_values().filter(InboxDocument::is_doubtful) {
            self.recount_inbox(&known.id).await?;
        }
        Ok(())
    }

    /// Makes an entry's newest notification that of `notifications`. Others may write meanwhile: this goes on until nothing
    /// was left to change.
    pub async fn recount_inbox(&self, id: &str) -> Result<()> {
        let Ok(entry) = id.parse::<NotificationId>() else { return Ok(()) };
        let ids = [id.to_owned()];
        for _ in 0..ROUNDS {
            // In this order: what was named before the notifications were read is among them.
            let Some(found) = self.stored_inbox(&ids).await?.remove(id) else { return Ok(()) };
            let newest = self.newest_told(entry).await?;
            let at = newest.as_ref().map_or(0, NotificationDocument::place);
            let created_at = newest.as_ref().map(NotificationDocument::made_at);
            let about = self.last_told_about(entry).await?;
            let is_right = found.seq == at && found.about_seq == about;
            if is_right && found.newest == newest && found.created_at == created_at {
                return Ok(());
            }
            let (mut set, mut unset) = (doc! { "seq": at }, Document::new());
            if let Some((newest, created_at)) = newest.zip(created_at) {
                set.extend(doc! { "newest": stored_bson(&newest)?, "createdAt": created_at });
            } else {
                unset.extend(doc! { "newest": "", "createdAt": "" });
            }
            match about {
                Some(about) => set.insert("aboutSeq", about),
                None => unset.insert("aboutSeq", ""),
            };
            let mut recounted = doc! { "$set": set };
            if !unset.is_empty() {
                recounted.insert("$unset", unset);
            }
            let unchanged = doc! { "_id": id, "seq": found.seq, "aboutSeq": found.about_seq };
            bounded(self.collection::<Document>(NAME).update_one(unchanged, recounted)).await?;
        }
        Err(Error::internal(format!("the entry {id} was changed again and again while it was recounted")))
    }

    /// Where the log has the last message that its user was told of by an entry.
    async fn last_told_about(&self, entry: NotificationId) -> Result<Option<i64>> {
        let told = doc! {
            "entryId": entry.to_string(), "decision.inbox.outcome": { "$ne": "held" },
            "data.messageSeq": { "$exists": true },
        };
        let made = self.collection::<Document>(notifications::NAME);
        let found = bounded(async {
            let find = made.find(told).projection(doc! { "data.messageSeq": 1 }).sort(doc! { "data.messageSeq": -1 });
            find.limit(1).await?.try_next().await
        });
        Ok(found.await?.and_then(|one| one.get_document("data").ok()?.get_i64("messageSeq").ok()))
    }

    /// The newest notification of an entry that its user was told of.
    async fn newest_told(&self, entry: NotificationId) -> Result<Option<NotificationDocument>> {
        let told = doc! { "entryId": entry.to_string(), "decision.inbox.outcome": { "$ne": "held" } };
        let made = self.collection::<NotificationDocument>(notifications::NAME);
        bounded(async {
            let find = made.find(told).sort(doc! { "seq": -1 }).limit(1);
            find.await?.try_next().await
        })
        .await
    }
}
