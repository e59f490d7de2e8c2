//! Who types where, as the others are shown it.
//!
//! They hear of it at most once in two seconds, and of its end six seconds after the last sign if nobody says so before: an
//! instance that died cannot. A message of theirs ends it too. The table is pure and bounded; signs come from the broker,
//! where `typer` has passed them on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::hub::Hub;
use crate::command::preferences::Preferred;
use crate::domain::clock::Timestamp;
use crate::domain::conversation::Conversation;
use crate::domain::event::{Body, Stored};
use crate::domain::ids::{ConversationId, UserId};
use crate::domain::preferences::Preferences;
use crate::domain::typing::Typing;
use crate::lifecycle::Lifecycle;

/// The time between two signs of the same typing.
pub(super) const INTERVAL: Duration = Duration::from_secs(2);
/// Typing is over this long after its last sign.
pub(super) const EXPIRY: Duration = Duration::from_secs(6);
/// How often typing that is over is looked for.
const TICK: Duration = Duration::from_millis(250);
/// Typing that is shown by one instance, at most.
const SHOWN: usize = 100_000;

/// What the others are told of somebody's typing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// That they type.
    Typing,
    /// Nothing yet: they had stopped a moment ago.
    Waiting,
    /// That they have stopped.
    Over,
}

#[derive(Debug)]
struct One {
    stage: Stage,
    /// When the others were last told that they type.
    told: Instant,
    /// When it is over by itself.
    until: Instant,
    /// Who is told.
    to: Vec<UserId>,
    /// Signs from before their last message are late.
    said: Timestamp,
}

/// The typing that one instance shows.
#[derive(Debug, Default)]
struct Shown(HashMap<(ConversationId, UserId), One>);

impl Shown {
    /// A sign has come. Returns what is to be told now.
    fn hear(&mut self, mut signal: Typing, now: Instant) -> Option<Typing> {
        let key = (signal.conversation_id, signal.sender_id);
        if !signal.typing {
            return self.stop(key);
        }
        let worth = self.0.len() < SHOWN && !signal.recipients.is_empty();
        let Some(one) = self.0.get_mut(&key) else {
            if !worth {
                return None;
            }
            let (to, said) = (signal.recipients.clone(), Timestamp::zero());
            self.0.insert(key, One { stage: Stage::Typing, told: now, until: now + EXPIRY, to, said });
            return Some(signal);
        };
        if signal.at <= one.said {
            return None;
        }
        one.until = now + EXPIRY;
        one.to = std::mem::take(&mut signal.recipients);
        if now - one.told < INTERVAL {
            if one.stage == Stage::Over {
                one.stage = Stage::Waiting;
            }
            return None;
        }
        (one.stage, one.told) = (Stage::Typing, now);
        Some(Typing { recipients: one.to.clone(), ..signal })
    }

    /// Somebody has stopped. Returns what is to be told, if they had begun.
    fn stop(&mut self, key: (ConversationId, UserId)) -> Option<Typing> {
        let one = self.0.get_mut(&key)?;
        let stage = std::mem::replace(&mut one.stage, Stage::Over);
        (stage == Stage::Typing).then(|| stopped(key, std::mem::take(&mut one.to)))
    }

    /// Somebody has said something, and so has stopped.
    fn said(&mut self, key: (ConversationId, UserId), at: Timestamp) -> Option<Typing> {
        self.0.get_mut(&key)?.said = at;
        self.stop(key)
    }

    /// Others are in a conversation than before. Returns what is to be told of those who have left it while they typed.
    fn changed(&mut self, conversation: &Conversation) -> Vec<Typing> {
        let here = self.0.iter_mut().filter(|((id, _), _)| *id == conversation.id);
        let left: Vec<_> = here
            .filter_map(|(key, one)| {
                one.to.retain(|user| conversation.has(*user));
                (!conversation.has(key.1)).then_some(*key)
            })
            .collect();
        left.into_iter().filter_map(|key| self.stop(key)).collect()
    }

    /// Time has passed. Returns what is to be told.
    fn tick(&mut self, now: Instant) -> Vec<Typing> {
        let mut told = Vec::new();
        self.0.retain(|key, one| {
            let expired = one.until <= now;
            match one.stage {
                Stage::Typing if expired => {
                    one.stage = Stage::Over;
                    told.push(stopped(*key, std::mem::take(&mut one.to)));
                }
                Stage::Waiting if !expired && now - one.told >= INTERVAL => {
                    (one.stage, one.told) = (Stage::Typing, now);
                    told.push(Typing { typing: true, recipients: one.to.clone(), ..stopped(*key, Vec::new()) });
                }
                Stage::Typing | Stage::Waiting | Stage::Over => {}
            }
            !expired
        });
        told
    }
}

fn stopped((conversation_id, sender_id): (ConversationId, UserId), recipients: Vec<UserId>) -> Typing {
    Typing { conversation_id, sender_id, typing: false, recipients, at: Timestamp::from_millis(0) }
}

/// Shows this instance's sockets who types.
#[derive(Debug)]
pub struct Typists {
    hub: Arc<Hub>,
    preferred: Preferred,
    shown: Mutex<Shown>,
}

impl Typists {
    /// Nobody types; it looks for what is over until the instance drains.
    #[must_use]
    pub fn start(hub: Arc<Hub>, preferred: Preferred, lifecycle: &Lifecycle) -> Arc<Self> {
        let typists = Arc::new(Self { hub, preferred, shown: Mutex::default() });
        let (this, draining) = (typists.clone(), lifecycle.draining());
        lifecycle.background("typing", async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(TICK) => this.show(|shown| shown.tick(Instant::now())),
                    () = draining.cancelled() => return Ok(()),
                }
            }
        });
        typists
    }

    /// Shows what a change of the table means, still under its lock: an end must not overtake its beginning. Pushing waits
    /// for nobody.
    fn show<T: IntoIterator<Item = Typing>>(&self, change: impl FnOnce(&mut Shown) -> T) {
        // Every change under this lock is complete before it can panic.
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        for typing in change(&mut shown) {
            self.hub.push_typing(&typing);
        }
    }

    /// A signal has come. Its sender blocks none of its recipients; those who block the sender are left out here, where they
    /// have a socket and so are known, unless MongoDB is away.
    pub fn hear(&self, mut signal: Typing) {
        let sender = signal.sender_id;
        signal.recipients.retain(|user| {
            let hears = |known: Option<Arc<Preferences>>| match known {
                Some(preferences) => !preferences.blocks(sender),
                None => self.preferred.is_in_the_dark(),
            };
            self.hub.has(*user) && hears(self.preferred.known(*user))
        });
        self.show(|shown| shown.hear(signal, Instant::now()));
    }

    /// Takes note of an event, before it is pushed. Called by the tail.
    pub fn observe(&self, stored: &Stored) {
        match &stored.event.body {
            Body::Message(message) => {
                self.show(|shown| shown.said((message.conversation_id, message.sender_id), message.created_at));
            }
            Body::Conversation(conversation) => self.show(|shown| shown.changed(conversation)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: ConversationId = ConversationId::from_bits(1);
    const ANA: UserId = UserId::from_bits(2);
    const BEN: UserId = UserId::from_bits(3);

    /// A table and the time, in milliseconds.
    struct Play {
        shown: Shown,
        begin: Instant,
    }

    impl Play {
        fn new() -> Self {
            Self { shown: Shown::default(), begin: Instant::now() }
        }

        fn at(&self, millis: u64) -> Instant {
            self.begin + Duration::from_millis(millis)
        }

        fn hear(&mut self, millis: u64, typing: bool) -> Option<bool> {
            let at = Timestamp::from_millis(i64::try_from(millis).expect("a short play"));
            let signal = Typing { conversation_id: HERE, sender_id: ANA, typing, recipients: vec![BEN], at };
            told(self.shown.hear(signal, self.at(millis)))
        }

        fn say(&mut self, millis: i64) -> Option<bool> {
            told(self.shown.said((HERE, ANA), Timestamp::from_millis(millis)))
        }

        fn tick(&mut self, millis: u64) -> Vec<bool> {
            let now = self.at(millis);
            self.shown.tick(now).into_iter().filter_map(|typing| told(Some(typing))).collect()
        }
    }

    fn told(typing: Option<Typing>) -> Option<bool> {
        typing.map(|typing| {
            assert_eq!(typing.recipients, [BEN], "an end goes to whoever heard of the beginning");
            typing.typing
        })
    }

    #[test]
    fn typing_is_shown_at_most_once_in_two_seconds() {
        let mut play = Play::new();
        assert_eq!(play.hear(0, true), Some(true));
        assert_eq!(play.hear(1_999, true), None);
        assert_eq!(play.hear(2_000, true), Some(true));
        assert_eq!(play.hear(2_100, false), Some(false));
        assert_eq!(play.hear(2_200, false), None, "it ends once");
        assert_eq!(play.hear(2_300, true), None, "not again so soon");
        assert!(play.tick(3_999).is_empty());
        assert_eq!(play.tick(4_000), [true], "but as soon as it may be");
        assert_eq!(play.hear(4_100, false), Some(false));
        assert_eq!(play.hear(4_200, true), None);
        assert_eq!(play.hear(4_300, false), None, "nobody had heard of it");
        assert!(play.tick(10_200).is_empty());
        assert!(play.shown.0.is_empty(), "nothing is left");
    }

    #[test]
    fn typing_is_over_six_seconds_after_its_last_sign() {
        let mut play = Play::new();
        play.hear(0, true);
        play.hear(1_000, true);
        assert!(play.tick(6_999).is_empty());
        assert_eq!(play.tick(7_000), [false]);
        assert_eq!(play.hear(7_100, false), None);
        assert!(play.shown.0.is_empty());
        assert_eq!(play.hear(7_200, true), Some(true));
    }

    #[test]
    fn a_message_ends_typing_and_a_late_sign_does_not_begin_it_again() {
        let mut play = Play::new();
        assert_eq!(play.say(0), None, "nobody typed");
        play.hear(100, true);
        assert_eq!(play.say(2_200), Some(false));
        assert_eq!(play.hear(2_150, true), None, "from before the message");
        assert!(play.tick(2_200).is_empty());
        assert_eq!(play.hear(2_300, true), Some(true));
    }

    #[test]
    fn a_stop_without_a_beginning_is_nothing() {
        let mut play = Play::new();
        assert_eq!(play.hear(0, false), None);
        assert!(play.shown.0.is_empty());
    }
}
