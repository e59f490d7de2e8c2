//! What the durables cost: how many messages a whole instance accepts over WebSockets with all of them at work, against
//! none.
//!
//! Both times the same client keeps the same number of sends under way, both ends of each conversation have a socket, and
//! the instance is a process of its own. With the durables the same machine also writes every message and a notification
//! for it, and pushes that too: the ratio says what is left for accepting. Beside it stands what took the processor.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::{Consumer, pull};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use super::servers::{Servers, Tenant, program};
use super::table::{Figures, Pair, Row, Wanted};

const ROUNDS: usize = 3;
const PAIRS: usize = 32;
/// Sends of one socket under way.
const UNDER_WAY: u64 = 8;
const WARM_UP: Duration = Duration::from_secs(1);
const WINDOW: Duration = Duration::from_secs(4);
const PATIENCE: Duration = Duration::from_secs(20);

pub async fn measure(servers: &Servers) -> Row {
    println!(
        "instance: {PAIRS} pairs, one way, {UNDER_WAY} under way each, {ROUNDS} rounds of {} s each",
        WINDOW.as_secs()
    );
    let mut pair = Pair::new();
    for round in 0..ROUNDS {
        let (ours, against) = if round % 2 == 0 {
            let against = accepted(servers, "gateway").await;
            (accepted(servers, "gateway,worker").await, against)
        } else {
            let ours = accepted(servers, "gateway,worker").await;
            (ours, accepted(servers, "gateway").await)
        };
        pair.ours.push(ours);
        pair.against.push(against);
    }
    Row {
        figure: "an instance with all durables: accepted, against none",
        unit: "1/s",
        wanted: Wanted::AtLeast(0.6),
        figures: Figures::Beside(pair),
    }
}

/// A process of this program, on a tenant of its own.
pub struct Instance {
    process: Child,
    pub address: SocketAddr,
    client: reqwest::Client,
}

/// Somebody with an account.
pub struct Person {
    pub id: String,
    pub token: String,
}

impl Instance {
    pub async fn start(tenant: &Tenant, roles: &str) -> Self {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
        let address = free.expect("a free port");
        let process = Command::new(program())
            .args(["serve", "--roles", roles])
            .envs(tenant.settings())
            .env("PORT", address.port().to_string())
            .current_dir(env!("CARGO_TARGET_TMPDIR"))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("an instance starts");
        // It wants to know who would do TLS, though nothing here does any.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let instance = Self { process, address, client: reqwest::Client::new() };
        let begin = Instant::now();
        while instance.client.get(instance.url("/readyz")).send().await.is_err() {
            assert!(begin.elapsed() < PATIENCE, "the instance does not get ready");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        instance
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub async fn post(&self, path: &str, token: &str, body: &Value) -> Value {
        let sent = self.client.post(self.url(path)).bearer_auth(token).json(body).send().await.expect("an answer");
        assert!(sent.status().is_success(), "{path}: {}", sent.status());
        sent.json().await.expect("JSON")
    }

    pub async fn get(&self, path: &str, token: &str) -> (u16, bytes::Bytes) {
        let sent = self.client.get(self.url(path)).bearer_auth(token).send().await.expect("an answer");
        (sent.status().as_u16(), sent.bytes().await.expect("a whole answer"))
    }

    pub async fn person(&self, name: &str) -> Person {
        let new = json!({ "name": name, "email": format!("{name}@example.test"), "password": "correct horse battery" });
        let entered = self.post("/api/auth/signup", "", &new).await;
        let text = |pointer: &str| entered.pointer(pointer).and_then(Value::as_str).expect("text").to_owned();
        Person { id: text("/user/id"), token: text("/token") }
    }

    pub async fn conversation(&self, from: &Person, to: &Person) -> String {
        let opened = self.post("/api/conversations", &from.token, &json!({ "recipientId": to.id })).await;
        opened["id"].as_str().expect("an id").to_owned()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.id().expect("it runs")
    }

    /// Ends it at once: its tenant is used by nobody else.
    pub async fn end(mut self) {
        let _ = self.process.kill().await;
    }
}

/// Messages accepted per second.
async fn accepted(servers: &Servers, roles: &str) -> f64 {
    let tenant = servers.tenant();
    let instance = Instance::start(&tenant, roles).await;
    let accepted = Arc::new(AtomicU64::new(0));
    let refused = Arc::new(AtomicU64::new(0));
    let mut sockets = JoinSet::new();
    for number in 0..PAIRS {
        let from = instance.person(&format!("from{number}")).await;
        let to = instance.person(&format!("to{number}")).await;
        let conversation = instance.conversation(&from, &to).await;
        sockets.spawn(listen(instance.address, to.token));
        sockets.spawn(send(instance.address, from.token, conversation, accepted.clone(), refused.clone()));
    }
    tokio::time::sleep(WARM_UP).await;
    let processes = [std::process::id(), instance.process.id().expect("it runs")];
    let processes: Vec<u32> = processes.into_iter().chain(servers.pids()).collect();
    let spent = || processes.iter().map(|pid| cpu_seconds(*pid)).collect::<Vec<f64>>();
    let (before, from, begin) = (spent(), accepted.load(Ordering::Relaxed), Instant::now());
    tokio::time::sleep(WINDOW).await;
    let (count, took, after) = (accepted.load(Ordering::Relaxed) - from, begin.elapsed().as_secs_f64(), spent());
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let per_second = count as f64 / took;
    let behind = behind(&tenant).await;
    // Microseconds of processor for each accepted message: what a machine with few cores runs out of first.
    let cost: Vec<f64> =
        before.iter().zip(&after).map(|(before, after)| (after - before) / took / per_second * 1e6).collect();
    println!(
        "  {roles:>14}: {per_second:>6.0}/s, {} refused; CPU us each: client {:.0}, instance {:.0}, broker {:.0}, database \
         {:.0}, of {:.2} cores; {behind}",
        refused.load(Ordering::Relaxed),
        cost[0],
        cost[1],
        cost[2],
        cost[3],
        cost.iter().sum::<f64>() * per_second / 1e6,
    );
    sockets.shutdown().await;
    instance.end().await;
    per_second
}

type Stream = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

async fn connect(address: SocketAddr, token: &str) -> Stream {
    let mut request = format!("ws://{address}/ws").into_client_request().expect("a request");
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse().expect("a header"));
    tokio_tungstenite::connect_async(request).await.expect("a socket").0
}

/// Takes whatever comes.
async fn listen(address: SocketAddr, token: String) {
    let mut stream = connect(address, &token).await;
    while let Some(Ok(_)) = stream.next().await {}
}

/// Keeps some sends under way for ever.
async fn send(
    address: SocketAddr,
    token: String,
    conversation: String,
    accepted: Arc<AtomicU64>,
    refused: Arc<AtomicU64>,
) {
    let (mut sink, mut source) = connect(address, &token).await.split();
    let frame = |number: u64| {
        let data = json!({ "conversationId": conversation, "text": format!("{number:>100}") });
        Message::text(json!({ "event": "sendMessage", "data": data, "ackId": number }).to_string())
    };
    for number in 0..UNDER_WAY {
        sink.feed(frame(number)).await.expect("the socket takes a frame");
    }
    sink.flush().await.expect("the socket takes frames");
    let mut number = UNDER_WAY;
    while let Some(Ok(frame_in)) = source.next().await {
        let Message::Text(text) = frame_in else { continue };
        // Answers have a number; whatever else comes is for the other end to count.
        if !text.contains("\"ackId\"") {
            continue;
        }
        if text.contains("\"ok\":true") {
            accepted.fetch_add(1, Ordering::Relaxed);
        } else {
            refused.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        sink.send(frame(number)).await.expect("the socket takes a frame");
        number += 1;
    }
}

/// How far the durables are behind the log.
async fn behind(tenant: &Tenant) -> String {
    let log = tenant.jetstream().await.get_stream("EVENTS").await.expect("the log");
    let mut behind = Vec::new();
    for durable in ["persist", "notify"] {
        let consumer: Consumer<pull::Config> = log.get_consumer(durable).await.expect("a durable");
        let info = consumer.cached_info();
        behind.push(format!("{durable} {}", info.num_pending + info.num_ack_pending as u64));
    }
    format!("behind: {}", behind.join(", "))
}

/// What a process has used of the processors since it began.
fn cpu_seconds(pid: u32) -> f64 {
    // Fields 14 and 15 of proc(5) stat, in hundredths of a second; the name in field 2 may have spaces.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}
