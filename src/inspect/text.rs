//! Plain text: what can be read as it is, and is no program and no page.

use std::borrow::Cow;
use std::io::{Read, Seek};

use super::disk;
use crate::error::Result;

/// So much is read at a time.
const PIECE: usize = 64 * 1024;
/// What a text does not begin with: a script's interpreter, a document of another kind.
const OTHERS: &[&str] = &["#!", "%!PS", "%PDF-", "{\\rtf"];

/// How a text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// UTF-8: nothing else looks like it.
    Utf8,
    /// As Windows and its spreadsheets write it: UTF-16 with a mark in front, or a byte for each letter. The latter may be
    /// anything that has no control characters.
    Older,
}

/// How the file is written, if it is a text: without control characters, and not beginning as a page, a drawing or a script does.
pub fn encoding<R: Read + Seek>(mut file: R) -> Result<Option<Encoding>> {
    match reads(&mut file, utf8)? {
        Reads::Text => return Ok(Some(Encoding::Utf8)),
        Reads::Refused => return Ok(None),
        Reads::Otherwise => {}
    }
    let mut mark = [0; 2];
    file.rewind().map_err(disk)?;
    let marked = file.read_exact(&mut mark).is_ok();
    let reads = match mark {
        [0xff, 0xfe] if marked => reads(file, |bytes| utf16(bytes, u16::from_le_bytes))?,
        [0xfe, 0xff] if marked => reads(file, |bytes| utf16(bytes, u16::from_be_bytes))?,
        _ => reads(file, |bytes| Some(single(bytes)))?,
    };
    Ok((reads == Reads::Text).then_some(Encoding::Older))
}

/// What comes of reading a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reads {
    Text,
    /// It can be read, and is not taken.
    Refused,
    /// It is not written like that.
    Otherwise,
}

/// The letters that are whole, and how many bytes they take; nothing if it is not written like that.
type Letters<'a> = Option<(Cow<'a, str>, usize)>;

/// Reads the whole file in pieces.
fn reads<R: Read + Seek>(mut file: R, letters: impl Fn(&[u8]) -> Letters<'_>) -> Result<Reads> {
    file.rewind().map_err(disk)?;
    let mut buffer = vec![0; PIECE];
    // Bytes at the beginning of the buffer that are the beginning of a character.
    let mut kept = 0;
    let mut first = true;
    loop {
        let read = file.read(&mut buffer[kept..]).map_err(disk)?;
        let filled = kept + read;
        let Some((text, whole)) = letters(&buffer[..filled]) else { return Ok(Reads::Otherwise) };
        if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t' | '\u{c}')) {
            return Ok(Reads::Refused);
        }
        // A short read is no piece to judge by; files give all that there is.
        if std::mem::take(&mut first) && begins_otherwise(&text) {
            return Ok(Reads::Refused);
        }
        if read == 0 {
            // A character goes on in the next piece, if there is one.
            return Ok(if whole == filled { Reads::Text } else { Reads::Otherwise });
        }
        buffer.copy_within(whole..filled, 0);
        kept = filled - whole;
    }
}

fn utf8(bytes: &[u8]) -> Letters<'_> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Some((text.into(), bytes.len())),
        Err(error) if error.error_len().is_none() => {
            let whole = error.valid_up_to();
            Some((String::from_utf8_lossy(&bytes[..whole]), whole))
        }
        Err(_) => None,
    }
}

/// Both halves of a letter that has two must be there.
fn utf16(bytes: &[u8], unit: impl Fn([u8; 2]) -> u16) -> Letters<'_> {
    let mut units: Vec<u16> = bytes.chunks_exact(2).map(|two| unit([two[0], two[1]])).collect();
    if units.last().is_some_and(|last| (0xd800..0xdc00).contains(last)) {
        units.pop();
    }
    Some((String::from_utf16(&units).ok()?.into(), units.len() * 2))
}

/// A byte for each letter. What Latin-1 has as further control characters are letters of Windows.
fn single(bytes: &[u8]) -> (Cow<'_, str>, usize) {
    let letter = |byte: &u8| if (0x80..0xa0).contains(byte) { '\u{b7}' } else { char::from(*byte) };
    (bytes.iter().map(letter).collect::<String>().into(), bytes.len())
}

/// Whether a text begins as something does that a program takes for a page, a drawing or a script.
pub fn begins_otherwise(text: &str) -> bool {
    // The mark of UTF-8 is three letters to whoever reads a byte for each.
    let text = text.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '\u{feff}' | 'ï' | '»' | '¿'));
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

    fn older(text: &str, unit: impl Fn(u16) -> [u8; 2]) -> Vec<u8> {
        format!("\u{feff}{text}").encode_utf16().flat_map(unit).collect()
    }

    #[test]
    fn text_is_what_can_be_read() {
        let long = "ž".repeat(PIECE);
        let shifted = format!("a{long}");
        for good in ["hello\r\n\tž 👩‍👧", "<3 you", "a < b", "<ana@example.test> wrote", "\u{feff}a;b;c", &long, &shifted]
        {
            assert_eq!(encoding(Cursor::new(good)).expect("reads"), Some(Encoding::Utf8), "{good:.20}");
        }
        for bad in [
            b"a\0b".as_slice(),
            b"esc\x1b[0m",
            b"\xc2\x9b31m",
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
            assert_eq!(encoding(Cursor::new(bad)).expect("reads"), None, "{}", String::from_utf8_lossy(bad));
            // Nor is it taken if it is written in another way.
            let letters: String = bad.iter().map(|byte| char::from(*byte)).collect();
            for bytes in
                [older(&letters, u16::to_le_bytes), older(&letters, u16::to_be_bytes), [bad, b" \xe9"].concat()]
            {
                assert_eq!(encoding(Cursor::new(&bytes)).expect("reads"), None, "{letters}");
            }
        }
    }

    #[test]
    fn text_of_windows_is_text_as_well() {
        let words = "Größe;Preis\r\nkafé;1 €\r\n";
        let long = "až👩".repeat(PIECE / 4);
        for text in [words, "", "a", &long, &format!("a{long}"), &format!("ab{long}")] {
            for bytes in [older(text, u16::to_le_bytes), older(text, u16::to_be_bytes)] {
                assert_eq!(encoding(Cursor::new(bytes)).expect("reads"), Some(Encoding::Older), "{text:.20}");
            }
        }
        for good in
            [b"caf\xe9".as_slice(), b"1 \x80\r\n", b"cut \xc5", &[b"a".repeat(PIECE), b"\xe9".to_vec()].concat()]
        {
            assert_eq!(encoding(Cursor::new(good)).expect("reads"), Some(Encoding::Older));
        }
        for bad in [
            b"\xff\xfea\0b".as_slice(),
            b"\xff\xfe\0\xd8",
            b"\xff\xfe\0\xd8a\0",
            b"\xff\xfe\0\xdc",
            b"\xff\xfe\0\0a\0\0\0",
            b"\xff\xfea\0\x1b\0",
            b"caf\xe9\0",
            b"caf\xe9\x7f",
            b"caf\xe9 \x1b[0m",
        ] {
            assert_eq!(encoding(Cursor::new(bad)).expect("reads"), None, "{}", String::from_utf8_lossy(bad));
        }
    }
}
