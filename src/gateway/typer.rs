//! Where one connection types: only what is news goes to the broker, which is a sign for each two seconds of typing, and an
//! end for each beginning.

use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::Instant;

use super::typing::{EXPIRY, INTERVAL};
use crate::domain::ids::ConversationId;

/// Conversations in which one connection types at once, at most.
const AT_ONCE: usize = 8;
/// Beginnings that one connection may have at once, and the time after which it may have one more: a hand has typed no
/// faster.
const BEGINNINGS: u32 = 10;
const REFILL: Duration = Duration::from_millis(500);

/// Where one connection types.
#[derive(Debug, Default)]
pub struct Typer {
    /// When the last sign of each went out.
    typing: SmallVec<[(ConversationId, Instant); 1]>,
    /// When all the beginnings so far will have been paid for.
    paid: Option<Instant>,
    /// The connection is gone.
    over: bool,
}

impl Typer {
    /// A sign of typing. Says whether it is to be passed on.
    pub fn sign(&mut self, conversation: ConversationId, now: Instant) -> bool {
        // What was still in line when the connection ended is not typed any more.
        if self.over {
            return false;
        }
        self.typing.retain(|(_, last)| now - *last < EXPIRY);
        if let Some((_, last)) = self.typing.iter_mut().find(|(known, _)| *known == conversation) {
            let due = now - *last >= INTERVAL;
            if due {
                *last = now;
            }
            return due;
        }
        let paid = self.paid.map_or(now, |paid| paid.max(now)) + REFILL;
        if self.typing.len() >= AT_ONCE || paid > now + REFILL * BEGINNINGS {
            return false;
        }
        self.paid = Some(paid);
        self.typing.push((conversation, now));
        true
    }

    /// It has stopped. Says whether it had begun.
    pub fn stop(&mut self, conversation: ConversationId) -> bool {
        let begun = self.typing.len();
        self.typing.retain(|(known, _)| *known != conversation);
        self.typing.len() < begun
    }

    /// Whether the connection is gone.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.over
    }

    /// Where it types, as it ends.
    pub fn end(&mut self) -> SmallVec<[ConversationId; 1]> {
        self.over = true;
        self.typing.drain(..).map(|(conversation, _)| conversation).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: ConversationId = ConversationId::from_bits(1);

    #[test]
    fn a_connection_passes_on_what_is_news() {
        let begin = Instant::now();
        let at = |millis| begin + Duration::from_millis(millis);
        let mut typer = Typer::default();
        assert!(!typer.stop(HERE), "it had not begun");
        assert!(typer.sign(HERE, at(0)));
        assert!(!typer.sign(HERE, at(1_999)));
        assert!(typer.sign(HERE, at(2_000)));
        assert!(typer.stop(HERE) && !typer.stop(HERE));
        assert!(typer.sign(HERE, at(2_100)), "a new beginning is news");
        assert!(typer.sign(HERE, at(9_000)), "and so is one after the others think that it is over");
        assert_eq!(typer.end().as_slice(), [HERE]);
        assert!(typer.end().is_empty());
        assert!(!typer.sign(HERE, at(20_000)), "nobody is there any more who could type");
    }

    #[test]
    fn a_connection_types_in_few_places_and_begins_few_times() {
        let begin = Instant::now();
        let mut typer = Typer::default();
        let began = (0..100).filter(|bits| typer.sign(ConversationId::from_bits(*bits), begin)).count();
        assert_eq!(began, AT_ONCE);
        let mut typer = Typer::default();
        let began = (0..100).filter(|_| typer.sign(HERE, begin) && typer.stop(HERE)).count();
        assert_eq!(began, 10);
        assert!(typer.sign(HERE, begin + REFILL));
    }
}
