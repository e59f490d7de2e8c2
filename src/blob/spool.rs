//! Spool files: where bytes are from when they come in until they are an object, or nothing.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::num::NonZeroU64;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use rustix::fs::{Advice, fadvise};
use sha2::{Digest as _, Sha256};
use tempfile::{NamedTempFile, TempPath};
use tokio::task::JoinHandle;

use super::link::Failure;
use super::local;
use crate::domain::clock::Timestamp;
use crate::error::Result;

/// How their names begin, in a folder that others may use too.
const OURS: &str = "shoptalk-spool-";
/// So many bytes are collected before they are written.
const ROOM: usize = 128 << 10;
/// So many bytes go to the disk at once.
const AHEAD: u64 = 2 << 20;
/// And so many pieces: each may be a small part of what it keeps in memory.
const PIECES: usize = 64;

/// Where spool files are made.
#[derive(Debug)]
pub(super) struct Spools {
    folder: PathBuf,
}

impl Spools {
    /// In this folder, which is there.
    pub(super) const fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// A new one, which nobody else can read.
    pub(super) fn fresh(&self) -> io::Result<NamedTempFile> {
        tempfile::Builder::new().prefix(OURS).tempfile_in(&self.folder)
    }

    /// Removes those to which nothing was written since; they belong to processes that were killed.
    pub(super) fn sweep(&self, older_than: Timestamp) -> io::Result<usize> {
        let me = rustix::process::geteuid().as_raw();
        let mut removed = 0;
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if !entry.file_name().to_str().is_some_and(|name| name.starts_with(OURS)) {
                continue;
            }
            // Whoever has it may finish with it at any moment.
            let about = match entry.metadata() {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                about => about?,
            };
            let written = about.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
            let written = Timestamp::from_millis(i64::try_from(written.as_millis()).unwrap_or(i64::MAX));
            if !about.is_file() || about.uid() != me || written >= older_than {
                continue;
            }
            match fs::remove_file(entry.path()) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                gone => {
                    gone?;
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }
}

/// A spool file that is being written, and hashed on the way. Whoever drops it, or fails, leaves nothing behind.
///
/// What was collected is written while the next bytes come: a core hashes as another one receives.
#[derive(Debug)]
pub struct Spool {
    /// Removes the file, whoever still writes to it.
    path: TempPath,
    written: Writing,
    waiting: Vec<Bytes>,
    /// Bytes that wait.
    waits: usize,
    size: u64,
}

#[derive(Debug)]
enum Writing {
    Done(Written),
    /// The pieces come back: a thread that frees what others have allocated keeps too much of it.
    UnderWay(JoinHandle<io::Result<(Written, Vec<Bytes>)>>),
}

/// What is written.
#[derive(Debug)]
struct Written {
    file: File,
    hash: Sha256,
    size: u64,
    /// So much of it is on its way to the disk.
    leaving: u64,
}

/// A spool file that has everything.
#[derive(Debug)]
pub struct Finished {
    /// The file.
    pub file: NamedTempFile,
    /// The SHA-256 of its bytes.
    pub sha256: [u8; 32],
    /// How many they are.
    pub size: u64,
}

impl Spool {
    /// Nothing yet.
    #[must_use]
    pub fn new(file: NamedTempFile) -> Self {
        let (file, path) = file.into_parts();
        let written = Written { file, hash: Sha256::new(), size: 0, leaving: 0 };
        Self { path, written: Writing::Done(written), waiting: Vec::new(), waits: 0, size: 0 }
    }

    /// How many bytes there are.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Adds these bytes. They are written once there are enough of them, where waiting for a disk is fine.
    pub async fn add(mut self, piece: Bytes) -> Result<Self> {
        self.size += piece.len() as u64;
        self.waits += piece.len();
        self.waiting.push(piece);
        if self.waits < ROOM && self.waiting.len() < PIECES {
            return Ok(self);
        }
        let Self { path, written, waiting, size, .. } = self;
        Ok(Self { path, written: written.with(waiting).await?, waiting: Vec::new(), waits: 0, size })
    }

    /// Writes what is left.
    pub async fn finish(self) -> Result<Finished> {
        let Self { path, written, waiting, size, .. } = self;
        let Written { file, hash, .. } = written.with(waiting).await?.done().await?;
        Ok(Finished { file: NamedTempFile::from_parts(file, path), sha256: hash.finalize().into(), size })
    }
}

impl Writing {
    async fn done(self) -> Result<Written, Failure> {
        match self {
            Self::Done(written) => Ok(written),
            Self::UnderWay(writing) => Ok(local::done(writing).await?.0),
        }
    }

    /// Begins to write these, once what is under way is written.
    async fn with(self, pieces: Vec<Bytes>) -> Result<Self, Failure> {
        let mut written = self.done().await?;
        let writing = local::begin(move || {
            written.write(&pieces)?;
            Ok((written, pieces))
        });
        Ok(Self::UnderWay(writing.await?))
    }
}

impl Written {
    fn write(&mut self, pieces: &[Bytes]) -> io::Result<()> {
        for piece in pieces {
            self.file.write_all(piece)?;
            self.hash.update(piece);
            self.size += piece.len() as u64;
        }
        if self.size >= self.leaving + AHEAD {
            // A hint: what goes to the disk while the rest comes is not waited for at the end. Failing, it costs time.
            let _ = fadvise(&self.file, self.leaving, NonZeroU64::new(self.size - self.leaving), Advice::DontNeed);
            self.leaving = self.size;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn names(folder: &std::path::Path) -> Vec<String> {
        let files = fs::read_dir(folder).expect("a folder").flatten();
        files.map(|file| file.file_name().to_string_lossy().into_owned()).collect()
    }

    #[tokio::test]
    async fn pieces_of_any_size_are_written_and_hashed_in_order() {
        let spools = Spools::new(std::env::temp_dir());
        let mut spool = Spool::new(spools.fresh().expect("a file"));
        let mut all = Vec::new();
        for (number, size) in [1, ROOM - 2, 1, ROOM, 3, 5 * ROOM, 0, 7].into_iter().enumerate() {
            let piece = vec![u8::try_from(number).expect("few"); size];
            all.extend_from_slice(&piece);
            spool = spool.add(piece.into()).await.expect("room on disk");
        }
        assert_eq!(spool.size(), all.len() as u64);
        let Finished { file, sha256, size } = spool.finish().await.expect("room on disk");
        assert_eq!(size, all.len() as u64);
        assert!(fs::read(file.path()).expect("the file") == all);
        assert_eq!(sha256, <[u8; 32]>::from(Sha256::digest(&all)));
    }

    #[tokio::test]
    async fn nothing_is_left_of_a_spool_that_is_dropped_and_nobody_else_can_read_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let spools = Spools::new(folder.path().to_owned());
        let spool = Spool::new(spools.fresh().expect("a file"));
        let spool = spool.add(vec![0; 2 * ROOM].into()).await.expect("room on disk");
        let [name] = <[String; 1]>::try_from(names(folder.path())).expect("one file");
        assert_eq!(fs::metadata(folder.path().join(name)).expect("a file").mode() & 0o777, 0o600);
        drop(spool);
        assert_eq!(names(folder.path()), [""; 0], "though it may still be written to");
    }

    #[test]
    fn only_spools_that_nobody_writes_any_more_are_swept() {
        let folder = tempfile::tempdir().expect("a folder");
        let spools = Spools::new(folder.path().to_owned());
        let keep = || spools.fresh().expect("a file").keep().expect("to be kept");
        let ((old, stale), (new, fresh)) = (keep(), keep());
        fs::write(folder.path().join("of somebody else"), "").expect("a file");
        fs::create_dir(folder.path().join(format!("{OURS}folder"))).expect("a folder");
        let (now, hour) = (old.metadata().expect("a file").modified().expect("a time"), Duration::from_hours(1));
        old.set_modified(now - 2 * hour).expect("a time");
        let limit = (now - hour).duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
        let limit = Timestamp::from_millis(i64::try_from(limit).expect("a time"));
        drop((old, new));
        assert_eq!(spools.sweep(limit).expect("a folder"), 1);
        assert!(!stale.exists() && fresh.exists());
        assert_eq!(spools.sweep(limit).expect("a folder"), 0);
        assert_eq!(names(folder.path()).len(), 3);
    }
}
