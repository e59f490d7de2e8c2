//! Uploads: what somebody brings, on its way into the object store.
//!
//! It is spooled to disk as it comes, in pieces and hashed, looked at there, and handed to the store only then: what is
//! refused was never in it. Last come the records, the attachment's before its blob's: what a crash leaves in between is an
//! object or a record that nobody can get at, and the sweep takes it.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use tempfile::NamedTempFile;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::Commands;
use super::shares::{Share, Shares, Taken};
use crate::auth::Actor;
use crate::auth::link::Links;
use crate::blob::{Blobs, Finished, Spool};
use crate::domain::attachment::{Attachment, Content, Preview, Progress, State, blob_of};
use crate::domain::event::Body;
use crate::domain::ids::{AttachmentId, BlobId, UserId};
use crate::domain::trace::TraceContext;
use crate::error::{Code, Error, Result};
use crate::inspect::{self, Declared, Inspected};
use crate::metrics::Metrics;
use crate::store::attachments::Record;
use crate::store::blobs::Blob;

/// Uploads at once, at most.
const AT_ONCE: usize = 64;
/// Uploads of one user at once, at most.
const OF_ONE: usize = 8;
/// Looked at at once: it takes a core each.
const INSPECTIONS: usize = 2;
/// Attachments of one user that belong to no message, at most.
const UNATTACHED: u64 = 100;
/// How long the next bytes may take, and how late an upload may be in all.
const STALL: Duration = Duration::from_secs(30);
/// Bytes in a second that an upload has to have beyond that, as `mod_reqtimeout` of Apache's server reckons it.
const PACE: u64 = 16 << 10;

/// What an upload may be.
#[derive(Debug, Clone, Copy)]
pub struct UploadLimits {
    /// Bytes.
    pub bytes: u64,
    /// Pixels of a picture.
    pub pixels: u64,
    /// How long a link is good for.
    pub link: Duration,
    /// Whether bytes are looked through before anybody gets them.
    pub scans: bool,
}

/// What uploads need; cheap to clone.
#[derive(Debug, Clone)]
pub struct Uploads {
    pub(crate) blobs: Blobs,
    pub(crate) links: Links,
    pub(crate) limits: UploadLimits,
    pub(crate) metrics: Metrics,
    at_once: Shares,
    inspections: Arc<Semaphore>,
}

/// What an upload is said to be.
#[derive(Debug, Clone, Copy)]
pub struct Named<'a> {
    /// What its uploader calls it.
    pub name: &'a str,
    /// Its media type.
    pub media_type: Option<&'a str>,
}

pub(super) fn too_large(most: u64) -> Error {
    Error::new(Code::TooLarge, "attachment_too_large", format!("an attachment can have {most} bytes"))
}

/// The answer about an attachment that is not there, or is somebody else's.
#[must_use]
pub fn unknown_attachment() -> Error {
    Error::new(Code::NotFound, "unknown_attachment", "there is no such attachment")
}

/// Bytes in hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// How long the next bytes may take of an upload that has brought so many, and was waited for so long.
fn patience(received: u64, waited: Duration) -> Duration {
    let earned = Duration::from_millis(received.saturating_mul(1_000) / PACE);
    STALL.saturating_add(earned).saturating_sub(waited).min(STALL)
}

impl Uploads {
    /// Into this store, by these limits.
    #[must_use]
    pub fn new(blobs: Blobs, links: Links, limits: UploadLimits, metrics: Metrics) -> Self {
        let at_once = Shares::new(AT_ONCE, OF_ONE);
        Self { blobs, links, limits, metrics, at_once, inspections: Arc::new(Semaphore::new(INSPECTIONS)) }
    }

    /// Begins an upload of this user; it is under way until what comes back is dropped.
    pub(super) fn begin(&self, user: UserId) -> Result<Share> {
        self.at_once.take(user).map_err(|taken| {
            let shown = match taken {
                Taken::ByAll => "too many uploads are under way here, wait a little",
                Taken::ByUser => "8 of your uploads are under way here, wait until one of them is done",
            };
            Error::new(Code::RateLimited, "too_many_uploads", shown).retry_after(Duration::from_secs(1))
        })
    }

    /// Takes in bytes as they come, and no more of them than this. Only the time counts in which they are waited for: it is not
    /// their sender who has a slow disk here.
    pub(super) async fn receive(
        &self,
        body: impl Stream<Item = Result<Bytes>>,
        most: u64,
        beyond: impl FnOnce() -> Error,
    ) -> Result<Finished> {
        let mut spool = Spool::new(self.blobs.spool().map_err(no_room)?);
        let (mut body, mut waited) = (pin!(body), Duration::ZERO);
        let stalled = |_| Error::invalid("upload_stalled", "the upload stands still, or comes too slowly");
        loop {
            let since = Instant::now();
            let next = timeout(patience(spool.size(), waited), body.next()).await.map_err(stalled)?;
            waited += since.elapsed();
            let Some(piece) = next.transpose()? else { return spool.finish().await };
            spool = spool.add(piece).await?;
            if spool.size() > most {
                return Err(beyond());
            }
        }
    }

    /// Counts how an upload has ended.
    pub(super) fn counted(&self, done: Result<Attachment>) -> Result<Attachment> {
        self.metrics.uploaded(done.as_ref().map(|taken| taken.content.size).map_err(Error::code));
        done
    }

    /// Looks at what was received.
    pub(super) async fn inspect(&self, received: Finished, named: Named<'_>) -> Result<(NamedTempFile, Inspected)> {
        let _core = self.inspections.acquire().await.map_err(Error::internal)?;
        let (name, media_type) = (named.name.to_owned(), named.media_type.map(str::to_owned));
        let (blobs, limits) = (self.blobs.clone(), inspect::Limits { pixels: self.limits.pixels });
        blocking(move || {
            let declared = Declared { name: &name, media_type: media_type.as_deref() };
            inspect::inspect(received.file, received.sha256, &declared, &limits, || blobs.spool())
        })
        .await?
    }

    fn content(&self, inspected: &Inspected) -> Content {
        Content {
            media_type: inspected.media_type.to_owned(),
            size: inspected.size,
            sha256: hex(&inspected.sha256),
            width: inspected.dimensions.map(|(width, _)| width),
            height: inspected.dimensions.map(|(_, height)| height),
            blurhash: None,
            state: if self.limits.scans { State::Scanning } else { State::Ready },
            preview: if inspected.previewable { Preview::Pending } else { Preview::None },
            thumbnails: Vec::new(),
        }
    }
}

/// Runs what would hold others up.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(Error::internal)
}

fn no_room(error: std::io::Error) -> Error {
    Error::unavailable("attachments_unavailable", "attachments cannot be taken in right now, try again")
        .retry_after(Duration::from_secs(1))
        .caused_by(error)
}

impl Commands {
    /// Takes in an attachment, which belongs to its uploader until a message claims it.
    pub async fn upload(
        &self,
        actor: &Actor,
        named: Named<'_>,
        body: impl Stream<Item = Result<Bytes>>,
        trace: Option<TraceContext>,
    ) -> Result<Attachment> {
        self.uploads.counted(self.take_in(actor, named, body, trace).await)
    }

    async fn take_in(
        &self,
        actor: &Actor,
        named: Named<'_>,
        body: impl Stream<Item = Result<Bytes>>,
        trace: Option<TraceContext>,
    ) -> Result<Attachment> {
        actor.check_expiry(self.clock.now())?;
        inspect::clean_name(named.name)?;
        let _one = self.uploads.begin(actor.user_id)?;
        self.limited(actor.user_id, async {
            self.require_few_unattached(actor.user_id).await?;
            let most = self.uploads.limits.bytes;
            let received = self.uploads.receive(body, most, || too_large(most)).await?;
            let (spool, inspected) = self.uploads.inspect(received, named).await?;
            let id = self.clock.fresh_id();
            let record = Record {
                id,
                owner_id: actor.user_id,
                name: inspected.name.clone(),
                blob_id: Some(blob_of(actor.user_id, &inspected.sha256, inspected.media_type)),
                announced: None,
                // What has taken long to come is not old for that: it is kept as long as anything else.
                created_at: self.clock.now(),
                claim: None,
                is_deleted: false,
            };
            self.store.insert_attachment(&record).await?;
            let kept = self.keep(record, spool, &inspected, trace).await;
            if kept.is_err() {
                // Nobody knows of it: it must not count against what its owner has.
                let _ = self.store.discard_attachment(actor.user_id, id).await;
            }
            kept
        })
        .await
    }

    /// Runs something that counts against its user's limit.
    pub(super) async fn limited<T>(&self, user: UserId, work: impl Future<Output = Result<T>>) -> Result<T> {
        let in_hand = self.limits.admit(user, self.clock.now())?;
        let done = work.await;
        in_hand.spent(self.clock.now());
        done
    }

    pub(super) async fn require_few_unattached(&self, user: UserId) -> Result<()> {
        if self.store.count_unattached(user, UNATTACHED).await? < UNATTACHED {
            return Ok(());
        }
        Err(Error::new(
            Code::RateLimited,
            "too_many_uploads",
            "100 of your attachments belong to no message: send them, or delete some",
        )
        .retry_after(Duration::from_mins(1)))
    }

    /// Keeps the bytes of an attachment, and sees to it that the rest is found out about them.
    async fn keep(
        &self,
        record: Record,
        spool: NamedTempFile,
        inspected: &Inspected,
        trace: Option<TraceContext>,
    ) -> Result<Attachment> {
        let blob = self.keep_blob(&record, spool, inspected).await?;
        self.see_to(record, blob, trace).await
    }

    /// Sees to it that the rest is found out about an attachment.
    pub(super) async fn see_to(&self, record: Record, blob: Blob, trace: Option<TraceContext>) -> Result<Attachment> {
        let attachment = Attachment { id: record.id, name: record.name, content: blob.content };
        if !attachment.content.is_settled() {
            let progress = Progress { owner_id: record.owner_id, place: None, attachment: attachment.clone() };
            let event = self.event(record.owner_id, vec![record.owner_id], Body::Attachment(progress));
            self.publisher.enqueue(&event, trace)?.stored().await?;
        }
        Ok(attachment)
    }

    /// The blob of these bytes: the one that its owner has already, or a new one.
    pub(super) async fn keep_blob(&self, record: &Record, spool: NamedTempFile, inspected: &Inspected) -> Result<Blob> {
        let owner_id = record.owner_id;
        let shared = blob_of(owner_id, &inspected.sha256, inspected.media_type);
        if let Some(known) = self.store.hold_blob(shared, record.id).await? {
            return Ok(known);
        }
        let own: BlobId = self.clock.fresh_id();
        let key = format!("blobs/{own}");
        self.uploads.blobs.adopt(spool, &key, inspected.media_type).await?;
        let mut blob = Blob { id: shared, owner_id, key, content: self.uploads.content(inspected) };
        if self.store.insert_blob(&blob, record.id, self.clock.now()).await? {
            return Ok(blob);
        }
        // Somebody was faster, or the last one is just on its way out.
        if let Some(known) = self.store.hold_blob(shared, record.id).await? {
            // It is our own if the answer to our first attempt got lost.
            if known.key != blob.key {
                // The sweep finds what stays.
                let _ = self.uploads.blobs.delete(&blob.key).await;
            }
            return Ok(known);
        }
        // Its holder says so first: a blob whose holder names another one would stay for ever.
        blob.id = own;
        self.store.set_blob(record.id, own).await?;
        self.store.insert_blob(&blob, record.id, self.clock.now()).await?;
        Ok(blob)
    }

    pub(super) async fn own_attachment(&self, owner: UserId, id: AttachmentId) -> Result<Record> {
        let record = self.store.attachment(id).await?;
        record.filter(|record| record.owner_id == owner && !record.is_deleted).ok_or_else(unknown_attachment)
    }

    /// The bytes of an attachment.
    pub(super) async fn blob_of(&self, record: &Record) -> Result<Blob> {
        let id = record.blob_id.ok_or_else(unknown_attachment)?;
        self.store.blobs_by_id(&[id]).await?.pop().ok_or_else(unknown_attachment)
    }
}

/// The answer about an attachment that belongs to a message already.
#[must_use]
pub fn in_use() -> Error {
    Error::new(Code::Conflict, "attachment_in_use", "this attachment belongs to a message already")
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;
    use crate::config::BlobConfig;
    use crate::lifecycle::Lifecycle;

    const KIB: u64 = 1 << 10;

    #[test]
    fn patience_is_earned_by_bytes_and_has_an_end() {
        let after = |kib: u64, seconds: u64| patience(kib * KIB, Duration::from_secs(seconds)).as_secs();
        assert_eq!((after(0, 0), after(0, 10), after(0, 30), after(0, 31)), (30, 20, 0, 0));
        // As fast as it has to be: it is as late as it was.
        assert_eq!((after(16, 11), after(1_600, 110), after(16_000, 1_010)), (20, 20, 20));
        // What was fast may not stop for longer than any other.
        assert_eq!((after(25 << 10, 1), after(25 << 10, 1_601)), (30, 29));
        assert_eq!(patience(u64::MAX, Duration::ZERO), STALL);
    }

    /// An upload that brings so many bytes each time that so many seconds are over, and ends by itself.
    async fn brought(bytes: usize, seconds: u64, times: u64) -> Result<u64> {
        let lifecycle = Lifecycle::new();
        let config = BlobConfig { url: "memory:".into(), variables: Vec::new() };
        let blobs = Blobs::open(&config, &lifecycle).await.expect("a store");
        let limits = UploadLimits { bytes: 1 << 20, pixels: 0, link: Duration::ZERO, scans: false };
        let uploads = Uploads::new(blobs, Links::new(b"a secret").expect("links"), limits, Metrics::default());
        let body = stream::unfold(0, |sent| async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            (sent < times).then(|| (Ok(Bytes::from(vec![0; bytes])), sent + 1))
        });
        let received = uploads.receive(body, limits.bytes, || too_large(limits.bytes)).await;
        lifecycle.drain();
        received.map(|received| received.size)
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_trickles_is_given_up_and_whoever_is_slow_is_not() {
        let reason = |done: Result<u64>| done.err().map(|error| error.reason());
        assert_eq!(brought(20 << 10, 1, 50).await.ok(), Some(50 * 20 * KIB), "50 seconds, fast enough");
        assert_eq!(brought(1, 1, 20).await.ok(), Some(20), "slow, and over soon");
        assert_eq!(reason(brought(1, 29, 100).await), Some("upload_stalled"), "never silent for long");
        assert_eq!(reason(brought(8 << 10, 1, 1_000).await), Some("upload_stalled"), "half as fast as it has to be");
        assert_eq!(reason(brought(1, 31, 1).await), Some("upload_stalled"));
        assert_eq!(reason(brought(128 << 10, 1, 1_000).await), Some("attachment_too_large"));
    }
}
