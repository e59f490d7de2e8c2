//! Downloads: bytes on their way out, so many at once and no more: each has a file, or a connection to the store, and pieces
//! in memory for as long as its client takes.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::Queries;
use super::attachments::Found;
use crate::blob::Pieces;
use crate::command::shares::{Share, Shares, Taken};
use crate::command::uploads::unknown_attachment;
use crate::domain::ids::UserId;
use crate::error::{Code, Error, Result};

/// Downloads at once, at most.
const AT_ONCE: usize = 512;
/// Downloads of one user at once, at most.
const OF_ONE: usize = 16;
/// What has no more bytes than this is read as a whole and counts as nothing: a page with many small pictures asks for all
/// of them at once, and no browser asks again for those that are refused.
const SMALL: u64 = 128 << 10;

/// Downloads that are under way; cheap to clone.
#[derive(Debug, Clone)]
pub struct Downloads(Shares);

impl Default for Downloads {
    fn default() -> Self {
        Self(Shares::new(AT_ONCE, OF_ONE))
    }
}

impl Downloads {
    fn begin(&self, user: UserId) -> Result<Share> {
        self.0.take(user).map_err(|taken| {
            let shown = match taken {
                Taken::ByAll => "too many downloads are under way here, wait a little",
                Taken::ByUser => "16 of your downloads are under way here, wait until one of them is done",
            };
            Error::new(Code::RateLimited, "too_many_downloads", shown).retry_after(Duration::from_secs(1))
        })
    }
}

impl Queries {
    /// The bytes of what was found, or a part of them, to be taken at whatever pace.
    pub async fn bytes(&self, found: &Found, part: Option<Range<u64>>) -> Result<Pieces> {
        let blobs = &self.uploads.blobs;
        let is_small = part.as_ref().map_or(found.size, |part| part.end - part.start) <= SMALL;
        let share = if is_small { None } else { Some(self.downloads.begin(found.user)?) };
        let pieces = blobs.read(&found.key, part).await?.ok_or_else(unknown_attachment)?;
        Ok(match share {
            Some(share) => blobs.give(pieces, share),
            None => stream::iter(pieces.try_collect::<Vec<Bytes>>().await?).map(Ok).boxed(),
        })
    }
}
