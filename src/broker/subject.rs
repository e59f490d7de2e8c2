//! Subjects: where an event goes, made and read in one place. No user text ever becomes a part of one.

use std::fmt;
use std::str::FromStr;

use super::topology::Durable;
use crate::domain::attachment::Progress;
use crate::domain::event::Body;
use crate::domain::ids::{ConversationId, UserId};
use crate::error::Error;

/// Kinds of events about a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChatKind {
    /// The conversation itself.
    Conversation,
    /// A message.
    Message,
    /// A message has other words.
    Edit,
    /// A message is gone.
    Delete,
    /// An emoji on a message.
    Reaction,
    /// A message that is pinned.
    Pin,
    /// More is known of an attachment of a message.
    Attachment,
    /// A receipt.
    Receipt,
    /// What the conversation is to one of its participants.
    Setting,
}

/// Kinds of events for one user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InboxKind {
    /// A notification.
    Notification,
    /// What the user has done to their notifications.
    NotificationState,
    /// The user's preferences.
    Preferences,
    /// What the user has uploaded, as long as it belongs to no message.
    Attachment,
}

/// Signals that are never stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiveKind {
    /// Somebody types, or stopped.
    Typing,
}

/// What a dead letter was made from. A stream made anew gives its places again, but at other times: so this names one delivery
/// for ever, and there is one letter of it however often it is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Original {
    /// Its place in its stream.
    pub seq: u64,
    /// When the stream took it, in nanoseconds since 1970.
    pub nanos: u64,
}

/// Every subject there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// `chat.<conversation>.<kind>`, stored in EVENTS.
    Chat(ConversationId, ChatKind),
    /// `inbox.<user>.<kind>`, stored in EVENTS.
    Inbox(UserId, InboxKind),
    /// `dead.<consumer>.<place>-<time>`, stored in DEAD.
    Dead(Durable, Original),
    /// `live.<kind>.<conversation>`, never stored.
    Live(LiveKind, ConversationId),
}

/// Everything the event log takes in.
pub const EVENTS: [&str; 2] = ["chat.*.*", "inbox.*.*"];
/// Everything that other services may publish: also what is wrong, so that somebody hears of it.
pub const ORDERS: &str = "orders.>";
/// Everything the dead-letter stream takes in.
pub const DEAD: &str = "dead.>";
/// Every message of every conversation.
pub const MESSAGES: &str = "chat.*.message";
/// Everything that is uploaded.
pub const UPLOADS: &str = "inbox.*.attachment";
/// Every typing signal.
pub const TYPING: &str = "live.typing.*";

/// Every dead letter of one consumer, those first that were made when all of them had one subject.
#[must_use]
pub fn letters_of(durable: Durable) -> [String; 2] {
    [format!("dead.{}", durable.name()), format!("dead.{}.*", durable.name())]
}

/// Every event about one conversation.
#[must_use]
pub fn of_conversation(id: ConversationId) -> String {
    format!("chat.{id}.*")
}

impl Subject {
    /// Where an event goes.
    #[must_use]
    pub fn of(body: &Body) -> Self {
        match body {
            Body::Conversation(conversation) => Self::Chat(conversation.id, ChatKind::Conversation),
            Body::Message(message) => Self::Chat(message.conversation_id, ChatKind::Message),
            Body::Edit(edit) => Self::Chat(edit.conversation_id, ChatKind::Edit),
            Body::Deletion(deletion) => Self::Chat(deletion.conversation_id, ChatKind::Delete),
            Body::Reaction(reaction) => Self::Chat(reaction.conversation_id, ChatKind::Reaction),
            Body::Pin(pin) => Self::Chat(pin.conversation_id, ChatKind::Pin),
            Body::Attachment(Progress { place: Some(place), .. }) => {
                Self::Chat(place.conversation_id, ChatKind::Attachment)
            }
            Body::Attachment(progress) => Self::Inbox(progress.owner_id, InboxKind::Attachment),
            Body::Receipt(receipt) => Self::Chat(receipt.conversation_id, ChatKind::Receipt),
            Body::Setting(setting) => Self::Chat(setting.conversation_id, ChatKind::Setting),
            Body::Notification(notification) => Self::Inbox(notification.user_id, InboxKind::Notification),
            Body::NotificationState(state) => Self::Inbox(state.user_id, InboxKind::NotificationState),
            Body::Preferences(preferences) => Self::Inbox(preferences.user_id, InboxKind::Preferences),
        }
    }
}

/// Many subjects of the log at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// Everything about a conversation.
    Conversation(ConversationId),
    /// How far participants of a conversation have come.
    Receipts(ConversationId),
    /// Everything for one user alone.
    Inbox(UserId),
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conversation(conversation) => write!(f, "chat.{conversation}.*"),
            Self::Receipts(conversation) => write!(f, "chat.{conversation}.{}", ChatKind::Receipt.word()),
            Self::Inbox(user) => write!(f, "inbox.{user}.*"),
        }
    }
}

impl ChatKind {
    /// Every one of them.
    const ALL: [Self; 9] = [
        Self::Conversation,
        Self::Message,
        Self::Edit,
        Self::Delete,
        Self::Reaction,
        Self::Pin,
        Self::Attachment,
        Self::Receipt,
        Self::Setting,
    ];

    const fn word(self) -> &'static str {
        match self {
            Self::Conversation => "conversation",
            Self::Message => "message",
            Self::Edit => "edit",
            Self::Delete => "delete",
            Self::Reaction => "reaction",
            Self::Pin => "pin",
            Self::Attachment => "attachment",
            Self::Receipt => "receipt",
            Self::Setting => "setting",
        }
    }
}

impl InboxKind {
    /// Every one of them.
    const ALL: [Self; 4] = [Self::Notification, Self::NotificationState, Self::Preferences, Self::Attachment];

    const fn word(self) -> &'static str {
        match self {
            Self::Notification => "notification",
            Self::NotificationState => "notification_state",
            Self::Preferences => "preferences",
            Self::Attachment => "attachment",
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chat(conversation, kind) => write!(f, "chat.{conversation}.{}", kind.word()),
            Self::Inbox(user, kind) => write!(f, "inbox.{user}.{}", kind.word()),
            Self::Dead(durable, of) => write!(f, "dead.{}.{}-{}", durable.name(), of.seq, of.nanos),
            Self::Live(LiveKind::Typing, conversation) => write!(f, "live.typing.{conversation}"),
        }
    }
}

impl FromStr for Subject {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let unknown = || Error::invalid("unknown_subject", "this is no subject of ours");
        let mut tokens = text.split('.');
        let mut token = || tokens.next();
        let subject = match (token().ok_or_else(unknown)?, token(), token()) {
            ("chat", Some(conversation), Some(kind)) => {
                let kind = ChatKind::ALL.into_iter().find(|known| known.word() == kind).ok_or_else(unknown)?;
                Self::Chat(conversation.parse()?, kind)
            }
            ("inbox", Some(user), Some(kind)) => {
                let kind = InboxKind::ALL.into_iter().find(|known| known.word() == kind).ok_or_else(unknown)?;
                Self::Inbox(user.parse()?, kind)
            }
            ("dead", Some(consumer), Some(original)) => {
                let durable = Durable::ALL.into_iter().find(|known| known.name() == consumer).ok_or_else(unknown)?;
                let (seq, nanos) = original.split_once('-').ok_or_else(unknown)?;
                let number = |text: &str| text.parse().map_err(|_| unknown());
                Self::Dead(durable, Original { seq: number(seq)?, nanos: number(nanos)? })
            }
            ("live", Some("typing"), Some(conversation)) => Self::Live(LiveKind::Typing, conversation.parse()?),
            _ => return Err(unknown()),
        };
        if token().is_some() { Err(unknown()) } else { Ok(subject) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subject_is_read_back_as_written() {
        let conversation = ConversationId::from_bits(7);
        let user = UserId::from_bits(8);
        let chat = ChatKind::ALL.map(|kind| Subject::Chat(conversation, kind));
        let inbox = InboxKind::ALL.map(|kind| Subject::Inbox(user, kind));
        let dead =
            Durable::ALL.map(|durable| Subject::Dead(durable, Original { seq: 7, nanos: 1_795_000_000_123_456_789 }));
        let live = [Subject::Live(LiveKind::Typing, conversation)];
        let all = chat.into_iter().chain(inbox).chain(dead).chain(live);
        for subject in all {
            assert_eq!(subject.to_string().parse::<Subject>().ok(), Some(subject));
        }
        for bad in [
            "",
            "chat",
            "chat.x.message",
            "chat.*.message",
            "inbox",
            "dead.other.1-2",
            "dead.orders.1",
            "live.typing.x.y",
        ] {
            assert!(bad.parse::<Subject>().is_err(), "{bad}");
        }
    }
}
