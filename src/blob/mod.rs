//! Blobs: the bytes of attachments, in whatever object store there is. The only importer of `object_store`.
//!
//! Owns the way of bytes into the store, out of it and through it, and the spool files that they are in before. It never
//! says what an attachment is, who may have it or what its bytes are: a key is given, and bytes come or go.
//!
//! Bytes that come in are a spool file first, and are looked through there. A folder then adopts it by renaming, another
//! store takes it in parts. An object is there as a whole or not at all, also when this process dies in between, and once
//! it is said to be there it is on disk. What nobody may need any more is left to whoever sweeps: an object that was stored
//! but never noted, a spool file of a process that was killed.

mod giving;
mod link;
mod local;
mod open;
mod owner;
mod probe;
mod remote;
mod signed;
mod spool;

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::signer::Signer;
use object_store::{
    Attribute, Attributes, GetOptions, GetRange, GetResult, GetResultPayload, ObjectMeta, ObjectStore,
    ObjectStoreExt as _,
};
use tempfile::NamedTempFile;
use tokio::sync::Semaphore;

use crate::config::BlobConfig;
use crate::domain::clock::Timestamp;
use crate::error::{Code, Error, Result};
use crate::lifecycle::Lifecycle;

use self::link::{DEADLINE, Failure, Link};
pub use self::owner::KEY as OWNER;
pub use self::signed::Signed;
use self::spool::Spools;
pub use self::spool::{Finished, Spool};

/// The bytes of an object, piece by piece as they are wanted.
pub type Pieces = BoxStream<'static, Result<Bytes>>;

/// An object store with all of its attachments; cheap to clone.
#[derive(Clone)]
pub struct Blobs(Arc<Inner>);

struct Inner {
    /// Its URL, fit to be shown.
    shown: String,
    store: Arc<dyn ObjectStore>,
    /// Signs requests for others, if the store can be asked by others at all.
    signer: Option<Arc<dyn Signer>>,
    /// What a client has to send with a signed PUT.
    put_headers: &'static [(&'static str, &'static str)],
    /// What all keys begin with there.
    prefix: Path,
    /// Of a store that is a folder.
    folder: Option<PathBuf>,
    spools: Spools,
    link: Link,
    /// Parts that are in memory at the same time, of all uploads together.
    parts: Arc<Semaphore>,
    lifecycle: Lifecycle,
}

/// An object that is in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its key.
    pub key: String,
    /// Its bytes.
    pub size: u64,
    /// When it was stored, as the store says.
    pub modified: Timestamp,
}

impl fmt::Debug for Blobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Blobs").field(&self.0.shown).finish()
    }
}

impl Blobs {
    /// Opens the store and tries whether it takes, gives back, lists and forgets what it is given. From then on it is asked
    /// now and then whether it is still there, until `lifecycle` drains.
    ///
    /// # Errors
    /// `bad_configuration` with what was tried and what the store said; `attachments_unavailable` if it may go away by itself.
    pub async fn open(config: &BlobConfig, lifecycle: &Lifecycle) -> Result<Self> {
        let blobs = Self(Arc::new(open::open(config, lifecycle)?));
        probe::probe(&blobs.0).await?;
        let (inner, draining) = (Arc::clone(&blobs.0), lifecycle.draining());
        lifecycle.background("attachments", async move {
            inner.link.watch(draining, || inner.is_there()).await;
            Ok(())
        });
        Ok(blobs)
    }

    /// Whether the store answered when it was last asked.
    #[must_use]
    pub fn answers(&self) -> bool {
        self.0.link.answers()
    }

    /// A new file for bytes that come in, which nobody else can read. It is gone when it is dropped.
    pub fn spool(&self) -> io::Result<NamedTempFile> {
        self.0.spools.fresh()
    }

    /// Makes a spool file the object of this key. A browser that gets it from the store itself saves it.
    pub async fn adopt(&self, spool: NamedTempFile, key: &str, media_type: &str) -> Result<()> {
        let place = self.0.place(key)?;
        if let Some(folder) = &self.0.folder {
            let adopting = local::adopt(spool, folder.join(place.as_ref()));
            return Ok(self.0.link.run(local::DEADLINE, adopting).await?);
        }
        let mut attributes = attributes(media_type);
        attributes.insert(Attribute::ContentDisposition, "attachment".into());
        Ok(remote::upload(&self.0, spool, &place, attributes).await?)
    }

    /// Stores a few bytes that are there already, such as a thumbnail.
    pub async fn put(&self, key: &str, bytes: Bytes, media_type: &str) -> Result<()> {
        Ok(self.0.put(key, bytes, media_type).await?)
    }

    /// The bytes of an object, or those of a range that is not empty and begins within it; nothing if there is no such object.
    pub async fn read(&self, key: &str, range: Option<Range<u64>>) -> Result<Option<Pieces>> {
        Ok(self.0.get(key, range).await?.map(|found| self.0.pieces(found)))
    }

    /// Brings an object into a spool file; nothing if there is no such object.
    ///
    /// # Errors
    /// `attachment_too_large` if it has more than `most` bytes.
    pub async fn fetch(&self, key: &str, most: u64) -> Result<Option<Finished>> {
        let too_large = || Error::new(Code::TooLarge, "attachment_too_large", "the attachment is larger than allowed");
        let Some(found) = self.0.get(key, None).await? else { return Ok(None) };
        if found.meta.size > most {
            return Err(too_large());
        }
        let mut pieces = self.0.pieces(found);
        let mut spool = Spool::new(self.spool().map_err(Failure::from)?);
        while let Some(piece) = pieces.try_next().await? {
            spool = spool.add(piece).await?;
            if spool.size() > most {
                return Err(too_large());
            }
        }
        spool.finish().await.map(Some)
    }

    /// Removes an object. That it is gone already is fine.
    pub async fn delete(&self, key: &str) -> Result<()> {
        Ok(self.0.delete(key).await?)
    }

    /// The objects whose keys begin with these segments, in no order; all of them if there are none.
    pub fn list(&self, prefix: &str) -> BoxStream<'static, Result<Found>> {
        self.0.list(prefix).map_err(Error::from).boxed()
    }

    /// Removes spool files to which nothing was written since, and says how many there were. It blocks.
    pub fn sweep_spools(&self, older_than: Timestamp) -> io::Result<usize> {
        self.0.spools.sweep(older_than)
    }
}

impl Inner {
    /// Where an object is. Keys are made here, so that one of another form is a fault of ours.
    fn place(&self, key: &str) -> Result<Path, Failure> {
        let fine = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        };
        if key.split('/').all(fine) {
            Ok(self.prefix.parts().chain(Path::from(key).parts()).collect())
        } else {
            Err(Failure::Fault(format!("{key:?} is no key").into()))
        }
    }

    async fn put(&self, key: &str, bytes: Bytes, media_type: &str) -> Result<(), Failure> {
        let place = self.place(key)?;
        if let Some(folder) = &self.folder {
            let storing = local::store(self.spools.fresh()?, bytes, folder.join(place.as_ref()));
            return self.link.run(local::DEADLINE, storing).await;
        }
        let storing = self.store.put_opts(&place, bytes.into(), attributes(media_type).into());
        self.link.run(DEADLINE, storing).await?;
        Ok(())
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Option<GetResult>, Failure> {
        let place = self.place(key)?;
        let options = GetOptions { range: range.map(GetRange::Bounded), ..GetOptions::default() };
        match self.link.run(DEADLINE, self.store.get_opts(&place, options)).await {
            Ok(found) => Ok(Some(found)),
            Err(Failure::Missing(_)) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// The bytes of what was found. Only the time in which the store is waited for counts: a client may take theirs.
    fn pieces(&self, found: GetResult) -> Pieces {
        let raw = match found.payload {
            GetResultPayload::File(file, _) => local::pieces(file, found.range).boxed(),
            GetResultPayload::Stream(stream) => stream.map_err(Failure::from).boxed(),
        };
        let next = |(mut raw, link): (BoxStream<'static, Result<Bytes, Failure>>, Link)| async move {
            let piece = link.ask(DEADLINE, raw.try_next()).await?;
            Ok::<_, Error>(piece.map(|piece| (piece, (raw, link))))
        };
        stream::try_unfold((raw, self.link.clone()), next).boxed()
    }

    async fn delete(&self, key: &str) -> Result<(), Failure> {
        let place = self.place(key)?;
        match self.link.run(DEADLINE, self.store.delete(&place)).await {
            Ok(()) | Err(Failure::Missing(_)) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    fn list(&self, prefix: &str) -> BoxStream<'static, Result<Found, Failure>> {
        let below: Path = self.prefix.parts().chain(Path::from(prefix).parts()).collect();
        let own = self.prefix.clone();
        let raw = self.store.list(Some(&below)).map_err(Failure::from).boxed();
        let next = |(mut raw, link): (BoxStream<'static, Result<ObjectMeta, Failure>>, Link)| async move {
            let found = link.run(DEADLINE, raw.try_next()).await?;
            Ok::<_, Failure>(found.map(|found| (found, (raw, link))))
        };
        let found = move |meta: ObjectMeta| {
            let key: Path = meta.location.prefix_match(&own)?.collect();
            // A folder has the spools beside the objects.
            let object = !key.as_ref().starts_with('.');
            let modified = Timestamp::from_millis(meta.last_modified.timestamp_millis());
            object.then(|| Found { key: key.into(), size: meta.size, modified })
        };
        let all = stream::try_unfold((raw, self.link.clone()), next);
        all.try_filter_map(move |meta| std::future::ready(Ok(found(meta)))).boxed()
    }

    /// Whether the store answers as one does who knows us. There is no such object, and nobody says so to strangers.
    async fn is_there(&self) -> Result<(), Failure> {
        if let Some(folder) = &self.folder {
            tokio::fs::metadata(folder).await?;
            return Ok(());
        }
        match self.store.head(&self.place("probe/none")?).await.map_err(Failure::from) {
            Ok(_) | Err(Failure::Missing(_)) => Ok(()),
            Err(failure) => Err(failure),
        }
    }
}

/// What a browser is told that gets an object from the store itself.
fn attributes(media_type: &str) -> Attributes {
    Attributes::from_iter([
        (Attribute::ContentType, media_type.to_owned()),
        (Attribute::CacheControl, "private".to_owned()),
    ])
}

#[cfg(test)]
mod tests;
