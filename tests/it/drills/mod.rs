//! Drills: real processes are killed, stopped and cut off under load, and one checker says what came of it.
//!
//! Each drill starts a cluster of its own (`cluster`), puts a seeded load on it (`load`, `actor`, `observer`), hurts it, and
//! hands what was done and what is left (`record`) to the rules (`checker`). `make test` runs the short versions; with
//! `SHOPTALK_DRILLS=long` they are as long as it takes to be sure, which `make drills` does.

mod actor;
mod broker_restart;
mod canary;
mod checker;
mod checker_tests;
mod cluster;
mod database_outage;
mod drill;
mod duplicates;
pub mod evidence;
mod half_open;
mod instance_kill;
mod load;
mod observer;
mod orders;
mod poison;
mod presence;
mod projection;
mod record;
mod rolling_deploy;
mod slow_reader;
mod storm;
mod stream_full;
mod vitals;
mod wire;
