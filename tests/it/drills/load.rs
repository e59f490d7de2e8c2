//! Several people in several conversations, all talking, all listening.

use std::ops::Range;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::actor::{Actor, Deeds, Pace};
use super::checker::Violation;
use super::cluster::{Cluster, Fleet};
use super::drill::within;
use super::evidence;
use super::observer::Observer;
use super::record::Record;
use crate::support::client::Person;

/// A socket is open and caught up within this time.
const JOINING: Duration = Duration::from_secs(30);
/// What is in the log has reached MongoDB and every socket within this time after the load.
const SETTLING: Duration = Duration::from_mins(1);

/// Who is in which conversation.
const GROUPS: [&[usize]; 4] = [&[0, 1], &[2, 3], &[3, 4, 5], &[0, 1, 2, 3, 4, 5]];

/// A load that runs.
pub struct Load {
    pub people: Vec<Person>,
    pub conversations: Vec<String>,
    pub deeds: Deeds,
    pub observers: Vec<Observer>,
    /// People who take part otherwise; their histories are checked too.
    pub others: Vec<Person>,
    seed: u64,
    rounds: u64,
    acting: CancellationToken,
    listening: CancellationToken,
    actors: JoinSet<()>,
    listeners: JoinSet<()>,
    fleet: Fleet,
}

impl Load {
    /// Six people: a pair, a pair, a group of three, a group of all; each listens with one socket. Nobody talks yet.
    pub async fn listen(cluster: &Cluster, seed: u64) -> Self {
        let rest = cluster.instances[0].rest();
        let mut people = Vec::new();
        for name in ["Ana", "Ben", "Cleo", "Dan", "Eva", "Filip"] {
            people.push(rest.sign_up(name).await);
        }
        let mut conversations = Vec::new();
        for group in GROUPS {
            let others: Vec<&Person> = group[1..].iter().map(|place| &people[*place]).collect();
            conversations.push(people[group[0]].open(&others).await);
        }
        let mut load = Self {
            people,
            conversations,
            deeds: Deeds::default(),
            observers: Vec::new(),
            others: Vec::new(),
            seed,
            rounds: 0,
            acting: CancellationToken::new(),
            listening: CancellationToken::new(),
            actors: JoinSet::new(),
            listeners: JoinSet::new(),
            fleet: cluster.fleet.clone(),
        };
        for person in load.people.clone() {
            load.observe(&person);
        }
        load.joined().await;
        load
    }

    /// A further listener.
    pub fn observe(&mut self, person: &Person) -> Observer {
        let observer = Observer::new(&format!("listener {}", self.observers.len()), person);
        self.resume(person, observer.clone());
        observer
    }

    /// A listener who was elsewhere and goes on from what it has seen.
    pub fn resume(&mut self, person: &Person, observer: Observer) {
        let number = self.observers.len();
        let seed = self.seed.wrapping_mul(10_000) + number as u64;
        self.listeners.spawn(observer.clone().run(person.clone(), self.fleet.clone(), seed, self.listening.clone()));
        self.observers.push(observer);
    }

    /// Waits until every listener has a socket and has caught up.
    pub async fn joined(&self) {
        let away = || async { self.observers.iter().filter(|observer| !observer.is_live()).count() };
        within(JOINING, "every listener being synced", away, |away| *away == 0).await;
    }

    /// Everybody begins to talk, in all of their conversations.
    pub fn talk(&mut self, pace: Pace) {
        self.talk_in(pace, 0..GROUPS.len());
    }

    /// Everybody begins to talk, in the conversation that all are in.
    pub fn talk_together(&mut self, pace: Pace) {
        self.talk_in(pace, GROUPS.len() - 1..GROUPS.len());
    }

    fn talk_in(&mut self, pace: Pace, places: Range<usize>) {
        self.rounds += 1;
        for (number, person) in self.people.clone().into_iter().enumerate() {
            let talked_in = GROUPS.iter().zip(&self.conversations).take(places.end).skip(places.start);
            let mine = talked_in.filter(|(group, _)| group.contains(&number));
            let conversations = mine.map(|(_, conversation)| conversation.clone()).collect();
            let seed = self.seed.wrapping_mul(10_000) + self.rounds * 100 + number as u64;
            let actor = Actor::new(person, conversations, self.fleet.clone(), self.deeds.clone(), seed, pace);
            self.actors.spawn(actor.run(self.acting.clone()));
        }
    }

    /// Waits until this many more messages are acknowledged.
    pub async fn acked(&self, more: usize, limit: Duration) {
        let until = self.deeds.acked() + more;
        within(limit, "more messages being stored", || async { self.deeds.acked() }, |acked| *acked >= until).await;
    }

    /// Everybody stops talking; what they were saying is brought to an end. Listeners go on.
    pub async fn hush(&mut self) {
        self.acting.cancel();
        while let Some(ended) = self.actors.join_next().await {
            ended.expect("an actor plays to the end");
        }
        self.acting = CancellationToken::new();
    }

    /// Ends the load, waits until everything has arrived everywhere, and collects the evidence. What had not arrived in time
    /// is for the checker to find.
    pub async fn end(mut self, cluster: &Cluster) -> (Record, Vec<Violation>) {
        self.hush().await;
        let mut record = Record { sends: self.deeds.sends(), reads: self.deeds.reads(), ..Record::default() };
        let late = evidence::settled(cluster, &self.observers, SETTLING).await;
        self.listening.cancel();
        while let Some(ended) = self.listeners.join_next().await {
            ended.expect("a listener listens to the end");
        }
        record.observers = self.observers.iter().map(Observer::observed).collect();
        let people: Vec<Person> = self.people.into_iter().chain(self.others).collect();
        evidence::collect(cluster, &people, &mut record).await;
        (record, late)
    }
}
