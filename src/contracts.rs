//! Contracts: files that others build on, written from the code and compared with it.

use std::path::Path;

use crate::api;
use crate::broker::topology::Topology;
use crate::config::BrokerConfig;
use crate::error::{Code, Error, Result};

/// Where the contracts are, from the root of the checkout.
pub const OPENAPI: &str = "openapi/openapi.json";
/// The broker's streams, consumers and buckets.
pub const TOPOLOGY: &str = "nats/topology.json";

/// Each contract's file and what it should say.
pub fn wanted() -> Result<[(&'static str, String); 2]> {
    // What depends on the deployment (replicas, size) is shown with its defaults.
    let config =
        BrokerConfig { url: String::new(), login: None, replicas: 1, events_max_bytes: 8 << 30, dedup_seconds: 600 };
    let mut topology = serde_json::to_string_pretty(&Topology::of(&config)).map_err(Error::internal)?;
    topology.push('\n');
    Ok([(OPENAPI, api::specification()), (TOPOLOGY, topology)])
}

/// Writes the contracts below the working directory, or says whether they are as they should be.
pub fn run(write: bool) -> Result<String> {
    let mut stale = Vec::new();
    for (path, text) in wanted()? {
        if std::fs::read_to_string(path).is_ok_and(|found| found == text) {
            continue;
        }
        if write {
            if let Some(folder) = Path::new(path).parent() {
                std::fs::create_dir_all(folder).map_err(Error::internal)?;
            }
            std::fs::write(path, text).map_err(Error::internal)?;
        }
        stale.push(path);
    }
    match (stale.is_empty(), write) {
        (true, _) => Ok("the contracts are what the code says".into()),
        (false, true) => Ok(format!("written: {}", stale.join(", "))),
        (false, false) => Err(Error::new(
            Code::Conflict,
            "stale_contracts",
            format!("{} differ from the code; write them with: shoptalk contracts --write", stale.join(", ")),
        )),
    }
}
