//! Messages and where their ids come from.

use serde::{Deserialize, Serialize};

use super::clock::Timestamp;
use super::ids::{ConversationId, MessageId, UserId};
use super::words::ClientMessageId;

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Words from a user.
    #[default]
    Text,
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
    /// The sender's own id for this send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_message_id: Option<String>,
    /// When the server took it.
    pub created_at: Timestamp,
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
