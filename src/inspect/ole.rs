//! Documents of older office programs: a container of streams, [MS-CFB], whose directory says which program they are for.

use std::collections::BTreeSet;
use std::io::{Read, Seek};

use super::kind::Kind;
use super::walk::Walk;
use super::{damaged, not_allowed};
use crate::error::Result;

/// Sectors of a directory that are looked at; each has the names of four streams, or of 32.
const SECTORS: usize = 512;
/// Sector numbers from here on mean something else: free, the end of a chain.
const LAST_SECTOR: u32 = 0xffff_fffa;
/// Numbers of sectors of the allocation table that the header has room for; the others are in a chain of their own.
const TABLE: u64 = 109;

/// Which program's document it is. One that brings macros is not taken, as far as the directory shows them.
pub fn kind<R: Read + Seek>(head: &[u8], file: R) -> Result<Kind> {
    let names = streams(head, file)?;
    if ["VBA", "_VBA_PROJECT", "_VBA_PROJECT_CUR", "Macros"].iter().any(|macros| names.contains(*macros)) {
        return Err(not_allowed("documents with macros are not taken"));
    }
    let found =
        [("WordDocument", Kind::Doc), ("Workbook", Kind::Xls), ("Book", Kind::Xls), ("PowerPoint Document", Kind::Ppt)]
            .iter()
            .find(|(stream, _)| names.contains(*stream));
    found.map(|(_, kind)| *kind).ok_or_else(|| not_allowed("attachments of this type are not taken"))
}

/// A container, and how to find one's way in it.
struct Container<'a, R> {
    head: &'a [u8],
    walk: Walk<R>,
    sector: u64,
}

impl<R: Read + Seek> Container<'_, R> {
    /// A number in the header.
    fn header(&self, at: usize) -> Result<u32> {
        let bytes = self.head.get(at..at + 4).ok_or_else(damaged)?;
        Ok(u32::from_le_bytes(bytes.try_into().map_err(|_| damaged())?))
    }

    /// Goes to this place in a sector; the header takes the room of one.
    fn go(&mut self, sector: u32, place: u64) -> Result<()> {
        if sector >= LAST_SECTOR {
            return Err(damaged());
        }
        self.walk.go((u64::from(sector) + 1) * self.sector + place)
    }

    fn number(&mut self, sector: u32, place: u64) -> Result<u32> {
        self.go(sector, place)?;
        self.walk.bytes().map(u32::from_le_bytes)
    }

    /// Which sector holds this part of the allocation table.
    fn table(&mut self, part: u64) -> Result<u32> {
        let Some(further) = part.checked_sub(TABLE) else {
            return self.header(76 + 4 * usize::try_from(part).map_err(|_| damaged())?);
        };
        // Each sector of the chain ends with the number of the next.
        let each = self.sector / 4 - 1;
        let mut sector = self.header(68)?;
        for _ in 0..further / each {
            sector = self.number(sector, each * 4)?;
        }
        self.number(sector, further % each * 4)
    }

    /// Which sector comes after this one, as the allocation table says.
    fn after(&mut self, sector: u32) -> Result<u32> {
        let place = u64::from(sector) * 4;
        let table = self.table(place / self.sector)?;
        self.number(table, place % self.sector)
    }
}

/// The names in the directory.
fn streams<R: Read + Seek>(head: &[u8], file: R) -> Result<BTreeSet<String>> {
    let sector = match head.get(30..32) {
        Some([9, 0]) => 512,
        Some([12, 0]) => 4096,
        _ => return Err(damaged()),
    };
    let mut container = Container { head, walk: Walk::new(file)?, sector };
    let mut names = BTreeSet::new();
    let mut next = container.header(48)?;
    for _ in 0..SECTORS {
        if next >= LAST_SECTOR {
            return Ok(names);
        }
        container.go(next, 0)?;
        names.extend(container.walk.some(sector)?.chunks_exact(128).filter_map(name));
        next = container.after(next)?;
    }
    Err(damaged())
}

/// The name of an entry: UTF-16 of so many bytes, its zero included; an entry without a kind is not used.
fn name(entry: &[u8]) -> Option<String> {
    let size = usize::from(u16::from_le_bytes([*entry.get(64)?, *entry.get(65)?])).checked_sub(2)?;
    if entry.get(66) == Some(&0) {
        return None;
    }
    let letters = entry.get(..size.min(62))?.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    Some(char::decode_utf16(letters).map(|letter| letter.unwrap_or(char::REPLACEMENT_CHARACTER)).collect())
}
