//! Sending messages.

use super::directory::Entry;
use super::limits::InHand;
use super::{Commands, changes};
use crate::auth::Actor;
use crate::broker::publish::Pending;
use crate::domain::event::{Body, Event, Stored};
use crate::domain::ids::{ConversationId, MessageId, UserId};
use crate::domain::message::{self, Kind, Message, Quote};
use crate::domain::trace::TraceContext;
use crate::domain::words::{ClientMessageId, MessageText, required};
use crate::error::{Error, Result};

/// A message to send.
#[derive(Debug)]
pub struct SendMessage {
    /// Where.
    pub conversation_id: ConversationId,
    /// A user who is expected to be there.
    pub recipient_id: Option<UserId>,
    /// What is said.
    pub text: MessageText,
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
    /// Whether something is attached.
    pub attachment: bool,
}

impl Draft<'_> {
    /// Checks everything that can be checked without knowing who is who.
    pub fn check(self) -> Result<SendMessage> {
        if self.attachment {
            return Err(Error::invalid("attachments_unsupported", "this server does not take attachments yet"));
        }
        Ok(SendMessage {
            conversation_id: required(self.conversation_id, "conversationId")?.parse()?,
            recipient_id: self.recipient_id.map(str::parse).transpose()?,
            text: MessageText::new(required(self.text, "text")?)?,
            reply_to: self.reply_to.map(str::parse).transpose()?,
            mentions: changes::mentions(self.mentions)?,
            client_message_id: self.client_message_id.map(ClientMessageId::new).transpose()?,
        })
    }
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
    },
    /// It was stored long ago.
    Known(Sent),
}

/// A message that the log has.
#[derive(Debug, Clone)]
pub struct Sent {
    /// The message.
    pub message: Message,
    /// Its place in the log.
    pub seq: u64,
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
        let entry = self.speak_in(actor, send.conversation_id, trace).await?;
        if send.recipient_id.is_some_and(|recipient| recipient == actor.user_id || !entry.conversation.has(recipient)) {
            return Err(Error::invalid(
                "recipient_not_a_participant",
                "recipientId is no other participant of this conversation",
            ));
        }
        self.require_heard(actor.user_id, &entry.conversation).await?;
        changes::require_there(&entry, &send.mentions)?;
        let in_hand = self.limits.admit(actor.user_id, now)?;
        if send.client_message_id.is_some()
            && let Some((seq, message)) = self.resends.first(id, entry.conversation.created_at, now).await
        {
            return Ok(Sending::Known(Sent { message, seq, duplicate: true }));
        }
        let reply_to = match send.reply_to {
            None => None,
            Some(quoted) => match self.quote(&entry, actor.user_id, quoted).await {
                Ok(quote) => Some(quote),
                // What was said once stays said, whatever has become of what it answers.
                Err(error) => match self.said(&send, id).await {
                    Some(sent) => return Ok(Sending::Known(sent)),
                    None => return Err(error),
                },
            },
        };
        let message = Message {
            id,
            conversation_id: send.conversation_id,
            sender_id: actor.user_id,
            sender_name: actor.name.to_string(),
            kind: Kind::Text,
            text: send.text.into(),
            reply_to,
            mentions: send.mentions,
            entry: None,
            client_message_id: send.client_message_id.map(String::from),
            created_at: now,
        };
        let recipients = entry.conversation.users().collect();
        let event = self.event(actor.user_id, recipients, Body::Message(message.clone()));
        let pending = self.publisher.enqueue(&event, trace)?;
        Ok(Sending::InLine { message, pending, in_hand })
    }

    /// The message that is answered, as everybody is told: with its words only if all of them can see it.
    async fn quote(&self, entry: &Entry, user: UserId, id: MessageId) -> Result<Quote> {
        let touched = self.lookup.find(entry.conversation.id, id, entry.sight(user).from).await?;
        let mut quote = touched.look(|state| state.quotable_by(user))??;
        if entry.conversation.audience(quote.seq).count() < entry.conversation.participants.len() {
            quote.text.clear();
        }
        Ok(quote)
    }

    /// The message that this send has led to before, if it has.
    async fn said(&self, send: &SendMessage, id: MessageId) -> Option<Sent> {
        send.client_message_id.as_ref()?;
        let touched = self.lookup.find(send.conversation_id, id, 0).await.ok()?;
        touched.look(|state| Sent { message: state.message.clone(), seq: state.seq, duplicate: true }).ok()
    }

    /// Waits until the log has the message. A resend is answered with the first one.
    pub async fn sent(&self, sending: Sending) -> Result<Sent> {
        let (message, pending, in_hand) = match sending {
            Sending::Known(sent) => return Ok(sent),
            Sending::InLine { message, pending, in_hand } => (message, pending, in_hand),
        };
        let published = pending.stored().await?;
        drop(in_hand);
        if published.duplicate {
            return self.first(message.id, published.seq).await;
        }
        Ok(Sent { message, seq: published.seq, duplicate: published.duplicate })
    }

    /// The message that the log has at this place already. It is stored: whatever keeps us from reading it is no refusal.
    async fn first(&self, id: MessageId, seq: u64) -> Result<Sent> {
        let logged = match self.broker.at(seq).await {
            Ok(Some(Stored { event: Event { body: Body::Message(message), .. }, .. })) => Some(message),
            _ => None,
        };
        let message = match logged {
            Some(message) => message,
            None => self
                .store
                .messages_by_id(&[id])
                .await
                .ok()
                .and_then(|mut found| found.pop())
                .map(|state| state.message)
                .ok_or_else(unreadable)?,
        };
        Ok(Sent { message, seq, duplicate: true })
    }
}

fn unreadable() -> Error {
    Error::unavailable("outcome_unknown", "this was stored before, but cannot be read right now, try again")
        .retry_after(std::time::Duration::from_secs(1))
}
