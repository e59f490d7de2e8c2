//! The driver: carries out what sessions decide, for both kinds of sockets.
//!
//! The events of one socket are taken in order, and a send is in line at the broker before the next event is looked at:
//! that keeps one sender's messages in order with many in flight. Answers are waited for on the side.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use socketioxide::socket::Sid;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::closing::Closing;
use super::connection::{Connection, ConnectionId};
use super::deliveries::Deliveries;
use super::hub::Hub;
use super::inbox::{Inbound, Reply};
use super::protocol::Done;
use super::session::{Step, known};
use crate::auth::Actor;
use crate::command::Commands;
use crate::command::changes::{ChangeMessage, Changed};
use crate::command::inbox::InboxChanged;
use crate::command::messages::{SendMessage, Sent};
use crate::command::receipts::{Mark, Marked, Marking};
use crate::config::Cors;
use crate::domain::clock::{Timestamp, random_bits};
use crate::domain::cursor::Cursor;
use crate::domain::event::{Body, Stored};
use crate::domain::frame::{Frame, Synced};
use crate::domain::ids::{ConversationId, UserId};
use crate::domain::state::MessageState;
use crate::domain::trace::TraceContext;
use crate::error::{Code, Error, Result};
use crate::lifecycle::Lifecycle;
use crate::presence::Presences;
use crate::query::Queries;
use crate::query::sync::{Lost, Resumed};

/// Events of one reading of what a client missed.
const PAGE: usize = 1_000;
/// Events that a client is told again, at most; whoever missed more is quicker with a reload.
const REPLAY: usize = 5_000;
/// The same in bytes, about.
const REPLAY_BYTES: usize = 8 << 20;
/// How long a client may take to hear them.
const LONGEST_REPLAY: Duration = Duration::from_mins(1);

/// Connections by Socket.IO's name, each with where its client was before.
type Opening = HashMap<Sid, (Arc<Connection>, Option<String>)>;

/// Everything that sockets need; shared by all of them.
#[derive(Debug)]
pub struct Gateway {
    /// The sockets here.
    pub hub: Arc<Hub>,
    /// Who may open one from a browser.
    pub cors: Cors,
    pub(super) commands: Commands,
    pub(super) queries: Queries,
    pub(super) lifecycle: Lifecycle,
    presences: Presences,
    pub(super) deliveries: Deliveries,
    /// Socket.IO sockets whose clients do not know yet that they are connected, and where those were before.
    opening: Mutex<Opening>,
    /// Socket.IO sockets that poll and may still go over to a WebSocket.
    polling: Mutex<HashMap<Sid, Arc<Connection>>>,
    /// Nobody new is taken, as the broker does not answer.
    pub(super) shut: AtomicBool,
    /// Events that clients wait to be answered about.
    in_hand: TaskTracker,
}

impl Gateway {
    /// A gateway; it looks after its sockets until the instance drains.
    #[must_use]
    pub fn start(
        commands: Commands,
        queries: Queries,
        hub: Arc<Hub>,
        presences: Presences,
        cors: Cors,
        heartbeat: Duration,
        lifecycle: &Lifecycle,
    ) -> Arc<Self> {
        let gateway = Arc::new(Self {
            hub,
            cors,
            deliveries: Deliveries::start(commands.clone(), lifecycle),
            commands,
            queries,
            lifecycle: lifecycle.clone(),
            presences,
            opening: Mutex::default(),
            polling: Mutex::default(),
            shut: AtomicBool::new(false),
            in_hand: TaskTracker::new(),
        });
        gateway.look_after_sockets(heartbeat);
        gateway
    }

    /// The current time.
    pub(super) fn now(&self) -> Timestamp {
        self.commands.clock().now()
    }

    /// Whether the instance stops.
    fn is_draining(&self) -> bool {
        self.lifecycle.is_draining()
    }

    /// Whether no new sockets are taken.
    pub(super) fn is_closed(&self) -> bool {
        self.is_draining() || self.shut.load(Ordering::Relaxed)
    }

    /// Sockets that are being opened.
    pub(super) fn opening(&self) -> MutexGuard<'_, Opening> {
        self.opening.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sockets that poll.
    pub(super) fn polling(&self) -> MutexGuard<'_, HashMap<Sid, Arc<Connection>>> {
        self.polling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose token this is.
    pub fn identify(&self, token: &str) -> Result<Arc<Actor>> {
        self.commands.tokens().read(token, self.now()).map(Arc::new)
    }

    /// A socket has become this user's.
    pub fn attach(&self, user: UserId, connection: Arc<Connection>) {
        let id = connection.id;
        self.hub.attach(user, connection);
        self.presences.opened(user, id);
    }

    /// A socket of this user is gone, and with it whoever typed there has stopped.
    pub fn detach(&self, user: UserId, id: ConnectionId) {
        let Some(connection) = self.hub.detach(user, id) else { return };
        self.presences.closed(user, id);
        let typed_in = connection.typer().end();
        if !typed_in.is_empty() {
            let commands = self.commands.clone();
            self.lifecycle.job(async move {
                for conversation in typed_in {
                    // It ends by itself if nobody can be told.
                    let _ = commands.signal_typing(user, conversation, false).await;
                }
            });
        }
    }

    /// Waits until every event that was taken is answered, at most this long. No more are taken while the instance drains.
    pub async fn settle(&self, longest: Duration) {
        self.in_hand.close();
        if tokio::time::timeout(longest, self.in_hand.wait()).await.is_err() {
            tracing::warn!(events = self.in_hand.len(), "some clients are sent away without their answers");
        }
    }

    /// Takes an event from a client.
    pub fn receive(self: &Arc<Self>, connection: &Arc<Connection>, inbound: Inbound) {
        if connection.receive(inbound) {
            let (gateway, connection) = (self.clone(), connection.clone());
            self.lifecycle.job(self.in_hand.track_future(async move {
                while let Some(inbound) = connection.next_inbound() {
                    connection.may_answer_later().await;
                    gateway.perform(&connection, inbound).await;
                }
            }));
        }
    }

    async fn perform(self: &Arc<Self>, connection: &Arc<Connection>, Inbound { event, reply }: Inbound) {
        if self.is_draining() {
            connection.answer(reply, &Err(Closing::GoingAway.error()));
            return;
        }
        let trace = TraceContext::root(random_bits());
        let now = self.now();
        let step = event.and_then(|event| connection.session().on_event(event, self.commands.tokens(), now));
        let span = tracing::debug_span!(
            "socket_event",
            socket.id = connection.id,
            event = step.as_ref().map_or("refused", Step::name),
            user.id = connection.user().map(tracing::field::display),
            trace.id = format_args!("{:032x}", trace.trace),
        );
        async {
            match step {
                Ok(step) => self.carry_out(connection, step, reply, trace).await,
                Err(error) => {
                    tracing::debug!(error = %error, "an event was refused");
                    connection.answer(reply, &Err(error));
                }
            }
        }
        .instrument(span)
        .await;
    }

    async fn carry_out(self: &Arc<Self>, connection: &Arc<Connection>, step: Step, reply: Reply, trace: TraceContext) {
        match step {
            Step::Answer(done) => connection.answer(reply, &Ok(done)),
            Step::Identify(actor, cursor) => {
                connection.set_expiry(actor.expires_at);
                connection.answer(reply, &Ok(known(&actor)));
                connection.hold();
                self.attach(actor.user_id, connection.clone());
                self.begin(connection, actor.user_id, cursor);
            }
            Step::Sync(actor, cursor) => self.sync(connection, actor.user_id, cursor, reply),
            Step::Renew(actor) => {
                connection.set_expiry(actor.expires_at);
                connection.answer(reply, &Ok(known(&actor)));
            }
            Step::Send(actor, send) => self.send(connection, &actor, send, reply, trace).await,
            Step::Change(actor, change) => self.change(connection, &actor, change, reply, trace).await,
            Step::Typing(actor, conversation, typing) => {
                let outcome = self.typing(connection, &actor, conversation, typing).await;
                connection.answer(reply, &outcome.map(|()| Done::Nothing {}));
            }
            Step::SetPresence(actor, sign) => {
                self.presences.says(actor.user_id, connection.id, sign);
                connection.answer(reply, &Ok(Done::Nothing {}));
            }
            Step::Mark(actor, conversation, mark, up_to) => {
                let marking = self.commands.mark(&actor, conversation, mark, up_to, Some(trace)).await;
                self.mark(connection, mark, marking, reply);
            }
            Step::ChangeInbox(actor, change) => {
                let commands = self.commands.clone();
                self.answer_later(connection, reply, async move {
                    let InboxChanged { seq, counts } = commands.change_inbox(&actor, change, Some(trace)).await?;
                    Ok(Done::NotificationsMarked { seq, counts })
                });
            }
        }
    }

    async fn send(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        actor: &Actor,
        send: SendMessage,
        reply: Reply,
        trace: TraceContext,
    ) {
        let (id, conversation) = (self.commands.name_message(actor, &send), send.conversation_id);
        // This socket hears of its message by the answer; the tail may be faster than the answer.
        connection.sending(id);
        match self.commands.send_message(actor, id, send, Some(trace)).await {
            Ok(in_line) => {
                // The message says it to everybody.
                connection.typer().stop(conversation);
                let (commands, from) = (self.commands.clone(), connection.clone());
                self.answer_later(connection, reply, async move {
                    let outcome = commands.sent(in_line).await;
                    let unpushed = outcome.as_ref().map_or(true, |sent| sent.duplicate);
                    if unpushed && !from.take_own(id) && outcome.is_err() {
                        // The tail has brought it, and the socket was not told of it, as its answer was to come.
                        from.close(Closing::Resync);
                    }
                    let Sent { state: MessageState { seq, message, .. }, .. } = outcome?;
                    Ok(Done::Sent { id: message.id, seq, created_at: message.created_at })
                });
            }
            Err(error) => {
                connection.take_own(id);
                connection.answer(reply, &Err(error));
            }
        }
    }

    /// Passes on that somebody types or has stopped, if that is news.
    async fn typing(
        &self,
        connection: &Connection,
        actor: &Actor,
        conversation: ConversationId,
        typing: bool,
    ) -> Result<()> {
        self.commands.require_typing(actor, conversation, typing).await?;
        let news = if typing {
            connection.typer().sign(conversation, Instant::now())
        } else {
            connection.typer().stop(conversation)
        };
        if !news {
            return Ok(());
        }
        let signalled = self.commands.signal_typing(actor.user_id, conversation, typing).await;
        if signalled.is_err() {
            connection.typer().stop(conversation);
        } else if typing && connection.typer().is_over() {
            // It has ended meanwhile, and its end may have gone out before this.
            return self.commands.signal_typing(actor.user_id, conversation, false).await;
        }
        signalled
    }

    async fn change(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        actor: &Actor,
        change: ChangeMessage,
        reply: Reply,
        trace: TraceContext,
    ) {
        match self.commands.change_message(actor, change, Some(trace)).await {
            Ok(changing) => self.answer_later(connection, reply, async move {
                let Changed { conversation_id, message_id, seq, .. } = changing.stored().await?;
                Ok(Done::Changed { conversation_id, message_id, seq })
            }),
            Err(error) => connection.answer(reply, &Err(error)),
        }
    }

    /// Answers a mark once the log has it.
    fn mark(&self, connection: &Arc<Connection>, mark: Mark, marking: Result<Marking>, reply: Reply) {
        let marking = match marking {
            Ok(marking) => marking,
            Err(error) => return connection.answer(reply, &Err(error)),
        };
        let commands = self.commands.clone();
        self.answer_later(connection, reply, async move {
            let Marked { conversation_id, read_seq, delivered_seq } = commands.marked(marking).await?;
            Ok(match mark {
                Mark::Read => Done::Read { conversation_id, read_seq },
                Mark::Delivered => Done::Delivered { conversation_id, delivered_seq },
            })
        });
    }

    /// Answers when the broker has, without keeping the socket's next event waiting.
    fn answer_later(
        &self,
        connection: &Arc<Connection>,
        reply: Reply,
        outcome: impl Future<Output = Result<Done>> + Send + 'static,
    ) {
        let (connection, place) = (connection.clone(), connection.begin_answer());
        self.lifecycle.job(self.in_hand.track_future(async move {
            let outcome = outcome.await;
            drop(place);
            if let Err(error) = &outcome {
                tracing::warn!(socket.id = connection.id, error = %error, "an event was not stored");
            }
            connection.answer(reply, &outcome);
        }));
    }

    /// A socket that is held goes live, after being told what it missed if it was here before.
    pub fn begin(self: &Arc<Self>, connection: &Arc<Connection>, user: UserId, cursor: Option<String>) {
        let Some(cursor) = cursor else {
            let synced = Synced::lost(Lost::NoCursor.word(), self.queries.position());
            release(connection, &synced, 0);
            return;
        };
        let (gateway, connection) = (self.clone(), connection.clone());
        self.lifecycle.job(async move {
            let _ = gateway.replay(&connection, user, cursor).await;
        });
    }

    /// Tells an open socket what it missed.
    fn sync(self: &Arc<Self>, connection: &Arc<Connection>, user: UserId, cursor: String, reply: Reply) {
        if !connection.hold() {
            let twice = Error::new(Code::RateLimited, "sync_in_progress", "this socket is being told what it missed")
                .retry_after(Duration::from_secs(1));
            connection.answer(reply, &Err(twice));
            return;
        }
        let (gateway, connection) = (self.clone(), connection.clone());
        self.lifecycle.job(self.in_hand.track_future(async move {
            let synced = gateway.replay(&connection, user, cursor).await;
            connection.answer(reply, &synced.map(Done::Synced));
        }));
    }

    /// Subscribed first, replayed second: the socket is in the hub and held, so whatever comes after the replay's end is
    /// in its queue, and what is in both is told once. A replay that breaks off says nothing of its end.
    async fn replay(&self, connection: &Arc<Connection>, user: UserId, cursor: String) -> Result<Synced> {
        let found = tokio::select! {
            found = self.missed(user, cursor) => found,
            () = connection.ended() => return Err(Closing::Resync.error()),
        };
        let (synced, upto) = match found {
            Ok((events, position)) => {
                let until = Instant::now() + LONGEST_REPLAY;
                let mut told = Vec::new();
                for stored in &events {
                    let frame = Frame::durable(stored, position.epoch)?;
                    if connection.expired(self.now()) {
                        connection.close(Closing::Expired);
                    } else if Instant::now() > until {
                        connection.close(Closing::Resync);
                    }
                    if !connection.deliver(&frame).await {
                        self.hub.note_replay(user, told);
                        return Err(connection.closing().unwrap_or(Closing::Resync).error());
                    }
                    connection.note_head(stored.seq);
                    told.extend(frame.carries.filter(|carried| carried.sender_id != user));
                }
                self.hub.note_replay(user, told);
                let events = events.len();
                (Synced { recovered: true, reason: None, cursor: position.to_string(), events }, position.seq)
            }
            Err((lost, position)) => (Synced::lost(lost.word(), position), 0),
        };
        tracing::debug!(
            socket.id = connection.id,
            recovered = synced.recovered,
            reason = synced.reason,
            events = synced.events,
            "a client has resumed"
        );
        if connection.expired(self.now()) {
            connection.close(Closing::Expired);
        }
        release(connection, &synced, upto);
        Ok(synced)
    }

    /// Everything that a user missed, and how far that goes.
    async fn missed(&self, user: UserId, mut cursor: String) -> Result<(Vec<Arc<Stored>>, Cursor), (Lost, Cursor)> {
        let (mut events, mut bytes) = (Vec::new(), 0);
        loop {
            match self.queries.missed(user, &cursor, PAGE).await {
                Resumed::Lost(lost, position) => return Err((lost, position)),
                Resumed::Recovered(missed) => {
                    bytes += missed.events.iter().map(|stored| weight(stored)).sum::<usize>();
                    events.extend(missed.events);
                    if bytes > REPLAY_BYTES {
                        return Err((Lost::TooMuch, self.queries.position()));
                    }
                    if !missed.more {
                        return Ok((events, missed.cursor));
                    }
                    if events.len() >= REPLAY {
                        return Err((Lost::TooMuch, self.queries.position()));
                    }
                    cursor = missed.cursor.to_string();
                }
            }
        }
    }
}

/// About what an event takes in memory.
fn weight(stored: &Stored) -> usize {
    const REST: usize = 500;
    REST + match &stored.event.body {
        Body::Message(message) => message.text.len() + message.attachments.len() * 500,
        Body::Attachment(_) => 500,
        Body::Edit(edit) => edit.text.len(),
        Body::Conversation(conversation) => conversation.participants.len() * 100,
        Body::Preferences(preferences) => preferences.blocked.len() * 32,
        _ => 0,
    }
}

/// Ends the holding of a socket.
fn release(connection: &Arc<Connection>, synced: &Synced, upto: u64) {
    match Frame::synced(synced) {
        Ok(frame) => connection.release(frame, upto),
        Err(error) => tracing::error!(error = %error, "the end of a replay cannot be told"),
    }
}
