//! Reading inboxes: pages of entries, what counts, and how far conversations were read.

use std::collections::HashMap;

use futures_util::TryStreamExt as _;
use mongodb::bson::{Document, doc};
use serde::Deserialize;

use super::inbox::{InboxDocument, NAME, RegistersDocument};
use super::notifications::NotificationDocument;
use super::{Store, conversations, seq, stored_seq};
use crate::domain::ids::{ConversationId, NotificationId, UserId};
use crate::domain::inbox::{Entry, Told};
use crate::domain::page::{Edge, Page};
use crate::domain::registers::Registers;
use crate::error::{Error, Result};

/// As much of an entry as it takes to count it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WaitingDocument {
    #[serde(rename = "_id")]
    id: NotificationId,
    seq: i64,
    #[serde(default)]
    newest: Option<AboutDocument>,
    #[serde(default)]
    about_seq: Option<i64>,
    #[serde(flatten)]
    registers: RegistersDocument,
}

#[derive(Debug, Default, Deserialize)]
struct AboutDocument {
    #[serde(default)]
    data: MessageDocument,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct MessageDocument {
    #[serde(default)]
    conversation_id: Option<ConversationId>,
    #[serde(default)]
    message_seq: Option<i64>,
}

/// The conversation of an entry, and the last message in it that it was told for.
fn about(newest: Option<(ConversationId, u64)>, last: Option<i64>) -> Option<(ConversationId, u64)> {
    newest.map(|(id, place)| (id, last.map_or(0, seq).max(place)))
}

impl InboxDocument {
    fn into_entry(self) -> Result<(NotificationId, Entry)> {
        let id = self.id.parse().map_err(|_| Error::internal("an entry of an inbox has no id of one"))?;
        let registers = self.registers.read();
        let notification = self.newest.map(NotificationDocument::into_notification);
        let newest = notification.as_ref().map(|(at, made)| {
            let told = Told::of(*at, made);
            Told { about: about(told.about, self.about_seq), ..told }
        });
        Ok((id, Entry { newest, notification: notification.map(|(_, made)| made), registers, told: Vec::new() }))
    }
}

impl WaitingDocument {
    fn into_entry(self) -> (NotificationId, Entry) {
        let MessageDocument { conversation_id, message_seq } = self.newest.unwrap_or_default().data;
        let about = about(conversation_id.zip(message_seq.map(seq)), self.about_seq);
        let newest = Told { seq: seq(self.seq), about };
        let registers = self.registers.read();
        (self.id, Entry { newest: Some(newest), notification: None, registers, told: Vec::new() })
    }
}

impl Store {
    /// Entries of a user's inbox, the newest first.
    pub async fn entries_of(
        &self,
        user: UserId,
        before: Option<Edge>,
        limit: u32,
    ) -> Result<Page<(NotificationId, Entry)>> {
        let mut place = doc! { "$gt": 0_i64 };
        if let Some(Edge(edge)) = before {
            place.insert("$lt", stored_seq(edge));
        }
        let inbox = self.collection::<InboxDocument>(NAME);
        let found = self.read(async {
            let find = inbox.find(doc! { "userId": user.to_string(), "seq": place });
            find.sort(doc! { "seq": -1 }).limit(i64::from(limit) + 1).await?.try_collect::<Vec<_>>().await
        });
        let mut found = found.await?;
        let more = found.len() > limit as usize;
        found.truncate(limit as usize);
        let next = found.last().filter(|_| more).map(|last| Edge(seq(last.seq)));
        let items = found.into_iter().map(InboxDocument::into_entry).collect::<Result<_>>()?;
        Ok(Page { items, next })
    }

    /// These entries, as far as they are stored.
    pub async fn entries_by_id(&self, ids: &[NotificationId]) -> Result<Vec<(NotificationId, Entry)>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let inbox = self.collection::<InboxDocument>(NAME);
        let found =
            self.read(async { inbox.find(doc! { "_id": { "$in": ids } }).await?.try_collect::<Vec<_>>().await });
        found.await?.into_iter().map(InboxDocument::into_entry).collect()
    }

    /// The newest entries of a user's inbox behind a place, as far as it takes to count them.
    pub async fn waiting_entries(
        &self,
        user: UserId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(NotificationId, Entry)>> {
        let shown = doc! {
            "seq": 1, "newest.data.conversationId": 1, "newest.data.messageSeq": 1, "aboutSeq": 1,
            "readSeq": 1, "seenSeq": 1, "archived": 1, "snoozed": 1,
        };
        let inbox = self.collection::<WaitingDocument>(NAME);
        let found = self.read(async {
            let find = inbox.find(doc! { "userId": user.to_string(), "seq": { "$gt": stored_seq(after) } });
            let find = find.projection(shown).sort(doc! { "seq": -1 });
            find.limit(i64::try_from(limit).unwrap_or(i64::MAX)).await?.try_collect::<Vec<_>>().await
        });
        Ok(found.await?.into_iter().map(WaitingDocument::into_entry).collect())
    }

    /// What a user has done to all entries of their inbox.
    pub async fn registers_of(&self, user: UserId) -> Result<Registers> {
        let inbox = self.collection::<InboxDocument>(NAME);
        let found = self.read(inbox.find_one(doc! { "_id": user.to_string() })).await?;
        Ok(found.map_or_else(Registers::default, |found| found.registers.read()))
    }

    /// Which of these are entries of a user's inbox, and where the log has the newest notification of each.
    pub async fn known_entries(&self, user: UserId, ids: &[NotificationId]) -> Result<HashMap<NotificationId, u64>> {
        #[derive(Deserialize)]
        struct Row {
            #[serde(rename = "_id")]
            id: NotificationId,
            seq: i64,
        }
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let theirs = doc! { "_id": { "$in": ids }, "userId": user.to_string(), "seq": { "$gt": 0_i64 } };
        let inbox = self.collection::<Row>(NAME);
        let found =
            self.read(async { inbox.find(theirs).projection(doc! { "seq": 1 }).await?.try_collect::<Vec<_>>().await });
        Ok(found.await?.into_iter().map(|row| (row.id, seq(row.seq))).collect())
    }

    /// How far a user has read these conversations, where they have.
    pub async fn read_marks(
        &self,
        user: UserId,
        conversations: &[ConversationId],
    ) -> Result<HashMap<ConversationId, u64>> {
        if conversations.is_empty() {
            return Ok(HashMap::new());
        }
        let ids: Vec<String> = conversations.iter().map(ToString::to_string).collect();
        let mut shown = Document::new();
        shown.insert(format!("marks.{user}.readSeq"), 1);
        let documents = self.collection::<Document>(conversations::NAME);
        let found = self.read(async {
            documents.find(doc! { "_id": { "$in": ids } }).projection(shown).await?.try_collect::<Vec<_>>().await
        });
        let user = user.to_string();
        let mark = |one: Document| {
            let read = one.get_document("marks").ok()?.get_document(&user).ok()?.get_i64("readSeq").ok()?;
            Some((one.get_str("_id").ok()?.parse().ok()?, seq(read)))
        };
        Ok(found.await?.into_iter().filter_map(mark).collect())
    }
}
