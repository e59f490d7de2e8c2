//! Conversations: who is in one, what it is about, and the id that follows from both.

use serde::{Deserialize, Serialize};

use super::clock::Timestamp;
use super::context::Context;
use super::ids::{ConversationId, MessageId, UserId};
use super::user::Role;
use crate::error::{Code, Error, Result};

/// Most users of one conversation: an event lists them all.
pub const PARTICIPANT_LIMIT: usize = 100;

/// What kind of place it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Two users, once per context, and the agents they have called in.
    Direct,
    /// Any number, with somebody who runs it.
    Group,
    /// Somebody and the shop's agents.
    Support,
}

impl Kind {
    /// Every one of them.
    pub const ALL: [Self; 3] = [Self::Direct, Self::Group, Self::Support];

    /// The word, as on the wire.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Group => "group",
            Self::Support => "support",
        }
    }
}

impl std::str::FromStr for Kind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|kind| kind.word() == text);
        found.ok_or_else(|| Error::invalid("unknown_kind", "kind must be direct, group or support"))
    }
}

/// What somebody is in a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ParticipantRole {
    /// Buys.
    Buyer,
    /// Sells.
    Seller,
    /// Answers for the shop.
    #[serde(alias = "admin")]
    Agent,
    /// Runs a group.
    Owner,
}

impl ParticipantRole {
    /// Every one of them.
    pub const ALL: [Self; 4] = [Self::Buyer, Self::Seller, Self::Agent, Self::Owner];

    /// The word, as on the wire.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Buyer => "buyer",
            Self::Seller => "seller",
            Self::Agent => "agent",
            Self::Owner => "owner",
        }
    }
}

impl std::str::FromStr for ParticipantRole {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|role| role.word() == text);
        found.ok_or_else(|| Error::invalid("unknown_role", "role must be buyer, seller, agent or owner"))
    }
}

impl From<Role> for ParticipantRole {
    fn from(role: Role) -> Self {
        match role {
            Role::Buyer => Self::Buyer,
            Role::Seller => Self::Seller,
            Role::Agent | Role::Admin => Self::Agent,
        }
    }
}

/// A user in a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Participant {
    /// Who.
    pub user_id: UserId,
    /// As what.
    pub role: ParticipantRole,
    /// Since when.
    #[serde(default = "Timestamp::zero")]
    pub joined_at: Timestamp,
    /// Messages up to this seq do not exist for them; zero if they see everything.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub visible_from: u64,
}

/// For fields that are left out when they say nothing.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
pub(super) const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A place messages are in: its whole state, as every change of it is written to the log.
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
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Who opened it.
    pub created_by: UserId,
    /// When.
    pub created_at: Timestamp,
    /// Since when nothing more is said in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<Timestamp>,
    /// Whom the change that led to this state removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<UserId>,
}

impl Conversation {
    /// Whether this user is in it.
    #[must_use]
    pub fn has(&self, user: UserId) -> bool {
        self.participants.iter().any(|participant| participant.user_id == user)
    }

    /// A user in it.
    #[must_use]
    pub fn participant(&self, user: UserId) -> Option<&Participant> {
        self.participants.iter().find(|participant| participant.user_id == user)
    }

    /// Every user for whom the message at this place exists; a later place is everybody's.
    pub fn audience(&self, seq: u64) -> impl Iterator<Item = UserId> + '_ {
        let sees = move |participant: &&Participant| participant.visible_from < seq;
        self.participants.iter().filter(sees).map(|participant| participant.user_id)
    }

    /// Every user in it.
    pub fn users(&self) -> impl Iterator<Item = UserId> + '_ {
        self.participants.iter().map(|participant| participant.user_id)
    }

    /// The other one of two who talk with each other: those whose direct conversation it is, or who are alone in a group.
    /// Nobody for the agents whom the two have called in.
    #[must_use]
    pub fn counterpart(&self, user: UserId) -> Option<UserId> {
        let mut others = self.users().filter(|other| *other != user);
        match self.kind {
            Kind::Support => None,
            // The two stay for ever: where nobody else is, it is them.
            _ if self.participants.len() == 2 => others.next(),
            Kind::Direct => others.find(|other| self.is_of(user, *other)),
            Kind::Group => None,
        }
    }

    /// Whether its id follows from these two.
    fn is_of(&self, one: UserId, other: UserId) -> bool {
        id_of(&[one.min(other), one.max(other)], self.context.as_ref()) == self.id
    }

    /// Whether it would not be what it is without this user: one of the two of a direct conversation, whose id follows from
    /// both, and the customer of a support one.
    #[must_use]
    pub fn is_bound(&self, user: UserId) -> bool {
        match self.kind {
            Kind::Direct => self.users().any(|other| other != user && self.is_of(user, other)),
            Kind::Support => user == self.created_by,
            Kind::Group => false,
        }
    }

    /// Whether a message of this user opens it again if it is closed.
    #[must_use]
    pub fn reopens_for(&self, user: UserId) -> bool {
        self.kind == Kind::Support && user == self.created_by
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

/// The answer to whoever would make it more users than a conversation holds.
#[must_use]
pub fn too_many() -> Error {
    Error::new(Code::TooLarge, "too_many_participants", "a conversation has at most 100 participants")
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
        return Err(too_many());
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

/// Which message of a conversation is the newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastMessage {
    /// Its id.
    pub id: MessageId,
    /// Its place in the log.
    pub seq: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::context::ContextKind;

    fn user(bits: u128) -> UserId {
        UserId::from_bits(bits)
    }

    fn order(id: &str) -> Context {
        Context { kind: ContextKind::Order, id: id.into(), title: None, url: None, image_url: None, price: None }
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
    fn the_two_of_a_direct_conversation_are_bound_to_it() {
        let participant = |bits| Participant {
            user_id: user(bits),
            role: ParticipantRole::Agent,
            joined_at: Timestamp::zero(),
            visible_from: 0,
        };
        let mut conversation = Conversation {
            id: id_of(&[user(2), user(3)], Some(&order("7"))),
            kind: Kind::Direct,
            participants: [1, 2, 3].map(participant).into(),
            context: Some(order("7")),
            title: None,
            created_by: user(3),
            created_at: Timestamp::zero(),
            closed_at: None,
            removed: Vec::new(),
        };
        let bound = |conversation: &Conversation| [1, 2, 3].map(|bits| conversation.is_bound(user(bits)));
        assert_eq!(bound(&conversation), [false, true, true]);
        let others = |conversation: &Conversation| [1, 2, 3].map(|bits| conversation.counterpart(user(bits)));
        assert_eq!(others(&conversation), [None, Some(user(3)), Some(user(2))]);
        let called_in = conversation.participants.remove(0);
        assert_eq!(others(&conversation)[1..], [Some(user(3)), Some(user(2))], "nobody else is there");
        conversation.participants.insert(0, called_in);
        conversation.kind = Kind::Support;
        assert_eq!(bound(&conversation), [false, false, true]);
        conversation.kind = Kind::Group;
        assert_eq!(others(&conversation), [None; 3]);
        assert_eq!(bound(&conversation), [false; 3]);
        conversation.participants.remove(0);
        assert_eq!(others(&conversation)[1..], [Some(user(3)), Some(user(2))], "a group of two");
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
}
