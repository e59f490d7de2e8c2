//! Typed, prefixed ids: `msg_01J8Z3...`.
//!
//! An id is 128 bits written as 26 Crockford base-32 characters behind a prefix that says what it names, in JSON, in
//! MongoDB and in logs. A fresh id starts with its time (the ULID layout), so ids of one kind sort roughly by age; a
//! derived id is a hash of what it stands for, so that the same thing always gets the same id.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::clock::Timestamp;
use crate::error::Error;

/// Crockford's alphabet: no I, L, O or U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Characters of an encoded 128-bit number.
pub const ENCODED: usize = 26;

/// What an id can name.
pub trait Identified {
    /// The prefix without its underscore.
    const PREFIX: &'static str;
}

/// The id of a `T`.
pub struct Id<T> {
    bits: u128,
    of: PhantomData<fn() -> T>,
}

macro_rules! ids {
    ($($(#[$doc:meta])* $tag:ident, $alias:ident, $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub enum $tag {}
        impl Identified for $tag {
            const PREFIX: &'static str = $prefix;
        }
        $(#[$doc])*
        pub type $alias = Id<$tag>;
    )*};
}

ids! {
    /// Names a user.
    UserTag, UserId, "usr";
    /// Names a conversation.
    ConversationTag, ConversationId, "cnv";
    /// Names a message.
    MessageTag, MessageId, "msg";
    /// Names a notification.
    NotificationTag, NotificationId, "ntf";
    /// Names a session, that is, one login.
    SessionTag, SessionId, "ses";
    /// Names an event in the log.
    EventTag, EventId, "evt";
    /// Names an attachment.
    AttachmentTag, AttachmentId, "att";
    /// Names the bytes of attachments.
    BlobTag, BlobId, "blb";
    /// Names one running process.
    InstanceTag, InstanceId, "ins";
}

impl<T> Id<T> {
    /// The id with these bits.
    #[must_use]
    pub const fn from_bits(bits: u128) -> Self {
        Self { bits, of: PhantomData }
    }

    /// The bits.
    #[must_use]
    pub const fn bits(self) -> u128 {
        self.bits
    }

    /// A fresh id: 48 bits of time in milliseconds, then 80 random bits (the ULID layout).
    #[must_use]
    pub fn fresh(now: Timestamp, random: u128) -> Self {
        let millis = u128::from(now.millis().unsigned_abs() & 0xFFFF_FFFF_FFFF);
        Self::from_bits(millis << 80 | (random & ((1 << 80) - 1)))
    }

    /// The id that stands for exactly these parts, for ever: the first 128 bits of a SHA-256 over the length-prefixed
    /// parts.
    #[must_use]
    pub fn derived(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let digest = hash.finalize();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        Self::from_bits(u128::from_be_bytes(bytes))
    }
}

/// Writes 128 bits as 26 Crockford characters.
#[must_use]
pub fn encode(mut bits: u128) -> [u8; ENCODED] {
    let mut out = [b'0'; ENCODED];
    for place in out.iter_mut().rev() {
        *place = ALPHABET[(bits & 31) as usize];
        bits >>= 5;
    }
    out
}

/// Reads what [`encode`] wrote; capital letters only, so that an id has one spelling.
#[must_use]
pub fn decode(text: &str) -> Option<u128> {
    if text.len() != ENCODED {
        return None;
    }
    let mut bits: u128 = 0;
    for (place, byte) in text.bytes().enumerate() {
        let value = ALPHABET.iter().position(|known| *known == byte)?;
        // 26 characters hold 130 bits: the first one has two bits too many.
        if place == 0 && value > 7 {
            return None;
        }
        bits = bits << 5 | value as u128;
    }
    Some(bits)
}

impl<T: Identified> fmt::Display for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = encode(self.bits);
        f.write_str(T::PREFIX)?;
        f.write_str("_")?;
        f.write_str(std::str::from_utf8(&digits).map_err(|_| fmt::Error)?)
    }
}

impl<T: Identified> FromStr for Id<T> {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        text.strip_prefix(T::PREFIX)
            .and_then(|rest| rest.strip_prefix('_'))
            .and_then(decode)
            .map(Self::from_bits)
            .ok_or_else(|| {
                Error::invalid(
                    "malformed_id",
                    format!("an id of the form {}_ and 26 characters is expected here", T::PREFIX),
                )
            })
    }
}

impl<T: Identified> fmt::Debug for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<T> Clone for Id<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Id<T> {}
impl<T> PartialEq for Id<T> {
    fn eq(&self, other: &Self) -> bool {
        self.bits == other.bits
    }
}
impl<T> Eq for Id<T> {}
impl<T> PartialOrd for Id<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> Ord for Id<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.bits.cmp(&other.bits)
    }
}
impl<T> Hash for Id<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bits.hash(state);
    }
}

impl<T: Identified> Serialize for Id<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, T: Identified> Deserialize<'de> for Id<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(|error: Error| D::Error::custom(error.shown()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_id_is_read_back_as_written(bits: u128) {
            let id = MessageId::from_bits(bits);
            prop_assert_eq!(id.to_string().parse::<MessageId>().ok(), Some(id));
        }

        #[test]
        fn nothing_else_is_an_id(text in "\\PC{0,40}") {
            if let Ok(id) = text.parse::<MessageId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }

    #[test]
    fn a_wrong_prefix_is_refused() {
        let user = UserId::from_bits(7).to_string();
        assert!(user.parse::<MessageId>().is_err());
        assert!(user.parse::<UserId>().is_ok());
    }

    #[test]
    fn derived_ids_tell_their_parts_apart() {
        let joined = MessageId::derived(&[b"ab", b"c"]);
        assert_eq!(joined, MessageId::derived(&[b"ab", b"c"]));
        assert_ne!(joined, MessageId::derived(&[b"a", b"bc"]));
    }

    #[test]
    fn fresh_ids_sort_by_time() {
        let early = MessageId::fresh(Timestamp::from_millis(1_000), u128::MAX);
        let late = MessageId::fresh(Timestamp::from_millis(1_001), 0);
        assert!(early.to_string() < late.to_string());
    }
}
