//! Drill: the log is full.

use std::time::{Duration, Instant};

use super::actor::Pace;
use super::canary::Canary;
use super::checker::violation;
use super::cluster::{Cluster, Shape};
use super::drill::{Drill, within};
use super::evidence;
use super::load::Load;
use super::vitals::Vitals;

/// The smallest log that can be configured.
const TINY: i64 = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_log_refuses_clearly_and_goes_on_when_there_is_room() {
    let mut drill = Drill::begin("stream full", "EVENTS of 1 MiB").await;
    let settings = vec![("EVENTS_MAX_BYTES", TINY.to_string())];
    let cluster = Cluster::start("stream-full", Shape { instances: 2, settings, ..Shape::default() }).await;
    let mut load = Load::listen(&cluster, drill.seed).await;
    let canary = Canary::hatch(&cluster).await;
    load.others.extend(canary.people());
    let before = Vitals::of(&cluster).await;
    let mut violations = Vec::new();
    let mut limit = TINY;
    for _ in 0..drill.pick(1, 4) {
        // Some give up, and must not be heard; the others must, once there is room.
        load.talk(Pace { think: 20, give_up: 50, text: 4_000 });
        let acked = load.deeds.acked();
        let full = || async { load.deeds.refusals().len() };
        let known = load.deeds.refusals().len();
        within(Duration::from_mins(1), "sends being refused", full, |count| *count > known + 10).await;
        for instance in &cluster.instances {
            assert_eq!(instance.rest().get("/healthz", None).await.0, 200, "it is alive all the same");
        }
        drill.note(format!("full after {} messages", load.deeds.acked() - acked));
        // Whoever looks after the log makes room; no instance is touched.
        limit += 2 * TINY;
        let log = evidence::broker(cluster.tenant()).await;
        let mut config = log.get_stream("EVENTS").await.expect("the log").cached_info().config.clone();
        config.max_bytes = limit;
        log.update_stream(config).await.expect("more room");
        let room = Instant::now();
        load.hush().await;
        canary.sings(&cluster, Duration::from_secs(15), &mut drill).await;
        drill.recovered(room.elapsed());
    }
    for (reason, retryable) in load.deeds.refusals() {
        if !retryable || !["log_full", "rate_limited", "busy"].contains(&reason.as_str()) {
            violations.push(violation("refusal", format!("{reason}, retryable: {retryable}")));
        }
    }
    if !load.deeds.refusals().iter().any(|(reason, _)| reason == "log_full") {
        violations.push(violation("refusal", "nobody was told that the log is full".into()));
    }
    let (record, late) = load.end(&cluster).await;
    violations.extend(late);
    violations.extend(before.compare(&cluster, &mut drill).await);
    drill.end(&record, violations);
}
