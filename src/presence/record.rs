//! The records of the presence bucket: the key `<user>.<instance>`, the value what the user's sockets there say.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;

use crate::domain::ids::{InstanceId, UserId};
use crate::domain::presence::Sign;

/// A user has at least one socket on an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Record {
    /// Who.
    pub user: UserId,
    /// Where.
    pub instance: InstanceId,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.user, self.instance)
    }
}

impl FromStr for Record {
    type Err = ();

    fn from_str(key: &str) -> Result<Self, ()> {
        let (user, instance) = key.split_once('.').ok_or(())?;
        Ok(Self { user: user.parse().map_err(drop)?, instance: instance.parse().map_err(drop)? })
    }
}

/// The value that says this.
pub(super) const fn value(sign: Sign) -> Bytes {
    Bytes::from_static(sign.word().as_bytes())
}

/// What a value says. Instances of an earlier version leave it empty; a later one may say what this one does not know.
pub(super) fn sign(value: &[u8]) -> Sign {
    std::str::from_utf8(value).ok().and_then(|word| word.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_back_as_written() {
        let record = Record { user: UserId::from_bits(1), instance: InstanceId::from_bits(2) };
        assert_eq!(record.to_string().parse(), Ok(record));
        assert!("usr_1.ins_2".parse::<Record>().is_err());
        for one in [Sign::Online, Sign::Away] {
            assert_eq!(sign(&value(one)), one);
        }
        assert_eq!(sign(b""), Sign::Online, "as it was written before there was anything to say");
    }
}
