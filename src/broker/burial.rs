//! Putting letters into DEAD: each once, and as many as come.
//!
//! A letter has a subject of its own, which names its original and takes one message. So what is rejected again, because an
//! instance was killed before it had acknowledged or its stream is delivered anew, finds its letter there.
//!
//! What other services publish is their business: a shop whose customers have no accounts here makes a letter of each of
//! their events. So when DEAD is full, the oldest letters of `orders` give way to whoever needs the room. Those of `persist`
//! and `notify` say that something is wrong here; they are few, and stay until somebody deals with them.

use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::{HeaderMap, Message};
use bytes::Bytes;

use super::dead::{self, Death};
use super::publish::{failure, no_room};
use super::subject::{self, Original, Subject};
use super::topology::{Durable, StreamName, beside};
use super::{Broker, away};
use crate::error::{Error, Result};

/// This part of DEAD is made free at once.
const ROOM: u64 = 8;
/// The largest letter is this part of DEAD.
const LETTER: i64 = 4;
/// What the broker adds to a message, at most.
const ENTRY: usize = 64;
/// Letters are of many sizes and are counted, not measured: what was not enough is done again, at most so often.
const ROUNDS: usize = 16;

impl Broker {
    /// Keeps a delivery as a dead letter, or finds that it is kept.
    pub(super) async fn bury(&self, message: &Message, death: &Death<'_>) -> Result<()> {
        let room = beside(i64::try_from(self.log().limit).unwrap_or(i64::MAX)) / LETTER;
        let limit = self.client.max_payload().min(usize::try_from(room).unwrap_or(usize::MAX));
        let put = self.put_letter(death.durable, death.original, dead::write(message, death, limit)).await;
        put.map_err(|error| {
            if no_room(&error) {
                return Error::unavailable("not_stored", "DEAD is full of letters that stay").caused_by(error);
            }
            failure(error)
        })
    }

    /// Stores a letter unless there is one of this original.
    async fn put_letter(
        &self,
        durable: Durable,
        original: Original,
        (headers, payload): (HeaderMap, Bytes),
    ) -> Result<(), PublishError> {
        let subject = Subject::Dead(durable, original).to_string();
        let put = async || {
            let letter = PublishMessage::build().payload(payload.clone()).headers(headers.clone());
            match self.jetstream.send_publish(subject.clone(), letter).await?.await {
                Err(error) if error.kind() != PublishErrorKind::WrongLastSequence => Err(error),
                _ => Ok(()),
            }
        };
        match put().await {
            Err(error) if no_room(&error) => {
                let bytes = subject.len() + dead::size(&headers) + payload.len() + ENTRY;
                match self.make_room(bytes as u64).await {
                    // Perhaps another instance has made some.
                    Ok(0) => {}
                    Ok(letters) => {
                        tracing::warn!(
                            dead.letters = letters,
                            "DEAD is full: the oldest letters of orders have given way"
                        );
                        self.metrics.gave_way(letters);
                    }
                    Err(error) => tracing::warn!(error = %error, "DEAD is full, and no room could be made"),
                }
                put().await
            }
            answer => answer,
        }
    }

    /// Removes the oldest letters of `orders` until DEAD has room for so many bytes, or none is left; says how many went.
    async fn make_room(&self, wanted: u64) -> Result<u64> {
        let dead = self.jetstream.get_stream_no_info(StreamName::Dead.name()).await;
        let dead = dead.map_err(|error| away().caused_by(error))?;
        let mut gone = 0;
        for _ in 0..ROUNDS {
            let info = dead.get_info().await.map_err(|error| away().caused_by(error))?;
            let limit = u64::try_from(info.config.max_bytes).unwrap_or(u64::MAX);
            let Some((filter, letters)) = self.oldest_of_orders().await? else { break };
            let Some(keep) = kept(letters, limit, info.state.bytes, wanted) else { break };
            // How many stay and not how many go: two instances that do this at once remove the same ones.
            let purged = dead.purge().filter(filter).keep(keep).await.map_err(|error| away().caused_by(error))?;
            gone += purged.purged;
        }
        Ok(gone)
    }

    /// The subjects under which the oldest letters of `orders` are, and how many are there.
    async fn oldest_of_orders(&self) -> Result<Option<(String, u64)>> {
        for filter in subject::letters_of(Durable::Orders) {
            let letters = self.scan(StreamName::Dead, vec![filter.clone()], 1, u64::MAX).await?;
            let left = letters.left();
            letters.close().await;
            if left > 0 {
                return Ok(Some((filter, left)));
            }
        }
        Ok(None)
    }
}

/// How many of so many letters stay if those that go, of the usual size, are to make room; nothing if there is enough.
fn kept(letters: u64, limit: u64, bytes: u64, wanted: u64) -> Option<u64> {
    if bytes.saturating_add(wanted) <= limit {
        return None;
    }
    let surplus = bytes.saturating_sub(limit - (limit / ROOM).max(wanted).min(limit));
    let gone = u128::from(letters) * u128::from(surplus) / u128::from(bytes.max(1));
    // They may be smaller than others: some go each time.
    let gone = u64::try_from(gone).unwrap_or(letters).max(letters.div_ceil(ROOM));
    Some(letters.saturating_sub(gone))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_letters_go_as_make_room() {
        assert_eq!(kept(100, 1_000, 990, 10), None, "it fits");
        assert_eq!(kept(100, 1_000, 1_000, 10), Some(87), "an eighth is made free");
        assert_eq!(kept(100, 1_000, 1_000, 500), Some(50), "or as much as is wanted");
        assert_eq!(kept(1, 1_000, 1_000, 10), Some(0), "one at least");
        assert_eq!(kept(100, u64::MAX, u64::MAX / 2, 10), None, "without a limit");
    }

    #[test]
    fn small_letters_among_large_ones_of_others_make_room_too() {
        let (mut letters, mut bytes, mut rounds) = (1_000_u64, 100_000_u64, 0);
        while let Some(keep) = kept(letters, 100_000, bytes, 6_000) {
            bytes -= (letters - keep) * 10;
            letters = keep;
            rounds += 1;
        }
        assert!(bytes + 6_000 <= 100_000 && rounds <= ROUNDS, "{bytes} after {rounds}");
    }
}
