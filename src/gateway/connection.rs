//! One open socket, whichever way it came in.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde_json::value::RawValue;
use socketioxide::extract::AckSender;
use socketioxide::socket::Sid;
use socketioxide::{SendError, SocketError, SocketIo};
use tokio::sync::mpsc;

use super::protocol::{Answer, ClientEvent, Done, Push};
use super::session::Session;
use crate::domain::clock::Timestamp;
use crate::domain::ids::{MessageId, UserId};
use crate::error::{Code, Error, Result};

/// Events of one client that wait for their turn, at most.
const INBOX: usize = 256;

/// How long a handshake may take.
const CONNECTING_SECONDS: i64 = 15;

/// Names a connection within this instance.
pub type ConnectionId = u64;

/// How frames get to the client.
#[derive(Debug)]
pub enum Link {
    /// Through Socket.IO; the socket is looked up each time, so that a connection never keeps it alive.
    SocketIo(SocketIo, Sid),
    /// Through the queue of a WebSocket.
    WebSocket(mpsc::Sender<Outgoing>),
}

/// What goes out over a WebSocket.
#[derive(Debug)]
pub enum Outgoing {
    /// A frame.
    Text(String),
    /// The end, with a code and a reason.
    Close(Closing),
}

/// Why the server ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// Its token has run out.
    Expired,
    /// It never brought a token.
    Nobody,
    /// It reads too slowly and has to catch up anew.
    Resync,
    /// This instance is going away.
    GoingAway,
}

/// An event from the client and how to answer it.
#[derive(Debug)]
pub struct Inbound {
    /// The event, or why it cannot be read.
    pub event: Result<ClientEvent>,
    /// How to answer.
    pub reply: Reply,
}

/// How to answer an event.
pub enum Reply {
    /// The client waits for a Socket.IO acknowledgement.
    SocketIo(AckSender),
    /// The client waits for an answer with this number.
    WebSocket(u64),
    /// The client does not wait; it hears only of failures.
    None,
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::SocketIo(_) => "Reply::SocketIo",
            Self::WebSocket(_) => "Reply::WebSocket",
            Self::None => "Reply::None",
        })
    }
}

#[derive(Debug, Default)]
struct Inbox {
    waiting: VecDeque<Inbound>,
    /// Somebody is working through it.
    in_hand: bool,
}

#[derive(Debug)]
enum Outbox {
    /// The client does not know yet that it is connected: what comes now is kept for a moment.
    Holding(Vec<Push>),
    /// Frames go straight out.
    Open,
}

/// An open socket.
#[derive(Debug)]
pub struct Connection {
    /// Names it within this instance.
    pub id: ConnectionId,
    link: Link,
    session: Mutex<Session>,
    inbox: Mutex<Inbox>,
    outbox: Mutex<Outbox>,
    /// Messages sent from here that the tail has not brought back yet.
    own: Mutex<Vec<MessageId>>,
    /// When it was made.
    since: Timestamp,
    /// When its token runs out, in milliseconds since 1970.
    expires_at: AtomicI64,
    /// It is to be closed; nothing is pushed to it any more.
    doomed: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change made under these locks is complete before it can panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connection {
    /// A connection of somebody, or of nobody yet. Pushes are held until [`Connection::open`].
    #[must_use]
    pub fn new(id: ConnectionId, link: Link, session: Session, now: Timestamp) -> Self {
        let expires_at = session.actor().map_or(i64::MAX, |actor| actor.expires_at.millis());
        Self {
            id,
            link,
            session: Mutex::new(session),
            inbox: Mutex::default(),
            outbox: Mutex::new(Outbox::Holding(Vec::new())),
            own: Mutex::default(),
            since: now,
            expires_at: AtomicI64::new(expires_at),
            doomed: AtomicBool::new(false),
        }
    }

    /// The session, to be left again before anything is awaited.
    pub fn session(&self) -> MutexGuard<'_, Session> {
        lock(&self.session)
    }

    /// Whose it is, if it is anybody's.
    #[must_use]
    pub fn user(&self) -> Option<UserId> {
        self.session().actor().map(|actor| actor.user_id)
    }

    /// Its token is good until then.
    pub fn set_expiry(&self, at: Timestamp) {
        self.expires_at.store(at.millis(), Ordering::Relaxed);
    }

    /// Whether its token has run out.
    #[must_use]
    pub fn expired(&self, now: Timestamp) -> bool {
        self.expires_at.load(Ordering::Relaxed) <= now.millis()
    }

    /// Whether it is to be closed.
    #[must_use]
    pub fn is_doomed(&self) -> bool {
        self.doomed.load(Ordering::Relaxed)
    }

    /// Whether the other end is still there. One that is just connecting counts as there for a while.
    #[must_use]
    pub fn is_there(&self, now: Timestamp) -> bool {
        if matches!(*lock(&self.outbox), Outbox::Holding(_)) && now < self.since.plus_seconds(CONNECTING_SECONDS) {
            return true;
        }
        match &self.link {
            Link::SocketIo(io, sid) => io.get_socket(*sid).is_some(),
            Link::WebSocket(frames) => !frames.is_closed(),
        }
    }

    /// A message is about to be sent from here.
    pub fn sending(&self, id: MessageId) {
        lock(&self.own).push(id);
    }

    /// Whether a message was sent from here, once: the socket it came from is not told of it again.
    pub fn take_own(&self, id: MessageId) -> bool {
        let mut own = lock(&self.own);
        match own.iter().position(|sent| *sent == id) {
            Some(place) => {
                own.swap_remove(place);
                true
            }
            None => false,
        }
    }

    /// Puts an event in line. Says whether somebody has to begin to work through the line.
    pub fn receive(&self, inbound: Inbound) -> bool {
        let mut inbox = lock(&self.inbox);
        if inbox.waiting.len() >= INBOX {
            drop(inbox);
            let busy = Error::new(
                Code::RateLimited,
                "too_many_in_flight",
                "too many events wait for an answer on this socket",
            )
            .retry_after(std::time::Duration::from_millis(500));
            self.answer(inbound.reply, &Err(busy));
            return false;
        }
        inbox.waiting.push_back(inbound);
        !std::mem::replace(&mut inbox.in_hand, true)
    }

    /// The next event in line; nothing means that the line is done with for now.
    pub fn next_inbound(&self) -> Option<Inbound> {
        let mut inbox = lock(&self.inbox);
        let next = inbox.waiting.pop_front();
        if next.is_none() {
            inbox.in_hand = false;
            inbox.waiting.shrink_to_fit();
        }
        next
    }

    /// The client knows that it is connected: what was held goes out, and everything else straight from now on.
    pub fn open(&self) {
        let mut outbox = lock(&self.outbox);
        let sent = match std::mem::replace(&mut *outbox, Outbox::Open) {
            // In order: nothing else goes out before all of this has.
            Outbox::Holding(held) => held.iter().all(|push| self.emit(push)),
            Outbox::Open => true,
        };
        drop(outbox);
        if !sent {
            self.close(Closing::Resync);
        }
    }

    /// Sends an event. A client whose queue is full has lost its place: it is closed and has to catch up anew.
    pub fn push(&self, push: &Push) {
        if self.is_doomed() {
            return;
        }
        let mut outbox = lock(&self.outbox);
        let sent = match &mut *outbox {
            Outbox::Holding(held) if held.len() < INBOX => {
                held.push(push.clone());
                true
            }
            Outbox::Holding(_) => false,
            Outbox::Open => self.emit(push),
        };
        // Closing calls back into the gateway, so never under this lock.
        drop(outbox);
        if !sent {
            self.close(Closing::Resync);
        }
    }

    /// Hands a frame over; says whether there was room for it.
    fn emit(&self, push: &Push) -> bool {
        match &self.link {
            Link::SocketIo(io, sid) => match io.get_socket(*sid).map(|socket| socket.emit(push.event, &*push.data)) {
                None | Some(Ok(()) | Err(SendError::Socket(SocketError::Closed))) => true,
                Some(Err(SendError::Socket(SocketError::InternalChannelFull))) => false,
                Some(Err(SendError::Serialize(error))) => {
                    tracing::error!(error = %error, "a push cannot be encoded");
                    true
                }
            },
            Link::WebSocket(frames) => {
                let frame = format!(r#"{{"event":"{}","data":{}}}"#, push.event, push.data.get());
                !matches!(frames.try_send(Outgoing::Text(frame)), Err(mpsc::error::TrySendError::Full(_)))
            }
        }
    }

    /// Answers an event, or tells of its failure if nobody asked.
    pub fn answer(&self, reply: Reply, outcome: &Result<Done>) {
        let answer = Answer::of(outcome);
        match (reply, &self.link) {
            (Reply::SocketIo(ack), _) => {
                if let Err(SendError::Socket(SocketError::InternalChannelFull)) = ack.send(&answer) {
                    self.close(Closing::Resync);
                }
            }
            (Reply::WebSocket(ack_id), Link::WebSocket(frames)) => {
                match serde_json::to_string(&Numbered { ack_id, data: &answer }) {
                    Ok(frame) => {
                        if let Err(mpsc::error::TrySendError::Full(_)) = frames.try_send(Outgoing::Text(frame)) {
                            self.close(Closing::Resync);
                        }
                    }
                    Err(error) => tracing::error!(error = %error, "an answer cannot be encoded"),
                }
            }
            (Reply::WebSocket(_), Link::SocketIo(..)) | (Reply::None, _) => {
                if let Err(error) = outcome
                    && let Ok(exception) = Push::exception(error)
                {
                    self.push(&exception);
                }
            }
        }
    }

    /// Ends the connection. A full queue cannot even take the farewell: then nothing more is pushed, and the hub's sweep
    /// tries again until the client has read something or its heartbeat has failed.
    pub fn close(&self, why: Closing) {
        let first = !self.doomed.swap(true, Ordering::Relaxed);
        match &self.link {
            // The whole server closes its transports then: a client that is sent away by name would not come back by
            // itself.
            Link::SocketIo(..) if why == Closing::GoingAway => {}
            Link::SocketIo(io, sid) => {
                let Some(socket) = io.get_socket(*sid) else { return };
                if first && let Ok(exception) = Push::exception(&why.error()) {
                    let _ = socket.emit(exception.event, &*exception.data);
                }
                if let Err(error) = socket.disconnect() {
                    tracing::debug!(error = %error, "a socket cannot be closed yet");
                }
            }
            Link::WebSocket(frames) => {
                let _ = frames.try_send(Outgoing::Close(why));
            }
        }
    }
}

impl Closing {
    /// What the client is told.
    #[must_use]
    pub fn error(self) -> Error {
        match self {
            Self::Expired => crate::auth::actor::expired(),
            Self::Nobody => crate::auth::token::missing(),
            Self::Resync => Error::unavailable("resync", "this socket has fallen behind; connect again and catch up"),
            Self::GoingAway => Error::unavailable("going_away", "this instance is going away; connect again"),
        }
    }

    /// The WebSocket close code: private ones from 4000 on, and RFC 6455's own.
    #[must_use]
    pub const fn websocket_code(self) -> u16 {
        match self {
            Self::Expired | Self::Nobody => 4401,
            Self::Resync => 4409,
            Self::GoingAway => 1012,
        }
    }
}

/// An answer on a WebSocket.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Numbered<'a> {
    ack_id: u64,
    data: &'a Answer<'a>,
}

/// An event on a WebSocket, as the client writes it.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WebSocketFrame<'a> {
    /// The name of the event.
    #[serde(borrow)]
    pub event: std::borrow::Cow<'a, str>,
    /// Its payload.
    #[serde(borrow, default)]
    pub data: Option<&'a RawValue>,
    /// The number to answer with.
    #[serde(default)]
    pub ack_id: Option<u64>,
}
