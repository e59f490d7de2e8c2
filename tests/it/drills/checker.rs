//! The rules that hold whatever was killed. Pure: a record in, violations out; `checker_tests` shows that each can fail.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::record::{Kept, Logged, LoggedBody, Observed, Outcome, Record};

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub rule: &'static str,
    pub what: String,
}

pub fn violation(rule: &'static str, what: String) -> Violation {
    Violation { rule, what }
}

/// Every rule.
pub fn check(record: &Record) -> Vec<Violation> {
    let mut found = Vec::new();
    let log = Log::of(&record.log);
    sends(record, &log, &mut found);
    kept("MongoDB", &record.messages, &log, &mut found);
    kept("the API", &record.histories, &log, &mut found);
    histories(&record.histories, &mut found);
    notifications(record, &log, &mut found);
    for observer in &record.observers {
        observed(observer, &record.log, &mut found);
    }
    reads(record, &mut found);
    found
}

/// The messages and notifications of the log; a message that it has twice counts by its first place.
struct Log<'a> {
    messages: HashMap<&'a str, &'a Logged>,
    by_client: HashMap<(&'a str, &'a str, &'a str), &'a str>,
    notifications: HashMap<(&'a str, &'a str), Vec<&'a str>>,
}

impl<'a> Log<'a> {
    fn of(events: &'a [Logged]) -> Self {
        let mut log = Self { messages: HashMap::new(), by_client: HashMap::new(), notifications: HashMap::new() };
        for event in events {
            match &event.body {
                LoggedBody::Message { conversation, sender, client_message_id } => {
                    let first = log.messages.entry(&event.id).or_insert(event);
                    if event.seq < first.seq {
                        *first = event;
                    }
                    if let Some(client) = client_message_id {
                        log.by_client.insert((conversation, sender, client), &event.id);
                    }
                }
                LoggedBody::Notification { user, message } => {
                    log.notifications.entry((message, user)).or_default().push(&event.id);
                }
                LoggedBody::Other => {}
            }
        }
        log
    }
}

/// What was acknowledged is in the log once, in the order of its sender; what was refused is not there.
fn sends(record: &Record, log: &Log<'_>, found: &mut Vec<Violation>) {
    let mut last: HashMap<(&str, &str), u64> = HashMap::new();
    for send in &record.sends {
        let answers: BTreeSet<(&str, u64)> = send
            .attempts
            .iter()
            .filter_map(|outcome| match outcome {
                Outcome::Acked { id, seq } => Some((id.as_str(), *seq)),
                Outcome::Refused { .. } | Outcome::Unknown => None,
            })
            .collect();
        if answers.len() > 1 {
            found.push(violation("doubled", format!("{} was answered as {answers:?}", send.client_message_id)));
        }
        let key = (send.conversation.as_str(), send.sender.as_str(), send.client_message_id.as_str());
        match send.outcome() {
            Outcome::Acked { id, seq } => {
                match log.messages.get(id.as_str()) {
                    None => found.push(violation("lost", format!("{id} (seq {seq}) is not in the log"))),
                    Some(event) if event.seq != seq => {
                        let what = format!("{id} was acknowledged with seq {seq} and has {}", event.seq);
                        found.push(violation("false ack", what));
                    }
                    Some(_) => {}
                }
                let before = last.insert((&send.conversation, &send.sender), seq);
                if before.is_some_and(|before| before >= seq) {
                    found.push(violation("reordered", format!("{id} (seq {seq}) was sent after seq {before:?}")));
                }
            }
            Outcome::Refused { reason, .. } => {
                if let Some(id) = log.by_client.get(&key) {
                    found.push(violation("false refusal", format!("{id} is stored; its sender was told {reason}")));
                }
            }
            Outcome::Unknown => {}
        }
    }
}

/// A copy of the messages has each message of the log once, at its place, and nothing else.
fn kept(whose: &str, messages: &[Kept], log: &Log<'_>, found: &mut Vec<Violation>) {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for message in messages {
        *counts.entry(&message.id).or_default() += 1;
        match log.messages.get(message.id.as_str()) {
            None => found.push(violation("resurrected", format!("{} of {whose} is not in the log", message.id))),
            Some(event) if event.seq != message.seq => {
                let what = format!("{} has seq {} in {whose} and {} in the log", message.id, message.seq, event.seq);
                found.push(violation("misplaced", what));
            }
            Some(_) => {}
        }
    }
    for (id, count) in counts.iter().filter(|(_, count)| **count > 1) {
        found.push(violation("doubled", format!("{id} is {count} times in {whose}")));
    }
    for (id, event) in &log.messages {
        if !counts.contains_key(id) {
            found.push(violation("lost", format!("{id} (seq {}) is not in {whose}", event.seq)));
        }
    }
}

/// A history is read in the order of the log.
fn histories(messages: &[Kept], found: &mut Vec<Violation>) {
    let mut last: HashMap<&str, u64> = HashMap::new();
    for message in messages {
        let before = last.insert(&message.conversation, message.seq);
        if before.is_some_and(|before| before > message.seq) {
            found.push(violation("reordered", format!("{} comes after seq {before:?} in a history", message.id)));
        }
    }
}

/// Each recipient but the sender is told of each message once: in the log and in MongoDB.
fn notifications(record: &Record, log: &Log<'_>, found: &mut Vec<Violation>) {
    let mut told: HashMap<(&str, &str), Vec<&str>> = HashMap::new();
    for one in &record.notifications {
        told.entry((&one.message, &one.user)).or_default().push(&one.id);
    }
    let mut due = HashSet::new();
    for (message, event) in &log.messages {
        let LoggedBody::Message { sender, .. } = &event.body else { continue };
        for user in event.recipients.iter().filter(|user| *user != sender) {
            let key = (*message, user.as_str());
            due.insert(key);
            for (whose, ids) in [("the log", log.notifications.get(&key)), ("MongoDB", told.get(&key))] {
                match ids.map_or(0, Vec::len) {
                    0 => found.push(violation("lost", format!("{user} is not told of {message} in {whose}"))),
                    1 => {}
                    count => {
                        // The same notification at two places of the log is one for every reader.
                        let different: HashSet<_> = ids.into_iter().flatten().collect();
                        if different.len() > 1 || whose == "MongoDB" {
                            let what = format!("{user} is told of {message} {count} times in {whose}");
                            found.push(violation("doubled", what));
                        }
                    }
                }
            }
        }
    }
    for key in told.keys().chain(log.notifications.keys()).filter(|key| !due.contains(*key)) {
        found.push(violation("resurrected", format!("{} is told of {}, which is not in the log", key.1, key.0)));
    }
}

/// A subscriber has every event that names it, once, nothing else, and in order.
fn observed(observer: &Observed, log: &[Logged], found: &mut Vec<Violation>) {
    let name = &observer.name;
    let mut due: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    let mut known = HashSet::new();
    for event in log.iter().filter(|event| event.recipients.contains(&observer.user)) {
        // What was there before it came may come again, with a resend.
        let key = (event.kind.as_str(), event.id.as_str());
        if event.seq > observer.start && !known.contains(&key) {
            due.entry(key).or_insert(event.seq);
        }
        known.insert(key);
    }
    let mut had = HashSet::new();
    let mut last: HashMap<Option<&str>, u64> = HashMap::new();
    for seen in &observer.seen {
        let key = (seen.event.as_str(), seen.id.as_str());
        if !known.contains(&key) {
            found.push(violation("resurrected", format!("{name} was told {seen:?}, which is not for it")));
        }
        if !had.insert(key) {
            found.push(violation("doubled", format!("{name} took {seen:?} twice")));
        }
        let before = last.insert(seen.conversation.as_deref(), seen.seq);
        if before.is_some_and(|before| before >= seen.seq) {
            found.push(violation("reordered", format!("{name} was told {seen:?} after seq {before:?}")));
        }
    }
    for (key, seq) in due.iter().filter(|(key, _)| !had.contains(*key)) {
        found.push(violation("gap", format!("{name} was never told of {} {} (seq {seq})", key.0, key.1)));
    }
    for reason in &observer.reloads {
        found.push(violation("not resumed", format!("{name} came back and was told {reason}")));
    }
}

/// Who has an ack finds the message; nothing breaks but in the ways that are promised.
fn reads(record: &Record, found: &mut Vec<Violation>) {
    for read in &record.reads {
        if let Some(id) = &read.missed {
            found.push(violation("stale", format!("{id} was acknowledged and then not in the history")));
        }
        if read.status >= 500 && read.status != 503 {
            found.push(violation("broken", format!("a reading was answered {} {}", read.status, read.reason)));
        }
    }
}
