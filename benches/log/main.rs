//! How fast the log is, as ratios: each figure beside what it is compared with, measured in the same run, in turns.
//!
//! Absolute figures say more about a machine's disk than about this code. Ratios travel better, and the time of one sync
//! of this disk stands beside them. Every pair is measured several times in alternation, because a shared machine drifts;
//! shown are medians, and for ratios the least and the most of all rounds.
//!
//! It starts its own nats-server (`sync_interval: always`) and MongoDB, and takes about two minutes. Words as arguments
//! choose parts: `publish`, `instance`, `resume`, `history`, `orders`, `attachments`. A bench is no test: the verdicts do not change how it ends.

#![expect(clippy::print_stdout, reason = "its output is what it is for")]

mod attachments;
mod disk;
mod history;
mod instance;
mod orders;
mod publish;
mod resume;
mod servers;
mod table;

use servers::Servers;
use table::Row;

fn main() {
    // Cargo adds options of its own.
    let chosen: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let wanted = |part: &str| chosen.is_empty() || chosen.iter().any(|word| word == part);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let servers = Servers::start().await;
        println!("{}", disk::sync_time(&servers.data));
        let mut rows: Vec<Row> = Vec::new();
        if wanted("publish") {
            rows.extend(publish::measure(&servers).await);
        }
        if wanted("instance") {
            rows.push(instance::measure(&servers).await);
        }
        if wanted("resume") {
            rows.extend(resume::measure(&servers).await);
        }
        if wanted("history") {
            rows.extend(history::measure(&servers).await);
        }
        if wanted("orders") {
            rows.extend(orders::measure(&servers).await);
        }
        if wanted("attachments") {
            rows.extend(attachments::measure(&servers).await);
        }
        println!("\n{}", table::of(&rows));
        servers.stop().await;
    });
}
