//! `previews`: finds out what takes long to find out about attachments: whether they are harmful, and what pictures look
//! like when they are small.
//!
//! What was found out is written to the blob first, then told: to the participants of the conversation if the attachment
//! belongs to a message by then, else to its owner. A message that claims it afterwards finds it all in the record. One that
//! has claimed it and is still on its way is waited for: what is told of it has to come behind it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::deciding::Deciding;
use crate::blob::Blobs;
use crate::broker::consume::{Delivery, Handler, Verdict};
use crate::broker::publish::Publisher;
use crate::command::directory::Directory;
use crate::command::lookup::Lookup;
use crate::domain::attachment::{Attachment, Place, Preview, Progress, State};
use crate::domain::clock::Clock;
use crate::domain::decision::Decisions;
use crate::domain::event::{self, Body, Event};
use crate::domain::ids::UserId;
use crate::domain::notification::{self, Data, Notification};
use crate::domain::trace::TraceContext;
use crate::error::{Code, Error, Result};
use crate::inspect::{self, preview};
use crate::metrics::Metrics;
use crate::scan::{self, Scanner};
use crate::store::Store;
use crate::store::attachments::{Claim, Record};
use crate::store::blobs::Blob;

/// Seconds that a message which has claimed an attachment may be on its way.
const ON_ITS_WAY: i64 = 60;
/// What cannot be done for a reason of its own is tried again this late; others go first.
const LATER: Duration = Duration::from_secs(30);
/// A message that is on its way is looked for again this soon at first, and after as long again as it has taken then.
const SOON: Duration = Duration::from_millis(500);

/// What it works with.
pub struct Means {
    /// Where the bytes are.
    pub blobs: Blobs,
    /// Where their records are.
    pub store: Store,
    /// Says what was found out.
    pub publisher: Publisher,
    /// Knows whom it concerns.
    pub directory: Directory,
    /// Knows where messages are.
    pub lookup: Lookup,
    /// Decides whether somebody is told.
    pub deciding: Deciding,
    /// Looks bytes through, if there is one.
    pub scanner: Option<Scanner>,
    /// Pixels of a picture, at most.
    pub pixels: u64,
    /// Counts verdicts.
    pub metrics: Metrics,
    /// The time.
    pub clock: Clock,
}

/// The handler.
pub struct Previews {
    means: Means,
    /// A picture takes much memory while it is open: one at a time.
    open: Arc<Semaphore>,
}

/// Why something is not done yet, and when it is to be tried again.
struct Pending {
    after: Duration,
    why: Error,
}

impl From<Error> for Pending {
    fn from(why: Error) -> Self {
        Self { after: LATER, why }
    }
}

impl Previews {
    /// Works with these.
    #[must_use]
    pub fn new(means: Means) -> Self {
        Self { means, open: Arc::new(Semaphore::new(1)) }
    }

    /// Finds out and tells everything about an attachment.
    async fn settle(&self, told: &Progress, trace: TraceContext) -> Result<(), Pending> {
        let Means { store, .. } = &self.means;
        // What is no news any more is none: the one who tells it publishes such an event, too.
        if told.attachment.content.is_settled() || told.place.is_some() {
            return Ok(());
        }
        let Some(record) = store.attachment(told.attachment.id).await? else { return Ok(()) };
        let Some(blob_id) = record.blob_id.filter(|_| !record.is_deleted) else { return Ok(()) };
        let Some(mut blob) = store.blobs_by_id(&[blob_id]).await?.pop() else { return Ok(()) };
        if blob.content.state == State::Scanning {
            self.scan(&mut blob).await?;
        }
        if blob.content.state == State::Ready && blob.content.preview == Preview::Pending {
            self.make_smaller(&mut blob).await?;
        }
        // By now it may belong to a message, or be gone.
        match store.attachment(record.id).await? {
            Some(record) if !record.is_deleted => self.tell(record, blob, trace).await,
            _ => Ok(()),
        }
    }

    /// Looks the bytes through. Nobody gets what is harmful from then on.
    async fn scan(&self, blob: &mut Blob) -> Result<()> {
        let Means { blobs, store, scanner, metrics, .. } = &self.means;
        let Some(scanner) = scanner else {
            // Somebody was promised that it is looked through: an instance that is set up otherwise does not waive that.
            return Err(Error::internal("an attachment waits for a scanner, and CLAMD_ADDRESS is not set"));
        };
        // Gone, the sweep has it.
        let Some(bytes) = blobs.read(&blob.key, None).await? else { return Ok(()) };
        let scanned = scanner.scan(bytes).await;
        metrics.scanned(match &scanned {
            Ok(scan::Verdict::Clean) => "clean",
            Ok(scan::Verdict::Infected { .. }) => "infected",
            Err(_) => "failed",
        });
        blob.content.state = match scanned? {
            scan::Verdict::Clean => State::Ready,
            scan::Verdict::Infected { signature } => {
                tracing::warn!(blob.id = %blob.id, user.id = %blob.owner_id, signature, "an attachment is harmful");
                blob.content.preview = Preview::None;
                State::Infected
            }
        };
        store.settle_blob(blob).await
    }

    /// Makes the smaller pictures, if the decoder can read it.
    async fn make_smaller(&self, blob: &mut Blob) -> Result<()> {
        let Means { blobs, store, pixels, .. } = &self.means;
        let one = self.open.acquire().await.map_err(Error::internal)?;
        let limits = inspect::Limits { pixels: *pixels };
        let made = match blobs.fetch(&blob.key, blob.content.size).await? {
            None => None,
            Some(fetched) => {
                let decoding = tokio::task::spawn_blocking(move || preview::previews(fetched.file.as_file(), &limits));
                // A decoder that panics over a picture cannot read it.
                decoding.await.unwrap_or_else(|error| {
                    tracing::warn!(error = %error, "a picture could not be decoded");
                    None
                })
            }
        };
        drop(one);
        match made {
            None => blob.content.preview = Preview::None,
            Some(made) => {
                blob.content.thumbnails.clear();
                for (thumbnail, bytes) in made.thumbnails {
                    let key = format!("{}.{}", blob.key, thumbnail.edge);
                    blobs.put(&key, Bytes::from(bytes), &thumbnail.media_type).await?;
                    blob.content.thumbnails.push(thumbnail);
                }
                blob.content.blurhash = Some(made.blurhash);
                blob.content.preview = Preview::Ready;
            }
        }
        store.settle_blob(blob).await
    }

    async fn tell(&self, record: Record, blob: Blob, trace: TraceContext) -> Result<(), Pending> {
        let owner_id = record.owner_id;
        let attachment = Attachment { id: record.id, name: record.name, content: blob.content };
        let place = match record.claim {
            None => None,
            Some(claim) => match self.place(claim).await? {
                None if claim.at.plus_seconds(ON_ITS_WAY) > self.means.clock.now() => {
                    let age = self.means.clock.now().millis().saturating_sub(claim.at.millis());
                    let after = Duration::from_millis(u64::try_from(age).unwrap_or_default()).max(SOON);
                    let why = Error::new(Code::Conflict, "message_on_its_way", "its message is not in the log yet");
                    return Err(Pending { after, why });
                }
                // There is none, or it will not be.
                place => place,
            },
        };
        let recipients = match place {
            None => vec![owner_id],
            Some(place) => match self.means.directory.find(place.conversation_id).await? {
                Some(entry) => entry.conversation.audience(place.message_seq).collect(),
                None => vec![owner_id],
            },
        };
        let infected = attachment.content.state == State::Infected;
        let notification = if infected { Some(self.notification(owner_id, &attachment, place).await?) } else { None };
        let progress = Body::Attachment(Progress { owner_id, place, attachment });
        let mut events = vec![self.event(owner_id, recipients, progress)];
        if let Some(notification) = notification {
            let recipients = if notification.is_told() { vec![owner_id] } else { Vec::new() };
            events.push(self.event(owner_id, recipients, Body::Notification(notification)));
        }
        for event in events {
            self.means.publisher.enqueue_patiently(&event, Some(trace)).await?.stored().await?;
        }
        Ok(())
    }

    /// Where the message is that has claimed an attachment, if it was said. What confirms that in the record may be far behind.
    async fn place(&self, claim: Claim) -> Result<Option<Place>> {
        let Claim { conversation_id, message_id, message_seq, .. } = claim;
        if let Some(message_seq) = message_seq {
            return Ok(Some(Place { conversation_id, message_id, message_seq }));
        }
        let found = match self.means.lookup.find(conversation_id, message_id, 0).await {
            Ok(touched) => touched.look(|state| state.seq),
            Err(error) => Err(error),
        };
        match found {
            Ok(message_seq) => Ok(Some(Place { conversation_id, message_id, message_seq })),
            Err(error) if error.code() == Code::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn event(&self, actor: UserId, recipients: Vec<UserId>, body: Body) -> Event {
        let (id, occurred_at) = (self.means.clock.fresh_id(), self.means.clock.now());
        Event { id, version: event::VERSION, actor, occurred_at, recipients, body }
    }

    /// What tells the uploader that nobody gets it.
    async fn notification(&self, user: UserId, attachment: &Attachment, place: Option<Place>) -> Result<Notification> {
        let id = notification::id_of(attachment.id.bits(), user);
        let mut notification = Notification {
            id,
            user_id: user,
            entry_id: id,
            kind: notification::Kind::System,
            title: notification::excerpt(&attachment.name),
            body: "is harmful by what the scanner says, and nobody gets it".into(),
            data: Data {
                conversation_id: place.map(|place| place.conversation_id),
                message_id: place.map(|place| place.message_id),
                ..Data::default()
            },
            decision: Decisions::default(),
            created_at: self.means.clock.now(),
        };
        let known =
            self.means.deciding.know([user].into(), place.map(|place| place.conversation_id).into_iter().collect());
        notification.decision = known.await?.decide(&notification, notification.created_at);
        Ok(notification)
    }
}

impl Handler for Previews {
    type Given = Delivery;

    async fn handle(&self, batch: &[Delivery]) -> Vec<Verdict> {
        let mut verdicts = Vec::with_capacity(batch.len());
        for delivery in batch {
            let Body::Attachment(told) = &delivery.stored.event.body else {
                verdicts.push(Verdict::Done);
                continue;
            };
            verdicts.push(match self.settle(told, delivery.trace).await {
                Ok(()) => Verdict::Done,
                Err(Pending { after, why }) => Verdict::Retry { after, why },
            });
        }
        verdicts
    }
}
