//! Leases: what is to run on one instance at a time. Whoever creates the key has it until it is given back, or is not
//! renewed for so long that its holder must have died.

use std::future::Future;
use std::time::Duration;

use async_nats::jetstream::kv::{CreateErrorKind, Store};

use super::topology::{Bucket, LEASE};
use super::{Broker, away};
use crate::domain::ids::InstanceId;
use crate::error::Result;

/// Renewed this often: it survives one renewal that fails.
const RENEWED: Duration = Duration::from_secs(LEASE.as_secs() / 3);

/// Something that one instance at a time does.
#[derive(Debug, Clone)]
pub struct Lease {
    store: Store,
    what: &'static str,
    holder: InstanceId,
}

impl Broker {
    /// The lease on something.
    pub async fn lease(&self, what: &'static str, holder: InstanceId) -> Result<Lease> {
        let bucket = Bucket::Leases.name();
        let store = self.jetstream.get_key_value(bucket).await.map_err(|error| away().caused_by(error))?;
        Ok(Lease { store, what, holder })
    }
}

impl Lease {
    /// Does something while nobody else does; nothing if somebody does. It is dropped if the lease cannot be renewed: another
    /// instance may have it by then.
    pub async fn holding<T>(&self, work: impl Future<Output = Result<T>>) -> Result<Option<T>> {
        let mut revision = match self.store.create(self.what, self.holder.to_string().into()).await {
            Ok(revision) => revision,
            Err(error) if error.kind() == CreateErrorKind::AlreadyExists => return Ok(None),
            Err(error) => return Err(away().caused_by(error)),
        };
        let mut work = std::pin::pin!(work);
        let done = loop {
            tokio::select! {
                done = &mut work => break done,
                () = tokio::time::sleep(RENEWED) => {
                    let renewed = self.store.update(self.what, self.holder.to_string().into(), revision).await;
                    revision = renewed.map_err(|error| away().caused_by(error))?;
                }
            }
        };
        // Whoever does not hear of it waits until it has run out.
        let _ = self.store.delete_expect_revision(self.what, Some(revision)).await;
        done.map(Some)
    }
}
