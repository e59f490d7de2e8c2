//! Presence: who is there, from leases and KV entries that every instance watches.

pub mod aggregate;
mod contacts;
mod nearby;
mod partings;
pub mod record;
pub mod service;
mod tell;
mod watch;
mod write;

pub use service::{Audience, Presences};
