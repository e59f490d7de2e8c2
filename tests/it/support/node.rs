//! The official JavaScript client, run as a process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// A script with the official client takes seconds; a hang is a failure.
const PATIENCE: Duration = Duration::from_mins(2);

/// Runs one of the scripts in `tests/node` against an instance. Without Node it says loudly what was skipped.
pub async fn run(script: &str, address: SocketAddr, transport: &str) {
    run_with(script, address, transport, &[]).await;
}

/// The same, with more for the script to know.
pub async fn run_with(script: &str, address: SocketAddr, transport: &str, more: &[&str]) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/node");
    let absent = Command::new("node").arg("--version").stdout(Stdio::null()).status().await.is_err();
    if absent {
        eprintln!("*** SKIPPED, Node is missing: {script} over {transport} ***");
        return;
    }
    assert!(folder.join("node_modules/socket.io-client").exists(), "the client is not installed; run: make test");
    let run = Command::new("node")
        .arg(folder.join(script))
        .arg(format!("http://{address}"))
        .arg(transport)
        .args(more)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let done = tokio::time::timeout(PATIENCE, run).await.expect("the script ends in time").expect("node runs");
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{script} over {transport} failed\n{out}\n{err}");
}
