//! `shoptalk dead`: what the consumers could not do.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use super::print;
use crate::broker::Broker;
use crate::broker::dead::{Letter, RAW_HEADERS};
use crate::broker::topology::Durable;
use crate::config::{Config, Source};
use crate::domain::clock::{Clock, Timestamp};
use crate::error::{Code, Error, Result};
use crate::lifecycle::Lifecycle;
use crate::operate;
use crate::operate::dead::{Replay, places};
use crate::telemetry;

/// Letters read at once.
const BATCH: usize = 100;

/// Which configuration.
#[derive(Debug, Args)]
pub(super) struct Configured {
    /// A TOML file with settings; the environment and `.env` win
    #[arg(long, global = true)]
    pub(super) config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Dead {
    /// List letters, the oldest first
    List {
        /// Only those of this consumer: persist, notify, previews or orders
        #[arg(long, value_parser = durable)]
        consumer: Option<Durable>,
        /// At most so many
        #[arg(long, default_value_t = 100)]
        limit: usize,
        /// One JSON object per line
        #[arg(long)]
        json: bool,
    },
    /// Show a letter: its headers and the original
    Show {
        /// The letter
        seq: u64,
        /// Only the bytes of the original, as they are
        #[arg(long)]
        raw: bool,
    },
    /// Hand letters to their consumer again; those that are done then are removed
    Replay(Which),
    /// Remove letters for good
    Drop {
        #[command(flatten)]
        which: Which,
        /// With --all: yes, all of them
        #[arg(long)]
        yes: bool,
    },
}

/// Which letters.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// The letters
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    seqs: Vec<u64>,
    /// Every letter
    #[arg(long)]
    all: bool,
    /// With --all: only those of this consumer, persist, notify, previews or orders
    #[arg(long, requires = "all", value_parser = durable)]
    consumer: Option<Durable>,
}

fn durable(text: &str) -> std::result::Result<Durable, String> {
    let known = Durable::ALL.into_iter().find(|known| known.name() == text);
    known.ok_or_else(|| "consumers are persist, notify, previews and orders".to_owned())
}

pub(super) fn configuration(file: Option<&Path>) -> Result<Config> {
    let config = Config::read(&Source::of_process(file)?)?;
    telemetry::start(&config.log)?;
    Ok(config)
}

/// Dead letters.
pub(super) async fn dead(command: Dead, configured: Configured) -> Result<()> {
    let config = configuration(configured.config.as_deref())?;
    let broker = operate::attach(&config).await?;
    let lifecycle = Lifecycle::new();
    let done = match command {
        Dead::List { consumer, limit, json } => {
            let mut letters = broker.letters(consumer).await?;
            let (now, mut left) = (Clock::System.now(), limit);
            while left > 0 {
                let batch = letters.batch(BATCH.min(left)).await?;
                if batch.is_empty() {
                    break;
                }
                left -= batch.len();
                for letter in &batch {
                    print(&if json { described(letter).to_string() + "\n" } else { line(letter, now) });
                }
            }
            letters.close().await;
            Ok(())
        }
        Dead::Show { seq, raw } => show(&broker, seq, raw).await,
        Dead::Replay(which) => {
            let mut replay = Replay::new(&config, broker.clone(), lifecycle.clone());
            let mut tally = Tally::new("done", "replayed");
            for seq in chosen(&broker, &which).await? {
                tally.count(seq, replay.replay(seq).await);
            }
            tally.end()
        }
        Dead::Drop { which, yes } => {
            let seqs = chosen(&broker, &which).await?;
            if which.all && !yes {
                let shown = format!("this removes {} dead letters for good; say --yes if they should go", seqs.len());
                return Err(Error::invalid("not_confirmed", shown));
            }
            let mut tally = Tally::new("dropped", "dropped");
            for seq in seqs {
                tally.count(seq, broker.remove_letter(seq).await);
            }
            tally.end()
        }
    };
    lifecycle.end();
    broker.close().await;
    done
}

async fn chosen(broker: &Broker, which: &Which) -> Result<Vec<u64>> {
    if which.all { places(broker, which.consumer).await } else { Ok(which.seqs.clone()) }
}

/// What became of letters, one line each and a failure if one stays.
struct Tally {
    each: &'static str,
    all: &'static str,
    good: usize,
    bad: usize,
}

impl Tally {
    const fn new(each: &'static str, all: &'static str) -> Self {
        Self { each, all, good: 0, bad: 0 }
    }

    fn count(&mut self, seq: u64, done: Result<()>) {
        match done {
            Ok(()) => {
                self.good += 1;
                print(&format!("{seq}: {}\n", self.each));
            }
            Err(error) => {
                self.bad += 1;
                print(&format!("{seq}: {} ({})\n", error.reason(), visible(&error.told())));
            }
        }
    }

    fn end(self) -> Result<()> {
        let Self { all, good, bad, .. } = self;
        if bad == 0 {
            return Ok(());
        }
        Err(Error::new(Code::Conflict, "letters_left", format!("{good} dead letters were {all}, {bad} were not")))
    }
}

async fn show(broker: &Broker, seq: u64, raw: bool) -> Result<()> {
    let letter = broker.letter(seq).await?;
    let original = broker.original(&letter).await?;
    if raw {
        super::write(&original);
        return Ok(());
    }
    print(&format!("letter {seq} of {}\n", letter.at));
    for (name, value) in letter.headers.iter().filter(|(name, _)| name != RAW_HEADERS) {
        print(&format!("{name}: {}\n", visible(value)));
    }
    if let Some(published) = letter.published_headers() {
        print(&format!("{RAW_HEADERS}: {}\n", published.escape_ascii()));
    }
    // Whatever was published: a terminal must not obey it.
    let text = std::str::from_utf8(&original).map_or_else(|_| original.escape_ascii().to_string(), visible);
    print(&format!("\n{text}\n"));
    Ok(())
}

fn visible(text: &str) -> String {
    let escaped = |letter: char| if letter.is_control() { letter.escape_default().to_string() } else { letter.into() };
    text.chars().map(escaped).collect()
}

fn described(letter: &Letter) -> serde_json::Value {
    json!({
        "seq": letter.seq,
        "consumer": letter.consumer.map(Durable::name),
        "subject": letter.subject,
        "eventSeq": letter.event_seq,
        "attempts": letter.attempts,
        "reason": letter.reason,
        "error": letter.error,
        "at": letter.at,
        "size": letter.size,
    })
}

fn line(letter: &Letter, now: Timestamp) -> String {
    let number = |known: Option<u64>| known.map_or_else(|| "?".to_owned(), |number| number.to_string());
    format!(
        "{:>6}  {:<7}  {} at {}  {} attempts  {}  {} ago  {} bytes\n",
        letter.seq,
        letter.consumer.map_or("?", Durable::name),
        visible(&letter.subject),
        number(letter.event_seq),
        number(letter.attempts),
        visible(&letter.reason),
        age(now.seconds().saturating_sub(letter.at.seconds())),
        letter.size,
    )
}

/// Seconds as people say them.
fn age(seconds: i64) -> String {
    match seconds.max(0) {
        seconds @ ..120 => format!("{seconds} s"),
        seconds @ ..7_200 => format!("{} min", seconds / 60),
        seconds @ ..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_was_published_moves_the_cursor() {
        assert_eq!(visible("\u{1b}[2Já\n"), "\\u{1b}[2Já\\n");
    }

    #[test]
    fn an_age_has_one_unit() {
        for (seconds, said) in [(-3, "0 s"), (119, "119 s"), (120, "2 min"), (7_200, "2 h"), (200_000, "2 d")] {
            assert_eq!(age(seconds), said);
        }
    }
}
