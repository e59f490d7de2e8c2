//! The authenticated caller of one request or one socket.

use crate::domain::clock::Timestamp;
use crate::domain::ids::UserId;
use crate::domain::user::Role;
use crate::error::{Code, Error, Result};

/// Who is calling, as their token says.
#[derive(Debug, Clone)]
pub struct Actor {
    /// Who.
    pub user_id: UserId,
    /// Their name when the token was made.
    pub name: Box<str>,
    /// What they are to the shop.
    pub role: Role,
    /// When the token stops being good.
    pub expires_at: Timestamp,
}

impl Actor {
    /// Refuses a token that has run out: a socket outlives its handshake.
    pub fn check_expiry(&self, now: Timestamp) -> Result<()> {
        if now < self.expires_at { Ok(()) } else { Err(expired()) }
    }

    /// Refuses an id from the client that is not the caller's own. It is checked, never trusted.
    pub fn check_claim(&self, claimed: Option<&str>) -> Result<()> {
        match claimed {
            None => Ok(()),
            Some(claimed) if claimed.parse::<UserId>().is_ok_and(|user| user == self.user_id) => Ok(()),
            Some(_) => {
                Err(Error::new(Code::Forbidden, "identity_mismatch", "that user id is not the one of your token"))
            }
        }
    }
}

/// The answer to a token that has run out.
#[must_use]
pub fn expired() -> Error {
    Error::new(Code::Unauthenticated, "token_expired", "the token has expired")
}
