//! The table at the end, and the arithmetic of rounds.

use std::fmt::Write as _;

/// What was measured in several rounds.
#[derive(Debug, Clone)]
pub struct Rounds(Vec<f64>);

/// What a ratio should be.
#[derive(Debug, Clone, Copy)]
pub enum Wanted {
    AtLeast(f64),
    AtMost(f64),
}

/// A figure beside what it is compared with, round by round.
#[derive(Debug)]
pub struct Pair {
    pub ours: Rounds,
    pub against: Rounds,
}

/// What a line says.
#[derive(Debug)]
pub enum Figures {
    /// What is wanted of the ratio.
    Beside(Pair),
    /// What is wanted of the figure itself.
    Alone(Rounds),
    /// It cannot be measured yet.
    Unmeasured,
}

/// A line of the table.
#[derive(Debug)]
pub struct Row {
    pub figure: &'static str,
    pub unit: &'static str,
    pub wanted: Wanted,
    pub figures: Figures,
}

impl Rounds {
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }

    pub fn least(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    pub fn most(&self) -> f64 {
        self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }
}

impl Pair {
    pub const fn new() -> Self {
        Self { ours: Rounds::new(), against: Rounds::new() }
    }

    /// The ratio of each round.
    fn ratios(&self) -> Rounds {
        Rounds(self.ours.0.iter().zip(&self.against.0).map(|(ours, against)| ours / against).collect())
    }
}

impl Wanted {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }

    fn verdict(self, value: f64) -> &'static str {
        if self.is_met(value) { "met" } else { "NOT MET" }
    }

    fn shown(self) -> String {
        match self {
            Self::AtLeast(least) => format!(">= {least:.1}"),
            Self::AtMost(most) => format!("<= {most:.1}"),
        }
    }
}

pub fn of(rows: &[Row]) -> String {
    let mut table = format!(
        "{:<58} {:>9} {:>9} {:>6}  {:>20} {:>7}  {}\n",
        "figure (median of the rounds)", "ours", "against", "unit", "ratio (least-most)", "wanted", "verdict"
    );
    for Row { figure, unit, wanted, figures } in rows {
        let cells = match figures {
            Figures::Beside(pair) => {
                let ratios = pair.ratios();
                let ratio = format!("{:.2} ({:.2}-{:.2})", ratios.median(), ratios.least(), ratios.most());
                let (ours, against) = (pair.ours.median(), pair.against.median());
                (format!("{ours:.0}"), format!("{against:.0}"), ratio, wanted.verdict(ratios.median()))
            }
            Figures::Alone(rounds) => {
                let value = rounds.median();
                (format!("{value:.1}"), "-".into(), "-".into(), wanted.verdict(value))
            }
            Figures::Unmeasured => ("-".into(), "-".into(), "-".into(), "not measured"),
        };
        let (ours, against, ratio, verdict) = cells;
        let _ = writeln!(
            table,
            "{figure:<58} {ours:>9} {against:>9} {unit:>6}  {ratio:>20} {:>7}  {verdict}",
            wanted.shown()
        );
    }
    table
}
