//! A process that does nothing until it may go on.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

use super::until;

/// Stops a process, and waits until it has. The signal alone takes a while on a busy machine: until one of its threads has
/// had its turn to hear of it, the others go on and answer.
pub async fn freeze(pid: u32) {
    kill_process(of(pid), Signal::STOP).expect("a process to stop");
    until("every thread stopped", || async { states(pid) }, |states| states.iter().all(|state| *state == 'T')).await;
}

/// Lets it go on.
pub fn thaw(pid: u32) {
    let _ = kill_process(of(pid), Signal::CONT);
}

fn of(pid: u32) -> Pid {
    i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a pid")
}

/// What the threads of a process do. The state comes behind the name, which may hold anything.
fn states(pid: u32) -> Vec<char> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("a process").flatten();
    let stat = threads.filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok());
    stat.filter_map(|stat| stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next())).collect()
}
