//! `shoptalk dev`, killed in the middle of traffic and started again.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::support::client::Rest;
use crate::support::servers;
use crate::support::until;
use crate::support::world::message;

/// A dev process and where it listens.
struct Dev {
    process: Child,
    address: SocketAddr,
}

impl Dev {
    async fn start(data: &Path) -> Self {
        let mut process = Command::new(servers::program())
            .args(["dev", "--data"])
            .arg(data)
            // Servers of its own, whatever these tests were given; empty counts as not set.
            .envs([("NATS_URL", ""), ("MONGODB_URI", ""), ("JWT_SECRET", ""), ("ATTACHMENTS_URL", "")])
            .envs([("SHOPTALK_NATS_USER", ""), ("SHOPTALK_NATS_PASSWORD", ""), ("SHOPTALK_NATS_SEED", "")])
            .envs([("PORT", "0"), ("ARGON2_MEMORY_KIB", "64"), ("ARGON2_PASSES", "1"), ("LOG", "warn")])
            .current_dir(env!("CARGO_TARGET_TMPDIR"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        let mut lines = BufReader::new(process.stdout.take().expect("its output")).lines();
        let ready = async {
            while let Some(line) = lines.next_line().await.expect("readable output") {
                if let Some(address) =
                    line.trim().strip_prefix("API").and_then(|rest| rest.trim().strip_prefix("http://"))
                {
                    return address.trim_end_matches("/api").parse().expect("an address");
                }
            }
            panic!("it ended without getting ready");
        };
        let address = tokio::time::timeout(std::time::Duration::from_mins(1), ready).await.expect("it gets ready");
        Self { process, address }
    }

    fn pid(&self) -> u32 {
        self.process.id().expect("it runs")
    }
}

/// Processes whose parent is this one.
fn children_of(parent: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").expect("proc").flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|line| line.strip_prefix("PPid:").is_some_and(|rest| rest.trim() == parent.to_string()))
    })
    .collect()
}

fn is_running(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    !status.is_empty() && !status.lines().any(|line| line.starts_with("State:") && line.contains('Z'))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_before_a_kill_is_there_once_after_it() {
    let data: PathBuf = servers::scratch("killed");
    let mut dev = Dev::start(&data).await;
    let mut acknowledged: Vec<String> = Vec::new();
    let rest = Rest::new(dev.address);
    let (ana, ben) = (rest.sign_up("Ana").await, rest.sign_up("Ben").await);
    let conversation = ana.open(&[&ben]).await;
    for round in 0..3 {
        let ana = ana.at(dev.address);
        let mut socket = ana.socket().await;
        // 60 in flight, killed after the 30th acknowledgement: some are stored, some are not, some are in between.
        let mut acks = Vec::new();
        for number in 0..60 {
            acks.push(socket.ask("sendMessage", &message(&conversation, &format!("{round}-{number}"))).await);
        }
        for ack in &acks[..30] {
            let answer = socket.answer(*ack).await;
            acknowledged.push(answer["data"]["id"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned());
        }
        let children = children_of(dev.pid());
        assert_eq!(children.len(), 2, "a broker and a database");
        dev.process.kill().await.expect("killed");
        until(
            "no child left behind",
            || async { children.iter().filter(|pid| is_running(**pid)).count() },
            |left| *left == 0,
        )
        .await;
        dev = Dev::start(&data).await;
    }
    let ben = ben.at(dev.address);
    let mut history: Vec<Value> = Vec::new();
    let ids = |history: &[Value]| -> Vec<String> {
        history.iter().filter_map(|one| one["id"].as_str().map(str::to_owned)).collect()
    };
    let path = format!("/api/messages/{conversation}?limit=200");
    let page = until(
        "everything acknowledged",
        || ben.get(&path),
        |(status, page): &(u16, Value)| {
            let found = ids(page["items"].as_array().map_or(&[][..], Vec::as_slice));
            *status == 200 && acknowledged.iter().all(|id| found.contains(id))
        },
    )
    .await
    .1;
    history.extend(page["items"].as_array().cloned().unwrap_or_default());
    let found = ids(&history);
    for id in &acknowledged {
        assert_eq!(found.iter().filter(|other| *other == id).count(), 1, "{id}");
    }
    // Order is kept within each round, whatever was stored without having been acknowledged.
    for round in 0..3 {
        let prefix = format!("{round}-");
        let numbers: Vec<u32> =
            history.iter().filter_map(|one| one["text"].as_str()?.strip_prefix(&prefix)?.parse().ok()).collect();
        assert!(numbers.is_sorted(), "{numbers:?}");
    }

    // A polite end leaves nothing behind either, and says so with its exit code.
    let children = children_of(dev.pid());
    let pid = rustix::process::Pid::from_raw(i32::try_from(dev.pid()).expect("a pid")).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("asked to end");
    let ended = tokio::time::timeout(std::time::Duration::from_secs(30), dev.process.wait()).await;
    assert!(ended.expect("it ends").expect("a status").success());
    assert!(children.iter().all(|pid| !is_running(*pid)));
}
