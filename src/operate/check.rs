//! Compares the log with its projection over a range, and has what differs repaired.
//!
//! Two steps, both with bounded memory. The log is read in order, a batch at a time, and the documents of its events are
//! looked up: that finds what is missing or different, and counts the documents that an event explains. If MongoDB has more
//! documents in the range than that, the others are looked for, and each is compared with the log's event in its place.
//!
//! What the log no longer has is not judged by it: a document of a place that was purged or lost is left alone.

use std::collections::{HashMap, HashSet};

use futures_util::{StreamExt as _, TryStreamExt as _};
use serde::Serialize;

use super::Projection;
use crate::broker::subject::{ChatKind, Subject};
use crate::broker::topology::{Durable, StreamName};
use crate::domain::event::Stored;
use crate::domain::ids::ConversationId;
use crate::error::{Code, Error, Result};
use crate::store::audit::{Difference, Fault, Place, Projected};

/// Events compared at once.
pub(super) const BATCH: usize = 2_000;
/// Documents compared at once with the log, and questions to the log under way at once.
const PLACES: usize = 500;
const AT_ONCE: usize = 32;
/// Rounds of repair: one can bring to light what the next has to do.
const ROUNDS: usize = 6;
/// Differences that are reported one by one; all are counted.
const KEPT: usize = 10_000;

/// Which part of the log.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bounds {
    /// From here on; from the beginning if nothing.
    pub from: Option<u64>,
    /// Up to here; to the end if nothing.
    pub to: Option<u64>,
}

/// What was found, and what is left of it.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The first place that was compared.
    pub from: u64,
    /// The last place that was compared; below `from` if there was nothing to compare.
    pub to: u64,
    /// Events that were compared.
    pub events: u64,
    /// Events that cannot be read.
    pub unreadable: u64,
    /// Places that `persist` has not dealt with yet, and that were not compared.
    pub not_due: u64,
    /// Documents of places that the log no longer has.
    pub unproven: u64,
    /// Documents that were not as the log has them; each once, up to 10,000.
    pub differences: u64,
    /// Documents that still are not.
    pub remaining: u64,
    /// Whether it was tried to repair them.
    pub repaired: bool,
    /// The differences, up to 10,000 of them.
    pub found: Vec<Difference>,
    /// What `differences` has counted, and what `remaining` has.
    #[serde(skip)]
    seen: (Seen, Seen),
}

/// Documents that were counted. Beyond its limit it knows nothing, and a document may count twice.
#[derive(Debug, Default)]
struct Seen(HashSet<(Projected, String)>);

impl Seen {
    fn add(&mut self, difference: &Difference) -> bool {
        self.0.len() >= KEPT || self.0.insert((difference.collection, difference.id.clone()))
    }
}

impl Report {
    /// A new round: what remains is counted anew.
    fn begin(&mut self) {
        (self.events, self.unreadable, self.unproven, self.remaining) = (0, 0, 0, 0);
        self.seen.1 = Seen::default();
    }

    fn note(&mut self, difference: &Difference) {
        if !self.seen.1.add(difference) {
            return;
        }
        self.remaining += 1;
        if self.seen.0.add(difference) {
            self.differences += 1;
            if self.found.len() < KEPT {
                self.found.push(difference.clone());
            }
        }
    }
}

/// The range of a comparison.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    pub(super) from: u64,
    pub(super) to: u64,
    /// The last place of the log.
    pub(super) head: u64,
    /// Nothing was purged from the log.
    whole: bool,
}

impl Projection {
    /// Compares, and repairs if asked to. `progress` hears how far it has got.
    pub async fn check(&self, bounds: Bounds, repair: bool, mut progress: impl FnMut(u64, u64)) -> Result<Report> {
        // The floor first: what lies below it was in the log when it was asked.
        let floor = self.broker.floor(Durable::Persist).await?;
        let extent = self.broker.extent(StreamName::Events).await?;
        let wanted = bounds.to.unwrap_or(u64::MAX).min(extent.last);
        let from = bounds.from.unwrap_or(1).max(extent.first).max(1);
        let range = Range { from, to: wanted.min(floor), head: extent.last, whole: extent.whole };
        let mut report = Report { from, to: range.to, repaired: repair, ..Report::default() };
        report.not_due = wanted.saturating_sub(floor.max(from.saturating_sub(1)));
        if range.from > range.to {
            return Ok(report);
        }
        for _ in 0..if repair { ROUNDS } else { 0 } {
            self.round(range, true, &mut report, &mut progress).await?;
            if report.remaining == 0 {
                return Ok(report);
            }
        }
        self.round(range, false, &mut report, &mut progress).await?;
        Ok(report)
    }

    /// Compares once. What is mended in passing counts as found.
    async fn round(
        &self,
        range: Range,
        mend: bool,
        report: &mut Report,
        progress: &mut impl FnMut(u64, u64),
    ) -> Result<()> {
        report.begin();
        let mut explained: HashMap<Projected, u64> = HashMap::new();
        let mut recount: HashSet<ConversationId> = HashSet::new();
        let mut log = self.broker.scan(StreamName::Events, Vec::new(), range.from, range.to).await?;
        loop {
            let entries = log.batch(BATCH).await?;
            let Some(last) = entries.last().map(|last| last.seq) else { break };
            let read = entries.len() as u64;
            let events: Vec<Stored> = entries.into_iter().filter_map(|entry| entry.event().ok()).collect();
            report.events += read;
            report.unreadable += read - events.len() as u64;
            let audit = self.store.audit(&events, range.head, self.clock.now()).await?;
            audit.differences.iter().for_each(|difference| report.note(difference));
            for (collection, count) in &audit.explained {
                *explained.entry(*collection).or_default() += count;
            }
            if mend && !audit.differences.is_empty() {
                self.mend(&events, &audit, range, &mut recount).await?;
            }
            progress(last, range.to);
        }
        log.close().await;
        let mended = mend && report.remaining > 0;
        for collection in Projected::ALL {
            // After mending the count says nothing any more.
            let expected = explained.get(&collection).copied().unwrap_or_default();
            if mended || self.store.count_places(collection, range.from, range.to).await? != expected {
                self.look_for_strangers(collection, range, mend, report, &mut recount).await?;
            }
        }
        // Last, since only now every message is what it should be.
        for id in recount {
            self.store.recount(id, range.head).await?;
        }
        Ok(())
    }

    async fn look_for_strangers(
        &self,
        collection: Projected,
        range: Range,
        mend: bool,
        report: &mut Report,
        recount: &mut HashSet<ConversationId>,
    ) -> Result<()> {
        let mut places = self.store.places(collection, range.from, range.to).await?;
        loop {
            let batch = places.batch(PLACES).await?;
            if batch.is_empty() {
                return Ok(());
            }
            let judged: Vec<(Place, Judgement)> = futures_util::stream::iter(batch)
                .map(|place| async move {
                    let judged = self.judge(collection, &place, range).await?;
                    Ok::<_, Error>((place, judged))
                })
                .buffer_unordered(AT_ONCE)
                .try_collect()
                .await?;
            let mut extra = Vec::new();
            for (place, judgement) in judged {
                let fault = match judgement {
                    Judgement::Right => continue,
                    Judgement::Unproven => {
                        report.unproven += 1;
                        continue;
                    }
                    Judgement::Wrong(fault) => fault,
                };
                let fields = if fault == Fault::Different { vec!["lastSeq".to_owned()] } else { Vec::new() };
                report.note(&Difference { collection, id: place.id(), seq: place.seq, fault, fields });
                if fault == Fault::Different {
                    recount.extend(place.id().parse::<ConversationId>().ok());
                } else {
                    extra.push(place);
                }
            }
            if mend {
                self.store.remove_places(collection, &extra).await?;
            }
        }
    }

    /// Whether the log's event in its place explains a document.
    async fn judge(&self, collection: Projected, place: &Place, range: Range) -> Result<Judgement> {
        if place.seq == 0 {
            // What is there is no seq.
            return Ok(Judgement::Unproven);
        }
        let stored = match self.broker.at(place.seq).await {
            Ok(Some(stored)) => stored,
            Ok(None) => return Ok(Judgement::Unproven),
            Err(error) if error.code() == Code::Invalid => return Ok(Judgement::Unproven),
            Err(error) => return Err(error),
        };
        let id = place.id();
        if collection.explains(&stored.event.body, &id) {
            return Ok(Judgement::Right);
        }
        if collection != Projected::Conversations {
            return Ok(Judgement::Wrong(Fault::Extra));
        }
        let opened = match id.parse() {
            Ok(id) => self.broker.last(Subject::Chat(id, ChatKind::Conversation)).await?.is_some(),
            Err(_) => false,
        };
        Ok(match (opened, range.whole) {
            (true, _) => Judgement::Wrong(Fault::Different),
            (false, true) => Judgement::Wrong(Fault::Extra),
            // It may have been opened in the part of the log that is gone.
            (false, false) => Judgement::Unproven,
        })
    }
}

/// What the log says about a document.
#[derive(Debug, Clone, Copy)]
enum Judgement {
    Right,
    Wrong(Fault),
    Unproven,
}
