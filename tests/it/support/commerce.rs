//! A service of the shop that publishes order events, and what is there to see of them.

use async_nats::HeaderMap;
use async_nats::jetstream::{self, message::PublishMessage};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::client::Person;
use super::servers::Tenant;
use super::until;

/// The service, with credentials that allow nothing else.
pub struct Commerce(jetstream::Context);

/// An order event.
#[derive(Debug, Clone)]
pub struct Told<'a> {
    pub order: &'a str,
    pub event: &'a str,
    /// Names it; seconds after an hour that is over.
    pub number: u32,
    pub customer: &'a str,
    pub seller: Option<&'a str>,
}

impl Told<'_> {
    pub fn subject(&self) -> String {
        format!("orders.{}.{}", self.order, self.event)
    }

    pub fn id(&self) -> String {
        format!("{}-{}", self.order, self.number)
    }

    /// The whole event, for the structured mode.
    pub fn json(&self) -> Value {
        let (minutes, seconds) = (self.number / 60 % 60, self.number % 60);
        let mut event = json!({
            "specversion": "1.0", "id": self.id(), "source": "/shop/orders",
            "type": format!("com.example.order.{}", self.event),
            "time": format!("2026-11-22T10:{minutes:02}:{seconds:02}Z"),
            "data": {
                "orderId": self.order, "customerId": self.customer, "total": "59.80", "currency": "EUR",
                "items": [{ "title": "Green tea", "quantity": 2, "price": "29.90" }],
            },
        });
        if let Some(seller) = self.seller {
            event["data"]["sellerId"] = seller.into();
        }
        event
    }
}

impl Commerce {
    pub async fn of(tenant: &Tenant) -> Self {
        Self(jetstream::new(tenant.commerce().await))
    }

    /// Publishes the whole event, under its own id; says its place in the stream.
    pub async fn tell(&self, told: &Told<'_>) -> u64 {
        let publish =
            PublishMessage::build().payload(told.json().to_string().into_bytes().into()).message_id(told.id());
        let sent = self.0.send_publish(told.subject(), publish).await.expect("sent");
        sent.await.expect("stored").sequence
    }

    /// Publishes anything, under this id if it has one.
    pub async fn send(&self, subject: &str, id: Option<&str>, payload: &[u8]) -> u64 {
        let mut publish = PublishMessage::build().payload(payload.to_vec().into());
        if let Some(id) = id {
            publish = publish.message_id(id);
        }
        let sent = self.0.send_publish(subject.to_owned(), publish).await.expect("sent");
        sent.await.expect("stored").sequence
    }

    /// Publishes it again; whether the broker says that it has it.
    pub async fn is_known(&self, told: &Told<'_>) -> bool {
        let publish =
            PublishMessage::build().payload(told.json().to_string().into_bytes().into()).message_id(told.id());
        let sent = self.0.send_publish(told.subject(), publish).await.expect("sent");
        sent.await.expect("stored").duplicate
    }

    /// Publishes anything. Nobody recognises it when it is published again.
    pub async fn publish(&self, subject: &str, headers: &[(&str, &str)], payload: Vec<u8>) -> u64 {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, *value);
        }
        let sent = self.0.publish_with_headers(subject.to_owned(), map, payload.into()).await.expect("sent");
        sent.await.expect("stored").sequence
    }
}

/// A service that no library keeps from writing what it wants: the broker takes a line for what stands between its spaces,
/// and headers for what they are.
pub struct Scribe(BufReader<TcpStream>);

impl Scribe {
    pub async fn of(tenant: &Tenant) -> Self {
        let address: async_nats::ServerAddr = tenant.commerce_url.parse().expect("an address");
        let stream = TcpStream::connect((address.host(), address.port())).await.expect("the broker");
        let mut scribe = Self(BufReader::new(stream));
        let (user, password) = (address.username().expect("a user"), address.password().expect("a password"));
        let login = json!({ "user": user, "pass": password, "headers": true, "verbose": false, "pedantic": false });
        scribe.write(format!("CONNECT {login}\r\n").as_bytes()).await;
        scribe
    }

    /// Publishes; the broker has it when this returns.
    pub async fn publish(&mut self, subject: &[u8], headers: Option<&[u8]>, payload: &[u8]) {
        let whole = headers.map_or(0, <[u8]>::len) + payload.len();
        let (verb, sizes) = match headers {
            Some(headers) => ("HPUB ", format!(" {} {whole}\r\n", headers.len())),
            None => ("PUB ", format!(" {whole}\r\n")),
        };
        let parts =
            [verb.as_bytes(), subject, sizes.as_bytes(), headers.unwrap_or_default(), payload, b"\r\n".as_slice()];
        self.write(&parts.concat()).await;
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.expect("written");
        self.0.write_all(b"PING\r\n").await.expect("written");
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).await.expect("an answer") > 0, "the broker has closed");
            assert!(!line.starts_with("-ERR"), "{line}");
            if line.starts_with("PONG") {
                return;
            }
        }
    }
}

/// Waits until everything that was published is worked off, and everything that came of it.
pub async fn settled(tenant: &Tenant) {
    let broker = jetstream::new(tenant.broker().await);
    for (stream, consumers) in [("ORDERS", &["orders"][..]), ("EVENTS", &["notify", "persist"])] {
        let stream = broker.get_stream(stream).await.expect("the stream");
        until(
            "everything is worked off",
            || async {
                let mut open = Vec::new();
                for consumer in consumers {
                    let info = stream.consumer_info(consumer).await.expect("its state");
                    open.push((info.num_pending, info.num_ack_pending));
                }
                open
            },
            |open| open.iter().all(|one| *one == (0, 0)),
        )
        .await;
    }
}

/// The last place in a stream.
pub async fn head(tenant: &Tenant, stream: &str) -> u64 {
    let broker = jetstream::new(tenant.broker().await);
    broker.get_stream(stream).await.expect("the stream").cached_info().state.last_sequence
}

/// The dead letters: place of the original, reason, and what was wrong.
pub async fn letters(tenant: &Tenant) -> Vec<(u64, String, String)> {
    let broker = jetstream::new(tenant.broker().await);
    let dead = broker.get_stream("DEAD").await.expect("the dead letters");
    let state = dead.cached_info().state.clone();
    let mut letters = Vec::new();
    for seq in state.first_sequence..=state.last_sequence {
        let Ok(letter) = dead.get_raw_message(seq).await else { continue };
        let header = |name: &str| letter.headers.get(name).map(ToString::to_string).unwrap_or_default();
        letters.push((
            header("Shoptalk-Seq").parse().expect("a place"),
            header("Shoptalk-Reason"),
            header("Shoptalk-Error"),
        ));
    }
    letters
}

/// What somebody was told of orders, the first first: order and status.
pub async fn told(person: &Person) -> Vec<(String, String)> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let (status, page) = person.get(&format!("/api/notifications?limit=200{cursor}")).await;
        assert_eq!(status, 200, "{page}");
        let word = |one: &Value, field: &str| one["data"][field].as_str().expect("a word").to_owned();
        let items = page["items"].as_array().expect("a page").iter().filter(|one| one["kind"] == "order");
        all.extend(items.map(|one| (word(one, "orderId"), word(one, "status"))));
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    all.reverse();
    all
}

/// The entries about orders in a conversation, the first first: their texts.
pub async fn entries(person: &Person, conversation: &str) -> Vec<String> {
    let (status, page) = person.get(&format!("/api/messages/{conversation}?limit=200")).await;
    assert_eq!(status, 200, "{page}");
    let items = page["items"].as_array().expect("a page").iter().filter(|one| one["kind"] == "order");
    let mut entries: Vec<(u64, String)> = items
        .map(|one| (one["seq"].as_u64().expect("a seq"), one["text"].as_str().expect("a text").to_owned()))
        .collect();
    entries.sort();
    entries.into_iter().map(|(_, text)| text).collect()
}
