//! Spool files: where bytes are from when they come in until they are an object, or nothing.

use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use super::local;
use crate::domain::clock::Timestamp;
use crate::error::Result;

/// How their names begin, in a folder that others may use too.
const OURS: &str = "shoptalk-spool-";
/// So many bytes are collected before they are written.
const ROOM: usize = 128 << 10;

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
#[derive(Debug)]
pub struct Spool {
    file: NamedTempFile,
    hash: Sha256,
    waiting: Vec<u8>,
    size: u64,
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
        Self { file, hash: Sha256::new(), waiting: Vec::new(), size: 0 }
    }

    /// How many bytes there are.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Adds these bytes. They are written once there are enough of them, where waiting for a disk is fine.
    pub async fn add(mut self, piece: Bytes) -> Result<Self> {
        self.size += piece.len() as u64;
        if self.waiting.len() + piece.len() < ROOM {
            self.waiting.extend_from_slice(&piece);
            return Ok(self);
        }
        Ok(local::blocking(move || {
            self.write()?;
            self.hash.update(&piece);
            self.file.write_all(&piece)?;
            Ok(self)
        })
        .await?)
    }

    /// Writes what is left.
    pub async fn finish(mut self) -> Result<Finished> {
        Ok(local::blocking(move || {
            self.write()?;
            let Self { file, hash, size, .. } = self;
            Ok(Finished { file, sha256: hash.finalize().into(), size })
        })
        .await?)
    }

    fn write(&mut self) -> io::Result<()> {
        self.hash.update(&self.waiting);
        self.file.write_all(&self.waiting)?;
        self.waiting.clear();
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
        assert_eq!(spool.file.as_file().metadata().expect("a file").mode() & 0o777, 0o600);
        assert_eq!(names(folder.path()).len(), 1);
        drop(spool);
        assert_eq!(names(folder.path()), [""; 0]);
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
