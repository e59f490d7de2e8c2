//! Whether somebody is told of something, and by which rule: one question, asked for each way of telling.
//!
//! The answer follows from what happened, what its user wants, whether they are there, how far they have read, and the time;
//! from nothing else. It is kept with the notification, so that it can be told later why somebody heard or did not.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::clock::Timestamp;
use super::notification::Kind;
use super::presence::Status;
use crate::error::Error;

/// A way of telling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// The user's inbox, and with it every socket they have.
    Inbox,
    /// Whatever reaches somebody who is not looking: push, e-mail.
    Away,
}

/// How loud somebody wants to be told of a kind of thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// It is told.
    #[default]
    On,
    /// It is listed, and makes no noise.
    Silent,
    /// It is not told at all.
    Off,
}

impl Level {
    /// The word, as on the wire.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Silent => "silent",
            Self::Off => "off",
        }
    }
}

impl FromStr for Level {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let all = [Self::On, Self::Silent, Self::Off];
        let found = all.into_iter().find(|level| level.word() == text);
        found.ok_or_else(|| Error::invalid("unknown_notification_level", "a kind of notification is on, silent or off"))
    }
}

/// What somebody may be told of.
#[derive(Debug, Clone, Copy)]
pub struct Matter {
    /// Its kind.
    pub kind: Kind,
    /// The place of the message that it is about, if it is about one.
    pub message_seq: Option<u64>,
}

/// What is known of the user.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts {
    /// How loud they want this kind.
    pub level: Level,
    /// They block whoever caused it.
    pub blocked: bool,
    /// Until when its conversation makes no noise for them.
    pub muted_until: Option<Timestamp>,
    /// How far they have read its conversation.
    pub read_seq: u64,
    /// Whether they are there, if that is known.
    pub presence: Option<Status>,
}

/// What comes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// They are told.
    #[default]
    Sent,
    /// They find it, and nothing draws their attention to it.
    Silent,
    /// They are not told.
    Held,
}

/// What decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// Nothing speaks against it.
    #[default]
    Default,
    /// It is of a kind that nobody can turn off.
    Critical,
    /// They block whoever caused it.
    Blocked,
    /// They have read it already.
    Read,
    /// They want it so for this kind.
    Preference,
    /// They have muted the conversation.
    Muted,
    /// They are there and see it anyway.
    Online,
}

/// The outcome and what decided it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Decision {
    /// What comes of it.
    pub outcome: Outcome,
    /// What decided.
    pub rule: Rule,
}

/// The decisions for every way of telling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Decisions {
    /// For the inbox and the sockets.
    pub inbox: Decision,
    /// For what reaches somebody who is not looking.
    pub away: Decision,
    /// When that was: what it is about may have happened long before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

impl Outcome {
    /// The word, as on the wire.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Silent => "silent",
            Self::Held => "held",
        }
    }
}

impl Rule {
    /// The word, as on the wire.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Critical => "critical",
            Self::Blocked => "blocked",
            Self::Read => "read",
            Self::Preference => "preference",
            Self::Muted => "muted",
            Self::Online => "online",
        }
    }
}

/// Decides. The first rule that has something to say counts.
#[must_use]
pub fn decide(channel: Channel, matter: Matter, facts: Facts, now: Timestamp) -> Decision {
    let by = |outcome, rule| Decision { outcome, rule };
    // Whoever is not looking cannot be told without their attention being drawn to it.
    let quietly = match channel {
        Channel::Inbox => Outcome::Silent,
        Channel::Away => Outcome::Held,
    };
    if matter.kind.is_critical() {
        return by(Outcome::Sent, Rule::Critical);
    }
    if facts.blocked {
        return by(Outcome::Held, Rule::Blocked);
    }
    if matter.message_seq.is_some_and(|seq| seq <= facts.read_seq) {
        return by(Outcome::Held, Rule::Read);
    }
    if facts.level == Level::Off {
        return by(Outcome::Held, Rule::Preference);
    }
    if facts.muted_until.is_some_and(|until| until > now) {
        // What was said is in the conversation; what names them or is about their order is to be found all the same.
        let held = matches!(matter.kind, Kind::Message | Kind::Support);
        return by(if held { Outcome::Held } else { quietly }, Rule::Muted);
    }
    if channel == Channel::Away && facts.presence == Some(Status::Online) {
        return by(Outcome::Held, Rule::Online);
    }
    match facts.level {
        Level::Silent => by(quietly, Rule::Preference),
        Level::On | Level::Off => by(Outcome::Sent, Rule::Default),
    }
}

/// Decides for every way of telling.
#[must_use]
pub fn decide_all(matter: Matter, facts: Facts, now: Timestamp) -> Decisions {
    let ask = |channel| decide(channel, matter, facts, now);
    Decisions { inbox: ask(Channel::Inbox), away: ask(Channel::Away), at: Some(now) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn told(kind: Kind, facts: Facts) -> [(&'static str, &'static str); 2] {
        let matter = Matter { kind, message_seq: Some(10) };
        let Decisions { inbox, away, at } = decide_all(matter, facts, NOW);
        assert_eq!(at, Some(NOW));
        [inbox, away].map(|one| (one.outcome.word(), one.rule.word()))
    }

    #[test]
    fn each_rule_decides_where_no_earlier_one_does() {
        let facts = Facts::default();
        let online = Facts { presence: Some(Status::Online), ..facts };
        let off = Facts { level: Level::Off, ..facts };
        let silent = Facts { level: Level::Silent, ..facts };
        let muted = Facts { muted_until: Some(NOW.plus_seconds(60)), ..facts };
        let table = [
            (Kind::Message, facts, [("sent", "default"), ("sent", "default")]),
            (Kind::Message, online, [("sent", "default"), ("held", "online")]),
            (
                Kind::Message,
                Facts { presence: Some(Status::Away), ..facts },
                [("sent", "default"), ("sent", "default")],
            ),
            (Kind::Message, Facts { blocked: true, ..off }, [("held", "blocked"), ("held", "blocked")]),
            (Kind::Mention, Facts { read_seq: 10, ..off }, [("held", "read"), ("held", "read")]),
            (Kind::Mention, Facts { read_seq: 9, ..facts }, [("sent", "default"), ("sent", "default")]),
            (Kind::Order, off, [("held", "preference"), ("held", "preference")]),
            (Kind::Order, silent, [("silent", "preference"), ("held", "preference")]),
            (Kind::Message, muted, [("held", "muted"), ("held", "muted")]),
            (Kind::Support, muted, [("held", "muted"), ("held", "muted")]),
            (Kind::Mention, muted, [("silent", "muted"), ("held", "muted")]),
            (
                Kind::Order,
                Facts { muted_until: Some(NOW.plus_seconds(60)), ..online },
                [("silent", "muted"), ("held", "muted")],
            ),
            (Kind::Message, Facts { muted_until: Some(NOW), ..facts }, [("sent", "default"), ("sent", "default")]),
            (
                Kind::System,
                Facts {
                    level: Level::Off,
                    blocked: true,
                    muted_until: Some(NOW.plus_seconds(60)),
                    read_seq: 99,
                    ..online
                },
                [("sent", "critical"), ("sent", "critical")],
            ),
        ];
        for (kind, facts, wanted) in table {
            assert_eq!(told(kind, facts), wanted, "{kind:?} {facts:?}");
        }
    }

    #[test]
    fn what_is_about_no_message_is_never_read() {
        let facts = Facts { read_seq: u64::MAX, ..Facts::default() };
        let matter = Matter { kind: Kind::Order, message_seq: None };
        assert_eq!(decide(Channel::Inbox, matter, facts, NOW).rule, Rule::Default);
    }
}
