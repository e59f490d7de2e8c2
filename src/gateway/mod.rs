//! The gateway: sockets. Frames from clients become commands; events from the log become frames.
//!
//! Socket.IO and the plain WebSocket are two ways of carrying the same frames (`protocol`) through the same session rules
//! (`session`) to the same driver (`driver`); the `hub` knows which sockets are here and pushes to them.

pub mod closing;
pub mod connection;
mod deliveries;
pub mod driver;
pub mod hub;
pub mod inbox;
pub mod link;
pub mod origin;
mod outbox;
pub mod protocol;
mod pushes;
pub mod session;
pub mod socketio;
pub mod typer;
pub mod typing;
mod upkeep;
pub mod valve;
pub mod websocket;

pub use driver::Gateway;
pub use hub::Hub;
pub use pushes::Pushes;
pub use typing::Typists;
