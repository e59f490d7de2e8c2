//! Users and what they are in the shop.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::clock::Timestamp;
use super::ids::UserId;
use super::words::{DisplayName, Email, ExternalId};
use crate::error::Error;

/// What somebody is to the shop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Buys.
    #[default]
    Buyer,
    /// Sells.
    Seller,
    /// Answers for the shop.
    Agent,
    /// Runs the shop.
    Admin,
}

impl Role {
    /// Whether anybody may sign up as this; the others are given by the shop.
    #[must_use]
    pub const fn open_to_sign_up(self) -> bool {
        matches!(self, Self::Buyer | Self::Seller)
    }

    /// The word, as on the wire.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Buyer => "buyer",
            Self::Seller => "seller",
            Self::Agent => "agent",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Role {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        [Self::Buyer, Self::Seller, Self::Agent, Self::Admin]
            .into_iter()
            .find(|role| role.word() == text)
            .ok_or_else(|| Error::invalid("unknown_role", "role must be buyer, seller, agent or admin"))
    }
}

/// An account, without its secrets.
#[derive(Debug, Clone)]
pub struct User {
    /// Names the user for ever.
    pub id: UserId,
    /// As others see them.
    pub name: DisplayName,
    /// Their login.
    pub email: Email,
    /// What they are to the shop.
    pub role: Role,
    /// The id that the shop knows them by, if it has said so.
    pub external_id: Option<ExternalId>,
    /// When the account was made.
    pub created_at: Timestamp,
    /// When their last socket closed, if they ever had one.
    pub last_seen_at: Option<Timestamp>,
}
