//! The inbox: what a user has done to their notifications.
//!
//! An entry of the inbox is one notification, or all those of one conversation's messages. What is done to it holds up to a
//! place in the log: whatever comes later is new. So the order in which such changes are applied does not matter.
//!
//! [`Inbox`] says what an inbox is after any events. What MongoDB has is such events too, folded earlier: both are joined.

use std::collections::hash_map::Entry as Slot;
use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::clock::Timestamp;
use super::event::{Body, Stored};
use super::ids::{ConversationId, NotificationId, UserId};
use super::notification::Notification;
use super::registers::{Registers, Standing};

/// Entries that one change names, at most.
pub const NAMED_LIMIT: usize = 100;
/// An entry counts what it stands for up to here: it means that many, or more.
pub const COUNT_LIMIT: u32 = 100;
/// Entries that are counted, at most: the newest ones.
pub const COUNTED: usize = 1_000;
/// A total counts this far.
const TOTAL: u32 = 999;
/// How far ahead something can be put off, in seconds.
pub const LONGEST_SNOOZE: i64 = 366 * 86_400;

/// What was done; what is left out stays as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NotificationState {
    /// Whose inbox.
    pub user_id: UserId,
    /// Which entries; all of them if none is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entry_ids: Vec<NotificationId>,
    /// Whatever is behind this place in the log is not touched.
    pub up_to: u64,
    /// They were shown.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub seen: bool,
    /// They were read; that includes having been shown.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read: bool,
    /// Whether they are put away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archived: Option<bool>,
    /// Until when they are out of sight; a time that is over means that they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snoozed_until: Option<Timestamp>,
    /// What is left after that.
    pub counts: Counts,
}

/// How many entries of an inbox wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Those that are not read, counted up to 999.
    pub unread: u32,
    /// Those that were not shown, counted up to 999.
    pub unseen: u32,
    /// The place in the log up to which this was counted: what is behind it comes on top.
    pub seq: u64,
    /// When the first of those that are put off comes back and is not read: from then on this is too few, and no event says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wakes_at: Option<Timestamp>,
}

/// Something that its user was told, as far as it matters to whether it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// Its place.
    pub seq: u64,
    /// The conversation of the message that it is about, and the message's place. Of an entry, the last message that it was
    /// told for: of two, the earlier one may be told later.
    pub about: Option<(ConversationId, u64)>,
}

impl Told {
    /// A notification at this place.
    #[must_use]
    pub fn of(seq: u64, notification: &Notification) -> Self {
        Self { seq, about: notification.data.conversation_id.zip(notification.data.message_seq) }
    }
}

/// An entry, as far as it is known.
#[derive(Debug, Clone, Default)]
pub struct Entry {
    /// The newest of what it stands for.
    pub newest: Option<Told>,
    /// All that is known of it, if that is wanted.
    pub notification: Option<Notification>,
    /// What was done to it.
    pub registers: Registers,
    /// What the events that were applied have told.
    pub told: Vec<Told>,
}

impl Entry {
    fn rise(&mut self, told: Told, notification: Option<Notification>) {
        let about = self.newest.and_then(|known| known.about).max(told.about);
        if self.newest.is_none_or(|known| known.seq < told.seq) {
            self.newest = Some(told);
            self.notification = notification;
        }
        if let Some(newest) = &mut self.newest {
            newest.about = about;
        }
    }
}

/// The inbox of one user, or the part of it that is known.
#[derive(Debug, Clone)]
pub struct Inbox {
    user: UserId,
    /// Its entries.
    pub entries: HashMap<NotificationId, Entry>,
    /// What was done to all of them.
    pub all: Registers,
    /// How far the user has read conversations.
    pub read: HashMap<ConversationId, u64>,
    /// Every notification that an event has made, also those that are held.
    made: HashSet<NotificationId>,
}

impl Inbox {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(user: UserId) -> Self {
        let (entries, read) = (HashMap::new(), HashMap::new());
        Self { user, entries, all: Registers::default(), read, made: HashSet::new() }
    }

    /// Takes an event over, in the order of the log. A notification that the log has twice is the first one.
    pub fn apply(&mut self, stored: &Stored) {
        match &stored.event.body {
            Body::Notification(made) if made.user_id == self.user && self.made.insert(made.id) && made.is_told() => {
                let told = Told::of(stored.seq, made);
                let entry = self.entries.entry(made.entry_id).or_default();
                entry.told.push(told);
                entry.rise(told, Some(made.clone()));
            }
            Body::NotificationState(state) if state.user_id == self.user => self.change(stored.seq, state),
            Body::Receipt(receipt) if receipt.user_id == self.user => {
                self.has_read(receipt.conversation_id, receipt.read_seq);
            }
            _ => {}
        }
    }

    /// Takes over what was done at this place.
    pub fn change(&mut self, at: u64, state: &NotificationState) {
        let registers = Registers::of(at, state);
        if state.entry_ids.is_empty() {
            self.all.join(registers);
        }
        for id in &state.entry_ids {
            self.entries.entry(*id).or_default().registers.join(registers);
        }
    }

    /// The user has read a conversation up to here.
    pub fn has_read(&mut self, conversation: ConversationId, seq: u64) {
        let read = self.read.entry(conversation).or_default();
        *read = seq.max(*read);
    }

    /// An entry as it was after earlier events.
    pub fn join(&mut self, id: NotificationId, known: Entry) {
        match self.entries.entry(id) {
            Slot::Vacant(slot) => drop(slot.insert(known)),
            Slot::Occupied(slot) => {
                let entry = slot.into_mut();
                entry.registers.join(known.registers);
                if let Some(newest) = known.newest {
                    entry.rise(newest, known.notification);
                }
            }
        }
    }

    /// Whether something was read with its conversation.
    fn is_read_there(&self, told: Told) -> bool {
        told.about.is_some_and(|(id, seq)| self.read.get(&id).is_some_and(|read| seq <= *read))
    }

    /// How an entry stands, if it stands for anything.
    #[must_use]
    pub fn standing(&self, entry: &Entry, now: Timestamp) -> Option<Standing> {
        let newest = entry.newest?;
        Some(entry.registers.standing(&self.all, newest.seq, self.is_read_there(newest), now))
    }

    /// Up to where an entry was read by what was done to it.
    #[must_use]
    pub fn mark(&self, entry: &Entry) -> u64 {
        entry.registers.read.max(self.all.read)
    }

    /// Up to where the conversation of an entry was read.
    #[must_use]
    pub fn read_there(&self, entry: &Entry) -> u64 {
        let about = entry.newest.and_then(|newest| newest.about);
        about.and_then(|(id, _)| self.read.get(&id)).copied().unwrap_or(0)
    }

    /// The stretch of the log, up to a place, that can have something unread of an entry which is one conversation's messages.
    /// Each notification is behind its message, so what is not behind the last message that was read was read.
    #[must_use]
    pub fn uncounted(&self, entry: &Entry, upto: u64) -> Option<(u64, u64)> {
        let after = self.mark(entry).max(self.read_there(entry));
        (after < upto).then_some((after, upto))
    }

    /// The conversations that these entries are about.
    #[must_use]
    pub fn conversations(&self, ids: impl IntoIterator<Item = NotificationId>) -> HashSet<ConversationId> {
        ids.into_iter().filter_map(|id| Some(self.entries.get(&id)?.newest?.about?.0)).collect()
    }

    /// How many of those that were told here an entry stands for and that were not read.
    #[must_use]
    pub fn count(&self, entry: &Entry) -> u32 {
        let mark = self.mark(entry);
        let unread = entry.told.iter().filter(|told| told.seq > mark && !self.is_read_there(**told));
        u32::try_from(unread.take(COUNT_LIMIT as usize).count()).unwrap_or(COUNT_LIMIT)
    }

    /// How many entries wait, of the newest ones that are in sight. `seq` is how far the log was looked at.
    #[must_use]
    pub fn counts(&self, now: Timestamp, seq: u64) -> Counts {
        let mut newest: Vec<(u64, &Entry)> =
            self.entries.values().filter_map(|entry| Some((entry.newest?.seq, entry))).collect();
        newest.sort_unstable_by_key(|(seq, _)| std::cmp::Reverse(*seq));
        let mut counts = Counts { seq, ..Counts::default() };
        for (_, entry) in newest.into_iter().take(COUNTED) {
            let Some(standing) = self.standing(entry, now) else { continue };
            if standing.is_listed() {
                counts.unread = (counts.unread + u32::from(!standing.read)).min(TOTAL);
                counts.unseen = (counts.unseen + u32::from(!standing.seen)).min(TOTAL);
            } else if !standing.archived && !standing.read {
                counts.wakes_at = counts.wakes_at.into_iter().chain(standing.snoozed_until).min();
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::decision::{Decision, Decisions, Outcome, Rule};
    use crate::domain::event::{Event, VERSION};
    use crate::domain::ids::EventId;
    use crate::domain::notification::{Data, Kind, entry_of};
    use crate::domain::receipt::Receipt;

    const ANA: UserId = UserId::from_bits(1);
    const HERE: ConversationId = ConversationId::from_bits(5);
    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn stored(seq: u64, body: Body) -> Stored {
        let id = EventId::from_bits(seq.into());
        let event = Event { id, version: VERSION, actor: ANA, occurred_at: NOW, recipients: vec![ANA], body };
        Stored { seq, event }
    }

    fn made(seq: u64, id: u128, kind: Kind, outcome: Outcome) -> Stored {
        let id = NotificationId::from_bits(id);
        let data = Data { conversation_id: Some(HERE), message_seq: Some(seq - 1), ..Data::default() };
        let decision = Decision { outcome, rule: Rule::Default };
        stored(
            seq,
            Body::Notification(Notification {
                id,
                user_id: ANA,
                entry_id: if kind.collapses() { entry_of(HERE, ANA) } else { id },
                kind,
                title: "Ben".into(),
                body: "hello".into(),
                data,
                decision: Decisions { inbox: decision, away: decision, at: None },
                created_at: NOW,
            }),
        )
    }

    fn read(seq: u64, read_seq: u64) -> Stored {
        let receipt = Receipt { conversation_id: HERE, user_id: ANA, read_seq, delivered_seq: 0, hidden: false };
        stored(seq, Body::Receipt(receipt))
    }

    fn done(entry: Option<NotificationId>, up_to: u64) -> NotificationState {
        NotificationState {
            user_id: ANA,
            entry_ids: entry.into_iter().collect(),
            up_to,
            seen: false,
            read: false,
            archived: None,
            snoozed_until: None,
            counts: Counts::default(),
        }
    }

    fn after(events: &[Stored]) -> Inbox {
        let mut inbox = Inbox::new(ANA);
        for stored in events {
            inbox.apply(stored);
        }
        inbox
    }

    fn counts(inbox: &Inbox) -> (u32, u32) {
        let Counts { unread, unseen, .. } = inbox.counts(NOW, 0);
        (unread, unseen)
    }

    #[test]
    fn messages_of_a_conversation_are_one_entry_until_they_are_read() {
        let (told, held) = (Outcome::Sent, Outcome::Held);
        let mut events = vec![
            made(2, 1, Kind::Message, told),
            made(4, 2, Kind::Message, Outcome::Silent),
            made(6, 3, Kind::Mention, told),
            made(8, 4, Kind::Message, held),
            made(9, 2, Kind::Message, told),
        ];
        let inbox = after(&events);
        assert_eq!((inbox.entries.len(), counts(&inbox)), (2, (2, 2)), "what is held or told again shows nowhere");
        let entry = &inbox.entries[&entry_of(HERE, ANA)];
        assert_eq!((inbox.count(entry), entry.newest.map(|newest| newest.seq)), (2, Some(4)));
        events.push(read(10, 3));
        let inbox = after(&events);
        assert_eq!(counts(&inbox), (1, 1), "both are read with their conversation");
        assert_eq!(inbox.count(&inbox.entries[&entry_of(HERE, ANA)]), 0);
        events.push(made(12, 5, Kind::Message, told));
        let inbox = after(&events);
        assert_eq!((inbox.count(&inbox.entries[&entry_of(HERE, ANA)]), counts(&inbox)), (1, (2, 2)));
    }

    #[test]
    fn what_lies_before_the_last_message_read_is_not_looked_through() {
        let entry = entry_of(HERE, ANA);
        let told = Outcome::Sent;
        let mut events = vec![made(20, 1, Kind::Message, told), made(40, 2, Kind::Message, told)];
        let looked_through = |events: &[Stored], upto| {
            let inbox = after(events);
            inbox.uncounted(&inbox.entries[&entry], upto)
        };
        assert_eq!(looked_through(&events, 50), Some((0, 50)));
        events.push(read(41, 30));
        assert_eq!(looked_through(&events, 50), Some((30, 50)), "read with its conversation");
        assert_eq!(looked_through(&events, 30), None, "nothing is left to look through");
        let marked = NotificationState { read: true, ..done(Some(entry), 35) };
        events.push(stored(42, Body::NotificationState(marked)));
        assert_eq!(looked_through(&events, 50), Some((35, 50)), "marked by itself");

        let inbox = after(&events);
        assert_eq!(inbox.conversations([entry]), HashSet::from([HERE]));
        assert_eq!(inbox.conversations([]), HashSet::new(), "nobody asks about entries that are not listed now");
    }

    #[test]
    fn what_is_put_away_or_off_does_not_wait_until_something_new_comes() {
        let told = Outcome::Sent;
        let mention = NotificationId::from_bits(3);
        let mut events = vec![made(2, 1, Kind::Message, told), made(4, 3, Kind::Mention, told)];
        let seen = NotificationState { seen: true, ..done(None, 4) };
        events.push(stored(5, Body::NotificationState(seen)));
        assert_eq!(counts(&after(&events)), (2, 0));
        let archived = NotificationState { archived: Some(true), ..done(Some(entry_of(HERE, ANA)), 5) };
        events.push(stored(6, Body::NotificationState(archived)));
        assert_eq!(counts(&after(&events)), (1, 0));
        let until = NOW.plus_seconds(60);
        let snoozed = NotificationState { snoozed_until: Some(until), ..done(Some(mention), 6) };
        events.push(stored(7, Body::NotificationState(snoozed)));
        let inbox = after(&events);
        assert_eq!(counts(&inbox), (0, 0));
        assert_eq!(inbox.counts(NOW, 0).wakes_at, Some(until), "whoever shows the counts asks again then");
        let woken = inbox.counts(until, 0);
        assert_eq!((woken.unread, woken.wakes_at), (1, None), "time wakes it");
        let sooner = NotificationState { snoozed_until: Some(NOW.plus_seconds(30)), ..done(None, 4) };
        let both = [&events[..], &[stored(8, Body::NotificationState(sooner))]].concat();
        assert_eq!(after(&both).counts(NOW, 0).wakes_at, Some(NOW.plus_seconds(30)), "what is put away does not wake");
        let read = NotificationState { read: true, ..done(Some(mention), 7) };
        let both = [&events[..], &[stored(8, Body::NotificationState(read))]].concat();
        assert_eq!(after(&both).counts(NOW, 0).wakes_at, None, "what is read counts no more when it is back");
        events.push(made(9, 8, Kind::Message, told));
        assert_eq!(counts(&after(&events)), (1, 1));
    }

    #[test]
    fn an_entry_is_read_once_every_message_is_that_it_was_told_for() {
        // Two instances tell of two messages: of the second one first.
        let about = |seq, id, message| {
            let mut stored = made(seq, id, Kind::Message, Outcome::Sent);
            if let Body::Notification(notification) = &mut stored.event.body {
                notification.data.message_seq = Some(message);
            }
            stored
        };
        let mut events = vec![about(5, 1, 3), about(6, 2, 2), read(7, 2)];
        for cut in 0..=events.len() {
            let (before, mut inbox) = (after(&events[..cut]), after(&events[cut..]));
            before.read.iter().for_each(|(id, seq)| inbox.has_read(*id, *seq));
            before.entries.into_iter().for_each(|(id, entry)| inbox.join(id, entry));
            assert_eq!(counts(&inbox), (1, 1), "the second is not read, cut at {cut}");
        }
        events.push(read(8, 3));
        assert_eq!(counts(&after(&events)), (0, 0));
    }

    #[test]
    fn what_was_folded_before_is_joined() {
        let told = Outcome::Sent;
        let events = [
            made(2, 1, Kind::Message, told),
            made(4, 2, Kind::Message, told),
            read(5, 1),
            stored(6, Body::NotificationState(NotificationState { seen: true, ..done(None, 5) })),
            made(8, 3, Kind::Mention, told),
        ];
        let whole = after(&events);
        for cut in 0..=events.len() {
            let (before, mut inbox) = (after(&events[..cut]), after(&events[cut..]));
            inbox.all.join(before.all);
            before.read.iter().for_each(|(id, seq)| inbox.has_read(*id, *seq));
            before.entries.into_iter().for_each(|(id, entry)| inbox.join(id, entry));
            assert_eq!(counts(&inbox), counts(&whole), "cut at {cut}");
        }
    }
}
