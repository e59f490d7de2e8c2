//! A broker, a database and instances, each a process that can be killed, stopped and started again alone.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use rustix::process::{Pid, Signal, kill_process};
use shoptalk::config::{Config, Source};
use shoptalk::domain::clock::random_bits;
use shoptalk::embedded::{Credentials, Embedded, Logins, NatsWanted, Ports, Wanted};
use tokio::process::{Child, Command};

use super::drill::within;
use crate::support::client::Rest;
use crate::support::freeze;
use crate::support::servers::{self, Tenant};
use crate::support::world;

/// An instance starts, or ends after it was asked to, within this time.
const PATIENCE: Duration = Duration::from_secs(40);

/// Addresses that clients try: what a load balancer or a DNS name is in production.
#[derive(Debug, Clone, Default)]
pub struct Fleet(Arc<Mutex<Vec<SocketAddr>>>);

impl Fleet {
    pub fn all(&self) -> Vec<SocketAddr> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// One of them; there is no other rule, so a dead one is tried too.
    pub fn any(&self, random: &mut StdRng) -> Option<SocketAddr> {
        let all = self.all();
        (!all.is_empty()).then(|| all[random.random_range(0..all.len())])
    }

    pub fn add(&self, address: SocketAddr) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(address);
    }

    pub fn remove(&self, address: SocketAddr) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|other| *other != address);
    }
}

/// A server that outlives its processes: the folder and the port stay.
struct Part {
    data: PathBuf,
    ports: Ports,
    server: Option<Embedded>,
}

impl Part {
    async fn start(&mut self) {
        let nats = self.ports.nats.map(|_| NatsWanted::Shop(logins()));
        let mongodb = nats.is_none();
        let wanted = Wanted { data: self.data.clone(), guard: servers::program(), nats, mongodb };
        let server = Embedded::start_on(wanted, self.ports).await;
        self.server = Some(server.expect("the server starts (try: make servers)"));
    }

    fn pid(&self) -> u32 {
        *self.server.as_ref().and_then(|server| server.pids().first().copied()).as_ref().expect("it runs")
    }

    async fn kill(&mut self) {
        let server = self.server.take().expect("it runs");
        for pid in server.pids() {
            signal(pid, Signal::KILL);
        }
        server.died().await;
    }

    async fn stop(&mut self) {
        self.server.take().expect("it runs").stop().await;
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        for pid in self.server.iter().flat_map(Embedded::pids) {
            signal(pid, Signal::KILL);
        }
    }
}

/// A running `shoptalk serve`.
pub struct Instance {
    process: Child,
    pub address: SocketAddr,
}

impl Instance {
    pub fn pid(&self) -> u32 {
        self.process.id().expect("it runs")
    }

    pub fn rest(&self) -> Rest {
        Rest::new(self.address)
    }
}

/// The whole of it. Dropping it kills every process.
pub struct Cluster {
    pub instances: Vec<Instance>,
    pub fleet: Fleet,
    broker: Part,
    database: Part,
    settings: Vec<(String, String)>,
    folder: PathBuf,
    tenant: Tenant,
    started: usize,
}

/// How a cluster differs from the usual one.
#[derive(Default)]
pub struct Shape {
    /// Settings of every instance, beside the usual ones.
    pub settings: Vec<(&'static str, String)>,
    /// What every instance does, if not everything.
    pub roles: Option<&'static str>,
    /// Instances to begin with; none is none.
    pub instances: usize,
}

/// Who may log in at the broker of a cluster.
fn logins() -> Logins {
    let named = |name: &str| Credentials { user: name.to_owned(), password: name.to_owned() };
    Logins { application: named("app"), commerce: named("shop") }
}

impl Cluster {
    /// Starts a broker, a database and this many instances.
    pub async fn start(name: &str, shape: Shape) -> Self {
        let folder = servers::scratch(&format!("drill-{name}"));
        let (nats, mongodb) = (quiet_port(), quiet_port());
        let part = |name, ports| Part { data: folder.join(name), ports, server: None };
        let mut broker = part("broker", Ports { nats: Some(nats), mongodb: None });
        let mut database = part("database", Ports { nats: None, mongodb: Some(mongodb) });
        tokio::join!(broker.start(), database.start());
        let tenant = Tenant {
            nats_url: format!("nats://app:app@127.0.0.1:{nats}"),
            commerce_url: format!("nats://shop:shop@127.0.0.1:{nats}"),
            mongodb_uri: format!("mongodb://127.0.0.1:{mongodb}/?directConnection=true"),
            database: "drill".to_owned(),
        };
        let mut settings = world::settings(&tenant);
        settings.push(("EVENTS_MAX_BYTES".into(), (1_u64 << 30).to_string()));
        settings.push(("LOG".into(), "info".into()));
        settings.extend(shape.settings.into_iter().map(|(key, value)| (key.to_owned(), value)));
        settings.push(("ROLES".into(), shape.roles.unwrap_or("gateway,worker").into()));
        let (instances, fleet) = (Vec::new(), Fleet::default());
        let mut cluster = Self { instances, fleet, broker, database, settings, folder, tenant, started: 0 };
        for _ in 0..shape.instances {
            cluster.add().await;
        }
        cluster
    }

    pub const fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// The configuration that the instances have, for parts of Shoptalk within this process.
    pub fn config(&self) -> Config {
        let settings = self.settings.iter().filter(|(key, _)| key != "ROLES").cloned();
        Config::read(&Source::from_pairs(settings)).expect("a good configuration")
    }

    /// Runs another command of the program with the configuration that the instances have.
    pub fn command(&self) -> Command {
        let mut command = Command::new(servers::program());
        command.envs(self.settings.iter().filter(|(key, _)| key != "ROLES").cloned());
        command.current_dir(&self.folder).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// A further instance; clients are told of it.
    pub async fn add(&mut self) -> &Instance {
        self.add_with(&[]).await
    }

    /// A further instance with settings of its own.
    pub async fn add_with(&mut self, settings: &[(&str, String)]) -> &Instance {
        self.started += 1;
        let instance = self.launch(&format!("instance-{}", self.started), settings).await;
        self.fleet.add(instance.address);
        self.instances.push(instance);
        self.instances.last().expect("just added")
    }

    async fn launch(&self, name: &str, settings: &[(&str, String)]) -> Instance {
        let log = self.folder.join(format!("{name}.log"));
        let roles = self.settings.iter().find(|(key, _)| key == "ROLES").map_or("", |(_, roles)| roles);
        // Through the guard: it ends with this test, however that ends.
        let process = Command::new(servers::program())
            .args(["guard", "--parent", &std::process::id().to_string(), "--"])
            .arg(servers::program())
            .args(["serve", "--roles", roles])
            .envs(self.settings.iter().cloned())
            .envs(settings.iter().cloned())
            .env_remove("ROLES")
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("a log"))
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        let address = within(
            PATIENCE,
            &format!("a ready instance ({})", log.display()),
            || async { address_in(&log) },
            Option::is_some,
        )
        .await;
        Instance { process, address: address.expect("just found") }
    }

    /// Kills an instance. Clients go on trying its address until `forget`.
    pub async fn kill(&mut self, place: usize) -> SocketAddr {
        let mut instance = self.instances.remove(place);
        instance.process.kill().await.expect("killed");
        instance.address
    }

    pub fn forget(&self, address: SocketAddr) {
        self.fleet.remove(address);
    }

    /// Asks an instance to end, as a deploy does: clients are sent elsewhere first. Says how long it took and whether it
    /// ended well.
    pub async fn retire(&mut self, place: usize) -> (Duration, bool) {
        let mut instance = self.instances.remove(place);
        self.fleet.remove(instance.address);
        let begin = Instant::now();
        signal(instance.pid(), Signal::TERM);
        let ended = tokio::time::timeout(PATIENCE, instance.process.wait()).await;
        let status = ended.expect("it ends").expect("a status");
        (begin.elapsed(), status.success())
    }

    pub async fn kill_broker(&mut self) {
        self.broker.kill().await;
    }

    pub async fn stop_broker(&mut self) {
        self.broker.stop().await;
    }

    pub async fn start_broker(&mut self) {
        self.broker.start().await;
    }

    pub async fn kill_database(&mut self) {
        self.database.kill().await;
    }

    pub async fn start_database(&mut self) {
        self.database.start().await;
    }

    /// Nothing is answered any more, but the connections stay.
    pub async fn freeze_database(&self) {
        freeze::freeze(self.database.pid()).await;
    }

    pub fn thaw_database(&self) {
        freeze::thaw(self.database.pid());
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("logs and data are kept in {}", self.folder.display());
            return;
        }
        self.instances.clear();
        for part in [&mut self.broker, &mut self.database] {
            for pid in part.server.iter().flat_map(Embedded::pids) {
                signal(pid, Signal::KILL);
            }
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A process that is gone already needs no signal.
pub fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("a pid");
    let _ = kill_process(pid, signal);
}

/// The address in the line that says that an instance is ready.
fn address_in(log: &Path) -> Option<SocketAddr> {
    let logged = std::fs::read_to_string(log).ok()?;
    let ready = logged.lines().find(|line| line.contains(" ready address="))?;
    ready.split_once("address=")?.1.split_whitespace().next()?.parse().ok()
}

/// A free port below those that the kernel gives to the near ends of connections: clients that try to reach a server which
/// is down cannot take its port, and never reach themselves.
fn quiet_port() -> u16 {
    let mut random = StdRng::seed_from_u64(u64::try_from(random_bits() >> 64).expect("64 bits"));
    loop {
        let port = random.random_range(20_000..32_000);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
