//! Cursors: an opaque place in the log.
//!
//! A cursor is the pair (epoch, seq), the epoch being the moment the log was created: a seq alone would point at other
//! events once the log had been made anew.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::ids;
use crate::error::Error;

/// A place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// When the log was created, in nanoseconds since 1970.
    pub epoch: u64,
    /// The stream sequence.
    pub seq: u64,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = ids::encode(u128::from(self.epoch) << 64 | u128::from(self.seq));
        f.write_str(std::str::from_utf8(&digits).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for Cursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bits =
            ids::decode(text).ok_or_else(|| Error::invalid("malformed_cursor", "this is no cursor of this server"))?;
        let low = bits & u128::from(u64::MAX);
        let number = |bits: u128| u64::try_from(bits).unwrap_or(u64::MAX);
        Ok(Self { epoch: number(bits >> 64), seq: number(low) })
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_is_read_back_as_written(epoch: u64, seq: u64) {
            let cursor = Cursor { epoch, seq };
            prop_assert_eq!(cursor.to_string().parse::<Cursor>().ok(), Some(cursor));
        }
    }
}
