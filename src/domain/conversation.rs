//! Conversations: who is in one, what it is about, and the id that follows from both.

use serde::{Deserialize, Serialize};

use super::clock::Timestamp;
use super::ids::{ConversationId, MessageId, UserId};
use super::message::Message;
use super::notification::excerpt;
use super::user::Role;
use crate::error::{Code, Error, Result};

/// Most users of one conversation: an event lists them all.
pub const PARTICIPANT_LIMIT: usize = 100;

/// What kind of place it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Two users, once per context; who is in it never changes.
    Direct,
    /// More than two.
    Group,
}

/// What a conversation is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Context {
    /// The sort of thing.
    #[serde(rename = "type")]
    pub kind: ContextKind,
    /// The shop's own id of it.
    pub id: String,
    /// Its name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Its page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Its picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_url: Option<String>,
}

/// The sorts of things a conversation can be about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContextKind {
    /// An order.
    Order,
    /// A product.
    Product,
    /// A store.
    Store,
}

impl ContextKind {
    /// The word, as on the wire.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Product => "product",
            Self::Store => "store",
        }
    }
}

impl Context {
    /// Refuses what would not fit a screen or is no link: ids of at most 128 characters, titles of 200, http(s) links of 2,000.
    pub fn check(&self) -> Result<()> {
        let invalid = |what| Err(Error::invalid("malformed_context", what));
        if self.id.is_empty() || self.id.chars().count() > 128 || self.id.chars().any(char::is_control) {
            return invalid("context.id must have 1 to 128 characters and no control characters");
        }
        if self.title.as_ref().is_some_and(|title| title.chars().count() > 200 || title.chars().any(char::is_control)) {
            return invalid("context.title must have at most 200 characters and no control characters");
        }
        for link in [&self.url, &self.image_url].into_iter().flatten() {
            let web = link.starts_with("https://") || link.starts_with("http://");
            if !web || link.len() > 2_000 || link.chars().any(|c| c.is_control() || c.is_whitespace()) {
                return invalid("context links must be http or https URLs of at most 2,000 bytes");
            }
        }
        Ok(())
    }
}

/// A user in a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Participant {
    /// Who.
    pub user_id: UserId,
    /// As what.
    pub role: Role,
}

/// A place messages are in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Conversation {
    /// Names it for ever.
    pub id: ConversationId,
    /// What kind of place it is.
    pub kind: Kind,
    /// Who is in it, sorted by user id.
    pub participants: Vec<Participant>,
    /// What it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Context>,
    /// Who opened it.
    pub created_by: UserId,
    /// When.
    pub created_at: Timestamp,
}

impl Conversation {
    /// Whether this user is in it.
    #[must_use]
    pub fn has(&self, user: UserId) -> bool {
        self.participants.iter().any(|participant| participant.user_id == user)
    }

    /// Every user in it.
    pub fn users(&self) -> impl Iterator<Item = UserId> + '_ {
        self.participants.iter().map(|participant| participant.user_id)
    }

    /// Refuses anybody who is not in it. It does not tell whether the conversation exists.
    pub fn require(&self, user: UserId) -> Result<()> {
        if self.has(user) { Ok(()) } else { Err(foreign()) }
    }
}

/// The answer to anybody who is not in a conversation, whether it exists or not.
#[must_use]
pub fn foreign() -> Error {
    Error::new(Code::Forbidden, "not_a_participant", "you are not a participant of this conversation")
}

/// The set of users a new conversation would have: the caller and the others, sorted, each once.
pub fn participants_of(caller: UserId, others: &[UserId]) -> Result<Vec<UserId>> {
    let mut users = others.to_vec();
    users.push(caller);
    users.sort_unstable();
    users.dedup();
    if users.len() < 2 {
        return Err(Error::invalid("no_other_participant", "a conversation needs at least one other participant"));
    }
    if users.len() > PARTICIPANT_LIMIT {
        return Err(Error::new(Code::TooLarge, "too_many_participants", "a conversation has at most 100 participants"));
    }
    Ok(users)
}

/// The id of the one conversation of exactly these users about this context: opening it twice is opening it once.
#[must_use]
pub fn id_of(sorted: &[UserId], context: Option<&Context>) -> ConversationId {
    let users: Vec<[u8; 16]> = sorted.iter().map(|user| user.bits().to_be_bytes()).collect();
    let mut parts: Vec<&[u8]> = vec![b"conversation"];
    parts.extend(users.iter().map(<[u8; 16]>::as_slice));
    if let Some(context) = context {
        parts.push(context.kind.word().as_bytes());
        parts.push(context.id.as_bytes());
    }
    ConversationId::derived(&parts)
}

/// The newest message of a conversation, for lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastMessage {
    /// Its id.
    pub id: MessageId,
    /// Its place in the log.
    pub seq: u64,
    /// Who sent it.
    pub sender_id: UserId,
    /// The start of its text.
    pub excerpt: String,
    /// When it was sent.
    pub created_at: Timestamp,
}

impl LastMessage {
    /// A message at its place in the log, as lists show it.
    #[must_use]
    pub fn of(seq: u64, message: &Message) -> Self {
        Self {
            id: message.id,
            seq,
            sender_id: message.sender_id,
            excerpt: excerpt(&message.text),
            created_at: message.created_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(bits: u128) -> UserId {
        UserId::from_bits(bits)
    }

    fn order(id: &str) -> Context {
        Context { kind: ContextKind::Order, id: id.into(), title: None, url: None, image_url: None }
    }

    #[test]
    fn the_same_users_and_context_are_one_conversation() {
        let ours = participants_of(user(2), &[user(1), user(1)]).expect("two users");
        let theirs = participants_of(user(1), &[user(2)]).expect("two users");
        assert_eq!(id_of(&ours, None), id_of(&theirs, None));
        assert_eq!(id_of(&ours, Some(&order("7"))), id_of(&theirs, Some(&order("7"))));
        assert_ne!(id_of(&ours, None), id_of(&ours, Some(&order("7"))));
        assert_ne!(id_of(&ours, Some(&order("7"))), id_of(&ours, Some(&order("8"))));
    }

    #[test]
    fn nobody_talks_alone_or_in_a_crowd() {
        let reason = |others: &[UserId]| participants_of(user(1), others).err().map(|error| error.reason());
        assert_eq!(reason(&[]), Some("no_other_participant"));
        assert_eq!(reason(&[user(1)]), Some("no_other_participant"));
        let crowd: Vec<UserId> = (2..=101).map(user).collect();
        assert_eq!(reason(&crowd), Some("too_many_participants"));
        assert_eq!(reason(&crowd[..99]), None);
    }

    #[test]
    fn links_must_be_web_links() {
        let mut context = order("7");
        context.url = Some("javascript:alert(1)".into());
        assert!(context.check().is_err());
        context.url = Some("https://shop.test/orders/7".into());
        assert!(context.check().is_ok());
    }
}
