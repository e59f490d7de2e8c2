//! What a gateway does for its sockets by itself: heartbeats, a look for those that should be gone, and sending them away
//! when the instance stops or has lost the broker.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::closing::Closing;
use super::driver::Gateway;
use crate::query::BrokerLink;

/// How often sockets are looked through for those that should be gone.
const SWEEP: Duration = Duration::from_secs(5);
/// A broker that leaves questions unanswered for this long cannot be reached from here, though perhaps from elsewhere.
const STALLED: Duration = Duration::from_secs(10);
/// A broker that nobody can connect to is usually back before this; clients had better wait for it where they are.
const LOST: Duration = Duration::from_secs(30);
/// Sockets that are sent away in one slice, at least.
const SLICE: usize = 50;
/// Time between two slices.
const PAUSE: Duration = Duration::from_millis(100);

impl Gateway {
    /// Begins to look after the sockets.
    pub(super) fn look_after_sockets(self: &Arc<Self>, heartbeat: Duration) {
        let (this, draining) = (self.clone(), self.lifecycle.draining());
        self.lifecycle.background("gateway-sweep", async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(SWEEP) => this.sweep(),
                    () = draining.cancelled() => return Ok(()),
                }
            }
        });
        let (this, draining) = (self.clone(), self.lifecycle.draining());
        self.lifecycle.background("gateway-heartbeat", async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(heartbeat) => {}
                    () = draining.cancelled() => return Ok(()),
                }
                for slice in this.hub.all().chunks(SLICE) {
                    for (_, connection) in slice {
                        connection.beat(this.hub.position());
                    }
                    tokio::task::yield_now().await;
                }
            }
        });
        let (this, draining) = (self.clone(), self.lifecycle.draining());
        self.lifecycle.background("gateway-link", async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_secs(1)) => {}
                    () = draining.cancelled() => return Ok(()),
                }
                let away = match this.queries.broker_link() {
                    BrokerLink::Good => false,
                    BrokerLink::Stalled(silent) => silent > STALLED,
                    BrokerLink::Lost(silent) => silent > LOST,
                };
                if this.shut.swap(away, Ordering::Relaxed) != away {
                    tracing::warn!(away, sockets = this.hub.count(), "the broker is out of reach, or back");
                }
                if away {
                    this.send_away(Duration::from_secs(5)).await;
                }
            }
        });
    }

    fn sweep(&self) {
        let now = self.now();
        for (user, id) in self.hub.sweep(now) {
            self.detach(user, id);
        }
        let opening: Vec<_> = self.opening().iter().map(|(sid, (one, _))| (*sid, one.clone())).collect();
        for (sid, connection) in opening {
            if !connection.is_there(now) {
                self.opening().remove(&sid);
            }
        }
        let polling: Vec<_> = self.polling().iter().map(|(sid, one)| (*sid, one.clone())).collect();
        for (sid, connection) in polling {
            if !connection.is_there(now) {
                self.polling().remove(&sid);
            }
        }
    }

    /// Sends every socket away, some at a time, within about this long: they should not all come back at once.
    pub async fn send_away(&self, within: Duration) {
        let all = self.hub.all();
        let slices = usize::try_from(within.as_millis() / PAUSE.as_millis()).unwrap_or(1).max(1);
        for slice in all.chunks(all.len().div_ceil(slices).max(SLICE)) {
            for (_, connection) in slice {
                connection.close(Closing::GoingAway);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
