//! Notifications: a durable record for one user that something happened.

use serde::{Deserialize, Serialize};

use super::clock::Timestamp;
use super::ids::{ConversationId, MessageId, NotificationId, UserId};
use super::message::{self, Message};

/// Most characters of a notification's body.
pub const BODY_LIMIT: usize = 140;

/// What a notification is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A message from somebody else.
    Message,
}

/// What a client needs to go to the place the notification is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Data {
    /// The conversation.
    pub conversation_id: ConversationId,
    /// The message.
    pub message_id: MessageId,
    /// Who caused it.
    pub sender_id: UserId,
}

/// A notification as the log has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Notification {
    /// Names it for ever; follows from the event and the user, so one event never notifies twice.
    pub id: NotificationId,
    /// Whom it is for.
    pub user_id: UserId,
    /// What it is about.
    pub kind: Kind,
    /// The headline.
    pub title: String,
    /// The start of the text.
    pub body: String,
    /// Where to go.
    pub data: Data,
    /// When it happened.
    pub created_at: Timestamp,
}

/// The notifications that a message means: one for each recipient but its sender. A note of the system means none.
pub fn of_message<'a>(message: &'a Message, recipients: &'a [UserId]) -> impl Iterator<Item = Notification> + 'a {
    told(message, recipients).map(|user| Notification {
        id: NotificationId::derived(&[b"notification", &message.id.bits().to_be_bytes(), &user.bits().to_be_bytes()]),
        user_id: *user,
        kind: Kind::Message,
        title: message.sender_name.clone(),
        body: excerpt(&message.text),
        data: Data { conversation_id: message.conversation_id, message_id: message.id, sender_id: message.sender_id },
        created_at: message.created_at,
    })
}

/// Who is notified of a message.
pub fn told<'a>(message: &'a Message, recipients: &'a [UserId]) -> impl Iterator<Item = &'a UserId> + 'a {
    let quiet = message.kind == message::Kind::System;
    recipients.iter().filter(move |user| !quiet && **user != message.sender_id)
}

/// The first characters of a text, with an ellipsis where it goes on.
#[must_use]
pub fn excerpt(text: &str) -> String {
    match text.char_indices().nth(BODY_LIMIT) {
        None => text.to_owned(),
        Some(_) => text.chars().take(BODY_LIMIT - 1).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_but_the_sender_is_told_once() {
        let user = UserId::from_bits;
        let message = Message {
            id: MessageId::from_bits(9),
            conversation_id: ConversationId::from_bits(1),
            sender_id: user(1),
            sender_name: "Ana".into(),
            kind: message::Kind::Text,
            text: "x".repeat(500),
            reply_to: None,
            mentions: Vec::new(),
            entry: None,
            client_message_id: None,
            created_at: Timestamp::from_millis(0),
        };
        let recipients = [user(1), user(2), user(3)];
        let told: Vec<Notification> = of_message(&message, &recipients).collect();
        assert_eq!(told.iter().map(|one| one.user_id).collect::<Vec<_>>(), [user(2), user(3)]);
        assert_ne!(told[0].id, told[1].id);
        assert_eq!(told[0].body.chars().count(), BODY_LIMIT);
        assert_eq!(told, of_message(&message, &recipients).collect::<Vec<_>>());
    }

    #[test]
    fn an_excerpt_never_splits_a_character() {
        let long = "ů".repeat(BODY_LIMIT + 1);
        assert_eq!(excerpt(&long).chars().count(), BODY_LIMIT);
        assert!(excerpt(&long).ends_with('…'));
        assert_eq!(excerpt("žluťoučký kůň"), "žluťoučký kůň");
    }
}
