//! A message to send, as a request has it: JSON, or a form that brings files along.

use poem_openapi::payload::Json;
use poem_openapi::{ApiRequest, Object};

use super::attachments::form::{self, MessageForm, Room};
use super::text::Text;
use crate::auth::Actor;
use crate::command::Commands;
use crate::command::attachments::{self, too_many};
use crate::command::messages::{Draft, SendMessage};
use crate::domain::attachment::LIMIT;
use crate::domain::ids::AttachmentId;
use crate::domain::trace::TraceContext;
use crate::error::Result;

/// A message to send.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub(super) struct NewMessage {
    /// Where (`cnv_...`).
    conversation_id: Option<Text>,
    /// Your own id; it is checked, and may be left out.
    sender_id: Option<Text>,
    /// A participant you expect to be there.
    recipient_id: Option<Text>,
    /// What you say: 1 to 8,000 characters; with an attachment it may be left out.
    text: Option<Text>,
    /// An attachment of yours that belongs to no message.
    attachment: Option<Attached>,
    /// Several of them, at most 10.
    attachments: Option<Vec<Attached>>,
    /// The message that it answers (`msg_...`).
    reply_to: Option<Text>,
    /// The ids of participants that it names, at most 50.
    mentions: Option<Vec<Text>>,
    /// Your own id for this send: sent again with the same one, it is the same message.
    client_message_id: Option<Text>,
}

/// An attachment that was uploaded.
#[derive(Object)]
#[oai(rename = "Attached", rename_all = "camelCase")]
struct Attached {
    /// Which one (`att_...`).
    id: Option<Text>,
}

/// A message to send, with or without files.
#[derive(ApiRequest)]
pub(super) enum Composed {
    /// Words, and attachments that were uploaded before.
    Json(Json<NewMessage>),
    /// Words and files.
    Form(MessageForm),
}

/// A message that was read.
pub(super) struct Read {
    /// What is to be sent.
    pub(super) send: SendMessage,
    /// What has come with it: if it is not sent, nobody needs that any more.
    pub(super) brought: Vec<AttachmentId>,
}

/// The words of a form.
#[derive(Default)]
struct Words {
    conversation_id: Option<String>,
    sender_id: Option<String>,
    recipient_id: Option<String>,
    text: Option<String>,
    reply_to: Option<String>,
    mentions: Vec<String>,
    client_message_id: Option<String>,
}

impl Composed {
    /// Reads it; files are taken in on the way.
    pub(super) async fn read(
        self,
        commands: &Commands,
        actor: &Actor,
        idempotency_key: Option<&str>,
        trace: Option<TraceContext>,
    ) -> Result<Read> {
        match self {
            Self::Json(Json(body)) => body.read(actor, idempotency_key),
            Self::Form(form) => {
                let mut brought = Vec::new();
                match read_form(form, commands, actor, idempotency_key, trace, &mut brought).await {
                    Ok(send) => Ok(Read { send, brought }),
                    Err(error) => {
                        discard(commands, actor, &brought).await;
                        Err(error)
                    }
                }
            }
        }
    }
}

impl NewMessage {
    fn read(&self, actor: &Actor, idempotency_key: Option<&str>) -> Result<Read> {
        actor.check_claim(self.sender_id.as_deref())?;
        let attached = self.attachment.iter().chain(self.attachments.iter().flatten());
        let draft = Draft {
            conversation_id: self.conversation_id.as_deref(),
            recipient_id: self.recipient_id.as_deref(),
            text: self.text.as_deref(),
            reply_to: self.reply_to.as_deref(),
            mentions: self.mentions.iter().flatten().map(|user| &**user).collect(),
            client_message_id: self.client_message_id.as_deref().or(idempotency_key),
            attachments: attachments::ids(attached.map(|one| one.id.as_deref()))?,
        };
        Ok(Read { send: draft.check()?, brought: Vec::new() })
    }
}

async fn read_form(
    form: MessageForm,
    commands: &Commands,
    actor: &Actor,
    idempotency_key: Option<&str>,
    trace: Option<TraceContext>,
    brought: &mut Vec<AttachmentId>,
) -> Result<SendMessage> {
    let MessageForm(mut form) = form;
    let (mut words, mut room) = (Words::default(), Room::default());
    while let Some(part) = form.next().await? {
        if let Some(name) = part.file_name() {
            if part.name() != "attachment" {
                continue;
            }
            if brought.len() >= LIMIT {
                return Err(too_many());
            }
            let (name, media_type) = (name.to_owned(), part.media_type());
            // Nobody brings files to where they may not be, if that is known by now.
            if let Some(place) = words.conversation_id.as_deref().filter(|_| brought.is_empty()) {
                commands.require_participant(actor, place.parse()?).await?;
            }
            let named = form::named(&name, media_type.as_deref());
            brought.push(commands.upload(actor, named, part.bytes(), trace).await?.id);
            continue;
        }
        let field = match part.name() {
            "conversationId" => &mut words.conversation_id,
            "senderId" => &mut words.sender_id,
            "recipientId" => &mut words.recipient_id,
            "text" => &mut words.text,
            "replyTo" => &mut words.reply_to,
            "clientMessageId" => &mut words.client_message_id,
            "mentions" => {
                words.mentions.push(part.text(&mut room).await?);
                continue;
            }
            _ => continue,
        };
        *field = Some(part.text(&mut room).await?);
        // Whoever is not who they say brings no files for others.
        actor.check_claim(words.sender_id.as_deref())?;
    }
    let ids: Vec<String> = brought.iter().map(ToString::to_string).collect();
    let draft = Draft {
        conversation_id: words.conversation_id.as_deref(),
        recipient_id: words.recipient_id.as_deref(),
        text: words.text.as_deref(),
        reply_to: words.reply_to.as_deref(),
        mentions: words.mentions.iter().map(String::as_str).collect(),
        client_message_id: words.client_message_id.as_deref().or(idempotency_key),
        attachments: ids.iter().map(String::as_str).collect(),
    };
    draft.check()
}

/// Takes back what came with a message that was not sent. What stays all the same belongs to no message, and goes by itself.
pub(super) async fn discard(commands: &Commands, actor: &Actor, brought: &[AttachmentId]) {
    for id in brought {
        let _ = commands.discard_upload(actor, *id).await;
    }
}
