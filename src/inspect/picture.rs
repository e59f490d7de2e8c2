//! How large a picture is, from what its container says: nothing is decoded to find out.

use std::io::{Read, Seek};

use image::metadata::Orientation;

use super::walk::Walk;
use super::{Limits, boxes};
use crate::error::{Error, Result};

/// Pixels of an edge, at most.
const EDGE: u32 = 30_000;
/// An animation may draw as many pixels as so many of the largest pictures, all its frames together.
const ANIMATION: u64 = 16;
/// Entries of a directory of TIFF that are looked at.
const ENTRIES: u16 = 512;

/// The measures of a picture.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Picture {
    /// Pixels across and down, as they are stored.
    size: Option<(u32, u32)>,
    /// How it is to be turned to be shown: the numbers of Exif, 1 to 8; nothing is 1.
    orientation: Option<u8>,
    /// The longest edge that there is in it.
    edge: u32,
    /// Pixels of the largest raster in it.
    largest: u64,
    /// Pixels of all frames together.
    drawn: u64,
}

impl Picture {
    /// Something in it says that it is so large. What is said first is its size; all that is said must be within limits.
    pub(super) fn raster(&mut self, width: u32, height: u32) {
        self.size.get_or_insert((width, height));
        self.edge = self.edge.max(width).max(height);
        self.largest = self.largest.max(u64::from(width) * u64::from(height));
    }

    /// It has a frame that is so large. The whole is drawn anew for each.
    pub(super) fn frame(&mut self, width: u32, height: u32) {
        self.raster(width, height);
        self.drawn = self.drawn.saturating_add(self.largest);
    }

    /// It is to be turned so; what is said first counts.
    pub(super) fn turn(&mut self, orientation: u8) {
        self.orientation.get_or_insert(orientation);
    }

    /// How it is to be turned: 1 to 8.
    pub(super) fn orientation(&self) -> u8 {
        self.orientation.unwrap_or(1)
    }

    /// Pixels across and down as it is shown.
    pub fn shown(&self) -> Option<(u32, u32)> {
        let (width, height) = self.size?;
        Some(if self.orientation() >= 5 { (height, width) } else { (width, height) })
    }

    /// Whether it has a size at all, and all of it does.
    pub(super) fn is_sized(&self) -> bool {
        self.size.is_some_and(|(width, height)| width > 0 && height > 0)
    }

    /// Whether it may be opened.
    pub fn check(&self, limits: Limits) -> Result<()> {
        if self.edge <= EDGE && self.largest <= limits.pixels && self.drawn <= limits.pixels.saturating_mul(ANIMATION) {
            return Ok(());
        }
        let most = limits.pixels;
        Err(Error::invalid(
            "image_too_large",
            format!(
                "a picture may have {most} pixels, {EDGE} at an edge, and all frames of an animation {ANIMATION} times as many"
            ),
        ))
    }
}

/// How a block of Exif (TIFF 6.0, from its first byte on) says that the picture is to be turned.
pub fn orientation(exif: &[u8]) -> Option<u8> {
    Orientation::from_exif_chunk(exif).map(Orientation::to_exif)
}

/// Of a Windows bitmap. A negative height means that the rows come from the top.
pub fn bmp<R: Read + Seek>(walk: &mut Walk<R>) -> Result<Picture> {
    let mut picture = Picture::default();
    walk.skip(14)?;
    if u32::from_le_bytes(walk.bytes()?) == 12 {
        let (width, height) = (u16::from_le_bytes(walk.bytes()?), u16::from_le_bytes(walk.bytes()?));
        picture.raster(width.into(), height.into());
    } else {
        let (width, height) = (i32::from_le_bytes(walk.bytes()?), i32::from_le_bytes(walk.bytes()?));
        picture.raster(width.unsigned_abs(), height.unsigned_abs());
    }
    Ok(picture)
}

/// Of the first picture of a TIFF file (TIFF 6.0).
pub fn tiff<R: Read + Seek>(walk: &mut Walk<R>) -> Result<Picture> {
    let little = walk.bytes::<2>()? == *b"II";
    let short = |bytes: [u8; 2]| if little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) };
    let long = |bytes: [u8; 4]| if little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) };
    walk.skip(2)?;
    let directory = long(walk.bytes()?);
    walk.go(directory.into())?;
    let (mut width, mut height, mut turned) = (None, None, None);
    for _ in 0..short(walk.bytes()?).min(ENTRIES) {
        let (tag, form) = (short(walk.bytes()?), short(walk.bytes()?));
        walk.skip(4)?;
        let value: [u8; 4] = walk.bytes()?;
        let value: u32 = if form == 3 { short([value[0], value[1]]).into() } else { long(value) };
        match tag {
            256 => width = Some(value),
            257 => height = Some(value),
            274 => turned = u8::try_from(value).ok().filter(|value| (1..=8).contains(value)),
            _ => {}
        }
    }
    let mut picture = Picture::default();
    if let (Some(width), Some(height)) = (width, height) {
        picture.raster(width, height);
    }
    if let Some(turned) = turned {
        picture.turn(turned);
    }
    Ok(picture)
}

/// Of a HEIF or AVIF picture (ISO/IEC 23008-12): the largest extent that is given in it, because tiles and thumbnails have
/// theirs as well, turned if something is turned by a quarter.
pub fn heif<R: Read + Seek>(walk: &mut Walk<R>) -> Result<Picture> {
    let mut picture = Picture::default();
    let (mut largest, mut turned) = ((0, 0), false);
    let file = boxes::list(walk, 0..walk.length())?;
    for meta in file.named(b"meta") {
        let inner = boxes::list(walk, meta.content.start.saturating_add(4)..meta.content.end)?;
        let properties = inner.within(walk, *b"iprp")?.within(walk, *b"ipco")?;
        for property in &properties.all {
            let size = property.content.end - property.content.start;
            walk.go(property.content.start)?;
            match &property.name {
                b"ispe" if size >= 12 => {
                    walk.skip(4)?;
                    let extent = (u32::from_be_bytes(walk.bytes()?), u32::from_be_bytes(walk.bytes()?));
                    picture.raster(extent.0, extent.1);
                    if u64::from(extent.0) * u64::from(extent.1) > u64::from(largest.0) * u64::from(largest.1) {
                        largest = extent;
                    }
                }
                b"irot" if size >= 1 => turned |= walk.byte()? & 1 == 1,
                _ => {}
            }
        }
    }
    if largest != (0, 0) {
        picture.size = Some(largest);
        picture.turn(if turned { 6 } else { 1 });
    }
    Ok(picture)
}
