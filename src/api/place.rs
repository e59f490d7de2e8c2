//! A conversation as clients read it.

use poem_openapi::{Enum, Object};

use super::text::Text;
use super::wire::{EntryBody, word_of};
use crate::domain::context::{Context, ContextKind, Price};
use crate::domain::notification::excerpt;
use crate::domain::setting::Settings;
use crate::query::conversations::View;

/// The sorts of things a conversation can be about.
#[derive(Debug, Clone, Copy, Enum)]
#[oai(rename = "ContextType", rename_all = "lowercase")]
pub(super) enum ContextType {
    Order,
    Product,
    Store,
}

/// What a conversation is about.
#[derive(Debug, Object)]
#[oai(rename = "Context", rename_all = "camelCase", skip_serializing_if_is_none)]
pub(super) struct ContextBody {
    /// The sort of thing.
    #[oai(rename = "type")]
    kind: ContextType,
    /// The shop's own id of it, at most 128 characters.
    id: Text,
    /// Its name for people, at most 200 characters.
    title: Option<Text>,
    /// Its page (http or https).
    url: Option<Text>,
    /// Its picture (http or https).
    image_url: Option<Text>,
    /// What it costs.
    price: Option<PriceBody>,
}

/// What something costs, as the shop says it.
#[derive(Debug, Object)]
#[oai(rename = "Price")]
pub(super) struct PriceBody {
    /// A decimal number, such as `19.90`.
    amount: Text,
    /// The currency, such as `EUR` (ISO 4217).
    currency: Text,
}

/// A user in a conversation.
#[derive(Debug, Object)]
#[oai(rename = "Participant", rename_all = "camelCase", skip_serializing_if_is_none)]
pub(super) struct ParticipantBody {
    /// Who.
    user_id: String,
    /// Their name.
    name: Option<String>,
    /// As what: buyer, seller, agent or owner.
    role: String,
    /// Since when.
    joined_at: String,
    /// Only your own: messages up to this seq do not exist for you. Absent if you see everything.
    visible_from: Option<u64>,
    /// The seq up to which they have read, as far as they show it.
    read_seq: u64,
    /// The seq up to which messages have come to them.
    delivered_seq: u64,
}

/// The newest message of a conversation.
#[derive(Debug, Object)]
#[oai(rename = "LastMessage", rename_all = "camelCase", skip_serializing_if_is_none)]
pub(super) struct LastMessageBody {
    /// Its id.
    id: String,
    /// Its place in the log.
    seq: u64,
    /// Who sent it.
    sender_id: String,
    /// `text`, `attachment` for one with attachments, `system` for a note that something happened to the conversation, or
    /// `order` for one of the order.
    kind: String,
    /// What happened, if it is a note.
    entry: Option<EntryBody>,
    /// The first 140 characters of its text, or of what its first attachment is called if it has none; empty if it is a note
    /// or deleted.
    text: String,
    /// When it was sent.
    created_at: String,
    /// When it was last edited; absent if it never was.
    edited_at: Option<String>,
    /// When it was deleted for everybody; absent if it is not.
    deleted_at: Option<String>,
}

/// What a conversation is to you; nobody else reads it.
#[derive(Debug, Object)]
#[oai(rename = "Settings", rename_all = "camelCase", skip_serializing_if_is_none)]
pub(super) struct SettingsBody {
    /// Until when it makes no noise; a time that is over, or none, means that it does.
    muted_until: Option<String>,
    /// Whether it is put away.
    archived: bool,
    /// Whether it is kept on top.
    pinned: bool,
}

/// A place messages are in.
#[derive(Debug, Object)]
#[oai(rename = "Conversation", rename_all = "camelCase", skip_serializing_if_is_none)]
pub(super) struct ConversationBody {
    /// Names it for ever (`cnv_...`).
    id: String,
    /// direct, group or support.
    kind: String,
    /// Its name.
    title: Option<String>,
    /// Who is in it.
    participants: Vec<ParticipantBody>,
    /// What it is about.
    context: Option<ContextBody>,
    /// Who opened it.
    created_by: String,
    /// When.
    created_at: String,
    /// Since when nothing more is said in it; absent while it is open.
    closed_at: Option<String>,
    /// What it is to you.
    settings: SettingsBody,
    /// Its newest message.
    last_message: Option<LastMessageBody>,
    /// How many messages of others the caller has not read: 0 to 100, and 100 means that many or more.
    unread: u32,
}

impl From<ContextBody> for Context {
    fn from(body: ContextBody) -> Self {
        Self {
            kind: match body.kind {
                ContextType::Order => ContextKind::Order,
                ContextType::Product => ContextKind::Product,
                ContextType::Store => ContextKind::Store,
            },
            id: body.id.0,
            title: body.title.map(|text| text.0),
            url: body.url.map(|text| text.0),
            image_url: body.image_url.map(|text| text.0),
            price: body.price.map(|price| Price { amount: price.amount.0, currency: price.currency.0 }),
        }
    }
}

impl From<Context> for ContextBody {
    fn from(context: Context) -> Self {
        Self {
            kind: match context.kind {
                ContextKind::Order => ContextType::Order,
                ContextKind::Product => ContextType::Product,
                ContextKind::Store => ContextType::Store,
            },
            id: Text(context.id),
            title: context.title.map(Text),
            url: context.url.map(Text),
            image_url: context.image_url.map(Text),
            price: context.price.map(|price| PriceBody { amount: Text(price.amount), currency: Text(price.currency) }),
        }
    }
}

impl From<View> for ConversationBody {
    fn from(view: View) -> Self {
        let View { viewer, conversation, mut names, marks, settings, last_message, unread } = view;
        let marks = |user| marks.get(&user).copied().unwrap_or_default();
        Self {
            id: conversation.id.to_string(),
            kind: conversation.kind.word().into(),
            participants: conversation
                .participants
                .iter()
                .map(|participant| ParticipantBody {
                    user_id: participant.user_id.to_string(),
                    name: names.remove(&participant.user_id),
                    role: participant.role.word().into(),
                    joined_at: participant.joined_at.to_string(),
                    visible_from: Some(participant.visible_from)
                        .filter(|from| *from > 0 && participant.user_id == viewer),
                    read_seq: marks(participant.user_id).read,
                    delivered_seq: marks(participant.user_id).delivered.max(marks(participant.user_id).shown),
                })
                .collect(),
            title: conversation.title,
            context: conversation.context.map(ContextBody::from),
            created_by: conversation.created_by.to_string(),
            created_at: conversation.created_at.to_string(),
            closed_at: conversation.closed_at.map(|at| at.to_string()),
            settings: settings.into(),
            last_message: last_message.map(|last| LastMessageBody {
                id: last.message.id.to_string(),
                seq: last.seq,
                sender_id: last.message.sender_id.to_string(),
                kind: word_of(last.message.kind).into(),
                text: excerpt(last.gist()),
                edited_at: last.edited_at().map(|at| at.to_string()),
                deleted_at: last.deleted.map(|deleted| deleted.at.to_string()),
                created_at: last.message.created_at.to_string(),
                entry: last.message.entry.map(EntryBody::from),
            }),
            unread,
        }
    }
}

impl From<Settings> for SettingsBody {
    fn from(settings: Settings) -> Self {
        Self {
            muted_until: settings.muted_until.filter(|until| until.millis() > 0).map(|until| until.to_string()),
            archived: settings.archived,
            pinned: settings.pinned,
        }
    }
}
