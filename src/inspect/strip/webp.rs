//! WebP (RFC 9649): a RIFF container, chunks of a name of four letters, a length and content, padded to an even length.

use std::io::{Read, Seek};
use std::ops::Range;

use super::{PARTS, Plan, turned};
use crate::error::Result;
use crate::inspect::damaged;
use crate::inspect::picture::orientation;
use crate::inspect::walk::Walk;

/// The chunks that make up the picture.
const KEPT: &[&[u8; 4]] = &[b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF", b"ICCP"];
/// So much of a block of Exif is read.
const EXIF: u64 = 64 * 1024;
/// Flags of the extended header: the file has Exif, XMP.
const HAS_EXIF: u8 = 0x08;
const HAS_XMP: u8 = 0x04;

/// A chunk, its header and its padding included.
struct Chunk {
    name: [u8; 4],
    range: Range<u64>,
}

/// Keeps the chunks that make up the picture, and mends the headers that count them.
pub(super) fn plan<R: Read + Seek>(walk: &mut Walk<R>) -> Result<Plan> {
    let mut plan = Plan::new(walk.length());
    walk.skip(4)?;
    let size = u32::from_le_bytes(walk.bytes()?);
    plan.end = u64::from(size) + 8;
    walk.skip(4)?;
    if plan.end < 12 || plan.end > walk.length() {
        return Err(damaged());
    }
    let mut chunks = Vec::new();
    let mut turn = None;
    while plan.end - walk.at() >= 8 {
        let start = walk.at();
        let name: [u8; 4] = walk.bytes()?;
        let size = u64::from(u32::from_le_bytes(walk.bytes()?));
        // The padding of the last one is sometimes left out.
        let end = walk.ahead(size)?.end;
        let end = (end + (size & 1)).min(plan.end.max(end));
        // The extended header is one, and comes first.
        if end > plan.end || chunks.len() == PARTS || (name == *b"VP8X" && start != 12) {
            return Err(damaged());
        }
        if name == *b"EXIF" && turn.is_none() {
            let block = walk.some(size.min(EXIF))?;
            turn = Some(orientation(block.strip_prefix(b"Exif\0\0").unwrap_or(&block)).unwrap_or(1));
        } else {
            measure(walk, name, size, &mut plan)?;
        }
        walk.skip_to(end)?;
        chunks.push(Chunk { name, range: start..end });
    }
    // Only an extended file may say how it is to be turned.
    let extended = chunks.first().is_some_and(|chunk| chunk.name == *b"VP8X");
    let turn = turn.filter(|turn| extended && *turn != 1);
    plan.picture.turn(turn.unwrap_or(1));
    lay_out(walk, &mut plan, &chunks, turn)?;
    Ok(plan)
}

/// Puts the parts together; the header in front of them says how long they are.
fn lay_out<R: Read + Seek>(walk: &mut Walk<R>, plan: &mut Plan, chunks: &[Chunk], turn: Option<u8>) -> Result<()> {
    let mut exif = turn.map(|turn| {
        let block = turned(turn);
        let mut chunk = b"EXIF".to_vec();
        chunk.extend(u32::try_from(block.len()).unwrap_or_default().to_le_bytes());
        chunk.extend(block);
        chunk
    });
    let mut body = Plan::new(plan.length);
    let mut size = 4;
    for Chunk { name, range } in chunks {
        let length = range.end - range.start;
        if name == b"VP8X" {
            walk.go(range.start)?;
            let old = walk.some(length.min(EXIF))?;
            let mut new = old.clone();
            if let Some(flags) = new.get_mut(8) {
                *flags &= !(HAS_EXIF | HAS_XMP);
                *flags |= if turn.is_some() { HAS_EXIF } else { 0 };
            }
            size += u64::try_from(new.len()).map_err(|_| damaged())?;
            body.replace(range.clone(), &old, new)?;
        } else if KEPT.contains(&name) {
            size += length;
            body.keep(range.clone())?;
        } else if name == b"EXIF"
            && let Some(new) = exif.take()
        {
            walk.go(range.start)?;
            let old = walk.some(length.min(EXIF))?;
            size += u64::try_from(new.len()).map_err(|_| damaged())?;
            body.replace(range.clone(), &old, new)?;
        }
    }
    walk.go(0)?;
    let old: [u8; 12] = walk.bytes()?;
    let mut new = b"RIFF".to_vec();
    new.extend(u32::try_from(size).map_err(|_| damaged())?.to_le_bytes());
    new.extend(b"WEBP");
    plan.replace(0..12, &old, new)?;
    for part in body.parts {
        match part {
            super::Part::Kept(range) => plan.keep(range)?,
            super::Part::New(bytes) => plan.put(bytes)?,
            super::Part::Zeros(size) => plan.zeros(size)?,
        }
    }
    Ok(())
}

/// What a chunk says of the size: the canvas, the picture's own header, a frame's place on the canvas.
fn measure<R: Read + Seek>(walk: &mut Walk<R>, name: [u8; 4], size: u64, plan: &mut Plan) -> Result<()> {
    let long = |bytes: [u8; 3]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]) + 1;
    match &name {
        b"VP8X" if size >= 10 => {
            walk.skip(4)?;
            plan.picture.raster(long(walk.bytes()?), long(walk.bytes()?));
        }
        b"VP8 " if size >= 10 => {
            walk.skip(3)?;
            if walk.bytes()? != [0x9d, 0x01, 0x2a] {
                return Err(damaged());
            }
            let (width, height) = (u16::from_le_bytes(walk.bytes()?), u16::from_le_bytes(walk.bytes()?));
            // The two highest bits say how it is to be enlarged.
            plan.picture.raster((width & 0x3fff).into(), (height & 0x3fff).into());
        }
        b"VP8L" if size >= 5 => {
            if walk.byte()? != 0x2f {
                return Err(damaged());
            }
            let bits = u32::from_le_bytes(walk.bytes()?);
            plan.picture.raster((bits & 0x3fff) + 1, ((bits >> 14) & 0x3fff) + 1);
        }
        b"ANMF" if size >= 16 => {
            let end = walk.ahead(size)?.end;
            walk.skip(6)?;
            plan.picture.frame(long(walk.bytes()?), long(walk.bytes()?));
            walk.skip(4)?;
            pixels(walk, end, plan)?;
        }
        b"VP8X" | b"VP8 " | b"VP8L" | b"ANMF" => return Err(damaged()),
        _ => {}
    }
    Ok(())
}

/// What a frame is made of: its pixels, maybe with what is transparent in front of them. They say once more how large they
/// are, and a decoder makes room for that before it sees that the frame is smaller.
fn pixels<R: Read + Seek>(walk: &mut Walk<R>, end: u64, plan: &mut Plan) -> Result<()> {
    let (name, size) = inner(walk, end)?;
    match &name {
        b"ALPH" => {
            walk.skip(size + (size & 1))?;
            let (name, size) = inner(walk, end)?;
            if name == *b"VP8 " { measure(walk, name, size, plan) } else { Err(damaged()) }
        }
        b"VP8 " | b"VP8L" => measure(walk, name, size, plan),
        _ => Err(damaged()),
    }
}

/// The name and the size of a chunk in a frame that ends there.
fn inner<R: Read + Seek>(walk: &mut Walk<R>, end: u64) -> Result<([u8; 4], u64)> {
    let (name, size) = (walk.bytes()?, u64::from(u32::from_le_bytes(walk.bytes()?)));
    if walk.at() + size > end { Err(damaged()) } else { Ok((name, size)) }
}
