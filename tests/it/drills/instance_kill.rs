//! Drill: an instance is killed in the middle of a burst.

use std::time::{Duration, Instant};

use super::actor::Pace;
use super::canary::Canary;
use super::cluster::{Cluster, Shape};
use super::drill::Drill;
use super::load::Load;
use super::vitals::Vitals;
use super::wire::Wire;

/// One and a half leases of an instance.
const NOTICED: Duration = Duration::from_millis(22_500);

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_killed_in_mid_burst_loses_nothing() {
    let mut drill = Drill::begin("instance kill", "kill -9 one of two mid-burst").await;
    let mut cluster = Cluster::start("instance-kill", Shape { instances: 2, ..Shape::default() }).await;
    let mut load = Load::listen(&cluster, drill.seed).await;
    let canary = Canary::hatch(&cluster).await;
    load.others.extend(canary.people());
    let before = Vitals::of(&cluster).await;
    load.talk(Pace::default());
    let mut violations = Vec::new();
    for _ in 0..drill.pick(1, 5) {
        load.acked(drill.pick(300, 2_000), Duration::from_mins(2)).await;
        // Somebody whose only socket dies with the instance, and somebody who has to be told.
        let [ghost, watcher, _] = canary.people();
        let presence_of_ghost = |status: &'static str| {
            let ghost = ghost.id.clone();
            move |name: &str, data: &serde_json::Value| {
                name == "presence" && data["userId"] == *ghost && data["status"] == status
            }
        };
        let survivor = cluster.instances[1].address;
        let mut watching = Wire::open(survivor, &watcher.token, None).await.expect("a socket");
        watching.event(NOTICED, |name, _| name == "presenceSnapshot").await.expect("who is there already");
        let _ghost = Wire::open(cluster.instances[0].address, &ghost.token, None).await.expect("a socket");
        watching.event(NOTICED, presence_of_ghost("online")).await.expect("the ghost comes online");

        let killed = Instant::now();
        let address = cluster.kill(0).await;
        load.acked(50, Duration::from_mins(1)).await;
        load.joined().await;
        drill.recovered(killed.elapsed());
        let left = watching.event(NOTICED.saturating_sub(killed.elapsed()), presence_of_ghost("offline")).await;
        if left.is_none() {
            let what = format!("somebody of a killed instance was still online after {:?}", killed.elapsed());
            violations.push(super::checker::violation("presence", what));
        }
        drill.note(format!("presence was right after {:.1} s", killed.elapsed().as_secs_f64()));
        cluster.forget(address);
        cluster.add().await;
        load.acked(drill.pick(100, 1_000), Duration::from_mins(1)).await;
    }
    canary.sings(&cluster, Duration::from_secs(15), &mut drill).await;
    let (record, late) = load.end(&cluster).await;
    violations.extend(late);
    violations.extend(before.compare(&cluster, &mut drill).await);
    drill.end(&record, violations);
}
