//! In memory, which goes the way of a store that is not here, and in a folder.

use std::io::Write as _;
use std::path::Path as FilePath;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::*;

/// More than three parts, and no whole number of them.
const LARGE: usize = (17 << 20) + 12_345;

async fn memory() -> Blobs {
    opened("memory:").await.expect("a store")
}

async fn folder() -> (TempDir, Blobs) {
    let folder = tempfile::tempdir().expect("a folder");
    let blobs = opened(&format!("file:{}/kept", folder.path().display())).await.expect("a store");
    (folder, blobs)
}

async fn opened(url: &str) -> Result<Blobs> {
    Blobs::open(&BlobConfig { url: url.to_owned(), variables: Vec::new() }, &Lifecycle::new()).await
}

/// Bytes of which no two pieces are the same.
fn bytes(size: usize) -> Vec<u8> {
    (0_u32..).flat_map(u32::to_be_bytes).take(size).collect()
}

fn spooled(blobs: &Blobs, bytes: &[u8]) -> NamedTempFile {
    let mut spool = blobs.spool().expect("a file");
    spool.write_all(bytes).expect("room on disk");
    spool
}

async fn whole(blobs: &Blobs, key: &str, range: Option<Range<u64>>) -> Option<Vec<u8>> {
    let pieces = blobs.read(key, range).await.expect("a store")?;
    Some(pieces.try_collect::<Vec<_>>().await.expect("all of it").concat())
}

async fn keys(blobs: &Blobs, prefix: &str) -> Vec<String> {
    let mut keys: Vec<_> = blobs.list(prefix).map_ok(|found| found.key).try_collect().await.expect("a listing");
    keys.sort();
    keys
}

/// All files below a folder.
fn files(folder: &FilePath) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

async fn everything_comes_back(blobs: &Blobs) {
    let (large, small) = (bytes(LARGE), bytes(100_000));
    blobs.adopt(spooled(blobs, &large), "blobs/large", "video/mp4").await.expect("room");
    blobs.adopt(spooled(blobs, &small), "blobs/small", "image/png").await.expect("room");
    blobs.put("blobs/small.320", Bytes::from_static(b"thumbnail"), "image/jpeg").await.expect("room");
    assert!(whole(blobs, "blobs/large", None).await.as_deref() == Some(&large[..]));
    assert!(whole(blobs, "blobs/small", None).await.as_deref() == Some(&small[..]));
    assert_eq!(whole(blobs, "blobs/small.320", None).await.as_deref(), Some(&b"thumbnail"[..]));
    for (from, to) in [(0, 1), (1, 300_000), (LARGE - 1, LARGE), (5 << 20, (10 << 20) + 1), (LARGE - 10, LARGE + 10)] {
        let read = whole(blobs, "blobs/large", Some(from as u64..to as u64)).await.expect("an object");
        assert!(read == large[from..to.min(LARGE)], "{from} to {to}");
    }

    assert_eq!(keys(blobs, "").await, ["blobs/large", "blobs/small", "blobs/small.320"]);
    assert_eq!(keys(blobs, "blobs").await.len(), 3);
    assert_eq!(keys(blobs, "incoming").await, [""; 0]);
    let found: Vec<_> = blobs.list("blobs").try_collect().await.expect("a listing");
    let found = found.iter().find(|found| found.key == "blobs/large").expect("it is there");
    assert_eq!(found.size, LARGE as u64);
    assert!(found.modified > Timestamp::parse("2024-01-01T00:00:00Z").expect("a time"));

    let Finished { file, sha256, size } = blobs.fetch("blobs/large", LARGE as u64).await.expect("a store").expect("it");
    assert!(std::fs::read(file.path()).expect("a file") == large);
    assert_eq!((sha256, size), (Sha256::digest(&large).into(), LARGE as u64));
    let error = blobs.fetch("blobs/large", LARGE as u64 - 1).await.expect_err("too large");
    assert_eq!((error.reason(), error.status()), ("attachment_too_large", 413));

    for key in ["blobs/large", "blobs/small", "blobs/small.320", "blobs/small", "incoming/never"] {
        blobs.delete(key).await.expect("gone");
        assert!(whole(blobs, key, None).await.is_none());
        assert!(blobs.fetch(key, 1).await.expect("a store").is_none());
    }
    assert_eq!(keys(blobs, "").await, [""; 0]);
    assert!(blobs.presign_get("blobs/large", Duration::from_mins(1), "a").await.expect("an answer").is_none());
    assert!(blobs.answers());
}

#[tokio::test(flavor = "multi_thread")]
async fn in_memory_everything_comes_back() {
    everything_comes_back(&memory().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_folder_everything_comes_back_and_nothing_is_left() {
    let (folder, blobs) = folder().await;
    everything_comes_back(&blobs).await;
    assert_eq!(files(folder.path()), [""; 0].map(PathBuf::from));
}

#[tokio::test]
async fn in_a_folder_a_spool_becomes_the_object_by_its_name_alone() {
    use std::os::unix::fs::MetadataExt as _;
    let (folder, blobs) = folder().await;
    let spool = spooled(&blobs, b"bytes");
    let number = spool.as_file().metadata().expect("a file").ino();
    assert!(spool.path().starts_with(folder.path().join("kept/.spool")));
    blobs.adopt(spool, "blobs/one", "text/plain").await.expect("room");
    let about = folder.path().join("kept/blobs/one").metadata().expect("the object");
    assert_eq!((about.ino(), about.mode() & 0o777), (number, 0o600));
    assert_eq!(folder.path().join("kept/blobs").metadata().expect("a folder").mode() & 0o777, 0o700);
}

#[tokio::test]
async fn what_cannot_be_adopted_leaves_nothing() {
    let (folder, blobs) = folder().await;
    let kept = folder.path().join("kept");
    // What should be a folder is none, and what should be a file is a folder.
    std::fs::write(kept.join("incoming"), "").expect("a file");
    std::fs::create_dir_all(kept.join("blobs/taken")).expect("a folder");
    for key in ["incoming/one", "blobs/taken"] {
        let error = blobs.adopt(spooled(&blobs, b"bytes"), key, "text/plain").await.expect_err("no place");
        assert_eq!((error.reason(), error.transient()), ("attachments_unavailable", true), "{key}");
    }
    assert!(!blobs.answers());
    assert_eq!(files(&kept), [kept.join("incoming")]);
    blobs.put("blobs/free", Bytes::from_static(b"bytes"), "text/plain").await.expect("room");
    assert!(blobs.answers());
}

#[tokio::test]
async fn a_fetch_that_is_given_up_leaves_no_spool() {
    let (folder, blobs) = folder().await;
    blobs.adopt(spooled(&blobs, &bytes(300_000)), "blobs/one", "text/plain").await.expect("room");
    blobs.fetch("blobs/one", 299_999).await.expect_err("too large");
    let fetched = blobs.fetch("blobs/one", 300_000).await.expect("a store").expect("it");
    assert_eq!(files(folder.path()).len(), 2);
    drop(fetched);
    assert_eq!(files(folder.path()), [folder.path().join("kept/blobs/one")]);
}

#[tokio::test]
async fn keys_of_another_form_are_a_fault() {
    let (folder, blobs) = folder().await;
    for key in ["", "/", "blobs/", "/blobs/one", "blobs//one", "../one", "blobs/../../one", ".spool/one", "blobs/a b"] {
        let error = blobs.put(key, Bytes::from_static(b"bytes"), "text/plain").await.expect_err("no key");
        assert_eq!(error.reason(), "internal", "{key}");
        assert!(blobs.read(key, None).await.is_err() && blobs.delete(key).await.is_err(), "{key}");
    }
    assert_eq!(files(folder.path()), [""; 0].map(PathBuf::from));
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_said_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    // Root writes everywhere, but not below a file.
    std::fs::create_dir(folder.path().join(".spool")).expect("a folder");
    std::fs::write(folder.path().join("probe"), "").expect("a file");
    let url = format!("file:{}", folder.path().display());
    let error = opened(&url).await.expect_err("no place for the probe");
    assert_eq!((error.reason(), error.transient()), ("bad_configuration", false));
    assert!(error.shown().contains(&format!("ATTACHMENTS_URL: {url}: writing failed: ")), "{}", error.shown());
    assert_eq!(files(folder.path()), [folder.path().join("probe")]);
}

#[tokio::test]
async fn where_no_spool_can_be_made_no_store_is_opened() {
    let (folder, blobs) = folder().await;
    std::fs::remove_dir(folder.path().join("kept/.spool")).expect("an empty folder");
    let error = probe::probe(&blobs.0).await.expect_err("no place for a spool");
    assert_eq!((error.reason(), error.transient()), ("bad_configuration", false));
    assert!(error.shown().contains(": making a spool file failed: "), "{}", error.shown());
}

#[tokio::test]
async fn stale_spools_are_swept_and_objects_are_not() {
    let (folder, blobs) = folder().await;
    blobs.put("blobs/one", Bytes::from_static(b"bytes"), "text/plain").await.expect("room");
    spooled(&blobs, b"bytes").keep().expect("to be kept");
    assert_eq!(blobs.sweep_spools(Timestamp::zero()).expect("a folder"), 0);
    assert_eq!(blobs.sweep_spools(Timestamp::from_millis(i64::MAX)).expect("a folder"), 1);
    assert_eq!(files(folder.path()), [folder.path().join("kept/blobs/one")]);
}
