//! A client of the plain WebSocket.

use std::collections::VecDeque;
use std::net::SocketAddr;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::DEADLINE;

/// An open socket and what came in over it that nobody has looked at yet.
pub struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    seen: VecDeque<Value>,
    acks: u64,
}

impl Socket {
    /// A socket of somebody, who is told of everything from now on, or of nobody yet.
    pub async fn connect(address: SocketAddr, token: Option<&str>) -> Result<Self, tungstenite::Error> {
        let mut socket = Self::resume(address, token, None).await?;
        if token.is_some() {
            // Not from the upgrade on: what others do before this may be told or not.
            let synced = socket.find("synced", |frame| frame["event"] == "synced").await;
            socket.seen.push_back(synced);
        }
        Ok(socket)
    }

    /// The same, by somebody who was here before.
    pub async fn resume(
        address: SocketAddr,
        token: Option<&str>,
        cursor: Option<&str>,
    ) -> Result<Self, tungstenite::Error> {
        let query = cursor.map_or_else(String::new, |cursor| format!("?cursor={cursor}"));
        let mut request = format!("ws://{address}/ws{query}").into_client_request()?;
        if let Some(token) = token {
            let header = format!("Bearer {token}").parse().expect("a header");
            request.headers_mut().insert("authorization", header);
        }
        let (stream, _) = tokio_tungstenite::connect_async(request).await?;
        Ok(Self { stream, seen: VecDeque::new(), acks: 0 })
    }

    /// Sends raw text.
    pub async fn raw(&mut self, text: &str) {
        self.stream.send(Message::text(text)).await.expect("the socket takes a frame");
    }

    /// Sends an event that asks for an answer; returns its number.
    pub async fn ask(&mut self, event: &str, data: &Value) -> u64 {
        self.acks += 1;
        let frame = json!({ "event": event, "data": data, "ackId": self.acks });
        self.raw(&frame.to_string()).await;
        self.acks
    }

    /// Sends an event and waits for its answer.
    pub async fn call(&mut self, event: &str, data: &Value) -> Value {
        let ack = self.ask(event, data).await;
        self.answer(ack).await
    }

    /// The answer with this number.
    pub async fn answer(&mut self, ack: u64) -> Value {
        self.find(&format!("answer {ack}"), |frame| frame["ackId"] == ack).await["data"].clone()
    }

    /// The answer with this number, or nothing if the server ended the socket without one.
    pub async fn answer_unless_closed(&mut self, ack: u64) -> Option<Value> {
        let waiting = self.find_unless_closed(|frame| frame["ackId"] == ack);
        let found = tokio::time::timeout(DEADLINE, waiting).await.expect("an answer or the end");
        found.ok().map(|frame| frame["data"].clone())
    }

    /// The payload of the next event of this name.
    pub async fn next(&mut self, event: &str) -> Value {
        self.find(event, |frame| frame["event"] == event).await["data"].clone()
    }

    /// The frames up to and with the next one of this name, in order; none of them is kept.
    pub async fn frames_until(&mut self, event: &str) -> Vec<Value> {
        let mut frames: Vec<Value> = Vec::new();
        let last = self.find(event, |frame| frame["event"] == event).await;
        frames.extend(self.seen.drain(..));
        frames.push(last);
        frames
    }

    /// The first frame that fits; others are kept for later.
    async fn find(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        match tokio::time::timeout(DEADLINE, self.find_unless_closed(fits)).await {
            Ok(Ok(frame)) => frame,
            Ok(Err(end)) => panic!("waiting for {what}, the socket said {end}; seen: {:#?}", self.seen),
            Err(late) => panic!("no {what} ({late}); seen: {:#?}", self.seen),
        }
    }

    /// The first frame that fits, or what the socket ended with.
    async fn find_unless_closed(&mut self, fits: impl Fn(&Value) -> bool) -> Result<Value, String> {
        if let Some(place) = self.seen.iter().position(&fits) {
            return Ok(self.seen.remove(place).expect("just found"));
        }
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) => {
                    let frame: Value = serde_json::from_str(&text).expect("frames are JSON");
                    if fits(&frame) {
                        return Ok(frame);
                    }
                    self.seen.push_back(frame);
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => return Err(format!("{other:?}")),
            }
        }
    }

    /// Everything of this name that came in until the server has answered one more event: whatever was pushed before that
    /// has arrived by then.
    pub async fn drain(&mut self, event: &str) -> Vec<Value> {
        self.call("register", &json!("nobody")).await;
        let (wanted, others) = self.seen.drain(..).partition(|frame: &Value| frame["event"] == event);
        self.seen = others;
        Vec::from_iter::<VecDeque<Value>>(wanted).into_iter().map(|frame| frame["data"].clone()).collect()
    }

    /// Every frame that came in until the server has answered one more event, in order.
    pub async fn everything(&mut self) -> Vec<Value> {
        self.call("register", &json!("nobody")).await;
        self.seen.drain(..).collect()
    }

    /// The code that the server closes with.
    pub async fn close_code(&mut self) -> u16 {
        let closed = tokio::time::timeout(DEADLINE, async {
            loop {
                match self.stream.next().await {
                    Some(Ok(Message::Close(frame))) => return frame.map_or(0, |frame| frame.code.into()),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return 0,
                }
            }
        });
        closed.await.expect("the server closes the socket")
    }

    pub async fn close(mut self) {
        let _ = self.stream.close(None).await;
    }
}
