//! Drill: everything is sent three times, by a client that heard no answer: at once, later, and much later.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::actor::judge;
use super::canary::Canary;
use super::checker::violation;
use super::cluster::{Cluster, Shape};
use super::drill::Drill;
use super::load::Load;
use super::record::{Outcome, Send};
use super::vitals::Vitals;
use super::wire::Wire;
use crate::support::client::Person;

/// An answer takes no longer.
const ANSWER: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn a_send_that_is_repeated_is_one_message_with_one_answer() {
    let mut drill = Drill::begin("duplicates", "each send 3 times: at once, after 5 s, beyond the window").await;
    let window = drill.pick(4, 20);
    let settings = vec![("DEDUP_SECONDS", window.to_string())];
    let cluster = Cluster::start("duplicates", Shape { instances: 2, settings, ..Shape::default() }).await;
    let mut load = Load::listen(&cluster, drill.seed).await;
    let canary = Canary::hatch(&cluster).await;
    load.others.extend(canary.people());
    let before = Vitals::of(&cluster).await;
    let mut violations = Vec::new();
    let mut tasks = JoinSet::new();
    for number in 0..drill.pick(40, 300) {
        let sender = load.people[0].clone();
        let conversation = load.conversations[if number % 2 == 0 { 0 } else { 3 }].clone();
        let addresses = [cluster.instances[0].address, cluster.instances[1].address];
        let body = json!({
            "conversationId": conversation, "text": format!("number {number}"),
            "clientMessageId": format!("{:x}-{number}", drill.seed),
        });
        let later = Duration::from_secs(drill.pick(1, 5));
        // Every second one comes to the other instance.
        let (here, there) = if number % 4 < 2 { (addresses[0], addresses[1]) } else { (addresses[1], addresses[0]) };
        tasks.spawn(async move {
            let mut wire = Wire::open(here, &sender.token, None).await.expect("a socket");
            let elsewhere = sender.at(there);
            let at_once = tokio::join!(wire.call("sendMessage", &body, ANSWER), post(&elsewhere, &body));
            tokio::time::sleep(later).await;
            let after = post(&elsewhere, &body).await;
            tokio::time::sleep(Duration::from_secs(window + 2).saturating_sub(later)).await;
            let beyond = wire.call("sendMessage", &body, ANSWER).await.expect("an answer");
            let beyond_there = post(&elsewhere, &body).await;
            wire.close().await;
            let answers = [at_once.0.expect("an answer"), at_once.1, after, beyond, beyond_there];
            (sender.id.clone(), body, answers)
        });
    }
    while let Some(done) = tasks.join_next().await {
        let (sender, body, answers) = done.expect("every send has its answers");
        let of = |name: &str| body[name].as_str().expect(name).to_owned();
        let told = |answer: &Value| ["id", "seq", "createdAt"].map(|field| answer["data"][field].clone());
        if let Some(other) = answers.iter().find(|answer| told(answer) != told(&answers[0])) {
            violations.push(violation("other answer", format!("{} and {other}", answers[0])));
        }
        let attempts: Vec<Outcome> = answers.iter().map(|answer| judge(answer).0).collect();
        let (client_message_id, conversation) = (of("clientMessageId"), of("conversationId"));
        load.deeds.sent(Send { client_message_id, conversation, sender, attempts });
    }
    canary.sings(&cluster, Duration::from_secs(15), &mut drill).await;
    let (mut record, late) = load.end(&cluster).await;
    // They were sent side by side, so the order of their answers says nothing.
    record.sends.sort_by_key(|send| match send.outcome() {
        Outcome::Acked { seq, .. } => seq,
        Outcome::Refused { .. } | Outcome::Unknown => 0,
    });
    violations.extend(late);
    violations.extend(before.compare(&cluster, &mut drill).await);
    drill.end(&record, violations);
}

/// The same over the API, with the answer in the shape of a socket's.
async fn post(sender: &Person, body: &Value) -> Value {
    let (status, reply) = sender.post("/api/messages", body).await;
    if status != 201 && status != 200 {
        let error = json!({ "reason": reply["reason"], "retryable": status == 503 || status == 429 });
        return json!({ "ok": false, "error": error });
    }
    let data = json!({ "id": reply["id"], "seq": reply["seq"], "createdAt": reply["createdAt"] });
    json!({ "ok": true, "data": data })
}
