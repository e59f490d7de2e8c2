//! The session of one socket: unidentified, then identified. An event in, a step out; nothing here reads, writes or waits.

use std::sync::Arc;

use super::protocol::{ClientEvent, Done};
use crate::auth::Actor;
use crate::auth::token::{Tokens, missing};
use crate::command::changes::ChangeMessage;
use crate::command::inbox::ChangeInbox;
use crate::command::messages::SendMessage;
use crate::command::receipts::{Mark, UpTo};
use crate::domain::clock::Timestamp;
use crate::domain::ids::ConversationId;
use crate::domain::presence::Sign;
use crate::error::{Code, Error, Result};

/// What a socket is.
#[derive(Debug, Clone, Default)]
pub enum Session {
    /// Nobody yet; it can only bring a token.
    #[default]
    Unidentified,
    /// Somebody, until their token runs out.
    Identified(Arc<Actor>),
}

/// What is to be done about an event.
#[derive(Debug)]
pub enum Step {
    /// Answer; there is nothing else to do.
    Answer(Done),
    /// The socket has become somebody's, who was here before if there is a cursor.
    Identify(Arc<Actor>, Option<String>),
    /// The socket stays somebody's for longer.
    Renew(Arc<Actor>),
    /// Tell the client what it missed.
    Sync(Arc<Actor>, String),
    /// Send a message.
    Send(Arc<Actor>, SendMessage),
    /// Change a message.
    Change(Arc<Actor>, ChangeMessage),
    /// Tell the others that somebody types, or has stopped.
    Typing(Arc<Actor>, ConversationId, bool),
    /// Remember what this connection says of its user.
    SetPresence(Arc<Actor>, Sign),
    /// Mark a conversation as read, or as delivered.
    Mark(Arc<Actor>, ConversationId, Mark, UpTo),
    /// Change its user's inbox.
    ChangeInbox(Arc<Actor>, ChangeInbox),
}

impl Step {
    /// A word for the log.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Answer(_) => "register",
            Self::Identify(..) | Self::Renew(_) => "authenticate",
            Self::Sync(..) => "sync",
            Self::Send(..) => "sendMessage",
            Self::Change(..) => "changeMessage",
            Self::Typing(..) => "typing",
            Self::SetPresence(..) => "setPresence",
            Self::Mark(_, _, Mark::Read, _) => "markRead",
            Self::Mark(_, _, Mark::Delivered, _) => "markDelivered",
            Self::ChangeInbox(..) => "markNotifications",
        }
    }
}

impl Session {
    /// Who the socket speaks for, if it is known.
    #[must_use]
    pub fn actor(&self) -> Option<&Arc<Actor>> {
        match self {
            Self::Unidentified => None,
            Self::Identified(actor) => Some(actor),
        }
    }

    /// What is to be done about an event. Every event is checked against the token again, as a socket outlives it.
    pub fn on_event(&mut self, event: ClientEvent, tokens: &Tokens, now: Timestamp) -> Result<Step> {
        if let ClientEvent::Authenticate { token, cursor } = event {
            return self.authenticate(Arc::new(tokens.read(&token, now)?), cursor);
        }
        let actor = self.actor().ok_or_else(missing)?.clone();
        actor.check_expiry(now)?;
        match event {
            ClientEvent::Authenticate { .. } => unreachable!("handled above"),
            ClientEvent::Sync { cursor } => Ok(Step::Sync(actor, cursor)),
            ClientEvent::Register { user_id } => {
                actor.check_claim(Some(&user_id))?;
                Ok(Step::Answer(known(&actor)))
            }
            ClientEvent::SendMessage { claimed, send } => {
                actor.check_claim(claimed.as_deref())?;
                Ok(Step::Send(actor, send))
            }
            ClientEvent::ChangeMessage { claimed, change } => {
                actor.check_claim(claimed.as_deref())?;
                Ok(Step::Change(actor, change))
            }
            ClientEvent::Typing { claimed, conversation_id, typing } => {
                actor.check_claim(claimed.as_deref())?;
                Ok(Step::Typing(actor, conversation_id, typing))
            }
            ClientEvent::SetPresence { sign } => Ok(Step::SetPresence(actor, sign)),
            ClientEvent::Mark { claimed, conversation_id, mark, up_to } => {
                actor.check_claim(claimed.as_deref())?;
                Ok(Step::Mark(actor, conversation_id, mark, up_to))
            }
            ClientEvent::MarkNotifications { claimed, change } => {
                actor.check_claim(claimed.as_deref())?;
                Ok(Step::ChangeInbox(actor, change))
            }
        }
    }

    fn authenticate(&mut self, actor: Arc<Actor>, cursor: Option<String>) -> Result<Step> {
        let step = match self {
            Self::Unidentified => Step::Identify(actor.clone(), cursor),
            Self::Identified(known) if known.user_id == actor.user_id => Step::Renew(actor.clone()),
            Self::Identified(_) => {
                return Err(Error::new(Code::Forbidden, "identity_mismatch", "this socket is somebody else's"));
            }
        };
        *self = Self::Identified(actor);
        Ok(step)
    }
}

/// What a socket is told about who it is.
#[must_use]
pub fn known(actor: &Actor) -> Done {
    Done::Known { user_id: actor.user_id, expires_at: actor.expires_at }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::UserId;
    use crate::domain::user::{Role, User};
    use crate::domain::words::{DisplayName, Email};

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn tokens() -> Tokens {
        Tokens::new(b"a secret of thirty-two characters", 60)
    }

    fn token(user: u128, at: Timestamp) -> String {
        let user = User {
            id: UserId::from_bits(user),
            name: DisplayName::new("Ana").expect("a name"),
            email: Email::new("ana@example.test").expect("an address"),
            role: Role::Buyer,
            created_at: at,
            external_id: None,
            last_seen_at: None,
        };
        tokens().issue(&user, at).expect("a token")
    }

    fn reason(step: Result<Step>) -> &'static str {
        step.expect_err("refused").reason()
    }

    fn typing(claimed: Option<UserId>) -> ClientEvent {
        ClientEvent::Typing {
            claimed: claimed.map(|user| user.to_string()),
            conversation_id: ConversationId::from_bits(5),
            typing: true,
        }
    }

    #[test]
    fn nothing_but_a_token_moves_an_unidentified_socket() {
        let mut session = Session::default();
        assert_eq!(reason(session.on_event(typing(None), &tokens(), NOW)), "missing_token");
        let wrong = ClientEvent::Authenticate { token: "nonsense".into(), cursor: None };
        assert_eq!(reason(session.on_event(wrong, &tokens(), NOW)), "bad_token");
        let right = ClientEvent::Authenticate { token: token(1, NOW), cursor: None };
        assert!(matches!(session.on_event(right, &tokens(), NOW), Ok(Step::Identify(..))));
        assert!(matches!(session.on_event(typing(None), &tokens(), NOW), Ok(Step::Typing(..))));
    }

    #[test]
    fn ids_from_the_client_are_checked_and_never_trusted() {
        let mut session = Session::default();
        let right = ClientEvent::Authenticate { token: token(1, NOW), cursor: None };
        session.on_event(right, &tokens(), NOW).expect("identified");
        let me = UserId::from_bits(1);
        assert!(session.on_event(typing(Some(me)), &tokens(), NOW).is_ok());
        assert_eq!(reason(session.on_event(typing(Some(UserId::from_bits(2))), &tokens(), NOW)), "identity_mismatch");
        let register = ClientEvent::Register { user_id: UserId::from_bits(2).to_string() };
        assert_eq!(reason(session.on_event(register, &tokens(), NOW)), "identity_mismatch");
        let other = ClientEvent::Authenticate { token: token(2, NOW), cursor: None };
        assert_eq!(reason(session.on_event(other, &tokens(), NOW)), "identity_mismatch");
    }

    #[test]
    fn a_token_that_runs_out_silences_the_socket_until_it_is_renewed() {
        let mut session = Session::default();
        session
            .on_event(ClientEvent::Authenticate { token: token(1, NOW), cursor: None }, &tokens(), NOW)
            .expect("identified");
        let later = NOW.plus_seconds(61);
        assert_eq!(reason(session.on_event(typing(None), &tokens(), later)), "token_expired");
        let renewed = ClientEvent::Authenticate { token: token(1, later), cursor: None };
        assert!(matches!(session.on_event(renewed, &tokens(), later), Ok(Step::Renew(_))));
        assert!(session.on_event(typing(None), &tokens(), later).is_ok());
    }
}
