//! A connection of its own for what strangers have published.
//!
//! The broker looks at no header, and at a subject only for where it ends. The client library gives up its whole connection
//! over a message that it cannot read, and over some its task panics: then it never comes back. What the application lives
//! on must not hang on that, so what others may publish to comes in here. Once it is lost it is not used again.

use std::time::Duration;

use async_nats::jetstream;
use async_nats::{Client, ConnectError, ConnectOptions, Event as ClientEvent, ServerAddr};
use tokio_util::sync::CancellationToken;

use super::{Broker, PATIENCE, away, login, reconnect_delay};
use crate::config::{BrokerConfig, Login};
use crate::error::{Error, Result};

/// How long the last acknowledgements may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// Where the broker is and who comes in.
pub(super) struct Dial {
    address: ServerAddr,
    login: Option<Login>,
}

impl Dial {
    pub(super) fn new(config: &BrokerConfig) -> Result<Self> {
        let address = config.url.parse().map_err(|error: std::io::Error| {
            Error::invalid("bad_configuration", "NATS_URL is no address of a broker").caused_by(error)
        })?;
        Ok(Self { address, login: config.login.clone() })
    }

    /// Connects; `heard` is told what becomes of the connection.
    pub(super) async fn connect(
        &self,
        heard: impl Fn(ClientEvent) + Send + Sync + 'static,
    ) -> Result<Client, ConnectError> {
        self.options()
            .name("shoptalk")
            .connection_timeout(PATIENCE)
            .request_timeout(Some(PATIENCE))
            .ping_interval(Duration::from_secs(3))
            .reconnect_delay_callback(reconnect_delay)
            .event_callback(move |event| {
                heard(event);
                std::future::ready(())
            })
            .connect(self.address.clone())
            .await
    }

    fn options(&self) -> ConnectOptions {
        login::options(&self.address, self.login.as_ref())
    }
}

/// A client's JetStream, with the usual patience.
pub(super) fn jetstream(client: &Client) -> jetstream::Context {
    let mut jetstream = jetstream::new(client.clone());
    jetstream.set_timeout(PATIENCE);
    jetstream
}

/// A way to the broker, and when it is not one any more.
pub(super) struct Apart {
    pub(super) jetstream: jetstream::Context,
    /// The connection was lost. What was received before that can still be acknowledged, unless its task has panicked.
    pub(super) lost: CancellationToken,
    /// Only if it is nobody else's.
    own: Option<Client>,
}

impl Broker {
    /// The connection that everybody shares.
    pub(super) fn together(&self) -> Apart {
        Apart { jetstream: self.jetstream.clone(), lost: CancellationToken::new(), own: None }
    }

    /// A connection that nobody shares.
    pub(super) async fn apart(&self) -> Result<Apart> {
        let lost = CancellationToken::new();
        let told = lost.clone();
        let heard = move |event| {
            if matches!(event, ClientEvent::Disconnected | ClientEvent::Closed) {
                told.cancel();
            }
        };
        let client = self.dial.connect(heard).await.map_err(|error| away().caused_by(error))?;
        Ok(Apart { jetstream: jetstream(&client), lost, own: Some(client) })
    }
}

impl Apart {
    /// Sends what is still buffered, if that can be done soon; what cannot is delivered again.
    pub(super) async fn close(self) {
        if let Some(client) = self.own
            && !matches!(tokio::time::timeout(FAREWELL, client.flush()).await, Ok(Ok(())))
        {
            tracing::debug!("the last acknowledgements may not have been sent");
        }
    }
}
