//! What all drills share: one at a time, short or long, a seed that is printed, and a line of results.

use std::fmt::Debug;
use std::future::Future;
use std::io::Write as _;
use std::time::{Duration, Instant};

use serde_json::json;
use shoptalk::domain::clock::random_bits;
use tokio::sync::{Mutex, MutexGuard};

use super::checker::{self, Violation};
use super::record::{Outcome, Record};

/// Drills measure times and use whole clusters; on two cores there is room for one.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// A drill that runs.
pub struct Drill {
    name: &'static str,
    injection: &'static str,
    pub seed: u64,
    pub long: bool,
    recovery: Duration,
    notes: Vec<String>,
    ended: bool,
    _turn: MutexGuard<'static, ()>,
}

impl Drill {
    /// Waits for its turn.
    pub async fn begin(name: &'static str, injection: &'static str) -> Self {
        let turn = ONE_AT_A_TIME.lock().await;
        let given =
            variable("SHOPTALK_DRILLS_SEED").map(|seed| seed.parse().expect("SHOPTALK_DRILLS_SEED is a number"));
        let seed = given.unwrap_or_else(|| u64::try_from(random_bits() >> 96).unwrap_or(1));
        let long = variable("SHOPTALK_DRILLS").is_some_and(|version| version == "long");
        eprintln!("drill {name}: SHOPTALK_DRILLS_SEED={seed} repeats its plan");
        Self { name, injection, seed, long, recovery: Duration::ZERO, notes: Vec::new(), ended: false, _turn: turn }
    }

    /// The first in the short version, the second in the long one.
    pub const fn pick<T: Copy>(&self, short: T, long: T) -> T {
        if self.long { long } else { short }
    }

    /// How long it took until everything worked again; the worst counts.
    pub fn recovered(&mut self, after: Duration) {
        self.recovery = self.recovery.max(after);
    }

    /// Something for the reader of the results.
    pub fn note(&mut self, what: String) {
        eprintln!("drill {}: {what}", self.name);
        self.notes.push(what);
    }

    /// Checks the record, writes the line of results, and fails if there is anything to complain of.
    pub fn end(mut self, record: &Record, mut violations: Vec<Violation>) {
        violations.extend(checker::check(record));
        let count = |wanted: fn(&Outcome) -> bool| record.sends.iter().filter(|send| wanted(&send.outcome())).count();
        let ok = count(|outcome| matches!(outcome, Outcome::Acked { .. }));
        let failed = count(|outcome| matches!(outcome, Outcome::Refused { .. }));
        let unknown = count(|outcome| matches!(outcome, Outcome::Unknown));
        let events: usize = record.observers.iter().map(|observer| observer.seen.len()).sum();
        self.report([ok, failed, unknown, events, violations.len()], violations.is_empty());
        self.ended = true;
        let shown: Vec<_> = violations.iter().take(30).collect();
        assert!(violations.is_empty(), "drill {} with seed {}: {shown:#?}", self.name, self.seed);
        // A load that did nothing proves nothing.
        assert!(ok > 0 && (events > 0 || record.observers.is_empty()), "nothing was done");
    }

    /// The same for what no client sends: so much of it was done.
    pub fn end_with(mut self, done: usize, violations: &[Violation]) {
        self.report([done, 0, 0, 0, violations.len()], violations.is_empty());
        self.ended = true;
        let shown: Vec<_> = violations.iter().take(30).collect();
        assert!(violations.is_empty(), "drill {} with seed {}: {shown:#?}", self.name, self.seed);
        assert!(done > 0, "nothing was done");
    }

    fn report(&self, [ok, failed, unknown, events, violations]: [usize; 5], passed: bool) {
        let seconds = (self.recovery.as_secs_f64() * 10.0).round() / 10.0;
        let line = json!({
            "drill": self.name, "injection": self.injection, "version": self.pick("short", "long"), "seed": self.seed,
            "ok": ok, "failed": failed, "unknown": unknown, "events": events, "violations": violations,
            "recoverySeconds": seconds, "notes": self.notes, "verdict": if passed { "pass" } else { "FAIL" },
        });
        eprintln!("drill {}: {line}", self.name);
        if let Some(file) = variable("SHOPTALK_DRILLS_REPORT") {
            let report = std::fs::File::options().create(true).append(true).open(&file);
            report.and_then(|mut report| writeln!(report, "{line}")).expect("SHOPTALK_DRILLS_REPORT can be written");
        }
    }
}

impl Drop for Drill {
    /// A drill that broke off before its end has a line too.
    fn drop(&mut self) {
        if !self.ended {
            self.report([0, 0, 0, 0, 1], false);
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "how drills are run is the caller's affair, not configuration of Shoptalk"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Asks again and again, at most this long, until the answer fits; panics with the last answer.
pub async fn within<T, F, Fut>(limit: Duration, what: &str, mut ask: F, fits: impl Fn(&T) -> bool) -> T
where
    T: Debug,
    F: FnMut() -> Fut,
    Fut: Future<Output = T>,
{
    let begin = Instant::now();
    let mut pause = Duration::from_millis(10);
    loop {
        let answer = ask().await;
        if fits(&answer) {
            return answer;
        }
        assert!(begin.elapsed() < limit, "{what} did not happen within {limit:?}; the last state was {answer:#?}");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}

/// The same, but hands back the last answer, fitting or not.
pub async fn within_or<T, F, Fut>(limit: Duration, mut ask: F, fits: impl Fn(&T) -> bool) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = T>,
{
    let begin = Instant::now();
    loop {
        let answer = ask().await;
        if fits(&answer) || begin.elapsed() > limit {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
