//! Sending messages.
//!
//! A resend is answered with the message that the first send has led to, even if it could not be said any more: before a
//! send that has a name is refused, that name is looked up. What may be said pays nothing for it, and nothing changes before
//! all checks have passed.

use std::sync::Arc;

use super::directory::Entry;
use super::limits::InHand;
use super::{Commands, attachments, changes};
use crate::auth::Actor;
use crate::broker::publish::Pending;
use crate::domain::attachment::Attachment;
use crate::domain::event::{Body, Event, Stored};
use crate::domain::ids::{AttachmentId, ConversationId, MessageId, UserId};
use crate::domain::message::{self, Kind, Message, Quote};
use crate::domain::state::MessageState;
use crate::domain::trace::TraceContext;
use crate::domain::words::{ClientMessageId, MessageText, required};
use crate::error::{Code, Error, Result};
use crate::store::attachments::Attempt;

/// A message to send.
#[derive(Debug)]
pub struct SendMessage {
    /// Where.
    pub conversation_id: ConversationId,
    /// A user who is expected to be there.
    pub recipient_id: Option<UserId>,
    /// What is said; with attachments that may be nothing.
    pub text: Option<MessageText>,
    /// What is attached.
    pub attachments: Vec<AttachmentId>,
    /// The message that it answers.
    pub reply_to: Option<MessageId>,
    /// Participants that it names.
    pub mentions: Vec<UserId>,
    /// The sender's own id for this send.
    pub client_message_id: Option<ClientMessageId>,
}

/// A message to send, as somebody wrote it.
#[derive(Debug, Clone)]
pub struct Draft<'a> {
    /// Where.
    pub conversation_id: Option<&'a str>,
    /// A user who is expected to be there.
    pub recipient_id: Option<&'a str>,
    /// What is said.
    pub text: Option<&'a str>,
    /// The message that it answers.
    pub reply_to: Option<&'a str>,
    /// Participants that it names.
    pub mentions: Vec<&'a str>,
    /// The sender's own id for this send.
    pub client_message_id: Option<&'a str>,
    /// What is attached.
    pub attachments: Vec<&'a str>,
}

impl Draft<'_> {
    /// Checks everything that can be checked without knowing who is who.
    pub fn check(self) -> Result<SendMessage> {
        let attachments = attachments::named(self.attachments)?;
        let text = match self.text {
            // What is attached may speak for itself.
            None | Some("") if !attachments.is_empty() => None,
            text => Some(MessageText::new(required(text, "text")?)?),
        };
        Ok(SendMessage {
            conversation_id: required(self.conversation_id, "conversationId")?.parse()?,
            recipient_id: self.recipient_id.map(str::parse).transpose()?,
            text,
            attachments,
            reply_to: self.reply_to.map(str::parse).transpose()?,
            mentions: changes::mentions(self.mentions)?,
            client_message_id: self.client_message_id.map(ClientMessageId::new).transpose()?,
        })
    }
}

/// A message that may be said.
struct Checked {
    entry: Arc<Entry>,
    reply_to: Option<Quote>,
    attached: Vec<Attachment>,
}

/// A message in line to be stored. Messages of one caller are stored in the order of their calls to
/// [`Commands::send_message`].
#[must_use = "a message counts only once it is stored"]
pub enum Sending {
    /// It waits for the broker.
    InLine {
        /// The message.
        message: Message,
        /// The broker's answer.
        pending: Pending,
        /// It counts against its sender's limit.
        in_hand: InHand,
        /// By which it has claimed its attachments.
        attempt: Attempt,
    },
    /// It was stored long ago.
    Known(Sent),
}

/// A message that the log has.
#[derive(Debug, Clone)]
pub struct Sent {
    /// The message; if the log had it before, what has happened to it since may be missing: see [`Commands::current`].
    pub state: MessageState,
    /// The log had it before this send.
    pub duplicate: bool,
}

impl Commands {
    /// The id that a message will have: it follows from the client's own id for the send, if there is one.
    #[must_use]
    pub fn name_message(&self, actor: &Actor, send: &SendMessage) -> MessageId {
        match &send.client_message_id {
            Some(client) => message::id_of(send.conversation_id, actor.user_id, client),
            None => self.clock.fresh_id(),
        }
    }

    /// Whether this user takes part in a conversation: who does not says nothing there.
    pub async fn require_participant(&self, actor: &Actor, conversation: ConversationId) -> Result<()> {
        actor.check_expiry(self.clock.now())?;
        self.directory.for_participant(conversation, actor.user_id).await.map(drop)
    }

    /// Authorises and checks a message of this id and puts it in line.
    pub async fn send_message(
        &self,
        actor: &Actor,
        id: MessageId,
        send: SendMessage,
        trace: Option<TraceContext>,
    ) -> Result<Sending> {
        let now = self.clock.now();
        actor.check_expiry(now)?;
        let entry = self.directory.for_participant(send.conversation_id, actor.user_id).await?;
        let in_hand = self.limits.admit(actor.user_id, now)?;
        let resend = send.client_message_id.is_some();
        let (entry, reply_to) = match self.check_send(actor, entry, &send).await {
            Ok(checked) => checked,
            // What was said once stays said, whatever has become of the place since.
            Err(error) => {
                let known = if resend { self.said(send.conversation_id, id).await } else { Ok(None) };
                let answer = known.and_then(|known| known.map(Sending::Known).ok_or(error));
                if answer.is_err() {
                    in_hand.spent(now);
                }
                return answer;
            }
        };
        if resend && let Some(stored) = self.resends.first(id, entry.conversation.created_at, now).await {
            return Ok(Sending::Known(Sent { state: stored, duplicate: true }));
        }
        // Nothing is opened again for what was said before. Who cannot be asked about that has to be let in.
        if resend
            && entry.conversation.closed_at.is_some()
            && let Ok(Some(known)) = self.said(send.conversation_id, id).await
        {
            return Ok(Sending::Known(known));
        }
        let attempt = self.clock.fresh_id();
        let attached = match self.claim(actor, send.conversation_id, id, &send.attachments, attempt).await {
            Ok(attached) => attached,
            // What it said then may be gone by now, and its attachments with it.
            Err(error) => {
                let known = if resend { self.said(send.conversation_id, id).await } else { Ok(None) };
                in_hand.spent(now);
                return known.and_then(|known| known.map(Sending::Known).ok_or(error));
            }
        };
        let claimed = send.attachments.clone();
        match self.put_in_line(actor, id, send, Checked { entry, reply_to, attached }, trace).await {
            Ok((message, pending)) => Ok(Sending::InLine { message, pending, in_hand, attempt }),
            Err(error) => {
                self.release(&claimed, id, attempt).await;
                Err(error)
            }
        }
    }

    /// Opens the conversation again if it was closed, and puts the message in line.
    async fn put_in_line(
        &self,
        actor: &Actor,
        id: MessageId,
        send: SendMessage,
        checked: Checked,
        trace: Option<TraceContext>,
    ) -> Result<(Message, Pending)> {
        let Checked { entry, reply_to, attached } = checked;
        let entry = self.reopened(actor, entry, trace).await?;
        let message = Message {
            id,
            conversation_id: send.conversation_id,
            sender_id: actor.user_id,
            sender_name: actor.name.to_string(),
            kind: if attached.is_empty() { Kind::Text } else { Kind::Attachment },
            text: send.text.map(String::from).unwrap_or_default(),
            reply_to,
            mentions: send.mentions,
            attachments: attached,
            entry: None,
            client_message_id: send.client_message_id.map(String::from),
            created_at: self.clock.now(),
        };
        let recipients = entry.conversation.users().collect();
        let event = self.event(actor.user_id, recipients, Body::Message(message.clone()));
        let pending = self.publisher.enqueue(&event, trace)?;
        Ok((message, pending))
    }

    /// Whether this may be said, and what it quotes. It changes nothing.
    async fn check_send(
        &self,
        actor: &Actor,
        entry: Arc<Entry>,
        send: &SendMessage,
    ) -> Result<(Arc<Entry>, Option<Quote>)> {
        let entry = self.speaking(actor, entry).await?;
        if send.recipient_id.is_some_and(|recipient| recipient == actor.user_id || !entry.conversation.has(recipient)) {
            return Err(Error::invalid(
                "recipient_not_a_participant",
                "recipientId is no other participant of this conversation",
            ));
        }
        self.require_heard(actor.user_id, &entry.conversation).await?;
        changes::require_there(&entry, &send.mentions)?;
        let reply_to = match send.reply_to {
            None => None,
            Some(quoted) => Some(self.quote(&entry, actor.user_id, quoted).await?),
        };
        Ok((entry, reply_to))
    }

    /// The message that is answered, as everybody is told: with its words only if all of them can see it.
    async fn quote(&self, entry: &Entry, user: UserId, id: MessageId) -> Result<Quote> {
        let touched = self.lookup.find(entry.conversation.id, id, entry.sight(user).from).await?;
        touched.look(|state| {
            let mut quote = state.quotable_by(user)?;
            let participants = &entry.conversation.participants;
            if !participants.iter().all(|one| state.exists_for(one.user_id, one.visible_from)) {
                quote.text.clear();
            }
            Ok(quote)
        })?
    }

    /// The message of this id as it is now, if a send has led to it before. Whoever cannot be asked has not denied it.
    pub(super) async fn said(&self, conversation: ConversationId, id: MessageId) -> Result<Option<Sent>> {
        let found = match self.lookup.find(conversation, id, 0).await {
            Ok(touched) => touched.look(MessageState::clone),
            Err(error) => Err(error),
        };
        match found {
            Ok(state) => Ok(Some(Sent { state, duplicate: true })),
            Err(error) if error.code() == Code::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Waits until the log has the message. A resend is answered with the first one.
    pub async fn sent(&self, sending: Sending) -> Result<Sent> {
        let (message, pending, in_hand, attempt) = match sending {
            Sending::Known(sent) => return Ok(sent),
            Sending::InLine { message, pending, in_hand, attempt } => (message, pending, in_hand, attempt),
        };
        let published = pending.stored().await?;
        drop(in_hand);
        self.directory.stored(message.conversation_id, published.seq);
        if published.duplicate {
            let first = self.first(message.conversation_id, message.id, published.seq).await?;
            self.release_others(&message, &first.state, attempt).await;
            return Ok(first);
        }
        Ok(Sent { state: MessageState::new(published.seq, message), duplicate: false })
    }

    /// Gives back what a resend has brought along anew: its message carries what it was first sent with, for ever.
    async fn release_others(&self, resent: &Message, first: &MessageState, attempt: Attempt) {
        let carried = &first.message.attachments;
        let others = resent.attachments.iter().map(|one| one.id).filter(|id| !carried.iter().any(|one| one.id == *id));
        // Of one that was deleted since nobody knows any more what it carried.
        if first.deleted.is_none() {
            self.release(&others.collect::<Vec<_>>(), resent.id, attempt).await;
        }
    }

    /// The message that the log has at this place already. It is stored: whatever keeps us from reading it is no refusal.
    async fn first(&self, conversation: ConversationId, id: MessageId, seq: u64) -> Result<Sent> {
        if let Ok(Some(Stored { event: Event { body: Body::Message(message), .. }, .. })) = self.broker.at(seq).await {
            return Ok(Sent { state: MessageState::new(seq, message), duplicate: true });
        }
        self.said(conversation, id).await.ok().flatten().ok_or_else(unreadable)
    }

    /// What was sent as it is now; what was sent before may have changed. While nobody can tell it is as it was said.
    pub async fn current(&self, sent: Sent) -> MessageState {
        let Sent { state, duplicate } = sent;
        if !duplicate {
            return state;
        }
        let now = self.said(state.message.conversation_id, state.message.id).await.ok().flatten();
        now.map_or(state, |now| now.state)
    }
}

fn unreadable() -> Error {
    Error::unavailable("outcome_unknown", "this was stored before, but cannot be read right now, try again")
        .retry_after(std::time::Duration::from_secs(1))
}
