//! Messages and where their ids come from.

use serde::{Deserialize, Serialize};

use super::attachment::Attachment;
use super::clock::Timestamp;
use super::conversation::ParticipantRole;
use super::ids::{ConversationId, MessageId, UserId};
use super::words::ClientMessageId;

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Words from a user.
    #[default]
    Text,
    /// What a user has attached, with words or without.
    Attachment,
    /// A note that something happened to the conversation.
    System,
    /// What commerce says happened to the order that the conversation is about.
    Order,
}

impl Kind {
    /// Whether a user has said it, and not the system.
    #[must_use]
    pub const fn is_said(self) -> bool {
        matches!(self, Self::Text | Self::Attachment)
    }
}

/// What a note of kind [`Kind::System`] or [`Kind::Order`] says happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Entry {
    /// The sender brought these users in, or came by themselves.
    Joined {
        /// Who is new.
        users: Vec<UserId>,
    },
    /// The sender left.
    Left {},
    /// The sender removed this user.
    Removed {
        /// Who is gone.
        user: UserId,
    },
    /// It has another name, or none.
    Renamed {
        /// The new one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        title: Option<String>,
    },
    /// Somebody is something else in it.
    RoleChanged {
        /// Who.
        user: UserId,
        /// What.
        role: ParticipantRole,
    },
    /// Nothing more is said in it.
    Closed {},
    /// It goes on.
    Reopened {},
    /// The order has come on.
    #[serde(rename_all = "camelCase")]
    Order {
        /// Which order.
        order_id: String,
        /// How far.
        status: String,
        /// Where to see where it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tracking_url: Option<String>,
    },
}

/// The message that another one answers, as it was then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Quote {
    /// Its id.
    pub id: MessageId,
    /// Its place in the log.
    pub seq: u64,
    /// Who sent it.
    pub sender_id: UserId,
    /// Their name.
    pub sender_name: String,
    /// The start of its text.
    pub text: String,
}

/// A message as the log has it; its place in the log comes with the delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// Names it for ever.
    pub id: MessageId,
    /// Where it was said.
    pub conversation_id: ConversationId,
    /// Who said it.
    pub sender_id: UserId,
    /// Their name when they said it.
    pub sender_name: String,
    /// What it is.
    pub kind: Kind,
    /// The text.
    pub text: String,
    /// What it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<Quote>,
    /// Participants it names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<UserId>,
    /// What is attached, as it was known then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
    /// What happened, if it is a note of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<Entry>,
    /// The sender's own id for this send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_message_id: Option<String>,
    /// When the server took it.
    pub created_at: Timestamp,
}

impl Message {
    /// What it comes to in few words: its own, or what the first attachment is called.
    #[must_use]
    pub fn gist(&self) -> &str {
        match self.attachments.first() {
            Some(first) if self.text.is_empty() => &first.name,
            _ => &self.text,
        }
    }
}

/// The id of a send that carries the client's own id: a resend is the same message for ever.
#[must_use]
pub fn id_of(conversation: ConversationId, sender: UserId, client: &ClientMessageId) -> MessageId {
    MessageId::derived(&[
        b"message",
        &conversation.bits().to_be_bytes(),
        &sender.bits().to_be_bytes(),
        client.as_str().as_bytes(),
    ])
}
