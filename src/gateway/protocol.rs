//! What clients say and how they are answered, the same over Socket.IO and the plain WebSocket. What they are told is in
//! `domain::frame`.
//!
//! Described for clients in `openapi/asyncapi.yaml`, which a test compares with the names here.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::command::attachments;
use crate::command::changes::{self, ChangeMessage};
use crate::command::inbox::{ChangeInbox, Deed, Which, snooze};
use crate::command::messages::{Draft, SendMessage};
use crate::command::receipts::{Mark, UpTo};
use crate::domain::change::Scope;
use crate::domain::changing::What;
use crate::domain::clock::Timestamp;
use crate::domain::emoji::Emoji;
use crate::domain::frame::Synced;
use crate::domain::ids::{ConversationId, MessageId, UserId};
use crate::domain::inbox::Counts;
use crate::domain::presence::Sign;
use crate::domain::words::{MessageText, required};
use crate::error::{self, Error, Result};

/// What a client can say, checked.
#[derive(Debug)]
pub enum ClientEvent {
    /// It names its user; that must be the one of its token.
    Register {
        /// The user it names.
        user_id: String,
    },
    /// It brings a token: to be known, or to stay known.
    Authenticate {
        /// The token.
        token: String,
        /// Where it was, if it was here before.
        cursor: Option<String>,
    },
    /// It wants to be told what it missed.
    Sync {
        /// Since when.
        cursor: String,
    },
    /// It says something.
    SendMessage {
        /// Who it says is speaking.
        claimed: Option<String>,
        /// What.
        send: SendMessage,
    },
    /// It changes a message.
    ChangeMessage {
        /// Who it says is changing it.
        claimed: Option<String>,
        /// Which one, and how.
        change: ChangeMessage,
    },
    /// Somebody types, or has stopped.
    Typing {
        /// Who it says is typing.
        claimed: Option<String>,
        /// Where.
        conversation_id: ConversationId,
        /// Began or stopped.
        typing: bool,
    },
    /// Its user is there, or is doing something else.
    SetPresence {
        /// Which.
        sign: Sign,
    },
    /// It has read a conversation, or has got what was said there.
    Mark {
        /// Who it says has.
        claimed: Option<String>,
        /// Where.
        conversation_id: ConversationId,
        /// Which of both.
        mark: Mark,
        /// How far.
        up_to: UpTo,
    },
    /// Its user does something to their notifications.
    MarkNotifications {
        /// Who it says does.
        claimed: Option<String>,
        /// What.
        change: ChangeInbox,
    },
}

/// The names of what clients can say.
pub const CLIENT_EVENTS: [&str; 14] = [
    "register",
    "authenticate",
    "sendMessage",
    "editMessage",
    "deleteMessage",
    "react",
    "pinMessage",
    "typing",
    "stopTyping",
    "setPresence",
    "markRead",
    "markDelivered",
    "markNotifications",
    "sync",
];

/// Fields that only some events have; unknown ones are let pass, so that newer clients can talk to older servers.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'a> {
    #[serde(borrow, default)]
    conversation_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    sender_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    user_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    recipient_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    message_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    reply_to: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    mentions: Option<Vec<Cow<'a, str>>>,
    #[serde(borrow, default)]
    emoji: Option<Cow<'a, str>>,
    #[serde(default)]
    on: Option<bool>,
    #[serde(borrow, default)]
    scope: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    client_message_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    token: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    cursor: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    status: Option<Cow<'a, str>>,
    #[serde(default)]
    up_to: Option<serde_json::Value>,
    #[serde(borrow, default)]
    ids: Option<Vec<Cow<'a, str>>>,
    #[serde(default)]
    all: bool,
    #[serde(default)]
    read: bool,
    #[serde(default)]
    seen: bool,
    #[serde(default)]
    archived: Option<bool>,
    #[serde(borrow, default)]
    snoozed_until: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    attachment: Option<Attached<'a>>,
    #[serde(borrow, default)]
    attachments: Option<Vec<Attached<'a>>>,
}

/// An attachment that a client names; its whole record will do.
#[derive(Deserialize)]
struct Attached<'a> {
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
}

impl ClientEvent {
    /// Reads an event by name and payload.
    pub fn read(name: &str, data: Option<&RawValue>) -> Result<Self> {
        match name {
            "register" => {
                let user_id = match text(data) {
                    Some(user_id) => user_id.into_owned(),
                    None => required(payload(data)?.user_id, "userId")?.into_owned(),
                };
                Ok(Self::Register { user_id })
            }
            "authenticate" => {
                let payload = payload(data)?;
                let token = required(payload.token, "token")?.into_owned();
                Ok(Self::Authenticate { token, cursor: payload.cursor.map(Cow::into_owned) })
            }
            "sync" => Ok(Self::Sync { cursor: required(payload(data)?.cursor, "cursor")?.into_owned() }),
            "sendMessage" => {
                let payload = payload(data)?;
                let claimed = payload.sender_id.map(Cow::into_owned);
                let attached = payload.attachment.iter().chain(payload.attachments.iter().flatten());
                let send = Draft {
                    conversation_id: payload.conversation_id.as_deref(),
                    recipient_id: payload.recipient_id.as_deref(),
                    text: payload.text.as_deref(),
                    reply_to: payload.reply_to.as_deref(),
                    mentions: payload.mentions.iter().flatten().map(AsRef::as_ref).collect(),
                    client_message_id: payload.client_message_id.as_deref(),
                    attachments: attachments::ids(attached.map(|one| one.id.as_deref()))?,
                }
                .check()?;
                Ok(Self::SendMessage { claimed, send })
            }
            "editMessage" | "deleteMessage" | "react" | "pinMessage" => {
                let payload = payload(data)?;
                let what = what(name, &payload)?;
                let change =
                    ChangeMessage::new(payload.conversation_id.as_deref(), payload.message_id.as_deref(), what)?;
                Ok(Self::ChangeMessage { claimed: payload.sender_id.or(payload.user_id).map(Cow::into_owned), change })
            }
            "typing" | "stopTyping" => {
                let payload = payload(data)?;
                Ok(Self::Typing {
                    conversation_id: required(payload.conversation_id, "conversationId")?.parse()?,
                    claimed: payload.sender_id.map(Cow::into_owned),
                    typing: name == "typing",
                })
            }
            "setPresence" => Ok(Self::SetPresence { sign: required(payload(data)?.status, "status")?.parse()? }),
            "markRead" | "markDelivered" => {
                let payload = payload(data)?;
                Ok(Self::Mark {
                    conversation_id: required(payload.conversation_id, "conversationId")?.parse()?,
                    claimed: payload.user_id.map(Cow::into_owned),
                    mark: if name == "markRead" { Mark::Read } else { Mark::Delivered },
                    up_to: UpTo::read(payload.up_to.as_ref())?,
                })
            }
            "markNotifications" => {
                let payload = payload(data)?;
                let change = mark(&payload)?;
                Ok(Self::MarkNotifications { claimed: payload.user_id.map(Cow::into_owned), change })
            }
            _ => Err(Error::invalid("unknown_event", "there is no event of this name")),
        }
    }
}

/// What an event says is to be done to a message.
fn what(name: &str, payload: &Payload<'_>) -> Result<What> {
    let on = payload.on.unwrap_or(true);
    match name {
        "editMessage" => {
            let text = MessageText::new(required(payload.text.as_deref(), "text")?)?;
            let mentions = payload.mentions.as_ref().map(|all| changes::mentions(all.iter().map(AsRef::as_ref)));
            Ok(What::Edit { text, mentions: mentions.transpose()? })
        }
        "deleteMessage" => Ok(What::Delete(payload.scope.as_deref().map_or(Ok(Scope::Everybody), str::parse)?)),
        "react" => Ok(What::React { emoji: Emoji::new(required(payload.emoji.as_deref(), "emoji")?)?, on }),
        _ => Ok(What::Pin { on }),
    }
}

/// What an event says is to be done to notifications.
fn mark(payload: &Payload<'_>) -> Result<ChangeInbox> {
    let up_to = match UpTo::read(payload.up_to.as_ref())? {
        UpTo::Seen => None,
        UpTo::Seq(seq) => Some(seq),
        UpTo::Message(_) => return Err(Error::invalid("malformed_up_to", "upTo is a seq")),
    };
    let until = payload.snoozed_until.as_deref().map(snooze).transpose()?;
    let deed = Deed { seen: payload.seen, read: payload.read, archived: payload.archived, snoozed_until: until };
    ChangeInbox::new(
        Which::read(payload.ids.as_ref().map(|ids| ids.iter().map(AsRef::as_ref)), payload.all)?,
        up_to,
        deed,
    )
}

fn payload(data: Option<&RawValue>) -> Result<Payload<'_>> {
    let data = data.map_or("null", RawValue::get);
    if !data.starts_with('{') {
        return Err(Error::invalid("malformed_payload", "an object is expected as payload"));
    }
    serde_json::from_str(data)
        .map_err(|error| Error::invalid("malformed_payload", format!("the payload cannot be read: {error}")))
}

fn text(data: Option<&RawValue>) -> Option<Cow<'_, str>> {
    serde_json::from_str(data?.get()).ok()
}

/// The answer to an event that asked for one.
#[derive(Debug, Serialize)]
pub struct Answer<'a> {
    /// Whether it was done.
    pub ok: bool,
    /// What came of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Done>,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<error::Body<'a>>,
}

/// What came of an event.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Done {
    /// A message is stored.
    #[serde(rename_all = "camelCase")]
    Sent {
        /// Its id.
        id: MessageId,
        /// Its place in the log.
        seq: u64,
        /// When the server took it.
        created_at: Timestamp,
    },
    /// The client has been told what it missed, or not.
    Synced(Synced),
    /// The socket is known as this user.
    #[serde(rename_all = "camelCase")]
    Known {
        /// Who.
        user_id: UserId,
        /// When the token stops being good.
        expires_at: Timestamp,
    },
    /// A message is as it was asked for.
    #[serde(rename_all = "camelCase")]
    Changed {
        /// Where it is.
        conversation_id: ConversationId,
        /// Which message.
        message_id: MessageId,
        /// The place of the change in the log, if there was something to change.
        #[serde(skip_serializing_if = "Option::is_none")]
        seq: Option<u64>,
    },
    /// A mark is where it should be.
    #[serde(rename_all = "camelCase")]
    Read {
        /// Where.
        conversation_id: ConversationId,
        /// How far.
        read_seq: u64,
    },
    /// A mark is where it should be.
    #[serde(rename_all = "camelCase")]
    Delivered {
        /// Where.
        conversation_id: ConversationId,
        /// How far.
        delivered_seq: u64,
    },
    /// Notifications are as it was asked for.
    NotificationsMarked {
        /// The place of that in the log.
        seq: u64,
        /// What is left.
        counts: Counts,
    },
    /// Done, and there is nothing to say about it.
    Nothing {},
}

impl<'a> Answer<'a> {
    /// The answer for this outcome.
    #[must_use]
    pub fn of(outcome: &'a Result<Done>) -> Self {
        match outcome {
            Ok(done) => Self { ok: true, data: Some(done.clone()), error: None },
            Err(error) => Self { ok: false, data: None, error: Some(error.body()) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::AttachmentId;

    fn read(name: &str, json: &str) -> Result<ClientEvent> {
        let data: &RawValue = serde_json::from_str(json).expect("JSON");
        ClientEvent::read(name, Some(data))
    }

    fn reason(name: &str, json: &str) -> &'static str {
        read(name, json).expect_err("refused").reason()
    }

    const CNV: &str = "cnv_00000000000000000000000005";

    #[test]
    fn the_fixed_contract_is_read() {
        let user = UserId::from_bits(2);
        assert!(matches!(read("register", &format!("\"{user}\"")), Ok(ClientEvent::Register { .. })));
        assert!(matches!(read("register", &format!(r#"{{"userId":"{user}"}}"#)), Ok(ClientEvent::Register { .. })));
        let send = format!(
            r#"{{"conversationId":"{CNV}","senderId":"{user}","recipientId":"{user}","text":"caf\u00e9","attachment":null}}"#
        );
        let Ok(ClientEvent::SendMessage { claimed, send }) = read("sendMessage", &send) else { panic!("not read") };
        assert_eq!(claimed, Some(user.to_string()));
        assert_eq!(send.text.as_ref().map(MessageText::as_str), Some("café"));
        let ids = [1, 2, 3].map(AttachmentId::from_bits);
        let [first, second, third] = ids;
        let send = format!(
            r#"{{"conversationId":"{CNV}","attachment":{{"id":"{first}","name":"x"}},"attachments":[{{"id":"{second}"}},{{"id":"{third}"}}]}}"#
        );
        let Ok(ClientEvent::SendMessage { send, .. }) = read("sendMessage", &send) else { panic!("not read") };
        assert_eq!((send.text, send.attachments), (None, ids.to_vec()));
        let typing = format!(r#"{{"conversationId":"{CNV}","senderId":"{user}","recipientId":"{user}"}}"#);
        assert!(matches!(read("typing", &typing), Ok(ClientEvent::Typing { typing: true, .. })));
        assert!(matches!(read("stopTyping", &typing), Ok(ClientEvent::Typing { typing: false, .. })));
        assert!(matches!(read("markRead", &typing), Ok(ClientEvent::Mark { mark: Mark::Read, up_to: UpTo::Seen, .. })));
        let mark = format!(r#"{{"conversationId":"{CNV}","upTo":7}}"#);
        let marked = read("markDelivered", &mark);
        assert!(matches!(marked, Ok(ClientEvent::Mark { mark: Mark::Delivered, up_to: UpTo::Seq(7), .. })));
        let away = read("setPresence", r#"{"status":"away"}"#);
        assert!(matches!(away, Ok(ClientEvent::SetPresence { sign: Sign::Away })));
    }

    #[test]
    fn whatever_else_comes_has_a_stable_reason() {
        assert_eq!(reason("shout", "{}"), "unknown_event");
        assert_eq!(reason("sendMessage", "[]"), "malformed_payload");
        assert_eq!(reason("sendMessage", "null"), "malformed_payload");
        assert_eq!(reason("sendMessage", r#"{"conversationId":7}"#), "malformed_payload");
        assert_eq!(reason("sendMessage", "{}"), "missing_field");
        assert_eq!(reason("sendMessage", r#"{"conversationId":"nonsense","text":"x"}"#), "malformed_id");
        assert_eq!(reason("sendMessage", &format!(r#"{{"conversationId":"{CNV}","text":""}}"#)), "empty_text");
        let attached = |rest: &str| reason("sendMessage", &format!(r#"{{"conversationId":"{CNV}",{rest}}}"#));
        assert_eq!(attached(r#""text":"x","attachment":{}"#), "missing_field");
        assert_eq!(attached(r#""text":"x","attachment":"cat.png""#), "malformed_payload");
        assert_eq!(attached(r#""text":"x","attachment":{"id":"nonsense"}"#), "malformed_id");
        assert_eq!(attached(r#""attachments":[]"#), "missing_field");
        assert_eq!(reason("typing", "{}"), "missing_field");
        assert_eq!(reason("markRead", &format!(r#"{{"conversationId":"{CNV}","upTo":-1}}"#)), "malformed_up_to");
        assert_eq!(reason("markDelivered", &format!(r#"{{"conversationId":"{CNV}","upTo":"7"}}"#)), "malformed_id");
        let ids = r#""ids":["ntf_00000000000000000000000001"]"#;
        assert_eq!(reason("markNotifications", &format!("{{{ids}}}")), "nothing_to_change");
        assert_eq!(reason("markNotifications", r#"{"read":true}"#), "missing_field");
        assert_eq!(reason("markNotifications", &format!(r#"{{{ids},"all":true,"read":true}}"#)), "ids_and_all");
        assert_eq!(reason("markNotifications", r#"{"all":true,"read":1}"#), "malformed_payload");
        let until = r#"{"all":true,"snoozedUntil":"tomorrow"}"#;
        assert_eq!(reason("markNotifications", until), "malformed_snooze");
        assert_eq!(reason("markNotifications", r#"{"all":true,"upTo":"x","read":true}"#), "malformed_id");
        let marked = read("markNotifications", &format!(r#"{{{ids},"seen":true,"archived":false,"upTo":7}}"#));
        assert!(matches!(marked, Ok(ClientEvent::MarkNotifications { .. })));
        assert_eq!(reason("register", "7"), "malformed_payload");
        assert_eq!(reason("authenticate", "{}"), "missing_field");
        assert_eq!(reason("sync", "{}"), "missing_field");
        assert_eq!(reason("setPresence", "{}"), "missing_field");
        assert_eq!(reason("setPresence", r#"{"status":"offline"}"#), "unknown_status");
    }

    #[test]
    fn changes_of_messages_are_read() {
        const MSG: &str = "msg_00000000000000000000000004";
        let what = |name: &str, more: &str| match read(
            name,
            &format!(r#"{{"conversationId":"{CNV}","messageId":"{MSG}"{more}}}"#),
        ) {
            Ok(ClientEvent::ChangeMessage { change, .. }) => Ok(change.what),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.reason()),
        };
        let text = MessageText::new("x").expect("a text");
        let named = vec![UserId::from_bits(7)];
        assert_eq!(
            what("editMessage", r#","text":"x""#),
            Ok(What::Edit { text: text.clone(), mentions: None }),
            "they stay as they were"
        );
        assert_eq!(
            what("editMessage", &format!(r#","text":"x","mentions":["{}"]"#, named[0])),
            Ok(What::Edit { text, mentions: Some(named) })
        );
        assert_eq!(what("deleteMessage", ""), Ok(What::Delete(Scope::Everybody)));
        assert_eq!(what("deleteMessage", r#","scope":"me""#), Ok(What::Delete(Scope::Me)));
        assert_eq!(what("deleteMessage", r#","scope":"some""#), Err("unknown_scope"));
        let emoji = Emoji::new("👍").expect("an emoji");
        assert_eq!(what("react", r#","emoji":"👍""#), Ok(What::React { emoji, on: true }));
        assert_eq!(what("react", r#","emoji":"👍","on":false"#), Ok(What::React { emoji, on: false }));
        assert_eq!(what("react", r#","emoji":"yes""#), Err("malformed_emoji"));
        assert_eq!(what("pinMessage", ""), Ok(What::Pin { on: true }));
        assert_eq!(what("pinMessage", r#","on":1"#), Err("malformed_payload"));
        assert_eq!(reason("react", r#"{"emoji":"👍"}"#), "missing_field");
    }

    #[test]
    fn the_names_listed_are_the_names_read() {
        for name in CLIENT_EVENTS {
            let refused = read(name, "{}").expect_err("nothing works without fields").reason();
            assert_ne!(refused, "unknown_event", "{name}");
        }
    }

    #[test]
    fn an_answer_has_data_or_an_error() {
        let done: Result<Done> = Ok(Done::Nothing {});
        assert_eq!(serde_json::to_string(&Answer::of(&done)).expect("JSON"), r#"{"ok":true,"data":{}}"#);
        let failed: Result<Done> = Err(Error::invalid("empty_text", "text must not be empty"));
        assert_eq!(
            serde_json::to_string(&Answer::of(&failed)).expect("JSON"),
            r#"{"ok":false,"error":{"code":"invalid","reason":"empty_text","message":"text must not be empty","retryable":false}}"#
        );
    }
}
