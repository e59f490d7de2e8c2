//! The roster: conversations whose participants have changed a moment ago, as they are now.
//!
//! An event names everybody it concerns as its publisher knew them. A publisher may not have heard yet that somebody has
//! left or come, and its event lies behind that change in the log all the same. Whoever hands events on asks here first: what
//! comes later than a change concerns those whom the change left in, and nobody else. It knows only the last changes, as
//! nobody is behind for longer than that; when there were none it costs nothing.

use std::collections::{HashMap, VecDeque};

use super::attachment::Progress;
use super::change::Scope;
use super::clock::Timestamp;
use super::conversation::{Conversation, Participant};
use super::event::{Body, Stored};
use super::ids::{ConversationId, UserId};
use super::notification;

/// Nobody publishes from what they knew this many seconds ago.
const BEHIND: i64 = 60;
/// How long a change is remembered, in seconds: an event that is looked at may itself be a minute old.
const SECONDS: i64 = 2 * BEHIND;
/// Conversations remembered, at most; the oldest change is forgotten first.
const KEPT: usize = 4_096;

#[derive(Debug)]
struct Changed {
    seq: u64,
    conversation: Conversation,
}

/// Recent changes of who is in what.
#[derive(Debug, Default)]
pub struct Roster {
    changed: HashMap<ConversationId, Changed>,
    order: VecDeque<(Timestamp, ConversationId, u64)>,
    /// Every event up to here has been heard of.
    heard: u64,
    /// Every change from this time on is remembered; nothing before the first event.
    since: Option<Timestamp>,
}

/// Whom a message concerns, by a state of its conversation: if that is from before it, whoever it exists for; if it is from
/// later, those among them who were told of it or had come by then.
#[must_use]
pub fn concerned(state: u64, conversation: &Conversation, message: &Stored) -> Vec<UserId> {
    let Stored { seq, event } = message;
    let was_there = |one: &&Participant| {
        state < *seq || event.recipients.contains(&one.user_id) || one.joined_at <= event.occurred_at
    };
    let sees = |one: &&Participant| one.visible_from < *seq;
    conversation.participants.iter().filter(sees).filter(was_there).map(|one| one.user_id).collect()
}

impl Roster {
    /// Takes note of an event and puts its recipients right; called for every event, in the order of the log. Says whether its
    /// body is another one now.
    pub fn follow(&mut self, stored: &mut Stored) -> bool {
        self.heard = stored.seq;
        self.since.get_or_insert(stored.event.occurred_at);
        if let Body::Conversation(conversation) = &stored.event.body {
            self.note(stored.seq, stored.event.occurred_at, conversation);
            return false;
        }
        !self.changed.is_empty() && self.correct(stored)
    }

    /// Whom a message concerns; nothing if this does not know every change that its publisher may not have heard of.
    #[must_use]
    pub fn concerned(&self, message: &Stored) -> Option<Vec<UserId>> {
        let reaches_back = |since: Timestamp| since.plus_seconds(BEHIND) <= message.event.occurred_at;
        if message.seq > self.heard || !self.since.is_some_and(reaches_back) {
            return None;
        }
        let changed = message.event.body.conversation().and_then(|id| self.changed.get(&id));
        let known = || message.event.recipients.clone();
        Some(changed.map_or_else(known, |changed| concerned(changed.seq, &changed.conversation, message)))
    }

    /// Leaves out whoever is known not to be in a conversation any more.
    pub fn retain(&self, id: ConversationId, users: &mut Vec<UserId>) {
        if let Some(changed) = self.changed.get(&id) {
            users.retain(|user| changed.conversation.has(*user));
        }
    }

    /// Puts right the recipients of a part of one conversation's log. `known` is a state of it and the place of that, if
    /// there is one at hand from before.
    pub fn replay(known: Option<(u64, &Conversation)>, events: &mut [Stored]) {
        let mut roster = Self::default();
        if let Some((seq, conversation)) = known {
            roster.know(seq, Timestamp::zero(), conversation);
        }
        for stored in events {
            match &stored.event.body {
                Body::Conversation(conversation) => roster.know(stored.seq, Timestamp::zero(), conversation),
                _ => {
                    roster.correct(stored);
                }
            }
        }
    }

    /// Knows a conversation as it was at a place in the log.
    fn know(&mut self, seq: u64, at: Timestamp, conversation: &Conversation) {
        let changed = Changed { seq, conversation: conversation.clone() };
        self.changed.insert(conversation.id, changed);
        self.order.push_back((at, conversation.id, seq));
    }

    fn note(&mut self, seq: u64, at: Timestamp, conversation: &Conversation) {
        let came = |joined: Timestamp| joined != conversation.created_at;
        let moved = conversation.participants.iter().any(|one| came(one.joined_at)) || !conversation.removed.is_empty();
        // Of one that was just opened nobody can know another state.
        if moved || self.changed.contains_key(&conversation.id) {
            self.know(seq, at, conversation);
        }
        while let Some((since, id, seq)) = self.order.front().copied() {
            if self.order.len() <= KEPT && since.plus_seconds(SECONDS) >= at {
                break;
            }
            self.order.pop_front();
            self.since = self.since.max(Some(since));
            if self.changed.get(&id).is_some_and(|changed| changed.seq == seq) {
                self.changed.remove(&id);
            }
        }
    }

    /// Says whether the body is another one now.
    fn correct(&self, stored: &mut Stored) -> bool {
        let about = match &stored.event.body {
            // Whoever is removed is told so, and orders are told of wherever they are talked about.
            Body::Notification(notification)
                if matches!(notification.kind, notification::Kind::System | notification::Kind::Order) =>
            {
                None
            }
            Body::Notification(notification) => notification.data.conversation_id,
            body => body.conversation(),
        };
        let Some(changed) = about.and_then(|id| self.changed.get(&id)).filter(|changed| changed.seq < stored.seq)
        else {
            return false;
        };
        let event = &mut stored.event;
        event.recipients.retain(|user| changed.conversation.has(*user));
        let everybody = match &event.body {
            Body::Message(_) => Some(stored.seq),
            Body::Edit(edit) => Some(edit.message_seq),
            Body::Deletion(deletion) if deletion.scope == Scope::Everybody => Some(deletion.message_seq),
            Body::Reaction(reaction) => Some(reaction.message_seq),
            Body::Pin(pin) => Some(pin.message_seq),
            Body::Attachment(Progress { place: Some(place), .. }) => Some(place.message_seq),
            Body::Receipt(receipt) if !receipt.hidden => Some(u64::MAX),
            // These are for one user alone.
            Body::Deletion(_)
            | Body::Receipt(_)
            | Body::Setting(_)
            | Body::Attachment(_)
            | Body::Notification(_)
            | Body::NotificationState(_)
            | Body::Preferences(_)
            | Body::Conversation(_) => None,
        };
        for user in everybody.into_iter().flat_map(|seq| changed.conversation.audience(seq)) {
            if !event.recipients.contains(&user) {
                event.recipients.push(user);
            }
        }
        // Its publisher knew of nobody for whom what it quotes does not exist.
        if let Body::Message(message) = &mut event.body
            && let Some(quote) = &mut message.reply_to
            && changed.conversation.audience(quote.seq).count() < changed.conversation.participants.len()
        {
            quote.text.clear();
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::conversation::{Kind, ParticipantRole};
    use crate::domain::event::{Event, VERSION};
    use crate::domain::ids::{EventId, MessageId};
    use crate::domain::message::{self, Message, Quote};
    use crate::domain::receipt::Receipt;

    const HERE: ConversationId = ConversationId::from_bits(7);

    fn user(bits: u128) -> UserId {
        UserId::from_bits(bits)
    }

    fn event(seq: u64, seconds: i64, recipients: &[u128], body: Body) -> Stored {
        let event = Event {
            id: EventId::from_bits(u128::from(seq)),
            version: VERSION,
            actor: user(1),
            occurred_at: Timestamp::zero().plus_seconds(seconds),
            recipients: recipients.iter().map(|bits| user(*bits)).collect(),
            body,
        };
        Stored { seq, event }
    }

    fn state(seq: u64, seconds: i64, users: &[(u128, u64)], removed: &[u128]) -> Stored {
        let participant = |(bits, visible_from): &(u128, u64)| Participant {
            user_id: user(*bits),
            role: ParticipantRole::Buyer,
            joined_at: Timestamp::zero().plus_seconds(if *bits == 1 { 0 } else { 5 }),
            visible_from: *visible_from,
        };
        let conversation = Conversation {
            id: HERE,
            kind: Kind::Group,
            participants: users.iter().map(participant).collect(),
            context: None,
            title: None,
            created_by: user(1),
            created_at: Timestamp::zero(),
            closed_at: None,
            removed: removed.iter().map(|bits| user(*bits)).collect(),
        };
        let mut all: Vec<u128> = users.iter().map(|(bits, _)| *bits).collect();
        all.extend(removed);
        event(seq, seconds, &all, Body::Conversation(conversation))
    }

    fn receipt(seq: u64, hidden: bool, recipients: &[u128]) -> Stored {
        let receipt = Receipt { conversation_id: HERE, user_id: user(1), read_seq: seq, delivered_seq: 0, hidden };
        event(seq, 10, recipients, Body::Receipt(receipt))
    }

    fn told(roster: &mut Roster, mut stored: Stored) -> Vec<u128> {
        roster.follow(&mut stored);
        let mut told: Vec<u128> = stored.event.recipients.iter().map(|user| user.bits()).collect();
        told.sort_unstable();
        told
    }

    #[test]
    fn what_comes_behind_a_change_concerns_those_whom_it_left_in() {
        let mut roster = Roster::default();
        assert_eq!(told(&mut roster, receipt(1, false, &[1, 2])), [1, 2]);
        assert_eq!(told(&mut roster, state(2, 10, &[(1, 0), (3, 0)], &[2])), [1, 2, 3], "the change itself is told");
        assert_eq!(told(&mut roster, receipt(3, false, &[1, 2])), [1, 3], "its publisher knew of nothing yet");
        assert_eq!(told(&mut roster, receipt(4, true, &[1])), [1], "what is for one alone stays so");
        assert_eq!(told(&mut roster, receipt(5, true, &[2])), [0; 0]);
        let mut typing = vec![user(1), user(2)];
        roster.retain(HERE, &mut typing);
        assert_eq!(typing, [user(1)]);
    }

    #[test]
    fn nobody_is_told_of_messages_from_before_they_came() {
        let mut roster = Roster::default();
        told(&mut roster, state(2, 10, &[(1, 0), (3, 9)], &[]));
        let pin = |message_seq| {
            Body::Pin(crate::domain::change::Pin {
                message_id: crate::domain::ids::MessageId::from_bits(1),
                conversation_id: HERE,
                message_seq,
                user_id: user(1),
                on: true,
                at: Timestamp::zero(),
            })
        };
        assert_eq!(told(&mut roster, event(20, 10, &[1], pin(9))), [1]);
        assert_eq!(told(&mut roster, event(21, 10, &[1], pin(10))), [1, 3]);
    }

    #[test]
    fn nobody_reads_in_a_quote_what_was_said_before_they_came() {
        let mut roster = Roster::default();
        told(&mut roster, state(10, 10, &[(1, 0), (3, 9)], &[]));
        let mut quoted = |seq| {
            let id = MessageId::from_bits(4);
            let quote = Quote { id, seq, sender_id: user(1), sender_name: "Ana".into(), text: "words".into() };
            let message = Message {
                id: MessageId::from_bits(5),
                conversation_id: HERE,
                sender_id: user(1),
                sender_name: "Ana".into(),
                kind: message::Kind::Text,
                text: "answer".into(),
                reply_to: Some(quote),
                mentions: Vec::new(),
                attachments: Vec::new(),
                entry: None,
                client_message_id: None,
                created_at: Timestamp::zero(),
            };
            let mut stored = event(20, 10, &[1], Body::Message(message));
            assert_eq!(roster.follow(&mut stored), seq < 10, "another body is to be kept as such");
            assert_eq!(stored.event.recipients, [user(1), user(3)]);
            let Body::Message(message) = stored.event.body else { panic!("it is a message") };
            message.reply_to.map(|quote| quote.text)
        };
        assert_eq!((quoted(9).as_deref(), quoted(10).as_deref()), (Some(""), Some("words")));
    }

    #[test]
    fn what_is_read_again_concerns_the_same() {
        let mut events = [
            receipt(1, false, &[1, 2]),
            state(2, 10, &[(1, 0), (3, 0)], &[2]),
            receipt(3, false, &[1, 2]),
            state(4, 10, &[(1, 0), (2, 0)], &[3]),
            receipt(5, false, &[1, 3]),
        ];
        Roster::replay(None, &mut events);
        let told = events.map(|stored| stored.event.recipients.iter().map(|user| user.bits()).collect::<Vec<_>>());
        assert_eq!(told, [vec![1, 2], vec![1, 3, 2], vec![1, 3], vec![1, 2, 3], vec![1, 2]]);
    }

    #[test]
    fn it_forgets_and_openings_cost_nothing() {
        let mut roster = Roster::default();
        told(&mut roster, state(1, 0, &[(1, 0)], &[]));
        assert!(roster.changed.is_empty(), "it was just opened");
        told(&mut roster, state(2, 10, &[(1, 0)], &[2]));
        assert_eq!(roster.changed.len(), 1);
        let mut later = state(3, 131, &[(1, 0)], &[4]);
        if let Body::Conversation(conversation) = &mut later.event.body {
            conversation.id = ConversationId::from_bits(8);
        }
        roster.follow(&mut later);
        assert_eq!((roster.changed.len(), roster.order.len()), (1, 1));
        assert_eq!(told(&mut roster, receipt(4, false, &[1, 2])), [1, 2], "two minutes later nobody is behind");
    }

    fn said(seq: u64, seconds: i64, recipients: &[u128]) -> Stored {
        let message = Message {
            id: MessageId::from_bits(u128::from(seq)),
            conversation_id: HERE,
            sender_id: user(1),
            sender_name: "Ana".into(),
            kind: message::Kind::Text,
            text: "x".into(),
            reply_to: None,
            mentions: Vec::new(),
            attachments: Vec::new(),
            entry: None,
            client_message_id: None,
            created_at: Timestamp::zero().plus_seconds(seconds),
        };
        event(seq, seconds, recipients, Body::Message(message))
    }

    fn whom(state: &Stored, message: &Stored) -> Vec<u128> {
        let Body::Conversation(conversation) = &state.event.body else { panic!("a state") };
        concerned(state.seq, conversation, message).iter().map(|user| user.bits()).collect()
    }

    #[test]
    fn a_message_concerns_those_who_were_there_when_it_was_said() {
        // Ben is gone, Cleo came with it, Dan sees only what is said later.
        let change = state(10, 10, &[(1, 0), (3, 0), (4, 99)], &[2]);
        assert_eq!(whom(&change, &said(11, 10, &[1, 2])), [1, 3], "its publisher knew of nothing yet");
        assert_eq!(whom(&change, &said(9, 10, &[1, 2])), [1, 3], "it was said a moment before the next change");
        assert_eq!(whom(&change, &said(9, 4, &[1, 2])), [1], "it was said before Cleo came");
        assert_eq!(whom(&change, &said(9, 4, &[1, 2, 3])), [1, 3], "she had been there before");
    }

    #[test]
    fn it_says_nothing_of_what_it_does_not_know() {
        let mut roster = Roster::default();
        let whom = |roster: &Roster, message: Stored| {
            roster.concerned(&message).map(|all| all.iter().map(|user| user.bits()).collect::<Vec<_>>())
        };
        assert_eq!(whom(&roster, said(1, 0, &[1, 2])), None, "it has heard of nothing");
        told(&mut roster, state(2, 100, &[(1, 0), (3, 0)], &[2]));
        told(&mut roster, receipt(20, false, &[1, 2]));
        assert_eq!(whom(&roster, said(15, 159, &[1, 2])), None, "what was before the change may matter");
        assert_eq!(whom(&roster, said(15, 160, &[1, 2])), Some(vec![1, 3]));
        assert_eq!(whom(&roster, said(21, 160, &[1, 2])), None, "it is not that far");
        let mut elsewhere = said(15, 160, &[1, 2]);
        if let Body::Message(message) = &mut elsewhere.event.body {
            message.conversation_id = ConversationId::from_bits(8);
        }
        assert_eq!(whom(&roster, elsewhere), Some(vec![1, 2]), "nothing has changed there");
        let mut later = state(21, 300, &[(1, 0)], &[4]);
        if let Body::Conversation(conversation) = &mut later.event.body {
            conversation.id = ConversationId::from_bits(8);
        }
        roster.follow(&mut later);
        assert_eq!(whom(&roster, said(15, 159, &[1, 2])), None, "that is forgotten");
        assert_eq!(whom(&roster, said(20, 160, &[1, 2])), Some(vec![1, 2]), "a minute after the change");
    }
}
