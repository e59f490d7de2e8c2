//! What the product is about, without any I/O: ids, words, users, conversations, messages, events.
//!
//! Everything here is pure. Time, ids and randomness come in as values; nothing awaits, logs or locks. Wire and stored
//! shapes are other types, converted at the edges.

pub mod attachment;
pub mod change;
pub mod changing;
pub mod clock;
pub mod context;
pub mod conversation;
pub mod cursor;
pub mod decision;
pub mod emoji;
pub mod event;
pub mod frame;
pub mod ids;
pub mod inbox;
pub mod journey;
pub mod membership;
pub mod message;
pub mod notification;
pub mod opening;
pub mod order;
pub mod page;
pub mod preferences;
pub mod presence;
pub mod push;
pub mod receipt;
pub mod registers;
pub mod rights;
pub mod roster;
pub mod setting;
pub mod state;
pub mod trace;
pub mod typing;
pub mod user;
pub mod words;
