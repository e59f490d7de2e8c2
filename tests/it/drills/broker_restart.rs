//! Drill: the broker goes away and comes back, politely and not.

use std::time::{Duration, Instant};

use serde_json::json;

use super::actor::{Pace, judge};
use super::canary::Canary;
use super::checker::violation;
use super::cluster::{Cluster, Shape};
use super::drill::{Drill, within};
use super::load::Load;
use super::record::Outcome;
use super::vitals::Vitals;
use super::wire::Wire;

/// Everything works again within this time of the return.
const HEALED: Duration = Duration::from_secs(15);
/// A send is answered within this time, whatever is away.
const FAIL_FAST: Duration = Duration::from_secs(7);

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_comes_back_finds_everything_as_it_was() {
    let mut drill = Drill::begin("broker restart", "SIGTERM and kill -9, 5 to 15 s down").await;
    let mut cluster = Cluster::start("broker-restart", Shape { instances: 2, ..Shape::default() }).await;
    let mut load = Load::listen(&cluster, drill.seed).await;
    let canary = Canary::hatch(&cluster).await;
    load.others.extend(canary.people());
    canary.sings(&cluster, HEALED, &mut drill).await;
    let before = Vitals::of(&cluster).await;
    load.talk(Pace::default());
    let mut violations = Vec::new();
    let plan: &[(bool, u64)] = drill
        .pick(&[(true, 5), (false, 5)], &[(true, 5), (false, 5), (true, 10), (false, 15), (false, 5), (false, 10)]);
    for (politely, down) in plan {
        load.acked(drill.pick(150, 500), Duration::from_mins(1)).await;
        let mut probe =
            Wire::open(cluster.instances[0].address, &canary.people()[0].token, None).await.expect("a socket");
        if *politely {
            cluster.stop_broker().await;
        } else {
            cluster.kill_broker().await;
        }
        let gone = Instant::now();
        for instance in &cluster.instances {
            let rest = instance.rest();
            let ready = || async { rest.get("/readyz", None).await.0 };
            within(Duration::from_secs(4), "an instance being unready", ready, |status| *status == 503).await;
            assert_eq!(rest.get("/healthz", None).await.0, 200, "it is alive all the same");
        }
        let message = json!({ "conversationId": canary.conversation(), "text": "into the void" });
        match probe.call("sendMessage", &message, FAIL_FAST).await.as_ref().map(judge) {
            Some((Outcome::Refused { retryable: true, .. } | Outcome::Unknown, _)) => {}
            other => violations.push(violation("fail fast", format!("a send without a broker: {other:?}"))),
        }
        tokio::time::sleep(Duration::from_secs(*down).saturating_sub(gone.elapsed())).await;
        cluster.start_broker().await;
        let sung = canary.sings(&cluster, HEALED, &mut drill).await;
        drill.recovered(sung);
    }
    load.acked(100, Duration::from_mins(1)).await;
    let (record, late) = load.end(&cluster).await;
    violations.extend(late);
    violations.extend(before.compare(&cluster, &mut drill).await);
    drill.end(&record, violations);
}
