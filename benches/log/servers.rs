//! The servers of a run, and a tenant for each measurement: a broker account and a database that nothing has used yet.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_nats::jetstream;
use shoptalk::broker::{self, Broker};
use shoptalk::config::{Config, Source};
use shoptalk::embedded::{Embedded, NatsWanted, Wanted};

/// Accounts of the nats-server; each measurement takes one or two.
const ACCOUNTS: usize = 32;

/// A nats-server and a MongoDB.
pub struct Servers {
    embedded: Embedded,
    pub data: PathBuf,
    next: AtomicUsize,
}

/// Where one measurement finds its broker and its database.
#[derive(Debug, Clone)]
pub struct Tenant {
    pub nats_url: String,
    pub mongodb_uri: String,
    pub database: String,
    /// Where attachments are kept.
    pub attachments: String,
}

/// The `shoptalk` program that was built with this bench.
pub fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_shoptalk"))
}

impl Servers {
    pub async fn start() -> Self {
        let data = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("bench-{}", std::process::id()));
        let nats = Some(NatsWanted::Tenants(ACCOUNTS));
        let wanted = Wanted { data: data.clone(), guard: program(), nats, mongodb: true };
        let embedded = Embedded::start(wanted).await.expect("the servers start (try: make servers)");
        Self { embedded, data, next: AtomicUsize::new(0) }
    }

    pub async fn stop(self) {
        self.embedded.stop().await;
        let _ = std::fs::remove_dir_all(self.data);
    }

    pub fn tenant(&self) -> Tenant {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        assert!(number < ACCOUNTS, "more measurements than accounts");
        let nats = self.embedded.nats_url().expect("a nats-server was started");
        Tenant {
            nats_url: nats.replace("nats://", &format!("nats://t{number}:t{number}@")),
            mongodb_uri: self.embedded.mongodb_uri().expect("a MongoDB was started").to_owned(),
            database: format!("bench_{number}"),
            attachments: "memory:".into(),
        }
    }

    /// The server processes: the broker and the database.
    pub fn pids(&self) -> Vec<u32> {
        self.embedded.pids()
    }
}

impl Tenant {
    /// The settings of an instance: password hashes that cost nothing, since nobody measures them here, and as many sends
    /// of one user as it can take.
    pub fn settings(&self) -> Vec<(String, String)> {
        [
            ("HOST", "127.0.0.1"),
            ("NATS_URL", &self.nats_url),
            ("MONGODB_URI", &self.mongodb_uri),
            ("MONGODB_DATABASE", &self.database),
            ("ATTACHMENTS_URL", &self.attachments),
            ("JWT_SECRET", "a secret for benches of thirty-two bytes"),
            ("ARGON2_MEMORY_KIB", "64"),
            ("ARGON2_PASSES", "1"),
            ("USER_SENDS_PER_SECOND", "1000000"),
            ("LOG", "error"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .to_vec()
    }

    /// A broker with everything that an instance makes there, as the code that is measured reaches it.
    pub async fn broker(&self) -> Broker {
        let config = Config::read(&Source::from_pairs(self.settings())).expect("a good configuration").broker;
        let connected = broker::connect(&config).await.expect("the broker");
        connected.provision(&config, 0).await.expect("its streams")
    }

    /// The bare broker, as any other program reaches it.
    pub async fn jetstream(&self) -> jetstream::Context {
        let address: async_nats::ServerAddr = self.nats_url.parse().expect("an address");
        let word = |part: Option<&str>| part.expect("a login").to_owned();
        let options =
            async_nats::ConnectOptions::with_user_and_password(word(address.username()), word(address.password()));
        jetstream::new(options.connect(address).await.expect("the broker"))
    }
}
