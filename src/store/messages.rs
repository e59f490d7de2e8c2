//! `messages`: everything that was said, by conversation and seq, and what has happened to it since.

use std::collections::BTreeMap;

use futures_util::TryStreamExt as _;
use mongodb::action::Find;
use mongodb::bson::{DateTime, Document, doc};
use serde::{Deserialize, Serialize};

use super::once::Placed;
use super::windows::{Window, windows};
use super::{Known, Store, bounded, seq, stored_seq, stored_time, time};
use crate::domain::attachment::Attachment;
use crate::domain::ids::{ConversationId, MessageId, UserId};
use crate::domain::message::{Entry, Kind, Message, Quote};
use crate::domain::state::{MessageState, Pinned, Reacted, Revision, Tombstone};
use crate::error::Result;

pub(super) const NAME: &str = "messages";

/// A message as it was said, and its registers (see `message_touch`).
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MessageDocument {
    #[serde(rename = "_id")]
    pub(super) id: MessageId,
    pub(super) conversation_id: ConversationId,
    seq: i64,
    sender_id: UserId,
    sender_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client_message_id: Option<String>,
    kind: Kind,
    text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reply_to: Option<Quote>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    mentions: Vec<UserId>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    attachments: Vec<Attachment>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    entry: Option<Entry>,
    created_at: DateTime,
    /// Other words, by the seq of the edit. Read only with one message: many may have as many as there can be.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) edits: BTreeMap<String, EditDocument>,
    /// The last one of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) wording: Option<WordingDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) deleted: Option<DeletedDocument>,
    /// Emoji, by user and emoji.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) reactions: BTreeMap<String, ReactionDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) pin: Option<PinDocument>,
    /// What is known of its attachments by now, by their ids.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) progress: BTreeMap<String, ProgressDocument>,
    /// The seqs at which users have deleted it for themselves.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) hidden: BTreeMap<String, i64>,
}

/// Where a message is.
#[derive(Debug, Deserialize)]
struct PlaceDocument {
    #[serde(rename = "_id")]
    id: MessageId,
    seq: i64,
}

/// The fields that events after the first one write.
const REGISTERS: [&str; 7] = ["edits", "wording", "deleted", "reactions", "pin", "progress", "hidden"];
/// The fields of the message itself that a deletion empties.
const WORDS: [&str; 4] = ["text", "replyTo", "mentions", "attachments"];

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EditDocument {
    pub(super) text: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) mentions: Vec<UserId>,
    pub(super) at: DateTime,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WordingDocument {
    pub(super) seq: i64,
    pub(super) text: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) mentions: Vec<UserId>,
    pub(super) at: DateTime,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DeletedDocument {
    pub(super) seq: i64,
    pub(super) by: UserId,
    pub(super) at: DateTime,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ReactionDocument {
    pub(super) seq: i64,
    pub(super) user_id: UserId,
    pub(super) emoji: String,
    pub(super) on: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PinDocument {
    pub(super) seq: i64,
    pub(super) user_id: UserId,
    pub(super) at: DateTime,
    pub(super) on: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ProgressDocument {
    pub(super) seq: i64,
    pub(super) attachment: Attachment,
}

impl MessageDocument {
    fn sent(at: u64, message: &Message) -> Self {
        Self {
            id: message.id,
            conversation_id: message.conversation_id,
            seq: stored_seq(at),
            sender_id: message.sender_id,
            sender_name: message.sender_name.clone(),
            client_message_id: message.client_message_id.clone(),
            kind: message.kind,
            text: message.text.clone(),
            reply_to: message.reply_to.clone(),
            mentions: message.mentions.clone(),
            attachments: message.attachments.clone(),
            entry: message.entry.clone(),
            created_at: stored_time(message.created_at),
            edits: BTreeMap::new(),
            wording: None,
            deleted: None,
            reactions: BTreeMap::new(),
            pin: None,
            progress: BTreeMap::new(),
            hidden: BTreeMap::new(),
        }
    }

    fn into_state(self) -> MessageState {
        let message = Message {
            id: self.id,
            conversation_id: self.conversation_id,
            sender_id: self.sender_id,
            sender_name: self.sender_name,
            kind: self.kind,
            text: self.text,
            reply_to: self.reply_to,
            mentions: self.mentions,
            attachments: self.attachments,
            entry: self.entry,
            client_message_id: self.client_message_id,
            created_at: time(self.created_at),
        };
        let revision = |(at, edit): (String, EditDocument)| {
            let revision = Revision { text: edit.text, mentions: edit.mentions, at: time(edit.at) };
            Some((at.parse().ok()?, revision))
        };
        let last = self.wording.map(|last| {
            let revision = Revision { text: last.text, mentions: last.mentions, at: time(last.at) };
            (seq(last.seq), revision)
        });
        let reacted = |one: ReactionDocument| ((one.emoji, one.user_id), Reacted { seq: seq(one.seq), on: one.on });
        MessageState {
            seq: seq(self.seq),
            message,
            edits: self.edits.into_iter().filter_map(revision).chain(last).collect(),
            let_go: 0,
            deleted: self.deleted.map(|one| Tombstone { seq: seq(one.seq), by: one.by, at: time(one.at) }),
            reactions: self.reactions.into_values().map(reacted).collect(),
            pin: self.pin.map(|pin| Pinned { seq: seq(pin.seq), user_id: pin.user_id, at: time(pin.at), on: pin.on }),
            progress: self
                .progress
                .into_values()
                .map(|one| (one.attachment.id, (seq(one.seq), one.attachment)))
                .collect(),
            hidden: self.hidden.into_iter().filter_map(|(user, at)| Some((user.parse().ok()?, seq(at)))).collect(),
        }
    }
}

impl Placed for MessageDocument {
    const NAME: &'static str = NAME;

    fn id(&self) -> String {
        self.id.to_string()
    }

    fn seq(&self) -> i64 {
        self.seq
    }

    fn settled(mut wanted: Document, found: &Document) -> Document {
        if found.contains_key("deleted") {
            for word in WORDS {
                wanted.remove(word);
            }
            wanted.insert("text", "");
        }
        for register in REGISTERS {
            if let Some(known) = found.get(register) {
                wanted.insert(register, known.clone());
            }
        }
        wanted
    }
}

pub(super) fn documents(sent: &[(u64, &Message)]) -> Vec<MessageDocument> {
    sent.iter().map(|(at, message)| MessageDocument::sent(*at, message)).collect()
}

/// Which messages of a conversation, by seq.
#[derive(Debug, Clone, Copy)]
pub enum Stretch {
    /// The newest ones.
    Newest,
    /// The nearest ones before this seq.
    Before(u64),
    /// The nearest ones after this seq.
    After(u64),
}

/// What exists of a conversation for somebody.
#[derive(Debug, Clone, Copy)]
pub struct Sight {
    /// Who.
    pub user: UserId,
    /// Nothing up to this seq.
    pub from: u64,
}

impl Store {
    /// A stretch of what exists for somebody of a conversation, oldest first, at most `limit` long; with what they have
    /// deleted for themselves. `head` is about where the conversation ends. It is read in windows, see `windows`, so that nothing
    /// has to look at more of a long conversation than is near.
    pub async fn messages(
        &self,
        conversation: ConversationId,
        sight: Sight,
        stretch: Stretch,
        head: u64,
        limit: u32,
    ) -> Result<Vec<MessageState>> {
        let messages = self.collection::<MessageDocument>(NAME);
        let mut found: Vec<MessageState> = Vec::new();
        for window in windows(sight.from, stretch, head) {
            let left = i64::from(limit) - i64::try_from(found.len()).unwrap_or(i64::MAX);
            if left <= 0 {
                break;
            }
            let (filter, order) = window_query(conversation, window, stretch);
            let part =
                self.read(async { shown(messages.find(filter)).sort(order).limit(left).await?.try_collect().await });
            let part: Vec<MessageDocument> = part.await?;
            found.extend(part.into_iter().map(MessageDocument::into_state));
        }
        if !matches!(stretch, Stretch::After(_)) {
            found.reverse();
        }
        Ok(found)
    }

    /// Where a message of this conversation stands.
    pub async fn seq_of_message(&self, conversation: ConversationId, id: MessageId) -> Result<Option<u64>> {
        let messages = self.collection::<PlaceDocument>(NAME);
        let filter = doc! { "_id": id.to_string(), "conversationId": conversation.to_string() };
        let found = self.read(messages.find_one(filter).projection(doc! { "seq": 1 })).await?;
        Ok(found.map(|found| seq(found.seq)))
    }

    /// The pinned messages of a conversation, the last one pinned first, at most `limit`. By an index that has no others.
    pub async fn pinned_messages(&self, conversation: ConversationId, limit: u32) -> Result<Vec<MessageState>> {
        let messages = self.collection::<MessageDocument>(NAME);
        let (filter, order) = pins_query(conversation);
        let found = self.read(async {
            shown(messages.find(filter)).sort(order).limit(i64::from(limit)).await?.try_collect::<Vec<_>>().await
        });
        Ok(found.await?.into_iter().map(MessageDocument::into_state).collect())
    }

    /// A message with every wording that it has had.
    pub async fn message(&self, id: MessageId) -> Result<Option<MessageState>> {
        let messages = self.collection::<MessageDocument>(NAME);
        Ok(self.read(messages.find_one(doc! { "_id": id.to_string() })).await?.map(MessageDocument::into_state))
    }

    /// The messages of these ids, in no order; unknown ones are left out.
    pub async fn messages_by_id(&self, ids: &[MessageId]) -> Result<Vec<MessageState>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let messages = self.collection::<MessageDocument>(NAME);
        let found = self.read(async { shown(messages.find(by_id(ids))).await?.try_collect::<Vec<_>>().await });
        Ok(found.await?.into_iter().map(MessageDocument::into_state).collect())
    }

    /// Projects messages that were sent, each id once. Returns those that were there before.
    pub(super) async fn insert_messages(&self, sent: &[(u64, &Message)]) -> Result<Vec<Known>> {
        self.insert_once(&documents(sent)).await
    }

    /// Moves messages to these places, which are earlier than the ones they were found at.
    pub(super) async fn advance_messages(&self, sent: &[(u64, &Message)]) -> Result<()> {
        self.advance(&documents(sent)).await
    }

    /// Messages as they are stored; those that are not there are left out.
    pub(super) async fn stored_messages(&self, ids: &[MessageId]) -> Result<Vec<MessageDocument>> {
        let messages = self.collection::<MessageDocument>(NAME);
        bounded(async { messages.find(by_id(ids)).await?.try_collect::<Vec<_>>().await }).await
    }

    /// The newest message of a conversation and its place.
    pub(super) async fn head_of(&self, conversation: &str) -> Result<Option<(MessageId, i64)>> {
        let messages = self.collection::<PlaceDocument>(NAME);
        let newest = messages.find_one(doc! { "conversationId": conversation }).sort(doc! { "seq": -1 });
        Ok(bounded(newest.projection(doc! { "seq": 1 })).await?.map(|newest| (newest.id, newest.seq)))
    }
}

/// The filter and the order that a window of a conversation is read by.
#[must_use]
pub fn window_query(conversation: ConversationId, window: Window, stretch: Stretch) -> (Document, Document) {
    let mut range = doc! { "$gt": stored_seq(window.after) };
    if let Some(before) = window.before {
        range.insert("$lt", stored_seq(before));
    }
    // What somebody has deleted for themselves is left out later: looking for others here could take for ever.
    let order = if matches!(stretch, Stretch::After(_)) { 1 } else { -1 };
    (doc! { "conversationId": conversation.to_string(), "seq": range }, doc! { "seq": order })
}

/// The filter and the order that the pinned messages of a conversation are read by.
#[must_use]
pub fn pins_query(conversation: ConversationId) -> (Document, Document) {
    (doc! { "conversationId": conversation.to_string(), "pin.on": true }, doc! { "pin.seq": -1 })
}

/// A reading of messages as they are now, without the words that they had before.
fn shown(find: Find<'_, MessageDocument>) -> Find<'_, MessageDocument> {
    find.projection(doc! { "edits": 0 })
}

fn by_id(ids: &[MessageId]) -> Document {
    doc! { "_id": { "$in": ids.iter().map(ToString::to_string).collect::<Vec<_>>() } }
}
