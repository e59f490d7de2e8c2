//! TIFF (6.0): directories of entries, each with a tag and a value, which stands in the entry if it has at most four bytes, and
//! anywhere in the file otherwise.
//!
//! Entries that tell something are taken out of their directory, which becomes shorter in its place, and what they point to is
//! written over: directories of their own (Exif, GPS) with all that these point to, notes of the camera's maker included.

use std::io::{Read, Seek};
use std::ops::Range;

use super::over::Over;
use crate::error::Result;
use crate::inspect::damaged;
use crate::inspect::walk::Walk;

/// Directories that are looked at.
const DIRECTORIES: usize = 64;
/// Entries of one, at most.
const ENTRIES: u16 = 512;
/// Numbers of places in one entry, at most.
const PLACES: u64 = 1 << 17;
/// What tells of the person and the place: names, descriptions, cameras, programs, times and rights, XMP (700), IPTC (33723),
/// Photoshop's (34377).
const TOLD: &[u16] = &[269, 270, 271, 272, 305, 306, 315, 316, 700, 33_432, 33_723, 34_377];
/// Directories of the same sort: Exif, GPS, and one that is in Exif.
const DIRECTORIES_TOLD: &[u16] = &[0x8769, 0x8825, 0xa005];
/// Further pictures.
const FURTHER: u16 = 330;
/// Where pixels are, and how many bytes: in strips, in tiles, as a JPEG.
const PIXELS: [(u16, u16); 3] = [(273, 279), (324, 325), (513, 514)];

/// An entry of a directory.
#[derive(Debug, Clone)]
struct Entry {
    raw: [u8; 12],
    tag: u16,
    /// Bytes of a number in its value; nothing if its form is not known.
    width: u64,
    count: u64,
    /// The value, or where it is.
    value: u32,
    /// Where the value is, if not in the entry.
    outside: Option<Range<u64>>,
}

impl Entry {
    /// Whether it is taken out.
    fn tells(&self) -> bool {
        TOLD.contains(&self.tag) || DIRECTORIES_TOLD.contains(&self.tag)
    }
}

/// A directory.
#[derive(Debug, Clone)]
struct Directory {
    range: Range<u64>,
    entries: Vec<Entry>,
    next: u32,
}

/// A file, and in which order its numbers are.
struct Tiff<'a, R> {
    walk: &'a mut Walk<R>,
    little: bool,
    over: Over,
}

/// Takes out what tells something.
pub(super) fn over<R: Read + Seek>(walk: &mut Walk<R>) -> Result<Over> {
    walk.go(0)?;
    let little = walk.bytes()? == *b"II";
    let mut tiff = Tiff { walk, little, over: Over::default() };
    tiff.walk.skip(2)?;
    let first = tiff.walk.bytes()?;
    let directories = tiff.directories(tiff.long(first))?;
    for directory in &directories {
        tiff.take_out(directory)?;
    }
    if tiff.over.is_needed() {
        tiff.over.spare(0..8)?;
        for directory in &directories {
            tiff.spare(directory)?;
        }
    }
    Ok(tiff.over)
}

impl<R: Read + Seek> Tiff<'_, R> {
    fn short(&self, bytes: [u8; 2]) -> u16 {
        if self.little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) }
    }

    fn long(&self, bytes: [u8; 4]) -> u32 {
        if self.little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) }
    }

    /// The directories of all pictures in the file. The first one must be readable; it is what is shown.
    fn directories(&mut self, first: u32) -> Result<Vec<Directory>> {
        let mut found = vec![self.directory(first)?.ok_or_else(damaged)?];
        let mut places = vec![first];
        let mut at = 0;
        while let Some(directory) = found.get(at).cloned() {
            at += 1;
            let mut more = vec![directory.next];
            for entry in directory.entries.iter().filter(|entry| entry.tag == FURTHER) {
                more.extend(self.numbers(entry)?);
            }
            for place in more {
                if place == 0 || places.contains(&place) || found.len() == DIRECTORIES {
                    continue;
                }
                places.push(place);
                found.extend(self.directory(place)?);
            }
        }
        Ok(found)
    }

    /// The directory there, if there is one.
    fn directory(&mut self, place: u32) -> Result<Option<Directory>> {
        let (start, length) = (u64::from(place), self.walk.length());
        if start + 2 > length {
            return Ok(None);
        }
        self.walk.go(start)?;
        let count = self.walk.bytes()?;
        let count = self.short(count);
        let end = start + 6 + u64::from(count) * 12;
        if count == 0 || count > ENTRIES || end > length {
            return Ok(None);
        }
        let mut entries = Vec::new();
        for _ in 0..count {
            let raw = self.walk.bytes()?;
            entries.push(self.entry(raw));
        }
        let next = self.walk.bytes()?;
        Ok(Some(Directory { range: start..end, entries, next: self.long(next) }))
    }

    fn entry(&self, raw: [u8; 12]) -> Entry {
        let (tag, form) = (self.short([raw[0], raw[1]]), self.short([raw[2], raw[3]]));
        let (count, value) =
            (self.long([raw[4], raw[5], raw[6], raw[7]]), self.long([raw[8], raw[9], raw[10], raw[11]]));
        let width = match form {
            1 | 2 | 6 | 7 => 1,
            3 | 8 => 2,
            4 | 9 | 11 | 13 => 4,
            5 | 10 | 12 => 8,
            _ => 0,
        };
        let (count, start) = (u64::from(count), u64::from(value));
        let size = width * count;
        let outside = (size > 4 && start + size <= self.walk.length()).then_some(start..start + size);
        Entry { raw, tag, width, count, value, outside }
    }

    /// The numbers of an entry.
    fn numbers(&mut self, entry: &Entry) -> Result<Vec<u32>> {
        if entry.count > PLACES {
            return Err(damaged());
        }
        let bytes = match &entry.outside {
            Some(range) => {
                self.walk.go(range.start)?;
                self.walk.some(range.end - range.start)?
            }
            None => entry.raw[8..].to_vec(),
        };
        let count = usize::try_from(entry.count).unwrap_or(usize::MAX);
        Ok(match entry.width {
            2 => bytes.chunks_exact(2).take(count).map(|two| self.short([two[0], two[1]]).into()).collect(),
            4 => {
                let four = bytes.chunks_exact(4).take(count);
                four.map(|four| self.long([four[0], four[1], four[2], four[3]])).collect()
            }
            _ => Vec::new(),
        })
    }

    /// Takes what tells something out of a picture's directory.
    fn take_out(&mut self, directory: &Directory) -> Result<()> {
        let (told, kept): (Vec<&Entry>, Vec<&Entry>) = directory.entries.iter().partition(|entry| entry.tells());
        if told.is_empty() {
            return Ok(());
        }
        let count = u16::try_from(kept.len()).map_err(|_| damaged())?;
        let (count, next) = if self.little {
            (count.to_le_bytes(), directory.next.to_le_bytes())
        } else {
            (count.to_be_bytes(), directory.next.to_be_bytes())
        };
        let mut shorter = count.to_vec();
        shorter.extend(kept.iter().flat_map(|entry| entry.raw));
        shorter.extend(next);
        self.over.write(directory.range.clone(), shorter)?;
        told.into_iter().try_for_each(|entry| self.erase(entry, 0))
    }

    /// Writes over what an entry points to.
    fn erase(&mut self, entry: &Entry, depth: usize) -> Result<()> {
        if let Some(range) = &entry.outside {
            self.over.blank(range.clone())?;
        }
        if depth < DIRECTORIES_TOLD.len()
            && DIRECTORIES_TOLD.contains(&entry.tag)
            && let Some(directory) = self.directory(entry.value)?
        {
            self.over.blank(directory.range)?;
            directory.entries.iter().try_for_each(|entry| self.erase(entry, depth + 1))?;
        }
        Ok(())
    }

    /// Nothing of a picture is written over: not its directory, not what is pointed to, not its pixels.
    fn spare(&mut self, directory: &Directory) -> Result<()> {
        if !directory.entries.iter().any(Entry::tells) {
            self.over.spare(directory.range.clone())?;
        }
        for range in directory.entries.iter().filter(|entry| !entry.tells()).filter_map(|entry| entry.outside.clone()) {
            self.over.spare(range)?;
        }
        let find = |tag| directory.entries.iter().find(|entry| entry.tag == tag);
        for (places, sizes) in PIXELS {
            let Some(places) = find(places) else { continue };
            let places = self.numbers(places)?;
            let sizes = find(sizes).map(|sizes| self.numbers(sizes)).transpose()?.unwrap_or_default();
            for (at, place) in places.into_iter().enumerate() {
                let size = sizes.get(at).copied().unwrap_or(1);
                self.over.spare(place.into()..u64::from(place) + u64::from(size))?;
            }
        }
        Ok(())
    }
}
