//! Drill: MongoDB freezes, thaws, is killed and comes back.

use std::time::{Duration, Instant};

use serde_json::json;

use super::actor::{Pace, judge};
use super::canary::Canary;
use super::checker::{Violation, violation};
use super::cluster::{Cluster, Shape};
use super::drill::Drill;
use super::evidence;
use super::load::Load;
use super::record::Outcome;
use super::vitals::Vitals;
use super::wire::Wire;

/// A reading without a database is refused within this time.
const REFUSED: Duration = Duration::from_secs(1);
/// What a busy machine may add to that on the client's side.
const SLACK: Duration = Duration::from_millis(500);
/// A message reaches a socket within this time, database or not.
const LIVE: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread")]
async fn live_chat_goes_on_without_the_database() {
    let mut drill = Drill::begin("MongoDB outage", "SIGSTOP 30 s, then kill -9 and restart").await;
    let mut cluster = Cluster::start("database-outage", Shape { instances: 2, ..Shape::default() }).await;
    let mut load = Load::listen(&cluster, drill.seed).await;
    let canary = Canary::hatch(&cluster).await;
    load.others.extend(canary.people());
    canary.sings(&cluster, Duration::from_secs(15), &mut drill).await;
    let before = Vitals::of(&cluster).await;
    load.talk(Pace::default());
    load.acked(150, Duration::from_mins(1)).await;
    let mut violations = Vec::new();
    for frozen in [true, false] {
        if frozen {
            cluster.freeze_database().await;
        } else {
            cluster.kill_database().await;
        }
        let until = Instant::now() + Duration::from_secs(if frozen { drill.pick(6, 30) } else { drill.pick(3, 10) });
        let mut slowest = Duration::ZERO;
        while Instant::now() < until {
            violations.extend(chats(&cluster, &canary).await);
            slowest = slowest.max(refuses(&cluster, &canary, &mut violations).await);
        }
        let what = if frozen { "frozen" } else { "gone" };
        drill.note(format!("{what}: the slowest reading was refused after {} ms", slowest.as_millis()));
        if frozen {
            cluster.thaw_database();
        } else {
            cluster.start_database().await;
        }
        let sung = canary.sings(&cluster, Duration::from_secs(30), &mut drill).await;
        drill.recovered(sung);
        load.acked(100, Duration::from_mins(1)).await;
    }
    let (record, late) = load.end(&cluster).await;
    violations.extend(late);
    violations.extend(before.compare(&cluster, &mut drill).await);
    let dead = evidence::broker(cluster.tenant()).await.get_stream("DEAD").await.expect("the dead letters");
    if dead.cached_info().state.messages > 0 {
        violations.push(violation("given up", format!("{} dead letters", dead.cached_info().state.messages)));
    }
    drill.end(&record, violations);
}

/// A message from one instance to the other.
async fn chats(cluster: &Cluster, canary: &Canary) -> Option<Violation> {
    let [speaker, listener, _] = canary.people();
    let broken = |what: &str| Some(violation("live chat", format!("without a database: {what}")));
    let Ok(mut listening) = Wire::listen(cluster.instances[0].address, &listener.token).await else {
        return broken("no socket was opened");
    };
    let Ok(mut speaking) = Wire::open(cluster.instances[1].address, &speaker.token, None).await else {
        return broken("no socket was opened");
    };
    let message = json!({ "conversationId": canary.conversation(), "text": "still here?" });
    let answer = speaking.call("sendMessage", &message, LIVE).await;
    let Some((Outcome::Acked { id, .. }, _)) = answer.as_ref().map(judge) else {
        return broken(&format!("a send was answered {answer:?}"));
    };
    match listening.event(LIVE, |name, data| name == "message" && data["id"] == *id).await {
        Some(_) => None,
        None => broken("a message was not delivered"),
    }
}

/// Readings of every kind: refused, and at once. Returns how long the slowest took.
async fn refuses(cluster: &Cluster, canary: &Canary, violations: &mut Vec<Violation>) -> Duration {
    let reader = canary.people()[1].at(cluster.instances[0].address);
    let history = format!("/api/messages/{}", canary.conversation());
    let mut slowest = Duration::ZERO;
    for path in [history.as_str(), "/api/conversations", "/api/notifications"] {
        let begin = Instant::now();
        let (status, body) = reader.get(path).await;
        let took = begin.elapsed();
        slowest = slowest.max(took);
        if status != 503 || body["reason"] != "database_unavailable" {
            violations.push(violation("readings", format!("{path} without a database: {status} {body}")));
        }
        if took > REFUSED + SLACK {
            violations.push(violation("readings", format!("{path} was refused after {took:?}")));
        }
    }
    slowest
}
