//! A sign of life from every part of every instance: a message to each socket, a notification, a record in MongoDB, and
//! somebody coming online elsewhere.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mongodb::bson::{Document, doc};
use serde_json::json;

use super::actor::judge;
use super::cluster::Cluster;
use super::evidence;
use super::record::Outcome;
use super::wire::Wire;
use crate::support::client::Person;

/// One try; another follows until the limit.
const TRY: Duration = Duration::from_secs(5);

static NUMBER: AtomicU64 = AtomicU64::new(0);

/// Two people who know each other and take no part in the load.
pub struct Canary {
    speaker: Person,
    listener: Person,
    conversation: String,
}

impl Canary {
    pub async fn hatch(cluster: &Cluster) -> Self {
        let rest = cluster.instances[0].rest();
        let (speaker, listener) = (rest.sign_up("Speaker").await, rest.sign_up("Listener").await);
        let conversation = speaker.open(&[&listener]).await;
        Self { speaker, listener, conversation }
    }

    pub fn people(&self) -> [Person; 2] {
        [self.speaker.clone(), self.listener.clone()]
    }

    pub fn conversation(&self) -> &str {
        &self.conversation
    }

    /// Waits until a message from each instance reaches each instance and all that follows from it. Returns how long it took.
    pub async fn sings(&self, cluster: &Cluster, limit: Duration) -> Duration {
        let begin = Instant::now();
        for heard in &cluster.instances {
            for said in &cluster.instances {
                loop {
                    match self.once(heard.address, said.address, cluster).await {
                        Ok(()) => break,
                        Err(what) => assert!(begin.elapsed() < limit, "{what} within {limit:?} of the return"),
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        begin.elapsed()
    }

    async fn once(
        &self,
        heard: std::net::SocketAddr,
        said: std::net::SocketAddr,
        cluster: &Cluster,
    ) -> Result<(), &'static str> {
        let mut listening = Wire::open(heard, &self.listener.token, None).await.map_err(|_| "no socket was opened")?;
        let came = |name: &str, data: &serde_json::Value| {
            name == "presence" && data["userId"] == *self.speaker.id && data["status"] == "online"
        };
        let mut speaking = Wire::open(said, &self.speaker.token, None).await.map_err(|_| "no socket was opened")?;
        listening.event(TRY, came).await.ok_or("the speaker was not seen to come online")?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let message = json!({
            "conversationId": self.conversation, "text": "piep", "clientMessageId": format!("canary-{number}"),
        });
        let answer = speaking.call("sendMessage", &message, TRY).await.ok_or("no answer to a message")?;
        let (Outcome::Acked { id, .. }, _) = judge(&answer) else { return Err("a message was refused") };
        listening.event(TRY, |name, data| name == "message" && data["id"] == *id).await.ok_or("no message")?;
        let told = |name: &str, data: &serde_json::Value| name == "notification" && data["data"]["messageId"] == *id;
        listening.event(TRY, told).await.ok_or("no notification")?;
        let messages = evidence::database(cluster.tenant()).await.collection::<Document>("messages");
        let begin = Instant::now();
        while messages.find_one(doc! { "_id": &id }).await.ok().flatten().is_none() {
            if begin.elapsed() > TRY {
                return Err("the message is not in MongoDB");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        speaking.close().await;
        // The next try is to see them come again.
        let left = |name: &str, data: &serde_json::Value| {
            name == "presence" && data["userId"] == *self.speaker.id && data["status"] == "offline"
        };
        listening.event(TRY, left).await.ok_or("the speaker was not seen to leave")?;
        listening.close().await;
        Ok(())
    }
}
