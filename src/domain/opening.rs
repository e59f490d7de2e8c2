//! Opening a conversation: of which kind it is, who is in it, and the id that follows from that.

use super::context::Context;
use super::conversation::{self, Kind};
use super::ids::{ConversationId, UserId};
use super::user::Role;
use super::words::{ClientMessageId, Title};
use crate::error::{Code, Error, Result};

/// What is asked for.
#[derive(Debug)]
pub struct Wish<'a> {
    /// Who opens it.
    pub caller: UserId,
    /// What they are to the shop.
    pub role: Role,
    /// Everybody in it; the caller may be named or left out.
    pub participants: &'a [UserId],
    /// Of which kind, if that is said.
    pub kind: Option<Kind>,
    /// What it is about.
    pub context: Option<&'a Context>,
    /// Its name.
    pub title: Option<&'a Title>,
    /// The caller's own name for this opening.
    pub key: Option<&'a ClientMessageId>,
}

/// What comes of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    /// Its id.
    pub id: ConversationId,
    /// Its kind.
    pub kind: Kind,
    /// Who is in it, sorted, each once.
    pub users: Vec<UserId>,
}

impl Wish<'_> {
    /// Checks the wish. Two users talk directly, more are a group, unless the kind is said. A direct conversation and a support
    /// one are there once, for their users and context; a group is a new one (`fresh`) unless its opening has a name.
    pub fn plan(&self, fresh: ConversationId) -> Result<Plan> {
        if let Some(context) = self.context {
            context.check()?;
        }
        if self.kind == Some(Kind::Support) {
            return self.support();
        }
        let users = conversation::participants_of(self.caller, self.participants)?;
        match self.kind {
            Some(Kind::Direct) if users.len() != 2 => {
                Err(Error::invalid("direct_is_for_two", "a direct conversation has exactly one other participant"))
            }
            Some(Kind::Group) => Ok(self.group(users, fresh)),
            None if users.len() > 2 => Ok(self.group(users, fresh)),
            _ if self.title.is_some() => {
                Err(Error::invalid("direct_has_no_title", "a direct conversation has no title"))
            }
            _ => Ok(Plan { id: conversation::id_of(&users, self.context), kind: Kind::Direct, users }),
        }
    }

    fn group(&self, users: Vec<UserId>, fresh: ConversationId) -> Plan {
        let named = |key: &ClientMessageId| {
            ConversationId::derived(&[b"group", &self.caller.bits().to_be_bytes(), key.as_str().as_bytes()])
        };
        Plan { id: self.key.map_or(fresh, named), kind: Kind::Group, users }
    }

    fn support(&self) -> Result<Plan> {
        if matches!(self.role, Role::Agent | Role::Admin) {
            return Err(Error::new(
                Code::Forbidden,
                "support_is_for_customers",
                "buyers and sellers open support conversations, agents join them",
            ));
        }
        if self.participants.iter().any(|user| *user != self.caller) {
            return Err(Error::invalid(
                "support_is_opened_alone",
                "a support conversation is opened without other participants",
            ));
        }
        let user = self.caller.bits().to_be_bytes();
        let mut parts: Vec<&[u8]> = vec![b"support", &user];
        if let Some(context) = self.context {
            parts.push(context.kind.word().as_bytes());
            parts.push(context.id.as_bytes());
        }
        Ok(Plan { id: ConversationId::derived(&parts), kind: Kind::Support, users: vec![self.caller] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: ConversationId = ConversationId::from_bits(99);

    fn user(bits: u128) -> UserId {
        UserId::from_bits(bits)
    }

    fn wish(participants: &[UserId]) -> Wish<'_> {
        Wish { caller: user(1), role: Role::Buyer, participants, kind: None, context: None, title: None, key: None }
    }

    #[test]
    fn two_are_direct_and_more_are_a_new_group() {
        let (two, three) = ([user(2)], [user(2), user(3)]);
        let direct = wish(&two).plan(FRESH).expect("two users");
        assert_eq!((direct.kind, direct.users), (Kind::Direct, vec![user(1), user(2)]));
        assert_ne!(direct.id, FRESH);
        let group = wish(&three).plan(FRESH).expect("three users");
        assert_eq!((group.kind, group.id), (Kind::Group, FRESH));
        let small = Wish { kind: Some(Kind::Group), ..wish(&two) }.plan(FRESH).expect("a group of two");
        assert_eq!((small.kind, small.id), (Kind::Group, FRESH));
    }

    #[test]
    fn a_named_opening_is_one_group_for_each_caller() {
        let others = [user(2), user(3)];
        let key = ClientMessageId::new("k").expect("a key");
        let id = |caller, key| Wish { caller, key, ..wish(&others) }.plan(FRESH).expect("a group").id;
        assert_eq!(id(user(1), Some(&key)), id(user(1), Some(&key)));
        assert_ne!(id(user(1), Some(&key)), id(user(4), Some(&key)));
        assert_eq!(id(user(1), None), FRESH);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let (two, three) = ([user(2)], [user(2), user(3)]);
        let title = Title::new("x").expect("a title");
        let support = |others| Wish { kind: Some(Kind::Support), ..wish(others) };
        let reason = |wish: Wish<'_>| wish.plan(FRESH).err().map(|error| error.reason());
        assert_eq!(reason(Wish { kind: Some(Kind::Direct), ..wish(&three) }), Some("direct_is_for_two"));
        assert_eq!(reason(Wish { title: Some(&title), ..wish(&two) }), Some("direct_has_no_title"));
        assert_eq!(reason(support(&two)), Some("support_is_opened_alone"));
        assert_eq!(reason(Wish { role: Role::Agent, ..support(&[]) }), Some("support_is_for_customers"));
        assert_eq!(reason(support(&[])), None);
        assert_eq!(reason(wish(&[])), Some("no_other_participant"));
    }
}
