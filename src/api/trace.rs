//! `/messages/{conversationId}/{messageId}/trace`: where a message is.

use poem::web::Data;
use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};

use super::{Caller, Group, Reply};
use crate::domain::clock::Timestamp;
use crate::query::Queries;
use crate::query::trace::{Notified, Recipient, Trace};

/// The way of a message. What is not known, or not any more, is absent.
#[derive(Object)]
#[oai(rename = "MessageTrace", rename_all = "camelCase", skip_serializing_if_is_none)]
struct TraceBody {
    /// Which message.
    message_id: String,
    /// Where it was said.
    conversation_id: String,
    /// Its place in the log.
    seq: u64,
    /// When the server took it.
    accepted_at: String,
    /// When the log had it; absent once the log was trimmed that far.
    stored_at: Option<String>,
    /// Whether the database has it.
    projected: bool,
    /// There if the log was trimmed since: what happened before this `seq` is not known any more, and so no times of
    /// deliveries and readings.
    unknown_before: Option<u64>,
    /// Whom it was for, without its sender: all of them if you sent it or are an agent of the shop, else yourself.
    recipients: Vec<RecipientBody>,
}

/// How far a message has come to somebody.
#[derive(Object)]
#[oai(rename = "TraceRecipient", rename_all = "camelCase", skip_serializing_if_is_none)]
struct RecipientBody {
    /// Who.
    user_id: String,
    /// The notification that follows from it; absent as long as there is none.
    notification: Option<NotificationBody>,
    /// The instances that put it in line for this user's sockets, about a second later; kept for `TRACE_DAYS`.
    pushed: Vec<PushBody>,
    /// When it was delivered.
    delivered_at: Option<String>,
    /// How far messages have come to them; this one has if that is its `seq` or more.
    delivered_seq: u64,
    /// When they read it.
    read_at: Option<String>,
    /// How far they have read, or let others see that they have.
    read_seq: u64,
}

/// The notification that follows from a message.
#[derive(Object)]
#[oai(rename = "TraceNotification", rename_all = "camelCase", skip_serializing_if_is_none)]
struct NotificationBody {
    /// Its id (`ntf_...`).
    id: String,
    /// `sent`, `silent` or `held`; only for its user and for agents of the shop.
    outcome: Option<String>,
    /// What decided that; likewise.
    rule: Option<String>,
    /// When the log had it.
    at: Option<String>,
}

/// A message was put in line for somebody's sockets.
#[derive(Object)]
#[oai(rename = "TracePush", rename_all = "camelCase")]
struct PushBody {
    /// By which instance (`ins_...`), as its log says when it starts.
    instance: String,
    /// When.
    at: String,
}

fn shown(at: Option<Timestamp>) -> Option<String> {
    at.map(|at| at.to_string())
}

impl From<Trace> for TraceBody {
    fn from(trace: Trace) -> Self {
        Self {
            message_id: trace.message_id.to_string(),
            conversation_id: trace.conversation_id.to_string(),
            seq: trace.seq,
            accepted_at: trace.accepted_at.to_string(),
            stored_at: shown(trace.stored_at),
            projected: trace.projected,
            unknown_before: trace.unknown_before,
            recipients: trace.recipients.into_iter().map(RecipientBody::from).collect(),
        }
    }
}

impl From<Recipient> for RecipientBody {
    fn from(one: Recipient) -> Self {
        let pushed = one.pushed.into_iter();
        Self {
            user_id: one.user_id.to_string(),
            notification: one.notified.map(NotificationBody::from),
            pushed: pushed.map(|one| PushBody { instance: one.instance.to_string(), at: one.at.to_string() }).collect(),
            delivered_at: shown(one.journey.delivered_at),
            delivered_seq: one.marks.delivered,
            read_at: shown(one.journey.read_at),
            read_seq: one.marks.read,
        }
    }
}

impl From<Notified> for NotificationBody {
    fn from(one: Notified) -> Self {
        Self {
            id: one.id.to_string(),
            outcome: one.decision.map(|decision| decision.outcome.word().to_owned()),
            rule: one.decision.map(|decision| decision.rule.word().to_owned()),
            at: shown(one.at),
        }
    }
}

/// The resource.
pub struct TraceApi;

#[OpenApi(prefix_path = "/messages", tag = "Group::Messages")]
impl TraceApi {
    /// Where a message is: accepted, stored, notified, pushed, delivered, read
    ///
    /// For whoever sees the message, and for agents of the shop. The sender and agents are shown every recipient, anybody
    /// else themselves. What recipients hide (how far they have read, that they are there) is hidden here too.
    #[oai(path = "/:conversation_id/:message_id/trace", method = "get", operation_id = "getMessageTrace")]
    async fn get(
        &self,
        queries: Data<&Queries>,
        caller: Caller,
        /// The conversation (`cnv_...`).
        conversation_id: Path<String>,
        /// The message (`msg_...`).
        message_id: Path<String>,
    ) -> Reply<Json<TraceBody>> {
        Ok(Json(queries.trace(&caller.0, conversation_id.parse()?, message_id.parse()?).await?.into()))
    }
}
