//! Notifications: a durable record for one user that something happened.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::clock::Timestamp;
use super::conversation;
use super::decision::{Decisions, Matter, Outcome};
use super::ids::{ConversationId, MessageId, NotificationId, UserId};
use super::message::{self, Entry, Message};
use crate::error::Error;

/// Most characters of a notification's body.
pub const BODY_LIMIT: usize = 140;

/// What a notification is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A message from somebody else.
    Message,
    /// A message that names its user.
    Mention,
    /// An order of its user has come on.
    Order,
    /// What its user is in, or may do, has changed.
    System,
    /// A message in a support conversation.
    Support,
}

impl Kind {
    /// Every one of them.
    pub const ALL: [Self; 5] = [Self::Message, Self::Mention, Self::Order, Self::System, Self::Support];

    /// The word, as on the wire.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Mention => "mention",
            Self::Order => "order",
            Self::System => "system",
            Self::Support => "support",
        }
    }

    /// Whether nobody can turn it off.
    #[must_use]
    pub const fn is_critical(self) -> bool {
        matches!(self, Self::System)
    }

    /// Whether it follows from a message in the log.
    #[must_use]
    pub const fn is_of_message(self) -> bool {
        matches!(self, Self::Message | Self::Mention | Self::Support)
    }

    /// Whether all those of a conversation are one entry of the inbox.
    #[must_use]
    pub const fn collapses(self) -> bool {
        matches!(self, Self::Message | Self::Support)
    }
}

impl FromStr for Kind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|kind| kind.word() == text).ok_or_else(|| {
            Error::invalid("unknown_notification_kind", "kind must be message, mention, order, system or support")
        })
    }
}

/// What a client needs to go to the place the notification is about.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Data {
    /// The conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<ConversationId>,
    /// The message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<MessageId>,
    /// Its place in the log: whoever has read the conversation that far has read this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_seq: Option<u64>,
    /// Who caused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender_id: Option<UserId>,
    /// The order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_id: Option<String>,
    /// What happened to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
}

/// A notification as the log has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Notification {
    /// Names it for ever; follows from the event and the user, so one event never notifies twice.
    pub id: NotificationId,
    /// Whom it is for.
    pub user_id: UserId,
    /// Which entry of the inbox it is, or belongs to.
    pub entry_id: NotificationId,
    /// What it is about.
    pub kind: Kind,
    /// The headline.
    pub title: String,
    /// The start of the text.
    pub body: String,
    /// Where to go.
    pub data: Data,
    /// Whether its user is told, and by which rule.
    #[serde(default)]
    pub decision: Decisions,
    /// When it happened.
    pub created_at: Timestamp,
}

impl Notification {
    /// Whether its user is told of it at all.
    #[must_use]
    pub fn is_told(&self) -> bool {
        self.decision.inbox.outcome != Outcome::Held
    }

    /// What the decision is about.
    #[must_use]
    pub const fn matter(&self) -> Matter {
        Matter { kind: self.kind, message_seq: self.data.message_seq }
    }
}

/// The id of the notification that this event means for this user.
#[must_use]
pub fn id_of(event: u128, user: UserId) -> NotificationId {
    NotificationId::derived(&[b"notification", &event.to_be_bytes(), &user.bits().to_be_bytes()])
}

/// The entry of a user's inbox that all messages of a conversation are.
#[must_use]
pub fn entry_of(conversation: ConversationId, user: UserId) -> NotificationId {
    NotificationId::derived(&[b"inbox", &conversation.bits().to_be_bytes(), &user.bits().to_be_bytes()])
}

/// The notifications that a message means, undecided: one for each recipient but its sender, or for each whom a note of the
/// system names.
pub fn of_message<'a>(
    seq: u64,
    message: &'a Message,
    within: conversation::Kind,
    recipients: &'a [UserId],
) -> impl Iterator<Item = Notification> + 'a {
    told(message, recipients).map(move |user| {
        let id = id_of(message.id.bits(), user);
        let kind = match message.kind {
            message::Kind::System => Kind::System,
            _ if message.mentions.contains(&user) => Kind::Mention,
            _ if within == conversation::Kind::Support => Kind::Support,
            _ => Kind::Message,
        };
        let note = note(message);
        // Whoever was removed cannot see the note, and so never reads it there.
        let sees = !matches!(message.entry, Some(Entry::Removed { .. }));
        Notification {
            id,
            user_id: user,
            entry_id: if kind.collapses() { entry_of(message.conversation_id, user) } else { id },
            kind,
            title: message.sender_name.clone(),
            body: note.map_or_else(|| excerpt(message.gist()), str::to_owned),
            data: Data {
                conversation_id: Some(message.conversation_id),
                message_id: note.is_none().then_some(message.id),
                message_seq: sees.then_some(seq),
                sender_id: Some(message.sender_id),
                ..Data::default()
            },
            decision: Decisions::default(),
            created_at: message.created_at,
        }
    })
}

/// Who is notified of a message. Nobody of what commerce says happened to an order: that is told by itself.
pub fn told<'a>(message: &'a Message, recipients: &'a [UserId]) -> impl Iterator<Item = UserId> + 'a {
    let named: &[UserId] = match (message.kind, &message.entry) {
        (message::Kind::Text | message::Kind::Attachment, _) => recipients,
        (message::Kind::System, Some(Entry::Joined { users })) => users,
        (message::Kind::System, Some(Entry::Removed { user } | Entry::RoleChanged { user, .. })) => {
            std::slice::from_ref(user)
        }
        (message::Kind::System | message::Kind::Order, _) => &[],
    };
    named.iter().copied().filter(|user| *user != message.sender_id)
}

/// What a note of the system is to whom it names.
fn note(message: &Message) -> Option<&'static str> {
    match message.entry.as_ref()? {
        Entry::Joined { .. } => Some("added you to a conversation"),
        Entry::Removed { .. } => Some("removed you from a conversation"),
        Entry::RoleChanged { .. } => Some("changed your role in a conversation"),
        _ => None,
    }
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

    const HERE: ConversationId = ConversationId::from_bits(1);

    fn user(bits: u128) -> UserId {
        UserId::from_bits(bits)
    }

    fn message(kind: message::Kind, entry: Option<Entry>) -> Message {
        Message {
            id: MessageId::from_bits(9),
            conversation_id: HERE,
            sender_id: user(1),
            sender_name: "Ana".into(),
            kind,
            text: "x".repeat(500),
            reply_to: None,
            mentions: vec![user(3)],
            attachments: Vec::new(),
            entry,
            client_message_id: None,
            created_at: Timestamp::from_millis(0),
        }
    }

    fn means(message: &Message, within: conversation::Kind) -> Vec<Notification> {
        of_message(7, message, within, &[user(1), user(2), user(3)]).collect()
    }

    #[test]
    fn everybody_but_the_sender_is_told_once() {
        let said = message(message::Kind::Text, None);
        let told = means(&said, conversation::Kind::Group);
        let shape: Vec<_> = told.iter().map(|one| (one.user_id, one.kind, one.entry_id)).collect();
        let (message, mention) = (Kind::Message, Kind::Mention);
        assert_eq!(shape, [(user(2), message, entry_of(HERE, user(2))), (user(3), mention, told[1].id)]);
        assert_ne!(told[0].id, told[1].id);
        assert_eq!((told[0].body.chars().count(), told[0].data.message_seq), (BODY_LIMIT, Some(7)));
        assert_eq!(told, means(&said, conversation::Kind::Group));
        assert_eq!(means(&said, conversation::Kind::Support)[0].kind, Kind::Support);
    }

    #[test]
    fn a_note_is_told_to_whom_it_names() {
        let told = |kind, entry| -> Vec<UserId> {
            means(&message(kind, Some(entry)), conversation::Kind::Group).iter().map(|one| one.user_id).collect()
        };
        let system = message::Kind::System;
        assert_eq!(told(system, Entry::Joined { users: vec![user(1), user(5)] }), [user(5)]);
        assert_eq!(told(system, Entry::Removed { user: user(6) }), [user(6)]);
        assert_eq!(told(system, Entry::Left {}), []);
        assert_eq!(told(system, Entry::Closed {}), []);
        let removed = message(system, Some(Entry::Removed { user: user(6) }));
        let removed = &means(&removed, conversation::Kind::Group)[0];
        assert_eq!((removed.kind, removed.data.message_id, removed.data.message_seq), (Kind::System, None, None));
        let joined = message(system, Some(Entry::Joined { users: vec![user(5)] }));
        let joined = &means(&joined, conversation::Kind::Group)[0];
        assert_eq!((joined.data.message_id, joined.data.message_seq), (None, Some(7)), "read with the conversation");
    }

    #[test]
    fn an_excerpt_never_splits_a_character() {
        let long = "ů".repeat(BODY_LIMIT + 1);
        assert_eq!(excerpt(&long).chars().count(), BODY_LIMIT);
        assert!(excerpt(&long).ends_with('…'));
        assert_eq!(excerpt("žluťoučký kůň"), "žluťoučký kůň");
    }
}
