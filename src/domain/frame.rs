//! Frames: what clients are told, by name and payload, the same over every kind of connection.
//!
//! A frame is encoded once and shared by every socket that it goes to. Described for clients in `openapi/asyncapi.yaml`.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;

use super::clock::Timestamp;
use super::context::Context;
use super::conversation::{self, Conversation, Participant, ParticipantRole};
use super::cursor::Cursor;
use super::decision::Outcome;
use super::event::{Body, Stored};
use super::ids::{ConversationId, EventId, NotificationId, UserId};
use super::message::Message;
use super::notification::{self, Data, Notification};
use super::presence::Presence;
use super::receipt::Receipt;
use super::typing::Typing;
use crate::error::{Error, Result};

/// The names of what clients are told.
pub const SERVER_EVENTS: [&str; 20] = [
    "message",
    "messageEdited",
    "messageDeleted",
    "reaction",
    "messagePinned",
    "attachmentUpdated",
    "typing",
    "stopTyping",
    "notification",
    "notificationState",
    "presence",
    "presenceSnapshot",
    "messagesRead",
    "messagesDelivered",
    "conversation",
    "conversationSetting",
    "preferences",
    "synced",
    "heartbeat",
    "exception",
];

/// What a client is told.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Its name.
    pub event: &'static str,
    /// Its place in the log, if it has one.
    pub seq: Option<u64>,
    /// Its payload.
    pub data: Arc<RawValue>,
    /// What is delivered with it, if that is something that a client can confirm.
    pub carries: Option<Carried>,
}

/// A message that a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carried {
    /// Where it was said.
    pub conversation_id: ConversationId,
    /// Who said it.
    pub sender_id: UserId,
    /// Its place.
    pub seq: u64,
}

impl Frame {
    fn new(event: &'static str, seq: Option<u64>, data: &impl Serialize) -> Result<Self> {
        let data = serde_json::value::to_raw_value(data).map_err(Error::internal)?;
        Ok(Self { event, seq, data: data.into(), carries: None })
    }

    /// A durable event, as everybody it concerns is told it. Every kind of event has its frame here, so that whatever the
    /// log has can be pushed, and replayed to those who were away.
    pub fn durable(stored: &Stored, epoch: u64) -> Result<Self> {
        let place = Place { seq: stored.seq, cursor: Cursor { epoch, seq: stored.seq } };
        match &stored.event.body {
            Body::Message(message) => {
                let Message { conversation_id, sender_id, .. } = *message;
                let carries = Some(Carried { conversation_id, sender_id, seq: place.seq });
                Ok(Self { carries, ..Self::placed("message", place, message)? })
            }
            Body::Conversation(conversation) => {
                Self::placed("conversation", place, &ConversationFrame::of(conversation))
            }
            Body::Notification(notification) => {
                Self::placed("notification", place, &NotificationFrame::of(notification))
            }
            Body::Edit(edit) => Self::noted("messageEdited", stored, place, edit),
            Body::Deletion(deletion) => Self::noted("messageDeleted", stored, place, deletion),
            Body::Reaction(reaction) => Self::noted("reaction", stored, place, reaction),
            Body::Pin(pin) => Self::noted("messagePinned", stored, place, pin),
            Body::Attachment(progress) => Self::noted("attachmentUpdated", stored, place, progress),
            Body::Receipt(receipt) if receipt.read_seq > 0 => {
                Self::noted("messagesRead", stored, place, &ReadFrame::of(receipt))
            }
            Body::Receipt(receipt) => Self::noted("messagesDelivered", stored, place, &DeliveredFrame::of(receipt)),
            Body::Setting(setting) => Self::noted("conversationSetting", stored, place, setting),
            Body::NotificationState(state) => Self::noted("notificationState", stored, place, state),
            Body::Preferences(preferences) => Self::noted("preferences", stored, place, preferences),
        }
    }

    /// A durable event that has an id of its own.
    fn placed(event: &'static str, place: Place, frame: &impl Serialize) -> Result<Self> {
        Self::new(event, Some(place.seq), &Placed { frame, place })
    }

    /// A durable event that goes by the id of its envelope.
    fn noted(event: &'static str, stored: &Stored, place: Place, frame: &impl Serialize) -> Result<Self> {
        Self::new(event, Some(place.seq), &Noted { id: stored.event.id, frame, place })
    }

    /// Somebody types, or has stopped.
    pub fn typing(typing: &Typing) -> Result<Self> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct TypingFrame {
            conversation_id: ConversationId,
            sender_id: UserId,
        }
        let frame = TypingFrame { conversation_id: typing.conversation_id, sender_id: typing.sender_id };
        Self::new(if typing.typing { "typing" } else { "stopTyping" }, None, &frame)
    }

    /// Somebody came or went.
    pub fn presence(presence: &Presence) -> Result<Self> {
        Self::new("presence", None, presence)
    }

    /// Who is there.
    pub fn presence_snapshot(there: &[Presence]) -> Result<Self> {
        #[derive(Serialize)]
        struct Snapshot<'a> {
            items: &'a [Presence],
        }
        Self::new("presenceSnapshot", None, &Snapshot { items: there })
    }

    /// What was missed has been told, or cannot be; from here on it is live.
    pub fn synced(synced: &Synced) -> Result<Self> {
        Self::new("synced", None, synced)
    }

    /// The connection works, and this is how far it is.
    pub fn heartbeat(cursor: Cursor, head_seq: Option<u64>) -> Result<Self> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Heartbeat {
            cursor: Cursor,
            #[serde(skip_serializing_if = "Option::is_none")]
            head_seq: Option<u64>,
        }
        Self::new("heartbeat", None, &Heartbeat { cursor, head_seq })
    }

    /// Something went wrong and nobody asked for an answer.
    pub fn exception(error: &Error) -> Result<Self> {
        Self::new("exception", None, &error.body())
    }

    /// About how many bytes it takes on the wire.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.event.len() + self.data.get().len() + 24
    }
}

/// How a resume went.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Synced {
    /// Everything missed was told.
    pub recovered: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// Where to resume from next time.
    pub cursor: String,
    /// Events that were told again.
    pub events: usize,
}

impl Synced {
    /// Nothing was told again, for this reason; the client goes on from this cursor.
    #[must_use]
    pub fn lost(reason: &'static str, cursor: Cursor) -> Self {
        Self { recovered: false, reason: Some(reason), cursor: cursor.to_string(), events: 0 }
    }
}

/// A notification as its user is told it. What decided is told whoever asks.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NotificationFrame<'a> {
    id: NotificationId,
    user_id: UserId,
    entry_id: NotificationId,
    kind: notification::Kind,
    title: &'a str,
    body: &'a str,
    data: &'a Data,
    /// It is listed, and is to make no noise.
    silent: bool,
    created_at: Timestamp,
}

impl<'a> NotificationFrame<'a> {
    fn of(notification: &'a Notification) -> Self {
        Self {
            id: notification.id,
            user_id: notification.user_id,
            entry_id: notification.entry_id,
            kind: notification.kind,
            title: &notification.title,
            body: &notification.body,
            data: &notification.data,
            silent: notification.decision.inbox.outcome == Outcome::Silent,
            created_at: notification.created_at,
        }
    }
}

#[derive(Clone, Copy, Serialize)]
struct Place {
    seq: u64,
    cursor: Cursor,
}

#[derive(Serialize)]
struct Placed<T> {
    #[serde(flatten)]
    frame: T,
    #[serde(flatten)]
    place: Place,
}

#[derive(Serialize)]
struct Noted<T> {
    id: EventId,
    #[serde(flatten)]
    frame: T,
    #[serde(flatten)]
    place: Place,
}

/// A conversation as all of its participants are told it: from where on somebody sees it is their own business.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ConversationFrame<'a> {
    id: ConversationId,
    kind: conversation::Kind,
    participants: Vec<ParticipantFrame>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<&'a Context>,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
    created_by: UserId,
    created_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    closed_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    removed: &'a [UserId],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ParticipantFrame {
    user_id: UserId,
    role: ParticipantRole,
    joined_at: Timestamp,
}

impl<'a> ConversationFrame<'a> {
    fn of(conversation: &'a Conversation) -> Self {
        let participant = |one: &Participant| {
            let Participant { user_id, role, joined_at, visible_from: _ } = *one;
            ParticipantFrame { user_id, role, joined_at }
        };
        let Conversation { id, kind, participants, context, title, created_by, created_at, closed_at, removed } =
            conversation;
        Self {
            id: *id,
            kind: *kind,
            participants: participants.iter().map(participant).collect(),
            context: context.as_ref(),
            title: title.as_deref(),
            created_by: *created_by,
            created_at: *created_at,
            closed_at: *closed_at,
            removed,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReadFrame {
    conversation_id: ConversationId,
    user_id: UserId,
    read_seq: u64,
    /// Only if it is further than what was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    delivered_seq: Option<u64>,
    /// Only the user's own sockets are told.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    hidden: bool,
}

impl ReadFrame {
    fn of(receipt: &Receipt) -> Self {
        let Receipt { conversation_id, user_id, read_seq, delivered_seq, hidden } = *receipt;
        let delivered_seq = (delivered_seq > read_seq).then_some(delivered_seq);
        Self { conversation_id, user_id, read_seq, delivered_seq, hidden }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DeliveredFrame {
    conversation_id: ConversationId,
    user_id: UserId,
    delivered_seq: u64,
}

impl DeliveredFrame {
    const fn of(receipt: &Receipt) -> Self {
        let Receipt { conversation_id, user_id, delivered_seq, .. } = *receipt;
        Self { conversation_id, user_id, delivered_seq }
    }
}
