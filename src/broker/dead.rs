//! Dead letters: what a rejected delivery is kept as, and how it is found, looked at and removed.
//!
//! A letter is the original payload with the original's own headers and ours, which say what happened. The broker's own
//! headers (`Nats-...`) are instructions for the publish that they came with and are not repeated: a copied
//! `Nats-Expected-Last-Subject-Sequence` would have the broker refuse the second letter for ever.

use async_nats::header::{NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_MESSAGE_ID};
use async_nats::jetstream::stream::{DirectGetErrorKind, RawMessageErrorKind};
use async_nats::{HeaderMap, Message};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::consume::Raw;
use super::scan::{Entry, Reading};
use super::subject::{self, Original};
use super::topology::{Durable, StreamName};
use super::{Broker, away};
use crate::domain::clock::Timestamp;
use crate::error::{Code, Error, Result};

const SUBJECT: &str = "Shoptalk-Subject";
const SEQ: &str = "Shoptalk-Seq";
const ATTEMPTS: &str = "Shoptalk-Attempts";
const REASON: &str = "Shoptalk-Reason";
const ERROR: &str = "Shoptalk-Error";
const CONSUMER: &str = "Shoptalk-Consumer";
/// The `Nats-Msg-Id` that the original came with.
const MESSAGE_ID: &str = "Shoptalk-Msg-Id";
/// The size of an original that did not fit beside these headers; it is in the log.
const OMITTED: &str = "Shoptalk-Omitted";
/// The headers as they were published, in base64, where nobody can read them; the first of them if they are many.
pub const RAW_HEADERS: &str = "Shoptalk-Raw-Headers";
/// Most bytes of those.
const RAW_LIMIT: usize = 16 << 10;
/// Most bytes of an original's own headers: the broker keeps 64 KiB of headers with a message.
const HEADERS_LIMIT: usize = 32 << 10;
/// Most characters of an error.
const ERROR_LIMIT: usize = 1_000;

/// Why a delivery is dead.
#[derive(Debug, Clone, Copy)]
pub(super) struct Death<'a> {
    pub(super) durable: Durable,
    pub(super) original: Original,
    pub(super) attempts: i64,
    pub(super) why: &'a Error,
    /// Its headers as they were published, if they cannot be read.
    pub(super) raw: Option<&'a [u8]>,
}

/// The letter for a delivery, no larger than the broker takes.
pub(super) fn write(original: &Message, death: &Death<'_>, limit: usize) -> (HeaderMap, Bytes) {
    let mut headers = HeaderMap::new();
    for (name, values) in original.headers.iter().flat_map(HeaderMap::iter) {
        let text = name.to_string();
        if starts_with(&text, "nats-") || starts_with(&text, "shoptalk-") {
            continue;
        }
        for value in values {
            headers.append(name.clone(), one_line(value.as_str()));
        }
    }
    let sent = original.headers.as_ref().and_then(|headers| headers.get(NATS_MESSAGE_ID)).map(ToString::to_string);
    describe(&mut headers, original, death, sent.as_deref());
    let mut payload = original.payload.clone();
    if size(&headers) > HEADERS_LIMIT + RAW_LIMIT || size(&headers) + payload.len() > limit {
        headers = HeaderMap::new();
        describe(&mut headers, original, death, None);
    }
    if size(&headers) + payload.len() > limit {
        headers.insert(OMITTED, payload.len().to_string());
        payload = Bytes::new();
    }
    (headers, payload)
}

fn describe(headers: &mut HeaderMap, original: &Message, death: &Death<'_>, sent: Option<&str>) {
    let Death { durable, original: Original { seq, .. }, attempts, why, raw } = *death;
    // Its subject is its own, and takes one letter. An id would have the broker say that it has what was dropped meanwhile.
    headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, "0");
    headers.insert(CONSUMER, durable.name());
    headers.insert(SUBJECT, one_line(original.subject.as_str()));
    headers.insert(SEQ, seq.to_string());
    headers.insert(ATTEMPTS, attempts.to_string());
    headers.insert(REASON, why.reason());
    headers.insert(ERROR, one_line(&why.to_string()).chars().take(ERROR_LIMIT).collect::<String>());
    if let Some(sent) = sent {
        headers.insert(MESSAGE_ID, one_line(sent));
    }
    if let Some(raw) = raw {
        headers.insert(RAW_HEADERS, STANDARD.encode(&raw[..raw.len().min(RAW_LIMIT)]));
    }
}

fn starts_with(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// A text that a header can carry.
fn one_line(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

/// The bytes of headers on the wire, about.
pub(super) fn size(headers: &HeaderMap) -> usize {
    let line = |name: usize, value: usize| name + value + 4;
    let lines = headers.iter().flat_map(|(name, values)| {
        let name = name.to_string().len();
        values.iter().map(move |value| line(name, value.as_str().len()))
    });
    16 + lines.sum::<usize>()
}

/// A dead letter.
#[derive(Debug, Clone)]
pub struct Letter {
    /// Its place among the dead letters.
    pub seq: u64,
    /// Whose delivery it was; nothing if that cannot be read.
    pub consumer: Option<Durable>,
    /// The subject of the original.
    pub subject: String,
    /// The place of the original in the log.
    pub event_seq: Option<u64>,
    /// How often it had been delivered.
    pub attempts: Option<u64>,
    /// The stable name of what was wrong.
    pub reason: String,
    /// What was wrong, in full.
    pub error: String,
    /// When it died.
    pub at: Timestamp,
    /// The size of the original in bytes.
    pub size: usize,
    /// Every header of the letter, sorted.
    pub headers: Vec<(String, String)>,
    payload: Bytes,
}

impl Letter {
    fn read(entry: &Entry) -> Self {
        let header = |name: &str| entry.headers.get(name).map(ToString::to_string);
        let text = |name: &str| header(name).unwrap_or_default();
        let mut headers: Vec<(String, String)> = Vec::new();
        for (name, values) in entry.headers.iter() {
            headers.extend(values.iter().map(|value| (name.to_string(), value.to_string())));
        }
        headers.sort();
        // Older letters name the consumer in their id only.
        let consumer = header(CONSUMER)
            .or_else(|| Some(header(NATS_MESSAGE_ID.as_ref())?.split_once(':')?.0.to_owned()))
            .and_then(|name| Durable::ALL.into_iter().find(|known| known.name() == name));
        let omitted = header(OMITTED).and_then(|size| size.parse().ok());
        Self {
            seq: entry.seq,
            consumer,
            subject: text(SUBJECT),
            event_seq: header(SEQ).and_then(|seq| seq.parse().ok()),
            attempts: header(ATTEMPTS).and_then(|count| count.parse().ok()),
            reason: text(REASON),
            error: text(ERROR),
            at: entry.at,
            size: omitted.unwrap_or(entry.payload.len()),
            headers,
            payload: entry.payload.clone(),
        }
    }

    /// The headers as they were published, if nobody could read them.
    #[must_use]
    pub fn published_headers(&self) -> Option<Vec<u8>> {
        let (_, raw) = self.headers.iter().find(|(name, _)| name == RAW_HEADERS)?;
        STANDARD.decode(raw).ok()
    }

    fn omitted(&self) -> bool {
        self.headers.iter().any(|(name, _)| name == OMITTED)
    }
}

/// Letters, read in order.
pub struct Letters(Reading);

impl Letters {
    /// The next ones, at most so many; none at the end.
    pub async fn batch(&mut self, most: usize) -> Result<Vec<Letter>> {
        Ok(self.0.batch(most).await?.iter().map(Letter::read).collect())
    }

    /// Ends the reading.
    pub async fn close(self) {
        self.0.close().await;
    }
}

impl Broker {
    /// All dead letters, or those of one consumer, from the oldest on.
    pub async fn letters(&self, consumer: Option<Durable>) -> Result<Letters> {
        let filters = consumer.map_or_else(Vec::new, |durable| subject::letters_of(durable).to_vec());
        let last = self.extent(StreamName::Dead).await?.last;
        self.scan(StreamName::Dead, filters, 1, last).await.map(Letters)
    }

    /// The dead letter at this place.
    pub async fn letter(&self, seq: u64) -> Result<Letter> {
        let dead = self.jetstream.get_stream_no_info(StreamName::Dead.name()).await;
        match dead.map_err(|error| away().caused_by(error))?.get_raw_message(seq).await {
            Ok(message) => Ok(Letter::read(&Entry {
                seq: message.sequence,
                headers: message.headers,
                payload: message.payload,
                at: Timestamp::from_millis(
                    i64::try_from(message.time.unix_timestamp_nanos() / 1_000_000).unwrap_or_default(),
                ),
            })),
            Err(error) if matches!(error.kind(), RawMessageErrorKind::NoMessageFound) => Err(no_such_letter(seq)),
            Err(error) => Err(away().caused_by(error)),
        }
    }

    /// What the consumer was given: the letter's payload, or its stream's where that did not fit into a letter.
    pub async fn original(&self, letter: &Letter) -> Result<Bytes> {
        if !letter.omitted() {
            return Ok(letter.payload.clone());
        }
        let stream = letter.consumer.map_or(StreamName::Events, Durable::stream);
        let stream = self.jetstream.get_stream_no_info(stream.name()).await.map_err(|error| away().caused_by(error))?;
        match stream.direct_get(letter.event_seq.unwrap_or_default()).await {
            Ok(message) => Ok(message.payload),
            Err(error) if error.kind() == DirectGetErrorKind::NotFound => {
                let gone = "the original was too large for a letter and is no longer in its stream";
                Err(Error::new(Code::NotFound, "original_gone", gone))
            }
            Err(error) => Err(away().caused_by(error)),
        }
    }

    /// The delivery that a letter was, at its place in its stream, and whose it was.
    pub async fn delivery(&self, letter: &Letter) -> Result<(Durable, Raw)> {
        let (Some(durable), Some(seq)) = (letter.consumer, letter.event_seq) else {
            return Err(Error::invalid("unreadable_letter", "the letter does not say whose delivery it was"));
        };
        let mut headers = HeaderMap::new();
        for (name, value) in letter.headers.iter().filter(|(name, _)| !starts_with(name, "nats-")) {
            headers.append(name.as_str(), value.as_str());
        }
        Ok((durable, Raw { seq, subject: letter.subject.clone(), headers, payload: self.original(letter).await? }))
    }

    /// Removes a dead letter for good.
    pub async fn remove_letter(&self, seq: u64) -> Result<()> {
        // Whether it is there is asked first: the broker's answer to removing nothing is a failure like any other.
        self.letter(seq).await?;
        let dead = self.jetstream.get_stream_no_info(StreamName::Dead.name()).await;
        let removed = dead.map_err(|error| away().caused_by(error))?.delete_message(seq).await;
        removed.map(drop).map_err(|error| away().caused_by(error))
    }
}

fn no_such_letter(seq: u64) -> Error {
    Error::new(Code::NotFound, "no_such_letter", format!("there is no dead letter {seq}"))
}

#[cfg(test)]
mod tests {
    use super::super::consume::TRACEPARENT;
    use super::*;

    fn message(payload: Vec<u8>, headers: &[(&str, &str)]) -> Message {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, *value);
        }
        Message {
            subject: "chat.cnv.message".into(),
            reply: None,
            length: payload.len(),
            payload: payload.into(),
            headers: Some(map),
            status: None,
            description: None,
        }
    }

    fn written(original: &Message, why: &Error, limit: usize) -> (HeaderMap, Bytes) {
        let of = Original { seq: 7, nanos: 1 };
        write(original, &Death { durable: Durable::Persist, original: of, attempts: 3, why, raw: None }, limit)
    }

    fn read(headers: HeaderMap, payload: Bytes) -> Letter {
        Letter::read(&Entry { seq: 1, headers, payload, at: Timestamp::from_millis(0) })
    }

    #[test]
    fn a_letter_says_whose_it_was_and_carries_the_original() {
        let original = message(b"\xff{}".to_vec(), &[(TRACEPARENT, "00-a-b-01"), ("Nats-Msg-Id", "msg_1")]);
        let (headers, payload) = written(&original, &Error::internal("line one\r\nline two"), 1 << 20);
        let letter = read(headers, payload.clone());
        assert_eq!(&payload[..], b"\xff{}");
        assert_eq!((letter.consumer, letter.event_seq, letter.attempts), (Some(Durable::Persist), Some(7), Some(3)));
        assert_eq!((letter.subject.as_str(), letter.reason.as_str()), ("chat.cnv.message", "internal"));
        assert!(letter.error.contains("line one  line two"), "{}", letter.error);
        assert!(letter.headers.contains(&(TRACEPARENT.to_owned(), "00-a-b-01".to_owned())));
        assert!(letter.headers.contains(&(MESSAGE_ID.to_owned(), "msg_1".to_owned())));
    }

    #[test]
    fn instructions_to_the_broker_are_not_repeated() {
        let instructions = [
            ("Nats-Expected-Last-Subject-Sequence", "5"),
            ("nats-batch-id", "b"),
            ("Nats-Rollup", "all"),
            ("Shoptalk-Seq", "99"),
        ];
        let (headers, _) = written(&message(Vec::new(), &instructions), &Error::internal("x"), 1 << 20);
        let ours = headers.iter().map(|(name, _)| name.to_string()).filter(|name| starts_with(name, "nats-"));
        assert_eq!(ours.collect::<Vec<_>>(), ["Nats-Expected-Last-Subject-Sequence"]);
        let value = |name: &str| headers.get(name).map(ToString::to_string);
        assert_eq!(value("Nats-Expected-Last-Subject-Sequence").as_deref(), Some("0"), "not the original's");
        assert_eq!(value(SEQ).as_deref(), Some("7"));
    }

    #[test]
    fn a_letter_is_never_larger_than_the_broker_takes() {
        let why = Error::internal("ů".repeat(5_000));
        let limit = 4_096;
        for (payload, kept) in [(1_000, true), (4_000, false)] {
            let original = message(vec![b'x'; payload], &[("Big", &"y".repeat(3_000))]);
            let (headers, rest) = written(&original, &why, limit);
            assert!(size(&headers) + rest.len() <= limit);
            let letter = read(headers, rest);
            assert_eq!((letter.omitted(), letter.size), (!kept, payload));
        }
        // Nor has it more headers than the broker keeps, however many the original has.
        let raw = vec![b'x'; 64_000];
        for filler in [31_000, 64_000] {
            let original = message(Vec::new(), &[("Big", &"y".repeat(filler))]);
            let of = Original { seq: 7, nanos: 1 };
            let death = Death { durable: Durable::Orders, original: of, attempts: 0, why: &why, raw: Some(&raw) };
            let (headers, rest) = write(&original, &death, 1 << 20);
            assert!(size(&headers) < 65_536, "{}", size(&headers));
            assert_eq!(read(headers, rest).published_headers().as_deref(), Some(&raw[..RAW_LIMIT]));
        }
    }
}
