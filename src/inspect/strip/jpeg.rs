//! JPEG (ITU T.81): segments, each with a marker, and coded data behind the start of a scan.

use std::io::{Read, Seek};

use super::{Plan, turned};
use crate::error::Result;
use crate::inspect::damaged;
use crate::inspect::picture::orientation;
use crate::inspect::walk::Walk;

const SCAN: u8 = 0xda;
const END: u8 = 0xd9;
/// Scans of a picture, at most. Each makes a decoder go over all of it; encoders use a dozen.
const SCANS: usize = 64;

/// What becomes of a segment.
enum Fate {
    Keep,
    Drop,
    Turned(u8),
}

/// Keeps what is needed to show the picture: the frame, tables and scans, JFIF, the colour profile (ICC), and Adobe's word on
/// colours. Everything else that an application put there goes: Exif, XMP, Photoshop's and comments, and the index of
/// further pictures in the file.
pub(super) fn plan<R: Read + Seek>(walk: &mut Walk<R>) -> Result<Plan> {
    let mut plan = Plan::new(walk.length());
    if walk.bytes()? != [0xff, 0xd8] {
        return Err(damaged());
    }
    plan.keep(0..2)?;
    let mut scans = 0;
    let mut exif = false;
    // Where what is coded begins, if that is what we are in. Bytes between segments are of no use to anybody.
    let mut coded = None;
    loop {
        let next = marker(walk)?;
        let end = next.map_or(walk.length(), |(start, _)| start);
        if let Some(begun) = coded.take() {
            plan.keep(begun..end)?;
        }
        let Some((start, marker)) = next else {
            // Cut off, as a connection may do: what there is can be shown.
            return if scans == 0 { Err(damaged()) } else { Ok(plan) };
        };
        match marker {
            END => {
                plan.keep(start..walk.at())?;
                plan.end = walk.at();
                return if scans == 0 { Err(damaged()) } else { Ok(plan) };
            }
            // A second beginning.
            0xd8 => return Err(damaged()),
            _ => {}
        }
        let size = u64::from(u16::from_be_bytes(walk.bytes()?)).checked_sub(2).ok_or_else(damaged)?;
        let body = walk.ahead(size)?;
        match fate(walk, marker, size, &mut plan, &mut exif)? {
            Fate::Keep => plan.keep(start..body.end)?,
            Fate::Drop => {}
            Fate::Turned(orientation) => {
                let mut new = b"\xff\xe1\0\x22Exif\0\0".to_vec();
                new.extend(turned(orientation));
                walk.go(start)?;
                let old = walk.some(body.end - start)?;
                plan.replace(start..body.end, &old, new)?;
            }
        }
        walk.skip_to(body.end)?;
        if marker == SCAN {
            scans += 1;
            coded = Some(body.end);
            if scans > SCANS {
                return Err(damaged());
            }
        }
    }
}

/// The next marker and where it begins, or nothing at the end. In what is coded, a zero behind 0xff means that it is none,
/// and restarts are part of it.
fn marker<R: Read + Seek>(walk: &mut Walk<R>) -> Result<Option<(u64, u8)>> {
    while walk.find(0xff)? {
        let start = walk.at();
        let mut byte = 0xff;
        while byte == 0xff {
            if walk.left() == 0 {
                return Ok(None);
            }
            byte = walk.byte()?;
        }
        if !matches!(byte, 0 | 1 | 0xd0..=0xd7) {
            return Ok(Some((start, byte)));
        }
    }
    Ok(None)
}

fn fate<R: Read + Seek>(walk: &mut Walk<R>, marker: u8, size: u64, plan: &mut Plan, exif: &mut bool) -> Result<Fate> {
    Ok(match marker {
        // Frames; the numbers between are tables (huffman, arithmetic) and an extension.
        0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
            walk.skip(1)?;
            let (height, width) = (u16::from_be_bytes(walk.bytes()?), u16::from_be_bytes(walk.bytes()?));
            plan.picture.raster(width.into(), height.into());
            Fate::Keep
        }
        0xe0..=0xef | 0xfe => {
            let body = walk.some(size)?;
            match marker {
                0xe0 if body.starts_with(b"JFIF\0") => Fate::Keep,
                0xe2 if body.starts_with(b"ICC_PROFILE\0") => Fate::Keep,
                0xee if body.starts_with(b"Adobe") => Fate::Keep,
                0xe1 if body.starts_with(b"Exif\0\0") && !std::mem::replace(exif, true) => {
                    let orientation = orientation(&body[6..]).unwrap_or(1);
                    plan.picture.turn(orientation);
                    if orientation == 1 { Fate::Drop } else { Fate::Turned(orientation) }
                }
                _ => Fate::Drop,
            }
        }
        _ => Fate::Keep,
    })
}
