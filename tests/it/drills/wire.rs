//! One plain WebSocket, as a client of our own makes it: frames in, frames out, nothing remembered.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

/// A server that takes this long to say hello is tried again elsewhere.
const HELLO: Duration = Duration::from_secs(5);

/// What came in.
#[derive(Debug)]
pub enum Frame {
    /// An event and its payload.
    Event(String, Value),
    /// The answer with this number.
    Answer(u64, Value),
}

/// An open socket.
pub struct Wire {
    stream: WebSocketStream<TcpStream>,
    asked: u64,
}

impl Wire {
    /// Connects, going on from a cursor if there is one; says what was wrong if it cannot.
    pub async fn open(address: SocketAddr, token: &str, cursor: Option<&str>) -> Result<Self, String> {
        Self::over(TcpSocket::new_v4().map_err(said)?, address, token, cursor).await
    }

    /// Connects, and waits until everything that happens from now on is told.
    pub async fn listen(address: SocketAddr, token: &str) -> Result<Self, String> {
        let mut wire = Self::open(address, token, None).await?;
        wire.event(HELLO, |name, _| name == "synced").await.ok_or("it was not told that it is connected")?;
        Ok(wire)
    }

    /// The same as [`Wire::open`], taking in so little at a time that the server soon notices when nobody reads.
    pub async fn open_narrow(address: SocketAddr, token: &str, cursor: Option<&str>) -> Result<Self, String> {
        let socket = TcpSocket::new_v4().map_err(said)?;
        socket.set_recv_buffer_size(4096).map_err(said)?;
        Self::over(socket, address, token, cursor).await
    }

    async fn over(socket: TcpSocket, address: SocketAddr, token: &str, cursor: Option<&str>) -> Result<Self, String> {
        let query = cursor.map_or_else(String::new, |cursor| format!("?cursor={cursor}"));
        let mut request = format!("ws://{address}/ws{query}").into_client_request().map_err(said)?;
        let bearer = format!("Bearer {token}").parse().map_err(said)?;
        request.headers_mut().insert("authorization", bearer);
        let opening = async {
            let stream = socket.connect(address).await.map_err(said)?;
            stream.set_nodelay(true).map_err(said)?;
            tokio_tungstenite::client_async(request, stream).await.map_err(said)
        };
        let (stream, _) = tokio::time::timeout(HELLO, opening).await.map_err(said)??;
        Ok(Self { stream, asked: 0 })
    }

    /// Sends an event that asks for an answer; returns its number.
    pub async fn ask(&mut self, event: &str, data: &Value) -> Result<u64, String> {
        self.asked += 1;
        let frame = json!({ "event": event, "data": data, "ackId": self.asked }).to_string();
        self.stream.send(Message::text(frame)).await.map_err(said)?;
        Ok(self.asked)
    }

    /// The next frame, or the code that the socket ended with; 0 if it just broke.
    pub async fn next(&mut self) -> Result<Frame, u16> {
        loop {
            let text = match self.stream.next().await {
                Some(Ok(Message::Text(text))) => text,
                Some(Ok(Message::Close(frame))) => return Err(frame.map_or(0, |frame| frame.code.into())),
                Some(Ok(_)) => continue,
                Some(Err(_)) | None => return Err(0),
            };
            let mut frame: Value = serde_json::from_str(&text).expect("frames are JSON");
            let data = frame["data"].take();
            if let Some(number) = frame["ackId"].as_u64() {
                return Ok(Frame::Answer(number, data));
            }
            return Ok(Frame::Event(frame["event"].as_str().expect("an event has a name").to_owned(), data));
        }
    }

    /// Waits for an answer; events that come before it go to `others`. Nothing if the socket ends or it takes too long.
    pub async fn answer(&mut self, number: u64, limit: Duration, mut others: impl FnMut(&str, Value)) -> Option<Value> {
        let waiting = async {
            loop {
                match self.next().await {
                    Ok(Frame::Answer(of, data)) if of == number => return Some(data),
                    Ok(Frame::Answer(..)) => {}
                    Ok(Frame::Event(name, data)) => others(&name, data),
                    Err(_) => return None,
                }
            }
        };
        tokio::time::timeout(limit, waiting).await.ok().flatten()
    }

    /// Sends an event and waits for its answer.
    pub async fn call(&mut self, event: &str, data: &Value, limit: Duration) -> Option<Value> {
        let number = self.ask(event, data).await.ok()?;
        self.answer(number, limit, |_, _| {}).await
    }

    /// Waits for an event that fits.
    pub async fn event(&mut self, limit: Duration, fits: impl Fn(&str, &Value) -> bool) -> Option<Value> {
        let waiting = async {
            loop {
                match self.next().await {
                    Ok(Frame::Event(name, data)) if fits(&name, &data) => return Some(data),
                    Ok(_) => {}
                    Err(_) => return None,
                }
            }
        };
        tokio::time::timeout(limit, waiting).await.ok().flatten()
    }

    pub async fn close(mut self) {
        let _ = tokio::time::timeout(Duration::from_secs(1), self.stream.close(None)).await;
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn said(error: impl ToString) -> String {
    error.to_string()
}
