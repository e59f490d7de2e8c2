//! What must come back to where it was: consumers, sockets, memory.

use std::time::Duration;

use futures_util::TryStreamExt as _;

use super::checker::{Violation, violation};
use super::cluster::Cluster;
use super::drill::{Drill, within_or};
use super::evidence;

/// Consumers of instances that were killed are given up by the broker within this time.
const HEALING: Duration = Duration::from_secs(45);
/// What an instance may have more than before: allocators keep some, and caches fill.
const MEMORY: u64 = 96 << 20;
/// A few connections to the database come and go.
const SOCKETS: usize = 24;

/// How a cluster is.
#[derive(Debug, Clone)]
pub struct Vitals {
    /// Consumers by stream; the tail and the KV watches are among them.
    consumers: Vec<(String, usize)>,
    /// The same, of those that somebody reads.
    read: Vec<(String, usize)>,
    /// The most memory that one instance has, in bytes.
    memory: u64,
    /// The most sockets that one instance has.
    sockets: usize,
}

impl Vitals {
    pub async fn of(cluster: &Cluster) -> Self {
        let pids = || cluster.instances.iter().map(super::cluster::Instance::pid);
        Self {
            consumers: consumers(cluster).await,
            read: read(cluster).await,
            memory: pids().map(resident).max().unwrap_or(0),
            sockets: pids().map(sockets).max().unwrap_or(0),
        }
    }

    /// Compares with how it was, once every client has left.
    pub async fn compare(&self, cluster: &Cluster, drill: &mut Drill) -> Vec<Violation> {
        let mut found = Vec::new();
        let long = drill.long;
        let same = |now: &Self| {
            let total = |counts: &[(String, usize)]| counts.iter().map(|(_, count)| count).sum::<usize>();
            // What a killed instance has left behind takes half a minute to go; the short version does not wait for it.
            let bounded = total(&now.consumers) <= 4 * total(&self.consumers);
            now.read == self.read && if long { now.consumers == self.consumers } else { bounded }
        };
        let fits = |now: &Self| same(now) && now.sockets <= self.sockets + SOCKETS;
        let now = within_or(HEALING, || Self::of(cluster), fits).await;
        if !same(&now) {
            let counts = |vitals: &Self| format!("{:?}, read {:?}", vitals.consumers, vitals.read);
            found.push(violation("consumers", format!("{} before, {} after", counts(self), counts(&now))));
        }
        if now.sockets > self.sockets + SOCKETS {
            found.push(violation("sockets", format!("{} before, {} after", self.sockets, now.sockets)));
        }
        let grown = now.memory.saturating_sub(self.memory);
        drill.note(format!("memory {} MiB, {} MiB more than before", now.memory >> 20, grown >> 20));
        if grown > MEMORY {
            found.push(violation("memory", format!("{} MiB more than before", grown >> 20)));
        }
        found
    }
}

/// How many consumers each stream has, without those that nobody reads any more: the broker gives them up by itself.
async fn read(cluster: &Cluster) -> Vec<(String, usize)> {
    let streams = evidence::broker(cluster.tenant()).await;
    let mut counts = Vec::new();
    for name in streams.stream_names().try_collect::<Vec<String>>().await.expect("the streams") {
        let stream = streams.get_stream(&name).await.expect("a stream");
        let infos: Vec<_> = stream.consumers().try_collect().await.expect("its consumers");
        let read = infos.iter().filter(|info| info.config.durable_name.is_some() || info.push_bound).count();
        counts.push((name, read));
    }
    counts.sort();
    counts
}

/// How many consumers each stream has.
async fn consumers(cluster: &Cluster) -> Vec<(String, usize)> {
    let streams = evidence::broker(cluster.tenant()).await;
    let infos: Vec<_> = streams.streams().try_collect().await.expect("the streams");
    let mut counts: Vec<_> = infos.into_iter().map(|info| (info.config.name, info.state.consumer_count)).collect();
    counts.sort();
    counts
}

/// Resident memory of a process, in bytes.
pub fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) << 10
}

/// Open sockets of a process.
fn sockets(pid: u32) -> usize {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let targets = descriptors.filter_map(|one| std::fs::read_link(one.path()).ok());
    targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
}
