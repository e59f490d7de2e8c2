//! Pictures without what they tell of the person and the place: where it was taken, when, with what, by whom.
//!
//! The container is written anew without those parts; the pixels are not touched, nor is what decides how they look (colour
//! profiles, transparency, times of an animation). How a picture is to be turned is metadata too, and needed: it is kept, as a
//! block of Exif with that one entry. A picture that has nothing to lose stays as it is, byte for byte.
//!
//! What a file has behind its picture is left out: phones put there a second picture or a film, which have a place of their own.
//!
//! HEIC, AVIF, TIFF and films (MP4, `QuickTime`) say by places in the file where their parts are, so nothing can be taken out of
//! them without moving all the rest: what they tell is written over where it stands ([`over`]). Pictures lose all of it, films
//! the place where they were taken. A bitmap has no metadata.
//!
//! A picture whose directory cannot be read is refused, because there is no telling what it tells, or where. A film is kept as
//! far as it cannot be read: it is played that far.

mod film;
mod gif;
mod heif;
mod jpeg;
mod over;
mod png;
mod tiff;
mod webp;

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;

use super::kind::Kind;
use super::picture::{self, Picture};
use super::walk::Walk;
use super::{damaged, disk};
use crate::error::Result;

/// Parts of a new file, at most: a picture of a person has a handful, one made to be a burden has millions.
const PARTS: usize = 20_000;

/// A part of the new file.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// As it stands in the old one.
    Kept(Range<u64>),
    /// Something else.
    New(Vec<u8>),
    /// So many zeros.
    Zeros(u64),
}

/// What is to be kept of a picture or a film, and what was seen on the way.
#[derive(Debug)]
pub struct Plan {
    parts: Vec<Part>,
    length: u64,
    /// How large it is.
    pub(super) picture: Picture,
    /// Where the picture ends; what follows is something else.
    pub end: u64,
}

/// Goes through a picture or a film. One that contradicts itself is refused with `type_not_allowed`.
pub(super) fn plan<R: Read + Seek>(kind: Kind, file: R) -> Result<Plan> {
    let mut walk = Walk::new(file)?;
    let plan = match kind {
        Kind::Jpeg => jpeg::plan(&mut walk)?,
        Kind::Png => png::plan(&mut walk)?,
        Kind::Gif => gif::plan(&mut walk)?,
        Kind::Webp => webp::plan(&mut walk)?,
        Kind::Bmp => Plan::whole(picture::bmp(&mut walk)?, walk.length()),
        Kind::Tiff => {
            let picture = picture::tiff(&mut walk)?;
            tiff::over(&mut walk)?.plan(&mut walk, picture)?
        }
        Kind::Avif | Kind::Heic | Kind::Heif => {
            let picture = picture::heif(&mut walk)?;
            heif::over(&mut walk)?.plan(&mut walk, picture)?
        }
        _ => film::over(&mut walk)?.plan(&mut walk, Picture::default())?,
    };
    let stripped = matches!(kind, Kind::Jpeg | Kind::Png | Kind::Gif | Kind::Webp);
    if stripped && !plan.picture.is_sized() { Err(damaged()) } else { Ok(plan) }
}

impl Plan {
    fn new(length: u64) -> Self {
        Self { parts: Vec::new(), length, picture: Picture::default(), end: length }
    }

    /// Everything stays.
    fn whole(picture: Picture, length: u64) -> Self {
        Self { parts: vec![Part::Kept(0..length)], length, picture, end: length }
    }

    fn keep(&mut self, range: Range<u64>) -> Result<()> {
        match self.parts.last_mut() {
            Some(Part::Kept(last)) if last.end == range.start => last.end = range.end,
            _ if range.is_empty() => {}
            _ => self.part(Part::Kept(range))?,
        }
        Ok(())
    }

    fn zeros(&mut self, size: u64) -> Result<()> {
        if size == 0 { Ok(()) } else { self.part(Part::Zeros(size)) }
    }

    fn put(&mut self, bytes: Vec<u8>) -> Result<()> {
        self.part(Part::New(bytes))
    }

    fn part(&mut self, part: Part) -> Result<()> {
        if self.parts.len() == PARTS {
            return Err(damaged());
        }
        self.parts.push(part);
        Ok(())
    }

    /// Writes `new` where `old` stood, which it may be.
    fn replace(&mut self, range: Range<u64>, old: &[u8], new: Vec<u8>) -> Result<()> {
        if old == new { self.keep(range) } else { self.put(new) }
    }

    /// Whether the new file differs from the old one.
    #[must_use]
    pub fn changes(&self) -> bool {
        self.parts != [Part::Kept(0..self.length)]
    }

    /// Writes the new file.
    pub fn write<R: Read + Seek, W: Write>(&self, mut from: R, mut to: W) -> Result<()> {
        for part in &self.parts {
            match part {
                Part::New(bytes) => to.write_all(bytes).map_err(disk)?,
                Part::Zeros(size) => {
                    io::copy(&mut io::repeat(0).take(*size), &mut to).map_err(disk)?;
                }
                Part::Kept(range) => {
                    from.seek(SeekFrom::Start(range.start)).map_err(disk)?;
                    let size = range.end - range.start;
                    let copied = io::copy(&mut (&mut from).take(size), &mut to).map_err(disk)?;
                    if copied != size {
                        return Err(damaged());
                    }
                }
            }
        }
        Ok(())
    }
}

/// A block of Exif (TIFF 6.0) that says only how the picture is to be turned: one directory with one entry.
fn turned(orientation: u8) -> Vec<u8> {
    let mut exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
    exif
}
