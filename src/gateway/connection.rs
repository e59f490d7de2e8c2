//! One open socket, whichever way it came in.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use socketioxide::{AckError, SendError, SocketError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::closing::Closing;
use super::deliveries::{Confirming, Deliveries};
use super::inbox::{self, Inbound, Inbox, Reply, UNANSWERED};
use super::link::{Emitted, Link, Outgoing, send_text};
use super::outbox::{Outbox, Overflow};
use super::protocol::{Answer, Done};
use super::session::Session;
use super::typer::Typer;
use super::valve::Valve;
use crate::domain::clock::Timestamp;
use crate::domain::cursor::Cursor;
use crate::domain::frame::Frame;
use crate::domain::ids::{MessageId, UserId};
use crate::error::Result;
use crate::lifecycle::Lifecycle;

/// How long a handshake may take.
const CONNECTING_SECONDS: i64 = 15;
/// A client that has taken nothing of what waits for it for this long is not reading any more.
const STUCK: Duration = Duration::from_secs(6);
/// How long a client has to read the farewell before its transport ends.
const FAREWELL: Duration = Duration::from_secs(1);

/// Names a connection within this instance.
pub type ConnectionId = u64;

/// An open socket.
#[derive(Debug)]
pub struct Connection {
    /// Names it within this instance.
    pub id: ConnectionId,
    link: Link,
    session: Mutex<Session>,
    inbox: Mutex<Inbox>,
    unanswered: Arc<Semaphore>,
    outbox: Mutex<Outbox>,
    /// The newest event that concerns its user, as far as this connection was told.
    head: AtomicU64,
    /// Messages sent from here that the tail has not brought back yet.
    own: Mutex<Vec<MessageId>>,
    typer: Mutex<Typer>,
    /// If its client acknowledges what it gets.
    confirming: Option<Confirming>,
    /// When it was made.
    since: Timestamp,
    /// When its token runs out, in milliseconds since 1970.
    expires_at: AtomicI64,
    /// It is to be closed, for this reason; nothing is pushed to it any more.
    doomed: OnceLock<Closing>,
    /// It is closed, or its other end is gone: nothing is worth doing for it any more.
    ended: CancellationToken,
    lifecycle: Lifecycle,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change made under these locks is complete before it can panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connection {
    /// A connection of somebody, or of nobody yet. What is pushed is held until [`Connection::release`].
    #[must_use]
    pub fn new(id: ConnectionId, link: Link, session: Session, now: Timestamp, lifecycle: Lifecycle) -> Self {
        let expires_at = session.actor().map_or(i64::MAX, |actor| actor.expires_at.millis());
        Self {
            id,
            link,
            session: Mutex::new(session),
            inbox: Mutex::default(),
            unanswered: Arc::new(Semaphore::new(UNANSWERED)),
            outbox: Mutex::new(Outbox::new()),
            head: AtomicU64::new(0),
            own: Mutex::default(),
            typer: Mutex::default(),
            confirming: None,
            since: now,
            expires_at: AtomicI64::new(expires_at),
            doomed: OnceLock::new(),
            ended: CancellationToken::new(),
            lifecycle,
        }
    }

    /// A connection whose client acknowledges messages, which confirms their delivery.
    #[must_use]
    pub fn confirming(self, deliveries: Deliveries) -> Self {
        Self { confirming: Some(Confirming::new(deliveries)), ..self }
    }

    /// It is carried by a WebSocket from now on.
    pub fn carried_by(&self, valve: Arc<Valve>) {
        if let Link::SocketIo(_, _, known) = &self.link {
            let _ = known.set(valve);
        }
    }

    /// The session, to be left again before anything is awaited.
    pub fn session(&self) -> MutexGuard<'_, Session> {
        lock(&self.session)
    }

    /// Where it types, to be left again before anything is awaited.
    pub fn typer(&self) -> MutexGuard<'_, Typer> {
        lock(&self.typer)
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
        self.doomed.get().is_some()
    }

    /// Why it is to be closed.
    #[must_use]
    pub fn closing(&self) -> Option<Closing> {
        self.doomed.get().copied()
    }

    /// Why it was closed, in a word.
    #[must_use]
    pub fn end(&self) -> &'static str {
        self.doomed.get().map_or("left", |why| why.word())
    }

    /// Its other end is gone.
    pub fn gone(&self) {
        self.ended.cancel();
    }

    /// Resolves once it is closed or its other end is gone.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Ends what is left of a Socket.IO session whose transport has come to nothing.
    pub fn abandon(&self) {
        if let Link::SocketIo(io, sid, _) = &self.link
            && let Some(socket) = io.get_socket(*sid)
            && let Err(error) = socket.disconnect()
        {
            tracing::debug!(error = %error, "a socket without a transport cannot be closed yet");
        }
    }

    /// Whether the other end is still there. One that is just connecting counts as there for a while.
    #[must_use]
    pub fn is_there(&self, now: Timestamp) -> bool {
        if lock(&self.outbox).is_holding() && now < self.since.plus_seconds(CONNECTING_SECONDS) {
            return true;
        }
        match &self.link {
            Link::SocketIo(io, sid, _) => io.get_socket(*sid).is_some(),
            Link::WebSocket(frames, _) => !frames.is_closed(),
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
    pub fn receive(self: &Arc<Self>, inbound: Inbound) -> bool {
        let mut inbox = lock(&self.inbox);
        if inbox.is_full() {
            drop(inbox);
            self.answer(inbound.reply, &Err(inbox::full()));
            return false;
        }
        inbox.take(inbound)
    }

    /// The next event in line; nothing means that the line is done with for now.
    pub fn next_inbound(&self) -> Option<Inbound> {
        lock(&self.inbox).next()
    }

    /// Waits until one more event may be answered later.
    pub async fn may_answer_later(&self) {
        drop(self.unanswered.acquire().await);
    }

    /// An event is answered once the broker has answered. Only whoever works through the line begins such answers, and waits
    /// for room before: there is some.
    pub fn begin_answer(&self) -> Option<OwnedSemaphorePermit> {
        self.unanswered.clone().try_acquire_owned().ok()
    }

    /// Nobody's connection has nothing to be told first.
    pub fn open(&self) {
        lock(&self.outbox).open();
    }

    /// Holds what is pushed from now on; says whether it did not yet.
    pub fn hold(&self) -> bool {
        lock(&self.outbox).hold()
    }

    /// Sends this frame, then what was held and is not told up to `upto`, and from then on everything as it comes.
    pub fn release(self: &Arc<Self>, boundary: Frame, upto: u64) {
        if self.is_doomed() {
            // It has heard its farewell; anything more would only move its cursor past what it was not told.
            return;
        }
        if lock(&self.outbox).release(boundary, upto) {
            self.send_waiting();
        }
    }

    /// An event that concerns its user has happened.
    pub fn note_head(&self, seq: u64) {
        self.head.fetch_max(seq, Ordering::Relaxed);
    }

    /// Sends an event. What the client cannot take waits for a while; a client that falls behind further has lost its place:
    /// it is closed and has to catch up anew. Says whether the event is out or in line.
    pub fn push(self: &Arc<Self>, frame: &Frame) -> bool {
        if self.is_doomed() {
            return false;
        }
        let mut outbox = lock(&self.outbox);
        if outbox.knows(frame) {
            return false;
        }
        let placed = if outbox.is_clear() && self.emit(frame) { Ok(false) } else { outbox.queue(frame) };
        // Closing calls back into the gateway, so never under this lock.
        drop(outbox);
        match placed {
            Ok(true) => self.send_waiting(),
            Ok(false) => {}
            Err(Overflow) => self.close(Closing::Resync),
        }
        placed.is_ok()
    }

    /// Tells the client that the connection works and how far it is, unless it is being told something else.
    pub fn beat(self: &Arc<Self>, position: Cursor) {
        if lock(&self.outbox).is_holding() {
            return;
        }
        let head = self.head.load(Ordering::Relaxed);
        if let Ok(frame) = Frame::heartbeat(position, (head > 0).then_some(head)) {
            self.push(&frame);
        }
    }

    /// Sends a frame while everything else is held, at the pace of the client. Says whether it went out.
    pub async fn deliver(self: &Arc<Self>, frame: &Frame) -> bool {
        let begin = Instant::now();
        while !self.is_doomed() {
            if self.emit(frame) {
                return true;
            }
            if begin.elapsed() > STUCK {
                self.close(Closing::Resync);
                break;
            }
            self.room().await;
        }
        false
    }

    /// Sends what waits: at once as far as that goes, the rest on the side.
    fn send_waiting(self: &Arc<Self>) {
        if !self.send_some().1 {
            return;
        }
        let this = self.clone();
        self.lifecycle.job(async move {
            let mut moved = Instant::now();
            while !this.is_doomed() {
                this.room().await;
                let (sent, left) = this.send_some();
                if !left {
                    return;
                }
                if sent > 0 {
                    moved = Instant::now();
                } else if moved.elapsed() > STUCK {
                    this.close(Closing::Resync);
                }
            }
            lock(&this.outbox).clear();
        });
    }

    fn send_some(self: &Arc<Self>) -> (usize, bool) {
        lock(&self.outbox).send(|frame| !self.is_doomed() && self.emit(frame))
    }

    /// Hands a frame over; says whether there was room for it. The client may be asked to confirm what it carries.
    fn emit(self: &Arc<Self>, frame: &Frame) -> bool {
        let asks = self.confirming.as_ref().zip(frame.carries).and_then(|(confirming, carried)| {
            let others = self.user().is_some_and(|user| user != carried.sender_id);
            if others { confirming.ask(carried) } else { None }
        });
        match (self.link.emit(frame, asks.is_some()), asks) {
            (Emitted::Full, _) => false,
            (Emitted::Asked(answer), Some(asked)) => {
                let this = self.clone();
                self.lifecycle.job(async move {
                    let acknowledged = tokio::select! {
                        biased;
                        answer = answer => !matches!(answer, Err(AckError::Timeout | AckError::Socket(_))),
                        () = this.ended() => false,
                    };
                    let actor = this.session().actor().cloned();
                    if acknowledged && let Some(actor) = actor {
                        asked.confirm(actor);
                    }
                });
                true
            }
            (Emitted::Out | Emitted::Asked(_), _) => true,
        }
    }

    /// Waits until there may be room for a frame.
    async fn room(&self) {
        match self.link.valve() {
            Some(valve) => valve.freed().await,
            None => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }

    /// Answers an event, or tells of its failure if nobody asked.
    pub fn answer(self: &Arc<Self>, reply: Reply, outcome: &Result<Done>) {
        let answer = Answer::of(outcome);
        match (reply, &self.link) {
            (Reply::SocketIo(ack), _) => {
                if let Err(SendError::Socket(SocketError::InternalChannelFull)) = ack.send(&answer) {
                    self.close(Closing::Resync);
                }
            }
            (Reply::WebSocket(ack_id), Link::WebSocket(frames, valve)) => {
                match serde_json::to_string(&Numbered { ack_id, data: &answer }) {
                    Ok(text) => {
                        if !send_text(frames, valve, text) {
                            self.close(Closing::Resync);
                        }
                    }
                    Err(error) => tracing::error!(error = %error, "an answer cannot be encoded"),
                }
            }
            (Reply::WebSocket(_), Link::SocketIo(..)) | (Reply::None, _) => {
                if let Err(error) = outcome
                    && let Ok(exception) = Frame::exception(error)
                {
                    self.push(&exception);
                }
            }
        }
    }

    /// Ends the connection. The client has a moment to read why, if it reads at all; then its transport ends.
    pub fn close(self: &Arc<Self>, why: Closing) {
        let first = self.doomed.set(why).is_ok();
        self.ended.cancel();
        if first {
            tracing::debug!(socket.id = self.id, reason = why.word(), "a socket is closed");
        }
        match &self.link {
            Link::SocketIo(io, sid, valve) => {
                let Some(socket) = io.get_socket(*sid) else { return };
                if first && let Ok(exception) = Frame::exception(&why.error()) {
                    let _ = socket.emit(exception.event, &*exception.data);
                }
                // A client that is sent away by name does not come back by itself. One that polls cannot be cut off.
                let by_name = !why.come_back() || (why == Closing::Resync && valve.get().is_none());
                if by_name && let Err(error) = socket.disconnect() {
                    tracing::debug!(error = %error, "a socket cannot be closed yet");
                }
            }
            Link::WebSocket(frames, _) => {
                let _ = frames.try_send(Outgoing::Close(why));
            }
        }
        if first && let Some(valve) = self.link.valve().cloned() {
            let this = self.clone();
            self.lifecycle.job(async move {
                tokio::time::sleep(FAREWELL).await;
                valve.cut();
                tokio::time::sleep(FAREWELL).await;
                this.abandon();
            });
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
