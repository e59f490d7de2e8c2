//! Presigned uploads: what a client brings to the object store itself, or to us by a link, before it is an attachment.
//!
//! It is announced first, brought then, and taken over last: fetched and looked at like any other upload. Until then its
//! record is there, its bytes are where anybody with the address can write, and nobody gets them.

use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use tempfile::NamedTempFile;

use super::Commands;
use super::uploads::{Named, hex, in_use, too_large, unknown_attachment};
use crate::auth::Actor;
use crate::auth::link::{Presented, Purpose};
use crate::blob::Signed;
use crate::domain::attachment::{Attachment, Content, Preview, State, blob_of};
use crate::domain::clock::Timestamp;
use crate::domain::ids::{AttachmentId, UserId};
use crate::domain::trace::TraceContext;
use crate::error::{Code, Error, Result};
use crate::inspect::{self, Inspected};
use crate::store::attachments::{Announced, Record};

/// Characters of a media type, at most: two names of 127 and what is between them (RFC 6838, section 4.2).
const MEDIA_TYPE: usize = 255;
/// What bytes are that nobody has looked at.
const OCTETS: &str = "application/octet-stream";

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

fn size_mismatch() -> Error {
    Error::invalid("size_mismatch", "these are not as many bytes as were announced")
}

/// Where the bytes are that a client brings by itself.
pub(super) fn incoming(id: AttachmentId) -> String {
    format!("incoming/{id}")
}

impl Announcement<'_> {
    /// What is kept of it: the name as it is kept, and the rest.
    fn check(&self, most: u64) -> Result<(String, Announced)> {
        let name = inspect::clean_name(self.name)?;
        if self.size == 0 {
            return Err(Error::invalid("empty_attachment", "an attachment has bytes"));
        }
        if self.size > most {
            return Err(too_large(most));
        }
        let sha256 = self.sha256.to_ascii_lowercase();
        if sha256.len() != 64 || !sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Error::invalid("malformed_checksum", "sha256 must have 64 hexadecimal digits"));
        }
        if self.media_type.is_some_and(|kind| kind.len() > MEDIA_TYPE) {
            return Err(Error::invalid("type_not_allowed", "a media type has at most 255 characters"));
        }
        Ok((name, Announced { media_type: self.media_type.map(str::to_owned), size: self.size, sha256 }))
    }
}

impl Commands {
    /// Makes room for an attachment that the client brings to the store itself.
    pub async fn announce_upload(&self, actor: &Actor, announced: Announcement<'_>) -> Result<Ticket> {
        let now = self.clock.now();
        actor.check_expiry(now)?;
        let (name, announced) = announced.check(self.uploads.limits.bytes)?;
        self.limited(actor.user_id, async {
            self.require_few_unattached(actor.user_id).await?;
            let id: AttachmentId = self.clock.fresh_id();
            let record = Record {
                id,
                owner_id: actor.user_id,
                name,
                blob_id: None,
                announced: Some(announced),
                created_at: now,
                claim: None,
                is_deleted: false,
            };
            self.store.insert_attachment(&record).await?;
            let life = self.uploads.limits.link;
            let expires_at = now.plus_seconds(i64::try_from(life.as_secs()).unwrap_or(i64::MAX));
            let signed = self.address(id, actor.user_id, life, expires_at).await?;
            let attachment = announced_attachment(&record).ok_or_else(unknown_attachment)?;
            Ok(Ticket { attachment, signed, expires_at })
        })
        .await
    }

    /// Where it is to be brought.
    async fn address(&self, id: AttachmentId, user: UserId, life: Duration, until: Timestamp) -> Result<Signed> {
        if let Some(by_store) = self.uploads.blobs.presign_put(&incoming(id), life).await? {
            return Ok(by_store);
        }
        let query = self.uploads.links.query(Purpose::Upload, id, user, until);
        Ok(Signed { url: format!("/api/attachments/{id}/content?{query}"), headers: &[] })
    }

    /// Takes the bytes that a client brings by a link of ours. Whoever has the link brings them in the name of the one that it
    /// names, and counts as them.
    pub async fn bring(
        &self,
        id: AttachmentId,
        link: Presented<'_>,
        body: impl Stream<Item = Result<Bytes>>,
    ) -> Result<()> {
        let owner = self.uploads.links.check(Purpose::Upload, id, link, self.clock.now())?;
        let _one = self.uploads.begin(owner)?;
        self.limited(owner, async {
            let record = self.own_attachment(owner, id).await?;
            let Some(announced) = record.announced else { return Err(in_use()) };
            let received = self.uploads.receive(body, announced.size, size_mismatch).await?;
            let key = incoming(id);
            self.uploads.blobs.adopt(received.file, &key, OCTETS).await?;
            // Whoever took it back or took it over meanwhile has taken away what was there before these.
            let unwanted = match self.own_attachment(owner, id).await {
                Ok(record) if record.announced.is_some() => return Ok(()),
                Ok(_) => in_use(),
                Err(error) => error,
            };
            let _ = self.uploads.blobs.delete(&key).await;
            Err(unwanted)
        })
        .await
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
        let _one = self.uploads.begin(actor.user_id)?;
        let mut record = self.own_attachment(actor.user_id, id).await?;
        let Some(announced) = record.announced.take() else {
            let blob = self.blob_of(&record).await?;
            return Ok(Attachment { id, name: record.name, content: blob.content });
        };
        self.uploads.counted(self.limited(actor.user_id, self.take_over(record, announced, trace)).await)
    }

    async fn take_over(
        &self,
        mut record: Record,
        announced: Announced,
        trace: Option<TraceContext>,
    ) -> Result<Attachment> {
        let (id, key) = (record.id, incoming(record.id));
        let (spool, inspected) = self.fetch_announced(&record, &announced, &key).await?;
        self.store.set_blob(id, blob_of(record.owner_id, &inspected.sha256, inspected.media_type)).await?;
        let blob = self.keep_blob(&record, spool, &inspected).await?;
        let held = blob.id;
        record.name.clone_from(&inspected.name);
        let attachment = self.see_to(record, blob, trace).await?;
        let is_wanted = self.store.complete_attachment(id, &inspected.name).await?;
        let _ = self.uploads.blobs.delete(&key).await;
        if is_wanted {
            return Ok(attachment);
        }
        // It was taken back meanwhile. Its record may be gone by now, and nobody else knows what it holds.
        self.store.release_blob(held, id).await?;
        Err(unknown_attachment())
    }

    /// Fetches what was brought, if it is what was announced. What is not is taken away: other bytes may be brought as long as
    /// the link is good.
    async fn fetch_announced(
        &self,
        record: &Record,
        announced: &Announced,
        key: &str,
    ) -> Result<(NamedTempFile, Inspected)> {
        let fetched = match self.uploads.blobs.fetch(key, announced.size).await {
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
        let kept = kept.await;
        if kept.is_err() {
            let _ = self.uploads.blobs.delete(key).await;
        }
        kept
    }
}

/// An attachment whose bytes are not here, as its uploader announced it.
#[must_use]
pub fn announced_attachment(record: &Record) -> Option<Attachment> {
    let announced = record.announced.as_ref()?;
    let content = Content {
        media_type: announced.media_type.clone().unwrap_or_else(|| OCTETS.into()),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_announced_has_measures() {
        let sha256 = "0123456789abcdefABCDEF".repeat(3)[..64].to_owned();
        let good = Announcement { name: "a.txt", media_type: Some("text/plain"), size: 5, sha256: &sha256 };
        let (name, kept) = good.check(5).expect("good");
        assert_eq!((name.as_str(), kept.sha256), ("a.txt", sha256.to_ascii_lowercase()));
        let longest = "x".repeat(MEDIA_TYPE);
        assert!(Announcement { media_type: Some(&longest), ..good.clone() }.check(5).is_ok());
        let longer = format!("{longest}x");
        for (bad, reason) in [
            (Announcement { size: 0, ..good.clone() }, "empty_attachment"),
            (Announcement { size: 6, ..good.clone() }, "attachment_too_large"),
            (Announcement { sha256: "0123", ..good.clone() }, "malformed_checksum"),
            (Announcement { name: "../a.txt", ..good.clone() }, "malformed_name"),
            (Announcement { media_type: Some(&longer), ..good.clone() }, "type_not_allowed"),
        ] {
            assert_eq!(bad.check(5).err().map(|error| error.reason()), Some(reason), "{bad:?}");
        }
    }
}
