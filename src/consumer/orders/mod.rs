//! `orders`: takes in what other services say happened to orders.
//!
//! What is wrong goes to the dead letters, with a reason that names the field. What is right is done in this order: the event
//! is added to its order; an entry is written into the conversation that customer and seller have about it, if there is
//! one; both are notified. Each of these can be done again: what is added is a set, and ids follow from the event. So a
//! crash between any two of them is mended by the next delivery. When all is done the order remembers that everybody has
//! been told, so that an event which comes again when the broker and the log have forgotten it is told to nobody.

mod admit;
mod tell;
mod threads;

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use super::deciding::Deciding;
use super::order_event::{self, Reader};
use crate::broker::consume::{Handler, Raw, Verdict};
use crate::broker::publish::{Pending, Publisher};
use crate::command::directory::Directory;
use crate::command::preferences::Preferred;
use crate::domain::clock::Clock;
use crate::domain::ids::UserId;
use crate::domain::order::{Key, OrderEvent, OrderId};
use crate::domain::trace::TraceContext;
use crate::error::{Error, Result};
use crate::store::Store;
use crate::store::orders::Addition;

use admit::{Orders as Known, Parties, People, admit, is_told};
use threads::{Threads, Wanted};

/// Events in line at once: the line is shared with what clients send.
const IN_LINE: usize = 1_024;
/// When what another writer was faster with is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Keeps orders and tells their parties.
#[derive(Debug)]
pub struct Orders {
    reader: Reader,
    store: Store,
    publisher: Publisher,
    deciding: Deciding,
    threads: Threads,
    clock: Clock,
}

/// What it asks and what it writes to.
#[derive(Debug)]
pub struct Means {
    /// Keeps the orders.
    pub store: Store,
    /// Takes what is told.
    pub publisher: Publisher,
    /// Knows conversations.
    pub directory: Directory,
    /// Knows who blocks whom.
    pub preferred: Preferred,
    /// Decides who is told.
    pub deciding: Deciding,
    /// The time.
    pub clock: Clock,
    /// Whether a conversation about an order is opened for its first event.
    pub opens: bool,
}

/// An event that was let in.
struct Arrival<'a> {
    /// Which one of the batch it is.
    at: usize,
    event: &'a OrderEvent,
    parties: Parties,
    trace: TraceContext,
    /// Everybody was told of it before.
    told: bool,
}

/// Who sells the orders that are there already.
type Stored = HashMap<OrderId, Option<UserId>>;

/// What is under way for an event of the batch.
struct UnderWay {
    at: usize,
    pending: Vec<Pending>,
}

impl Orders {
    /// Compiles the schema.
    pub fn new(means: Means) -> Result<Self> {
        let Means { store, publisher, directory, preferred, deciding, clock, opens } = means;
        let threads = Threads { directory, preferred, publisher: publisher.clone(), clock: clock.clone(), opens };
        Ok(Self { reader: Reader::new()?, store, publisher, deciding, threads, clock })
    }

    /// What was published, read.
    fn read(&self, raw: &Raw) -> Result<OrderEvent> {
        let headers = raw.pairs();
        self.reader.read(order_event::Raw { subject: &raw.subject, headers: &headers, payload: &raw.payload })
    }

    /// Works on a batch: what has no verdict when this ends has the error for one.
    async fn work(&self, batch: &[Raw], events: &[Option<OrderEvent>], verdicts: &mut [Option<Verdict>]) -> Result<()> {
        let read = || events.iter().enumerate().filter_map(|(at, event)| Some((at, event.as_ref()?)));
        let mut names: Vec<&str> = read()
            .flat_map(|(_, event)| std::iter::once(&event.customer).chain(&event.seller))
            .map(String::as_str)
            .collect();
        names.sort_unstable();
        names.dedup();
        let asked: Vec<(&OrderId, &Key)> = read().map(|(_, event)| (&event.order, event.key())).collect();
        let (users, known) = tokio::try_join!(self.store.users_called(&names), self.store.known_orders(&asked))?;
        // Whose orders are as they are stored, before this batch says more.
        let stored: Stored = known.iter().map(|(order, known)| (order.clone(), known.seller_id)).collect();
        let (mut people, mut known) = (People::default(), known);
        people.add(users);

        let mut arrivals: Vec<Arrival<'_>> = Vec::new();
        for (at, event) in read() {
            match admit(event, &people, &mut known) {
                Ok(parties) => {
                    let told = is_told(&known, &event.order, event.key());
                    arrivals.push(Arrival { at, event, parties, trace: batch[at].trace(), told });
                }
                // Whoever bought or sold may be called something else by the time it comes again.
                Err(_) if is_told(&known, &event.order, event.key()) => verdicts[at] = Some(Verdict::Done),
                Err(why) => verdicts[at] = Some(Verdict::Reject { why }),
            }
        }
        self.add(&mut arrivals, &stored, &people, verdicts).await?;
        for arrival in arrivals.iter().filter(|arrival| arrival.told) {
            verdicts[arrival.at] = Some(Verdict::Done);
        }
        arrivals.retain(|arrival| !arrival.told);
        self.meet_sellers(&arrivals, &mut people).await?;
        self.tell(&arrivals, &people, verdicts).await
    }

    /// Adds events to their orders; those that an order turns out not to take are left to be settled by what it says now.
    async fn add(
        &self,
        arrivals: &mut Vec<Arrival<'_>>,
        stored: &Stored,
        people: &People,
        verdicts: &mut [Option<Verdict>],
    ) -> Result<()> {
        let mut additions: Vec<Addition<'_>> = Vec::new();
        let mut places: HashMap<&OrderId, usize> = HashMap::new();
        for arrival in arrivals.iter() {
            let Arrival { event, parties, .. } = arrival;
            let place = *places.entry(&event.order).or_insert_with(|| {
                let (customer_id, seller_id) = (parties.customer, parties.seller);
                additions.push(Addition {
                    order: &event.order,
                    customer_id,
                    seller_id,
                    owned: false,
                    steps: Vec::new(),
                });
                additions.len() - 1
            });
            let addition = &mut additions[place];
            // A later event of the batch may be the first that names a seller.
            addition.seller_id = addition.seller_id.or(parties.seller);
            addition.steps.push(&event.step);
        }
        for addition in &mut additions {
            addition.owned = stored.get(addition.order) == Some(&addition.seller_id);
        }
        let refused = self.store.add_to_orders(&additions).await?;
        if refused.is_empty() {
            return Ok(());
        }
        let refused: Vec<&OrderId> = refused.into_iter().map(|place| additions[place].order).collect();
        let asked = arrivals.iter().map(|arrival| (&arrival.event.order, arrival.event.key()));
        let asked: Vec<_> = asked.filter(|(order, _)| refused.contains(order)).collect();
        let mut known: Known = self.store.known_orders(&asked).await?;
        arrivals.retain(|arrival| {
            if !refused.contains(&&arrival.event.order) {
                return true;
            }
            let again = || Error::internal("another writer has made or given this order at the same moment");
            let verdict = match admit(arrival.event, people, &mut known) {
                Err(why) => Verdict::Reject { why },
                Ok(_) => Verdict::Retry { after: AGAIN, why: again() },
            };
            verdicts[arrival.at] = Some(verdict);
            false
        });
        Ok(())
    }

    /// Sellers whom no event of the batch has named: what they are called is needed all the same.
    async fn meet_sellers(&self, arrivals: &[Arrival<'_>], people: &mut People) -> Result<()> {
        let sellers = arrivals.iter().filter_map(|arrival| arrival.parties.seller);
        let unmet: HashSet<String> =
            sellers.filter(|seller| people.of(*seller).is_none()).map(|seller| seller.to_string()).collect();
        let unmet: Vec<&str> = unmet.iter().map(String::as_str).collect();
        people.add(self.store.users_called(&unmet).await?);
        Ok(())
    }

    /// Writes entries and notifications, and remembers which events everybody has been told of.
    async fn tell(&self, arrivals: &[Arrival<'_>], people: &People, verdicts: &mut [Option<Verdict>]) -> Result<()> {
        let wanted = arrivals.iter().filter_map(|one| Wanted::of(&one.event.order, one.parties, one.trace));
        let threads = self.threads.all(wanted.map(|one| (one.id(), one)).collect(), people).await?;
        // Nobody can have muted what was opened a moment ago.
        let found = threads.iter().filter(|(_, thread)| thread.as_ref().is_ok_and(|thread| thread.found));
        let users = arrivals.iter().flat_map(|one| one.parties.users()).collect();
        let known = self.deciding.know(users, found.map(|(id, _)| *id).collect()).await?;
        let means = tell::Means { clock: &self.clock, people, threads: &threads, known: &known };

        // The entries first: what people are told says where they are.
        let mut line = Line::default();
        for arrival in arrivals {
            match means.entry(arrival) {
                Ok(Some(entry)) => {
                    let pending = self.publisher.enqueue_patiently(&entry, Some(arrival.trace)).await?;
                    line.push(arrival.at, vec![pending], verdicts).await;
                }
                Ok(None) => {}
                Err(why) => verdicts[arrival.at] = Some(Verdict::Retry { after: AGAIN, why }),
            }
        }
        let entries = line.end(verdicts).await;
        let mut line = Line::default();
        for arrival in arrivals {
            if verdicts[arrival.at].is_some() {
                continue;
            }
            let mut pending = Vec::new();
            for event in &means.notifications(arrival, entries.get(&arrival.at).copied())? {
                pending.push(self.publisher.enqueue_patiently(event, Some(arrival.trace)).await?);
            }
            line.push(arrival.at, pending, verdicts).await;
        }
        line.end(verdicts).await;
        let told = arrivals.iter().filter(|arrival| verdicts[arrival.at].is_none());
        self.store.note_told(&told.map(|arrival| arrival.event.key()).collect::<Vec<_>>()).await?;
        for arrival in arrivals {
            verdicts[arrival.at].get_or_insert(Verdict::Done);
        }
        Ok(())
    }
}

/// What was sent to the log and is waited for, in order. Many are in line before the first answer is waited for, and the line
/// never runs empty meanwhile.
#[derive(Default)]
struct Line {
    waiting: VecDeque<UnderWay>,
    length: usize,
    /// Where the log has the last one of each.
    stored: HashMap<usize, u64>,
}

impl Line {
    async fn push(&mut self, at: usize, pending: Vec<Pending>, verdicts: &mut [Option<Verdict>]) {
        self.length += pending.len();
        self.waiting.push_back(UnderWay { at, pending });
        while self.length >= IN_LINE
            && let Some(first) = self.waiting.pop_front()
        {
            self.length -= first.pending.len();
            self.settle(first, verdicts).await;
        }
    }

    /// Waits for everything; says where the log has it.
    async fn end(mut self, verdicts: &mut [Option<Verdict>]) -> HashMap<usize, u64> {
        while let Some(first) = self.waiting.pop_front() {
            self.settle(first, verdicts).await;
        }
        self.stored
    }

    async fn settle(&mut self, one: UnderWay, verdicts: &mut [Option<Verdict>]) {
        for pending in one.pending {
            match pending.stored().await {
                Ok(stored) => drop(self.stored.insert(one.at, stored.seq)),
                Err(why) => verdicts[one.at] = Some(Verdict::Retry { after: AGAIN, why }),
            }
        }
    }
}

impl Orders {
    /// Verdicts of a batch, as far as there are any, and why there are no others.
    async fn attempt(&self, batch: &[Raw]) -> (Vec<Option<Verdict>>, Option<Error>) {
        let mut verdicts: Vec<Option<Verdict>> = Vec::with_capacity(batch.len());
        let mut events = Vec::with_capacity(batch.len());
        for raw in batch {
            match self.read(raw) {
                Ok(event) => {
                    events.push(Some(event));
                    verdicts.push(None);
                }
                Err(why) => {
                    events.push(None);
                    verdicts.push(Some(Verdict::Reject { why }));
                }
            }
        }
        let trouble = self.work(batch, &events, &mut verdicts).await.err();
        (verdicts, trouble)
    }
}

impl Handler for Orders {
    type Given = Raw;

    async fn handle(&self, batch: &[Raw]) -> Vec<Verdict> {
        // What has come from outside waits, as clients do: the rest of the log is for what follows from it.
        if let Err(full) = self.publisher.has_room() {
            return batch.iter().map(|_| Verdict::Retry { after: AGAIN, why: full.echo() }).collect();
        }
        let (mut verdicts, mut trouble) = self.attempt(batch).await;
        // One event that cannot be written must not take the others with it.
        if let Some(why) = trouble.as_ref().filter(|why| !why.transient() && batch.len() > 1) {
            tracing::warn!(error = %why, events = batch.len(), "a batch was refused, working one by one");
            for (raw, verdict) in batch.iter().zip(&mut verdicts).filter(|(_, verdict)| verdict.is_none()) {
                let (mut alone, why) = self.attempt(std::slice::from_ref(raw)).await;
                *verdict = alone.pop().flatten().or_else(|| Some(Verdict::Retry { after: AGAIN, why: why? }));
            }
            trouble = None;
        }
        let why = trouble.unwrap_or_else(|| Error::internal("an order event was left without a verdict"));
        let later = || Verdict::Retry { after: AGAIN, why: why.echo() };
        verdicts.into_iter().map(|verdict| verdict.unwrap_or_else(later)).collect()
    }
}
