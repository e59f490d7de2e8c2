//! A link between an instance and its broker that can go dead without being closed, or bring the log late.

use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// The link; dropping it closes its connections.
pub struct Proxy {
    address: SocketAddr,
    /// Who logs in on it, with an `@` if anybody does.
    login: String,
    stalled: watch::Sender<bool>,
    late: watch::Sender<bool>,
    _serving: JoinSet<()>,
}

impl Proxy {
    /// A way to the broker of this URL.
    pub async fn to(url: &str) -> Self {
        let place = url.trim_start_matches("nats://");
        let at = place.rfind('@').map_or(0, |at| at + 1);
        let (login, server) = (place[..at].to_owned(), place[at..].to_owned());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (stalled, state) = watch::channel(false);
        let (late, held) = watch::channel(false);
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut links = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let (server, state, held) = (server.clone(), state.clone(), held.clone());
                links.spawn(async move {
                    // While it is stalled, connections are taken and nothing answers: as behind a dead switch.
                    open(&mut state.clone()).await;
                    let Ok(far) = TcpStream::connect(server).await else { return };
                    let (from_near, to_near) = near.into_split();
                    let (from_far, to_far) = far.into_split();
                    // Either direction ending ends both.
                    tokio::select! {
                        () = carry(from_near, to_far, state.clone()) => {}
                        () = deliver(from_far, to_near, state, held) => {}
                    }
                });
            }
        });
        Self { address, login, stalled, late, _serving: serving }
    }

    /// The broker's URL by this way.
    pub fn url(&self) -> String {
        format!("nats://{}{}", self.login, self.address)
    }

    /// Nothing passes any more, in either direction; every connection stays open.
    pub fn stall(&self) {
        self.stalled.send_replace(true);
    }

    /// Events of the log do not arrive any more; answers and everything else do. For less than the five seconds after which an
    /// instance takes its tail for deaf.
    pub fn hold_log(&self) {
        self.late.send_replace(true);
    }

    /// What was held back passes, and everything after it.
    pub fn heal(&self) {
        self.stalled.send_replace(false);
        self.late.send_replace(false);
    }
}

async fn open(state: &mut watch::Receiver<bool>) {
    let _ = state.wait_for(|stalled| !stalled).await;
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut state: watch::Receiver<bool>) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else { return };
        open(&mut state).await;
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// What comes from the broker, in whole messages: events of the log can be held back.
async fn deliver(
    from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut state: watch::Receiver<bool>,
    held: watch::Receiver<bool>,
) {
    let (sender, mut messages) = mpsc::unbounded_channel();
    let reading = async move {
        let mut from = BufReader::new(from);
        while let Some(message) = next_message(&mut from).await {
            if sender.send(message).is_err() {
                return;
            }
        }
    };
    let writing = async move {
        let (mut back, mut late) = (Vec::new(), held);
        loop {
            let message = tokio::select! {
                message = messages.recv() => message,
                Ok(()) = late.changed() => Some(Vec::new()),
            };
            let Some(message) = message else { return };
            open(&mut state).await;
            let mut bytes = if *late.borrow() { Vec::new() } else { std::mem::take(&mut back) };
            if *late.borrow() && is_of_the_log(&message) {
                back.extend(message);
            } else {
                bytes.extend(message);
            }
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = reading => {}
        () = writing => {}
    }
}

/// Whether a subscription brings an event: answers have a subject of their own.
fn is_of_the_log(message: &[u8]) -> bool {
    [&b"MSG chat."[..], b"HMSG chat.", b"MSG inbox.", b"HMSG inbox."].iter().any(|begin| message.starts_with(begin))
}

/// A line of the broker's protocol, with the payload that it announces.
async fn next_message(from: &mut BufReader<OwnedReadHalf>) -> Option<Vec<u8>> {
    let mut message = Vec::new();
    if from.read_until(b'\n', &mut message).await.ok()? == 0 {
        return None;
    }
    if message.starts_with(b"MSG ") || message.starts_with(b"HMSG ") {
        let line = std::str::from_utf8(&message).ok()?;
        let size: usize = line.split_ascii_whitespace().last()?.parse().ok()?;
        let begin = message.len();
        message.resize(begin + size + 2, 0);
        from.read_exact(&mut message[begin..]).await.ok()?;
    }
    Some(message)
}
