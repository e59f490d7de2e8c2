//! Presence: whether somebody is there, as their contacts see it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::clock::Timestamp;
use super::ids::UserId;
use crate::error::Error;

/// What a connection says about its user. Of several, the best one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Sign {
    /// They are doing something else.
    Away,
    /// They are there.
    #[default]
    Online,
}

impl Sign {
    /// The word, as on the wire.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Away => "away",
            Self::Online => "online",
        }
    }
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Sign {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        [Self::Online, Self::Away]
            .into_iter()
            .find(|sign| sign.word() == text)
            .ok_or_else(|| Error::invalid("unknown_status", "status must be online or away"))
    }
}

/// What somebody is to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// At least one connection, and they are there.
    Online,
    /// At least one connection, and all of them say that they are doing something else.
    Away,
    /// No connection, or none that others may know of.
    Offline,
}

impl Status {
    /// The word, as on the wire.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Away => "away",
            Self::Offline => "offline",
        }
    }
}

impl From<Option<Sign>> for Status {
    fn from(sign: Option<Sign>) -> Self {
        match sign {
            Some(Sign::Online) => Self::Online,
            Some(Sign::Away) => Self::Away,
            None => Self::Offline,
        }
    }
}

/// Somebody's presence, as their contacts see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Presence {
    /// Who.
    pub user_id: UserId,
    /// What they are now.
    pub status: Status,
    /// When their last socket closed; nothing while they are there, or if nobody is to know.
    pub last_seen_at: Option<Timestamp>,
}

impl Presence {
    /// What everybody looks like to those who are not to know.
    #[must_use]
    pub const fn unknown(user_id: UserId) -> Self {
        Self { user_id, status: Status::Offline, last_seen_at: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_sign_counts() {
        assert_eq!([Sign::Away, Sign::Online, Sign::Away].into_iter().max(), Some(Sign::Online));
        assert_eq!(Status::from([].into_iter().max()), Status::Offline);
        assert_eq!("away".parse::<Sign>().ok(), Some(Sign::Away));
        assert!("offline".parse::<Sign>().is_err(), "nobody says that of themselves");
    }
}
