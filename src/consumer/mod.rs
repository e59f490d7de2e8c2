//! Consumers: what is done with the log, one file per durable. Each decides; only `broker::consume` acknowledges.

pub mod deciding;
pub mod notify;
pub mod persist;
