//! Attachments: who gets to see which, asked each time.
//!
//! What belongs to no message is its uploader's alone; after that it is there for whoever the message is there for, and
//! goes with it.

use super::{Queries, overlay};
use crate::auth::Actor;
use crate::auth::link::{Presented, Purpose};
use crate::broker::subject::Filter;
use crate::command::attachments::infected;
use crate::command::presigned::announced_attachment;
use crate::command::uploads::unknown_attachment;
use crate::domain::attachment::{Attachment, State};
use crate::domain::clock::Timestamp;
use crate::domain::ids::{AttachmentId, UserId};
use crate::domain::user::Role;
use crate::error::{Code, Error, Result};
use crate::inspect;
use crate::store::attachments::{Claim, Record};
use crate::store::blobs::Blob;

/// Which bytes of an attachment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// The attachment itself.
    Whole,
    /// The smaller picture for this edge.
    Thumbnail(u32),
}

/// Bytes that somebody may have.
#[derive(Debug, Clone)]
pub struct Found {
    /// Where the store has them.
    pub(super) key: String,
    /// Who gets them.
    pub(super) user: UserId,
    /// What they are called.
    pub name: String,
    /// Their media type.
    pub media_type: String,
    /// How many.
    pub size: u64,
    /// What changes with them.
    pub tag: String,
    /// Whether a browser may show them by itself.
    pub inline: bool,
}

/// The address of an attachment that needs no token.
#[derive(Debug, Clone)]
pub struct Link {
    /// Of this server without the host, or of the store.
    pub url: String,
    /// Until when.
    pub expires_at: Timestamp,
}

impl Queries {
    /// An attachment, as far as it is known now.
    pub async fn attachment(&self, actor: &Actor, id: AttachmentId) -> Result<Attachment> {
        let record = self.visible(actor, id).await?;
        if let Some(announced) = announced_attachment(&record) {
            return Ok(announced);
        }
        let blob = self.blob_of(&record).await?;
        Ok(Attachment { id, name: record.name, content: blob.content })
    }

    /// Bytes of an attachment, if this user may have them.
    pub async fn found(&self, actor: &Actor, id: AttachmentId, variant: Variant) -> Result<Found> {
        let record = self.visible(actor, id).await?;
        if record.announced.is_some() {
            return Err(Error::new(Code::Conflict, "upload_pending", "the bytes of this attachment are not there yet"));
        }
        let Blob { key, content, .. } = self.blob_of(&record).await?;
        match content.state {
            State::Infected => return Err(infected()),
            State::Scanning | State::Uploading => {
                // How long that takes nobody knows; whoever waits for it is told.
                let shown = "this attachment is being looked through, until attachmentUpdated says that it is done";
                return Err(Error::new(Code::Conflict, "attachment_scanning", shown));
            }
            State::Ready => {}
        }
        let found = match variant {
            Variant::Whole => Found {
                tag: format!("\"{}\"", content.sha256),
                inline: inspect::is_inline(&content.media_type),
                key,
                user: actor.user_id,
                name: record.name,
                media_type: content.media_type,
                size: content.size,
            },
            Variant::Thumbnail(edge) => {
                // A picture that is smaller than an edge has no thumbnail for it: the largest there is will do.
                let fits = content.thumbnails.iter().find(|one| one.edge >= edge).or(content.thumbnails.last());
                let one = fits.ok_or_else(|| {
                    Error::new(Code::NotFound, "no_thumbnail", "there is no smaller picture of this attachment")
                })?;
                Found {
                    key: format!("{key}.{}", one.edge),
                    user: actor.user_id,
                    name: record.name,
                    media_type: one.media_type.clone(),
                    size: one.size,
                    tag: format!("\"{}-{}\"", content.sha256, one.edge),
                    inline: true,
                }
            }
        };
        Ok(found)
    }

    /// An address for whoever cannot send a token along. It is theirs alone, and what it names is asked for anew each time;
    /// an address of the store itself is good for as long as it says.
    pub async fn link(&self, actor: &Actor, id: AttachmentId, variant: Variant, direct: bool) -> Result<Link> {
        let found = self.found(actor, id, variant).await?;
        let life = self.uploads.limits.link;
        let expires_at = self.clock.now().plus_seconds(i64::try_from(life.as_secs()).unwrap_or(i64::MAX));
        if direct && let Some(signed) = self.uploads.blobs.presign_get(&found.key, life, &found.name).await? {
            return Ok(Link { url: signed.url, expires_at });
        }
        let query = self.uploads.links.query(Purpose::Download, id, actor.user_id, expires_at);
        let url = match variant {
            Variant::Whole => format!("/api/attachments/{id}?{query}"),
            Variant::Thumbnail(edge) => format!("/api/attachments/{id}/thumbnail?edge={edge}&{query}"),
        };
        Ok(Link { url, expires_at })
    }

    /// Whoever comes with a link, if it is good.
    pub fn bearer_of(&self, id: AttachmentId, link: Presented<'_>) -> Result<Actor> {
        let now = self.clock.now();
        let user_id = self.uploads.links.check(Purpose::Download, id, link, now)?;
        // Nobody is more by a link than a user of the shop: agents see no more with it than where they take part.
        // It was good when it came, and stays so for this request: one that ends meanwhile is not an expired token.
        let expires_at = now.plus_seconds(60);
        Ok(Actor { user_id, name: "".into(), role: Role::Buyer, expires_at })
    }

    /// The record of an attachment that is there for this user.
    async fn visible(&self, actor: &Actor, id: AttachmentId) -> Result<Record> {
        actor.check_expiry(self.clock.now())?;
        let record = self.store.attachment(id).await?.ok_or_else(unknown_attachment)?;
        if let Some(claim) = record.claim {
            match self.message(actor, claim.conversation_id, claim.message_id).await {
                Ok(message) if message.attachments().any(|one| one.id == id) => return Ok(record),
                Ok(_) => {}
                Err(error) if matches!(error.code(), Code::NotFound | Code::Forbidden) => {}
                Err(error) => return Err(error),
            }
            // As long as its message is not there, and if it never will be, it is still its uploader's.
            if record.owner_id != actor.user_id || self.is_carried(claim, id).await? {
                return Err(unknown_attachment());
            }
        }
        if record.owner_id == actor.user_id && !record.is_deleted { Ok(record) } else { Err(unknown_attachment()) }
    }

    /// Whether the message that has claimed an attachment is there, whoever sees it, and carries it, or did until it was deleted.
    async fn is_carried(&self, claim: Claim, id: AttachmentId) -> Result<bool> {
        if claim.message_seq.is_some() {
            return Ok(true);
        }
        let newer = self.unprojected(Filter::Conversation(claim.conversation_id), overlay::LIMIT).await?;
        let mut found = Vec::from_iter(self.store.message(claim.message_id).await?);
        overlay::lay_over(&mut found, &newer, |_| true);
        Ok(found
            .iter()
            .filter(|state| state.message.id == claim.message_id)
            .any(|state| state.deleted.is_some() || state.message.attachments.iter().any(|one| one.id == id)))
    }

    async fn blob_of(&self, record: &Record) -> Result<Blob> {
        let id = record.blob_id.ok_or_else(unknown_attachment)?;
        self.store.blobs_by_id(&[id]).await?.pop().ok_or_else(unknown_attachment)
    }
}
