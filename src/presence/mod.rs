//! Presence: who is online, from leases and KV entries that every instance watches.

pub mod aggregate;
pub mod record;
pub mod service;

pub use service::Presences;
