//! The keys of the presence bucket: `<user>.<instance>`.

use std::fmt;
use std::str::FromStr;

use crate::domain::ids::{InstanceId, UserId};

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_back_as_written() {
        let record = Record { user: UserId::from_bits(1), instance: InstanceId::from_bits(2) };
        assert_eq!(record.to_string().parse(), Ok(record));
        assert!("usr_1.ins_2".parse::<Record>().is_err());
    }
}
