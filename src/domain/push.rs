//! Pushes: notes of whose sockets a message was put in line for, where, and when.

use smallvec::SmallVec;

use super::clock::Timestamp;
use super::ids::UserId;

/// Those who were told at once; most conversations are of two.
pub type Told = SmallVec<[UserId; 2]>;

/// A message was put in line for sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push {
    /// The place of the message in the log.
    pub seq: u64,
    /// Whose sockets.
    pub users: Told,
    /// When.
    pub at: Timestamp,
    /// It was told to somebody who came back, and not live.
    pub replayed: bool,
}
