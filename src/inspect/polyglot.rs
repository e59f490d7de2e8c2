//! Files that are two things at once: a picture here, a page or an archive to another program. They are how somebody gets
//! one thing past a check and has it opened as the other, so they are refused whatever they are.

use std::io::{Read, Seek, SeekFrom};

use infer::MatcherType;

use super::kind::Kind;
use super::{ambiguous, disk, text};
use crate::error::Result;

/// So much of the beginning is searched for what makes a page or a program of it.
const BEGINNING: usize = 4 * 1024;
/// And so much of what stands behind the end.
const TAIL: u64 = 4 * 1024;
/// A PDF may begin anywhere in here, for those who open one.
const PDF: usize = 1024;
/// The end of a zip archive's directory, and the longest comment behind it.
const ZIP_TAIL: u64 = 22 + 65_535;
/// What makes a page or a program, in lower case.
const MARKUP: &[&[u8]] = &[
    b"<script",
    b"<html",
    b"<?php",
    b"<svg ",
    b"<svg>",
    b"<svg\n",
    b"<svg\t",
    b"<svg/",
    b"<!doctype",
    b"<iframe",
    b"<body",
    b"<head",
    b"javascript:",
];

/// Whether the file could be taken for another kind than the one it is.
pub fn check<R: Read + Seek>(kind: Kind, head: &[u8], mut file: R, size: u64) -> Result<()> {
    let beginning = &head[..head.len().min(BEGINNING)];
    if let (Kind::Wav, Some(length)) = (kind, head.get(4..8)) {
        // One that was written to a pipe does not know its length.
        let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]);
        let end = if matches!(length, 0 | u32::MAX) { size } else { u64::from(length) + 8 };
        check_tail(&mut file, end, size)?;
    }
    let pdf = kind != Kind::Pdf && has(&head[..head.len().min(PDF)], b"%PDF-");
    // A document's own words may speak of tags; a picture's, or a recording's, do not.
    let markup = !kind.is_text() && !kind.is_zip() && !kind.is_ole() && has_markup(beginning);
    if pdf || markup || (!kind.is_zip() && !kind.is_text() && ends_as_zip(file, size)?) {
        return Err(ambiguous());
    }
    Ok(())
}

/// Whether what stands behind the end of a picture is something by itself. It is left out, but whoever puts it there means
/// it to be found. Phones append a second picture, or a film; those are no reason to refuse the first one.
pub fn check_tail<R: Read + Seek>(mut file: R, end: u64, size: u64) -> Result<()> {
    if end >= size {
        return Ok(());
    }
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(end)).map_err(disk)?;
    file.take(TAIL).read_to_end(&mut tail).map_err(disk)?;
    let blank = tail.iter().take_while(|byte| matches!(byte, 0 | b' ' | b'\t' | b'\r' | b'\n')).count();
    let tail = &tail[blank..];
    // Containers of older documents take long to look into, and their first bytes are enough.
    let other = tail.starts_with(b"\xd0\xcf\x11\xe0")
        || tail.starts_with(b"PK\x03\x04")
        || infer::get(tail).is_some_and(|found| {
            !matches!(found.matcher_type(), MatcherType::Image | MatcherType::Video | MatcherType::Audio)
        });
    let words: String = tail.iter().take(64).map(|byte| char::from(*byte)).collect();
    if other || has(tail, b"%PDF-") || has_markup(tail) || text::begins_otherwise(&words) {
        return Err(ambiguous());
    }
    Ok(())
}

fn has(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

fn has_markup(bytes: &[u8]) -> bool {
    let lower = bytes.to_ascii_lowercase();
    MARKUP.iter().any(|wanted| has(&lower, wanted))
}

/// Whether a zip archive ends where the file does: there is the end of its directory, and it leads to a directory. Four
/// letters alone are to be found in the pixels of any picture that is large enough.
fn ends_as_zip<R: Read + Seek>(mut file: R, size: u64) -> Result<bool> {
    let from = size.saturating_sub(ZIP_TAIL);
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(from)).map_err(disk)?;
    (&mut file).take(ZIP_TAIL).read_to_end(&mut tail).map_err(disk)?;
    let signatures = tail.windows(4).enumerate().filter(|(_, window)| *window == b"PK\x05\x06");
    for (at, _) in signatures {
        let Some(end) = tail.get(at..at + 22) else { continue };
        let long = |at: usize| u32::from_le_bytes([end[at], end[at + 1], end[at + 2], end[at + 3]]);
        let (length, offset) = (long(12), long(16));
        let large = [length, offset].contains(&u32::MAX) || end[10..12] == [0xff; 2];
        if large && at >= 20 && tail[at - 20..].starts_with(b"PK\x06\x07") {
            return Ok(true);
        }
        let here = from + u64::try_from(at).unwrap_or(u64::MAX);
        for place in [here.checked_sub(u64::from(length)), Some(u64::from(offset))].into_iter().flatten() {
            let mut signature = [0; 4];
            file.seek(SeekFrom::Start(place)).map_err(disk)?;
            if file.read_exact(&mut signature).is_ok() && signature == *b"PK\x01\x02" {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
