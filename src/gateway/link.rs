//! The link of a connection: how frames get to its client, whichever way it came in.

use std::sync::{Arc, OnceLock};

use serde::de::IgnoredAny;
use socketioxide::ack::AckStream;
use socketioxide::socket::Sid;
use socketioxide::{SendError, SocketError, SocketIo};
use tokio::sync::mpsc;

use super::closing::Closing;
use super::valve::Valve;
use crate::domain::frame::Frame;

/// How frames get to the client.
#[derive(Debug)]
pub enum Link {
    /// Through Socket.IO; the socket is looked up each time, so that a connection never keeps it alive. Its valve is known
    /// once it is carried by a WebSocket.
    SocketIo(SocketIo, Sid, OnceLock<Arc<Valve>>),
    /// Through the queue of a WebSocket.
    WebSocket(mpsc::Sender<Outgoing>, Arc<Valve>),
}

impl Link {
    pub(super) fn valve(&self) -> Option<&Arc<Valve>> {
        match self {
            Self::SocketIo(_, _, valve) => valve.get(),
            Self::WebSocket(_, valve) => Some(valve),
        }
    }

    /// Hands a frame over if there is room for it. A client of Socket.IO may be asked to acknowledge it.
    pub(super) fn emit(&self, frame: &Frame, asks: bool) -> Emitted {
        if self.valve().is_some_and(|valve| valve.is_blocked()) {
            return Emitted::Full;
        }
        match self {
            Self::SocketIo(io, sid, _) => {
                let Some(socket) = io.get_socket(*sid) else { return Emitted::Out };
                let sent = if asks {
                    socket.emit_with_ack(frame.event, &*frame.data).map(Emitted::Asked)
                } else {
                    socket.emit(frame.event, &*frame.data).map(|()| Emitted::Out)
                };
                match sent {
                    Ok(emitted) => emitted,
                    Err(SendError::Socket(SocketError::Closed)) => Emitted::Out,
                    Err(SendError::Socket(SocketError::InternalChannelFull)) => Emitted::Full,
                    Err(SendError::Serialize(error)) => {
                        tracing::error!(error = %error, "a push cannot be encoded");
                        Emitted::Out
                    }
                }
            }
            Self::WebSocket(frames, valve) => {
                let text = format!(r#"{{"event":"{}","data":{}}}"#, frame.event, frame.data.get());
                if send_text(frames, valve, text) { Emitted::Out } else { Emitted::Full }
            }
        }
    }
}

/// What became of a frame.
pub(super) enum Emitted {
    /// There is no room for it.
    Full,
    /// It is out, or nobody is there to take it.
    Out,
    /// It is out, and the client is asked to acknowledge it.
    Asked(AckStream<IgnoredAny>),
}

/// What goes out over a WebSocket.
#[derive(Debug)]
pub enum Outgoing {
    /// A frame.
    Text(String),
    /// The end, with a code and a reason.
    Close(Closing),
}

/// Puts a text in line for a WebSocket; says whether there was room. One that is closed takes everything.
pub(super) fn send_text(frames: &mpsc::Sender<Outgoing>, valve: &Valve, text: String) -> bool {
    let bytes = text.len();
    valve.hand_over(bytes);
    match frames.try_send(Outgoing::Text(text)) {
        Ok(()) => true,
        Err(error) => {
            valve.written(bytes);
            !matches!(error, mpsc::error::TrySendError::Full(_))
        }
    }
}
