//! What waits to be sent over one connection: live frames while it is told what it missed, and frames that its client
//! cannot take right now. Bounded by count and by bytes; who overflows it has lost its place.

use std::collections::VecDeque;

use crate::domain::frame::Frame;

/// Frames that wait, at most.
const FRAMES: usize = 1_024;
/// Bytes that wait, at most.
const BYTES: usize = 1 << 20;

/// More than may wait.
#[derive(Debug, PartialEq, Eq)]
pub struct Overflow;

/// The queue of one connection.
#[derive(Debug)]
pub struct Outbox {
    waiting: VecDeque<Frame>,
    bytes: usize,
    /// Nothing goes out yet: the client is being told what came before.
    holding: bool,
    /// Somebody is sending what waits.
    in_hand: bool,
    /// Everything up to here was told by a replay.
    told: u64,
}

impl Outbox {
    /// A queue that holds.
    pub const fn new() -> Self {
        Self { waiting: VecDeque::new(), bytes: 0, holding: true, in_hand: false, told: 0 }
    }

    /// Whether a replay has told this frame already: the live one may come a moment after it.
    pub fn knows(&self, frame: &Frame) -> bool {
        frame.seq.is_some_and(|seq| seq <= self.told)
    }

    /// Whether a frame may go straight out.
    pub fn is_clear(&self) -> bool {
        !self.holding && self.waiting.is_empty()
    }

    /// Whether it holds.
    pub const fn is_holding(&self) -> bool {
        self.holding
    }

    /// Nothing was held: everything goes out as it comes.
    pub const fn open(&mut self) {
        self.holding = false;
    }

    /// Begins to hold; says whether it did not yet.
    pub fn hold(&mut self) -> bool {
        !std::mem::replace(&mut self.holding, true)
    }

    /// Puts a frame in line. Says whether somebody has to begin to send.
    pub fn queue(&mut self, frame: &Frame) -> Result<bool, Overflow> {
        if self.waiting.len() >= FRAMES || self.bytes + frame.bytes() > BYTES {
            return Err(Overflow);
        }
        self.bytes += frame.bytes();
        self.waiting.push_back(frame.clone());
        Ok(!self.holding && !std::mem::replace(&mut self.in_hand, true))
    }

    /// Ends the holding with this frame; what was told up to a seq is not told again. Says whether somebody has to begin
    /// to send.
    pub fn release(&mut self, boundary: Frame, upto: u64) -> bool {
        self.told = upto;
        self.waiting.retain(|frame| frame.seq.is_none_or(|seq| seq > upto));
        self.waiting.push_front(boundary);
        self.bytes = self.waiting.iter().map(Frame::bytes).sum();
        self.holding = false;
        !std::mem::replace(&mut self.in_hand, true)
    }

    /// Sends what waits, as far as `send` takes it. Says how many went, and whether any are left; if none, nobody has it in
    /// hand any more.
    pub fn send(&mut self, mut send: impl FnMut(&Frame) -> bool) -> (usize, bool) {
        let mut sent = 0;
        while !self.holding
            && let Some(frame) = self.waiting.front()
            && send(frame)
        {
            self.bytes -= frame.bytes();
            self.waiting.pop_front();
            sent += 1;
        }
        let left = !self.holding && !self.waiting.is_empty();
        if !left {
            self.in_hand = false;
            self.waiting.shrink_to(8);
        }
        (sent, left)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.waiting = VecDeque::new();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::Timestamp;
    use crate::domain::ids::{ConversationId, UserId};
    use crate::domain::typing::Typing;

    fn frame(seq: u64) -> Frame {
        let typing = Typing {
            conversation_id: ConversationId::from_bits(1),
            sender_id: UserId::from_bits(1),
            typing: true,
            recipients: Vec::new(),
            at: Timestamp::from_millis(0),
        };
        Frame { seq: (seq > 0).then_some(seq), ..Frame::typing(&typing).expect("a frame") }
    }

    fn seqs(outbox: &mut Outbox, take: usize) -> Vec<u64> {
        let mut seen = Vec::new();
        outbox.send(|frame| {
            if seen.len() == take {
                return false;
            }
            seen.push(frame.seq.unwrap_or(0));
            true
        });
        seen
    }

    #[test]
    fn what_was_told_before_is_not_told_again_and_the_rest_comes_in_order() {
        let mut outbox = Outbox::new();
        for seq in [5, 6, 7, 8] {
            assert_eq!(outbox.queue(&frame(seq)), Ok(false), "nothing goes out yet");
        }
        assert!(!outbox.is_clear());
        assert!(outbox.release(frame(0), 6));
        assert_eq!(outbox.queue(&frame(9)), Ok(false), "somebody is at it");
        assert_eq!(seqs(&mut outbox, 2), [0, 7]);
        assert_eq!(seqs(&mut outbox, 9), [8, 9]);
        assert!(outbox.is_clear());
        assert_eq!(outbox.bytes, 0);
    }

    #[test]
    fn it_is_bounded_by_count_and_bytes() {
        let mut outbox = Outbox::new();
        for seq in 0..FRAMES as u64 {
            assert_eq!(outbox.queue(&frame(seq)), Ok(false));
        }
        assert_eq!(outbox.queue(&frame(1)), Err(Overflow));

        let mut outbox = Outbox::new();
        let text = format!("\"{}\"", "x".repeat(BYTES / 3));
        let data = serde_json::value::RawValue::from_string(text).expect("JSON").into();
        let large = Frame { event: "message", seq: None, data, carries: None };
        assert_eq!(outbox.queue(&large), Ok(false));
        assert_eq!(outbox.queue(&large), Ok(false));
        assert_eq!(outbox.queue(&large), Err(Overflow));
    }

    #[test]
    fn a_hold_stops_what_is_being_sent() {
        let mut outbox = Outbox::new();
        outbox.release(frame(0), 0);
        assert_eq!(seqs(&mut outbox, 9), [0]);
        assert!(outbox.hold());
        assert!(!outbox.hold(), "once");
        assert_eq!(outbox.queue(&frame(3)), Ok(false));
        assert!(seqs(&mut outbox, 9).is_empty());
    }
}
