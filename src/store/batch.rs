//! What a batch of events means for documents, and the writes of it.
//!
//! A batch becomes a handful of bulk writes. Each is idempotent and they commute. A message that the log has twice is the
//! first one; a batch without such pays nothing for it.

use std::collections::{HashMap, HashSet};

use super::message_touch::MessageTouch;
use super::touch::{Mark, Touch};
use super::{Known, Store};
use crate::domain::change::Deletion;
use crate::domain::conversation::{Conversation, LastMessage};
use crate::domain::event::{Body, Stored};
use crate::domain::ids::{ConversationId, MessageId, UserId};
use crate::domain::inbox::NotificationState;
use crate::domain::message::Message;
use crate::domain::notification::Notification;
use crate::domain::preferences::Preferences;
use crate::domain::receipt::{Marks, Receipt};
use crate::domain::setting::Setting;
use crate::error::Result;

/// What has to be there before some events can be projected.
#[derive(Debug, Default)]
pub struct Unready {
    /// Conversations that are not opened yet.
    pub conversations: HashSet<ConversationId>,
    /// Messages that are not there yet.
    pub messages: HashSet<MessageId>,
}

impl Unready {
    /// What an event waits for, if it waits.
    #[must_use]
    pub fn waits_for(&self, body: &Body) -> Option<String> {
        let message = body.changed_message().filter(|id| self.messages.contains(id)).map(|id| id.to_string());
        let conversation = body.conversation().filter(|id| self.conversations.contains(id)).map(|id| id.to_string());
        message.or(conversation)
    }
}

/// A batch in the order of the log, and only what is worth a write.
#[derive(Debug, Default)]
pub(super) struct Batch<'a> {
    /// The last state of each conversation.
    states: HashMap<ConversationId, (u64, &'a Conversation)>,
    /// Each message once, where it is first.
    pub(super) sent: Vec<(u64, &'a Message)>,
    /// Each notification once, where it is first.
    pub(super) made: Vec<(u64, &'a Notification)>,
    /// Notifications that are in it for the second time.
    pub(super) made_again: Vec<(u64, &'a Notification)>,
    /// What users have done to their notifications.
    pub(super) done: Vec<(u64, &'a NotificationState)>,
    /// What happens to messages.
    pub(super) changes: Vec<MessageTouch<'a>>,
    /// Deletions of messages.
    deleted: Vec<&'a Deletion>,
    settings: Vec<(u64, &'a Setting)>,
    /// The last preferences of each user.
    preferred: HashMap<UserId, (u64, &'a Preferences)>,
    /// The last time that somebody was removed or has left.
    former: HashMap<(ConversationId, UserId), u64>,
    marks: HashMap<(ConversationId, UserId), Mark>,
    /// Conversations that something else happened in, and where that is in the log. Whoever resumes finds them by it, so
    /// every kind of event that is about a conversation counts, also those that nobody has thought of yet.
    changed: HashMap<ConversationId, u64>,
    /// Messages that are known to be at an earlier place.
    repeated: HashSet<MessageId>,
    /// The highest place of a repeated message, for each conversation that has one.
    copies: HashMap<ConversationId, u64>,
    /// Conversations of messages that had been there before.
    met: HashSet<ConversationId>,
    highest: u64,
}

impl<'a> Batch<'a> {
    pub(super) fn of(events: impl IntoIterator<Item = &'a Stored>) -> Self {
        let mut events: Vec<&'a Stored> = events.into_iter().collect();
        events.sort_unstable_by_key(|stored| stored.seq);
        events.dedup_by_key(|stored| stored.seq);
        let mut batch = Self { highest: events.last().map_or(0, |last| last.seq), ..Self::default() };
        let (mut said, mut told) = (HashSet::new(), HashSet::new());
        let mut wordings: HashMap<MessageId, MessageTouch<'a>> = HashMap::new();
        for stored in events {
            let at = stored.seq;
            let body = &stored.event.body;
            // Messages, receipts and settings say so by what they write.
            if !matches!(body, Body::Message(_) | Body::Receipt(_) | Body::Setting(_))
                && let Some(id) = body.conversation()
            {
                batch.changed.insert(id, at);
            }
            if let Some(change) = MessageTouch::of(at, body) {
                batch.changes.push(change);
                wordings.extend(change.wording().map(|wording| (change.id, wording)));
            }
            match body {
                Body::Conversation(conversation) => {
                    batch.states.insert(conversation.id, (at, conversation));
                    batch.former.extend(conversation.removed.iter().map(|user| ((conversation.id, *user), at)));
                }
                Body::Message(message) if said.insert(message.id) => batch.sent.push((at, message)),
                Body::Message(message) => batch.copy(message.conversation_id, at),
                Body::Receipt(receipt) => batch.mark(at, receipt),
                Body::Setting(setting) => batch.settings.push((at, setting)),
                Body::Notification(notification) if told.insert(notification.id) => batch.made.push((at, notification)),
                Body::Preferences(preferences) => {
                    batch.preferred.insert(preferences.user_id, (at, preferences));
                }
                Body::Notification(notification) => batch.made_again.push((at, notification)),
                Body::NotificationState(state) => batch.done.push((at, state)),
                Body::Deletion(deletion) => batch.deleted.push(deletion),
                Body::Edit(_) | Body::Reaction(_) | Body::Pin(_) | Body::Attachment(_) => {}
            }
        }
        // The last one in the order of the log stays.
        batch.changes.extend(wordings.into_values());
        batch
    }

    fn copy(&mut self, id: ConversationId, at: u64) {
        let highest = self.copies.entry(id).or_default();
        *highest = at.max(*highest);
    }

    /// The marks and the place rise each by itself: the last receipt need not carry the highest mark.
    fn mark(&mut self, at: u64, receipt: &Receipt) {
        let Receipt { conversation_id, user_id, .. } = *receipt;
        let kept = self.marks.entry((conversation_id, user_id));
        let kept = kept.or_insert(Mark { conversation_id, user_id, marks: Marks::default(), seq: at });
        kept.marks.apply(receipt);
        kept.seq = at.max(kept.seq);
    }

    /// Takes note of messages that were there before. Returns those that are stored with a place after their first one.
    fn meet(&mut self, known: &[Known]) -> Vec<(u64, &'a Message)> {
        let mut late = Vec::new();
        for known in known {
            let (at, message) = self.sent[known.place];
            self.met.insert(message.conversation_id);
            if known.seq < at {
                self.repeated.insert(message.id);
            }
            if known.seq > at {
                late.push((at, message));
            }
            if known.seq != at {
                self.copy(message.conversation_id, at.max(known.seq));
            }
        }
        late
    }

    /// The last state of each conversation.
    pub(super) fn states(&self) -> Vec<(u64, &'a Conversation)> {
        self.states.values().copied().collect()
    }

    /// The last preferences of each user.
    pub(super) fn preferred(&self) -> Vec<(u64, &'a Preferences)> {
        self.preferred.values().copied().collect()
    }

    /// Messages that are not known to be copies of others.
    fn firsts(&self) -> impl Iterator<Item = &(u64, &'a Message)> {
        self.sent.iter().filter(|(_, message)| !self.repeated.contains(&message.id))
    }

    /// What all this means for conversations besides their states: of each only the newest message.
    pub(super) fn touches(&self) -> Vec<Touch<'a>> {
        let firsts = self.firsts();
        // The last one in the order of the log stays.
        let newest: HashMap<ConversationId, LastMessage> =
            firsts.map(|(seq, one)| (one.conversation_id, LastMessage { id: one.id, seq: *seq })).collect();
        let mut touches: Vec<Touch<'a>> = newest.into_iter().map(|(id, last)| Touch::Newest(id, last)).collect();
        touches.extend(self.marks.values().copied().map(Touch::Mark));
        touches.extend(self.former.iter().map(|((id, user), at)| Touch::Former(*id, *user, *at)));
        touches.extend(self.copies.iter().map(|(id, at)| Touch::Copy(*id, *at)));
        touches.extend(self.changed.iter().map(|(id, at)| Touch::Changed(*id, *at)));
        for (at, setting) in &self.settings {
            touches.extend(setting.muted_until.map(|_| Touch::Muted(*at, setting)));
            touches.extend(setting.archived.map(|_| Touch::Archived(*at, setting)));
            touches.extend(setting.pinned.map(|_| Touch::Pinned(*at, setting)));
        }
        touches
    }
}

impl Store {
    /// Projects events, in any order and any number of times; returns what could not be projected, as something else has
    /// to be there first.
    pub async fn project(&self, events: &[&Stored]) -> Result<Unready> {
        let mut batch = Batch::of(events.iter().copied());
        let states = batch.states();
        let there = self.insert_conversations(&states).await?;
        let preferred = batch.preferred();
        let (known, made, put, noted) = tokio::join!(
            self.insert_messages(&batch.sent),
            self.project_inbox(&batch),
            self.put_preferences(&preferred),
            self.note_highest_seq(batch.highest),
        );
        made?;
        put?;
        noted?;
        let mut late = batch.meet(&known?);
        // A message that the log has twice carries what it was first said with.
        let firsts: Vec<(u64, &Message)> = batch.firsts().copied().collect();
        self.project_attachments(&firsts, &batch.deleted).await?;
        let messages = self.touch_messages(batch.changes.clone()).await?;
        // Messages are there before their conversations name them.
        let states = there.iter().map(|place| states[*place]).map(|(at, one)| Touch::State(at, one));
        let touched = self.touch_conversations(states.chain(batch.touches()).collect()).await?;
        // Where nobody could be told of a copy, its message stays at the later place: whoever comes again meets it there, and
        // tells then.
        late.retain(|(_, message)| !touched.unopened.contains(&message.conversation_id));
        self.advance_messages(&late).await?;
        self.recount_conversations(touched.doubtful.into_iter().chain(batch.met)).await?;
        Ok(Unready { conversations: touched.unopened, messages })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::Timestamp;
    use crate::domain::event::{self, Event};
    use crate::domain::ids::EventId;
    use crate::domain::message::Kind;

    const HERE: ConversationId = ConversationId::from_bits(1);
    const ANA: UserId = UserId::from_bits(2);

    fn stored(seq: u64, body: Body) -> Stored {
        let event = Event {
            id: EventId::from_bits(seq.into()),
            version: event::VERSION,
            actor: ANA,
            occurred_at: Timestamp::from_millis(0),
            recipients: vec![ANA],
            body,
        };
        Stored { seq, event }
    }

    fn receipt(seq: u64, read_seq: u64) -> Stored {
        stored(
            seq,
            Body::Receipt(Receipt { conversation_id: HERE, user_id: ANA, read_seq, delivered_seq: 0, hidden: false }),
        )
    }

    fn message(seq: u64, id: u128) -> Stored {
        let message = Message {
            id: MessageId::from_bits(id),
            conversation_id: HERE,
            sender_id: ANA,
            sender_name: "Ana".into(),
            kind: Kind::Text,
            text: String::new(),
            reply_to: None,
            mentions: Vec::new(),
            attachments: Vec::new(),
            entry: None,
            client_message_id: None,
            created_at: Timestamp::from_millis(0),
        };
        stored(seq, Body::Message(message))
    }

    /// The newest message and the highest copy that a batch means, when these were there before.
    fn meant(events: &[Stored], known: &[Known]) -> (Vec<u64>, Option<u64>, Option<u64>) {
        let mut batch = Batch::of(events);
        let late = batch.meet(known).iter().map(|(at, _)| *at).collect();
        let (mut newest, mut copy) = (None, None);
        for touch in batch.touches() {
            match touch {
                Touch::Newest(_, last) => newest = Some(last.seq),
                Touch::Copy(_, at) => copy = Some(at),
                _ => {}
            }
        }
        (late, newest, copy)
    }

    #[test]
    fn a_mark_and_its_place_rise_each_by_itself() {
        let events = [receipt(9, 3), receipt(7, 5), receipt(9, 3)];
        let batch = Batch::of(&events);
        let marks: Vec<(u64, u64)> = batch.marks.values().map(|mark| (mark.marks.read, mark.seq)).collect();
        assert_eq!(marks, [(5, 9)]);
    }

    #[test]
    fn a_message_counts_where_it_is_first() {
        // In one batch, in any order.
        assert_eq!(meant(&[message(8, 1), message(5, 2), message(4, 1)], &[]), (vec![], Some(5), Some(8)));
        // The first one was there before, is delivered again, or comes after the second one.
        assert_eq!(meant(&[message(8, 1), message(5, 2)], &[Known { place: 1, seq: 4 }]), (vec![], Some(5), Some(8)));
        assert_eq!(meant(&[message(4, 1)], &[Known { place: 0, seq: 4 }]), (vec![], Some(4), None));
        assert_eq!(meant(&[message(4, 1)], &[Known { place: 0, seq: 8 }]), (vec![4], Some(4), Some(8)));
    }
}
