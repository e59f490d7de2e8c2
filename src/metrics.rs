//! Metrics: what an instance counts about itself, read at `/metrics`.
//!
//! Owns every metric's name, help and labels; whoever knows that something happened says so through a method here.
//! No label ever holds an id or text of a user: each comes from a set that the code itself limits, so that a scrape has a
//! few hundred lines and not one for each client. Nothing here waits, and nothing is asked for when it is read.
//!
//! There is no global: a `Metrics` is handed in, and a test that does not care takes the default.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::error::{Code, Error, Result};

/// The format of the text: OpenMetrics 1.0, which Prometheus reads.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Why {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    consumer: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Settled {
    consumer: &'static str,
    verdict: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Judged {
    verdict: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Gone {
    what: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    method: &'static str,
    route: &'static str,
    status: u16,
}

/// Makes the histogram of one label.
#[derive(Debug, Clone)]
struct Times;

impl MetricConstructor<Histogram> for Times {
    fn new_metric(&self) -> Histogram {
        times()
    }
}

/// From 0.5 ms to 8 s, doubling: a commit takes one or two milliseconds, a batch that waits for the database seconds.
fn times() -> Histogram {
    Histogram::new(exponential_buckets(0.0005, 2.0, 15))
}

/// How a delivery was settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// It is done.
    Done,
    /// A part is away; it is held and tried again here.
    Waits,
    /// It was given back, to be delivered again.
    Again,
    /// It was copied to the dead letters.
    Dead,
}

impl Settlement {
    const fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Waits => "waits",
            Self::Again => "again",
            Self::Dead => "dead",
        }
    }
}

/// Everything that is counted; cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    sockets: Gauge,
    sockets_closed: Family<Why, Counter>,
    frames_pushed: Counter,
    push_notes: Family<Outcome, Counter>,
    events_accepted: Counter,
    events_refused: Family<Why, Counter>,
    events_in_line: Gauge,
    commit_events: Histogram,
    commit_seconds: Histogram,
    deliveries: Family<Settled, Counter>,
    batch_seconds: Family<Of, Histogram, Times>,
    consumer_lag: Family<Of, Gauge<u64, AtomicU64>>,
    dead_letters: Gauge<u64, AtomicU64>,
    dead_letters_gone: Counter,
    log_bytes: Gauge<u64, AtomicU64>,
    log_limit_bytes: Gauge<u64, AtomicU64>,
    tail_lag: Gauge<u64, AtomicU64>,
    /// Where this instance's tail is; only its distance from the end is shown.
    tail_at: AtomicU64,
    resumes: Family<Outcome, Counter>,
    requests: Family<Answered, Counter>,
    uploads: Family<Outcome, Counter>,
    upload_bytes: Counter,
    scans: Family<Judged, Counter>,
    swept: Family<Gone, Counter>,
    broker_up: Gauge,
    database_up: Gauge,
    attachments_up: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self(Arc::new(Inner::new()))
    }
}

impl Inner {
    fn new() -> Self {
        let inner = Self {
            registry: Registry::default(),
            sockets: Gauge::default(),
            sockets_closed: Family::default(),
            frames_pushed: Counter::default(),
            push_notes: Family::default(),
            events_accepted: Counter::default(),
            events_refused: Family::default(),
            events_in_line: Gauge::default(),
            // Up to the most that one commit takes.
            commit_events: Histogram::new(exponential_buckets(1.0, 2.0, 10)),
            commit_seconds: times(),
            deliveries: Family::default(),
            batch_seconds: Family::new_with_constructor(Times),
            consumer_lag: Family::default(),
            dead_letters: Gauge::default(),
            dead_letters_gone: Counter::default(),
            log_bytes: Gauge::default(),
            log_limit_bytes: Gauge::default(),
            tail_lag: Gauge::default(),
            tail_at: AtomicU64::new(0),
            resumes: Family::default(),
            requests: Family::default(),
            uploads: Family::default(),
            upload_bytes: Counter::default(),
            scans: Family::default(),
            swept: Family::default(),
            broker_up: Gauge::default(),
            database_up: Gauge::default(),
            attachments_up: Gauge::default(),
        };
        // An instance only starts with all of them.
        inner.broker_up.set(1);
        inner.database_up.set(1);
        inner.attachments_up.set(1);
        Self { registry: inner.register(), ..inner }
    }

    /// Names and explains each of them. Counters get `_total`, units are added to the names, helps a full stop.
    fn register(&self) -> Registry {
        let mut all = Registry::with_prefix("shoptalk");
        all.register("sockets", "Sockets that are open and identified", self.sockets.clone());
        all.register("sockets_closed", "Sockets that were closed, by reason", self.sockets_closed.clone());
        all.register("frames_pushed", "Live frames put in line for a socket", self.frames_pushed.clone());
        all.register("push_notes", "Notes of pushes for traces of messages, by outcome", self.push_notes.clone());
        all.register("events_accepted", "Events that the log has stored for a caller", self.events_accepted.clone());
        all.register("events_refused", "Events that were not stored, by reason", self.events_refused.clone());
        all.register("events_in_line", "Events that wait for their commit", self.events_in_line.clone());
        all.register("commit_events", "Events in one commit to the log", self.commit_events.clone());
        let seconds = || Unit::Seconds;
        all.register_with_unit("commit", "Time of one commit to the log", seconds(), self.commit_seconds.clone());
        all.register("deliveries", "Deliveries settled, by consumer and verdict", self.deliveries.clone());
        all.register_with_unit(
            "batch",
            "Time that a consumer worked on a batch",
            seconds(),
            self.batch_seconds.clone(),
        );
        all.register("consumer_lag", "Events that a durable has not settled yet", self.consumer_lag.clone());
        all.register("dead_letters", "Dead letters that nobody has dealt with", self.dead_letters.clone());
        let gone = "Dead letters of orders that gave way to newer ones";
        all.register("dead_letters_gone", gone, self.dead_letters_gone.clone());
        all.register_with_unit("log", "Size of the event log", Unit::Bytes, self.log_bytes.clone());
        let limit = "Size at which the event log refuses events";
        all.register_with_unit("log_limit", limit, Unit::Bytes, self.log_limit_bytes.clone());
        all.register(
            "tail_lag",
            "Events in the log that the tail of this instance has not seen",
            self.tail_lag.clone(),
        );
        all.register("resumes", "Resumed sockets and syncs, by outcome", self.resumes.clone());
        all.register("http_requests", "Requests answered, by method, kind of route and status", self.requests.clone());
        all.register("uploads", "Uploads of attachments, by outcome", self.uploads.clone());
        let bytes = "Bytes of the attachments that were taken in";
        all.register_with_unit("upload", bytes, Unit::Bytes, self.upload_bytes.clone());
        all.register("scans", "Attachments that were looked through, by verdict", self.scans.clone());
        all.register("swept", "What the sweep of attachments has taken away, by what it was", self.swept.clone());
        all.register("broker_up", "Whether the broker is reachable", self.broker_up.clone());
        all.register("database_up", "Whether requests may ask the database", self.database_up.clone());
        all.register("attachments_up", "Whether the store of attachments answers", self.attachments_up.clone());
        all
    }
}

impl Metrics {
    /// All of it, as [`CONTENT_TYPE`].
    pub fn text(&self) -> Result<String> {
        let mut text = String::new();
        text::encode(&mut text, &self.0.registry).map_err(Error::internal)?;
        Ok(text)
    }

    /// A socket was identified.
    pub fn socket_opened(&self) {
        self.0.sockets.inc();
    }

    /// An identified socket is gone.
    pub fn socket_closed(&self, reason: &'static str) {
        self.0.sockets.dec();
        self.0.sockets_closed.get_or_create(&Why { reason }).inc();
    }

    /// Live frames were put in line for this many sockets.
    pub fn pushed(&self, sockets: usize) {
        self.0.frames_pushed.inc_by(sockets as u64);
    }

    /// Notes of pushes were kept, or lost.
    pub fn push_notes(&self, outcome: &'static str, notes: usize) {
        self.0.push_notes.get_or_create(&Outcome { outcome }).inc_by(notes as u64);
    }

    /// Events wait for their commit now.
    pub fn in_line(&self, events: usize) {
        self.0.events_in_line.set(i64::try_from(events).unwrap_or(i64::MAX));
    }

    /// The log has stored this many events in one go.
    pub fn committed(&self, events: usize, time: Duration) {
        self.0.events_accepted.inc_by(events as u64);
        // A commit takes at most 1,000 events.
        self.0.commit_events.observe(f64::from(u32::try_from(events).unwrap_or(u32::MAX)));
        self.0.commit_seconds.observe(time.as_secs_f64());
    }

    /// An event was not stored, or nobody knows whether it was.
    pub fn refused(&self, reason: &'static str) {
        self.0.events_refused.get_or_create(&Why { reason }).inc();
    }

    /// A delivery was settled.
    pub fn settled(&self, consumer: &'static str, settlement: Settlement) {
        self.0.deliveries.get_or_create(&Settled { consumer, verdict: settlement.word() }).inc();
    }

    /// A consumer's handler has worked on a batch.
    pub fn worked(&self, consumer: &'static str, time: Duration) {
        self.0.batch_seconds.get_or_create(&Of { consumer }).observe(time.as_secs_f64());
    }

    /// A socket or a request asked for what it missed.
    pub fn resumed(&self, outcome: &'static str) {
        self.0.resumes.get_or_create(&Outcome { outcome }).inc();
    }

    /// A request was answered; each of the three comes from a set that the code limits.
    pub fn answered(&self, method: &'static str, route: &'static str, status: u16) {
        self.0.requests.get_or_create(&Answered { method, route, status }).inc();
    }

    /// The tail has handed on the event at this place.
    pub fn tail_at(&self, seq: u64) {
        self.0.tail_at.store(seq, Ordering::Relaxed);
    }

    /// What the broker says of the log: its last seq, its size, and the size it may reach, if there is one.
    pub fn log(&self, last_seq: u64, bytes: u64, limit: Option<u64>) {
        let tail_at = self.0.tail_at.load(Ordering::Relaxed);
        // Without a tail (a worker has none) nothing is behind.
        self.0.tail_lag.set(if tail_at == 0 { 0 } else { last_seq.saturating_sub(tail_at) });
        self.0.log_bytes.set(bytes);
        self.0.log_limit_bytes.set(limit.unwrap_or(0));
    }

    /// How many events a durable has not settled yet.
    pub fn lag(&self, consumer: &'static str, events: u64) {
        self.0.consumer_lag.get_or_create(&Of { consumer }).set(events);
    }

    /// How many dead letters there are.
    pub fn buried(&self, letters: u64) {
        self.0.dead_letters.set(letters);
    }

    /// Dead letters that nobody had dealt with were removed to make room.
    pub fn gave_way(&self, letters: u64) {
        self.0.dead_letters_gone.inc_by(letters);
    }

    /// How many dead letters there were when somebody last looked.
    #[must_use]
    pub fn dead_letters(&self) -> u64 {
        self.0.dead_letters.get()
    }

    /// An upload has come to an end: it was taken in, with so many bytes; it was refused, which is up to the client; or a part
    /// that it needs was away.
    pub fn uploaded(&self, outcome: Result<u64, Code>) {
        let outcome = match outcome {
            Ok(bytes) => {
                self.0.upload_bytes.inc_by(bytes);
                "taken"
            }
            Err(Code::Unavailable | Code::Internal) => "failed",
            Err(_) => "refused",
        };
        self.0.uploads.get_or_create(&Outcome { outcome }).inc();
    }

    /// An attachment was looked through: `clean`, `infected`, or `failed` if there was no verdict.
    pub fn scanned(&self, verdict: &'static str) {
        self.0.scans.get_or_create(&Judged { verdict }).inc();
    }

    /// The sweep has taken away so many of something.
    pub fn swept(&self, what: &'static str, count: usize) {
        self.0.swept.get_or_create(&Gone { what }).inc_by(count as u64);
    }

    /// Whether the store of attachments answers.
    pub fn attachments(&self, up: bool) {
        self.0.attachments_up.set(i64::from(up));
    }

    /// Whether the broker is reachable.
    pub fn broker(&self, up: bool) {
        self.0.broker_up.set(i64::from(up));
    }

    /// Whether requests may ask the database.
    pub fn database(&self, up: bool) {
        self.0.database_up.set(i64::from(up));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(metrics: &Metrics, line: &str) {
        let text = metrics.text().expect("text");
        assert!(text.lines().any(|one| one == line), "{line} is missing in\n{text}");
    }

    #[test]
    fn what_is_counted_can_be_read() {
        let metrics = Metrics::default();
        let same = metrics.clone();
        same.socket_opened();
        same.socket_opened();
        same.socket_closed("resync");
        same.committed(40, Duration::from_millis(3));
        same.refused("busy");
        same.settled("persist", Settlement::Dead);
        same.worked("persist", Duration::from_millis(20));
        same.answered("GET", "messages", 200);
        same.lag("persist", 7);
        same.database(false);
        same.uploaded(Ok(1_000));
        same.uploaded(Ok(24));
        same.uploaded(Err(Code::Invalid));
        same.uploaded(Err(Code::RateLimited));
        same.uploaded(Err(Code::Unavailable));
        same.scanned("infected");
        same.swept("strays", 3);
        same.attachments(false);
        for line in [
            "shoptalk_sockets 1",
            "shoptalk_sockets_closed_total{reason=\"resync\"} 1",
            "shoptalk_events_accepted_total 40",
            "shoptalk_events_refused_total{reason=\"busy\"} 1",
            "shoptalk_commit_events_bucket{le=\"32.0\"} 0",
            "shoptalk_commit_events_bucket{le=\"64.0\"} 1",
            "shoptalk_commit_seconds_bucket{le=\"0.004\"} 1",
            "shoptalk_deliveries_total{consumer=\"persist\",verdict=\"dead\"} 1",
            "shoptalk_batch_seconds_count{consumer=\"persist\"} 1",
            "shoptalk_http_requests_total{method=\"GET\",route=\"messages\",status=\"200\"} 1",
            "shoptalk_consumer_lag{consumer=\"persist\"} 7",
            "shoptalk_uploads_total{outcome=\"taken\"} 2",
            "shoptalk_uploads_total{outcome=\"refused\"} 2",
            "shoptalk_uploads_total{outcome=\"failed\"} 1",
            "shoptalk_upload_bytes_total 1024",
            "shoptalk_scans_total{verdict=\"infected\"} 1",
            "shoptalk_swept_total{what=\"strays\"} 3",
            "shoptalk_attachments_up 0",
            "shoptalk_broker_up 1",
            "shoptalk_database_up 0",
            "# EOF",
        ] {
            has(&metrics, line);
        }
    }

    #[test]
    fn a_tail_is_behind_the_log_only_if_there_is_one() {
        let metrics = Metrics::default();
        metrics.log(100, 5_000, Some(8_000));
        has(&metrics, "shoptalk_tail_lag 0");
        metrics.tail_at(90);
        metrics.log(100, 5_000, Some(8_000));
        has(&metrics, "shoptalk_tail_lag 10");
        // The tail may be further than what was asked for a moment ago.
        metrics.tail_at(120);
        metrics.log(100, 5_000, None);
        has(&metrics, "shoptalk_tail_lag 0");
        has(&metrics, "shoptalk_log_bytes 5000");
        has(&metrics, "shoptalk_log_limit_bytes 0");
    }
}
