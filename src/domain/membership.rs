//! How the state of a conversation changes: who comes and goes, who owns it, what it is called, whether it goes on.
//!
//! Every change makes a whole new state from the one before. Who may ask for it is said in `rights`.

use super::clock::Timestamp;
use super::conversation::{Conversation, Kind, PARTICIPANT_LIMIT, Participant, ParticipantRole, too_many};
use super::ids::UserId;
use super::rights::Act;
use super::user::Role;
use crate::error::{Code, Error, Result};

impl Conversation {
    fn next(&self) -> Self {
        Self { removed: Vec::new(), ..self.clone() }
    }

    /// With these users in it, who are not yet.
    pub fn with(&self, new: Vec<Participant>) -> Result<Self> {
        let mut next = self.next();
        next.participants.extend(new);
        next.participants.sort_unstable_by_key(|participant| participant.user_id);
        if next.participants.len() > PARTICIPANT_LIMIT {
            return Err(too_many());
        }
        Ok(next)
    }

    /// Without this user. A group that loses its last owner passes to whoever has been in it longest, an agent if there is
    /// one.
    #[must_use]
    pub fn without(&self, user: UserId) -> Self {
        let mut next = self.next();
        next.participants.retain(|participant| participant.user_id != user);
        next.removed.push(user);
        let owned = next.participants.iter().any(|participant| participant.role == ParticipantRole::Owner);
        if next.kind == Kind::Group && !owned {
            let standing = |participant: &&mut Participant| {
                (participant.role != ParticipantRole::Agent, participant.joined_at, participant.user_id)
            };
            if let Some(heir) = next.participants.iter_mut().min_by_key(standing) {
                heir.role = ParticipantRole::Owner;
            }
        }
        next
    }

    /// With somebody in another role; nothing if they have it. A group always has an owner.
    pub fn with_role(&self, user: UserId, role: ParticipantRole) -> Result<Option<Self>> {
        let mut next = self.next();
        let found = next.participants.iter_mut().find(|participant| participant.user_id == user);
        let Some(participant) = found else {
            return Err(Error::new(Code::NotFound, "unknown_participant", "this user is not in the conversation"));
        };
        if participant.role == role {
            return Ok(None);
        }
        participant.role = role;
        if !next.participants.iter().any(|participant| participant.role == ParticipantRole::Owner) {
            return Err(Error::new(Code::Conflict, "last_owner", "make somebody else an owner first"));
        }
        Ok(Some(next))
    }

    /// With another title, or none; nothing if it has that.
    #[must_use]
    pub fn renamed(&self, title: Option<&str>) -> Option<Self> {
        (self.title.as_deref() != title).then(|| Self { title: title.map(str::to_owned), ..self.next() })
    }

    /// Closed, if it is not.
    #[must_use]
    pub fn closed(&self, now: Timestamp) -> Option<Self> {
        self.closed_at.is_none().then(|| Self { closed_at: Some(now), ..self.next() })
    }

    /// Open again, if it is closed.
    #[must_use]
    pub fn reopened(&self) -> Option<Self> {
        self.closed_at.is_some().then(|| Self { closed_at: None, ..self.next() })
    }

    /// Whether a customer of the shop waits here for an agent.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        let answered = self.participants.iter().any(|participant| participant.role == ParticipantRole::Agent);
        self.kind == Kind::Support && self.closed_at.is_none() && !answered
    }

    /// What it is to bring in somebody who is this to the shop.
    #[must_use]
    pub const fn act_of_adding(role: Role) -> Act {
        match role {
            Role::Agent | Role::Admin => Act::AddAgent,
            Role::Buyer | Role::Seller => Act::AddParticipant,
        }
    }

    /// What it is if this user sends that participant away, or leaves.
    #[must_use]
    pub fn act_of_removing(&self, actor: UserId, gone: &Participant) -> Act {
        match gone.role {
            _ if self.is_bound(gone.user_id) => Act::RemoveBound,
            _ if gone.user_id == actor => Act::Leave,
            ParticipantRole::Owner => Act::RemoveOwner,
            ParticipantRole::Agent => Act::RemoveAgent,
            ParticipantRole::Buyer | ParticipantRole::Seller => Act::RemoveParticipant,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::ConversationId;

    fn group(roles: &[(u128, ParticipantRole, i64)]) -> Conversation {
        let participant = |(user, role, joined): &(u128, ParticipantRole, i64)| Participant {
            user_id: UserId::from_bits(*user),
            role: *role,
            joined_at: Timestamp::from_millis(*joined),
            visible_from: 0,
        };
        Conversation {
            id: ConversationId::from_bits(1),
            kind: Kind::Group,
            participants: roles.iter().map(participant).collect(),
            context: None,
            title: None,
            created_by: UserId::from_bits(1),
            created_at: Timestamp::zero(),
            closed_at: None,
            removed: Vec::new(),
        }
    }

    fn owners(conversation: &Conversation) -> Vec<u128> {
        let owners = conversation.participants.iter().filter(|one| one.role == ParticipantRole::Owner);
        owners.map(|one| one.user_id.bits()).collect()
    }

    const OWNER: ParticipantRole = ParticipantRole::Owner;
    const AGENT: ParticipantRole = ParticipantRole::Agent;
    const BUYER: ParticipantRole = ParticipantRole::Buyer;

    #[test]
    fn a_group_passes_to_an_agent_or_to_whoever_is_there_longest() {
        let first = UserId::from_bits(1);
        let passed = |roles: &[(u128, ParticipantRole, i64)]| owners(&group(roles).without(first));
        assert_eq!(passed(&[(1, OWNER, 0), (2, BUYER, 5), (3, AGENT, 9), (4, AGENT, 7)]), [4]);
        assert_eq!(passed(&[(1, OWNER, 0), (2, BUYER, 5), (3, BUYER, 4)]), [3]);
        assert_eq!(passed(&[(1, OWNER, 0), (2, OWNER, 5), (3, AGENT, 4)]), [2], "it has an owner");
        assert_eq!(passed(&[(1, OWNER, 0)]), [0; 0]);
        assert_eq!(group(&[(1, OWNER, 0)]).without(first).removed, [first]);
    }

    #[test]
    fn a_group_keeps_an_owner() {
        let group = group(&[(1, OWNER, 0), (2, BUYER, 5)]);
        let reason = |done: Result<Option<Conversation>>| done.err().map(|error| error.reason());
        assert_eq!(reason(group.with_role(UserId::from_bits(1), BUYER)), Some("last_owner"));
        assert_eq!(reason(group.with_role(UserId::from_bits(3), BUYER)), Some("unknown_participant"));
        assert_eq!(group.with_role(UserId::from_bits(2), BUYER).ok(), Some(None));
        let both = group.with_role(UserId::from_bits(2), OWNER).ok().flatten().expect("a change");
        assert_eq!(owners(&both), [1, 2]);
    }

    #[test]
    fn what_is_so_already_is_no_change() {
        let open = group(&[(1, OWNER, 0)]);
        assert!(open.reopened().is_none() && open.renamed(None).is_none());
        let closed = open.closed(Timestamp::from_millis(7)).expect("a change");
        assert!(closed.closed(Timestamp::from_millis(9)).is_none());
        assert_eq!(closed.reopened().expect("a change"), open);
        assert_eq!(open.renamed(Some("x")).expect("a change").title.as_deref(), Some("x"));
    }
}
