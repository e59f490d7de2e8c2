//! The driver: carries out what sessions decide, for both kinds of sockets.
//!
//! The events of one socket are taken in order, and a send is in line at the broker before the next event is looked at:
//! that keeps one sender's messages in order with many in flight. Answers are waited for on the side.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use socketioxide::socket::Sid;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::connection::{Closing, Connection, Inbound, Reply};
use super::hub::Hub;
use super::protocol::Done;
use super::session::{Step, known};
use crate::auth::Actor;
use crate::command::Commands;
use crate::command::messages::{SendMessage, Sent};
use crate::config::Cors;
use crate::domain::clock::{Timestamp, random_bits};
use crate::domain::ids::{ConversationId, UserId};
use crate::domain::trace::TraceContext;
use crate::error::Result;
use crate::lifecycle::Lifecycle;
use crate::presence::Presences;

/// How often sockets are looked through for those that should be gone.
const SWEEP: Duration = Duration::from_secs(5);

/// Everything that sockets need; shared by all of them.
#[derive(Debug)]
pub struct Gateway {
    /// The sockets here.
    pub hub: Arc<Hub>,
    /// Who may open one from a browser.
    pub cors: Cors,
    pub(super) commands: Commands,
    pub(super) lifecycle: Lifecycle,
    presences: Presences,
    /// Socket.IO sockets whose clients do not know yet that they are connected.
    opening: Mutex<HashMap<Sid, Arc<Connection>>>,
    /// Events that clients wait to be answered about.
    in_hand: TaskTracker,
}

impl Gateway {
    /// A gateway; it looks after its sockets until the instance drains.
    #[must_use]
    pub fn start(
        commands: Commands,
        hub: Arc<Hub>,
        presences: Presences,
        cors: Cors,
        lifecycle: &Lifecycle,
    ) -> Arc<Self> {
        let gateway = Arc::new(Self {
            hub,
            cors,
            commands,
            lifecycle: lifecycle.clone(),
            presences,
            opening: Mutex::default(),
            in_hand: TaskTracker::new(),
        });
        let draining = lifecycle.draining();
        let this = gateway.clone();
        lifecycle.background("gateway-sweep", async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(SWEEP) => {}
                    () = draining.cancelled() => return Ok(()),
                }
                let now = this.now();
                for (user, id) in this.hub.sweep(now) {
                    this.detach(user, id);
                }
                let opening: Vec<_> = this.opening().iter().map(|(sid, one)| (*sid, one.clone())).collect();
                for (sid, connection) in opening {
                    if !connection.is_there(now) {
                        this.opening().remove(&sid);
                    }
                }
            }
        });
        gateway
    }

    /// The current time.
    pub(super) fn now(&self) -> Timestamp {
        self.commands.clock().now()
    }

    /// Whether no new sockets are taken.
    pub(super) fn is_draining(&self) -> bool {
        self.lifecycle.is_draining()
    }

    /// Sockets that are being opened.
    pub(super) fn opening(&self) -> MutexGuard<'_, HashMap<Sid, Arc<Connection>>> {
        self.opening.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose token this is.
    pub fn identify(&self, token: &str) -> Result<Arc<Actor>> {
        self.commands.tokens().read(token, self.now()).map(Arc::new)
    }

    /// A socket has become this user's.
    pub fn attach(&self, user: UserId, connection: Arc<Connection>) {
        self.hub.attach(user, connection);
        self.presences.opened(user);
    }

    /// A socket of this user is gone.
    pub fn detach(&self, user: UserId, id: u64) {
        if self.hub.detach(user, id) {
            self.presences.closed(user);
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
            Step::Identify(actor) => {
                connection.set_expiry(actor.expires_at);
                connection.answer(reply, &Ok(known(&actor)));
                self.attach(actor.user_id, connection.clone());
            }
            Step::Renew(actor) => {
                connection.set_expiry(actor.expires_at);
                connection.answer(reply, &Ok(known(&actor)));
            }
            Step::Send(actor, send) => self.send(connection, &actor, send, reply, trace).await,
            Step::Typing(actor, conversation, typing) => {
                let outcome = self.commands.signal_typing(&actor, conversation, typing).await;
                connection.answer(reply, &outcome.map(|()| Done::Nothing {}));
            }
            Step::MarkRead(actor, conversation) => self.mark_read(connection, &actor, conversation, reply, trace).await,
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
        let id = self.commands.name_message(actor, &send);
        // This socket hears of its message by the answer; the tail may be faster than the answer.
        connection.sending(id);
        match self.commands.send_message(actor, id, send, Some(trace)).await {
            Ok(in_line) => {
                let (commands, from) = (self.commands.clone(), connection.clone());
                self.answer_later(connection, reply, async move {
                    let outcome = commands.sent(in_line).await;
                    if outcome.as_ref().map_or(true, |sent| sent.duplicate) {
                        from.take_own(id);
                    }
                    let Sent { message, seq, .. } = outcome?;
                    Ok(Done::Sent { id: message.id, seq, created_at: message.created_at })
                });
            }
            Err(error) => {
                connection.take_own(id);
                connection.answer(reply, &Err(error));
            }
        }
    }

    async fn mark_read(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        actor: &Actor,
        conversation: ConversationId,
        reply: Reply,
        trace: TraceContext,
    ) {
        match self.commands.mark_read(actor, conversation, Some(trace)).await {
            Ok(marking) => self.answer_later(connection, reply, async move {
                let receipt = marking.stored().await?;
                Ok(Done::Read { conversation_id: receipt.conversation_id, read_seq: receipt.read_seq })
            }),
            Err(error) => connection.answer(reply, &Err(error)),
        }
    }

    /// Answers when the broker has, without keeping the socket's next event waiting.
    fn answer_later(
        &self,
        connection: &Arc<Connection>,
        reply: Reply,
        outcome: impl Future<Output = Result<Done>> + Send + 'static,
    ) {
        let connection = connection.clone();
        self.lifecycle.job(self.in_hand.track_future(async move {
            let outcome = outcome.await;
            if let Err(error) = &outcome {
                tracing::warn!(socket.id = connection.id, error = %error, "an event was not stored");
            }
            connection.answer(reply, &outcome);
        }));
    }
}
