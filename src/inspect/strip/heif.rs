//! HEIF (ISO/IEC 23008-12), of which HEIC and AVIF are kinds. What is in the file are items: a picture, its tiles, a block of Exif,
//! one of XMP. A directory says what each is (`iinf`) and where its bytes are (`iloc`): in the file, or in a box of the directory
//! itself (`idat`).
//!
//! How the picture is to be turned stands in its properties (`irot`, `imir`), which stay; what Exif says of it does not count.

use std::collections::BTreeMap;
use std::io::{Read, Seek};
use std::ops::Range;

use super::over::Over;
use super::{film, turned};
use crate::error::Result;
use crate::inspect::boxes::{self, Atom, Boxes};
use crate::inspect::damaged;
use crate::inspect::walk::Walk;

/// So much is read of what a directory says of an item.
const ENTRY: u64 = 1024;
/// What phones put beside the picture: a film, and words of their own about it. They have a place of their own.
const BESIDE: &[&[u8; 4]] = &[b"mpvd", b"sefd", b"xml ", b"bxml"];

/// Writes over the items that are not the picture: Exif becomes a block that says nothing, everything else zeros.
pub(super) fn over<R: Read + Seek>(walk: &mut Walk<R>) -> Result<Over> {
    let mut over = Over::default();
    let file = boxes::list(walk, 0..walk.length())?;
    for meta in file.named(b"meta") {
        let directory = boxes::list(walk, meta.content.start.saturating_add(4)..meta.content.end)?;
        if !directory.whole {
            return Err(damaged());
        }
        items(walk, &file, &directory, &mut over)?;
        beside(&directory, &mut over)?;
    }
    beside(&file, &mut over)?;
    // A picture that moves has tracks, as a film has.
    film::movie(walk, &file, &mut over)?;
    Ok(over)
}

fn beside(boxes: &Boxes, over: &mut Over) -> Result<()> {
    boxes.all.iter().filter(|atom| BESIDE.contains(&&atom.name)).try_for_each(|atom| over.free(atom))
}

/// Finds the items that tell something, and sees to it that nothing else is written over.
fn items<R: Read + Seek>(walk: &mut Walk<R>, file: &Boxes, directory: &Boxes, over: &mut Over) -> Result<()> {
    let mut told = BTreeMap::new();
    for info in directory.named(b"iinf") {
        described(walk, info, &mut told)?;
    }
    if told.is_empty() {
        return Ok(());
    }
    if directory.named(b"iloc").next().is_none() {
        return Err(damaged());
    }
    let within = directory.named(b"idat").next().map(|data| data.content.clone());
    // Bytes of items are here; everywhere else are the boxes themselves.
    let mut data: Vec<&Range<u64>> = file.named(b"mdat").map(|data| &data.content).collect();
    data.extend(&within);
    for places in directory.named(b"iloc") {
        located(walk, places, |item, place| {
            let range = place.range(within.as_ref());
            let range =
                range.filter(|range| data.iter().any(|data| data.start <= range.start && range.end <= data.end));
            match (told.get_mut(&item), range) {
                (Some(beginning), Some(range)) => {
                    let room = usize::try_from(place.size).unwrap_or(usize::MAX).min(beginning.len());
                    over.write(range, beginning.drain(..room).collect())
                }
                (None, Some(range)) => over.spare(range),
                // There is something that tells, and it cannot be found.
                (Some(_), None) if place.size > 0 => Err(damaged()),
                (_, None) => Ok(()),
            }
        })?;
    }
    Ok(())
}

/// Adds the items of a directory that are not the picture, and what is to be written at the beginning of each.
fn described<R: Read + Seek>(walk: &mut Walk<R>, info: &Atom, told: &mut BTreeMap<u32, Vec<u8>>) -> Result<()> {
    walk.go(info.content.start)?;
    let counted = if walk.byte()? == 0 { 2 } else { 4 };
    let entries = boxes::list(walk, info.content.start + 4 + counted..info.content.end)?;
    if !entries.whole {
        return Err(damaged());
    }
    for entry in entries.named(b"infe") {
        walk.go(entry.content.start)?;
        let entry = walk.some((entry.content.end - entry.content.start).min(ENTRY))?;
        let (item, beginning) = item(&entry).ok_or_else(damaged)?;
        told.extend(beginning.map(|beginning| (item, beginning)));
    }
    Ok(())
}

/// The number of an item, and what is to be written at its beginning if it is not part of the picture.
fn item(entry: &[u8]) -> Option<(u32, Option<Vec<u8>>)> {
    let version = *entry.first()?;
    let (number, rest) = if version < 3 {
        (u16::from_be_bytes(entry.get(4..6)?.try_into().ok()?).into(), entry.get(8..)?)
    } else {
        (u32::from_be_bytes(entry.get(4..8)?.try_into().ok()?), entry.get(10..)?)
    };
    // At first they had no type of four letters, only a media type.
    let (kind, rest) = if version < 2 { (b"mime", rest) } else { rest.split_first_chunk()? };
    let beginning = match kind {
        // Behind a number that says where it begins. Some programs refuse a picture whose Exif does not begin as it should.
        b"Exif" => Some([[0; 4].as_slice(), &turned(1)].concat()),
        b"uri " => Some(Vec::new()),
        // A name, and what it is: that may be a picture, too.
        b"mime" => {
            let media_type = rest.split(|byte| *byte == 0).nth(1).unwrap_or_default();
            (!media_type.starts_with(b"image/")).then(Vec::new)
        }
        _ => None,
    };
    Some((number, beginning))
}

/// Where a piece of an item is counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    File,
    Directory,
    /// Another item, or another file.
    Elsewhere,
}

/// Where a piece of an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    from: Source,
    start: u64,
    size: u64,
}

impl Place {
    /// The range of the file, if it can be told. `within` is what the directory has of items itself.
    fn range(self, within: Option<&Range<u64>>) -> Option<Range<u64>> {
        let source = match self.from {
            Source::File => 0..u64::MAX,
            Source::Directory => within?.clone(),
            Source::Elsewhere => return None,
        };
        let start = source.start.checked_add(self.start)?;
        let end = start.checked_add(self.size)?;
        (end <= source.end).then_some(start..end)
    }
}

/// Goes through the places of all items.
fn located<R: Read + Seek>(
    walk: &mut Walk<R>,
    places: &Atom,
    mut each: impl FnMut(u32, Place) -> Result<()>,
) -> Result<()> {
    walk.go(places.content.start)?;
    let version = walk.byte()?;
    walk.skip(3)?;
    let [first, second] = walk.bytes()?;
    let (start, size, base) = (first >> 4, first & 15, second >> 4);
    // What is here in later versions was nothing before.
    let index = if version == 0 { 0 } else { second & 15 };
    if version > 2 {
        return Err(damaged());
    }
    let count = if version < 2 { u16::from_be_bytes(walk.bytes()?).into() } else { u32::from_be_bytes(walk.bytes()?) };
    for _ in 0..count {
        let item =
            if version < 2 { u16::from_be_bytes(walk.bytes()?).into() } else { u32::from_be_bytes(walk.bytes()?) };
        let method = if version == 0 { 0 } else { u16::from_be_bytes(walk.bytes()?) & 15 };
        let from = match (method, u16::from_be_bytes(walk.bytes()?)) {
            (0, 0) => Source::File,
            (1, 0) => Source::Directory,
            _ => Source::Elsewhere,
        };
        let base = number(walk, base)?;
        for _ in 0..u16::from_be_bytes(walk.bytes()?) {
            number(walk, index)?;
            let start = base.checked_add(number(walk, start)?).ok_or_else(damaged)?;
            let size = number(walk, size)?;
            if walk.at() > places.content.end {
                return Err(damaged());
            }
            each(item, Place { from, start, size })?;
        }
    }
    Ok(())
}

/// A number of so many bytes.
fn number<R: Read + Seek>(walk: &mut Walk<R>, size: u8) -> Result<u64> {
    match size {
        0 => Ok(0),
        4 => Ok(u32::from_be_bytes(walk.bytes()?).into()),
        8 => Ok(u64::from_be_bytes(walk.bytes()?)),
        _ => Err(damaged()),
    }
}
