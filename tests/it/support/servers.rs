//! One nats-server and one MongoDB for all tests of this run, whatever servers the environment names.
//!
//! Each test gets the next account of the nats-server and a database of its own, so tests see nothing of each other.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use shoptalk::embedded::{Embedded, NatsWanted, Wanted};
use tokio::sync::OnceCell;

/// Accounts of the nats-server; each test takes one.
const ACCOUNTS: usize = 512;

static SERVERS: OnceCell<Embedded> = OnceCell::const_new();
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// Where one test finds its broker and its database.
#[derive(Debug, Clone)]
pub struct Tenant {
    pub nats_url: String,
    /// The same broker for services that publish order events.
    pub commerce_url: String,
    pub mongodb_uri: String,
    pub database: String,
}

impl Tenant {
    /// A connection of the test's own to its account.
    pub async fn broker(&self) -> async_nats::Client {
        connect(&self.nats_url).await
    }

    /// A connection of a service that publishes order events.
    pub async fn commerce(&self) -> async_nats::Client {
        connect(&self.commerce_url).await
    }
}

/// A connection for the user of this URL, which the client does not take from it by itself.
async fn connect(url: &str) -> async_nats::Client {
    let address: async_nats::ServerAddr = url.parse().expect("an address");
    let word = |part: Option<&str>| part.expect("a login").to_owned();
    async_nats::ConnectOptions::with_user_and_password(word(address.username()), word(address.password()))
        .connect(address)
        .await
        .expect("the broker")
}

/// The `shoptalk` program that belongs to these tests.
pub fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_shoptalk"))
}

/// A folder of this run; whole runs are separate, so that a killed one leaves nothing in the way.
pub fn scratch(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("it-{}", std::process::id())).join(name)
}

/// A broker account and a database that nobody else uses.
pub async fn tenant() -> Tenant {
    let servers = SERVERS.get_or_init(start).await;
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    assert!(number < ACCOUNTS, "more tests than accounts: raise ACCOUNTS");
    let nats = servers.nats_url().expect("a nats-server was started");
    let mongodb = servers.mongodb_uri().expect("a MongoDB was started");
    Tenant {
        nats_url: nats.replace("nats://", &format!("nats://t{number}:t{number}@")),
        commerce_url: nats.replace("nats://", &format!("nats://c{number}:c{number}@")),
        mongodb_uri: mongodb.to_owned(),
        database: format!("it_{}_{number}", std::process::id()),
    }
}

async fn start() -> Embedded {
    remove_leftovers();
    let wanted =
        Wanted { data: scratch("servers"), guard: program(), nats: Some(NatsWanted::Tenants(ACCOUNTS)), mongodb: true };
    Embedded::start(wanted).await.expect("the servers for the tests start (try: make servers)")
}

/// Removes the folders of earlier runs whose process is gone.
fn remove_leftovers() {
    let Ok(folders) = std::fs::read_dir(env!("CARGO_TARGET_TMPDIR")) else { return };
    for folder in folders.flatten() {
        let name = folder.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.strip_prefix("it-")) else { continue };
        if !PathBuf::from("/proc").join(pid).exists() {
            let _ = std::fs::remove_dir_all(folder.path());
        }
    }
}
