//! A link between an instance and its broker that can go dead without being closed.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The link; dropping it closes its connections.
pub struct Proxy {
    address: SocketAddr,
    /// Who logs in on it, with an `@` if anybody does.
    login: String,
    stalled: watch::Sender<bool>,
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
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut links = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let (server, state) = (server.clone(), state.clone());
                links.spawn(async move {
                    // While it is stalled, connections are taken and nothing answers: as behind a dead switch.
                    open(&mut state.clone()).await;
                    let Ok(far) = TcpStream::connect(server).await else { return };
                    let (from_near, to_near) = near.into_split();
                    let (from_far, to_far) = far.into_split();
                    // Either direction ending ends both.
                    tokio::select! {
                        () = carry(from_near, to_far, state.clone()) => {}
                        () = carry(from_far, to_near, state) => {}
                    }
                });
            }
        });
        Self { address, login, stalled, _serving: serving }
    }

    /// The broker's URL by this way.
    pub fn url(&self) -> String {
        format!("nats://{}{}", self.login, self.address)
    }

    /// Nothing passes any more, in either direction; every connection stays open.
    pub fn stall(&self) {
        self.stalled.send_replace(true);
    }

    /// What was held back passes, and everything after it.
    pub fn heal(&self) {
        self.stalled.send_replace(false);
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
