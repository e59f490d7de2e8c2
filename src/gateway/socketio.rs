//! Socket.IO at `/socket.io/`: WebSocket, polling, and polling upgraded to WebSocket.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use engineioxide::service::NotFoundService;
use poem::endpoint::TowerCompatExt as _;
use poem::http::header::{self, HeaderMap, HeaderValue};
use poem::http::{Method, StatusCode};
use poem::web::headers::{HeaderMapExt as _, SecWebsocketAccept, SecWebsocketKey};
use poem::{Endpoint, Request, Response};
use serde::Deserialize;
use serde_json::value::RawValue;
use socketioxide::SocketIo;
use socketioxide::adapter::LocalAdapter;
use socketioxide::extract::{AckSender, SocketRef, TryData};
use socketioxide::handler::ConnectHandler as _;
use socketioxide::handler::message::FromMessage;
use socketioxide::service::SocketIoService;
use socketioxide::socket::{Sid, Socket};
use socketioxide_core::Value;

use super::closing::Closing;
use super::connection::Connection;
use super::driver::Gateway;
use super::inbox::{Inbound, Reply};
use super::link::Link;
use super::origin;
use super::protocol::ClientEvent;
use super::session::Session;
use super::valve::{Gated, Valve};
use crate::auth::Actor;
use crate::auth::token::missing;
use crate::error::{Error, Result};
use crate::problem;

/// Packets that wait for a client in Engine.IO, at most: answers and what is on its way. What a client is slow to take waits
/// in its outbox.
const QUEUE: usize = 2_048;
/// Largest packet from a client, as for REST bodies.
const PACKET_LIMIT: usize = 1 << 20;
/// How long a client may take to acknowledge a message; it is not taken for delivered by that.
const ACK_TIMEOUT: Duration = Duration::from_secs(30);
/// What a WebSocket reads at once. Chat frames are small, and ten thousand idle sockets each hold this much.
const READ_BUFFER: usize = 1 << 10;

type Svc = SocketIoService<NotFoundService>;

/// The endpoint.
pub struct SocketIoEndpoint {
    gateway: Arc<Gateway>,
    service: Svc,
}

/// What a client brings in the handshake.
#[derive(Debug, Default, Deserialize)]
struct Handshake {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    cursor: Option<String>,
    /// Whether it acknowledges the messages that it gets.
    #[serde(default, rename = "deliveryAcks")]
    delivery_acks: serde_json::Value,
}

/// A refused handshake, as the client reads it: the stable reason, then a sentence.
struct Refused(Error);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.reason(), self.0.shown())
    }
}

/// Builds the endpoint. The handle it returns with it closes every socket.
#[must_use]
pub fn endpoint(gateway: Arc<Gateway>) -> (SocketIoEndpoint, SocketIo) {
    let (service, io) = SocketIo::builder()
        .req_path("/socket.io")
        .max_payload(PACKET_LIMIT as u64)
        .ws_max_message_size(PACKET_LIMIT)
        .ws_max_frame_size(PACKET_LIMIT)
        .ws_read_buffer_size(READ_BUFFER)
        .max_buffer_size(QUEUE)
        .ping_interval(Duration::from_secs(25))
        .ping_timeout(Duration::from_secs(20))
        .connect_timeout(Duration::from_secs(10))
        .ack_timeout(ACK_TIMEOUT)
        .build_svc();
    let (admitting, opening, handle) = (gateway.clone(), gateway.clone(), io.clone());
    // The socket is attached before the client hears that it is connected, so that nothing falls between the two: its
    // handlers are there for its first event, and what is pushed meanwhile is held.
    let admit = move |socket: SocketRef, TryData(handshake): TryData<Handshake>| {
        let handshake = handshake.unwrap_or_default();
        let admitted = who(&admitting, &socket, handshake.token.as_deref())
            .map(|actor| attach(&admitting, &handle, &socket, actor, handshake))
            .map_err(Refused);
        async move { admitted }
    };
    let opened = move |socket: SocketRef| {
        // Not in the condition: its lock would be held while frames go out.
        let found = opening.opening().remove(&socket.id);
        if let Some((connection, cursor)) = found
            && let Some(user) = connection.user()
        {
            opening.begin(&connection, user, cursor);
        }
        async {}
    };
    io.ns("/", opened.with(admit));
    (SocketIoEndpoint { gateway, service }, io)
}

/// Whose token the handshake carries: in `auth.token`, or in an Authorization header.
fn who(gateway: &Gateway, socket: &SocketRef, token: Option<&str>) -> Result<Arc<Actor>> {
    match token {
        Some(token) => gateway.identify(token),
        None => gateway.identify(bearer(&socket.req_parts().headers).ok_or_else(missing)?),
    }
}

/// The token of an Authorization header.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Makes the connection of a socket and its handlers.
fn attach(gateway: &Arc<Gateway>, io: &SocketIo, socket: &SocketRef, actor: Arc<Actor>, handshake: Handshake) {
    let user = actor.user_id;
    let valve = socket.req_parts().extensions.get::<Arc<Valve>>().cloned();
    let polls = valve.is_none();
    let link = Link::SocketIo(io.clone(), socket.id, valve.map_or_else(OnceLock::new, OnceLock::from));
    let session = Session::Identified(actor);
    let connection = Connection::new(gateway.hub.next_id(), link, session, gateway.now(), gateway.lifecycle.clone());
    let confirms = handshake.delivery_acks == serde_json::Value::Bool(true);
    let connection = Arc::new(if confirms { connection.confirming(gateway.deliveries.clone()) } else { connection });
    let (receiving, from) = (gateway.clone(), connection.clone());
    socket.on_fallback(move |ack: AckSender, Raw { event, asked }: Raw| {
        let reply = if asked { Reply::SocketIo(ack) } else { Reply::None };
        receiving.receive(&from, Inbound { event, reply });
        async {}
    });
    let (leaving, id) = (gateway.clone(), connection.id);
    socket.on_disconnect(move |socket: SocketRef| {
        leaving.opening().remove(&socket.id);
        leaving.polling().remove(&socket.id);
        leaving.detach(user, id);
        async {}
    });
    if polls {
        gateway.polling().insert(socket.id, connection.clone());
    }
    gateway.opening().insert(socket.id, (connection.clone(), handshake.cursor));
    gateway.attach(user, connection);
}

/// An event as it came in, read by our own rules: a payload that cannot be read is answered, not dropped.
struct Raw {
    event: Result<ClientEvent>,
    asked: bool,
}

impl FromMessage<LocalAdapter> for Raw {
    type Error = std::convert::Infallible;

    fn from_message(_: Arc<Socket>, packet: Value, ack_id: Option<i64>) -> Result<Self, Self::Error> {
        let event = match &packet {
            Value::Str(text, attached) if attached.as_ref().is_none_or(VecDeque::is_empty) => read(text),
            Value::Str(..) | Value::Bytes(_) => Err(Error::invalid("malformed_payload", "events are JSON here")),
        };
        Ok(Self { event, asked: ack_id.is_some() })
    }
}

/// Reads `["event", payload, ...]`.
fn read(packet: &str) -> Result<ClientEvent> {
    let parts: Vec<&RawValue> = serde_json::from_str(packet)
        .map_err(|error| Error::invalid("malformed_payload", format!("the event cannot be read: {error}")))?;
    let name = parts.first().and_then(|name| serde_json::from_str::<std::borrow::Cow<'_, str>>(name.get()).ok());
    let name = name.ok_or_else(|| Error::invalid("malformed_payload", "an event begins with its name"))?;
    ClientEvent::read(&name, parts.get(1).copied())
}

impl Endpoint for SocketIoEndpoint {
    type Output = Response;

    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        origin::check(&request, &self.gateway.cors).map_err(problem::into_poem)?;
        if self.gateway.is_closed() {
            return Err(problem::into_poem(Closing::GoingAway.error()));
        }
        keep_what_matters(request.headers_mut());
        match upgrade_key(&request) {
            Some(key) => self.upgrade(&request, key),
            None => self.service.clone().compat().call(request).await,
        }
    }
}

impl SocketIoEndpoint {
    /// Answers an upgrade and hands the raw stream over: poem takes hyper's upgrade handle out of a request, so
    /// socketioxide cannot find it by itself.
    fn upgrade(&self, request: &Request, key: SecWebsocketKey) -> poem::Result<Response> {
        let upgrade = request.take_upgrade()?;
        let mut plain = poem::http::Request::new(());
        *plain.method_mut() = request.method().clone();
        *plain.uri_mut() = request.uri().clone();
        // Engine.IO keeps this request for as long as the socket; only the token may be asked for again.
        if let Some(token) = request.headers().get(header::AUTHORIZATION) {
            plain.headers_mut().insert(header::AUTHORIZATION, token.clone());
        }
        let valve = Arc::<Valve>::default();
        let sid = sid(request);
        // One that polled until now.
        let polled = sid.and_then(|sid| self.gateway.polling().remove(&sid));
        match &polled {
            Some(connection) => connection.carried_by(valve.clone()),
            None => drop(plain.extensions_mut().insert(valve.clone())),
        }
        let service = self.service.clone();
        self.gateway.lifecycle.job(async move {
            match upgrade.await {
                Ok(stream) => {
                    let _ = hyper::service::Service::call(&service, (Gated::new(stream, valve.clone()), plain)).await;
                    // An upgrade that comes to nothing half-way leaves a session that Engine.IO takes for one that is still
                    // being upgraded, for ever. So a session that polled ends with its WebSocket.
                    if let (Some(sid), Some(connection)) = (sid, polled) {
                        tokio::select! {
                            () = valve.over() => {
                                end_session(&service, sid).await;
                                connection.abandon();
                            }
                            () = connection.ended() => {}
                        }
                    }
                }
                Err(error) => tracing::debug!(error = %error, "a WebSocket upgrade came to nothing"),
            }
        });
        let mut response = Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "websocket")
            .finish();
        response.headers_mut().typed_insert(SecWebsocketAccept::from(key));
        Ok(response)
    }
}

/// Ends a session as its own client would, with an Engine.IO close packet. One that is gone already is not found.
async fn end_session(service: &Svc, sid: Sid) {
    let close = Request::builder()
        .method(Method::POST)
        .uri(poem::http::Uri::try_from(format!("/socket.io/?EIO=4&transport=polling&sid={sid}")).unwrap_or_default())
        .content_type("text/plain;charset=UTF-8")
        .body("1");
    let _ = service.clone().compat().call(close).await;
}

/// The session that a request is about.
fn sid(request: &Request) -> Option<Sid> {
    request.uri().query()?.split('&').find_map(|pair| pair.strip_prefix("sid="))?.parse().ok()
}

/// The key of a WebSocket upgrade that Engine.IO will take; anything else gets Engine.IO's own answer over HTTP.
fn upgrade_key(request: &Request) -> Option<SecWebsocketKey> {
    let headers = request.headers();
    let upgrade = headers.get(header::UPGRADE)?;
    let version = headers.get(header::SEC_WEBSOCKET_VERSION)?;
    let query = request.uri().query()?;
    let asked = |pair: &str| query.split('&').any(|part| part == pair);
    let taken = request.method() == Method::GET
        && upgrade.as_bytes().eq_ignore_ascii_case(b"websocket")
        && version == HeaderValue::from_static("13")
        && asked("transport=websocket")
        && asked("EIO=4");
    if taken { headers.typed_get() } else { None }
}

/// Engine.IO keeps a socket's first request for as long as the socket: of its headers only these are of use.
fn keep_what_matters(headers: &mut HeaderMap) {
    const KEPT: [header::HeaderName; 9] = [
        header::AUTHORIZATION,
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::HOST,
        header::SEC_WEBSOCKET_KEY,
        header::SEC_WEBSOCKET_VERSION,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ];
    let mut kept = HeaderMap::with_capacity(4);
    for name in KEPT {
        if let Some(value) = headers.remove(&name) {
            kept.insert(name, value);
        }
    }
    *headers = kept;
}
