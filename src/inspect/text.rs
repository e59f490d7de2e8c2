//! Plain text: what can be read as it is, and is no program and no page.

use std::io::{Read, Seek};

use super::disk;
use crate::error::Result;

/// So much is read at a time.
const PIECE: usize = 64 * 1024;
/// What a text does not begin with: a script's interpreter, a document of another kind.
const OTHERS: &[&str] = &["#!", "%!PS", "%PDF-", "{\\rtf"];

/// Whether the whole file is UTF-8 without control characters, and does not begin as a page, a drawing or a script does.
pub fn is_plain<R: Read + Seek>(mut file: R) -> Result<bool> {
    file.rewind().map_err(disk)?;
    let mut buffer = vec![0; PIECE];
    // Bytes at the beginning of the buffer that are the beginning of a character.
    let mut kept = 0;
    let mut first = true;
    loop {
        let read = file.read(&mut buffer[kept..]).map_err(disk)?;
        let filled = kept + read;
        let whole = match std::str::from_utf8(&buffer[..filled]) {
            Ok(_) => filled,
            // A character goes on in the next piece, if there is one.
            Err(error) if error.error_len().is_none() && read > 0 => error.valid_up_to(),
            Err(_) => return Ok(false),
        };
        let text = std::str::from_utf8(&buffer[..whole]).unwrap_or_default();
        if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t' | '\u{c}')) {
            return Ok(false);
        }
        // A short read is no piece to judge by; files give all that there is.
        if std::mem::take(&mut first) && begins_otherwise(text) {
            return Ok(false);
        }
        if read == 0 {
            return Ok(true);
        }
        buffer.copy_within(whole..filled, 0);
        kept = filled - whole;
    }
}

/// Whether a text begins as something does that a program takes for a page, a drawing or a script.
pub fn begins_otherwise(text: &str) -> bool {
    let text = text.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
    if OTHERS.iter().any(|other| text.starts_with(other)) {
        return true;
    }
    let Some(tag) = text.strip_prefix('<') else { return false };
    if tag.starts_with(['!', '?', '%']) {
        return true;
    }
    let name = tag.trim_start_matches('/');
    let end =
        name.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, ':' | '-' | '_' | '.')).unwrap_or(name.len());
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name[end..].chars().next().is_none_or(|c| c.is_whitespace() || matches!(c, '>' | '/'))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn text_is_what_can_be_read() {
        let long = "ž".repeat(PIECE);
        let shifted = format!("a{long}");
        for good in ["hello\r\n\tž 👩‍👧", "<3 you", "a < b", "<ana@example.test> wrote", "\u{feff}a;b;c", &long, &shifted]
        {
            assert!(is_plain(Cursor::new(good)).expect("reads"), "{good:.20}");
        }
        for bad in [
            b"a\0b".as_slice(),
            b"\xff\xfea\0",
            b"caf\xe9",
            b"esc\x1b[0m",
            b"cut \xc5",
            b"#!/bin/sh\n",
            b" \n<!DOCTYPE html>",
            b"<svg xmlns='x'>",
            b"<html>",
            b"\xef\xbb\xbf<?xml version='1.0'?>",
            b"<SCRIPT>alert(1)</SCRIPT>",
            b"<?php x();",
            b"<rss version='2.0'>",
            b"<x:y/>",
            b"{\\rtf1",
            b"%!PS-Adobe",
            b"<body",
            b"</p>",
        ] {
            assert!(!is_plain(Cursor::new(bad)).expect("reads"), "{}", String::from_utf8_lossy(bad));
        }
    }
}
