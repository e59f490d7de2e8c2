//! Shapes that several resources share.

use poem_openapi::Object;

use super::attachments::wire::AttachmentBody;
use crate::domain::ids::UserId;
use crate::domain::message::{Entry, Kind, Quote};
use crate::domain::state::MessageState;

/// A message as it is now.
#[derive(Debug, Object)]
#[oai(rename = "Message", rename_all = "camelCase", skip_serializing_if_is_none)]
pub(super) struct MessageBody {
    /// Names it for ever (`msg_...`).
    id: String,
    /// Its place in the log; messages of a conversation are ordered by it.
    seq: u64,
    /// Where it was said (`cnv_...`).
    conversation_id: String,
    /// Who said it (`usr_...`).
    sender_id: String,
    /// Their name when they said it.
    sender_name: String,
    /// What it is: `text`, `attachment` for one with attachments, or `system` for a note that something happened to the conversation.
    kind: String,
    /// The text as it is now; empty if the message is deleted.
    text: String,
    /// The message that it answers.
    reply_to: Option<QuoteBody>,
    /// The participants it names.
    #[oai(default, skip_serializing_if_is_empty)]
    mentions: Vec<String>,
    /// What is attached, as far as that is known now.
    #[oai(default, skip_serializing_if_is_empty)]
    attachments: Vec<AttachmentBody>,
    /// What happened, if it is a note.
    entry: Option<EntryBody>,
    /// The emoji on it, in the order in which they came.
    #[oai(default, skip_serializing_if_is_empty)]
    reactions: Vec<ReactionsBody>,
    /// When it was last edited.
    edited_at: Option<String>,
    /// When it was deleted for everybody.
    deleted_at: Option<String>,
    /// Who deleted it.
    deleted_by: Option<String>,
    /// When it was pinned, if it is.
    pinned_at: Option<String>,
    /// The sender's own id for this send.
    client_message_id: Option<String>,
    /// When the server took it (RFC 3339, UTC).
    created_at: String,
}

/// A message that is answered, as it is now.
#[derive(Debug, Object)]
#[oai(rename = "Quote", rename_all = "camelCase")]
pub(super) struct QuoteBody {
    /// Its id.
    id: String,
    /// Its place in the log.
    seq: u64,
    /// Who sent it.
    sender_id: String,
    /// Their name.
    sender_name: String,
    /// The first 140 characters of its text; empty if it is deleted, or does not exist for you.
    text: String,
}

/// What a note says happened.
#[derive(Debug, Object)]
#[oai(rename = "Entry", rename_all = "camelCase", skip_serializing_if_is_none, skip_serializing_if_is_empty)]
pub(super) struct EntryBody {
    /// `joined`, `left`, `removed`, `renamed`, `roleChanged`, `closed` or `reopened`, which the sender did, or `order`.
    #[oai(rename = "type")]
    kind: String,
    /// Who joined.
    #[oai(default)]
    users: Vec<String>,
    /// Who was removed, or is something else now.
    user: Option<String>,
    /// The new title; absent if it has none any more.
    title: Option<String>,
    /// The new role.
    role: Option<String>,
    /// The order that has come on.
    order_id: Option<String>,
    /// How far it has come.
    status: Option<String>,
    /// Where to see where it is.
    tracking_url: Option<String>,
}

/// An emoji and who has put it on.
#[derive(Debug, Object)]
#[oai(rename = "Reactions", rename_all = "camelCase")]
pub(super) struct ReactionsBody {
    /// The emoji.
    emoji: String,
    /// How many users.
    count: u32,
    /// Which users.
    user_ids: Vec<String>,
}

/// What a message is, in a word.
pub(super) const fn word_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => "text",
        Kind::Attachment => "attachment",
        Kind::System => "system",
        Kind::Order => "order",
    }
}

pub(super) fn strings(ids: &[UserId]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

impl From<Quote> for QuoteBody {
    fn from(quote: Quote) -> Self {
        Self {
            id: quote.id.to_string(),
            seq: quote.seq,
            sender_id: quote.sender_id.to_string(),
            sender_name: quote.sender_name,
            text: quote.text,
        }
    }
}

impl From<Entry> for EntryBody {
    fn from(entry: Entry) -> Self {
        let bare = |kind: &str| Self {
            kind: kind.into(),
            users: Vec::new(),
            user: None,
            title: None,
            role: None,
            order_id: None,
            status: None,
            tracking_url: None,
        };
        match entry {
            Entry::Joined { users } => Self { users: strings(&users), ..bare("joined") },
            Entry::Left {} => bare("left"),
            Entry::Removed { user } => Self { user: Some(user.to_string()), ..bare("removed") },
            Entry::Renamed { title } => Self { title, ..bare("renamed") },
            Entry::RoleChanged { user, role } => {
                Self { user: Some(user.to_string()), role: Some(role.word().into()), ..bare("roleChanged") }
            }
            Entry::Closed {} => bare("closed"),
            Entry::Reopened {} => bare("reopened"),
            Entry::Order { order_id, status, tracking_url } => {
                Self { order_id: Some(order_id), status: Some(status), tracking_url, ..bare("order") }
            }
        }
    }
}

impl From<MessageState> for MessageBody {
    fn from(state: MessageState) -> Self {
        let reactions = state.reactions().into_iter().map(|(emoji, users)| ReactionsBody {
            emoji: emoji.to_owned(),
            count: u32::try_from(users.len()).unwrap_or(u32::MAX),
            user_ids: strings(&users),
        });
        Self {
            id: state.message.id.to_string(),
            seq: state.seq,
            conversation_id: state.message.conversation_id.to_string(),
            sender_id: state.message.sender_id.to_string(),
            kind: word_of(state.message.kind).into(),
            text: state.text().to_owned(),
            mentions: strings(state.mentions()),
            reactions: reactions.collect(),
            attachments: state.attachments().cloned().map(AttachmentBody::from).collect(),
            edited_at: state.edited_at().map(|at| at.to_string()),
            deleted_at: state.deleted.map(|deleted| deleted.at.to_string()),
            deleted_by: state.deleted.map(|deleted| deleted.by.to_string()),
            pinned_at: state.pin.filter(|pin| pin.on).map(|pin| pin.at.to_string()),
            sender_name: state.message.sender_name,
            reply_to: state.message.reply_to.map(QuoteBody::from),
            entry: state.message.entry.map(EntryBody::from),
            client_message_id: state.message.client_message_id,
            created_at: state.message.created_at.to_string(),
        }
    }
}
