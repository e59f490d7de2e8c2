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
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Commands;
use crate::auth::Actor;
use crate::auth::link::{Links, Presented, Purpose};
use crate::blob::{Blobs, Finished, Signed, Spool};
use crate::domain::attachment::{Attachment, Content, Preview, Progress, State, blob_of};
use crate::domain::clock::Timestamp;
use crate::domain::event::Body;
use crate::domain::ids::{AttachmentId, BlobId, UserId};
use crate::domain::trace::TraceContext;
use crate::error::{Code, Error, Result};
use crate::inspect::{self, Declared, Inspected};
use crate::store::attachments::{Announced, Record};
use crate::store::blobs::Blob;

/// Uploads at once, at most.
const AT_ONCE: usize = 64;
/// Looked at at once: it takes a core each.
const INSPECTIONS: usize = 2;
/// Attachments of one user that belong to no message, at most.
const UNATTACHED: u64 = 100;
/// How long the next bytes may take.
const STALL: Duration = Duration::from_secs(30);

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
    at_once: Arc<Semaphore>,
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

/// What a client will bring to the store itself.
#[derive(Debug, Clone)]
pub struct Announcement<'a> {
    /// What its uploader calls it.
    pub name: &'a str,
    /// Its media type.
    pub media_type: Option<&'a str>,
    /// How many bytes.
    pub size: u64,
    /// Their SHA-256, in hexadecimal.
    pub sha256: &'a str,
}

/// Where a client is to bring it.
#[derive(Debug, Clone)]
pub struct Ticket {
    /// The attachment to be.
    pub attachment: Attachment,
    /// A request to the store, or one to us, without the host, if the store cannot be asked by others.
    pub signed: Signed,
    /// Until when.
    pub expires_at: Timestamp,
}

fn too_large(most: u64) -> Error {
    Error::new(Code::TooLarge, "attachment_too_large", format!("an attachment can have {most} bytes"))
}

fn size_mismatch() -> Error {
    Error::invalid("size_mismatch", "these are not as many bytes as were announced")
}

/// The answer about an attachment that is not there, or is somebody else's.
#[must_use]
pub fn unknown_attachment() -> Error {
    Error::new(Code::NotFound, "unknown_attachment", "there is no such attachment")
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Where the bytes are that a client brings by itself.
pub(super) fn incoming(id: AttachmentId) -> String {
    format!("incoming/{id}")
}

impl Uploads {
    /// Into this store, by these limits.
    #[must_use]
    pub fn new(blobs: Blobs, links: Links, limits: UploadLimits) -> Self {
        let at_once = Arc::new(Semaphore::new(AT_ONCE));
        Self { blobs, links, limits, at_once, inspections: Arc::new(Semaphore::new(INSPECTIONS)) }
    }

    fn begin(&self) -> Result<OwnedSemaphorePermit> {
        self.at_once.clone().try_acquire_owned().map_err(|_| {
            Error::new(Code::RateLimited, "too_many_uploads", "too many uploads are under way here, wait a little")
                .retry_after(Duration::from_secs(1))
        })
    }

    /// Takes in bytes as they come.
    async fn receive(&self, body: impl Stream<Item = Result<Bytes>>) -> Result<Finished> {
        let most = self.limits.bytes;
        let mut spool = Spool::new(self.blobs.spool().map_err(no_room)?);
        let mut body = pin!(body);
        let stalled = |_| Error::invalid("upload_stalled", "nothing came for half a minute");
        while let Some(piece) = tokio::time::timeout(STALL, body.next()).await.map_err(stalled)?.transpose()? {
            spool = spool.add(piece).await?;
            if spool.size() > most {
                return Err(too_large(most));
            }
        }
        spool.finish().await
    }

    /// Looks at what was received.
    async fn inspect(&self, received: Finished, named: Named<'_>) -> Result<(NamedTempFile, Inspected)> {
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
        let now = self.clock.now();
        actor.check_expiry(now)?;
        inspect::clean_name(named.name)?;
        let _one = self.uploads.begin()?;
        self.limited(actor, async {
            self.require_few_unattached(actor.user_id).await?;
            let received = self.uploads.receive(body).await?;
            let (spool, inspected) = self.uploads.inspect(received, named).await?;
            let id = self.clock.fresh_id();
            let record = Record {
                id,
                owner_id: actor.user_id,
                name: inspected.name.clone(),
                blob_id: Some(blob_of(actor.user_id, &inspected.sha256, inspected.media_type)),
                announced: None,
                created_at: now,
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
    async fn limited<T>(&self, actor: &Actor, work: impl Future<Output = Result<T>>) -> Result<T> {
        let in_hand = self.limits.admit(actor.user_id, self.clock.now())?;
        let done = work.await;
        in_hand.spent(self.clock.now());
        done
    }

    async fn require_few_unattached(&self, user: UserId) -> Result<()> {
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
        let attachment = Attachment { id: record.id, name: record.name, content: blob.content };
        if !attachment.content.is_settled() {
            let progress = Progress { owner_id: record.owner_id, place: None, attachment: attachment.clone() };
            let event = self.event(record.owner_id, vec![record.owner_id], Body::Attachment(progress));
            self.publisher.enqueue(&event, trace)?.stored().await?;
        }
        Ok(attachment)
    }

    /// The blob of these bytes: the one that its owner has already, or a new one.
    async fn keep_blob(&self, record: &Record, spool: NamedTempFile, inspected: &Inspected) -> Result<Blob> {
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
            // The sweep finds what stays.
            let _ = self.uploads.blobs.delete(&blob.key).await;
            return Ok(known);
        }
        // Its holder says so first: a blob whose holder names another one would stay for ever.
        blob.id = own;
        self.store.set_blob(record.id, own).await?;
        self.store.insert_blob(&blob, record.id, self.clock.now()).await?;
        Ok(blob)
    }

    /// Makes room for an attachment that the client brings to the store itself.
    pub async fn announce_upload(&self, actor: &Actor, announced: Announcement<'_>) -> Result<Ticket> {
        let now = self.clock.now();
        actor.check_expiry(now)?;
        let name = inspect::clean_name(announced.name)?;
        if announced.size == 0 {
            return Err(Error::invalid("empty_attachment", "an attachment has bytes"));
        }
        if announced.size > self.uploads.limits.bytes {
            return Err(too_large(self.uploads.limits.bytes));
        }
        let sha256 = announced.sha256.to_ascii_lowercase();
        if sha256.len() != 64 || !sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Error::invalid("malformed_checksum", "sha256 must have 64 hexadecimal digits"));
        }
        self.limited(actor, async {
            self.require_few_unattached(actor.user_id).await?;
            let id: AttachmentId = self.clock.fresh_id();
            let media_type = announced.media_type.map(str::to_owned);
            let record = Record {
                id,
                owner_id: actor.user_id,
                name,
                blob_id: None,
                announced: Some(Announced { media_type, size: announced.size, sha256 }),
                created_at: now,
                claim: None,
                is_deleted: false,
            };
            self.store.insert_attachment(&record).await?;
            let life = self.uploads.limits.link;
            let expires_at = now.plus_seconds(i64::try_from(life.as_secs()).unwrap_or(i64::MAX));
            let by_store = self.uploads.blobs.presign_put(&incoming(id), life).await?;
            let signed = by_store.unwrap_or_else(|| {
                let query = self.uploads.links.query(Purpose::Upload, id, actor.user_id, expires_at);
                Signed { url: format!("/api/attachments/{id}/content?{query}"), headers: &[] }
            });
            let attachment = announced_attachment(&record).ok_or_else(unknown_attachment)?;
            Ok(Ticket { attachment, signed, expires_at })
        })
        .await
    }

    /// Takes the bytes that a client brings by a link of ours.
    pub async fn bring(
        &self,
        id: AttachmentId,
        link: Presented<'_>,
        body: impl Stream<Item = Result<Bytes>>,
    ) -> Result<()> {
        let owner = self.uploads.links.check(Purpose::Upload, id, link, self.clock.now())?;
        let _one = self.uploads.begin()?;
        let record = self.own_attachment(owner, id).await?;
        if record.announced.is_none() {
            return Err(in_use());
        }
        let received = self.uploads.receive(body).await?;
        self.uploads.blobs.adopt(received.file, &incoming(id), "application/octet-stream").await
    }

    /// Takes over what a client has brought to the store: it is fetched, and looked at like any other upload. What was
    /// looked at is what is kept: the client may still write to where it brought it.
    pub async fn complete_upload(
        &self,
        actor: &Actor,
        id: AttachmentId,
        trace: Option<TraceContext>,
    ) -> Result<Attachment> {
        actor.check_expiry(self.clock.now())?;
        let _one = self.uploads.begin()?;
        let mut record = self.own_attachment(actor.user_id, id).await?;
        let Some(announced) = record.announced.take() else {
            let blob = self.blob_of(&record).await?;
            return Ok(Attachment { id, name: record.name, content: blob.content });
        };
        self.limited(actor, async {
            let key = incoming(id);
            let fetched = match self.uploads.blobs.fetch(&key, announced.size).await {
                Ok(Some(fetched)) if fetched.size == announced.size => Ok(fetched),
                Ok(Some(_)) => Err(size_mismatch()),
                Ok(None) => {
                    let pending = "the bytes are not there yet: bring them first";
                    return Err(Error::new(Code::Conflict, "upload_pending", pending));
                }
                // It is fetched no further than it should go.
                Err(error) if error.code() == Code::TooLarge => Err(size_mismatch()),
                Err(error) => return Err(error),
            };
            let kept = async {
                let fetched = fetched?;
                if hex(&fetched.sha256) != announced.sha256 {
                    return Err(Error::invalid("checksum_mismatch", "these are not the bytes that were announced"));
                }
                let named = Named { name: &record.name, media_type: announced.media_type.as_deref() };
                self.uploads.inspect(fetched, named).await
            };
            let (spool, inspected) = match kept.await {
                Ok(kept) => kept,
                Err(error) => {
                    // Other bytes may be brought as long as the link is good.
                    let _ = self.uploads.blobs.delete(&key).await;
                    return Err(error);
                }
            };
            self.store.set_blob(id, blob_of(actor.user_id, &inspected.sha256, inspected.media_type)).await?;
            let attachment = self.keep(record, spool, &inspected, trace).await?;
            self.store.complete_attachment(id).await?;
            let _ = self.uploads.blobs.delete(&key).await;
            Ok(attachment)
        })
        .await
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

/// An attachment whose bytes are not here, as its uploader announced it.
#[must_use]
pub fn announced_attachment(record: &Record) -> Option<Attachment> {
    let announced = record.announced.as_ref()?;
    let content = Content {
        media_type: announced.media_type.clone().unwrap_or_else(|| "application/octet-stream".into()),
        size: announced.size,
        sha256: announced.sha256.clone(),
        width: None,
        height: None,
        blurhash: None,
        state: State::Uploading,
        preview: Preview::None,
        thumbnails: Vec::new(),
    };
    Some(Attachment { id: record.id, name: record.name.clone(), content })
}
