//! A subscriber that stays or comes back: a socket at any living instance, and after its end another one, from the cursor.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;
use shoptalk::domain::cursor::Cursor;
use tokio_util::sync::CancellationToken;

use super::cluster::Fleet;
use super::record::{Observed, Seen};
use super::wire::{Frame, Wire};
use crate::support::client::Person;

/// A client that is told nothing at all for this long takes its socket for dead. Longer than two heartbeats.
const DEAF: Duration = Duration::from_mins(1);

/// What an observer has seen so far; the task that observes goes on writing.
#[derive(Clone, Default)]
pub struct Observer(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    observed: Observed,
    cursor: Option<String>,
    /// Replay is over and what comes now is live.
    live: bool,
    had: std::collections::HashSet<(String, String)>,
}

impl Observer {
    pub fn new(name: &str, person: &Person) -> Self {
        let observer = Self::default();
        observer.state().observed = Observed { name: name.into(), user: person.id.clone(), ..Observed::default() };
        observer
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it has a socket on which everything older has come.
    pub fn is_live(&self) -> bool {
        self.state().live
    }

    /// The seq of the last event it was told.
    pub fn last(&self) -> u64 {
        self.state().observed.seen.last().map_or(0, |seen| seen.seq)
    }

    pub fn has(&self, event: &str, id: &str) -> bool {
        self.state().had.contains(&(event.to_owned(), id.to_owned()))
    }

    pub fn sockets(&self) -> usize {
        self.state().observed.sockets
    }

    pub fn observed(&self) -> Observed {
        self.state().observed.clone()
    }

    pub fn cursor(&self) -> Option<String> {
        self.state().cursor.clone()
    }

    /// A socket is open.
    pub fn opened(&self) {
        self.state().observed.sockets += 1;
    }

    /// A socket has ended.
    pub fn ended(&self, code: u16) {
        let mut state = self.state();
        state.live = false;
        state.observed.ends.push(code);
    }

    /// Takes in what the server said.
    pub fn take(&self, event: String, data: &Value) {
        let mut state = self.state();
        let cursor = data["cursor"].as_str().map(str::to_owned);
        match event.as_str() {
            "synced" => state.synced(data),
            "heartbeat" => {}
            _ => {
                let (Some(seq), Some(id)) = (data["seq"].as_u64(), data["id"].as_str()) else { return };
                let id = if event == "conversation" { format!("{id}@{seq}") } else { id.to_owned() };
                if state.had.insert((event.clone(), id.clone())) {
                    let conversation = data["conversationId"].as_str().map(str::to_owned);
                    state.observed.seen.push(Seen { event, id, seq, conversation });
                } else {
                    state.observed.again += 1;
                }
            }
        }
        if cursor.is_some() {
            state.cursor = cursor;
        }
    }

    /// Keeps a socket open until told to stop, and remembers everything that is said.
    pub async fn run(self, person: Person, fleet: Fleet, seed: u64, stop: CancellationToken) {
        let mut random = StdRng::seed_from_u64(seed);
        let mut failures = 0;
        while !stop.is_cancelled() {
            let Some(address) = fleet.any(&mut random) else { return };
            let cursor = self.cursor();
            let opening = Wire::open(address, &person.token, cursor.as_deref());
            match opening.await {
                Ok(wire) => {
                    failures = 0;
                    self.opened();
                    let code = self.listen(wire, &stop).await;
                    if stop.is_cancelled() {
                        return;
                    }
                    self.ended(code);
                }
                Err(_) => failures += 1,
            }
            tokio::select! {
                () = tokio::time::sleep(backoff(failures, &mut random)) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    async fn listen(&self, mut wire: Wire, stop: &CancellationToken) -> u16 {
        loop {
            let next = tokio::select! {
                next = tokio::time::timeout(DEAF, wire.next()) => next,
                () = stop.cancelled() => {
                    wire.close().await;
                    return 1000;
                }
            };
            match next {
                Ok(Ok(Frame::Event(event, data))) => self.take(event, &data),
                Ok(Ok(Frame::Answer(..))) => {}
                Ok(Err(code)) => return code,
                Err(_) => return 0,
            }
        }
    }
}

impl State {
    /// The end of a replay, or the beginning of everything.
    fn synced(&mut self, data: &Value) {
        self.live = true;
        let reason = data["reason"].as_str().unwrap_or("no reason");
        if self.cursor.is_none() {
            let cursor = data["cursor"].as_str().expect("a cursor to begin with");
            self.observed.start = cursor.parse::<Cursor>().expect("a cursor of this server").seq;
        } else if data["recovered"] == true {
            self.observed.resumes += 1;
        } else {
            self.observed.reloads.push(reason.to_owned());
        }
    }
}

/// From 50 ms, doubling, up to 2 s; half of it random.
pub fn backoff(failures: u32, random: &mut StdRng) -> Duration {
    let longest = 50 << failures.min(6);
    Duration::from_millis(random.random_range(longest / 2..=longest.min(2_000)))
}
