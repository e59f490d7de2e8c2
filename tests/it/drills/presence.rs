//! Drill: an instance is killed that hundreds of users are connected to.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::jetstream::kv::Store;
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::actor::Pace;
use super::checker::{Violation, violation};
use super::cluster::{Cluster, Shape};
use super::drill::{Drill, within, within_or};
use super::evidence;
use super::load::Load;
use super::vitals::Vitals;
use super::wire::{Frame, Wire};
use crate::support::client::Person;

/// One and a half leases of an instance.
const NOTICED: Duration = Duration::from_millis(22_500);
/// Every socket is open, and everybody is seen, within this time.
const ARRIVING: Duration = Duration::from_mins(1);
/// What a dead instance has left is removed within this time after everybody was told.
const SWEPT: Duration = Duration::from_secs(10);
/// Participants of one conversation.
const GROUP: usize = 99;
/// Sockets that are opened at once.
const AT_ONCE: usize = 16;
/// Of so many users one has another socket elsewhere.
const ELSEWHERE: usize = 10;

/// What somebody was told of others, in order.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<(String, String)>>>);

impl Seen {
    /// Listens until the socket ends.
    async fn listen(self, mut wire: Wire) {
        loop {
            let told = match wire.next().await {
                Ok(Frame::Event(name, data)) if name == "presence" => vec![data],
                Ok(Frame::Event(name, data)) if name == "presenceSnapshot" => {
                    data["items"].as_array().expect("a list").clone()
                }
                Ok(_) => continue,
                Err(_) => return,
            };
            let word = |one: &Value, field: &str| one[field].as_str().expect("a word").to_owned();
            let told = told.iter().map(|one| (word(one, "userId"), word(one, "status")));
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(told);
        }
    }

    fn told(&self, status: &str) -> HashSet<String> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().filter(|(_, said)| said == status).map(|(user, _)| user.clone()).collect()
    }

    /// What was told last of each.
    fn now(&self) -> HashMap<String, String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_users_of_a_killed_instance_are_offline_everywhere_in_time() {
    let mut drill = Drill::begin("presence", "kill -9 an instance with hundreds of users").await;
    let mut cluster = Cluster::start("presence", Shape { instances: 3, ..Shape::default() }).await;
    let mut load = Load::listen(&cluster, drill.seed).await;
    let (watcher, crowd) = crowd(&cluster, drill.pick(200, 500)).await;
    let before = Vitals::of(&cluster).await;
    load.talk(Pace { think: 400, ..Pace::default() });
    let mut violations = Vec::new();
    for _ in 0..drill.pick(1, 3) {
        load.acked(30, Duration::from_mins(1)).await;
        violations.extend(kill_a_crowd(&mut cluster, &load, &mut drill, &watcher, &crowd).await);
    }
    let (record, late) = load.end(&cluster).await;
    violations.extend(late);
    violations.extend(before.compare(&cluster, &mut drill).await);
    drill.end(&record, violations);
}

/// Many users, in groups that one more user is in as well.
async fn crowd(cluster: &Cluster, count: usize) -> (Person, Vec<Person>) {
    let rest = cluster.instances[1].rest();
    let watcher = rest.sign_up("Watcher").await;
    let crowd: Vec<Person> =
        futures_util::stream::iter(0..count).map(|_| rest.sign_up("Guest")).buffered(AT_ONCE).collect().await;
    for (number, group) in crowd.chunks(GROUP).enumerate() {
        let ids: Vec<&str> = group.iter().map(|one| one.id.as_str()).collect();
        let context = json!({ "type": "store", "id": number.to_string() });
        let (status, opened) =
            watcher.post("/api/conversations", &json!({ "participants": ids, "context": context })).await;
        assert_eq!(status, 201, "{opened}");
    }
    (watcher, crowd)
}

async fn kill_a_crowd(
    cluster: &mut Cluster,
    load: &Load,
    drill: &mut Drill,
    watcher: &Person,
    crowd: &[Person],
) -> Vec<Violation> {
    let mut listening = JoinSet::new();
    let survivors = [cluster.instances[1].address, cluster.instances[2].address];
    let watchers = [Seen::default(), Seen::default()];
    for (seen, address) in watchers.iter().zip(survivors) {
        let wire = Wire::open(address, &watcher.token, None).await.expect("a socket");
        listening.spawn(seen.clone().listen(wire));
    }
    let victim = cluster.instances[0].address;
    let elsewhere: HashSet<String> = crowd.iter().step_by(ELSEWHERE).map(|one| one.id.clone()).collect();
    let visits = crowd.iter().flat_map(|one| {
        let other = elsewhere.contains(&one.id).then_some(survivors[0]);
        [Some(victim), other].into_iter().flatten().map(move |address| (one, address))
    });
    let mut wires = futures_util::stream::iter(visits)
        .map(|(one, address)| async move { Wire::open(address, &one.token, None).await.expect("a socket") })
        .buffer_unordered(AT_ONCE);
    while let Some(wire) = wires.next().await {
        // Whoever does not answer pings is taken for gone.
        listening.spawn(Seen::default().listen(wire));
    }
    drop(wires);
    for seen in &watchers {
        within(ARRIVING, "everybody being seen", || async { seen.told("online").len() }, |seen| *seen >= crowd.len())
            .await;
    }
    let records = records(cluster).await;
    let expected = crowd.len() + elsewhere.len() + survivors.len();
    let keys = || keys_of(&records, crowd, watcher);
    within(ARRIVING, "a record for each", keys, |keys| keys.len() == expected).await;

    let killed = Instant::now();
    cluster.kill(0).await;
    cluster.forget(victim);
    let gone = crowd.len() - elsewhere.len();
    let mut found = Vec::new();
    for (number, seen) in watchers.iter().enumerate() {
        let left = NOTICED.saturating_sub(killed.elapsed());
        let offline = within_or(left, || async { seen.told("offline").len() }, |offline| *offline >= gone).await;
        if offline < gone {
            let what = format!("watcher {number} was told that {offline} of {gone} are offline after {NOTICED:?}");
            found.push(violation("presence", what));
        }
    }
    drill.recovered(killed.elapsed());
    drill.note(format!("{gone} users were offline everywhere after {:.1} s", killed.elapsed().as_secs_f64()));
    let keys = within_or(SWEPT, keys, |keys| keys.len() == elsewhere.len() + survivors.len()).await;
    if keys.len() != elsewhere.len() + survivors.len() {
        found.push(violation("presence", format!("{} keys are left", keys.len())));
    }
    drill.note(format!("no record was left after {:.1} s", killed.elapsed().as_secs_f64()));
    for (number, seen) in watchers.iter().enumerate() {
        let flapped = seen.told("offline").intersection(&elsewhere).count();
        let wrong = seen.now().iter().filter(|(user, now)| (*now == "online") != elsewhere.contains(*user)).count();
        if flapped > 0 || wrong > 0 {
            let what = format!("watcher {number} saw {flapped} flap and has {wrong} wrong in the end");
            found.push(violation("presence", what));
        }
    }
    for one in asked(cluster, watcher, crowd).await {
        let there = elsewhere.contains(one["userId"].as_str().unwrap_or_default());
        if (one["status"] == "online") != there || one["lastSeenAt"].is_null() != there {
            found.push(violation("presence", format!("the answer is {one}, and there is {there}")));
        }
    }
    listening.shutdown().await;
    within(ARRIVING, "nobody being there", || keys_of(&records, crowd, watcher), Vec::is_empty).await;
    // Those who have just left are shown for a moment; the next round begins after it.
    let shown = async || asked(cluster, watcher, crowd).await.iter().filter(|one| one["status"] == "online").count();
    within(ARRIVING, "everybody being offline", shown, |shown| *shown == 0).await;
    cluster.add().await;
    load.joined().await;
    found
}

/// What each instance answers to the question who of the crowd is there.
async fn asked(cluster: &Cluster, watcher: &Person, crowd: &[Person]) -> Vec<Value> {
    let mut answers = Vec::new();
    for instance in &cluster.instances {
        let asking = watcher.at(instance.address);
        for some in crowd.chunks(100) {
            let ids: Vec<&str> = some.iter().map(|one| one.id.as_str()).collect();
            let (status, seen) = asking.get(&format!("/api/presence?userIds={}", ids.join(","))).await;
            assert_eq!(status, 200, "{seen}");
            answers.extend(seen["items"].as_array().expect("a list").iter().cloned());
        }
    }
    answers
}

async fn records(cluster: &Cluster) -> Store {
    evidence::broker(cluster.tenant()).await.get_key_value("presence").await.expect("the bucket")
}

/// The records of the crowd and of whoever watches it.
async fn keys_of(records: &Store, crowd: &[Person], watcher: &Person) -> Vec<String> {
    let users: HashSet<&str> = crowd.iter().chain([watcher]).map(|one| one.id.as_str()).collect();
    let all: Vec<String> = records.keys().await.expect("keys").try_collect().await.expect("keys");
    all.into_iter().filter(|key| key.split_once('.').is_some_and(|(user, _)| users.contains(user))).collect()
}
