//! Shapes that several resources share.

use poem_openapi::Object;

use crate::domain::message;

/// A message.
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
    /// What it is: `text`.
    kind: String,
    /// The text.
    text: String,
    /// The sender's own id for this send.
    client_message_id: Option<String>,
    /// When the server took it (RFC 3339, UTC).
    created_at: String,
}

impl MessageBody {
    pub(super) fn new(seq: u64, message: message::Message) -> Self {
        Self {
            id: message.id.to_string(),
            seq,
            conversation_id: message.conversation_id.to_string(),
            sender_id: message.sender_id.to_string(),
            sender_name: message.sender_name,
            kind: match message.kind {
                message::Kind::Text => "text".into(),
            },
            text: message.text,
            client_message_id: message.client_message_id,
            created_at: message.created_at.to_string(),
        }
    }
}
