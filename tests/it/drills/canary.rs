//! A sign of life from every part of every instance: a message to each socket, a notification, a record in MongoDB, and
//! somebody coming online elsewhere.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mongodb::bson::{Document, doc};
use serde_json::{Value, json};

use super::actor::judge;
use super::cluster::Cluster;
use super::drill::Drill;
use super::evidence;
use super::record::Outcome;
use super::wire::Wire;
use crate::support::client::Person;

/// One try; another follows until the limit.
const TRY: Duration = Duration::from_secs(3);

static NUMBER: AtomicU64 = AtomicU64::new(0);

/// People who take no part in the load: one who speaks, one who listens, and one who only comes and goes.
pub struct Canary {
    speaker: Person,
    listener: Person,
    guest: Person,
    conversation: String,
}

impl Canary {
    pub async fn hatch(cluster: &Cluster) -> Self {
        let rest = cluster.instances[0].rest();
        let (speaker, listener) = (rest.sign_up("Speaker").await, rest.sign_up("Listener").await);
        let guest = rest.sign_up("Guest").await;
        let conversation = speaker.open(&[&listener]).await;
        guest.open(&[&listener]).await;
        Self { speaker, listener, guest, conversation }
    }

    pub fn people(&self) -> [Person; 3] {
        [self.speaker.clone(), self.listener.clone(), self.guest.clone()]
    }

    pub fn conversation(&self) -> &str {
        &self.conversation
    }

    /// Waits until a message from each instance reaches each instance, with all that follows from it, and until each instance
    /// tells who comes online at another. Returns how long it took.
    pub async fn sings(&self, cluster: &Cluster, limit: Duration, drill: &mut Drill) -> Duration {
        let (said, seen) = tokio::join!(
            each_to_each(cluster, limit, |said, heard| self.speak(said, heard, cluster)),
            each_to_each(cluster, limit, |said, heard| self.visit(said, heard)),
        );
        drill.note(format!("messages after {:.1} s, presence after {:.1} s", said.as_secs_f64(), seen.as_secs_f64()));
        said.max(seen)
    }

    async fn speak(&self, said: SocketAddr, heard: SocketAddr, cluster: &Cluster) -> Result<(), &'static str> {
        let mut listening = Wire::listen(heard, &self.listener.token).await.map_err(|_| "no socket was opened")?;
        let mut speaking = Wire::open(said, &self.speaker.token, None).await.map_err(|_| "no socket was opened")?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let message = json!({
            "conversationId": self.conversation, "text": "piep", "clientMessageId": format!("canary-{number}"),
        });
        let answer = speaking.call("sendMessage", &message, TRY).await.ok_or("no answer to a message")?;
        let (Outcome::Acked { id, .. }, _) = judge(&answer) else { return Err("a message was refused") };
        listening.event(TRY, |name, data| name == "message" && data["id"] == *id).await.ok_or("no message")?;
        let told = |name: &str, data: &Value| name == "notification" && data["data"]["messageId"] == *id;
        listening.event(TRY, told).await.ok_or("no notification")?;
        let messages = evidence::database(cluster.tenant()).await.collection::<Document>("messages");
        let begin = Instant::now();
        while messages.find_one(doc! { "_id": &id }).await.ok().flatten().is_none() {
            if begin.elapsed() > TRY {
                return Err("the message is not in MongoDB");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Whoever leaves is still shown for a while, so it is by going away and coming back that a guest is seen again and again.
    async fn visit(&self, at: SocketAddr, seen: SocketAddr) -> Result<(), &'static str> {
        let mut guest = Wire::open(at, &self.guest.token, None).await.map_err(|_| "no socket was opened")?;
        say(&mut guest, "away").await?;
        let mut watching = Wire::open(seen, &self.listener.token, None).await.map_err(|_| "no socket was opened")?;
        let is = |one: &Value, status: &str| one["userId"] == *self.guest.id && one["status"] == status;
        // That may be news to the watcher, or be so already.
        let away = |name: &str, data: &Value| match name {
            "presence" => is(data, "away"),
            "presenceSnapshot" => data["items"].as_array().is_some_and(|all| all.iter().any(|one| is(one, "away"))),
            _ => false,
        };
        watching.event(TRY, away).await.ok_or("nobody was seen to be away")?;
        for status in ["online", "away"] {
            say(&mut guest, status).await?;
            let told = |name: &str, data: &Value| name == "presence" && is(data, status);
            watching.event(TRY, told).await.ok_or("nobody was seen to come or go")?;
        }
        guest.close().await;
        Ok(())
    }
}

/// Says what a guest is.
async fn say(guest: &mut Wire, status: &str) -> Result<(), &'static str> {
    let said = guest.call("setPresence", &json!({ "status": status }), TRY).await;
    said.filter(|answer| answer["ok"] == true).map(drop).ok_or("no answer to a sign")
}

/// Tries from each instance to each, until it works. Returns how long it took.
async fn each_to_each<F>(cluster: &Cluster, limit: Duration, attempt: impl Fn(SocketAddr, SocketAddr) -> F) -> Duration
where
    F: Future<Output = Result<(), &'static str>>,
{
    let begin = Instant::now();
    for heard in &cluster.instances {
        for said in &cluster.instances {
            while let Err(what) = attempt(said.address, heard.address).await {
                assert!(begin.elapsed() < limit, "{what} within {limit:?} of the return");
                // What the broken attempt has left is gone by then: a guest who never quite left is not away either.
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    }
    begin.elapsed()
}
