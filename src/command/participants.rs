//! Who comes into a conversation, who goes, and what they are in it.

use std::sync::Arc;

use super::Commands;
use super::directory::Entry;
use super::states::Change;
use crate::auth::Actor;
use crate::domain::conversation::{
    Conversation, Kind, PARTICIPANT_LIMIT, Participant, ParticipantRole, foreign, too_many,
};
use crate::domain::ids::{ConversationId, MessageId, UserId};
use crate::domain::message;
use crate::domain::rights::{self, Act, Who};
use crate::domain::trace::TraceContext;
use crate::domain::user::User;
use crate::error::{Error, Result};

/// From where on somebody who comes in sees what was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryFrom {
    /// From the beginning.
    All,
    /// From now on.
    Now,
    /// From this message on.
    Message(MessageId),
}

impl std::str::FromStr for HistoryFrom {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "all" => Ok(Self::All),
            "now" => Ok(Self::Now),
            id if id.starts_with("msg_") => id.parse().map(Self::Message),
            _ => Err(Error::invalid("malformed_history_from", "historyFrom must be all, now or the id of a message")),
        }
    }
}

impl Commands {
    /// Brings users in; who is there already stays as they are. An agent of the shop brings themselves into a support
    /// conversation. Whoever is in it shows nobody more than they see themselves, and brings in nobody with whom they are at
    /// odds: one who blocks them, or whom they block.
    pub async fn add_participants(
        &self,
        actor: &Actor,
        id: ConversationId,
        users: &[UserId],
        history: Option<HistoryFrom>,
        trace: Option<TraceContext>,
    ) -> Result<()> {
        actor.check_expiry(self.clock.now())?;
        let mut users = users.to_vec();
        users.sort_unstable();
        users.dedup();
        if users.is_empty() {
            return Err(Error::invalid("missing_field", "userIds is needed"));
        }
        if users.len() > PARTICIPANT_LIMIT {
            return Err(too_many());
        }
        let entry = self.directory.renewed(id).await?.ok_or_else(foreign)?;
        let alone = users == [actor.user_id];
        let joins = alone && may_join(actor, &entry.conversation);
        if !joins {
            entry.conversation.require(actor.user_id)?;
        }
        let known = self.require_users(&users).await?;
        let strangers = users.iter().copied().filter(|user| !entry.conversation.has(*user));
        self.require_welcome(actor.user_id, strangers).await?;
        let begin = match history.unwrap_or_else(|| default_history(entry.conversation.kind)) {
            HistoryFrom::All => 0,
            HistoryFrom::Now => self.broker.head().await?,
            HistoryFrom::Message(message) => self.place_of(&entry, actor, message).await?.saturating_sub(1),
        };
        let now = self.clock.now();
        let decide = |entry: &Entry| {
            let conversation = &entry.conversation;
            let new: Vec<&User> = known.iter().filter(|user| !conversation.has(user.id)).collect();
            let least = match conversation.participant(actor.user_id) {
                Some(adder) => {
                    entry.require(actor, Act::Read)?;
                    for user in &new {
                        entry.require(actor, Conversation::act_of_adding(user.role))?;
                    }
                    adder.visible_from
                }
                None if alone && may_join(actor, conversation) => 0,
                None => return Err(foreign()),
            };
            if new.is_empty() {
                return Ok(None);
            }
            let mut came: Vec<UserId> = new.iter().map(|user| user.id).collect();
            came.sort_unstable();
            let participants = new.into_iter().map(|user| Participant {
                user_id: user.id,
                role: user.role.into(),
                joined_at: now,
                visible_from: begin.max(least),
            });
            let next = conversation.with(participants.collect())?;
            Ok(Some(Change { next, note: message::Entry::Joined { users: came } }))
        };
        self.change(actor, id, trace, decide).await.map(drop)
    }

    /// Sends somebody away, or leaves. Whoever leaves may not have heard that they have: it is answered as done to everybody
    /// who is not in the conversation, and so does not tell whether there is one.
    pub async fn remove_participant(
        &self,
        actor: &Actor,
        id: ConversationId,
        user: UserId,
        trace: Option<TraceContext>,
    ) -> Result<()> {
        if user == actor.user_id {
            actor.check_expiry(self.clock.now())?;
            let inside = |entry: Option<Arc<Entry>>| entry.is_some_and(|entry| entry.conversation.has(user));
            if !inside(self.directory.find(id).await?) && !inside(self.directory.renewed(id).await?) {
                return Ok(());
            }
        }
        let decide = |entry: &Entry| {
            if user == actor.user_id && !entry.conversation.has(user) {
                return Ok(None);
            }
            entry.require(actor, Act::Read)?;
            let Some(gone) = entry.conversation.participant(user) else { return Ok(None) };
            entry.require(actor, entry.conversation.act_of_removing(actor.user_id, gone))?;
            let next = entry.conversation.without(user);
            let left = user == actor.user_id;
            let note = if left { message::Entry::Left {} } else { message::Entry::Removed { user } };
            Ok(Some(Change { next, note }))
        };
        self.change(actor, id, trace, decide).await.map(drop)
    }

    /// Makes somebody an owner, or what they are to the shop: nobody becomes an agent who is none.
    pub async fn set_role(
        &self,
        actor: &Actor,
        id: ConversationId,
        user: UserId,
        role: ParticipantRole,
        trace: Option<TraceContext>,
    ) -> Result<()> {
        actor.check_expiry(self.clock.now())?;
        self.directory.for_participant(id, actor.user_id).await?.require(actor, Act::SetRole)?;
        let theirs = self.require_users(&[user]).await?.pop().map(|user| ParticipantRole::from(user.role));
        if role != ParticipantRole::Owner && theirs != Some(role) {
            return Err(Error::invalid("role_not_theirs", "a participant is an owner, or what they are to the shop"));
        }
        let decide = |entry: &Entry| {
            entry.require(actor, Act::SetRole)?;
            let next = entry.conversation.with_role(user, role)?;
            Ok(next.map(|next| Change { next, note: message::Entry::RoleChanged { user, role } }))
        };
        self.change(actor, id, trace, decide).await.map(drop)
    }

    /// The place of a message that exists for the caller.
    async fn place_of(&self, entry: &Entry, actor: &Actor, id: MessageId) -> Result<u64> {
        // Who is not in it is about to join it as an agent, who may see everything.
        let from = entry.conversation.participant(actor.user_id).map_or(0, |participant| participant.visible_from);
        self.lookup.find(entry.conversation.id, id, from).await?.look(|state| state.seq)
    }
}

fn may_join(actor: &Actor, conversation: &Conversation) -> bool {
    rights::may(conversation.kind, Who::Outsider(actor.role), Act::JoinAsAgent)
}

/// What newcomers see if nobody says: what the two of a direct conversation have said is theirs.
const fn default_history(kind: Kind) -> HistoryFrom {
    match kind {
        Kind::Direct => HistoryFrom::Now,
        Kind::Group | Kind::Support => HistoryFrom::All,
    }
}
