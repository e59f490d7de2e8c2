//! How each server is started: its arguments, configuration and port, and how to know that it is ready.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::child::Child;
use super::{NatsWanted, POLL, Server, nats, programs};
use crate::domain::clock::random_bits;
use crate::error::{Error, Result};

/// Starts of one server: the port that was free may be taken a moment later.
const ATTEMPTS: usize = 4;

/// What is the same for both servers of one start.
pub(super) struct Setup {
    pub(super) data: PathBuf,
    pub(super) guard: PathBuf,
    /// Locked as long as a child holds a copy of it.
    pub(super) servers: File,
    pub(super) deadline: Instant,
}

/// A child that could not get its port has ended by then.
const GRACE: Duration = Duration::from_millis(500);

/// Which port a server gets.
#[derive(Debug, Clone, Copy)]
pub(super) enum Port {
    /// This one and no other.
    Fixed(u16),
    /// This one if nobody has it.
    Usual(u16),
    /// Any that is free.
    Any,
}

/// How to know that it is our server which listens.
enum Ready {
    /// It greets with its name (NATS).
    Greets(String),
    /// It takes connections (`MongoDB`; whoever uses it asks more).
    Accepts,
}

impl Setup {
    pub(super) async fn nats(&self, wanted: &NatsWanted, port: Port) -> Result<Server> {
        let program =
            programs::on_path("nats-server").map_or_else(|| programs::cached(programs::NATS_SERVER, "NATS_URL"), Ok)?;
        let folder = self.folder("nats")?;
        // Of this server only: one process may start several, and each is to know its own.
        let name = format!("shoptalk-{}-{:08x}", std::process::id(), random_bits() & 0xffff_ffff);
        nats::adopt(&folder).map_err(Error::internal)?;
        let variables = nats::variables(wanted)?;
        let start = |port| {
            fs::write(folder.join("server.conf"), nats::config(&name, port, wanted))?;
            Ok((vec!["-c".into(), "server.conf".into()], Ready::Greets(name.clone())))
        };
        let (child, port) = self.run("nats", &program, &variables, port, start).await?;
        Ok(Server { url: format!("nats://127.0.0.1:{port}"), child })
    }

    pub(super) async fn mongodb(&self, port: Port) -> Result<Server> {
        let (program, args) = match programs::on_path("mongod") {
            Some(program) => (program, "--bind_ip 127.0.0.1 --nounixsocket --dbpath db --port"),
            // GPL-2.0-only: run as a process of its own, never linked. A small log file, as it is allocated in full.
            None => (
                programs::cached(programs::SECANTUSD, "MONGODB_URI")?,
                "--host 127.0.0.1 --log-level WARNING --sync-on-commit --log-file-max 32MB --cache-size 512M \
                 --storage-path db --port",
            ),
        };
        fs::create_dir_all(self.folder("mongodb")?.join("db")).map_err(Error::internal)?;
        let start = |port: u16| {
            let args = args.split_whitespace().map(OsString::from);
            Ok((args.chain([port.to_string().into()]).collect(), Ready::Accepts))
        };
        let (child, port) = self.run("mongodb", &program, &[], port, start).await?;
        Ok(Server { url: format!("mongodb://127.0.0.1:{port}/?directConnection=true"), child })
    }

    fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.data.join(name);
        fs::create_dir_all(&folder).map_err(Error::internal)?;
        Ok(folder)
    }

    /// Starts a program until it is ready on a port; `start` prepares the port and gives arguments and condition.
    async fn run(
        &self,
        name: &'static str,
        program: &Path,
        variables: &[(&str, String)],
        wanted: Port,
        start: impl Fn(u16) -> io::Result<(Vec<OsString>, Ready)>,
    ) -> Result<(Child, u16)> {
        let log = self.data.join(name).join(format!("{name}.log"));
        let mut attempt = 1;
        loop {
            let port = choose(wanted, attempt == 1).map_err(Error::internal)?;
            let (args, ready) = start(port).map_err(Error::internal)?;
            let (mut command, from) = self.command(program, &args, &log).map_err(Error::internal)?;
            command.envs(variables.iter().map(|(key, value)| (key, value)));
            let child = Child::spawn(name, command).await.map_err(|error| {
                let shown = format!("{} cannot start {}", self.guard.display(), program.display());
                Error::unavailable("server_not_started", shown).caused_by(error)
            })?;
            let ended = tokio::select! {
                // In this order: whoever answers on the port of a child that has ended, it is not that child.
                biased;
                why = child.ended() => Some(why),
                up = timeout_at(self.deadline, is_ready(port, &ready)) => match up {
                    Ok(()) => return Ok((child, port)),
                    Err(_) => None,
                },
            };
            if ended.is_none() || attempt == ATTEMPTS {
                let why = ended.unwrap_or_else(|| format!("{name} was not ready in time"));
                let shown = format!("{why}\n{}:\n{}", log.display(), tail(&log, from));
                return Err(Error::unavailable("server_not_started", shown));
            }
            attempt += 1;
        }
    }

    /// The command, and the length of its log before it.
    fn command(&self, program: &Path, args: &[OsString], log: &Path) -> io::Result<(Command, u64)> {
        let output = File::options().create(true).append(true).open(log)?;
        let from = output.metadata()?.len();
        let mut command = Command::new(self.guard.canonicalize()?);
        command.args(["guard", "--parent"]).arg(std::process::id().to_string()).arg("--").arg(program).args(args);
        command.current_dir(log.parent().unwrap_or(&self.data));
        command.stdin(self.servers.try_clone()?).stdout(output.try_clone()?).stderr(output);
        // Out of the terminal's group: Ctrl-C is for us, who first drain and then end them.
        command.process_group(0);
        Ok((command, from))
    }
}

async fn is_ready(port: u16, ready: &Ready) {
    while !answers(port, ready).await.unwrap_or(false) {
        sleep(POLL).await;
    }
    if matches!(ready, Ready::Accepts) {
        // It does not say who it is. If somebody else got the port first, our child ends within this time.
        sleep(GRACE).await;
    }
}

async fn answers(port: u16, ready: &Ready) -> io::Result<bool> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    if stream.local_addr()? == stream.peer_addr()? {
        // Nobody listens, and the kernel chose the very port for our end: TCP then connects a socket to itself.
        return Ok(false);
    }
    let Ready::Greets(name) = ready else { return Ok(true) };
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        timeout(Duration::from_secs(1), stream.readable()).await??;
        let mut buffer = [0; 4096];
        match stream.try_read(&mut buffer) {
            Ok(0) => return Ok(false),
            Ok(read) => line.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    let line = String::from_utf8_lossy(&line);
    Ok(line.starts_with("INFO ") && line.contains(&format!("\"server_name\":\"{name}\"")))
}

fn choose(wanted: Port, first_attempt: bool) -> io::Result<u16> {
    let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    match wanted {
        Port::Fixed(port) => Ok(port),
        Port::Usual(port) if first_attempt && bind(port).is_ok() => Ok(port),
        Port::Usual(_) | Port::Any => bind(0)?.local_addr().map(|address| address.port()),
    }
}

/// The last lines that were logged after `from`.
fn tail(log: &Path, from: u64) -> String {
    let mut text = Vec::new();
    if let Err(error) = File::open(log).and_then(|mut file| {
        file.seek(SeekFrom::Start(from))?;
        file.read_to_end(&mut text)
    }) {
        return error.to_string();
    }
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
