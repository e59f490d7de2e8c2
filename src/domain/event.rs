//! Events: what happened, as the log keeps it.
//!
//! An event is an envelope around one of a few bodies. It names everybody it concerns, so that live push and
//! notifications need no look-up. The bytes in the log are its JSON; the place in the log (`seq`) and the trace context
//! travel beside it, not in it.

use serde::{Deserialize, Serialize};

use super::attachment::Progress;
use super::change::{Deletion, Edit, Pin, Reaction, Scope};
use super::clock::Timestamp;
use super::conversation::Conversation;
use super::ids::{ConversationId, EventId, MessageId, UserId};
use super::inbox::NotificationState;
use super::message::Message;
use super::notification::Notification;
use super::preferences::Preferences;
use super::receipt::Receipt;
use super::setting::Setting;

/// The version of the envelope that this code writes.
pub const VERSION: u32 = 1;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
pub enum Body {
    /// A conversation was opened or changed; its whole state follows.
    Conversation(Conversation),
    /// Somebody said something.
    Message(Message),
    /// A message has other words.
    Edit(Edit),
    /// A message is gone.
    #[serde(rename = "delete")]
    Deletion(Deletion),
    /// An emoji was put on a message, or taken back.
    Reaction(Reaction),
    /// A message was pinned, or taken down.
    Pin(Pin),
    /// More is known of an attachment.
    Attachment(Progress),
    /// Somebody has got messages, or has read on.
    Receipt(Receipt),
    /// A conversation is something else to one of its participants.
    Setting(Setting),
    /// Somebody is to be told something.
    Notification(Notification),
    /// Somebody has done something to their notifications.
    NotificationState(NotificationState),
    /// Somebody wants to be seen in another way; all their preferences follow.
    Preferences(Preferences),
}

/// An envelope and its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Names the event.
    pub id: EventId,
    /// The version of the envelope.
    pub version: u32,
    /// Who caused it.
    pub actor: UserId,
    /// When.
    pub occurred_at: Timestamp,
    /// Everybody it concerns, at that moment.
    pub recipients: Vec<UserId>,
    /// What happened.
    #[serde(flatten)]
    pub body: Body,
}

/// An event with its place in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The stream sequence.
    pub seq: u64,
    /// The event.
    pub event: Event,
}

impl Body {
    /// The conversation this is about, if it is about one.
    #[must_use]
    pub const fn conversation(&self) -> Option<ConversationId> {
        match self {
            Self::Conversation(conversation) => Some(conversation.id),
            Self::Message(message) => Some(message.conversation_id),
            Self::Edit(edit) => Some(edit.conversation_id),
            Self::Deletion(deletion) => Some(deletion.conversation_id),
            Self::Reaction(reaction) => Some(reaction.conversation_id),
            Self::Pin(pin) => Some(pin.conversation_id),
            Self::Attachment(Progress { place: Some(place), .. }) => Some(place.conversation_id),
            Self::Receipt(receipt) => Some(receipt.conversation_id),
            Self::Setting(setting) => Some(setting.conversation_id),
            Self::Attachment(_) | Self::Notification(_) | Self::NotificationState(_) | Self::Preferences(_) => None,
        }
    }

    /// The message that this changes, if it changes one.
    #[must_use]
    pub const fn changed_message(&self) -> Option<MessageId> {
        match self {
            Self::Edit(edit) => Some(edit.message_id),
            Self::Deletion(deletion) => Some(deletion.message_id),
            Self::Reaction(reaction) => Some(reaction.message_id),
            Self::Pin(pin) => Some(pin.message_id),
            Self::Attachment(Progress { place: Some(place), .. }) => Some(place.message_id),
            Self::Attachment(_)
            | Self::Conversation(_)
            | Self::Message(_)
            | Self::Receipt(_)
            | Self::Setting(_)
            | Self::Notification(_)
            | Self::NotificationState(_)
            | Self::Preferences(_) => None,
        }
    }

    /// What the broker recognises a repeated publish by. It follows from what happened, not from the attempt; of what can
    /// be done and undone, every time counts.
    #[must_use]
    pub fn dedup_id(&self, event: EventId) -> String {
        match self {
            Self::Message(message) => message.id.to_string(),
            Self::Deletion(deletion) => match deletion.scope {
                Scope::Everybody => format!("del:{}", deletion.message_id),
                Scope::Me => format!("del:{}:{}", deletion.message_id, deletion.deleted_by),
            },
            Self::Receipt(receipt) => {
                let Receipt { conversation_id, user_id, read_seq, delivered_seq, hidden } = receipt;
                let hidden = if *hidden { ":hidden" } else { "" };
                format!("rcp:{conversation_id}:{user_id}:{read_seq}:{delivered_seq}{hidden}")
            }
            Self::Attachment(progress) if progress.attachment.content.is_settled() => progress.name(),
            Self::Notification(notification) => notification.id.to_string(),
            // Somebody has to find something out, and may be reminded of it.
            Self::Attachment(_)
            | Self::Conversation(_)
            | Self::Edit(_)
            | Self::Reaction(_)
            | Self::Pin(_)
            | Self::Setting(_)
            | Self::NotificationState(_)
            | Self::Preferences(_) => event.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::MessageId;
    use crate::domain::message::Kind;

    #[test]
    fn the_shape_in_the_log_is_fixed() {
        let event = Event {
            id: EventId::from_bits(1),
            version: VERSION,
            actor: UserId::from_bits(2),
            occurred_at: Timestamp::from_millis(1_732_000_000_123),
            recipients: vec![UserId::from_bits(2), UserId::from_bits(3)],
            body: Body::Message(Message {
                id: MessageId::from_bits(4),
                conversation_id: ConversationId::from_bits(5),
                sender_id: UserId::from_bits(2),
                sender_name: "Ana".into(),
                kind: Kind::Text,
                text: "hello".into(),
                reply_to: None,
                mentions: Vec::new(),
                attachments: Vec::new(),
                entry: None,
                client_message_id: None,
                created_at: Timestamp::from_millis(1_732_000_000_123),
            }),
        };
        let json = serde_json::to_value(&event).expect("an event is JSON");
        assert_eq!(
            json,
            serde_json::json!({
                "id": "evt_00000000000000000000000001",
                "version": 1,
                "type": "message",
                "actor": "usr_00000000000000000000000002",
                "occurredAt": "2024-11-19T07:06:40.123Z",
                "recipients": ["usr_00000000000000000000000002", "usr_00000000000000000000000003"],
                "data": {
                    "id": "msg_00000000000000000000000004",
                    "conversationId": "cnv_00000000000000000000000005",
                    "senderId": "usr_00000000000000000000000002",
                    "senderName": "Ana",
                    "kind": "text",
                    "text": "hello",
                    "createdAt": "2024-11-19T07:06:40.123Z",
                },
            })
        );
        assert_eq!(serde_json::from_value::<Event>(json).expect("and back"), event);
    }
}
