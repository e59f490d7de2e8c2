//! Drill: some sockets stop reading.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::actor::Pace;
use super::canary::Canary;
use super::checker::violation;
use super::cluster::{Cluster, Shape};
use super::drill::Drill;
use super::load::Load;
use super::observer::Observer;
use super::vitals::{self, Vitals};
use super::wire::{Frame, Wire};
use crate::support::client::Rest;

/// Characters of each message: a burst of them is soon more than a socket may have waiting.
const TEXT: usize = 7_000;
/// Bytes that an instance and the kernel may hold for one socket. Who is further behind has overflowed.
const WAITING: usize = 4 << 20;
/// A socket that has overflowed is closed within this time.
const CLOSED: Duration = Duration::from_secs(10);
/// What slow readers may cost an instance.
const MEMORY: u64 = 256 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn readers_who_stop_reading_are_sent_away_and_harm_nobody() {
    let mut drill = Drill::begin("slow reader", "50 of 500 sockets stop reading").await;
    let cluster = Cluster::start("slow-reader", Shape { instances: 1, ..Shape::default() }).await;
    let mut load = Load::listen(&cluster, drill.seed).await;
    let canary = Canary::hatch(&cluster).await;
    load.others.extend(canary.people());
    let before = Vitals::of(&cluster).await;
    let (all, slow): (usize, usize) = drill.pick((100, 10), (500, 50));
    for number in load.observers.len()..all - slow {
        let person = load.people[number % load.people.len()].clone();
        load.observe(&person);
    }
    load.joined().await;
    let mut sleepers = Vec::new();
    for number in 0..slow {
        let person = load.people[number % load.people.len()].clone();
        let observer = Observer::new(&format!("sleeper {number}"), &person);
        let mut wire = Wire::open_narrow(cluster.instances[0].address, &person.token, None).await.expect("a socket");
        observer.opened();
        while !observer.is_live() {
            let Ok(Frame::Event(event, data)) = wire.next().await else { panic!("the server says what it has to say") };
            observer.take(event, &data);
        }
        // And reads no more.
        sleepers.push((person, observer, wire));
    }

    let (rest, pid) = (cluster.instances[0].rest(), cluster.instances[0].pid());
    let quiet = vitals::resident(pid);
    let mut peak = quiet;
    load.talk_together(Pace { think: 10, text: TEXT, ..Pace::default() });
    let enough = WAITING / TEXT;
    let (mut behind, mut violations) = (None, Vec::new());
    let begin = Instant::now();
    loop {
        peak = peak.max(vitals::resident(pid));
        if sent_away(&rest).await >= slow {
            break;
        }
        if load.deeds.acked() > enough {
            let behind = behind.get_or_insert_with(Instant::now);
            if behind.elapsed() > CLOSED {
                let what = format!("{} of {slow} sockets were closed with resync", sent_away(&rest).await);
                violations.push(violation("slow reader", what));
                break;
            }
        }
        assert!(begin.elapsed() < Duration::from_mins(5), "the burst comes to an end");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    drill.note(format!(
        "{slow} sent away after {:.1} s and {} messages; memory grew by {} MiB",
        begin.elapsed().as_secs_f64(),
        load.deeds.acked(),
        peak.saturating_sub(quiet) >> 20
    ));
    if peak.saturating_sub(quiet) > MEMORY {
        violations.push(violation("memory", format!("{} MiB for slow readers", peak.saturating_sub(quiet) >> 20)));
    }
    load.hush().await;
    if load.observers.iter().any(|observer| observer.sockets() > 1) {
        violations.push(violation("slow reader", "somebody who did read was sent away".into()));
    }

    // They wake up, read what is left on the line, and come back from there.
    let woken = Instant::now();
    let mut codes = BTreeMap::<u16, usize>::new();
    for (person, observer, mut wire) in sleepers {
        loop {
            match tokio::time::timeout(CLOSED, wire.next()).await {
                Ok(Ok(Frame::Event(event, data))) => observer.take(event, &data),
                Ok(Ok(Frame::Answer(..))) => {}
                Ok(Err(code)) => {
                    if ![0, 4409].contains(&code) {
                        violations.push(violation("slow reader", format!("a socket was closed with {code}")));
                    }
                    *codes.entry(code).or_default() += 1;
                    observer.ended(code);
                    break;
                }
                Err(_) => {
                    violations.push(violation("slow reader", "a socket was not closed".into()));
                    observer.ended(0);
                    break;
                }
            }
        }
        load.resume(&person, observer);
    }
    load.joined().await;
    drill.recovered(woken.elapsed());
    drill.note(format!("their sockets ended with {codes:?}; 0 is a cut connection"));
    canary.sings(&cluster, Duration::from_secs(15), &mut drill).await;
    let (record, late) = load.end(&cluster).await;
    violations.extend(late);
    violations.extend(before.compare(&cluster, &mut drill).await);
    drill.end(&record, violations);
}

/// Sockets that the instance has closed for being too slow.
async fn sent_away(rest: &Rest) -> usize {
    let response = rest.request(reqwest::Method::GET, "/metrics").send().await.expect("metrics");
    let text = response.text().await.expect("metrics are text");
    let counted = text.lines().find(|line| line.starts_with(r#"shoptalk_sockets_closed_total{reason="resync"}"#));
    counted.and_then(|line| line.split_whitespace().last()?.parse::<f64>().ok()).map_or(0, |count| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
        let count = count as usize;
        count
    })
}
