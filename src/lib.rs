//! Shoptalk: chat and notifications for e-commerce, centred on one log.
//!
//! ```text
//! Socket.IO frame | WebSocket frame | REST body
//!   -> gateway/ or api/          wire to domain, nothing else
//!   -> command/                  who may do this? validate, make the id
//!   -> broker::publish           stream EVENTS, wait for the broker
//!   <- ack to the caller         "stored", never before the broker said so
//! EVENTS, read three ways:
//!   -> broker::tail   one ordered consumer per instance -> gateway::hub -> the sockets it holds
//!   -> persist        durable, shared, batched          -> MongoDB
//!   -> notify         durable, shared                   -> inbox.<user>.notification, into EVENTS again
//!   -> previews       durable, shared, one by one       -> scanned and smaller pictures, told through EVENTS again
//! ORDERS, what other services say of orders:
//!   -> orders         durable, shared, batched          -> MongoDB, and entries and notifications into EVENTS
//! attachments: api/ -> command::uploads -> spool -> inspect -> blob (any object store), a record in MongoDB
//! reads: api/ -> query/ -> MongoDB, and the log for what MongoDB does not have yet
//! resuming: gateway/ or api/ -> query::sync -> the newest events in memory, or the log by subject
//! ```
//!
//! Who may use whom, from the bottom: `domain`, `error`; then `auth`, `inspect`, `scan`, `lifecycle`, `metrics`, `embedded`;
//! then `config`, `problem`, `telemetry`; then `blob`, `broker`, `store`; then `command`, `consumer`; then `presence`,
//! `query`, `operate`; then `api`, `gateway`; then `contracts`, `server`, `app`, and `cli` on top. The table in
//! `tests/it/layers.rs` says it in full, and is tested.

pub mod api;
pub mod app;
pub mod auth;
pub mod blob;
pub mod broker;
pub mod cli;
pub mod command;
pub mod config;
pub mod consumer;
pub mod contracts;
pub mod domain;
pub mod embedded;
pub mod error;
pub mod gateway;
pub mod inspect;
pub mod lifecycle;
pub mod metrics;
pub mod operate;
pub mod presence;
pub mod problem;
pub mod query;
pub mod scan;
pub mod server;
pub mod store;
pub mod telemetry;
