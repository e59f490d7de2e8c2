//! Fabricated histories: a good one passes, and each way of being bad is found.

use super::checker::{Violation, check};
use super::record::{Kept, Logged, LoggedBody, Observed, Outcome, Read, Record, Seen, Send, Told};

fn message(seq: u64) -> Logged {
    Logged {
        seq,
        kind: "message".into(),
        id: format!("m{seq}"),
        recipients: vec!["ana".into(), "ben".into()],
        body: LoggedBody::Message {
            conversation: "c".into(),
            sender: "ana".into(),
            client_message_id: Some(format!("k{seq}")),
        },
    }
}

fn notification(seq: u64, of: u64) -> Logged {
    Logged {
        seq,
        kind: "notification".into(),
        id: format!("n{of}"),
        recipients: vec!["ben".into()],
        body: LoggedBody::Notification { user: "ben".into(), message: format!("m{of}") },
    }
}

fn kept(seq: u64) -> Kept {
    Kept { id: format!("m{seq}"), conversation: "c".into(), seq }
}

fn seen(event: &Logged) -> Seen {
    let conversation = (event.kind == "message").then(|| "c".to_owned());
    Seen { event: event.kind.clone(), id: event.id.clone(), seq: event.seq, conversation }
}

fn acked(seq: u64) -> Send {
    let attempts = vec![Outcome::Unknown, Outcome::Acked { id: format!("m{seq}"), seq }];
    Send { client_message_id: format!("k{seq}"), conversation: "c".into(), sender: "ana".into(), attempts }
}

/// Three messages, their notifications, and Ben, who was told everything.
fn good() -> Record {
    let log = vec![message(1), message(2), notification(3, 1), message(4), notification(5, 2), notification(6, 4)];
    let told = |of: u64| Told { id: format!("n{of}"), user: "ben".into(), message: format!("m{of}") };
    Record {
        sends: vec![acked(1), acked(2), acked(4)],
        reads: vec![Read { status: 200, reason: String::new(), missed: None }],
        observers: vec![Observed {
            name: "ben's".into(),
            user: "ben".into(),
            seen: log.iter().map(seen).collect(),
            ..Observed::default()
        }],
        log,
        messages: vec![kept(1), kept(2), kept(4)],
        notifications: vec![told(1), told(2), told(4)],
        histories: vec![kept(1), kept(2), kept(4)],
    }
}

/// The rules that a damaged record breaks.
fn rules(damage: impl Fn(&mut Record)) -> Vec<&'static str> {
    let mut record = good();
    damage(&mut record);
    let mut rules: Vec<_> = check(&record).into_iter().map(|Violation { rule, .. }| rule).collect();
    rules.sort_unstable();
    rules.dedup();
    rules
}

#[test]
fn a_good_history_passes() {
    assert_eq!(check(&good()), []);
}

#[test]
fn what_is_lost_is_found_wherever_it_is_missing() {
    assert_eq!(rules(|record| drop(record.messages.remove(1))), ["lost"], "MongoDB");
    assert_eq!(rules(|record| drop(record.histories.pop())), ["lost"], "the API");
    assert_eq!(rules(|record| drop(record.notifications.pop())), ["lost"], "a notification");
    assert_eq!(rules(|record| record.sends.push(acked(9))), ["lost"], "an ack for nothing");
    assert_eq!(rules(|record| record.observers[0].seen.retain(|seen| seen.seq != 2)), ["gap"], "a push");
    assert_eq!(rules(|record| drop(record.observers[0].seen.pop())), ["gap"], "the last push");
}

#[test]
fn what_is_doubled_is_found() {
    assert_eq!(rules(|record| record.messages.push(kept(2))), ["doubled"], "in MongoDB");
    assert_eq!(rules(|record| record.histories.push(kept(4))), ["doubled"], "in a history");
    assert_eq!(rules(|record| record.notifications.push(record.notifications[0].clone())), ["doubled"]);
    let resend = |record: &mut Record| record.sends[0].attempts.push(Outcome::Acked { id: "m2".into(), seq: 2 });
    assert_eq!(rules(resend), ["doubled"], "a resend with another answer");
    let other = |record: &mut Record| {
        record.log.push(Logged { id: "n1b".into(), ..notification(7, 1) });
        record.observers[0].seen.push(seen(&record.log[6]));
    };
    assert_eq!(rules(other), ["doubled"], "two notifications of one message");
    let twice = |record: &mut Record| {
        let again = record.observers[0].seen[5].clone();
        record.observers[0].seen.push(again);
    };
    assert_eq!(rules(twice), ["doubled", "reordered"], "a push taken twice");
}

#[test]
fn a_message_that_the_log_has_twice_is_one_message_at_its_first_place() {
    let resent = |record: &mut Record| record.log.push(Logged { seq: 7, ..message(2) });
    assert_eq!(rules(resent), [""; 0]);
    let moved = |record: &mut Record| {
        resent(record);
        record.messages[1].seq = 7;
    };
    assert_eq!(rules(moved), ["misplaced"]);
}

#[test]
fn what_is_reordered_is_found() {
    assert_eq!(rules(|record| record.observers[0].seen.swap(0, 1)), ["reordered"], "on a socket");
    assert_eq!(rules(|record| record.histories.swap(0, 1)), ["reordered"], "in a history");
    assert_eq!(rules(|record| record.sends.swap(0, 1)), ["reordered"], "of one sender");
    let apart = |record: &mut Record| record.observers[0].seen.swap(1, 2);
    assert_eq!(rules(apart), [""; 0], "order is promised per conversation");
}

#[test]
fn what_is_resurrected_is_found() {
    assert_eq!(rules(|record| record.messages.push(kept(3))), ["resurrected"], "in MongoDB");
    let stranger = Seen { event: "message".into(), id: "m9".into(), seq: 9, conversation: None };
    assert_eq!(rules(|record| record.observers[0].seen.push(stranger.clone())), ["resurrected"], "on a socket");
    let phantom = Told { id: "n9".into(), user: "ben".into(), message: "m9".into() };
    assert_eq!(rules(|record| record.notifications.push(phantom.clone())), ["resurrected"], "a notification");
}

#[test]
fn false_answers_are_found() {
    let refused = Outcome::Refused { reason: "busy".into(), retryable: true };
    assert_eq!(rules(|record| record.sends[0].attempts = vec![refused.clone()]), ["false refusal"]);
    assert_eq!(rules(|record| record.sends[0].attempts.push(refused.clone())), [""; 0], "the ack stands");
    let unknown = |record: &mut Record| record.sends[0].attempts = vec![Outcome::Unknown, refused.clone()];
    assert_eq!(rules(unknown), [""; 0], "a later refusal says nothing of the first attempt");
    let wrong = Outcome::Acked { id: "m1".into(), seq: 2 };
    assert_eq!(rules(|record| record.sends[0].attempts = vec![wrong.clone()]), ["false ack", "reordered"]);
}

#[test]
fn a_reload_a_stale_read_and_a_breakdown_are_found() {
    assert_eq!(rules(|record| record.observers[0].reloads.push("too_old".into())), ["not resumed"]);
    assert_eq!(rules(|record| record.reads[0].missed = Some("m1".into())), ["stale"]);
    assert_eq!(rules(|record| record.reads[0].status = 500), ["broken"]);
    assert_eq!(rules(|record| record.reads[0].status = 503), [""; 0], "that one is planned");
}
