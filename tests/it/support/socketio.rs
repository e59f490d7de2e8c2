//! Socket.IO by hand, for what the official client would never do: stop reading, or vanish in the middle of an upgrade.

use std::net::SocketAddr;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::DEADLINE;

/// A session carried by a WebSocket from its beginning.
pub struct Raw {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Raw {
    /// Connects and is known.
    pub async fn connect(address: SocketAddr, token: &str, cursor: Option<&str>) -> Self {
        Self::connect_with(address, &json!({ "token": token, "cursor": cursor })).await
    }

    /// The same, with whatever is to be said in the handshake.
    pub async fn connect_with(address: SocketAddr, auth: &Value) -> Self {
        let url = format!("ws://{address}/socket.io/?EIO=4&transport=websocket");
        let (stream, _) = connect_async(url).await.expect("a WebSocket");
        let mut raw = Self { stream };
        let opened = raw.packet().await.expect("an open packet");
        assert!(opened.starts_with('0'), "{opened}");
        raw.stream.send(Message::text(format!("40{auth}"))).await.expect("sent");
        let connected = raw.packet().await.expect("an answer");
        assert!(connected.starts_with("40"), "{connected}");
        raw
    }

    /// Says something, without asking for an answer.
    pub async fn say(&mut self, event: &str, data: &Value) {
        self.stream.send(Message::text(format!("42{}", json!([event, data])))).await.expect("sent");
    }

    /// The payload of the next event of this name.
    pub async fn next(&mut self, wanted: &str) -> Value {
        loop {
            let (event, data) = self.event().await.expect("an event before the end");
            if event == wanted {
                return data;
            }
        }
    }

    /// Acknowledges an event, with nothing more to say.
    pub async fn acknowledge(&mut self, number: u64) {
        self.stream.send(Message::text(format!("43{number}[]"))).await.expect("sent");
    }

    pub async fn close(mut self) {
        let _ = self.stream.close(None).await;
    }

    /// The next packet, or nothing at the end.
    async fn packet(&mut self) -> Option<String> {
        loop {
            let next = tokio::time::timeout(DEADLINE, self.stream.next()).await.expect("a packet or the end");
            match next {
                Some(Ok(Message::Text(text))) if text.as_str() == "2" => {
                    let _ = self.stream.send(Message::text("3")).await;
                }
                Some(Ok(Message::Text(text))) => return Some(text.to_string()),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                _ => return None,
            }
        }
    }

    /// The next event and its payload, or nothing at the end.
    pub async fn event(&mut self) -> Option<(String, Value)> {
        self.event_to_acknowledge().await.map(|(event, data, _)| (event, data))
    }

    /// The same, and the number to acknowledge it with if the server asks for that.
    pub async fn event_to_acknowledge(&mut self) -> Option<(String, Value, Option<u64>)> {
        loop {
            let packet = self.packet().await?;
            let Some(packet) = packet.strip_prefix("42") else { continue };
            let (number, json) = packet.split_at(packet.find('[').expect("a list"));
            let mut parts: Vec<Value> = serde_json::from_str(json).expect("an event is a list");
            let data = if parts.len() > 1 { parts.remove(1) } else { Value::Null };
            let number = (!number.is_empty()).then(|| number.parse().expect("a number"));
            return Some((parts[0].as_str().expect("a name").to_owned(), data, number));
        }
    }
}

/// A session that polls.
pub struct Polling {
    address: SocketAddr,
    sid: String,
}

impl Polling {
    pub async fn connect(address: SocketAddr, token: &str) -> Self {
        let base = format!("http://{address}/socket.io/?EIO=4&transport=polling");
        let client = super::client::http();
        let opened = client.get(&base).send().await.expect("a reply").text().await.expect("text");
        let opened: Value = serde_json::from_str(opened.trim_start_matches('0')).expect("an open packet");
        let sid = opened["sid"].as_str().expect("a session").to_owned();
        let polling = format!("{base}&sid={sid}");
        let auth = format!("40{}", json!({ "token": token }));
        client.post(&polling).body(auth).send().await.expect("sent");
        // The server's first heartbeat may come before it, in a poll of its own.
        loop {
            let polled = client.get(&polling).send().await.expect("a reply").text().await.expect("text");
            if polled.contains("40{") {
                return Self { address, sid };
            }
            assert_eq!(polled, "2");
            client.post(&polling).body("3").send().await.expect("sent");
        }
    }

    /// Begins to go over to a WebSocket, and is gone.
    pub async fn vanish_while_upgrading(self) {
        let Self { address, sid } = self;
        let url = format!("ws://{address}/socket.io/?EIO=4&transport=websocket&sid={sid}");
        let (mut stream, _) = connect_async(url).await.expect("a WebSocket");
        stream.send(Message::text("2probe")).await.expect("sent");
        let probed = stream.next().await.expect("an answer").expect("readable");
        assert_eq!(probed.to_text().expect("text"), "3probe");
    }
}
