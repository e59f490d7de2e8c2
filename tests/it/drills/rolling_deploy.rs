//! Drill: every instance is replaced in turn, under load, twice.

use std::time::{Duration, Instant};

use super::actor::Pace;
use super::canary::Canary;
use super::checker::violation;
use super::cluster::{Cluster, Shape};
use super::drill::Drill;
use super::load::Load;
use super::vitals::Vitals;

/// Time that an instance has to finish what it has in hand.
const DEADLINE: Duration = Duration::from_secs(10);
/// To notice the signal, and to end.
const SLACK: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread")]
async fn a_deploy_under_load_loses_nothing() {
    let mut drill = Drill::begin("rolling deploy", "SIGTERM instances in turn, twice").await;
    let settings = vec![("SHUTDOWN_SECONDS", DEADLINE.as_secs().to_string())];
    let mut cluster = Cluster::start("rolling-deploy", Shape { instances: 2, settings, ..Shape::default() }).await;
    let mut load = Load::listen(&cluster, drill.seed).await;
    let canary = Canary::hatch(&cluster).await;
    load.others.extend(canary.people());
    let before = Vitals::of(&cluster).await;
    load.talk(Pace::default());
    let mut violations = Vec::new();
    for replacement_first in [true, true, false, false] {
        load.acked(drill.pick(150, 1_000), Duration::from_mins(1)).await;
        if replacement_first {
            cluster.add().await;
        }
        let asked = Instant::now();
        let (took, well) = cluster.retire(0).await;
        if took > DEADLINE + SLACK || !well {
            violations.push(violation("drain", format!("an instance took {took:?} to end, and well: {well}")));
        }
        if !replacement_first {
            cluster.add().await;
        }
        load.joined().await;
        drill.recovered(asked.elapsed());
    }
    load.acked(100, Duration::from_mins(1)).await;
    canary.sings(&cluster, Duration::from_secs(15), &mut drill).await;
    let (record, late) = load.end(&cluster).await;
    violations.extend(late);
    violations.extend(before.compare(&cluster, &mut drill).await);
    drill.end(&record, violations);
}
