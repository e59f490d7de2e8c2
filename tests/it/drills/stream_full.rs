//! Drill: the log is full, because the database that it waits for is away.

use std::time::{Duration, Instant};

use super::actor::Pace;
use super::canary::Canary;
use super::checker::violation;
use super::cluster::{Cluster, Shape};
use super::drill::{Drill, within};
use super::evidence::Follower;
use super::load::Load;
use super::vitals::Vitals;

/// The smallest log that can be configured.
const TINY: u64 = 1 << 20;
/// What a client may be told meanwhile; the log is full, or the client is too quick.
const REASONS: [&str; 3] = ["log_full", "rate_limited", "busy"];

#[tokio::test(flavor = "multi_thread")]
async fn a_full_log_refuses_clearly_and_goes_on_when_there_is_room() {
    let mut drill = Drill::begin("stream full", "EVENTS of 1 MiB, and nobody to project it").await;
    let settings = vec![("EVENTS_MAX_BYTES", TINY.to_string())];
    let cluster = Cluster::start("stream-full", Shape { instances: 2, settings, ..Shape::default() }).await;
    // What is projected is trimmed away, so whoever wants to know it all has to read along.
    let follower = Follower::start(cluster.tenant());
    let mut load = Load::listen(&cluster, drill.seed).await;
    let canary = Canary::hatch(&cluster).await;
    load.others.extend(canary.people());
    let before = Vitals::of(&cluster).await;
    let mut violations = Vec::new();
    for _ in 0..drill.pick(1, 4) {
        let (acked, refused) = (load.deeds.acked(), load.deeds.refusals().len());
        cluster.freeze_database().await;
        // Some give up, and must not be heard; the others must, once there is room.
        load.talk(Pace { think: 20, give_up: 50, text: 4_000 });
        let refusals = || async { load.deeds.refusals().len() };
        within(Duration::from_mins(1), "sends being refused", refusals, |count| *count > refused + 10).await;
        for instance in &cluster.instances {
            assert_eq!(instance.rest().get("/healthz", None).await.0, 200, "it is alive all the same");
        }
        drill.note(format!("full after {} messages", load.deeds.acked() - acked));
        // The backlog is projected, the log is trimmed, and nobody has to do anything.
        cluster.thaw_database();
        let room = Instant::now();
        let acked = load.deeds.acked();
        let more = || async { load.deeds.acked() };
        within(Duration::from_mins(1), "sends being stored again", more, |now| *now > acked + 10).await;
        drill.recovered(room.elapsed());
        load.hush().await;
        canary.sings(&cluster, Duration::from_secs(15), &mut drill).await;
    }
    let refusals = load.deeds.refusals();
    for (reason, retryable) in &refusals {
        if !retryable || !REASONS.contains(&reason.as_str()) {
            violations.push(violation("refusal", format!("{reason}, retryable: {retryable}")));
        }
    }
    if !refusals.iter().any(|(reason, _)| reason == "log_full") {
        violations.push(violation("refusal", "nobody was told that the log is full".into()));
    }
    let (mut record, late) = load.end(&cluster).await;
    record.log = follower.end().await;
    violations.extend(late);
    violations.extend(before.compare(&cluster, &mut drill).await);
    drill.end(&record, violations);
}
