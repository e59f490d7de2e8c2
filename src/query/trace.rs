//! Where a message is: what is known of its way, from being accepted to being read by each of its recipients.
//!
//! Everything here is found out when somebody asks: in the message, in the log as far as it reaches back, in what MongoDB
//! has, and in the notes of what was pushed. What is not known any more is left out, never guessed.

use std::collections::HashMap;

use futures_util::{StreamExt as _, TryStreamExt as _};

use super::{Queries, overlay};
use crate::auth::Actor;
use crate::broker::subject::Filter;
use crate::command::directory::Entry;
use crate::domain::changing::unknown_message;
use crate::domain::clock::Timestamp;
use crate::domain::decision::Decision;
use crate::domain::event::{Body, Stored};
use crate::domain::ids::{ConversationId, MessageId, NotificationId, UserId};
use crate::domain::journey::Journey;
use crate::domain::notification::{self, Notification};
use crate::domain::receipt::Marks;
use crate::domain::roster;
use crate::domain::state::MessageState;
use crate::domain::user::Role;
use crate::error::{Code, Error, Result};
use crate::store::pushes::Noted;

/// Receipts that are looked through, at most: whoever comes later has marks without times.
const RECEIPTS: usize = 10_000;
/// Receipts of one reading: a message of today is read by then.
const PART: usize = 1_000;
/// Events of an inbox that MongoDB may not have and that are looked through for a notification, at most.
const NEWER: usize = 1_000;
/// Readings of the log at once.
const AT_ONCE: usize = 8;

/// What is known of the way of a message.
#[derive(Debug)]
pub struct Trace {
    /// Which message.
    pub message_id: MessageId,
    /// Where it was said.
    pub conversation_id: ConversationId,
    /// Its place in the log.
    pub seq: u64,
    /// When the server took it.
    pub accepted_at: Timestamp,
    /// When the log had it; nothing once the log was trimmed that far.
    pub stored_at: Option<Timestamp>,
    /// Whether MongoDB has it.
    pub projected: bool,
    /// The log does not say any more what happened before this place.
    pub unknown_before: Option<u64>,
    /// Whom it was for, as far as the caller is to know.
    pub recipients: Vec<Recipient>,
}

/// Somebody whom a message was for.
#[derive(Debug)]
pub struct Recipient {
    /// Who.
    pub user_id: UserId,
    /// The notification that follows from it.
    pub notified: Option<Notified>,
    /// The instances that put it in line for their sockets, the first one first.
    pub pushed: Vec<Noted>,
    /// How far they are, as far as the caller is to know.
    pub marks: Marks,
    /// When it was delivered and read.
    pub journey: Journey,
}

/// A notification that follows from a message.
#[derive(Debug)]
pub struct Notified {
    /// Its id.
    pub id: NotificationId,
    /// When the log had it; nothing once the log was trimmed that far.
    pub at: Option<Timestamp>,
    /// Whether its user was told; only they and the shop's agents learn that.
    pub decision: Option<Decision>,
}

/// Who asks, and what of others they are to know.
#[derive(Debug, Clone, Copy)]
struct Viewer {
    user: UserId,
    /// An agent of the shop.
    staff: bool,
}

impl Queries {
    /// The way of a message, for whoever sees it and for the shop's agents. All recipients are shown to agents and to the
    /// sender; anybody else is shown the message's own steps and theirs.
    pub async fn trace(&self, actor: &Actor, conversation: ConversationId, id: MessageId) -> Result<Trace> {
        actor.check_expiry(self.clock.now())?;
        let viewer = Viewer { user: actor.user_id, staff: matches!(actor.role, Role::Agent | Role::Admin) };
        let entry = if viewer.staff {
            self.directory.find(conversation).await?.ok_or_else(unknown_message)?
        } else {
            // Who has no message to see there learns nothing of the conversation either.
            let hide = |error: Error| if error.code() == Code::Forbidden { unknown_message() } else { error };
            self.directory.for_participant(conversation, viewer.user).await.map_err(hide)?
        };
        // The log first: what is projected in between is in both, and never in none.
        let (floor, newer) = self.behind(Filter::Conversation(conversation), overlay::LIMIT).await?;
        let mut found = self.store.messages_by_id(&[id]).await?;
        let projected = !found.is_empty();
        overlay::lay_over(&mut found, &newer, |_| true);
        found.retain(|state| state.message.id == id && state.message.conversation_id == conversation);
        if !viewer.staff {
            let sight = entry.sight(viewer.user);
            found.retain(|state| state.exists_for(viewer.user, sight.from));
        }
        let state = found.pop().ok_or_else(unknown_message)?;

        let logged = self.broker.at_with_time(state.seq).await?;
        let mut users = recipients(&state, &entry, logged.as_ref().map(|(stored, _)| stored));
        if !viewer.staff && viewer.user != state.message.sender_id {
            users.retain(|user| *user == viewer.user);
        }
        let receipts = self.receipts(viewer, &state, &users).await?;
        // Asked after the reading: if the log reaches back that far now, it did so before.
        let first = self.broker.look().await?.first;
        let whole = first <= state.seq;
        let mut marks = self.marks_of(conversation, newer.iter().chain(&receipts)).await?;
        let mut notified = self.notified(viewer, &state, &users, floor).await?;
        let mut pushed = self.pushed(viewer, state.seq, &users).await?;
        let recipient = |user: UserId| {
            let own = user == viewer.user;
            Recipient {
                user_id: user,
                notified: notified.remove(&user),
                pushed: pushed.remove(&user).unwrap_or_default(),
                marks: marks.remove(&user).unwrap_or_default().seen(own),
                // A receipt that is left may not have been the first one.
                journey: if whole { Journey::of(state.seq, user, own, &receipts) } else { Journey::default() },
            }
        };
        Ok(Trace {
            message_id: id,
            conversation_id: conversation,
            seq: state.seq,
            accepted_at: state.message.created_at,
            stored_at: logged.map(|(_, at)| at),
            projected,
            unknown_before: (!whole).then_some(first),
            recipients: users.into_iter().map(recipient).collect(),
        })
    }

    /// The receipts behind a message, in order, until those that matter have all read it.
    async fn receipts(&self, viewer: Viewer, state: &MessageState, users: &[UserId]) -> Result<Vec<Stored>> {
        let mut receipts = Vec::new();
        let (mut from, mut read) = (state.seq, 0);
        while read < RECEIPTS {
            let found = self.broker.read(Filter::Receipts(state.message.conversation_id), from, PART).await?;
            receipts.extend(found.events);
            let has_read =
                |user: &UserId| Journey::of(state.seq, *user, *user == viewer.user, &receipts).read_at.is_some();
            if !found.more || users.iter().all(has_read) {
                break;
            }
            from = found.upto + 1;
            read += PART;
        }
        Ok(receipts)
    }

    /// How far the participants of a conversation are.
    async fn marks_of<'a>(
        &self,
        conversation: ConversationId,
        newer: impl Iterator<Item = &'a Stored>,
    ) -> Result<HashMap<UserId, Marks>> {
        let mut marks = self.store.conversation(conversation).await?.map(|listed| listed.marks).unwrap_or_default();
        for stored in newer {
            if let Body::Receipt(receipt) = &stored.event.body {
                marks.entry(receipt.user_id).or_default().apply(receipt);
            }
        }
        Ok(marks)
    }

    /// The notifications that follow from a message.
    async fn notified(
        &self,
        viewer: Viewer,
        state: &MessageState,
        users: &[UserId],
        floor: u64,
    ) -> Result<HashMap<UserId, Notified>> {
        let wanted: Vec<UserId> = notification::told(&state.message, users).collect();
        let id = |user: UserId| notification::id_of(state.message.id.bits(), user);
        let ids: Vec<NotificationId> = wanted.iter().map(|user| id(*user)).collect();
        let mut made = self.store.notifications_by_id(&ids).await?;
        if self.broker.log().last > floor {
            let missing = wanted.iter().filter(|user| !made.iter().any(|(_, one)| one.user_id == **user));
            let readings: Vec<_> =
                missing.map(|user| self.unprojected_notification(*user, id(*user), floor.max(state.seq))).collect();
            let mut readings = futures_util::stream::iter(readings).buffer_unordered(AT_ONCE);
            while let Some(found) = readings.try_next().await? {
                made.extend(found);
            }
        }
        let look_up = |(seq, one): (u64, Notification)| async move {
            let at = self.broker.at_with_time(seq).await?.map(|(_, at)| at);
            // That somebody blocks the sender, or has read what they hide, is told to nobody else.
            let decision = (viewer.staff || one.user_id == viewer.user).then_some(one.decision.inbox);
            Ok((one.user_id, Notified { id: one.id, at, decision }))
        };
        let looked_up: Vec<_> = made.into_iter().map(look_up).collect();
        futures_util::stream::iter(looked_up).buffer_unordered(AT_ONCE).try_collect().await
    }

    /// A notification that MongoDB may not have, with its place.
    async fn unprojected_notification(
        &self,
        user: UserId,
        id: NotificationId,
        after: u64,
    ) -> Result<Option<(u64, Notification)>> {
        let newer = self.broker.read(Filter::Inbox(user), after + 1, NEWER).await?;
        Ok(newer.events.into_iter().find_map(|stored| match stored.event.body {
            Body::Notification(one) if one.id == id => Some((stored.seq, one)),
            _ => None,
        }))
    }

    /// What was noted of pushes. Whoever does not show the caller that they are there shows them no sockets either, and what
    /// was hidden when it was noted stays so.
    async fn pushed(&self, viewer: Viewer, seq: u64, users: &[UserId]) -> Result<HashMap<UserId, Vec<Noted>>> {
        let mut pushed: HashMap<UserId, Vec<Noted>> = HashMap::new();
        for one in self.store.pushes_of(seq).await? {
            if !one.hidden || viewer.staff || one.user_id == viewer.user {
                pushed.entry(one.user_id).or_default().push(one);
            }
        }
        if !viewer.staff {
            let everybody = self.preferred.all(users.iter().copied().chain([viewer.user])).await?;
            pushed.retain(|user, _| *user == viewer.user || everybody.shows(*user, viewer.user));
        }
        Ok(pushed)
    }
}

/// Whom a message was for: those whom its event names, also if they have left since, and whoever is there and sees it.
fn recipients(state: &MessageState, entry: &Entry, logged: Option<&Stored>) -> Vec<UserId> {
    let conversation = &entry.conversation;
    let mut users: Vec<UserId> = if let Some(stored) = logged {
        let there = roster::concerned(entry.seq(), conversation, stored);
        there.into_iter().chain(stored.event.recipients.iter().copied()).collect()
    } else {
        let sees = conversation.participants.iter().filter(|one| one.visible_from < state.seq);
        sees.map(|one| one.user_id).collect()
    };
    users.sort_unstable();
    users.dedup();
    users.retain(|user| *user != state.message.sender_id);
    users
}
