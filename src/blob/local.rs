//! A store that is a folder: what `object_store` does not do as it is needed here.
//!
//! It would write beside the object, under a name that no listing shows, and leave that behind when the process dies; and
//! read 8 KiB at a time. Here a spool file becomes the object by its name alone, after its bytes are on disk.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Error as IoError, ErrorKind, Write as _};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use tempfile::NamedTempFile;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::link::Failure;

/// How long it may take until bytes are on disk, with many others that want to get there.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);
/// Work on files at once, at most. Each takes a thread, and what a thread allocates stays with it: most of a megabyte.
static THREADS: Semaphore = Semaphore::const_new(4);
/// So much is read at once.
const PIECE: u64 = 128 << 10;

/// Makes a spool file the object in this place.
pub(super) async fn adopt(spool: NamedTempFile, place: PathBuf) -> Result<(), Failure> {
    blocking(move || settle(spool, &place)).await
}

/// Makes these bytes the object in this place.
pub(super) async fn store(mut spool: NamedTempFile, bytes: Bytes, place: PathBuf) -> Result<(), Failure> {
    blocking(move || {
        spool.write_all(&bytes)?;
        settle(spool, &place)
    })
    .await
}

/// Runs what waits for a disk where waiting is fine. It goes on when nobody waits for it any more.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    done(begin(work).await?).await
}

/// Begins with what waits for a disk; [`done`] waits for its end.
pub(super) async fn begin<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<JoinHandle<io::Result<T>>, Failure> {
    let thread = THREADS.acquire().await.map_err(|closed| Failure::Fault(closed.into()))?;
    Ok(tokio::task::spawn_blocking(move || {
        let done = work();
        drop(thread);
        done
    }))
}

/// Waits for the end of what was begun.
pub(super) async fn done<T>(work: JoinHandle<io::Result<T>>) -> Result<T, Failure> {
    match work.await {
        Ok(done) => Ok(done?),
        Err(died) => Err(Failure::Fault(died.into())),
    }
}

/// The bytes first, then the name, then the folder that has the name: whenever the machine stops, there is all or nothing.
fn settle(spool: NamedTempFile, place: &Path) -> io::Result<()> {
    let folder = place.parent().ok_or(ErrorKind::InvalidInput)?;
    spool.as_file().sync_all()?;
    make(folder)?;
    spool.persist(place).map_err(|refused| at(place, &refused.error))?;
    // Not promised, so it had better not be there.
    sync(folder).inspect_err(|_| drop(fs::remove_file(place)))
}

/// Makes a folder, and those it is in, so that they are there for good.
pub(super) fn make(folder: &Path) -> io::Result<()> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    let above = folder.parent().unwrap_or(Path::new(""));
    make(above)?;
    match DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => sync(if above.as_os_str().is_empty() { Path::new(".") } else { above }),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            // By somebody else just now, or it is a file.
            if folder.is_dir() { Ok(()) } else { Err(at(folder, &ErrorKind::NotADirectory.into())) }
        }
        Err(error) => Err(at(folder, &error)),
    }
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Says where it happened, which the system does not.
fn at(path: &Path, error: &IoError) -> IoError {
    IoError::new(error.kind(), format!("{}: {error}", path.display()))
}

/// A range of a file, read as it is wanted.
pub(super) fn pieces(file: File, range: Range<u64>) -> impl Stream<Item = Result<Bytes, Failure>> + Send {
    stream::try_unfold((file, range), |(file, left)| async move {
        let most = usize::try_from(left.end.saturating_sub(left.start).min(PIECE)).unwrap_or_default();
        if most == 0 {
            return Ok(None);
        }
        let read = move || {
            let mut bytes = vec![0; most];
            let read = file.read_at(&mut bytes, left.start)?;
            if read == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            bytes.truncate(read);
            Ok((bytes, (file, left.start + read as u64..left.end)))
        };
        let (bytes, rest) = blocking(read).await?;
        Ok(Some((Bytes::from(bytes), rest)))
    })
}
