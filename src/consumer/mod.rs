//! Consumers: what is done with the log, and with what other services say, one file per durable. Each decides; only `broker::consume` acknowledges.

pub mod cloudevent;
pub mod deciding;
pub mod notify;
pub mod order_event;
pub mod orders;
pub mod persist;
pub mod previews;
