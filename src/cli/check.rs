//! `shoptalk check`: the log compared with MongoDB.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use clap::Args;

use super::dead::{Configured, configuration};
use super::{print, tell};
use crate::error::{Code, Error, Result};
use crate::operate::Projection;
use crate::operate::check::{Bounds, Report};

/// Differences that are listed for people; all are counted.
const LISTED: usize = 50;
/// How often it is told how far things are.
const NEWS: Duration = Duration::from_secs(2);

/// What is compared, and what is done about it.
#[derive(Debug, Args)]
pub(super) struct Wanted {
    /// From this place in the log on; the beginning if not given
    #[arg(long)]
    from: Option<u64>,
    /// Up to this place in the log; the end if not given
    #[arg(long)]
    to: Option<u64>,
    /// Rebuild from the log what differs, then compare again
    #[arg(long)]
    repair: bool,
    /// A JSON object
    #[arg(long)]
    json: bool,
}

/// Compares the log with MongoDB.
pub(super) async fn check(wanted: Wanted, configured: Configured) -> Result<()> {
    let config = configuration(configured.config.as_deref())?;
    let projection = Projection::connect(&config).await?;
    let bounds = Bounds { from: wanted.from, to: wanted.to };
    let mut told_at = Instant::now();
    let progress = |at, to| {
        if told_at.elapsed() >= NEWS {
            told_at = Instant::now();
            tell(&format!("compared up to {at} of {to}\n"));
        }
    };
    let report = projection.check(bounds, wanted.repair, progress).await;
    projection.close().await;
    let report = report?;
    if wanted.json {
        print(&format!("{}\n", serde_json::to_string(&report).map_err(Error::internal)?));
    } else {
        print(&told(&report));
    }
    match report.remaining {
        0 => Ok(()),
        left => {
            Err(Error::new(Code::Conflict, "differences_left", format!("{left} documents are not as the log has them")))
        }
    }
}

fn told(report: &Report) -> String {
    let mut text = String::new();
    for found in report.found.iter().take(LISTED) {
        let _ = writeln!(text, "{found}");
    }
    let unlisted = report.differences.saturating_sub(report.found.len().min(LISTED) as u64);
    if unlisted > 0 {
        let _ = writeln!(text, "... and {unlisted} more");
    }
    let Report { from, to, events, unreadable, not_due, unproven, differences, remaining, repaired, .. } = report;
    let _ = write!(text, "{events} events from {from} to {to} were compared, {differences} documents differed");
    if *repaired {
        let _ = write!(text, ", {remaining} still do");
    }
    text.push('\n');
    for (count, what) in [
        (not_due, "events are not due yet"),
        (unreadable, "events cannot be read and explain no document"),
        (unproven, "documents are of events that the log no longer has, and were left alone"),
    ] {
        if *count > 0 {
            let _ = writeln!(text, "{count} {what}");
        }
    }
    text
}
