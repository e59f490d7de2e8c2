//! What a file is that somebody brings, and whether it may stay: looks at bytes, and at nothing else.
//!
//! Nothing is believed that the client says. The type is what the bytes say, from a short list; the name and the declared
//! type must agree with it, but for pictures under another picture's name, which is put right. A file that could be taken for another kind by another program is refused, and so is one that
//! grows beyond all measure when it is opened. Pictures lose what they tell of the person and the place, and films the place
//! ([`strip`]); what is seen and heard stays as it is.
//!
//! What is not taken out: documents, sounds and `WebM` keep what is written into them.
//!
//! This module knows no network, no clock and no store. Files are read in pieces, so a check takes the same memory
//! whatever the size.

mod archive;
mod boxes;
mod kind;
mod name;
mod ole;
mod picture;
mod polyglot;
pub mod preview;
mod sniff;
mod strip;
mod text;
mod walk;

use std::fs::File;
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write};

use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

pub use kind::is_inline;
pub use name::clean_name;

use crate::error::{Error, Result};
use strip::Plan;

/// So much of the beginning is looked at to tell what it is.
const HEAD: u64 = 8 * 1024;

/// What the client says of its file.
#[derive(Debug, Clone, Copy)]
pub struct Declared<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its media type, if it says one.
    pub media_type: Option<&'a str>,
}

/// What a picture may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Pixels, at most.
    pub pixels: u64,
}

/// What a file has turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    /// The name it may be kept under: with its own extension, if it is a picture that had another picture's.
    pub name: String,
    /// The media type, as the bytes say.
    pub media_type: &'static str,
    /// Bytes of what is kept.
    pub size: u64,
    /// The SHA-256 of what is kept.
    pub sha256: [u8; 32],
    /// Pixels across and down, of a picture as it is shown; nothing if it does not say.
    pub dimensions: Option<(u32, u32)>,
    /// Whether smaller pictures can be made of it here.
    pub previewable: bool,
}

/// Looks at a file. `sha256` is that of the file as it came; a file that has to lose something is written anew into
/// `fresh()`, and that one is returned, with its own SHA-256.
///
/// Fails with `empty_attachment`, `malformed_name`, `unsafe_extension`, `type_not_allowed`, `type_mismatch`,
/// `ambiguous_content`, `archive_too_large` or `image_too_large`, and with `attachments_unavailable` if the disk does not
/// work. The file is gone then.
pub fn inspect(
    spool: NamedTempFile,
    sha256: [u8; 32],
    declared: &Declared,
    limits: &Limits,
    fresh: impl FnOnce() -> io::Result<NamedTempFile>,
) -> Result<(NamedTempFile, Inspected)> {
    let name = clean_name(declared.name)?;
    let mut file = spool.as_file();
    let size = file.seek(SeekFrom::End(0)).map_err(disk)?;
    if size == 0 {
        return Err(Error::invalid("empty_attachment", "an attachment must not be empty"));
    }
    let head = head(file)?;
    let kind = kind::agree(sniff::sniff(&head, file, size)?, &name, declared.media_type)?;
    polyglot::check(kind, &head, file, size)?;
    let inspected = Inspected {
        name: kind.rename(name),
        media_type: kind.media_type(),
        size,
        sha256,
        dimensions: None,
        previewable: kind.is_previewable(),
    };
    if !kind.is_stripped() {
        return Ok((spool, inspected));
    }
    let plan = strip::plan(kind, file)?;
    plan.picture.check(*limits)?;
    polyglot::check_tail(file, plan.end, size)?;
    let inspected = Inspected { dimensions: plan.picture.shown(), ..inspected };
    if !plan.changes() {
        return Ok((spool, inspected));
    }
    let (rewritten, size, sha256) = rewrite(file, &plan, fresh)?;
    Ok((rewritten, Inspected { size, sha256, ..inspected }))
}

fn head(mut file: &File) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    file.rewind().map_err(disk)?;
    file.take(HEAD).read_to_end(&mut head).map_err(disk)?;
    Ok(head)
}

fn rewrite(
    file: &File,
    plan: &Plan,
    fresh: impl FnOnce() -> io::Result<NamedTempFile>,
) -> Result<(NamedTempFile, u64, [u8; 32])> {
    let rewritten = fresh().map_err(disk)?;
    let mut hashing = Hashing { to: rewritten.as_file(), hash: Sha256::new(), size: 0 };
    let mut buffered = BufWriter::with_capacity(64 * 1024, &mut hashing);
    plan.write(file, &mut buffered)?;
    buffered.flush().map_err(disk)?;
    drop(buffered);
    let (size, sha256) = (hashing.size, hashing.hash.finalize().into());
    Ok((rewritten, size, sha256))
}

/// Writes, and knows what it has written.
struct Hashing<W> {
    to: W,
    hash: Sha256,
    size: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.size += u64::try_from(written).unwrap_or(u64::MAX);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// It is of a kind that is not taken.
fn not_allowed(shown: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::invalid("type_not_allowed", shown)
}

/// It says what it is, and is not so inside.
fn damaged() -> Error {
    not_allowed("the attachment is damaged: it ends too early, or contradicts itself")
}

/// It could be taken for something else.
fn ambiguous() -> Error {
    Error::invalid("ambiguous_content", "the attachment could be taken for more than one kind of content")
}

/// The file itself cannot be read or written: that is nobody's fault who brings one.
fn disk(error: io::Error) -> Error {
    Error::unavailable("attachments_unavailable", "attachments cannot be taken right now").caused_by(error)
}

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
