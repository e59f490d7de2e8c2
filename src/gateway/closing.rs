//! Why the server ends a connection, and what its client is told about it.

use crate::domain::clock::random_bits;
use crate::error::Error;

/// Why the server ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// Its token has run out.
    Expired,
    /// It never brought a token.
    Nobody,
    /// It reads too slowly and has to catch up anew.
    Resync,
    /// This instance is going away.
    GoingAway,
}

impl Closing {
    /// What the client is told.
    #[must_use]
    pub fn error(self) -> Error {
        match self {
            Self::Expired => crate::auth::actor::expired(),
            Self::Nobody => crate::auth::token::missing(),
            Self::Resync => Error::unavailable("resync", "this socket has fallen behind; connect again and catch up"),
            Self::GoingAway => Error::unavailable("going_away", "this instance is going away; connect again")
                // Some later than others, so that they do not all come at once.
                .retry_after(std::time::Duration::from_millis(u64::try_from(random_bits() % 2_000).unwrap_or(0))),
        }
    }

    /// The word for it, in the log and in metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Expired => "token_expired",
            Self::Nobody => "missing_token",
            Self::Resync => "resync",
            Self::GoingAway => "going_away",
        }
    }

    /// Whether the client should come back by itself.
    #[must_use]
    pub const fn come_back(self) -> bool {
        matches!(self, Self::Resync | Self::GoingAway)
    }

    /// The WebSocket close code: private ones from 4000 on, and RFC 6455's own.
    #[must_use]
    pub const fn websocket_code(self) -> u16 {
        match self {
            Self::Expired | Self::Nobody => 4401,
            Self::Resync => 4409,
            Self::GoingAway => 1012,
        }
    }
}
