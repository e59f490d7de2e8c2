//! The servers that Shoptalk needs, as child processes on loopback: for `shoptalk dev` and for tests.
//!
//! Owns at most two processes (nats-server and a `MongoDB`), the folder with their data, configuration and logs, their
//! ports and their end. It never installs a program (`scripts/servers` does), never listens beyond loopback, and never
//! speaks for a server that somebody else runs: with `NATS_URL` or `MONGODB_URI` set, the caller does not ask for it. It
//! knows where the S3 server of the tests is, which they start themselves.
//!
//! No child outlives this process, however it ends: the kernel then sends it a SIGTERM, see [`guard`]. So a run that
//! was killed leaves servers which are still closing, and nats-server takes no lock on its store. Therefore every child
//! holds `servers.lock` (as its standard input), and a new run starts its own only when that is free.
//!
//! Both servers sync before they acknowledge, as production does. secantusd-rs needs a flag for it: without, a kill -9
//! lost the last 9 to 54 ms of acknowledged writes, also those with `w: majority, j: true`; with it, none.

mod child;
mod nats;
mod programs;
mod setup;

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{Instant, sleep, timeout};

use self::child::Child;
pub use self::child::guard;
pub use self::programs::s3_server;
use self::setup::{Port, Setup};
use crate::error::{Code, Error, Result};

const START: Duration = Duration::from_secs(30);
const GONE: Duration = Duration::from_secs(2);
const STOP: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// Which servers to start, and where.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Folder for data, generated configuration and logs; one process uses it at a time.
    pub data: PathBuf,
    /// The `shoptalk` program, whose `guard` command starts the children.
    pub guard: PathBuf,
    /// A nats-server with `JetStream`.
    pub nats: Option<NatsWanted>,
    /// A `MongoDB`, or a server that speaks its protocol.
    pub mongodb: bool,
}

/// How the nats-server is shared.
#[derive(Debug, Clone)]
pub enum NatsWanted {
    /// As in production, by the accounts of `nats/server.conf`.
    Shop(Logins),
    /// By so many tenants, so that tests see nothing of each other: accounts `t0`, `t1`, ... and for each its commerce
    /// services `c0`, `c1`, ..., with one user each, named like the account and with that name as password. Ports are
    /// then never the usual ones.
    Tenants(usize),
}

/// Who may log in at a nats-server of one shop.
#[derive(Debug, Clone)]
pub struct Logins {
    /// Shoptalk itself.
    pub application: Credentials,
    /// Services that publish order events, and may do nothing else.
    pub commerce: Credentials,
}

/// A user and their password.
#[derive(Clone)]
pub struct Credentials {
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Ports that must be these and no others; without one, the usual port or any free one is taken.
///
/// For whoever kills a server and starts it again under the address that everybody knows. A port below the range from which
/// the kernel takes the near ends of connections is the wise choice: others can be taken while the server is down.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ports {
    /// Of the nats-server.
    pub nats: Option<u16>,
    /// Of the `MongoDB`.
    pub mongodb: Option<u16>,
}

/// The running servers. Dropping it asks them to end; [`Embedded::stop`] also waits for that.
#[derive(Debug)]
pub struct Embedded {
    nats: Option<Server>,
    mongodb: Option<Server>,
    _folder: Option<File>,
}

#[derive(Debug)]
struct Server {
    url: String,
    child: Child,
}

impl Embedded {
    /// Starts what is wanted and returns once it can be connected to.
    ///
    /// # Errors
    /// `Conflict` when another process uses the folder, `Unavailable` when a program is missing or did not come up in
    /// 30 seconds (with the end of its log), `Internal` when the folder cannot be written.
    pub async fn start(wanted: Wanted) -> Result<Self> {
        Self::start_on(wanted, Ports::default()).await
    }

    /// The same, on these ports.
    ///
    /// # Errors
    /// As [`Embedded::start`]; a port that somebody else has is a server that did not come up.
    pub async fn start_on(wanted: Wanted, ports: Ports) -> Result<Self> {
        let Wanted { data, guard, nats, mongodb } = wanted;
        if nats.is_none() && !mongodb {
            return Ok(Self { nats: None, mongodb: None, _folder: None });
        }
        fs::create_dir_all(&data).map_err(Error::internal)?;
        let data = data.canonicalize().map_err(Error::internal)?;
        // A moment's patience, for a process that was just killed and is not quite gone.
        let folder = locked(&data.join("lock"), Instant::now() + GONE).await?.ok_or_else(|| {
            in_use(format!("another process uses {}: stop it, or choose another folder", data.display()))
        })?;
        let deadline = Instant::now() + START;
        let servers = locked(&data.join("servers.lock"), deadline)
            .await?
            .ok_or_else(|| in_use(format!("servers of an earlier run still use {}", data.display())))?;
        let setup = Setup { data, guard, servers, deadline };
        let usual = !matches!(nats, Some(NatsWanted::Tenants(_)));
        let port = |wanted: Option<u16>, usual_one| match wanted {
            Some(port) => Port::Fixed(port),
            None if usual => Port::Usual(usual_one),
            None => Port::Any,
        };
        let (nats, mongodb) = tokio::try_join!(
            async {
                match &nats {
                    Some(wanted) => setup.nats(wanted, port(ports.nats, 4222)).await.map(Some),
                    None => Ok(None),
                }
            },
            async { if mongodb { setup.mongodb(port(ports.mongodb, 27017)).await.map(Some) } else { Ok(None) } },
        )?;
        Ok(Self { nats, mongodb, _folder: Some(folder) })
    }

    /// `nats://127.0.0.1:port`, without a user.
    #[must_use]
    pub fn nats_url(&self) -> Option<&str> {
        self.nats.as_ref().map(|server| server.url.as_str())
    }

    /// `mongodb://127.0.0.1:port/?directConnection=true`, without a database.
    #[must_use]
    pub fn mongodb_uri(&self) -> Option<&str> {
        self.mongodb.as_ref().map(|server| server.url.as_str())
    }

    /// The children that run now.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        self.servers().filter_map(|server| server.child.pid()).collect()
    }

    /// Resolves with a sentence when a child ends although nobody asked it to; never, if none does.
    pub async fn died(&self) -> String {
        tokio::select! {
            why = ended(self.nats.as_ref()) => why,
            why = ended(self.mongodb.as_ref()) => why,
        }
    }

    /// Ends the children and waits until they are gone: SIGTERM, and SIGKILL after ten seconds.
    pub async fn stop(self) {
        let gone = || async {
            for server in self.servers() {
                server.child.ended().await;
            }
        };
        self.servers().for_each(|server| server.child.signal(Signal::TERM));
        if timeout(STOP, gone()).await.is_err() {
            self.servers().for_each(|server| server.child.signal(Signal::KILL));
            gone().await;
        }
    }

    fn servers(&self) -> impl Iterator<Item = &Server> {
        self.nats.iter().chain(&self.mongodb)
    }
}

async fn ended(server: Option<&Server>) -> String {
    match server {
        Some(server) => server.child.ended().await,
        None => std::future::pending().await,
    }
}

/// The file, locked; none if somebody else holds it until the deadline.
async fn locked(path: &Path, deadline: Instant) -> Result<Option<File>> {
    let file =
        File::options().create(true).truncate(false).write(true).read(true).open(path).map_err(Error::internal)?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => sleep(POLL).await,
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(Error::internal(error)),
        }
    }
}

fn in_use(shown: String) -> Error {
    Error::new(Code::Conflict, "data_in_use", shown)
}
