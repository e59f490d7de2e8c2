//! What the client library cannot deliver: found in its stream, set aside in DEAD, taken out of its stream.
//!
//! The broker takes events whose headers or subject no client can read. The library loses its connection over such a
//! delivery, or takes it for word of the broker's own, and no handler ever sees it: it would come again for ever, and the
//! consumer never get past it. So whenever the consumer was interrupted or makes no way, what may lie there is looked at
//! through the broker's JSON, which carries everything as base64, and judged as the library would. What fails is first
//! stored as a letter, then deleted; a crash between the two repeats both, and a letter is stored once.
//!
//! No place of a stream changes, so each is judged once by an instance.

use std::time::Duration;

use async_nats::jetstream::consumer::{Consumer, pull};
use async_nats::jetstream::response::Response;
use async_nats::jetstream::{self, ErrorCode, stream::RawMessage};
use async_nats::{HeaderMap, HeaderName, HeaderValue, Message};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt as _;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::dead::Death;
use super::subject::Original;
use super::topology::{Durable, StreamName};
use super::{Broker, away};
use crate::error::{Error, Result};
use crate::metrics::Settlement;

/// How often the consumer is asked whether it makes way.
const EVERY: Duration = Duration::from_secs(5);
/// How far beyond what was delivered is looked: each further fault would be a further interruption.
const AHEAD: u64 = 6_000;
/// Places asked for at once; each may have a megabyte.
const AT_ONCE: usize = 16;

/// Looks after a consumer of what strangers publish.
pub(super) struct Quarantine {
    broker: Broker,
    durable: Durable,
    /// When the stream was created, in nanoseconds.
    stream: i128,
    /// Everything up to here was judged.
    judged: u64,
    /// Everything up to here was acknowledged when somebody last looked.
    floor: u64,
    next: Instant,
}

#[derive(Deserialize)]
struct Found {
    message: RawMessage,
}

impl Quarantine {
    /// None for a consumer of what only we publish.
    pub(super) fn of(broker: &Broker, durable: Durable) -> Option<Self> {
        (durable.stream() == StreamName::Orders).then(|| Self {
            broker: broker.clone(),
            durable,
            stream: 0,
            judged: 0,
            floor: 0,
            next: Instant::now() + EVERY,
        })
    }

    /// Resolves when it is time to look; never if there is nobody to look after.
    pub(super) async fn due(ward: Option<&Self>) {
        match ward {
            Some(ward) => tokio::time::sleep_until(ward.next).await,
            None => std::future::pending().await,
        }
    }

    /// Looks whether the consumer makes way; if it does not, why.
    pub(super) async fn look(&mut self, draining: &CancellationToken) {
        self.next = Instant::now() + EVERY;
        match self.consumer().await {
            Ok(info) => {
                let (before, now) = (self.floor, info.ack_floor.stream_sequence);
                self.floor = now;
                if info.num_ack_pending > 0 && before == now {
                    self.inspect(draining).await;
                }
            }
            Err(error) => tracing::debug!(error = %error, "nobody knows whether a consumer makes way"),
        }
    }

    /// Looks at everything that the consumer may stumble over.
    pub(super) async fn inspect(&mut self, draining: &CancellationToken) {
        if !self.broker.is_reachable() {
            return;
        }
        if let Err(error) = self.try_inspect(draining).await {
            tracing::warn!(consumer.name = self.durable.name(), error = %error, "what cannot be delivered was not all set aside");
        }
    }

    async fn consumer(&self) -> Result<jetstream::consumer::Info> {
        let consumer: Consumer<pull::Config> = self
            .broker
            .jetstream
            .get_consumer_from_stream(self.durable.name(), self.durable.stream().name())
            .await
            .map_err(|error| away().caused_by(error.to_string()))?;
        Ok(consumer.cached_info().clone())
    }

    async fn try_inspect(&mut self, draining: &CancellationToken) -> Result<()> {
        let name = self.durable.stream().name();
        let stream = self.broker.jetstream.get_stream(name).await.map_err(|error| away().caused_by(error))?;
        let (state, created) = (&stream.cached_info().state, stream.cached_info().created.unix_timestamp_nanos());
        if created != self.stream {
            (self.stream, self.judged) = (created, 0);
        }
        let info = self.consumer().await?;
        let from = self.judged.max(info.ack_floor.stream_sequence).max(state.first_sequence.saturating_sub(1)) + 1;
        let to = info.delivered.stream_sequence.max(from + AHEAD).min(state.last_sequence);
        let broker = self.broker.clone();
        let mut places = futures_util::stream::iter(from..=to)
            .map(|seq| {
                let broker = &broker;
                async move { (seq, broker.kept(name, seq).await) }
            })
            .buffered(AT_ONCE);
        while let Some((seq, found)) = places.next().await {
            if let Some(found) = found? {
                let (read, fault) = judge(&found.subject, found.headers.as_deref());
                if let Some(why) = fault {
                    self.set_aside(&stream, found, read, &why).await?;
                }
            }
            self.judged = seq;
            if draining.is_cancelled() {
                break;
            }
        }
        Ok(())
    }

    /// First the letter, then the end of the original: the consumer passes over what is not there.
    async fn set_aside(
        &self,
        stream: &jetstream::stream::Stream,
        found: Kept,
        headers: HeaderMap,
        why: &Error,
    ) -> Result<()> {
        let (original, seq) = (found.original, found.original.seq);
        tracing::error!(consumer.name = self.durable.name(), event.seq = seq, error = %why, "what cannot be delivered is dead");
        let message = Message {
            subject: found.subject.into(),
            reply: None,
            length: found.payload.len(),
            payload: found.payload.into(),
            headers: Some(headers),
            status: None,
            description: None,
        };
        let death = Death { durable: self.durable, original, attempts: 0, why, raw: found.headers.as_deref() };
        self.broker.bury(&message, &death).await?;
        if let Err(error) = stream.delete_message(seq).await {
            // Another instance may have been faster.
            if self.broker.kept(self.durable.stream().name(), seq).await?.is_some() {
                return Err(away().caused_by(error));
            }
        }
        self.broker.metrics.settled(self.durable.name(), Settlement::Dead);
        Ok(())
    }
}

/// A message as its stream has it.
struct Kept {
    original: Original,
    subject: String,
    headers: Option<Vec<u8>>,
    payload: Vec<u8>,
}

impl Broker {
    /// What lies at a place of a stream, if there is something. Never asked for directly: such an answer has the headers as
    /// they were published.
    async fn kept(&self, stream: &str, seq: u64) -> Result<Option<Kept>> {
        let asked = self.jetstream.request(format!("STREAM.MSG.GET.{stream}"), &json!({ "seq": seq })).await;
        let message = match asked.map_err(|error| away().caused_by(error))? {
            Response::Ok(Found { message }) => message,
            Response::Err { error } if error.error_code() == ErrorCode::NO_MESSAGE_FOUND => return Ok(None),
            Response::Err { error } => return Err(away().caused_by(error)),
        };
        let bytes = |text: &str| STANDARD.decode(text).map_err(Error::internal);
        let nanos = u64::try_from(message.time.unix_timestamp_nanos()).unwrap_or_default();
        Ok(Some(Kept {
            original: Original { seq, nanos },
            headers: message.headers.as_deref().map(bytes).transpose()?,
            payload: bytes(&message.payload)?,
            subject: message.subject,
        }))
    }
}

/// The headers, as far as they can be read, and why the client library does not deliver a message with such a subject and such
/// headers, if it does not. This follows async-nats 0.51, `connection.rs` and `jetstream/consumer/pull.rs`.
fn judge(subject: &str, headers: Option<&[u8]>) -> (HeaderMap, Option<Error>) {
    let (read, fault) = headers.map_or_else(|| (HeaderMap::new(), None), read);
    // JSON has that letter for bytes that are no text.
    let untold = subject.contains(char::REPLACEMENT_CHARACTER);
    if untold || headers.is_some() && subject.contains(char::is_whitespace) {
        return (read, Some(Error::invalid("wrong_subject", "the subject has letters that cannot be delivered")));
    }
    (read, fault.map(|what| Error::invalid("malformed_headers", format!("the headers cannot be delivered: {what}"))))
}

/// Reads headers as the client library does, and goes on where that gives up. Also says the first thing that is wrong.
fn read(block: &[u8]) -> (HeaderMap, Option<&'static str>) {
    let mut fault = std::str::from_utf8(block).is_err().then_some("they are not UTF-8");
    // A carriage return is a part of the end of a line only before a line feed.
    let whole = |line: &'_ [u8]| {
        line.strip_suffix(b"\n").map_or(line.len(), |line| line.len() - usize::from(line.ends_with(b"\r")))
    };
    let mut lines = block.split_inclusive(|byte| *byte == b'\n').map(|line| &line[..whole(line)]).peekable();
    let status = lines.next().and_then(|first| std::str::from_utf8(first.strip_prefix(b"NATS/1.0")?).ok());
    let status = status.map(|rest| rest.trim().split_once(' ').map_or(rest.trim(), |(status, _)| status.trim()));
    match status {
        // What any delivery may say of itself.
        Some("" | "200") => {}
        Some(_) => fault = fault.or(Some("they begin with a status, which is the broker's to say")),
        None => fault = fault.or(Some("they do not begin with NATS/1.0")),
    }
    let mut headers = HeaderMap::new();
    while let Some(line) = lines.next() {
        if line.is_empty() {
            continue;
        }
        let mut more = Vec::new();
        while let Some(next) = lines.next_if(|next| String::from_utf8_lossy(next).starts_with(char::is_whitespace)) {
            more.extend_from_slice(next);
        }
        match header(line, &more) {
            Ok((name, value)) => headers.append(name, value),
            Err(what) => fault = fault.or(Some(what)),
        }
    }
    (headers, fault)
}

/// A header of one line, or with more of its value on further ones.
fn header(line: &[u8], more: &[u8]) -> Result<(HeaderName, HeaderValue), &'static str> {
    let text = |bytes| std::str::from_utf8(bytes).map_err(|_| "they are not UTF-8");
    let (name, value) = text(line)?.split_once(':').ok_or("a line has no colon")?;
    let name = name.parse().map_err(|_| "a name has other than visible ASCII characters")?;
    let value = format!("{}{}", value.trim_start(), text(more)?);
    // The library panics over this one.
    let value = value.trim_end().parse().map_err(|_| "a value has a carriage return")?;
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(subject: &str, headers: Option<&[u8]>) -> Option<&'static str> {
        judge(subject, headers).1.map(|why| why.reason())
    }

    #[test]
    fn what_can_be_delivered_is_left_alone() {
        let good: [&[u8]; 6] = [
            b"NATS/1.0\r\n\r\n",
            b"NATS/1.0\r\nce-id: 1\r\nce-id: 2\r\n\r\n",
            b"NATS/1.0\nce-id:1\n",
            b"NATS/1.0 200 OK\r\n:without a name\r\n\r\n",
            "NATS/1.0\r\nnote: žluťoučký\r\n kůň\r\n\r\n".as_bytes(),
            b"NATS/1.0\r\nid: 1\r\r\n\r\n",
        ];
        for headers in good {
            assert_eq!(fault("orders.A-17.created", Some(headers)), None, "{}", headers.escape_ascii());
        }
        // A handler hears of these, and says what is wrong with them.
        assert_eq!(fault("orders.A\u{a0}17.created", None), None);
        assert_eq!(fault("orders.ž.created", Some(b"NATS/1.0\r\n\r\n")), None);
    }

    #[test]
    fn what_breaks_a_connection_is_found() {
        let bad: [&[u8]; 13] = [
            b"",
            b"HTTP/1.1\r\n\r\n",
            b"NATS/1.0\r\nbad name: x\r\n\r\n",
            "NATS/1.0\r\nnáme: x\r\n\r\n".as_bytes(),
            b"NATS/1.0\r\nno colon\r\n\r\n",
            b"NATS/1.0\r\nid: \xff\r\n\r\n",
            b"NATS/1.0\r\nid: a\rb\r\n\r\n",
            b"NATS/1.0\r\nid:\r\n\rb\r\n\r\n",
            b"NATS/1.0\r\n\r",
            b"NATS/1.0 409 Consumer Deleted\r\n\r\n",
            b"NATS/1.0 100\r\n\r\n",
            b"NATS/1.0nonsense\r\n\r\n",
            b"NATS/1.0\r\n only more of nothing\r\n\r\n",
        ];
        for headers in bad {
            let found = fault("orders.A-17.created", Some(headers));
            assert_eq!(found, Some("malformed_headers"), "{}", headers.escape_ascii());
        }
        for space in ["\u{a0}", "\u{2003}", "\u{b}", "\u{c}", "\u{85}"] {
            let subject = format!("orders.A{space}17.created");
            assert_eq!(fault(&subject, Some(b"NATS/1.0\r\n\r\n")), Some("wrong_subject"), "{subject:?}");
        }
        // What JSON makes of a byte that is no text.
        assert_eq!(fault("orders.A\u{fffd}17.created", None), Some("wrong_subject"));
    }

    #[test]
    fn what_can_be_read_is_kept_for_a_replay() {
        let (headers, fault) =
            read(b"NATS/1.0 503\r\nbad name: x\r\nce-id: 1\r\nid: \xff\r\nce-source: /shop\r\n /orders\r\n\r\n");
        assert!(fault.is_some());
        let value = |name: &str| headers.get(name).map(ToString::to_string);
        assert_eq!((value("ce-id").as_deref(), value("ce-source").as_deref()), (Some("1"), Some("/shop /orders")));
        assert_eq!(headers.len(), 2);
    }
}
