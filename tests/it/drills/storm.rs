//! Drill: every socket of an instance is gone at once, and all come back together.

use std::time::{Duration, Instant};

use mongodb::bson::{Document, doc};

use super::actor::Pace;
use super::canary::Canary;
use super::checker::violation;
use super::cluster::{Cluster, Shape};
use super::drill::{Drill, within_or};
use super::evidence;
use super::load::Load;
use super::vitals::Vitals;
use crate::support::client::PASSWORD;

/// All but one in a thousand are back within this time.
const BACK: Duration = Duration::from_mins(1);
/// Operations of the database for each socket that comes back, at most.
const OPERATIONS: u64 = 10;
/// Somebody else can log in meanwhile.
const LOGIN: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn everybody_comes_back_at_once_and_resumes() {
    let mut drill = Drill::begin("reconnect storm", "2,000 sockets dropped at once").await;
    let mut cluster = Cluster::start("storm", Shape { instances: 1, ..Shape::default() }).await;
    let mut load = Load::listen(&cluster, drill.seed).await;
    let canary = Canary::hatch(&cluster).await;
    load.others.extend(canary.people());
    let sockets: usize = drill.pick(300, 2_000);
    for number in load.observers.len()..sockets {
        let person = load.people[number % load.people.len()].clone();
        load.observe(&person);
        // They come one after the other here; together only after the storm.
        if number % 50 == 0 {
            load.joined().await;
        }
    }
    load.joined().await;
    cluster.add().await;
    let before = Vitals::of(&cluster).await;
    load.talk(Pace { think: 400, ..Pace::default() });
    load.acked(30, Duration::from_mins(1)).await;

    let operations = operations(&cluster).await;
    let begin = Instant::now();
    let address = cluster.kill(0).await;
    cluster.forget(address);
    let login = login(&cluster, &canary);
    let back = async {
        let away = || async { load.observers.iter().filter(|one| !one.is_live() || one.sockets() < 2).count() };
        within_or(BACK, away, |away| *away == 0).await
    };
    let (login, away) = tokio::join!(login, back);
    drill.recovered(begin.elapsed());
    let mut violations = Vec::new();
    if away * 1_000 > sockets {
        violations.push(violation("storm", format!("{away} of {sockets} were not back after {BACK:?}")));
    }
    if login > LOGIN {
        violations.push(violation("storm", format!("a login took {login:?} meanwhile")));
    }
    if let (Some(before), Some(after)) = (operations, self::operations(&cluster).await) {
        drill.note(format!("{} operations of the database for {sockets} sockets", after - before));
        if after - before > OPERATIONS * sockets as u64 {
            violations.push(violation("storm", format!("{} operations of the database", after - before)));
        }
    }
    drill.note(format!("a login took {} ms meanwhile", login.as_millis()));
    cluster.add().await;
    load.acked(30, Duration::from_mins(1)).await;
    canary.sings(&cluster, Duration::from_secs(15), &mut drill).await;
    let (record, late) = load.end(&cluster).await;
    violations.extend(late);
    violations.extend(before.compare(&cluster, &mut drill).await);
    drill.end(&record, violations);
}

/// How long it takes to log in.
async fn login(cluster: &Cluster, canary: &Canary) -> Duration {
    let begin = Instant::now();
    let body = serde_json::json!({ "email": canary.people()[0].email, "password": PASSWORD });
    let (status, reply) = cluster.instances[0].rest().post("/api/auth/login", None, &body).await;
    assert_eq!(status, 200, "{reply}");
    begin.elapsed()
}

/// Operations that the database counts, if it does.
async fn operations(cluster: &Cluster) -> Option<u64> {
    let database = evidence::database(cluster.tenant()).await;
    let status: Document = database.run_command(doc! { "serverStatus": 1 }).await.ok()?;
    let counters = status.get_document("opcounters").ok()?;
    let count = |name| match counters.get(name) {
        Some(mongodb::bson::Bson::Int32(count)) => u64::try_from(*count).unwrap_or(0),
        Some(mongodb::bson::Bson::Int64(count)) => u64::try_from(*count).unwrap_or(0),
        _ => 0,
    };
    Some(count("query") + count("command") + count("getmore"))
}
