//! Drill: the link between one instance and the broker goes dead without being closed.

use std::time::{Duration, Instant};

use super::actor::Pace;
use super::canary::Canary;
use super::cluster::{Cluster, Shape};
use super::drill::{Drill, within};
use super::load::Load;
use super::vitals::Vitals;
use super::wire::Wire;
use crate::support::proxy::Proxy;

/// A stalled link is noticed, and a healed one, within this time.
const NOTICED: Duration = Duration::from_secs(30);
/// Sockets are sent away this soon after the instance has noticed.
const SHED: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_with_a_dead_link_sends_its_sockets_away_and_comes_back() {
    let mut drill = Drill::begin("half-open link", "a proxy stalls one broker link for 30 s").await;
    let mut cluster = Cluster::start("half-open", Shape { instances: 1, ..Shape::default() }).await;
    let link = Proxy::to(&cluster.tenant().nats_url).await;
    let victim = cluster.add_with(&[("NATS_URL", link.url())]).await.address;
    let mut load = Load::listen(&cluster, drill.seed).await;
    let canary = Canary::hatch(&cluster).await;
    load.others.extend(canary.people());
    canary.sings(&cluster, Duration::from_secs(15), &mut drill).await;
    let before = Vitals::of(&cluster).await;
    load.talk(Pace::default());
    for _ in 0..drill.pick(1, 3) {
        load.acked(150, Duration::from_mins(1)).await;
        let mut probe = Wire::open(victim, &canary.people()[0].token, None).await.expect("a socket");
        link.stall();
        let stalled = Instant::now();
        let rest = cluster.instances[1].rest();
        let ready = || async { rest.get("/readyz", None).await.0 };
        within(NOTICED, "the instance being unready", ready, |status| *status == 503).await;
        let unready = stalled.elapsed();
        // Whoever balances the load sends nobody there any more.
        cluster.forget(victim);
        let shed = async { while probe.next().await.is_ok() {} };
        tokio::time::timeout(SHED, shed).await.expect("its sockets are sent away");
        drill.note(format!(
            "unready after {:.1} s, sockets sent away after {:.1} s",
            unready.as_secs_f64(),
            stalled.elapsed().as_secs_f64()
        ));
        load.acked(50, Duration::from_mins(1)).await;
        tokio::time::sleep(Duration::from_secs(drill.pick(8, 30)).saturating_sub(stalled.elapsed())).await;
        link.heal();
        let healed = Instant::now();
        within(NOTICED, "the instance being ready again", ready, |status| *status == 200).await;
        cluster.fleet.add(victim);
        canary.sings(&cluster, Duration::from_secs(30), &mut drill).await;
        drill.recovered(healed.elapsed());
    }
    load.acked(100, Duration::from_mins(1)).await;
    let (record, mut violations) = load.end(&cluster).await;
    violations.extend(before.compare(&cluster, &mut drill).await);
    drill.end(&record, violations);
}
