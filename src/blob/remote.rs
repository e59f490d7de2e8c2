//! Uploads to a store that is not here: in parts, of which few are in memory, however many uploads there are.

use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use object_store::path::Path;
use object_store::{Attributes, MultipartUpload};
use tempfile::NamedTempFile;

use super::Inner;
use super::link::{DEADLINE, Failure};
use super::local::blocking;
use crate::lifecycle::Lifecycle;

/// Bytes of a part: the least that S3 takes, so that two of them are little.
const PART: u64 = 5 << 20;
/// Parts in memory at the same time, of all uploads together.
pub(super) const PARTS: usize = 2;
/// How long giving an upload up may take.
const GIVING_UP: Duration = Duration::from_secs(10);

/// An upload in parts that is given up unless it is completed, also when nobody waits for it any more: the store would
/// keep its parts for ever, and show them to nobody.
struct Upload {
    parts: Option<Box<dyn MultipartUpload>>,
    lifecycle: Lifecycle,
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(mut parts) = self.parts.take() else { return };
        self.lifecycle.job(async move {
            let _ = tokio::time::timeout(GIVING_UP, parts.abort()).await;
        });
    }
}

/// Brings a spool file to the store. Until it is all there, there is no object.
pub(super) async fn upload(
    inner: &Inner,
    spool: NamedTempFile,
    place: &Path,
    attributes: Attributes,
) -> Result<(), Failure> {
    let spool = Arc::new(spool);
    let size = spool.as_file().metadata()?.len();
    if size <= PART {
        let _room = room(inner).await?;
        let bytes = part(&spool, 0, size).await?;
        inner.link.run(DEADLINE, inner.store.put_opts(place, bytes.into(), attributes.into())).await?;
        return Ok(());
    }
    let parts = inner.link.run(DEADLINE, inner.store.put_multipart_opts(place, attributes.into())).await?;
    let mut upload = Upload { parts: Some(parts), lifecycle: inner.lifecycle.clone() };
    let mut sending = FuturesUnordered::new();
    let mut at = 0;
    loop {
        tokio::select! {
            biased;
            Some(sent) = sending.next() => sent?,
            room = room(inner), if at < size => {
                let room = room?;
                let bytes = part(&spool, at, PART.min(size - at)).await?;
                at += PART;
                let Some(parts) = &mut upload.parts else { break };
                let sent = parts.put_part(bytes.into());
                sending.push(async move {
                    let sent = inner.link.run(DEADLINE, sent).await;
                    drop(room);
                    sent
                });
            }
            else => break,
        }
    }
    drop(sending);
    if let Some(parts) = &mut upload.parts {
        inner.link.run(DEADLINE, parts.complete()).await?;
    }
    upload.parts = None;
    Ok(())
}

/// Waits until there is room for one more part in memory; refused at once if the store went silent meanwhile.
async fn room(inner: &Inner) -> Result<tokio::sync::OwnedSemaphorePermit, Failure> {
    let room = Arc::clone(&inner.parts).acquire_owned().await.map_err(|closed| Failure::Fault(closed.into()))?;
    inner.link.admit()?;
    Ok(room)
}

async fn part(spool: &Arc<NamedTempFile>, at: u64, size: u64) -> Result<Vec<u8>, Failure> {
    let spool = Arc::clone(spool);
    blocking(move || {
        let mut bytes = vec![0; usize::try_from(size).map_err(std::io::Error::other)?];
        spool.as_file().read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    })
    .await
}
