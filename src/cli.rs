//! The command line. The only place that prints.

mod check;
mod dead;
mod dev;
mod orders;
mod users;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::app::{App, Roles};
use crate::config::{Config, Source};
use crate::embedded;
use crate::error::{Error, Result};
use crate::{contracts, telemetry};

/// Real-time chat and notification backend for e-commerce.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run an instance with the configuration from the environment
    Serve {
        /// What it does: gateway (REST and sockets), worker (projections and notifications), or both
        #[arg(long, default_value = "gateway,worker", value_parser = roles)]
        roles: Roles,
        /// A TOML file with settings; the environment and `.env` win
        #[arg(long)]
        config: Option<PathBuf>,
    },
    /// Run an instance together with its own broker and database, for trying and developing
    Dev {
        /// Where data is kept
        #[arg(long, default_value = "data")]
        data: PathBuf,
        /// A TOML file with settings; the environment and `.env` win
        #[arg(long)]
        config: Option<PathBuf>,
    },
    /// Ask the instance on this machine whether it is ready
    Health {
        /// A TOML file with settings; the environment and `.env` win
        #[arg(long)]
        config: Option<PathBuf>,
    },
    /// Compare the committed contracts with the code
    Contracts {
        /// Write them instead
        #[arg(long)]
        write: bool,
    },
    /// Dead letters: what the consumers could not do
    Dead {
        #[command(subcommand)]
        command: dead::Dead,
        #[command(flatten)]
        configured: dead::Configured,
    },
    /// Compare the log with MongoDB
    Check {
        #[command(flatten)]
        wanted: check::Wanted,
        #[command(flatten)]
        configured: dead::Configured,
    },
    /// Accounts: who is a support agent, and by which id the shop knows somebody
    Users {
        #[command(subcommand)]
        command: users::Users,
        #[command(flatten)]
        configured: dead::Configured,
    },
    /// Order events: publish a sample, as another service would
    Orders {
        #[command(subcommand)]
        command: orders::Orders,
        #[command(flatten)]
        configured: dead::Configured,
    },
    /// Run a program that ends when its parent does
    #[command(hide = true)]
    Guard {
        /// The process that must still be the parent
        #[arg(long)]
        parent: u32,
        /// The program
        program: OsString,
        /// Its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
}

fn roles(text: &str) -> std::result::Result<Roles, String> {
    text.parse().map_err(|error: Error| error.shown().to_owned())
}

/// Runs the command line.
#[must_use]
pub fn run() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Guard { parent, program, args } => Err(Error::internal(embedded::guard(parent, program, args))),
        Command::Contracts { write } => contracts::run(write).map(|report| print(&format!("{report}\n"))),
        Command::Serve { roles, config } => block_on(serve(roles, config.as_deref())),
        Command::Dev { data, config } => block_on(dev::dev(&data, config.as_deref())),
        Command::Health { config } => block_on(health(config.as_deref())),
        Command::Dead { command, configured } => block_on(dead::dead(command, configured)),
        Command::Users { command, configured } => block_on(users::users(command, configured)),
        Command::Orders { command, configured } => block_on(orders::orders(command, configured)),
        Command::Check { wanted, configured } => block_on(check::check(wanted, configured)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "shoptalk: {}", error.told());
            ExitCode::FAILURE
        }
    }
}

/// Prints; that nobody reads it is no reason to stop.
fn print(text: &str) {
    write(text.as_bytes());
}

fn write(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(bytes).and_then(|()| out.flush());
}

/// Tells how things go, beside what is printed.
fn tell(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Threads for work that waits, at most: each keeps some memory of its own. Files take four of them, looking at what came
/// in two, and smaller pictures and the sweep one each; passwords have threads of their own.
const WAITING_THREADS: usize = 10;

fn block_on(command: impl Future<Output = Result<()>>) -> Result<()> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.enable_all().max_blocking_threads(WAITING_THREADS).build().map_err(Error::internal)?;
    runtime.block_on(command)
}

async fn serve(roles: Roles, file: Option<&Path>) -> Result<()> {
    let config = Config::read(&Source::of_process(file)?)?;
    telemetry::start(&config.log)?;
    let app = Box::pin(App::start(&config, roles)).await?;
    tracing::info!(address = %app.address, "ready");
    let mut stop = Stop::listen()?;
    tokio::select! {
        () = stop.asked() => {}
        () = app.died() => {}
    }
    app.stop().await
}

/// Asks `/readyz` on this machine; for a container's health check, so without a client library.
async fn health(file: Option<&Path>) -> Result<()> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let source = Source::of_process(file)?;
    let port: u16 = source.get("PORT").unwrap_or("4000").trim().parse().map_err(Error::internal)?;
    let asked = async {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await?;
        Ok::<String, std::io::Error>(reply)
    };
    let not_ready = |why: String| Error::unavailable("not_ready", why);
    let reply = tokio::time::timeout(std::time::Duration::from_secs(6), asked)
        .await
        .map_err(|_| not_ready("no answer within 6 seconds".into()))?
        .map_err(|error| not_ready(format!("cannot ask port {port}: {error}")))?;
    if reply.starts_with("HTTP/1.1 200") {
        Ok(())
    } else {
        Err(not_ready(reply.lines().last().unwrap_or("").to_owned()))
    }
}

/// The signals that ask a process to stop.
struct Stop {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Stop {
    fn listen() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(Error::internal)?,
            terminate: signal(SignalKind::terminate()).map_err(Error::internal)?,
        })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
