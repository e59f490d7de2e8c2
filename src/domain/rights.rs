//! Who may do what in a conversation: one table, asked by every command.
//!
//! It knows roles and kinds, and nothing else. What depends on a message (is it the caller's own, is it too old to be
//! edited) or on the state (is the conversation closed) is checked where that is known.

use super::conversation::{Kind, ParticipantRole};
use super::user::Role;
use crate::error::{Code, Error};

/// Who asks, as a conversation sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Somebody in it.
    Participant(ParticipantRole),
    /// Somebody else, with what they are to the shop.
    Outsider(Role),
}

/// What somebody wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Act {
    /// Read it, mark it as read, keep settings of one's own, hide messages from oneself.
    Read,
    /// Say something; type.
    Send,
    /// Put an emoji on a message.
    React,
    /// Put one's own message in other words.
    EditOwn,
    /// Delete one's own message for everybody.
    DeleteOwn,
    /// Delete somebody else's message for everybody.
    DeleteOthers,
    /// Pin a message, or take it down.
    PinMessage,
    /// Bring in a buyer or a seller.
    AddParticipant,
    /// Bring in an agent of the shop.
    AddAgent,
    /// Come in by oneself, as an agent.
    JoinAsAgent,
    /// Send a buyer or a seller away.
    RemoveParticipant,
    /// Send an agent away.
    RemoveAgent,
    /// Send an owner away.
    RemoveOwner,
    /// Send somebody away without whom it would not be what it is, or leave as such: see
    /// [`Conversation::is_bound`](super::conversation::Conversation::is_bound).
    RemoveBound,
    /// Leave.
    Leave,
    /// Give it another name.
    Rename,
    /// Make somebody something else in it.
    SetRole,
    /// Close it.
    Close,
    /// Open it again.
    Reopen,
}

impl Act {
    /// Every one of them.
    pub const ALL: [Self; 19] = [
        Self::Read,
        Self::Send,
        Self::React,
        Self::EditOwn,
        Self::DeleteOwn,
        Self::DeleteOthers,
        Self::PinMessage,
        Self::AddParticipant,
        Self::AddAgent,
        Self::JoinAsAgent,
        Self::RemoveParticipant,
        Self::RemoveAgent,
        Self::RemoveOwner,
        Self::RemoveBound,
        Self::Leave,
        Self::Rename,
        Self::SetRole,
        Self::Close,
        Self::Reopen,
    ];

    /// Whether it adds to what is said: nothing of that happens in a closed conversation.
    #[must_use]
    pub const fn speaks(self) -> bool {
        matches!(self, Self::Send | Self::React | Self::EditOwn)
    }

    /// Whether it puts something before the others: nothing of that passes between two of whom one blocks the other.
    #[must_use]
    pub const fn addresses(self) -> bool {
        self.speaks() || matches!(self, Self::PinMessage)
    }
}

/// Whether somebody may do something in a conversation of this kind.
#[must_use]
pub const fn may(kind: Kind, who: Who, act: Act) -> bool {
    let role = match who {
        Who::Participant(role) => role,
        Who::Outsider(Role::Agent | Role::Admin) => {
            return matches!((kind, act), (Kind::Support, Act::JoinAsAgent));
        }
        Who::Outsider(Role::Buyer | Role::Seller) => return false,
    };
    let (direct, group) = (matches!(kind, Kind::Direct), matches!(kind, Kind::Group));
    let agent = matches!(role, ParticipantRole::Agent);
    let owner = matches!(role, ParticipantRole::Owner);
    // Nobody owns anything but a group.
    if owner && !group {
        return matches!(act, Act::Read);
    }
    let runs = agent || owner;
    match act {
        Act::Read | Act::Send | Act::React | Act::EditOwn | Act::DeleteOwn => true,
        Act::JoinAsAgent | Act::RemoveBound => false,
        Act::DeleteOthers => runs,
        Act::PinMessage | Act::AddAgent => direct || runs,
        // Whoever was called in does not send their colleagues away.
        Act::RemoveAgent => direct != runs,
        Act::AddParticipant | Act::RemoveParticipant | Act::Rename => !direct && runs,
        Act::RemoveOwner | Act::SetRole => owner,
        Act::Leave => !direct || agent,
        Act::Close | Act::Reopen => matches!(kind, Kind::Support) || (group && runs),
    }
}

/// The answer to a participant whose role does not allow it.
#[must_use]
pub fn not_allowed() -> Error {
    Error::new(Code::Forbidden, "not_allowed", "your role in this conversation does not allow this")
}

/// The answer to anybody who says something in a closed conversation.
#[must_use]
pub fn closed() -> Error {
    Error::new(Code::Conflict, "conversation_closed", "this conversation is closed")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One line for each act; in each kind the columns are buyer, seller, agent and owner inside, then buyer, seller, agent
    /// and admin outside.
    const MATRIX: &str = "
        Read               | yyyy .... | yyyy .... | yyyy ....
        Send               | yyy. .... | yyyy .... | yyy. ....
        React              | yyy. .... | yyyy .... | yyy. ....
        EditOwn            | yyy. .... | yyyy .... | yyy. ....
        DeleteOwn          | yyy. .... | yyyy .... | yyy. ....
        DeleteOthers       | ..y. .... | ..yy .... | ..y. ....
        PinMessage         | yyy. .... | ..yy .... | ..y. ....
        AddParticipant     | .... .... | ..yy .... | ..y. ....
        AddAgent           | yyy. .... | ..yy .... | ..y. ....
        JoinAsAgent        | .... .... | .... .... | .... ..yy
        RemoveParticipant  | .... .... | ..yy .... | ..y. ....
        RemoveAgent        | yy.. .... | ..yy .... | ..y. ....
        RemoveOwner        | .... .... | ...y .... | .... ....
        RemoveBound        | .... .... | .... .... | .... ....
        Leave              | ..y. .... | yyyy .... | yyy. ....
        Rename             | .... .... | ..yy .... | ..y. ....
        SetRole            | .... .... | ...y .... | .... ....
        Close              | .... .... | ..yy .... | yyy. ....
        Reopen             | .... .... | ..yy .... | yyy. ....
    ";

    #[test]
    fn the_table_is_as_written() {
        let inside = ParticipantRole::ALL.map(Who::Participant);
        let outside = [Role::Buyer, Role::Seller, Role::Agent, Role::Admin].map(Who::Outsider);
        let mut lines = MATRIX.lines().filter(|line| !line.trim().is_empty());
        for act in Act::ALL {
            let mut line = format!("{act:?}");
            line.push_str(&" ".repeat(19 - line.len()));
            for kind in Kind::ALL {
                let column = |who: &Who| if may(kind, *who, act) { 'y' } else { '.' };
                let (inside, outside): (String, String) =
                    (inside.iter().map(column).collect(), outside.iter().map(column).collect());
                line = format!("{line}| {inside} {outside} ");
            }
            assert_eq!(Some(line.trim()), lines.next().map(str::trim));
        }
        assert_eq!(lines.next(), None);
    }

    #[test]
    fn whoever_may_rename_may_close_and_reopen() {
        // A request that asks for both is two changes, and the first must not be stored if the second is refused.
        let inside = ParticipantRole::ALL.map(Who::Participant);
        for (kind, who) in Kind::ALL.into_iter().flat_map(|kind| inside.map(|who| (kind, who))) {
            if may(kind, who, Act::Rename) {
                assert!(may(kind, who, Act::Close) && may(kind, who, Act::Reopen), "{kind:?} {who:?}");
            }
        }
    }
}
