//! Behaviour against real servers: a nats-server and a MongoDB, started by the tests themselves.

mod support;

mod accounts;
mod agreement;
mod changes;
mod chat;
mod contracts;
mod conversations;
mod crash;
mod credentials;
mod drills;
mod guarantees;
mod history;
mod http;
mod inbox;
mod layers;
mod log;
mod long;
mod operate;
mod order_events;
mod orders;
mod outage;
mod participants;
mod preferences;
mod presence;
mod receipts;
mod refusals;
mod resends;
mod resume;
mod rights;
mod shown;
mod shutdown;
mod socketio;
mod succession;
mod typing;
mod unread;
