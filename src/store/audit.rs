//! Comparing stored documents with the events that make them, and putting back what differs.
//!
//! What a document should be is said by the same functions that project it: a new field is compared by itself.

use std::collections::{HashMap, HashSet};
use std::fmt;

use futures_util::TryStreamExt as _;
use mongodb::bson::{Document, deserialize_from_document, doc, serialize_to_document};
use mongodb::options::ReplaceOneModel;
use serde::Serialize;

use super::batch::Batch;
use super::messages::MessageDocument;
use super::once::Placed;
use super::{Store, bounded, seq, stored_seq};
use crate::domain::clock::Timestamp;
use crate::domain::event::{Body, Stored};
use crate::domain::ids::ConversationId;
use crate::error::{Error, Result};

/// The collections that are a projection of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Projected {
    /// Who is in each, what was said last, how far everybody has read.
    Conversations,
    /// Everything that was said.
    Messages,
    /// What each user was told.
    Notifications,
    /// What has become of that.
    Inbox,
    /// How each user wants to be seen.
    Preferences,
}

impl Projected {
    /// Every one of them.
    pub const ALL: [Self; 5] =
        [Self::Conversations, Self::Messages, Self::Notifications, Self::Inbox, Self::Preferences];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Conversations => "conversations",
            Self::Messages => "messages",
            Self::Notifications => "notifications",
            Self::Inbox => super::inbox::NAME,
            Self::Preferences => "preferences",
        }
    }

    /// The field that names the event which put a document where it is.
    pub(super) const fn place(self) -> &'static str {
        match self {
            Self::Conversations => "lastSeq",
            Self::Messages | Self::Notifications | Self::Inbox | Self::Preferences => "seq",
        }
    }

    /// Whether this is an event that puts the document of this id where it is.
    #[must_use]
    pub fn explains(self, body: &Body, id: &str) -> bool {
        match (self, body) {
            (Self::Conversations, Body::Conversation(opened)) => opened.id.to_string() == id,
            (Self::Conversations, Body::Message(message)) => message.conversation_id.to_string() == id,
            (Self::Messages, Body::Message(message)) => message.id.to_string() == id,
            (Self::Notifications, Body::Notification(made)) => made.id.to_string() == id,
            (Self::Inbox, Body::Notification(made)) => made.is_told() && made.entry_id.to_string() == id,
            (Self::Preferences, Body::Preferences(said)) => said.user_id.to_string() == id,
            _ => false,
        }
    }
}

/// What is wrong with a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// The log has its event and MongoDB has nothing.
    Missing,
    /// The log has another event in its place.
    Extra,
    /// It says something else than the log.
    Different,
}

/// A document that is not as the log has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// Where it is, or should be.
    pub collection: Projected,
    /// Its id.
    pub id: String,
    /// The event in question.
    pub seq: u64,
    /// What is wrong.
    pub fault: Fault,
    /// Which fields differ. Never what they say.
    pub fields: Vec<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fault = match self.fault {
            Fault::Missing => "missing",
            Fault::Extra => "extra",
            Fault::Different => "different",
        };
        write!(f, "{fault:<9}  {:<13}  {}  at {}", self.collection.name(), self.id, self.seq)?;
        if self.fields.is_empty() { Ok(()) } else { write!(f, "  {}", self.fields.join(", ")) }
    }
}

/// How a batch of events and the documents of its events compare.
#[derive(Debug, Default)]
pub struct Audit {
    /// What is not as the log has it.
    pub differences: Vec<Difference>,
    /// Documents that are at the place of one of these events, by collection.
    pub explained: HashMap<Projected, u64>,
    /// Conversations whose document cannot be read at all.
    pub unreadable: Vec<ConversationId>,
    /// Places at which the log repeats an earlier message or notification.
    pub(super) copies: HashSet<u64>,
    /// Notifications of before that time may have gone.
    pub(super) gone_before: Option<Timestamp>,
}

impl Audit {
    /// Whether what was made at this time may have gone since.
    pub(super) fn may_have_gone(&self, made_at: Timestamp) -> bool {
        self.gone_before.is_some_and(|before| made_at < before)
    }

    pub(super) fn explain(&mut self, collection: Projected) {
        *self.explained.entry(collection).or_default() += 1;
    }

    /// Whether something is wrong with this document.
    pub(super) fn names(&self, collection: Projected, id: &str) -> bool {
        self.differences.iter().any(|one| one.collection == collection && one.id == id)
    }
}

impl Store {
    /// Compares a batch of events, in the order of the log, with the documents they make. `head` is the last place of the
    /// log.
    pub async fn audit(&self, events: &[Stored], head: u64, now: Timestamp) -> Result<Audit> {
        let kept = i64::from(self.notification_days) * 86_400;
        let mut audit = Audit { gone_before: Some(now.plus_seconds(-kept)), ..Audit::default() };
        self.audit_placed(Projected::Messages, &super::messages::documents(&messages(events)), &mut audit).await?;
        self.audit_changes(events, &mut audit).await?;
        self.audit_placed(Projected::Notifications, &super::notifications::documents(&made(events)), &mut audit)
            .await?;
        self.audit_inbox(events, head, &mut audit).await?;
        self.audit_preferences(events, &mut audit).await?;
        self.audit_conversations(events, head, &mut audit).await?;
        Ok(audit)
    }

    async fn audit_placed<T: Placed>(&self, collection: Projected, wanted: &[T], audit: &mut Audit) -> Result<()> {
        if wanted.is_empty() {
            return Ok(());
        }
        let ids: Vec<String> = wanted.iter().map(Placed::id).collect();
        let stored = self.raw(T::NAME, &ids).await?;
        let mut met = HashSet::new();
        for (wanted, id) in wanted.iter().zip(ids) {
            let at = seq(wanted.seq());
            let found = stored.get(&id);
            let found_at = found.and_then(|found| found.get_i64("seq").ok());
            if !met.insert(id.clone()) || found_at.is_some_and(|found| found < wanted.seq()) {
                // It was there before; if its earlier place is wrong, that one shows it.
                audit.copies.insert(at);
                continue;
            }
            let (fault, fields) = match found {
                None if wanted.expires_from().is_some_and(|made_at| audit.may_have_gone(made_at)) => continue,
                None => (Fault::Missing, Vec::new()),
                Some(found) => (Fault::Different, differing(&T::settled(serialized(wanted)?, found), found)),
            };
            if found_at == Some(wanted.seq()) {
                audit.explain(collection);
            }
            if fault == Fault::Missing || !fields.is_empty() {
                audit.differences.push(Difference { collection, id, seq: at, fault, fields });
            }
        }
        Ok(())
    }

    /// Compares what has happened to messages that are there. Those that are not, are missed where they were sent.
    async fn audit_changes(&self, events: &[Stored], audit: &mut Audit) -> Result<()> {
        let changes = Batch::of(events).changes;
        if changes.is_empty() {
            return Ok(());
        }
        let ids: HashSet<String> = changes.iter().map(|change| change.id.to_string()).collect();
        let found = self.raw(super::messages::NAME, &ids.into_iter().collect::<Vec<_>>()).await?;
        for (id, found) in found {
            let of_it = changes.iter().filter(|change| change.id.to_string() == id);
            let fields: Vec<String> = match deserialize_from_document::<MessageDocument>(found) {
                Ok(known) => {
                    let wrong = of_it.clone().filter(|change| !change.shows_in(&known));
                    wrong.map(|change| change.register().to_owned()).collect::<HashSet<_>>().into_iter().collect()
                }
                Err(_) => vec!["unreadable".to_owned()],
            };
            if !fields.is_empty() {
                let at = of_it.map(|change| change.at).min().unwrap_or_default();
                let collection = Projected::Messages;
                audit.differences.push(Difference { collection, id, seq: at, fault: Fault::Different, fields });
            }
        }
        Ok(())
    }

    /// Documents by id, as they are.
    pub(super) async fn raw(&self, collection: &str, ids: &[String]) -> Result<HashMap<String, Document>> {
        let collection = self.collection::<Document>(collection);
        let found = bounded(async {
            collection.find(doc! { "_id": { "$in": ids } }).await?.try_collect::<Vec<Document>>().await
        });
        let keyed = |one: Document| Some((one.get_str("_id").ok()?.to_owned(), one));
        Ok(found.await?.into_iter().filter_map(keyed).collect())
    }

    /// Puts back those messages, notifications, preferences and openings of a batch that an audit found to be different, and removes
    /// what is in the places of those that are missing.
    pub async fn restore(&self, events: &[Stored], audit: &Audit, head: u64) -> Result<()> {
        let wrong = |collection, id: String| audit.names(collection, &id);
        let mut messages = messages(events);
        messages.retain(|(at, one)| !audit.copies.contains(at) && wrong(Projected::Messages, one.id.to_string()));
        let mut made = made(events);
        made.retain(|(at, one)| !audit.copies.contains(at) && wrong(Projected::Notifications, one.id.to_string()));
        let messages = super::messages::documents(&messages);
        self.clear_places(&messages).await?;
        self.restore_messages(&messages).await?;
        self.replace(&super::notifications::documents(&made)).await?;
        self.restore_inbox(audit).await?;
        self.restore_preferences(events, audit).await?;
        let last = events.last().map_or(0, |last| last.seq);
        for (at, state) in Batch::of(events).states() {
            if wrong(Projected::Conversations, state.id.to_string()) {
                self.force_state(at, state, last, head).await?;
            }
        }
        Ok(())
    }

    /// Puts messages back as they were said. What has happened to them since stays.
    async fn restore_messages(&self, messages: &[MessageDocument]) -> Result<()> {
        let ids: Vec<String> = messages.iter().map(Placed::id).collect();
        let found = self.raw(super::messages::NAME, &ids).await?;
        let mut whole = Vec::with_capacity(messages.len());
        for message in messages {
            let mut wanted = serialized(message)?;
            if let Some(found) = found.get(&message.id())
                && deserialize_from_document::<MessageDocument>(found.clone()).is_ok()
            {
                wanted = MessageDocument::settled(wanted, found);
            }
            whole.push((message.id(), wanted));
        }
        self.replace_whole(super::messages::NAME, whole).await
    }

    async fn replace<T: Placed>(&self, documents: &[T]) -> Result<()> {
        let whole: Result<Vec<_>> = documents.iter().map(|one| Ok((one.id(), serialized(one)?))).collect();
        self.replace_whole(T::NAME, whole?).await
    }

    async fn replace_whole(&self, collection: &str, documents: Vec<(String, Document)>) -> Result<()> {
        if documents.is_empty() {
            return Ok(());
        }
        let mut models = Vec::with_capacity(documents.len());
        for (id, document) in documents {
            let (namespace, filter) = (self.namespace(collection), doc! { "_id": id });
            let model = ReplaceOneModel::builder().namespace(namespace).filter(filter);
            models.push(model.replacement(document).upsert(true).build());
        }
        bounded(self.client.bulk_write(models).ordered(false)).await.map(drop)
    }
}

fn messages(events: &[Stored]) -> Vec<(u64, &crate::domain::message::Message)> {
    let messages = events.iter().filter_map(|stored| match &stored.event.body {
        Body::Message(message) => Some((stored.seq, message)),
        _ => None,
    });
    messages.collect()
}

fn made(events: &[Stored]) -> Vec<(u64, &crate::domain::notification::Notification)> {
    let made = events.iter().filter_map(|stored| match &stored.event.body {
        Body::Notification(notification) => Some((stored.seq, notification)),
        _ => None,
    });
    made.collect()
}

pub(super) fn serialized(document: &impl Serialize) -> Result<Document> {
    serialize_to_document(document).map_err(Error::internal)
}

/// The names of the fields that differ, sorted.
pub(super) fn differing(wanted: &Document, found: &Document) -> Vec<String> {
    let names: HashSet<&String> = wanted.keys().chain(found.keys()).collect();
    let mut names: Vec<String> =
        names.into_iter().filter(|name| wanted.get(name.as_str()) != found.get(name.as_str())).cloned().collect();
    names.sort();
    names
}

/// A document and the event that it names.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    pub(super) key: mongodb::bson::Bson,
    /// The seq of that event.
    pub seq: u64,
}

impl Place {
    /// Its id as text.
    #[must_use]
    pub fn id(&self) -> String {
        self.key.as_str().map_or_else(|| self.key.to_string(), str::to_owned)
    }

    pub(super) fn filter(&self, collection: Projected) -> Document {
        let mut filter = doc! { "_id": self.key.clone() };
        filter.insert(collection.place(), stored_seq(self.seq));
        filter
    }
}
