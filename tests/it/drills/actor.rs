//! Somebody who sends, marks as read and looks things up, one thing after the other, as their seed has planned it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use reqwest::Method;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::cluster::Fleet;
use super::observer::backoff;
use super::record::{Outcome, Read, Send};
use super::wire::Wire;
use crate::support::client::Person;

/// An answer that takes longer will not come.
const ANSWER: Duration = Duration::from_secs(8);
/// After the load has ended, what is under way is still tried this long.
const LAST_TRIES: Duration = Duration::from_secs(45);

/// What all actors have done.
#[derive(Clone, Default)]
pub struct Deeds(Arc<Mutex<Done>>);

#[derive(Default)]
struct Done {
    sends: Vec<Send>,
    reads: Vec<Read>,
    acked: usize,
    refusals: Vec<(String, bool)>,
}

impl Deeds {
    fn state(&self) -> MutexGuard<'_, Done> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A send has come to its end.
    pub fn sent(&self, send: Send) {
        let mut state = self.state();
        state.acked += usize::from(matches!(send.outcome(), Outcome::Acked { .. }));
        state.sends.push(send);
    }

    fn read(&self, read: Read) {
        self.state().reads.push(read);
    }

    fn attempted(&self, outcome: &Outcome) {
        if let Outcome::Refused { reason, retryable } = outcome {
            self.state().refusals.push((reason.clone(), *retryable));
        }
    }

    pub fn sends(&self) -> Vec<Send> {
        self.state().sends.clone()
    }

    pub fn reads(&self) -> Vec<Read> {
        self.state().reads.clone()
    }

    /// Messages that were acknowledged so far.
    pub fn acked(&self) -> usize {
        self.state().acked
    }

    /// Every refusal so far: the reason, and whether it is worth another try.
    pub fn refusals(&self) -> Vec<(String, bool)> {
        self.state().refusals.clone()
    }
}

/// How busy actors are.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Milliseconds between two deeds, about.
    pub think: u64,
    /// Of a hundred sends that do not succeed at once, how many are given up.
    pub give_up: u32,
    /// Characters of a text.
    pub text: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self { think: 60, give_up: 25, text: 40 }
    }
}

/// Somebody who does things.
pub struct Actor {
    pub person: Person,
    pub conversations: Vec<String>,
    fleet: Fleet,
    deeds: Deeds,
    /// What is done; drawn from in the same order whatever happens.
    plan: StdRng,
    /// Where and when it is tried.
    chance: StdRng,
    pace: Pace,
    wire: Option<Wire>,
    sent: u64,
    name: String,
}

impl Actor {
    pub fn new(person: Person, conversations: Vec<String>, fleet: Fleet, deeds: Deeds, seed: u64, pace: Pace) -> Self {
        let (plan, chance) = (StdRng::seed_from_u64(seed), StdRng::seed_from_u64(!seed));
        Self { person, conversations, fleet, deeds, plan, chance, pace, wire: None, sent: 0, name: format!("{seed:x}") }
    }

    /// Goes on until told to stop; what is under way then is brought to an end.
    pub async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            // All is drawn before anything is done, so the plan does not depend on how it goes.
            let (deed, think) = (self.plan.random_range(0..100), self.plan.random_range(0..=self.pace.think * 2));
            let place = self.plan.random_range(0..self.conversations.len());
            let gives_up = self.plan.random_range(0..100) < self.pace.give_up;
            let conversation = self.conversations[place].clone();
            match deed {
                0..10 => self.mark(&conversation).await,
                10..20 => self.look(&conversation, None).await,
                _ => {
                    let acked = self.send(&conversation, gives_up, &stop).await;
                    // Read your writes: at whichever instance.
                    if let (20..35, Some(id)) = (deed, acked) {
                        self.look(&conversation, Some(id)).await;
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(think)).await;
        }
        if let Some(wire) = self.wire.take() {
            wire.close().await;
        }
    }

    /// Sends a message until it is stored, refused for good or given up. Returns its id once it is stored.
    pub async fn send(&mut self, conversation: &str, gives_up: bool, stop: &CancellationToken) -> Option<String> {
        self.sent += 1;
        let client_message_id = format!("{}-{}", self.name, self.sent);
        let text = format!("{client_message_id} {}", "x".repeat(self.pace.text));
        let data = json!({ "conversationId": conversation, "text": text, "clientMessageId": client_message_id });
        let sender = self.person.id.clone();
        let mut send = Send { client_message_id, conversation: conversation.into(), sender, attempts: Vec::new() };
        let mut stopped: Option<Instant> = None;
        let acked = loop {
            let (outcome, pause) = self.attempt(&data).await;
            let acked = if let Outcome::Acked { id, .. } = &outcome { Some(id.clone()) } else { None };
            let over = gives_up || matches!(outcome, Outcome::Refused { retryable: false, .. });
            // A socket that could not be opened is no attempt.
            if pause != Some(Duration::MAX) {
                self.deeds.attempted(&outcome);
                send.attempts.push(outcome);
            }
            if acked.is_some() || (over && !send.attempts.is_empty()) {
                break acked;
            }
            if stop.is_cancelled() && stopped.get_or_insert_with(Instant::now).elapsed() > LAST_TRIES {
                break None;
            }
            let failures = u32::try_from(send.attempts.len()).unwrap_or(u32::MAX);
            let wished = pause.filter(|pause| *pause != Duration::MAX).unwrap_or_default();
            tokio::time::sleep(wished.min(Duration::from_secs(2)) + backoff(failures, &mut self.chance)).await;
        };
        if !send.attempts.is_empty() {
            self.deeds.sent(send);
        }
        acked
    }

    /// One attempt, and how long the server asks to wait; `Duration::MAX` if nothing could be sent at all.
    async fn attempt(&mut self, data: &Value) -> (Outcome, Option<Duration>) {
        let Some(mut wire) = self.socket().await else { return (Outcome::Unknown, Some(Duration::MAX)) };
        let Some(answer) = wire.call("sendMessage", data, ANSWER).await else {
            // The socket broke or is deaf: another one.
            return (Outcome::Unknown, None);
        };
        self.wire = Some(wire);
        judge(&answer)
    }

    async fn socket(&mut self) -> Option<Wire> {
        if let Some(wire) = self.wire.take() {
            return Some(wire);
        }
        let address = self.fleet.any(&mut self.chance)?;
        Wire::open(address, &self.person.token, None).await.ok()
    }

    /// Marks a conversation as read. Whether it worked shows in what everybody is told.
    async fn mark(&mut self, conversation: &str) {
        if let Some(mut wire) = self.socket().await
            && wire.call("markRead", &json!({ "conversationId": conversation }), ANSWER).await.is_some()
        {
            self.wire = Some(wire);
        }
    }

    /// Reads the newest page of a history; an id that was acknowledged must be there.
    async fn look(&mut self, conversation: &str, expected: Option<String>) {
        let Some(address) = self.fleet.any(&mut self.chance) else { return };
        let rest = self.person.at(address).rest;
        let path = format!("/api/messages/{conversation}?limit=200");
        let asked = rest.request(Method::GET, &path).bearer_auth(&self.person.token).timeout(ANSWER).send();
        let Ok(response) = asked.await else { return };
        let status = response.status().as_u16();
        let Ok(page) = response.json::<Value>().await else { return };
        let there = |id: &String| page["items"].as_array().is_some_and(|all| all.iter().any(|one| one["id"] == **id));
        let missed = expected.filter(|id| status == 200 && !there(id));
        let reason = page["reason"].as_str().unwrap_or_default().to_owned();
        self.deeds.read(Read { status, reason, missed });
    }
}

/// What an answer to a send means.
pub fn judge(answer: &Value) -> (Outcome, Option<Duration>) {
    if answer["ok"] == true {
        let id = answer["data"]["id"].as_str().expect("a stored message has an id").to_owned();
        let seq = answer["data"]["seq"].as_u64().expect("a stored message has a seq");
        return (Outcome::Acked { id, seq }, None);
    }
    let error = &answer["error"];
    let reason = error["reason"].as_str().unwrap_or("no reason").to_owned();
    if reason == "outcome_unknown" {
        return (Outcome::Unknown, None);
    }
    let pause = error["retryAfterMs"].as_u64().map(Duration::from_millis);
    (Outcome::Refused { reason, retryable: error["retryable"] == true }, pause)
}
