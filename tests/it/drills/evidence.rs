//! What is left at the end: read directly from the log and from MongoDB, and over the API.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use async_nats::jetstream::{self, consumer};
use futures_util::{StreamExt as _, TryStreamExt as _};
use mongodb::bson::{Document, doc};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::checker::{Violation, violation};
use super::cluster::Cluster;
use super::observer::Observer;
use super::record::{Kept, Logged, LoggedBody, Record, Told};
use crate::support::client::Person;
use crate::support::servers::Tenant;

/// The database of a cluster, without Shoptalk.
pub async fn database(tenant: &Tenant) -> mongodb::Database {
    let client = mongodb::Client::with_uri_str(&tenant.mongodb_uri).await.expect("a MongoDB");
    client.database(&tenant.database)
}

/// The broker of a cluster, without Shoptalk.
pub async fn broker(tenant: &Tenant) -> jetstream::Context {
    jetstream::new(tenant.broker().await)
}

/// Waits until MongoDB and every listener have what the log has. What takes longer than that is a violation.
pub async fn settled(cluster: &Cluster, observers: &[Observer], limit: Duration) -> Vec<Violation> {
    let begin = Instant::now();
    loop {
        let missing = missing(cluster, observers).await;
        if missing.is_empty() {
            return Vec::new();
        }
        if begin.elapsed() > limit {
            return missing.into_iter().map(|what| violation("late", format!("{what} after {limit:?}"))).collect();
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// What has not arrived yet.
async fn missing(cluster: &Cluster, observers: &[Observer]) -> Vec<String> {
    let log = log(cluster.tenant()).await;
    let database = database(cluster.tenant()).await;
    let of_kind =
        |kind: &str| log.iter().filter(|one| one.kind == kind).map(|one| &one.id).collect::<HashSet<_>>().len();
    let notified = log.iter().filter(|one| one.kind == "message").map(|one| (&one.id, one.recipients.len() - 1));
    let due: usize = notified.collect::<HashMap<_, _>>().values().sum();
    let mut missing = Vec::new();
    let told = of_kind("notification");
    if told < due {
        missing.push(format!("{told} of {due} notifications are in the log"));
    }
    for (name, wanted) in [("messages", of_kind("message")), ("notifications", due)] {
        let count = count(&database, name).await;
        if count < wanted as u64 {
            missing.push(format!("{count} of {wanted} {name} are in MongoDB"));
        }
    }
    for observer in observers {
        let observed = observer.observed();
        let last = log.iter().rev().find(|one| one.seq > observed.start && one.recipients.contains(&observed.user));
        if let Some(last) = last.filter(|last| !observer.has(&last.kind, &last.id)) {
            missing.push(format!("{} was told up to seq {} of {}", observed.name, observer.last(), last.seq));
        }
    }
    missing
}

async fn count(database: &mongodb::Database, name: &str) -> u64 {
    database.collection::<Document>(name).count_documents(doc! {}).await.unwrap_or(0)
}

/// Fills in the log, MongoDB and the histories.
pub async fn collect(cluster: &Cluster, people: &[Person], record: &mut Record) {
    record.log = log(cluster.tenant()).await;
    let database = database(cluster.tenant()).await;
    for document in documents(&database, "messages").await {
        record.messages.push(Kept {
            id: text(&document, "_id"),
            conversation: text(&document, "conversationId"),
            seq: u64::try_from(document.get_i64("seq").expect("a seq")).expect("a seq"),
        });
    }
    for document in documents(&database, "notifications").await {
        let data = document.get_document("data").expect("data");
        let (id, user) = (text(&document, "_id"), text(&document, "userId"));
        record.notifications.push(Told { id, user, message: text(data, "messageId") });
    }
    let mut read = HashSet::new();
    for (place, person) in people.iter().enumerate() {
        // At one instance after the other.
        let person = person.at(cluster.instances[place % cluster.instances.len()].address);
        let (status, list) = person.get("/api/conversations?limit=100").await;
        assert_eq!(status, 200, "{list}");
        for conversation in list["items"].as_array().expect("a page") {
            let id = conversation["id"].as_str().expect("an id").to_owned();
            if read.insert(id.clone()) {
                record.histories.extend(history(&person, &id).await);
            }
        }
    }
}

fn text(document: &Document, field: &str) -> String {
    document.get_str(field).expect(field).to_owned()
}

pub async fn documents(database: &mongodb::Database, name: &str) -> Vec<Document> {
    let found = database.collection::<Document>(name).find(doc! {}).await.expect("a cursor");
    found.try_collect().await.expect("documents")
}

/// A whole history, oldest first.
async fn history(person: &Person, conversation: &str) -> Vec<Kept> {
    let (mut pages, mut before) = (Vec::new(), String::new());
    loop {
        let (status, page) = person.get(&format!("/api/messages/{conversation}?limit=200{before}")).await;
        assert_eq!(status, 200, "{page}");
        let items = page["items"].as_array().expect("a page").iter();
        let kept = items.map(|item| Kept {
            id: item["id"].as_str().expect("an id").to_owned(),
            conversation: conversation.to_owned(),
            seq: item["seq"].as_u64().expect("a seq"),
        });
        pages.push(kept.collect::<Vec<_>>());
        match page["nextCursor"].as_str() {
            Some(next) => before = format!("&before={next}"),
            None => return pages.into_iter().rev().flatten().collect(),
        }
    }
}

/// Every event of the log that can be read.
pub async fn log(tenant: &Tenant) -> Vec<Logged> {
    log_from(tenant, 0).await.0
}

/// Every event of the log that can be read, from a seq on, and the last seq that was looked at.
async fn log_from(tenant: &Tenant, from: u64) -> (Vec<Logged>, u64) {
    let stream = broker(tenant).await.get_stream("EVENTS").await.expect("the log");
    let state = &stream.cached_info().state;
    let last = state.last_sequence;
    let first = from.max(state.first_sequence).max(1);
    let mut log = Vec::new();
    if first > last {
        return (log, last);
    }
    let config = consumer::pull::Config {
        ack_policy: consumer::AckPolicy::None,
        deliver_policy: consumer::DeliverPolicy::ByStartSequence { start_sequence: first },
        inactive_threshold: Duration::from_secs(5),
        ..consumer::pull::Config::default()
    };
    let reader = stream.create_consumer(config).await.expect("a consumer");
    let name = reader.cached_info().name.clone();
    let mut messages = reader.messages().await.expect("messages");
    loop {
        let next = tokio::time::timeout(Duration::from_secs(10), messages.next()).await.expect("the next in time");
        let message = next.expect("more messages").expect("a message");
        let seq = message.info().expect("a place").stream_sequence;
        log.extend(logged(seq, &message.payload));
        if seq >= last {
            break;
        }
    }
    // It must not be taken for a consumer that somebody has left behind.
    stream.delete_consumer(&name).await.expect("deleted");
    (log, last)
}

/// Reads the log as it grows, for a drill in which it does not stay whole.
pub struct Follower {
    task: JoinSet<Vec<Logged>>,
    stop: CancellationToken,
}

impl Follower {
    pub fn start(tenant: &Tenant) -> Self {
        let (tenant, stop) = (tenant.clone(), CancellationToken::new());
        let (mut task, stopped) = (JoinSet::new(), stop.clone());
        task.spawn(async move {
            let (mut log, mut next): (Vec<Logged>, u64) = (Vec::new(), 1);
            loop {
                // In this order, so that what came last is read too.
                let over = stopped.is_cancelled();
                let (more, last) = log_from(&tenant, next).await;
                log.extend(more);
                next = next.max(last + 1);
                if over {
                    return log;
                }
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        });
        Self { task, stop }
    }

    /// Everything that has ever been in the log.
    pub async fn end(mut self) -> Vec<Logged> {
        self.stop.cancel();
        self.task.join_next().await.expect("it follows").expect("it follows to the end")
    }
}

/// An event as the rules need it; nothing if it is not one.
fn logged(seq: u64, payload: &[u8]) -> Option<Logged> {
    let event: shoptalk::domain::event::Event = serde_json::from_slice(payload).ok()?;
    // As JSON from here on: a kind that is new needs nothing here.
    let event = serde_json::to_value(event).ok()?;
    let word = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let (kind, id) = match word("/type")?.as_str() {
        "receipt" => ("messagesRead".to_owned(), word("/id")?),
        // Its id is the conversation's, whatever has changed.
        "conversation" => ("conversation".to_owned(), format!("{}@{seq}", word("/data/id")?)),
        kind => (kind.to_owned(), word("/data/id")?),
    };
    let body = match kind.as_str() {
        "message" => LoggedBody::Message {
            conversation: word("/data/conversationId")?,
            sender: word("/data/senderId")?,
            client_message_id: word("/data/clientMessageId"),
        },
        "notification" => {
            LoggedBody::Notification { user: word("/data/userId")?, message: word("/data/data/messageId")? }
        }
        _ => LoggedBody::Other,
    };
    let users = event["recipients"].as_array()?.iter();
    let recipients = users.filter_map(|user| user.as_str().map(str::to_owned)).collect();
    Some(Logged { seq, kind, id, recipients, body })
}
