//! The plain WebSocket at `/ws`: JSON text frames `{"event","data","ackId?"}`, answered with `{"ackId","data"}`.
//!
//! The token comes in an Authorization header or, as browsers cannot set one, in a first `authenticate` event within ten
//! seconds.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use poem::web::websocket::{CloseCode, Message, WebSocket, WebSocketConfig, WebSocketStream};
use poem::{Endpoint, FromRequest as _, IntoResponse as _, Request, Response};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::closing::Closing;
use super::connection::{Connection, WebSocketFrame};
use super::driver::Gateway;
use super::inbox::{Inbound, Reply};
use super::link::{Link, Outgoing};
use super::origin;
use super::protocol::ClientEvent;
use super::session::Session;
use super::socketio::bearer;
use super::valve::Valve;
use crate::error::{Error, Result};
use crate::problem;

/// Frames that wait to be written, at most: answers and what is on its way. What a client is slow to take waits in its
/// outbox.
const QUEUE: usize = 1_024;
/// Largest frame from a client, as for REST bodies.
const FRAME_LIMIT: usize = 1 << 20;
/// How long a client may stay nobody.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a farewell may take.
const FAREWELL: Duration = Duration::from_secs(1);
/// A ping goes out this often.
const PING_INTERVAL: Duration = Duration::from_secs(25);
/// A client that was not heard of for this long is gone.
const SILENCE: Duration = Duration::from_secs(45);

/// The endpoint.
pub struct WebSocketEndpoint {
    gateway: Arc<Gateway>,
}

impl WebSocketEndpoint {
    /// An endpoint of this gateway.
    #[must_use]
    pub const fn new(gateway: Arc<Gateway>) -> Self {
        Self { gateway }
    }
}

impl Endpoint for WebSocketEndpoint {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        origin::check(&request, &self.gateway.cors).map_err(problem::into_poem)?;
        if self.gateway.is_closed() {
            return Err(problem::into_poem(Closing::GoingAway.error()));
        }
        // A wrong token is refused before the upgrade; none at all may still come.
        let session = match bearer(request.headers()).map(|token| self.gateway.identify(token)) {
            Some(actor) => Session::Identified(actor.map_err(problem::into_poem)?),
            None => Session::Unidentified,
        };
        let config = WebSocketConfig::default()
            .read_buffer_size(4 << 10)
            .write_buffer_size(0)
            .max_write_buffer_size(4 * FRAME_LIMIT)
            .max_message_size(Some(FRAME_LIMIT))
            .max_frame_size(Some(FRAME_LIMIT));
        let gateway = self.gateway.clone();
        let cursor = request.uri().query().and_then(cursor_of);
        let upgrade = WebSocket::from_request_without_body(&request).await?.config(config);
        Ok(upgrade.on_upgrade(move |stream| serve(gateway, stream, session, cursor)).into_response())
    }
}

/// The cursor in a query. Cursors are letters and digits, so nothing in them is escaped.
fn cursor_of(query: &str) -> Option<String> {
    query.split('&').find_map(|pair| pair.strip_prefix("cursor=")).map(str::to_owned)
}

/// Serves one socket until either side ends it.
async fn serve(gateway: Arc<Gateway>, stream: WebSocketStream, session: Session, cursor: Option<String>) {
    let (frames, queue) = mpsc::channel(QUEUE);
    let valve = Arc::<Valve>::default();
    let identified = session.actor().map(|actor| actor.user_id);
    let link = Link::WebSocket(frames, valve.clone());
    let connection =
        Arc::new(Connection::new(gateway.hub.next_id(), link, session, gateway.now(), gateway.lifecycle.clone()));
    if let Some(user) = identified {
        gateway.attach(user, connection.clone());
        gateway.begin(&connection, user, cursor);
    } else {
        connection.open();
    }
    let ended = tokio::select! {
        ended = exchange(&gateway, &connection, stream, queue, &valve) => ended,
        () = valve.cut_asked() => "the client did not read its farewell",
    };
    tracing::debug!(socket.id = connection.id, reason = ended, "a WebSocket ended");
    if let Some(user) = connection.user() {
        gateway.detach(user, connection.id);
    }
}

/// Frames in, frames out. Returns why it ended.
async fn exchange(
    gateway: &Arc<Gateway>,
    connection: &Arc<Connection>,
    stream: WebSocketStream,
    mut queue: mpsc::Receiver<Outgoing>,
    valve: &Valve,
) -> &'static str {
    let (mut sink, mut source) = stream.split();
    let mut heard = Instant::now();
    let mut ping = tokio::time::interval_at(heard + PING_INTERVAL, PING_INTERVAL);
    let nobody = tokio::time::sleep(PATIENCE);
    tokio::pin!(nobody);
    let draining = gateway.lifecycle.draining();
    let closing = loop {
        tokio::select! {
            frame = source.next() => {
                heard = Instant::now();
                match frame {
                    Some(Ok(Message::Text(text))) => gateway.receive(connection, inbound(&text)),
                    Some(Ok(Message::Binary(_))) => {
                        let event = Err(Error::invalid("malformed_payload", "events are JSON text here"));
                        gateway.receive(connection, Inbound { event, reply: Reply::None });
                    }
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    Some(Ok(Message::Close(_))) => {
                        // The answer to its farewell is queued already; it only has to go out.
                        let _ = tokio::time::timeout(FAREWELL, sink.close()).await;
                        return "the client left";
                    }
                    Some(Err(_)) => {
                        // Too large a frame, or none at all. If the client still listens it hears which.
                        let code = (CloseCode::Size, "frame_refused".to_owned());
                        let _ = tokio::time::timeout(FAREWELL, sink.send(Message::Close(Some(code)))).await;
                        return "the client broke the protocol or the connection";
                    }
                    None => return "the client left",
                }
            }
            frame = queue.recv() => match frame {
                Some(Outgoing::Text(text)) => match send_all(&mut sink, text, &mut queue, valve).await {
                    Ok(None) => {}
                    Ok(Some(why)) => break why,
                    Err(()) => return "the client cannot be written to",
                },
                Some(Outgoing::Close(why)) => break why,
                None => return "the connection was dropped",
            },
            _ = ping.tick() => {
                if heard.elapsed() > SILENCE {
                    return "the client went silent";
                }
                let pinged = tokio::time::timeout(SILENCE, sink.send(Message::Ping(Vec::new()))).await;
                if !matches!(pinged, Ok(Ok(()))) {
                    return "the client cannot be written to";
                }
            }
            () = &mut nobody, if connection.user().is_none() => break Closing::Nobody,
            // Who is known is sent away by the hub, once their last events are answered.
            () = draining.cancelled(), if connection.user().is_none() => break Closing::GoingAway,
        }
    };
    let error = closing.error();
    let farewell = Message::Close(Some((CloseCode::from(closing.websocket_code()), error.reason().to_owned())));
    let _ = tokio::time::timeout(FAREWELL, sink.send(farewell)).await;
    error.reason()
}

/// Writes a frame and whatever else is waiting, then flushes once. A client that does not read for too long is given up.
/// Says whether the socket goes on, and how it ends if a farewell was waiting.
async fn send_all<S>(
    sink: &mut S,
    first: String,
    queue: &mut mpsc::Receiver<Outgoing>,
    valve: &Valve,
) -> std::result::Result<Option<Closing>, ()>
where
    S: futures_util::Sink<Message> + Unpin,
{
    let writing = async {
        let mut farewell = None;
        let mut fed = first.len();
        sink.feed(Message::Text(first)).await?;
        while let Ok(next) = queue.try_recv() {
            match next {
                Outgoing::Text(text) => {
                    fed += text.len();
                    sink.feed(Message::Text(text)).await?;
                }
                Outgoing::Close(why) => {
                    farewell = Some(why);
                    break;
                }
            }
        }
        sink.flush().await?;
        valve.written(fed);
        Ok::<_, S::Error>(farewell)
    };
    match tokio::time::timeout(SILENCE, writing).await {
        Ok(Ok(farewell)) => Ok(farewell),
        Ok(Err(_)) | Err(_) => Err(()),
    }
}

/// Reads a frame.
fn inbound(text: &str) -> Inbound {
    let unreadable = |error: serde_json::Error| {
        Error::invalid("malformed_payload", format!("a frame is an object with event, data and ackId: {error}"))
    };
    match serde_json::from_str::<WebSocketFrame<'_>>(text).map_err(unreadable) {
        Ok(frame) => Inbound { event: read(&frame), reply: frame.ack_id.map_or(Reply::None, Reply::WebSocket) },
        Err(error) => Inbound { event: Err(error), reply: number_of(text).map_or(Reply::None, Reply::WebSocket) },
    }
}

/// The number to answer with, if that at least can be read: whoever waits for it should not wait for ever.
fn number_of(text: &str) -> Option<u64> {
    serde_json::from_str::<serde_json::Value>(text).ok()?.get("ackId")?.as_u64()
}

fn read(frame: &WebSocketFrame<'_>) -> Result<ClientEvent> {
    ClientEvent::read(&frame.event, frame.data)
}
