//! An instance: its parts put together, started in order and stopped in order.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use poem::{Endpoint, Response, Server};
use socketioxide::SocketIo;
use tokio::net::TcpListener;

use crate::auth::link::Links;
use crate::auth::password::Passwords;
use crate::auth::token::Tokens;
use crate::blob::Blobs;
use crate::broker::publish::Publisher;
use crate::broker::recent::Recent;
use crate::broker::tail::Tailed;
use crate::broker::topology::Durable;
use crate::broker::{self, Broker};
use crate::command::Commands;
use crate::command::directory::Directory;
use crate::command::inboxes::Inboxes;
use crate::command::limits::Limits;
use crate::command::lookup::Lookup;
use crate::command::preferences::Preferred;
use crate::command::receipts::Receipts;
use crate::command::resends::Resends;
use crate::command::uploads::{UploadLimits, Uploads};
use crate::config::Config;
use crate::consumer::deciding::Deciding;
use crate::consumer::notify::Notify;
use crate::consumer::orders::{self, Orders};
use crate::consumer::persist::Persist;
use crate::consumer::previews::{self, Previews};
use crate::domain::clock::Clock;
use crate::domain::ids::{InstanceId, UserId};
use crate::domain::push::{Kept, Push};
use crate::domain::roster::Roster;
use crate::domain::typing::Typing;
use crate::error::{Code, Error, Result};
use crate::gateway::{Gateway, Hub, Pushes, Typists, socketio};
use crate::lifecycle::Lifecycle;
use crate::metrics::Metrics;
use crate::operate::reminders::Reminders;
use crate::operate::sweep::Sweep;
use crate::presence::Presences;
use crate::query::Queries;
use crate::query::downloads::Downloads;
use crate::query::sync::Readers;
use crate::scan::Scanner;
use crate::server::pace::Paced;
use crate::server::{self, Front};
use crate::store::{Haste, Store};

/// How long an instance waits for each of the broker, the database and the attachment store when it starts.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long clients' last events may take to be answered before their sockets are closed.
const LAST_ANSWERS: Duration = Duration::from_secs(3);

/// The least that giving the lease back has.
const LAST_STEPS: Duration = Duration::from_millis(500);

/// How long sending all sockets away may take: some leave later than others, so that they do not all come back at once.
const LONGEST_FAREWELL: Duration = Duration::from_secs(5);

/// What an instance does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    /// Takes clients: REST and sockets.
    pub gateway: bool,
    /// Works on the log: projections and notifications.
    pub worker: bool,
}

impl Roles {
    /// Everything.
    pub const ALL: Self = Self { gateway: true, worker: true };
}

impl std::str::FromStr for Roles {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut roles = Self { gateway: false, worker: false };
        for word in text.split(',').map(str::trim) {
            match word {
                "gateway" => roles.gateway = true,
                "worker" => roles.worker = true,
                _ => {
                    return Err(Error::invalid(
                        "unknown_role",
                        "roles are gateway, worker, or both with a comma between",
                    ));
                }
            }
        }
        Ok(roles)
    }
}

/// A running instance.
pub struct App {
    /// Where it listens.
    pub address: SocketAddr,
    lifecycle: Lifecycle,
    broker: Broker,
    presences: Presences,
    front: Option<Running>,
    deadline: Duration,
}

/// What only a gateway has to stop.
struct Running {
    gateway: Arc<Gateway>,
    io: SocketIo,
}

impl App {
    /// Starts an instance; it takes requests when this returns.
    pub async fn start(config: &Config, roles: Roles) -> Result<Self> {
        let clock = Clock::System;
        let metrics = Metrics::default();
        // The port first: if somebody has it, nothing else is worth starting.
        let listener = TcpListener::bind(config.http.listen).await.map_err(|error| {
            Error::new(Code::Conflict, "port_taken", format!("cannot listen on {}: {error}", config.http.listen))
        })?;
        let address = listener.local_addr().map_err(Error::internal)?;
        let store = patiently("the database", || Store::connect(&config.store)).await?;
        let broker = patiently("the broker", || async {
            let highest = store.highest_seq().await?;
            broker::connect(&config.broker).await?.provision(&config.broker, highest).await
        })
        .await?
        .counted_by(metrics.clone());

        let lifecycle = Lifecycle::new();
        let blobs = patiently("the attachment store", || Blobs::open(&config.blobs, &lifecycle)).await?;
        broker.watch_link(&lifecycle);
        store.watch(&lifecycle, &metrics);
        broker.measure(&lifecycle);
        let publisher = broker.publisher(&lifecycle);
        let directory = Directory::new(broker.clone(), store.clone());
        let preferred = Preferred::new(broker.clone(), store.clone());
        let recent = Arc::new(Recent::new(config.sockets.window));
        let inboxes = Inboxes::new(broker.clone(), store.clone(), recent.clone());
        let uploads = uploads(config, &blobs, &metrics)?;
        let queries = Queries {
            broker: broker.clone(),
            store: store.clone(),
            directory: directory.clone(),
            inboxes: inboxes.clone(),
            preferred: preferred.clone(),
            uploads: uploads.clone(),
            recent: recent.clone(),
            readers: Readers::default(),
            downloads: Downloads::default(),
            metrics: metrics.clone(),
            clock: clock.clone(),
        };
        let roster = Arc::<Mutex<Roster>>::default();
        let limits = Limits::new(config.sockets.user_sends);
        let lookup = Lookup::new(broker.clone(), store.clone(), config.sockets.window);
        let hub = Arc::new(Hub::new(clock.clone(), broker.epoch(), metrics.clone()));
        let presences =
            Presences::start(&broker, store.clone(), preferred.clone(), clock.clone(), &lifecycle, hub.clone()).await?;
        tracing::info!(instance.id = %presences.instance(), "the instance has a name");
        let typists = Typists::start(hub.clone(), preferred.clone(), &lifecycle);
        // An instance without sockets listens all the same: what it knows of users and conversations stays right.
        let ears = Ears {
            roster: roster.clone(),
            recent,
            limits: limits.clone(),
            directory: directory.clone(),
            lookup: lookup.clone(),
            preferred: preferred.clone(),
            presences: presences.clone(),
            typists: typists.clone(),
            hub: hub.clone(),
        };
        broker.tail(&lifecycle, config.sockets.window as u64, move |tailed| ears.hear(tailed)).await?;
        if roles.worker {
            work(&queries, &lookup, &lifecycle, &publisher, &presences, &roster, config)?;
            sweep(&queries, &lifecycle, &presences, config).await?;
            let lease = broker.lease("reminders", presences.instance()).await?;
            Reminders::new(broker.clone(), store.clone(), publisher.clone(), clock.clone()).run(&lifecycle, lease);
        }
        let mut front = None;
        let mut running = None;
        if roles.gateway {
            let notes = Notes { instance: presences.instance(), store: store.clone(), preferred: preferred.clone() };
            notes.take(&hub, config.trace_days, &metrics, &lifecycle);
            let commands = Commands {
                broker: broker.clone(),
                receipts: Receipts::start(publisher.clone(), clock.clone(), &lifecycle),
                publisher,
                store: store.clone(),
                directory,
                inboxes,
                preferred,
                limits,
                resends: Resends::start(store, Duration::from_secs(config.broker.dedup_seconds), &lifecycle),
                lookup,
                uploads,
                editable: config.editable,
                tokens: Arc::new(Tokens::new(config.auth.secret.as_bytes(), config.auth.access_seconds)),
                passwords: Passwords::new(config.auth.cost, hashes_at_once())?,
                refresh_days: config.auth.refresh_days,
                clock,
            };
            broker.signals(&lifecycle, signals(roster, typists)).await?;
            let (cors, heartbeat, there) = (config.http.cors.clone(), config.sockets.heartbeat, presences.clone());
            let gateway = Gateway::start(commands.clone(), queries.clone(), hub, there, cors, heartbeat, &lifecycle);
            let (socket_io, io) = socketio::endpoint(gateway.clone());
            front = Some(Front { commands, presences: presences.clone(), gateway: gateway.clone(), socket_io });
            running = Some(Running { gateway, io });
        }
        let routes = server::routes(queries, blobs, lifecycle.clone(), metrics, &config.http.cors, front);
        let deadline = config.shutdown;
        serve(listener, routes, &lifecycle, deadline)?;
        Ok(Self { address, lifecycle, broker, presences, front: running, deadline })
    }

    /// Resolves when the instance has to stop by itself because a part of it died.
    pub async fn died(&self) {
        self.lifecycle.draining().cancelled().await;
    }

    /// Stops: no new work, sockets told, work in hand finished, the broker connection drained.
    pub async fn stop(self) -> Result<()> {
        tracing::info!("stopping");
        // One deadline for all of it, with a moment kept for the last steps.
        let end = tokio::time::Instant::now() + self.deadline;
        let left = || end.saturating_duration_since(tokio::time::Instant::now());
        self.lifecycle.drain();
        if let Some(front) = &self.front {
            front.gateway.settle(LAST_ANSWERS.min(self.deadline / 4)).await;
            front.gateway.send_away((self.deadline / 4).min(LONGEST_FAREWELL)).await;
            let _ = tokio::time::timeout(left() / 3, front.io.close()).await;
        }
        if !self.lifecycle.finished(left().mul_f32(0.8)).await {
            tracing::warn!("some work was not finished in time; nothing that was acknowledged is lost");
        }
        let _ = tokio::time::timeout(left().max(LAST_STEPS), self.presences.stop()).await;
        self.lifecycle.end();
        self.broker.close().await;
        tracing::info!("stopped");
        self.lifecycle.death().map_or(Ok(()), Err)
    }
}

/// Everybody who listens to the tail.
struct Ears {
    roster: Arc<Mutex<Roster>>,
    recent: Arc<Recent>,
    limits: Limits,
    directory: Directory,
    lookup: Lookup,
    preferred: Preferred,
    presences: Presences,
    typists: Arc<Typists>,
    hub: Arc<Hub>,
}

impl Ears {
    /// Takes what the tail brings to each of them.
    fn hear(&self, mut tailed: Tailed) {
        // Whom an event concerns, and what of it, is settled before anybody looks at it.
        if let Tailed::Event(stored, payload) = &mut tailed
            && self.roster.lock().unwrap_or_else(PoisonError::into_inner).follow(stored)
        {
            // Whoever resumes is told what the others were told, and not what the log has.
            *payload = broker::encode(&stored.event).unwrap_or_default();
        }
        // The window first: a socket that is in the hub by then finds there what it is not pushed.
        self.recent.observe(&tailed);
        match tailed {
            Tailed::Event(stored, _) => {
                self.limits.observe(&stored);
                self.directory.observe(&stored);
                self.lookup.observe(&stored);
                self.preferred.observe(&stored);
                self.presences.observe(&stored);
                // Whoever has said something is not typing it any more.
                self.typists.observe(&stored);
                self.hub.push(&stored);
            }
            Tailed::Passed(seq) => {
                self.lookup.passed(seq);
                self.hub.passed(seq);
            }
            // What lies before this was not heard: whoever is kept right by the tail may be wrong from here on.
            Tailed::Begins(seq) => {
                self.forget();
                self.lookup.passed(seq);
                self.hub.begin_anew(seq);
            }
        }
    }

    /// Everybody asks anew.
    fn forget(&self) {
        *self.roster.lock().unwrap_or_else(PoisonError::into_inner) = Roster::default();
        self.directory.forget_all();
        self.lookup.forget_all();
        self.preferred.forget_all();
        self.presences.forget_contacts();
    }
}

/// Takes requests until the instance drains.
fn serve(
    listener: TcpListener,
    routes: impl Endpoint<Output = Response> + 'static,
    lifecycle: &Lifecycle,
    deadline: Duration,
) -> Result<()> {
    let acceptor = Paced::new(listener).map_err(Error::internal)?;
    let draining = lifecycle.draining();
    lifecycle.background("http", async move {
        Server::new_with_acceptor(acceptor)
            .run_with_graceful_shutdown(routes, async move { draining.cancelled().await }, Some(deadline))
            .await
            .map_err(Error::internal)
    });
    Ok(())
}

/// What uploads need.
fn uploads(config: &Config, blobs: &Blobs, metrics: &Metrics) -> Result<Uploads> {
    let limits = UploadLimits {
        bytes: config.attachments.bytes,
        pixels: config.attachments.pixels,
        link: config.attachments.link,
        scans: config.attachments.scanner.is_some(),
    };
    Ok(Uploads::new(blobs.clone(), Links::new(config.auth.secret.as_bytes())?, limits, metrics.clone()))
}

/// Sweeps attachments whenever no other instance does.
async fn sweep(queries: &Queries, lifecycle: &Lifecycle, presences: &Presences, config: &Config) -> Result<()> {
    let Queries { broker, store, uploads, clock, .. } = queries.clone();
    let lease = broker.lease("sweep", presences.instance()).await?;
    let sweep = Sweep::new(broker, store, uploads.blobs, config.attachments.clone(), clock, uploads.metrics);
    sweep.run(lifecycle, lease);
    Ok(())
}

/// Works on the log, and on what other services say of orders.
fn work(
    queries: &Queries,
    lookup: &Lookup,
    lifecycle: &Lifecycle,
    publisher: &Publisher,
    presences: &Presences,
    roster: &Arc<Mutex<Roster>>,
    config: &Config,
) -> Result<()> {
    let Queries { broker, store, directory, preferred, recent, uploads, clock, .. } = queries.clone();
    let presences = presences.clone();
    let there = Arc::new(move |user| presences.status(user));
    let deciding = Deciding::new(directory.clone(), preferred.clone(), there);
    let notify = Notify::new(broker.clone(), publisher.clone(), clock.clone(), deciding.clone());
    let publisher = publisher.clone();
    let previews = Previews::new(previews::Means {
        blobs: uploads.blobs.clone(),
        metrics: uploads.metrics.clone(),
        store: store.clone(),
        publisher: publisher.clone(),
        directory: directory.clone(),
        lookup: lookup.clone(),
        deciding: deciding.clone(),
        scanner: config.attachments.scanner.as_deref().map(Scanner::new).transpose()?,
        pixels: config.attachments.pixels,
        clock: clock.clone(),
    });
    broker.consume(Durable::Previews, lifecycle, previews);
    let opens = config.orders_open_conversations;
    broker.trim(lifecycle);
    broker.consume(Durable::Persist, lifecycle, Persist::new(store.clone()));
    broker.consume(Durable::Notify, lifecycle, notify.knowing(roster.clone(), recent));
    let orders = Orders::new(orders::Means { store, publisher, directory, preferred, deciding, clock, opens })?;
    broker.consume(Durable::Orders, lifecycle, orders);
    Ok(())
}

/// Keeps notes of what is pushed here.
#[derive(Clone)]
struct Notes {
    instance: InstanceId,
    store: Store,
    preferred: Preferred,
}

impl Notes {
    /// Notes which messages are pushed here, for those who ask later where one is.
    fn take(self, hub: &Hub, days: u32, metrics: &Metrics, lifecycle: &Lifecycle) {
        if days == 0 {
            return;
        }
        let keep = move |pushes: Vec<Push>| {
            let notes = self.clone();
            async move { notes.keep(pushes, days).await }
        };
        hub.note_into(Pushes::start(lifecycle, metrics.clone(), keep));
    }

    /// Who does not show the sender that they are there is to be hidden for ever, whatever they want later; so is whoever
    /// cannot be asked about right now.
    async fn keep(&self, pushes: Vec<Push>, days: u32) -> Result<()> {
        let concerned = pushes.iter().flat_map(|push| push.users.iter().copied().chain([push.sender_id]));
        let concerned: HashSet<UserId> = concerned.collect();
        let (everybody, _) = self.preferred.some(concerned, Haste::Patient).await;
        let part = |push: Push| {
            let sender = push.sender_id;
            push.part(|user| everybody.shows(user, sender))
        };
        let kept: Vec<Kept> = pushes.into_iter().map(part).collect();
        self.store.note_pushes(self.instance, &kept, days).await
    }
}

/// Takes signals to whoever shows them. As with events, whoever sent one may not have heard yet who has left.
fn signals(roster: Arc<Mutex<Roster>>, typists: Arc<Typists>) -> impl FnMut(Typing) + Send + 'static {
    move |mut signal| {
        let known = roster.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(signal.conversation_id, &mut signal.recipients);
        drop(known);
        typists.hear(signal);
    }
}

/// As many hashes at once as there are cores, less one for the sockets.
fn hashes_at_once() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get).saturating_sub(1).max(1)
}

/// Tries again for a while: in a new deployment everything starts at once.
async fn patiently<T, F, Fut>(what: &'static str, mut attempt: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T>>,
{
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        match attempt().await {
            Ok(done) => return Ok(done),
            Err(error) if error.transient() && tokio::time::Instant::now() < deadline => {
                tracing::warn!(error = %error, "waiting for {what}");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Err(error) => return Err(error),
        }
    }
}
