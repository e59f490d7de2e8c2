//! Changing messages that were sent: editing, deleting, emoji, pins.
//!
//! What is so already is answered without an event, so a change may be asked for again; that it is so this instance says only
//! once it has heard of everything that the log has. The limits are checked against what it knows and what it has in hand,
//! which may be a moment behind what another one has just accepted; whatever is stored comes to the same everywhere all the
//! same, see `domain::state`.

use std::sync::Arc;

use super::Commands;
use super::directory::Entry;
use super::limits::InHand;
use super::touched::{Begun, OnItsWay, Touched};
use crate::auth::Actor;
use crate::broker::publish::Pending;
use crate::broker::subject::Filter;
use crate::domain::change::Scope;
use crate::domain::changing::{PIN_LIMIT, What};
use crate::domain::event::Body;
use crate::domain::ids::{ConversationId, MessageId, UserId};
use crate::domain::message::Quote;
use crate::domain::rights::Act;
use crate::domain::state::MessageState;
use crate::domain::trace::TraceContext;
use crate::domain::words::required;
use crate::error::{Code, Error, Result};

/// Most participants that a message names.
const MENTION_LIMIT: usize = 50;
/// Events of a conversation that MongoDB may not have when pins are counted, at most.
const UNPROJECTED: usize = 10_000;

/// A message and what is to be done to it.
#[derive(Debug)]
pub struct ChangeMessage {
    /// Where it is.
    pub conversation_id: ConversationId,
    /// Which message.
    pub message_id: MessageId,
    /// What is to be done.
    pub what: What,
}

impl ChangeMessage {
    /// Reads which message it is about.
    pub fn new(conversation: Option<&str>, message: Option<&str>, what: What) -> Result<Self> {
        Ok(Self {
            conversation_id: required(conversation, "conversationId")?.parse()?,
            message_id: required(message, "messageId")?.parse()?,
            what,
        })
    }
}

/// The participants that somebody wants to name, each once.
pub fn mentions<'a>(asked: impl IntoIterator<Item = &'a str>) -> Result<Vec<UserId>> {
    let mut users: Vec<UserId> = Vec::new();
    for user in asked {
        let user = user.parse()?;
        if !users.contains(&user) {
            users.push(user);
        }
        if users.len() > MENTION_LIMIT {
            return Err(Error::new(Code::TooLarge, "too_many_mentions", "a message can name 50 participants"));
        }
    }
    Ok(users)
}

/// A change in line to be stored; nothing is in line if it was so already.
#[must_use = "a change counts only once it is stored"]
pub struct Changing {
    conversation_id: ConversationId,
    message_id: MessageId,
    touched: Arc<Touched>,
    pending: Option<(InLine, InHand)>,
}

/// An event in line, and what it does.
struct InLine {
    pending: Pending,
    body: Body,
    on_its_way: OnItsWay,
}

/// A message that is as it was asked for.
#[derive(Debug)]
pub struct Changed {
    /// Where it is.
    pub conversation_id: ConversationId,
    /// Which message.
    pub message_id: MessageId,
    /// The place of the change in the log; nothing if it was so already.
    pub seq: Option<u64>,
    /// What it is now, without its former words.
    pub state: MessageState,
}

impl Changing {
    /// Waits until the log has it.
    pub async fn stored(self) -> Result<Changed> {
        let Self { conversation_id, message_id, touched, pending } = self;
        let seq = match pending {
            None => None,
            Some((InLine { pending, body, on_its_way }, in_hand)) => {
                let seq = pending.stored().await?.seq;
                // The tail brings it as well; whoever did it need not wait for that.
                touched.apply(seq, &body);
                drop((on_its_way, in_hand));
                Some(seq)
            }
        };
        Ok(Changed { conversation_id, message_id, seq, state: touched.look(MessageState::clone)? })
    }
}

impl Commands {
    /// Authorises and checks a change of a message and puts it in line.
    pub async fn change_message(
        &self,
        actor: &Actor,
        change: ChangeMessage,
        trace: Option<TraceContext>,
    ) -> Result<Changing> {
        let now = self.clock.now();
        actor.check_expiry(now)?;
        let entry = self.directory.for_participant(change.conversation_id, actor.user_id).await?;
        let in_hand = self.limits.admit(actor.user_id, now)?;
        let (conversation_id, message_id) = (change.conversation_id, change.message_id);
        match self.begin_change(actor, &entry, change, trace).await {
            Ok((touched, Some(pending))) => {
                let pending = Some((pending, in_hand));
                Ok(Changing { conversation_id, message_id, touched, pending })
            }
            Ok((touched, None)) => {
                in_hand.spent(now);
                Ok(Changing { conversation_id, message_id, touched, pending: None })
            }
            Err(error) => {
                in_hand.spent(now);
                Err(error)
            }
        }
    }

    /// Checks a change and puts it in line, unless it is so already.
    async fn begin_change(
        &self,
        actor: &Actor,
        entry: &Entry,
        change: ChangeMessage,
        trace: Option<TraceContext>,
    ) -> Result<(Arc<Touched>, Option<InLine>)> {
        let ChangeMessage { conversation_id, message_id, what } = change;
        let now = self.clock.now();
        if let What::Edit { mentions: Some(mentions), .. } = &what {
            require_there(entry, mentions)?;
        }
        let from = entry.sight(actor.user_id).from;
        let mut touched = self.lookup.find(conversation_id, message_id, from).await?;
        let own = touched.look(|state| state.message.sender_id == actor.user_id)?;
        let act = act(&what, own);
        entry.require(actor, act)?;
        if act.addresses() {
            self.require_heard(actor.user_id, &entry.conversation).await?;
        }
        let plan = |state: &MessageState| state.change(&what, actor.user_id, now, self.editable);
        let mut begun = touched.begin(actor.user_id, false, plan)?;
        if begun.is_none() {
            // Another instance may have stored the opposite a moment ago. Whoever cannot find out says it once more.
            let insist = !self.lookup.is_up_to_date().await?;
            touched = self.lookup.find(conversation_id, message_id, from).await?;
            begun = touched.begin(actor.user_id, insist, plan)?;
        }
        let Some(Begun { seq, body, on_its_way }) = begun else { return Ok((touched, None)) };
        if what == (What::Pin { on: true }) {
            self.require_room_for_a_pin(conversation_id).await?;
        }
        let recipients = match &what {
            What::Delete(Scope::Me) => vec![actor.user_id],
            _ => entry.conversation.audience(seq).collect(),
        };
        let event = self.event(actor.user_id, recipients, body);
        let pending = self.publisher.enqueue(&event, trace)?;
        Ok((touched, Some(InLine { pending, body: event.body, on_its_way })))
    }

    /// A message as this user is shown it: what it quotes says what that says now, or nothing if nobody can tell.
    pub async fn shown(&self, actor: &Actor, mut state: MessageState) -> MessageState {
        let conversation = state.message.conversation_id;
        if let Some(quote) = &mut state.message.reply_to {
            match self.quoted(actor, conversation, quote.id).await {
                Ok(now) => *quote = now,
                Err(_) => quote.text.clear(),
            }
        }
        state
    }

    async fn quoted(&self, actor: &Actor, conversation: ConversationId, id: MessageId) -> Result<Quote> {
        let entry = self.directory.for_participant(conversation, actor.user_id).await?;
        let touched = self.lookup.find(conversation, id, entry.sight(actor.user_id).from).await?;
        touched.look(|state| state.quotable_by(actor.user_id))?
    }

    /// Refuses one more pinned message than there may be.
    async fn require_room_for_a_pin(&self, conversation: ConversationId) -> Result<()> {
        let newer = self.broker.unprojected(Filter::Conversation(conversation), UNPROJECTED).await?;
        let most = u32::try_from(2 * PIN_LIMIT).unwrap_or(u32::MAX);
        let stored = self.store.pinned_messages(conversation, most).await?;
        let mut pinned: Vec<MessageId> = stored.into_iter().map(|state| state.message.id).collect();
        for stored in &newer {
            let body = &stored.event.body;
            let Some(id) = body.changed_message() else { continue };
            match body {
                Body::Pin(pin) if pin.on && !pinned.contains(&id) => pinned.push(id),
                Body::Pin(pin) if !pin.on => pinned.retain(|known| *known != id),
                Body::Deletion(deletion) if deletion.scope == Scope::Everybody => pinned.retain(|known| *known != id),
                _ => {}
            }
        }
        if pinned.len() >= PIN_LIMIT {
            return Err(Error::new(Code::TooLarge, "too_many_pins", "a conversation can have 50 pinned messages"));
        }
        Ok(())
    }
}

/// What one has to be allowed for this.
const fn act(what: &What, own: bool) -> Act {
    match what {
        What::Edit { .. } => Act::EditOwn,
        What::Delete(Scope::Me) => Act::Read,
        What::Delete(Scope::Everybody) if own => Act::DeleteOwn,
        What::Delete(Scope::Everybody) => Act::DeleteOthers,
        What::React { .. } => Act::React,
        What::Pin { .. } => Act::PinMessage,
    }
}

/// Refuses mentions of anybody who is not there.
pub(super) fn require_there(entry: &Entry, mentions: &[UserId]) -> Result<()> {
    if mentions.iter().all(|user| entry.conversation.has(*user)) {
        return Ok(());
    }
    Err(Error::invalid("mention_not_a_participant", "mentions names somebody who is not in this conversation"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn somebody_is_named_once_and_there_is_an_end_to_it() {
        let ids: Vec<String> = (1..=60).map(|bits| UserId::from_bits(bits).to_string()).collect();
        let named = |ids: &[String]| mentions(ids.iter().map(String::as_str));
        assert_eq!(named(&ids[..50]).map(|all| all.len()).ok(), Some(50));
        assert_eq!(named(&ids).err().map(|error| error.reason()), Some("too_many_mentions"));
        assert_eq!(named(&vec![ids[0].clone(); 60]).map(|all| all.len()).ok(), Some(1));
        assert_eq!(mentions(["nonsense"]).err().map(|error| error.reason()), Some("malformed_id"));
    }
}
