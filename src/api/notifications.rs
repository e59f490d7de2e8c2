//! `/notifications`: the caller's inbox.

use poem::Request;
use poem::web::Data;
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};

use super::text::Text;
use super::{Caller, Group, Reply, trace};
use crate::command::Commands;
use crate::command::inbox::{ChangeInbox, Deed, InboxChanged, Which, snooze};
use crate::domain::decision::{Decision, Outcome};
use crate::domain::inbox::Counts;
use crate::domain::notification::{Data as NotificationData, Notification};
use crate::domain::page::{self, Edge};
use crate::domain::words::required;
use crate::error::Result;
use crate::query::Queries;
use crate::query::notifications::{Listed, Wanted};

/// Where a notification leads.
#[derive(Debug, Object)]
#[oai(rename = "NotificationData", rename_all = "camelCase", skip_serializing_if_is_none)]
struct DataBody {
    /// The conversation.
    conversation_id: Option<String>,
    /// The message.
    message_id: Option<String>,
    /// Its place in the log: whoever has read the conversation that far has read this.
    message_seq: Option<u64>,
    /// Who caused it.
    sender_id: Option<String>,
    /// The order.
    order_id: Option<String>,
    /// What happened to it.
    status: Option<String>,
}

/// An entry of the inbox: something the caller was told, or everything new in one conversation.
#[derive(Debug, Object)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own on the wire")]
#[oai(rename = "Notification", rename_all = "camelCase", skip_serializing_if_is_none)]
struct NotificationBody {
    /// Names the entry for ever (`ntf_...`); notifications on sockets call it `entryId`.
    id: String,
    /// The newest notification in it; the same as `id` if it is the only one for ever.
    notification_id: String,
    /// The place of that one in the log: what the inbox is ordered by.
    seq: u64,
    /// Whom it is for.
    user_id: String,
    /// What it is about: `message`, `mention`, `order`, `system` or `support`.
    kind: String,
    /// The headline of the newest one.
    title: String,
    /// The first 140 characters of its text; empty once its message is deleted.
    body: String,
    /// Where it leads.
    data: DataBody,
    /// How many notifications in it were not read; 100 means that many or more.
    count: u32,
    /// Whether it was shown, or read.
    seen: bool,
    /// Whether it was read, by itself or with its conversation.
    read: bool,
    /// Whether it is put away.
    archived: bool,
    /// Until when it is out of sight, if it is.
    snoozed_until: Option<String>,
    /// Whether it was to make no noise.
    silent: bool,
    /// When the newest one happened.
    created_at: String,
}

/// A page of the inbox.
#[derive(Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct NotificationPage {
    /// The newest first.
    items: Vec<NotificationBody>,
    /// Where the next page begins; absent on the last one.
    next_cursor: Option<String>,
}

/// How many entries wait: of the 1,000 newest, those that are neither put away nor out of sight.
#[derive(Object)]
#[oai(rename = "NotificationCounts", rename_all = "camelCase", skip_serializing_if_is_none)]
struct CountsBody {
    /// Those that were not read, counted up to 999.
    unread: u32,
    /// Those that were not shown, counted up to 999.
    unseen: u32,
    /// How far in the log this was counted: notifications with a higher `seq` come on top.
    seq: u64,
    /// When the first entry that is out of sight and not read comes back: ask again then, since no event says so. Absent if
    /// none does.
    wakes_at: Option<String>,
}

/// A change of the inbox that is stored.
#[derive(Object)]
#[oai(rename = "NotificationsChanged")]
struct ChangedBody {
    /// Its place in the log.
    seq: u64,
    /// What is left.
    counts: CountsBody,
}

/// Which entries: `ids`, at most 100, or `all`.
#[derive(Object)]
#[oai(rename = "NotificationSelection", rename_all = "camelCase")]
struct Selection {
    /// Ids of entries, or of notifications in them.
    ids: Option<Vec<Text>>,
    /// All there are.
    all: Option<bool>,
    /// Nothing behind this place in the log; everything there is if it is not given.
    up_to: Option<u64>,
}

/// Which entries, and whether they are put away.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
struct Archiving {
    #[oai(flatten)]
    which: Selection,
    /// Whether they are put away, also if it is not given; `false` takes them back.
    archived: Option<bool>,
}

/// Which entries, and until when they are out of sight.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
struct Snoozing {
    #[oai(flatten)]
    which: Selection,
    /// When they come back (RFC 3339), at most a year ahead and before they are forgotten. A time that is over brings them back
    /// at once.
    until: Option<Text>,
}

/// What was decided for one way of telling.
#[derive(Object)]
#[oai(rename = "Outcome")]
struct OutcomeBody {
    /// `sent`, `silent` or `held`.
    outcome: String,
    /// The rule that decided: `critical`, `blocked`, `read`, `preference`, `muted`, `online`, or `default` if none did.
    rule: String,
}

/// Why somebody was told of something, or not.
#[derive(Object)]
#[oai(rename = "NotificationDecision")]
struct DecisionBody {
    /// What became of it in the inbox and on sockets: `sent`, `silent` or `held`.
    outcome: String,
    /// The rule that decided: `critical`, `blocked`, `read`, `preference`, `muted`, or `default` if none did.
    rule: String,
    /// The same for what reaches somebody who is not looking.
    away: OutcomeBody,
    /// What it is about.
    kind: String,
    /// When it was decided.
    at: String,
}

impl From<NotificationData> for DataBody {
    fn from(data: NotificationData) -> Self {
        Self {
            conversation_id: data.conversation_id.map(|id| id.to_string()),
            message_id: data.message_id.map(|id| id.to_string()),
            message_seq: data.message_seq,
            sender_id: data.sender_id.map(|id| id.to_string()),
            order_id: data.order_id,
            status: data.status,
        }
    }
}

impl From<Listed> for NotificationBody {
    fn from(Listed { id, seq, newest, count, standing }: Listed) -> Self {
        Self {
            id: id.to_string(),
            notification_id: newest.id.to_string(),
            seq,
            user_id: newest.user_id.to_string(),
            kind: newest.kind.word().to_owned(),
            title: newest.title,
            body: newest.body,
            data: newest.data.into(),
            count,
            seen: standing.seen,
            read: standing.read,
            archived: standing.archived,
            snoozed_until: standing.snoozed_until.map(|until| until.to_string()),
            silent: newest.decision.inbox.outcome == Outcome::Silent,
            created_at: newest.created_at.to_string(),
        }
    }
}

impl From<Counts> for CountsBody {
    fn from(Counts { unread, unseen, seq, wakes_at }: Counts) -> Self {
        Self { unread, unseen, seq, wakes_at: wakes_at.map(|at| at.to_string()) }
    }
}

impl From<InboxChanged> for ChangedBody {
    fn from(InboxChanged { seq, counts }: InboxChanged) -> Self {
        Self { seq, counts: counts.into() }
    }
}

impl From<Notification> for DecisionBody {
    fn from(made: Notification) -> Self {
        let told = |Decision { outcome, rule }: Decision| (outcome.word().to_owned(), rule.word().to_owned());
        let ((outcome, rule), away) = (told(made.decision.inbox), told(made.decision.away));
        Self {
            outcome,
            rule,
            away: OutcomeBody { outcome: away.0, rule: away.1 },
            kind: made.kind.word().to_owned(),
            at: made.decision.at.unwrap_or(made.created_at).to_string(),
        }
    }
}

impl Selection {
    fn to_be(&self, deed: Deed) -> Result<ChangeInbox> {
        let ids = self.ids.as_ref().map(|ids| ids.iter().map(|id| &**id));
        ChangeInbox::new(Which::read(ids, self.all.unwrap_or(false))?, self.up_to, deed)
    }
}

async fn change(
    commands: &Commands,
    caller: &Caller,
    request: &Request,
    change: ChangeInbox,
) -> Reply<Json<ChangedBody>> {
    Ok(Json(commands.change_inbox(&caller.0, change, trace(request)).await?.into()))
}

/// The resource.
pub struct NotificationsApi;

#[OpenApi(prefix_path = "/notifications", tag = "Group::Notifications")]
impl NotificationsApi {
    /// The caller's inbox, the newest first
    ///
    /// All messages of a conversation are one entry, with the number of those that were not read; everything else is an entry
    /// by itself. A filtered page may be short; its cursor goes on all the same.
    #[oai(path = "/", method = "get", operation_id = "listNotifications")]
    #[expect(clippy::too_many_arguments, reason = "one for each parameter of the query")]
    async fn list(
        &self,
        queries: Data<&Queries>,
        caller: Caller,
        /// How many, 1 to 200; 50 if not given.
        limit: Query<Option<u32>>,
        /// Where to go on: the `nextCursor` of the page before.
        cursor: Query<Option<String>>,
        /// Only those of this kind: `message`, `mention`, `order`, `system` or `support`.
        kind: Query<Option<String>>,
        /// Only those that were not read (`true`), or were (`false`).
        unread: Query<Option<bool>>,
        /// Those that are put away, instead of those that are not.
        archived: Query<Option<bool>>,
        /// Those that are out of sight for now, instead of those that are not.
        snoozed: Query<Option<bool>>,
    ) -> Reply<Json<NotificationPage>> {
        let before = cursor.0.map(|cursor| cursor.parse()).transpose()?;
        let wanted = Wanted {
            kind: kind.0.map(|kind| kind.parse()).transpose()?,
            unread: unread.0,
            archived: archived.0.unwrap_or(false),
            snoozed: snoozed.0.unwrap_or(false),
        };
        let page = queries.notifications(&caller.0, wanted, before, page::limit(limit.0)?).await?;
        Ok(Json(NotificationPage {
            items: page.items.into_iter().map(NotificationBody::from).collect(),
            next_cursor: page.next.map(Edge::opaque),
        }))
    }

    /// How many entries of the caller's inbox wait
    #[oai(path = "/unread-count", method = "get", operation_id = "countNotifications")]
    async fn unread(&self, queries: Data<&Queries>, caller: Caller) -> Reply<Json<CountsBody>> {
        Ok(Json(queries.waiting_notifications(&caller.0).await?.into()))
    }

    /// Mark notifications as read
    #[oai(path = "/read", method = "post", operation_id = "readNotifications")]
    async fn read(
        &self,
        commands: Data<&Commands>,
        caller: Caller,
        request: &Request,
        body: Json<Selection>,
    ) -> Reply<Json<ChangedBody>> {
        let deed = Deed { read: true, ..Deed::default() };
        change(&commands, &caller, request, body.to_be(deed)?).await
    }

    /// Mark notifications as shown
    #[oai(path = "/seen", method = "post", operation_id = "seeNotifications")]
    async fn seen(
        &self,
        commands: Data<&Commands>,
        caller: Caller,
        request: &Request,
        body: Json<Selection>,
    ) -> Reply<Json<ChangedBody>> {
        let deed = Deed { seen: true, ..Deed::default() };
        change(&commands, &caller, request, body.to_be(deed)?).await
    }

    /// Put notifications away, or take them back
    ///
    /// An entry comes back by itself when there is something new in it.
    #[oai(path = "/archive", method = "post", operation_id = "archiveNotifications")]
    async fn archive(
        &self,
        commands: Data<&Commands>,
        caller: Caller,
        request: &Request,
        body: Json<Archiving>,
    ) -> Reply<Json<ChangedBody>> {
        let deed = Deed { archived: Some(body.archived.unwrap_or(true)), ..Deed::default() };
        change(&commands, &caller, request, body.which.to_be(deed)?).await
    }

    /// Put notifications off
    ///
    /// They are out of sight until then, or until there is something new in them.
    #[oai(path = "/snooze", method = "post", operation_id = "snoozeNotifications")]
    async fn snooze(
        &self,
        commands: Data<&Commands>,
        caller: Caller,
        request: &Request,
        body: Json<Snoozing>,
    ) -> Reply<Json<ChangedBody>> {
        let until = snooze(required(body.until.as_deref(), "until")?)?;
        let deed = Deed { snoozed_until: Some(until), ..Deed::default() };
        change(&commands, &caller, request, body.which.to_be(deed)?).await
    }

    /// Why the caller was told of something, or not
    ///
    /// By the id of the notification, also of one that was held; the id of an entry means the newest in it. Agents and admins
    /// can ask for anybody's.
    #[oai(path = "/:id/decision", method = "get", operation_id = "getNotificationDecision")]
    async fn decision(&self, queries: Data<&Queries>, caller: Caller, id: Path<String>) -> Reply<Json<DecisionBody>> {
        Ok(Json(queries.decided(&caller.0, id.parse()?).await?.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::Timestamp;
    use crate::domain::decision::Decisions;
    use crate::domain::ids::{NotificationId, UserId};
    use crate::domain::notification::Kind;

    #[test]
    fn a_decision_is_of_the_time_when_it_was_made() {
        let (happened, decided) = (Timestamp::from_millis(1_000), Timestamp::from_millis(301_000));
        let id = NotificationId::from_bits(1);
        let at = |at| {
            let made = Notification {
                id,
                user_id: UserId::from_bits(2),
                entry_id: id,
                kind: Kind::Mention,
                title: String::new(),
                body: String::new(),
                data: NotificationData::default(),
                decision: Decisions { at, ..Decisions::default() },
                created_at: happened,
            };
            DecisionBody::from(made).at
        };
        assert_eq!((at(Some(decided)), at(None)), (decided.to_string(), happened.to_string()));
    }
}
