//! Reading the log by subject, without a consumer (NATS ADR-31: batched direct get).
//!
//! A consumer for each reader is a known way to take a broker down; this leaves nothing behind. It reads what the log
//! has now, from a place on; what comes later is the tail's business.

use std::time::Duration;

use async_nats::StatusCode;
use async_nats::header::NATS_SEQUENCE;
use futures_util::StreamExt as _;

use super::subject::{Filter, Subject};
use super::{Broker, away, decode};
use crate::domain::event::Stored;
use crate::error::{Error, Result};

/// Events of one request, at most.
const BATCH: usize = 1_000;
/// Bytes of one request, about.
const BYTES: usize = 4 << 20;
/// Bytes of one reading, about: whoever has more to read goes on where it ended.
const WHOLE: usize = 16 << 20;
/// How long the broker may be silent between two events.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a reading found.
#[derive(Debug, Default)]
pub struct Found {
    /// The events, in order.
    pub events: Vec<Stored>,
    /// There are more than were asked for.
    pub more: bool,
    /// Everything up to here was read, also what could not be understood.
    pub upto: u64,
}

/// The answer to whoever would be shown a part of what has happened for the whole.
#[must_use]
pub fn catching_up() -> Error {
    Error::unavailable("catching_up", "what is stored is still catching up with what has happened, try again")
        .retry_after(PATIENCE)
}

impl Broker {
    /// The events that fit a filter and may not be in MongoDB yet. More than `limit` are refused: whoever was shown a part of
    /// them would take it for the whole.
    pub async fn unprojected(&self, filter: Filter, limit: usize) -> Result<Vec<Stored>> {
        self.behind(filter, limit).await.map(|(_, events)| events)
    }

    /// The same, and the place behind which they are: MongoDB has everything up to there.
    pub async fn behind(&self, filter: Filter, limit: usize) -> Result<(u64, Vec<Stored>)> {
        let floor = self.projected().await?;
        let found = self.read(filter, floor + 1, limit).await?;
        if found.more {
            return Err(catching_up());
        }
        Ok((floor, found.events))
    }

    /// The events that fit a filter, from this seq on, at most about `limit`. Events that cannot be read are left out: they are
    /// in the dead letters.
    pub async fn read(&self, filter: Filter, from: u64, limit: usize) -> Result<Found> {
        let mut found = Found::default();
        let (mut from, mut read, mut bytes) = (from.max(1), 0, 0);
        found.upto = from - 1;
        loop {
            let wanted = limit.saturating_sub(read).clamp(1, BATCH);
            let request = serde_json::json!({
                "seq": from, "next_by_subj": filter.to_string(), "batch": wanted, "max_bytes": BYTES,
            });
            let (last, count, pending) = self.read_once(&request, from, &mut bytes, &mut found.events).await?;
            read += count;
            found.upto = last;
            if pending == 0 || count == 0 {
                return Ok(found);
            }
            if read >= limit || bytes >= WHOLE {
                found.more = true;
                return Ok(found);
            }
            from = last + 1;
        }
    }

    /// The last event on a subject up to this place, if the log still has it.
    pub async fn last_until(&self, subject: Subject, upto: u64) -> Result<Option<Stored>> {
        // No place at all would mean the end of the log.
        if upto == 0 {
            return Ok(None);
        }
        let request = serde_json::json!({ "multi_last": [subject.to_string()], "up_to_seq": upto });
        let mut events = Vec::new();
        self.read_once(&request, upto, &mut 0, &mut events).await?;
        Ok(events.pop())
    }

    /// One request: the last seq it read, how many events, and how many it left.
    async fn read_once(
        &self,
        request: &serde_json::Value,
        from: u64,
        bytes: &mut usize,
        events: &mut Vec<Stored>,
    ) -> Result<(u64, usize, u64)> {
        let lost = |error: &dyn std::fmt::Display| away().caused_by(error.to_string());
        if !self.is_reachable() {
            return Err(away());
        }
        let inbox = self.client.new_inbox();
        let mut replies = self.client.subscribe(inbox.clone()).await.map_err(|error| lost(&error))?;
        let request = serde_json::to_vec(request).map_err(Error::internal)?;
        let subject = format!("$JS.API.DIRECT.GET.{}", Self::LOG);
        self.client.publish_with_reply(subject, inbox, request.into()).await.map_err(|error| lost(&error))?;
        let (mut last, mut count) = (from, 0);
        loop {
            let reply =
                tokio::time::timeout(PATIENCE, replies.next()).await.map_err(|late| lost(&late))?.ok_or_else(away)?;
            let header = |name: &str| reply.headers.as_ref()?.get(name)?.as_str().parse::<u64>().ok();
            match reply.status {
                None => {}
                // The end of the batch, with what is left behind it.
                Some(status) if status.as_u16() == 204 => {
                    return Ok((last, count, header("Nats-Num-Pending").unwrap_or(0)));
                }
                Some(StatusCode::NOT_FOUND) => return Ok((last, count, 0)),
                Some(status) => return Err(lost(&format!("a direct read was refused with {status}"))),
            }
            let seq = reply
                .headers
                .as_ref()
                .and_then(|headers| headers.get(NATS_SEQUENCE))
                .and_then(|seq| seq.as_str().parse().ok());
            let seq: u64 = seq.ok_or_else(|| Error::internal("a direct read has no place in the log"))?;
            last = seq;
            count += 1;
            *bytes += reply.payload.len();
            match decode(&reply.payload) {
                Ok(event) => events.push(Stored { seq, event }),
                Err(error) => {
                    tracing::debug!(event.seq = seq, error = %error, "an event that cannot be read is passed over");
                }
            }
        }
    }
}
