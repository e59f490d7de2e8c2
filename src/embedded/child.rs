//! One child process that cannot outlive this one.
//!
//! Owns how a child is started, waited for and signalled. It knows nothing of what the child is.
//!
//! A child is started through [`guard`], which asks the kernel for a SIGTERM when the parent is gone and then becomes
//! the program. The kernel means the *thread* that started the child, so each child has a thread of its own here, which
//! starts it and then waits for it. A thread, not a task, also because tests share children over many runtimes.
//!
//! Why SIGTERM and not SIGKILL: a mongod may hold the last 100 ms of writes in memory, and files that were closed need
//! no recovery. Both servers end within a second of it, under load and with open transactions too; only a change stream
//! that waits for events holds secantusd-rs up, for as long as it waits.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, getppid, kill_process, waitid};
use tokio::sync::{oneshot, watch};

/// Becomes `program`, arranged to end with the process `parent`. Returns only if that failed.
///
/// This is the hidden command `shoptalk guard --parent <pid> -- <program> <args>`: the request for a signal must be
/// made by the child itself, between fork and exec, where only unsafe code could run.
#[must_use]
pub fn guard(parent: u32, program: OsString, args: Vec<OsString>) -> io::Error {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(Signal::TERM)) {
        return error.into();
    }
    // A parent that ended before the line above sends nothing any more.
    if getppid().map(number) != Some(parent) {
        return io::Error::other("the process that asked for this is gone");
    }
    Command::new(program).args(args).exec()
}

/// A child and the thread that waits for it.
#[derive(Debug)]
pub(super) struct Child {
    /// Empty once reaped, so that its number, given to somebody else, is never signalled.
    pid: Arc<Mutex<Option<Pid>>>,
    end: watch::Receiver<Option<String>>,
}

impl Child {
    /// Starts it, and a thread that lives exactly as long as it.
    pub(super) async fn spawn(name: &'static str, mut command: Command) -> io::Result<Self> {
        let (started, start) = oneshot::channel();
        let (over, end) = watch::channel(None);
        let body = move || {
            let mut child = match command.spawn() {
                Ok(child) => child,
                Err(error) => return drop(started.send(Err(error))),
            };
            drop(command);
            let id = Pid::from_child(&child);
            let pid = Arc::new(Mutex::new(Some(id)));
            let handle = Self { pid: Arc::clone(&pid), end };
            // If nobody wants it any more, the handle is dropped, which ends it.
            drop(started.send(Ok(handle)));
            // Wait first and reap second, so that the lock is held for the short step only.
            let wait = || waitid(WaitId::Pid(id), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
            let _ = rustix::io::retry_on_intr(wait);
            let mut live = pid.lock().unwrap_or_else(PoisonError::into_inner);
            let status = child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
            *live = None;
            drop(live);
            over.send_replace(Some(format!("{name} (process {}) ended: {status}", number(id))));
        };
        thread::Builder::new().name(format!("child {name}")).spawn(body)?;
        start.await.map_err(io::Error::other)?
    }

    /// Its process number, while it lives.
    pub(super) fn pid(&self) -> Option<u32> {
        self.live().map(number)
    }

    fn live(&self) -> MutexGuard<'_, Option<Pid>> {
        self.pid.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn signal(&self, signal: Signal) {
        if let Some(pid) = *self.live() {
            // It can only fail for a process that is gone, and this one is not yet reaped.
            let _ = kill_process(pid, signal);
        }
    }

    /// Resolves with a sentence once it has ended and is reaped.
    pub(super) async fn ended(&self) -> String {
        let mut end = self.end.clone();
        end.wait_for(Option::is_some).await.ok().and_then(|why| why.clone()).unwrap_or_else(|| "lost a child".into())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.signal(Signal::TERM);
    }
}

fn number(pid: Pid) -> u32 {
    pid.as_raw_nonzero().get().unsigned_abs()
}
