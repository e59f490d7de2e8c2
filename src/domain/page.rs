//! Pages of a list: how many, from where, which way.

use std::str::FromStr;

use super::ids::{self, MessageId};
use crate::error::{Error, Result};

/// Entries of a page unless asked otherwise.
pub const DEFAULT: u32 = 50;
/// Most entries of a page.
pub const LIMIT: u32 = 200;

/// The number of entries asked for, within the limits.
pub fn limit(asked: Option<u32>) -> Result<u32> {
    match asked {
        None => Ok(DEFAULT),
        Some(limit @ 1..=LIMIT) => Ok(limit),
        Some(_) => Err(Error::invalid("malformed_limit", "limit must be 1 to 200")),
    }
}

/// An edge between two entries of a list ordered by seq: opaque outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge(pub u64);

impl Edge {
    /// The edge as a client gets it.
    #[must_use]
    pub fn opaque(self) -> String {
        String::from_utf8_lossy(&ids::encode(u128::from(self.0))).into_owned()
    }
}

impl FromStr for Edge {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        ids::decode(text)
            .and_then(|bits| u64::try_from(bits).ok())
            .map(Self)
            .ok_or_else(|| Error::invalid("malformed_cursor", "this is no cursor of this list"))
    }
}

/// Where a page of a history begins: a cursor of an earlier page, or a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// A cursor.
    Edge(Edge),
    /// The message with this id.
    Message(MessageId),
}

impl FromStr for Anchor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.starts_with("msg_") { text.parse().map(Self::Message) } else { text.parse().map(Self::Edge) }
    }
}

/// Which way a page goes from its anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// The newest entries.
    Newest,
    /// What came before the anchor, nearest first.
    Before(Anchor),
    /// What came after the anchor, nearest first.
    After(Anchor),
    /// A message in the middle of what came before and after it.
    Around(MessageId),
}

impl Range {
    /// Reads the three query parameters; more than one of them is a contradiction.
    pub fn new(before: Option<&str>, after: Option<&str>, around: Option<&str>) -> Result<Self> {
        match (before, after, around) {
            (None, None, None) => Ok(Self::Newest),
            (Some(before), None, None) => before.parse().map(Self::Before),
            (None, Some(after), None) => after.parse().map(Self::After),
            (None, None, Some(around)) => around.parse().map(Self::Around),
            _ => Err(Error::invalid("contradicting_cursors", "give before, after or around, and one of them only")),
        }
    }
}

/// A page and the ways on from it.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// The entries.
    pub items: Vec<T>,
    /// Where the next page in the same direction begins, if there may be one.
    pub next: Option<Edge>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_within_the_limits() {
        assert_eq!(limit(None).ok(), Some(DEFAULT));
        assert_eq!(limit(Some(200)).ok(), Some(200));
        assert!(limit(Some(0)).is_err());
        assert!(limit(Some(201)).is_err());
    }

    #[test]
    fn anchors_are_cursors_or_messages() {
        let edge = Edge(77);
        assert_eq!(Range::new(Some(&edge.opaque()), None, None).ok(), Some(Range::Before(Anchor::Edge(edge))));
        let message = MessageId::from_bits(5);
        assert_eq!(
            Range::new(None, Some(&message.to_string()), None).ok(),
            Some(Range::After(Anchor::Message(message)))
        );
        assert_eq!(Range::new(None, None, Some(&message.to_string())).ok(), Some(Range::Around(message)));
        assert!(Range::new(Some("x"), None, None).is_err());
        assert!(Range::new(None, None, Some(&edge.opaque())).is_err(), "a cursor is between two messages");
        assert!(Range::new(Some(&edge.opaque()), Some(&edge.opaque()), None).is_err());
        assert!(Range::new(Some(&edge.opaque()), None, Some(&message.to_string())).is_err());
    }
}
