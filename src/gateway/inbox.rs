//! The events of one client that wait for their turn.

use std::collections::VecDeque;
use std::time::Duration;

use socketioxide::extract::AckSender;

use super::protocol::ClientEvent;
use crate::error::{Code, Error, Result};

/// Events of one client that wait for their turn, at most.
const INBOX: usize = 256;
/// Events of one client that were taken and wait for the broker, at most; the next ones wait for their turn.
pub(super) const UNANSWERED: usize = 256;

/// An event from the client and how to answer it.
#[derive(Debug)]
pub struct Inbound {
    /// The event, or why it cannot be read.
    pub event: Result<ClientEvent>,
    /// How to answer.
    pub reply: Reply,
}

/// How to answer an event.
pub enum Reply {
    /// The client waits for a Socket.IO acknowledgement.
    SocketIo(AckSender),
    /// The client waits for an answer with this number.
    WebSocket(u64),
    /// The client does not wait; it hears only of failures.
    None,
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::SocketIo(_) => "Reply::SocketIo",
            Self::WebSocket(_) => "Reply::WebSocket",
            Self::None => "Reply::None",
        })
    }
}

/// The line; one at a time works through it.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    waiting: VecDeque<Inbound>,
    /// Somebody is working through it.
    in_hand: bool,
}

impl Inbox {
    /// Whether no more are taken for now.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= INBOX
    }

    /// Puts an event in line. Says whether somebody has to begin to work through the line.
    pub(super) fn take(&mut self, inbound: Inbound) -> bool {
        self.waiting.push_back(inbound);
        !std::mem::replace(&mut self.in_hand, true)
    }

    /// The next event in line; nothing means that the line is done with for now.
    pub(super) fn next(&mut self) -> Option<Inbound> {
        let next = self.waiting.pop_front();
        if next.is_none() {
            self.in_hand = false;
            self.waiting.shrink_to_fit();
        }
        next
    }
}

/// Why an event is not taken.
pub(super) fn full() -> Error {
    Error::new(Code::RateLimited, "too_many_in_flight", "too many events wait for an answer on this socket")
        .retry_after(Duration::from_millis(500))
}
