//! How much one user may send, on all instances together.
//!
//! A leaky bucket for each user who has sent lately. What fills it is what the tail brings, which is what all instances
//! have accepted, so that several sockets on several instances share one limit without asking each other. What this
//! instance has in hand counts as well, or a burst would be over before its first message came back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::domain::clock::Timestamp;
use crate::domain::event::{Body, Stored};
use crate::domain::ids::UserId;
use crate::error::{Code, Error, Result};

/// A burst is as much as this many seconds allow.
const BURST_SECONDS: f64 = 5.0;
/// A change of preferences counts as this many messages: it carries the list of everybody whom its user blocks.
const PREFERENCES: f64 = 10.0;
/// A mark counts as this much of a message: one for each message that somebody reads is nothing out of the ordinary.
const MARK: f64 = 0.2;
/// Users of one part, from which on those who have not sent for a while are forgotten.
const KEPT: usize = 4_096;
/// Locks that the users are spread over.
const PARTS: usize = 16;

#[derive(Debug, Clone, Copy)]
struct Bucket {
    level: f64,
    at: Timestamp,
    in_hand: u32,
}

impl Bucket {
    fn level(&self, now: Timestamp, rate: f64) -> f64 {
        let millis = u32::try_from(now.millis().saturating_sub(self.at.millis()).max(0)).unwrap_or(u32::MAX);
        (self.level - f64::from(millis) / 1_000.0 * rate).max(0.0)
    }
}

/// The limits; cheap to clone.
#[derive(Debug, Clone)]
pub struct Limits {
    parts: Arc<[Mutex<HashMap<UserId, Bucket>>; PARTS]>,
    rate: f64,
}

/// A send in hand; it counts until this is dropped.
#[derive(Debug)]
#[must_use = "it counts until it is dropped"]
pub struct InHand {
    limits: Limits,
    user: UserId,
}

impl InHand {
    /// Nothing has come of it, but it was work to find that out: it counts like what was sent.
    pub fn spent(self, now: Timestamp) {
        let rate = self.limits.rate;
        if let Some(bucket) = self.limits.part(self.user).get_mut(&self.user) {
            bucket.level = bucket.level(now, rate) + 1.0;
            bucket.at = bucket.at.max(now);
        }
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        if let Some(bucket) = self.limits.part(self.user).get_mut(&self.user) {
            bucket.in_hand = bucket.in_hand.saturating_sub(1);
        }
    }
}

impl Limits {
    /// So many messages of each user in a second, and bursts of five times that.
    #[must_use]
    pub fn new(rate: u32) -> Self {
        Self { parts: Arc::new(std::array::from_fn(|_| Mutex::default())), rate: f64::from(rate) }
    }

    fn part(&self, user: UserId) -> MutexGuard<'_, HashMap<UserId, Bucket>> {
        let place = usize::try_from(user.bits() % PARTS as u128).unwrap_or(0);
        self.parts[place].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A user wants to send.
    pub fn admit(&self, user: UserId, now: Timestamp) -> Result<InHand> {
        let mut part = self.part(user);
        if part.len() >= KEPT {
            part.retain(|_, bucket| bucket.in_hand > 0 || bucket.level(now, self.rate) > 0.0);
        }
        let bucket = part.entry(user).or_insert(Bucket { level: 0.0, at: now, in_hand: 0 });
        self.require_room(bucket, now, 1.0)?;
        bucket.in_hand += 1;
        Ok(InHand { limits: self.clone(), user })
    }

    /// A user wants to mark. Marks go out together, so they count once the log has them, and not while they are in hand.
    pub fn admit_mark(&self, user: UserId, now: Timestamp) -> Result<()> {
        self.part(user).get(&user).map_or(Ok(()), |bucket| self.require_room(bucket, now, MARK))
    }

    fn require_room(&self, bucket: &Bucket, now: Timestamp, weight: f64) -> Result<()> {
        let excess = bucket.level(now, self.rate) + f64::from(bucket.in_hand) + weight - self.rate * BURST_SECONDS;
        if excess <= 0.0 {
            return Ok(());
        }
        let wait = Duration::from_secs_f64((excess / self.rate).clamp(0.05, 60.0));
        Err(Error::new(Code::RateLimited, "too_many_sends", "you are sending more than you may, wait a little")
            .retry_after(wait))
    }

    /// Takes note of an event; called by the tail for every event.
    pub fn observe(&self, stored: &Stored) {
        let weight = match &stored.event.body {
            Body::Preferences(_) => PREFERENCES,
            Body::Receipt(_) => MARK,
            // Openings and other changes of conversations, which have a note as well, what one is to somebody, and what they
            // do to their notifications.
            Body::Message(_) | Body::Conversation(_) | Body::Setting(_) | Body::NotificationState(_) => 1.0,
            // What is found out about attachments is nobody's doing.
            Body::Attachment(_) => return,
            // What is done to messages.
            body if body.changed_message().is_some() => 1.0,
            _ => return,
        };
        // As of when it happened: the tail also brings what is older than this instance.
        let (user, at) = (stored.event.actor, stored.event.occurred_at);
        let mut part = self.part(user);
        if part.len() >= KEPT && !part.contains_key(&user) {
            part.retain(|_, bucket| bucket.in_hand > 0 || bucket.level(at, self.rate) > 0.0);
        }
        let bucket = part.entry(user).or_insert(Bucket { level: 0.0, at, in_hand: 0 });
        bucket.level = bucket.level(at, self.rate) + weight;
        bucket.at = bucket.at.max(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::{Event, VERSION};
    use crate::domain::ids::{ConversationId, EventId, MessageId};
    use crate::domain::message::{Kind, Message};
    use crate::domain::receipt::Receipt;
    use crate::domain::setting::Setting;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn sent(user: UserId) -> Stored {
        let message = Message {
            id: MessageId::from_bits(1),
            conversation_id: ConversationId::from_bits(1),
            sender_id: user,
            sender_name: "Ana".into(),
            kind: Kind::Text,
            text: "x".into(),
            reply_to: None,
            mentions: Vec::new(),
            attachments: Vec::new(),
            entry: None,
            client_message_id: None,
            created_at: NOW,
        };
        let event = Event {
            id: EventId::from_bits(1),
            version: VERSION,
            actor: user,
            occurred_at: NOW,
            recipients: vec![user],
            body: Body::Message(message),
        };
        Stored { seq: 1, event }
    }

    #[test]
    fn what_other_instances_took_counts_too_and_drains_with_time() {
        let (limits, user) = (Limits::new(2), UserId::from_bits(7));
        for _ in 0..10 {
            drop(limits.admit(user, NOW).expect("within the burst"));
            limits.observe(&sent(user));
        }
        let refused = limits.admit(user, NOW).expect_err("the burst is over");
        assert_eq!((refused.reason(), refused.wait()), ("too_many_sends", Some(Duration::from_millis(500))));
        assert!(limits.admit(UserId::from_bits(8), NOW).is_ok(), "others are free to send");
        assert!(limits.admit(user, NOW.plus_seconds(1)).is_ok());
    }

    #[test]
    fn settings_count_like_messages() {
        let (limits, user) = (Limits::new(2), UserId::from_bits(7));
        let mut stored = sent(user);
        let conversation_id = ConversationId::from_bits(1);
        stored.event.body = Body::Setting(Setting {
            conversation_id,
            user_id: user,
            muted_until: None,
            archived: Some(true),
            pinned: None,
        });
        for _ in 0..10 {
            limits.observe(&stored);
        }
        assert!(limits.admit(user, NOW).is_err());
    }

    #[test]
    fn marks_count_as_a_part_of_a_message() {
        let (limits, user) = (Limits::new(2), UserId::from_bits(7));
        let mut stored = sent(user);
        let conversation_id = ConversationId::from_bits(1);
        stored.event.body =
            Body::Receipt(Receipt { conversation_id, user_id: user, read_seq: 1, delivered_seq: 0, hidden: false });
        for _ in 0..49 {
            limits.observe(&stored);
        }
        assert_eq!(limits.admit(user, NOW).err().map(|error| error.reason()), Some("too_many_sends"));
        assert!(limits.admit_mark(user, NOW).is_ok());
        limits.observe(&stored);
        assert_eq!(limits.admit_mark(user, NOW).err().map(|error| error.reason()), Some("too_many_sends"));
        assert!(limits.admit_mark(UserId::from_bits(8), NOW).is_ok());
        assert!(limits.admit_mark(user, NOW.plus_seconds(1)).is_ok());
    }

    #[test]
    fn what_was_sent_long_ago_counts_no_more() {
        let (limits, user) = (Limits::new(2), UserId::from_bits(7));
        for _ in 0..100 {
            limits.observe(&sent(user));
        }
        assert!(limits.admit(user, NOW).is_err());
        assert!(limits.admit(user, NOW.plus_seconds(60)).is_ok());
    }

    #[test]
    fn what_nothing_comes_of_counts_too() {
        let (limits, user) = (Limits::new(1), UserId::from_bits(7));
        for _ in 0..5 {
            limits.admit(user, NOW).expect("within the burst").spent(NOW);
        }
        assert!(limits.admit(user, NOW).is_err());
        assert!(limits.admit(user, NOW.plus_seconds(1)).is_ok());
    }

    #[test]
    fn what_is_in_hand_counts_until_it_is_done() {
        let (limits, user) = (Limits::new(1), UserId::from_bits(7));
        let in_hand: Vec<InHand> = (0..5).map(|_| limits.admit(user, NOW).expect("within the burst")).collect();
        assert!(limits.admit(user, NOW).is_err());
        drop(in_hand);
        assert!(limits.admit(user, NOW).is_ok());
    }
}
