//! Documents of newer office programs: zip archives, of which only the directory is read. Nothing is unpacked here, so what
//! matters is what it says of those who will: how much it becomes, and where it goes.

use std::io::{Read, Seek, SeekFrom};

use zip::read::{ArchiveOffset, Config, ZipFileEntry};
use zip::unstable::read::ZipIterable;

use super::kind::Kind;
use super::{disk, not_allowed};
use crate::error::{Error, Result};

/// Entries, at most.
const ENTRIES: usize = 10_000;
/// Bytes of all that is in it, at most.
const UNPACKED: u64 = 500 * 1024 * 1024;
/// How many times larger what is in it may be than what it takes.
const RATIO: u64 = 200;
/// The end of a directory, and the longest comment behind it.
const LONGEST_END: u64 = 22 + 65_535;
/// Parts that make a document run something, or make it an archive of programs; in lower case.
const MACROS: &[&str] = &["vbaproject.bin", "vbadata.xml"];
const PROGRAMS: &[&str] = &["basic/", "scripts/", "xl/macrosheets/", "meta-inf/manifest.mf", "androidmanifest.xml"];
/// Where the parts of each program are.
const OFFICES: [(&str, Kind); 3] = [("word/", Kind::Docx), ("xl/", Kind::Xlsx), ("ppt/", Kind::Pptx)];

/// What is found in the directory.
#[derive(Default)]
struct Found {
    content_types: bool,
    /// Which office programs have parts in it.
    offices: Vec<Kind>,
    unpacked: u64,
    packed: u64,
}

/// Which program's document it is.
pub fn kind<R: Read + Seek>(head: &[u8], mut file: R, size: u64) -> Result<Kind> {
    if !is_whole(&mut file, size)? {
        return Err(not_allowed("the document is damaged, or something else follows it"));
    }
    // The archive begins where the file does: what were put before it would be something else besides.
    let config = Config { archive_offset: ArchiveOffset::Known(0) };
    let mut archive = ZipIterable::try_new(file, config).map_err(unreadable)?;
    if archive.len() > ENTRIES {
        return Err(too_large());
    }
    let mut found = Found::default();
    for entry in archive.files().map_err(unreadable)? {
        found.see(&entry.map_err(unreadable)?, size)?;
    }
    // Entries that lie over one another take more than there is.
    if found.unpacked > UNPACKED || found.unpacked > found.packed.saturating_mul(RATIO) || found.packed > size {
        return Err(too_large());
    }
    let kind = match (found.content_types, found.offices.as_slice()) {
        (true, [kind]) => Some(*kind),
        (false, []) => open_document(head),
        _ => None,
    };
    kind.ok_or_else(|| not_allowed("archives are not taken, but for office documents"))
}

/// Whether the file ends where the archive does: with the end of its directory, and a comment of as many bytes as that says.
fn is_whole<R: Read + Seek>(file: &mut R, size: u64) -> Result<bool> {
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(size.saturating_sub(LONGEST_END))).map_err(disk)?;
    file.take(LONGEST_END).read_to_end(&mut tail).map_err(disk)?;
    let end = tail.windows(4).rposition(|window| window == b"PK\x05\x06");
    let comment = end.and_then(|end| tail.get(end + 20..)).and_then(<[u8]>::split_first_chunk);
    Ok(comment.is_some_and(|(length, comment)| usize::from(u16::from_le_bytes(*length)) == comment.len()))
}

impl Found {
    fn see(&mut self, entry: &ZipFileEntry<'_>, size: u64) -> Result<()> {
        let name = String::from_utf8_lossy(entry.name_raw()).to_ascii_lowercase();
        let parts = || name.split(['/', '\\']);
        if name.is_empty()
            || name.contains(['\0', ':'])
            || name.starts_with(['/', '\\'])
            || parts().any(|part| part == "..")
        {
            return Err(not_allowed("the archive names places outside itself"));
        }
        if entry.encrypted() || entry.is_symlink() {
            return Err(not_allowed("documents that are encrypted are not taken"));
        }
        let last = parts().next_back().unwrap_or_default();
        if MACROS.contains(&last) || PROGRAMS.iter().any(|program| name.starts_with(program)) {
            return Err(not_allowed("documents with macros, and programs, are not taken"));
        }
        let end = entry.header_start().checked_add(entry.compressed_size());
        if end.is_none_or(|end| end > size) {
            return Err(too_large());
        }
        self.unpacked = self.unpacked.saturating_add(entry.size());
        self.packed = self.packed.saturating_add(entry.compressed_size());
        self.content_types |= name == "[content_types].xml";
        let office = OFFICES.iter().find(|(folder, _)| name.starts_with(folder)).map(|(_, kind)| *kind);
        if let Some(kind) = office.filter(|kind| !self.offices.contains(kind)) {
            self.offices.push(kind);
        }
        Ok(())
    }
}

/// `OpenDocument` says what it is in the first entry, `mimetype`, which is neither compressed nor longer than its header says
/// (OASIS `OpenDocument` 1.3, part 2, 3.3).
fn open_document(head: &[u8]) -> Option<Kind> {
    let short = |at: usize| head.get(at..at + 2).map(|pair| usize::from(u16::from_le_bytes([pair[0], pair[1]])));
    let (method, packed) = (short(8)?, short(18)?);
    let (name, extra) = (short(26)?, short(28)?);
    if method != 0 || head.get(30..30 + name)? != b"mimetype" {
        return None;
    }
    let begin = 30 + name + extra;
    // A writer that does not know the size beforehand leaves it out.
    let end =
        if packed == 0 { begin + head.get(begin..)?.windows(2).position(|two| two == b"PK")? } else { begin + packed };
    match head.get(begin..end)? {
        b"application/vnd.oasis.opendocument.text" => Some(Kind::Odt),
        b"application/vnd.oasis.opendocument.spreadsheet" => Some(Kind::Ods),
        b"application/vnd.oasis.opendocument.presentation" => Some(Kind::Odp),
        _ => None,
    }
}

fn unreadable(error: zip::result::ZipError) -> Error {
    not_allowed("the archive's directory cannot be read").caused_by(error)
}

fn too_large() -> Error {
    Error::invalid("archive_too_large", "the document would become too large when it is opened")
}
