//! Logs: a sentence and dotted fields, readable or as JSON; never a token, a password or a message text.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::config::{LogConfig, LogFormat};
use crate::domain::clock::random_bits;
use crate::domain::trace::TraceContext;
use crate::error::{Error, Result};

/// Starts logging to standard error. Once per process.
pub fn start(config: &LogConfig) -> Result<()> {
    let filter = EnvFilter::try_new(&config.filter)
        .map_err(|error| Error::invalid("bad_log_filter", format!("LOG cannot be read: {error}")))?;
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_span_events(FmtSpan::NONE);
    let started = match config.format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init(),
    };
    started.map_err(Error::internal)
}

/// The trace of a piece of work: the next link of the caller's, or a new one.
#[must_use]
pub fn trace_of(parent: Option<&str>) -> TraceContext {
    match parent.and_then(|text| text.parse::<TraceContext>().ok()) {
        Some(parent) => parent.child(random_bits()),
        None => TraceContext::root(random_bits()),
    }
}
