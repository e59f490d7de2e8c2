//! Dead letters: replayed through the handler that could not do them, or dropped.
//!
//! A replay is a delivery of the original event with its original seq. The letter goes only when the handler is done; and
//! since handlers are idempotent, a replay that is interrupted can be repeated.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;

use crate::blob::Blobs;
use crate::broker::Broker;
use crate::broker::consume::{Handler, Parcel as _, Raw, Verdict};
use crate::broker::topology::Durable;
use crate::command::directory::Directory;
use crate::command::lookup::Lookup;
use crate::command::preferences::Preferred;
use crate::config::Config;
use crate::consumer::deciding::Deciding;
use crate::consumer::notify::Notify;
use crate::consumer::orders::{self, Orders};
use crate::consumer::persist::Persist;
use crate::consumer::previews::{self, Previews};
use crate::domain::clock::Clock;
use crate::error::{Code, Error, Result};
use crate::lifecycle::Lifecycle;
use crate::metrics::Metrics;
use crate::scan::Scanner;
use crate::store::Store;

/// Letters read at once.
const BATCH: usize = 100;

/// The places of all letters, or of those of one consumer.
pub async fn places(broker: &Broker, consumer: Option<Durable>) -> Result<Vec<u64>> {
    let mut letters = broker.letters(consumer).await?;
    let mut places = Vec::new();
    loop {
        let batch = letters.batch(BATCH).await?;
        if batch.is_empty() {
            letters.close().await;
            return Ok(places);
        }
        places.extend(batch.iter().map(|letter| letter.seq));
    }
}

/// Replays letters in this process.
pub struct Replay<'a> {
    config: &'a Config,
    broker: Broker,
    lifecycle: Lifecycle,
    // Each is connected when a letter first needs it.
    persist: Option<Persist>,
    notify: Option<Notify>,
    orders: Option<Orders>,
    previews: Option<Previews>,
}

impl<'a> Replay<'a> {
    /// Replays what this broker keeps.
    #[must_use]
    pub const fn new(config: &'a Config, broker: Broker, lifecycle: Lifecycle) -> Self {
        Self { config, broker, lifecycle, persist: None, notify: None, orders: None, previews: None }
    }

    /// What decisions need. Who is there is not known here.
    fn deciding(&self, store: &Store) -> Deciding {
        let directory = Directory::new(self.broker.clone(), store.clone());
        Deciding::new(directory, Preferred::new(self.broker.clone(), store.clone()), Arc::new(|_| None))
    }

    /// Hands a letter's event to the handler of its consumer; done means that the letter is gone.
    pub async fn replay(&mut self, seq: u64) -> Result<()> {
        let letter = self.broker.letter(seq).await?;
        let (durable, raw) = self.broker.delivery(&letter).await?;
        let verdict = match durable {
            Durable::Persist => {
                if self.persist.is_none() {
                    self.persist = Some(Persist::new(Store::connect(&self.config.store).await?));
                }
                ask(self.persist.as_ref(), raw).await?
            }
            Durable::Orders => {
                if self.orders.is_none() {
                    let store = Store::connect(&self.config.store).await?;
                    let means = orders::Means {
                        publisher: self.broker.publisher(&self.lifecycle),
                        directory: Directory::new(self.broker.clone(), store.clone()),
                        preferred: Preferred::new(self.broker.clone(), store.clone()),
                        deciding: self.deciding(&store),
                        clock: Clock::System,
                        opens: self.config.orders_open_conversations,
                        store,
                    };
                    self.orders = Some(Orders::new(means)?);
                }
                ask(self.orders.as_ref(), raw).await?
            }
            Durable::Notify => {
                if self.notify.is_none() {
                    let store = Store::connect(&self.config.store).await?;
                    let deciding = self.deciding(&store);
                    let publisher = self.broker.publisher(&self.lifecycle);
                    self.notify = Some(Notify::new(self.broker.clone(), publisher, Clock::System, deciding));
                }
                ask(self.notify.as_ref(), raw).await?
            }
            Durable::Previews => {
                if self.previews.is_none() {
                    let store = Store::connect(&self.config.store).await?;
                    let scanner = self.config.attachments.scanner.as_deref().map(Scanner::new).transpose()?;
                    self.previews = Some(Previews::new(previews::Means {
                        blobs: Blobs::open(&self.config.blobs, &self.lifecycle).await?,
                        publisher: self.broker.publisher(&self.lifecycle),
                        directory: Directory::new(self.broker.clone(), store.clone()),
                        // Nothing is heard here: each is read.
                        lookup: Lookup::new(self.broker.clone(), store.clone(), 0),
                        deciding: self.deciding(&store),
                        scanner,
                        pixels: self.config.attachments.pixels,
                        // Nobody reads what this process counts.
                        metrics: Metrics::default(),
                        clock: Clock::System,
                        store,
                    }));
                }
                ask(self.previews.as_ref(), raw).await?
            }
        };
        match verdict {
            Some(Verdict::Done) => self.broker.remove_letter(seq).await,
            Some(Verdict::Retry { why, .. } | Verdict::Reject { why }) => Err(why),
            None => Err(Error::new(Code::Internal, "handler_panicked", "the handler panicked over it")),
        }
    }
}

/// The handler's verdict; nothing if it panicked.
async fn ask<H: Handler>(handler: Option<&H>, raw: Raw) -> Result<Option<Verdict>> {
    let Some(handler) = handler else { return Ok(None) };
    let given = H::Given::open(raw)?;
    let asked = AssertUnwindSafe(handler.handle(std::slice::from_ref(&given))).catch_unwind().await;
    Ok(asked.ok().and_then(|mut verdicts| verdicts.pop()))
}
