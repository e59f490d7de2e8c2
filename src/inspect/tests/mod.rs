//! What is taken as it is, what is refused, and what becomes of pictures.

mod hostile;
mod pictures;
mod places;
mod previews;
mod told;
mod types;

use std::fs::File;
use std::io::Write as _;

use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use super::samples::SECRET;
use super::*;

const LIMITS: Limits = Limits { pixels: 50_000_000 };

fn spool(bytes: &[u8]) -> NamedTempFile {
    let mut spool = NamedTempFile::new().expect("a file");
    spool.write_all(bytes).expect("written");
    spool
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// What becomes of a file, and its bytes.
fn look(name: &str, media_type: Option<&str>, bytes: &[u8]) -> Result<(Vec<u8>, Inspected)> {
    let declared = Declared { name, media_type };
    let (kept, inspected) = inspect(spool(bytes), hash(bytes), &declared, &LIMITS, NamedTempFile::new)?;
    let kept = std::fs::read(kept.path()).expect("the file");
    assert_eq!(inspected.size, u64::try_from(kept.len()).expect("a size"));
    assert_eq!(inspected.sha256, hash(&kept));
    Ok((kept, inspected))
}

fn reason(name: &str, bytes: &[u8]) -> Option<&'static str> {
    look(name, None, bytes).err().map(|error| error.reason())
}

fn has_secret(bytes: &[u8]) -> bool {
    bytes.windows(SECRET.len()).any(|window| window == SECRET)
}

fn reopened(bytes: &[u8]) -> File {
    spool(bytes).reopen().expect("the file")
}
