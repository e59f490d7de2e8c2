//! What the bytes say a file is.

use std::io::{Read, Seek};

use super::kind::Kind;
use super::text::{self, Encoding};
use super::{archive, not_allowed, ole};
use crate::error::Result;

const ZIP: &[u8] = b"PK\x03\x04";
const OLE: &[u8] = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1";

/// The kind of a file, from its beginning, and for documents from their directory.
pub fn sniff<R: Read + Seek>(head: &[u8], mut file: R, size: u64) -> Result<Kind> {
    if head.starts_with(ZIP) {
        return archive::kind(head, file, size);
    }
    if head.starts_with(OLE) {
        return ole::kind(head, file);
    }
    if let Some(kind) = magic(head) {
        return Ok(kind);
    }
    let encoding = text::encoding(&mut file)?;
    if encoding == Some(Encoding::Utf8) {
        return Ok(Kind::Text);
    }
    match infer::get(head) {
        Some(found) => Err(not_allowed(format!("attachments of type {found} are not taken"))),
        None if encoding.is_some() => Ok(Kind::OlderText),
        None => Err(not_allowed("attachments of this type are not taken")),
    }
}

/// By the first bytes. What the table of magic bytes finds is looked at once more, because some of its entries are satisfied
/// with two letters.
fn magic(head: &[u8]) -> Option<Kind> {
    if head.get(4..8) == Some(b"ftyp") {
        return boxed(head);
    }
    if is_mp3(head) {
        return Some(Kind::Mp3);
    }
    if is_aac(head) {
        return Some(Kind::Aac);
    }
    match infer::get(head)?.mime_type() {
        "image/jpeg" => Some(Kind::Jpeg),
        "image/png" => head.starts_with(b"\x89PNG\r\n\x1a\n").then_some(Kind::Png),
        "image/gif" => (head.starts_with(b"GIF87a") || head.starts_with(b"GIF89a")).then_some(Kind::Gif),
        "image/webp" => head.starts_with(b"RIFF").then_some(Kind::Webp),
        "image/bmp" => is_bmp(head).then_some(Kind::Bmp),
        "image/tiff" => Some(Kind::Tiff),
        "application/pdf" => head.starts_with(b"%PDF-").then_some(Kind::Pdf),
        "audio/ogg" | "audio/opus" => is_ogg_audio(head).then_some(Kind::Ogg),
        "audio/x-wav" => Some(Kind::Wav),
        "audio/x-flac" => head.starts_with(b"fLaC").then_some(Kind::Flac),
        "video/webm" => Some(Kind::Webm),
        // Without `ftyp`, as cameras wrote it before there was one.
        "video/quicktime" => matches!(head.get(4..8), Some(b"moov" | b"mdat" | b"wide")).then_some(Kind::Quicktime),
        _ => None,
    }
}

/// ISO base media files (ISO/IEC 14496-12) say what they are in their first box: a major brand, a version, and the brands
/// that they are compatible with.
fn boxed(head: &[u8]) -> Option<Kind> {
    let size = usize::try_from(u32::from_be_bytes(head.get(..4)?.try_into().ok()?)).ok()?;
    let major = head.get(8..12)?;
    let others = head.get(16..size.min(head.len())).unwrap_or_default();
    let has = |wanted: &[&[u8]]| others.chunks_exact(4).any(|brand| wanted.contains(&brand));
    match major {
        b"avif" | b"avis" => Some(Kind::Avif),
        b"heic" | b"heix" | b"hevc" | b"hevx" | b"heim" | b"heis" => Some(Kind::Heic),
        b"mif1" | b"msf1" if has(&[b"avif", b"avis"]) => Some(Kind::Avif),
        b"mif1" | b"msf1" if has(&[b"heic", b"heix", b"hevc", b"hevx"]) => Some(Kind::Heic),
        b"mif1" | b"msf1" => Some(Kind::Heif),
        b"M4A " | b"M4B " => Some(Kind::M4a),
        b"qt  " => Some(Kind::Quicktime),
        b"isom" | b"iso2" | b"iso3" | b"iso4" | b"iso5" | b"iso6" | b"iso7" | b"iso8" | b"iso9" | b"mp41" | b"mp42"
        | b"mp71" | b"mmp4" | b"avc1" | b"dash" | b"M4V " | b"M4VH" | b"M4VP" | b"MSNV" => Some(Kind::Mp4),
        _ => None,
    }
}

/// An ID3 tag (version 2.2 to 2.4, a size of four times seven bits), or a frame of MPEG audio, layer III.
fn is_mp3(head: &[u8]) -> bool {
    match head {
        [b'I', b'D', b'3', 2..=4, 0..=0xfe, _, size @ ..] if size.len() >= 4 => {
            size[..4].iter().all(|byte| *byte < 0x80)
        }
        [0xff, second, third, ..] => {
            second & 0xe0 == 0xe0
                && (second >> 3) & 3 != 1
                && (second >> 1) & 3 == 1
                && !matches!(third >> 4, 0 | 15)
                && (third >> 2) & 3 != 3
        }
        _ => false,
    }
}

/// A frame of AAC with its own header (ADTS).
fn is_aac(head: &[u8]) -> bool {
    matches!(head, [0xff, second, third, ..] if second & 0xf6 == 0xf0 && (third >> 2) & 15 < 13)
}

/// A bitmap's header: nothing reserved is set, and the size of the second header is one of those that there are.
fn is_bmp(head: &[u8]) -> bool {
    head.get(6..10) == Some(&[0; 4])
        && matches!(head.get(14..18), Some([12 | 16 | 40 | 52 | 56 | 64 | 108 | 124, 0, 0, 0]))
}

/// The first page of an Ogg file begins what it carries with the codec's own name; video is not taken.
fn is_ogg_audio(head: &[u8]) -> bool {
    let Some(segments) = head.get(26) else { return false };
    let body = head.get(27 + usize::from(*segments)..).unwrap_or_default();
    [b"OpusHead".as_slice(), b"\x01vorbis", b"\x7fFLAC", b"Speex   "].iter().any(|codec| body.starts_with(codec))
}
