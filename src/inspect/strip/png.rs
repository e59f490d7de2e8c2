//! PNG (third edition): a signature, and chunks of a length, a name of four letters, content and a checksum.

use std::io::{Read, Seek};

use super::{Plan, turned};
use crate::error::Result;
use crate::inspect::damaged;
use crate::inspect::picture::orientation;
use crate::inspect::walk::Walk;

/// The chunks that say how the picture looks, and the frames of an animation. Those with a capital first letter are needed
/// anyway; all others are left out: text, times, Exif, and what programs keep for themselves.
const KEPT: &[&[u8; 4]] = &[
    b"cHRM", b"cICP", b"cLLI", b"gAMA", b"iCCP", b"mDCV", b"sBIT", b"sRGB", b"bKGD", b"hIST", b"tRNS", b"pHYs",
    b"sPLT", b"acTL", b"fcTL", b"fdAT", b"sTER", b"oFFs", b"pCAL", b"sCAL",
];
/// So much of a block of Exif is read: how the picture is to be turned stands at its beginning.
const EXIF: u64 = 64 * 1024;

/// Keeps the chunks that say how the picture looks.
pub(super) fn plan<R: Read + Seek>(walk: &mut Walk<R>) -> Result<Plan> {
    let mut plan = Plan::new(walk.length());
    walk.skip(8)?;
    plan.keep(0..8)?;
    let (mut data, mut exif) = (false, false);
    while walk.left() > 0 {
        let start = walk.at();
        let size = u64::from(u32::from_be_bytes(walk.bytes()?));
        let name: [u8; 4] = walk.bytes()?;
        let end = walk.ahead(size.saturating_add(4))?.end;
        match &name {
            b"IHDR" if start == 8 && size == 13 => {
                plan.picture.raster(u32::from_be_bytes(walk.bytes()?), u32::from_be_bytes(walk.bytes()?));
                plan.keep(start..end)?;
            }
            // There is one header, and it comes first.
            b"IHDR" => return Err(damaged()),
            _ if start == 8 => return Err(damaged()),
            b"fcTL" => {
                walk.skip(4)?;
                plan.picture.frame(u32::from_be_bytes(walk.bytes()?), u32::from_be_bytes(walk.bytes()?));
                plan.keep(start..end)?;
            }
            b"eXIf" if !std::mem::replace(&mut exif, true) => {
                let orientation = orientation(&walk.some(size.min(EXIF))?).unwrap_or(1);
                plan.picture.turn(orientation);
                if orientation != 1 {
                    let new = chunk(*b"eXIf", &turned(orientation));
                    walk.go(start)?;
                    let old = walk.some((end - start).min(EXIF))?;
                    plan.replace(start..end, &old, new)?;
                }
            }
            _ if name[0].is_ascii_uppercase() || KEPT.contains(&&name) => {
                data |= name == *b"IDAT";
                plan.keep(start..end)?;
            }
            _ => {}
        }
        walk.skip_to(end)?;
        if name == *b"IEND" {
            plan.end = end;
            break;
        }
    }
    // One that ends too early but has pixels can be shown as far as it goes.
    if data { Ok(plan) } else { Err(damaged()) }
}

/// A whole chunk.
fn chunk(name: [u8; 4], content: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(content.len()).unwrap_or_default().to_be_bytes().to_vec();
    bytes.extend(name);
    bytes.extend(content);
    let sum = checksum(&bytes[4..]);
    bytes.extend(sum.to_be_bytes());
    bytes
}

/// CRC-32 as PNG has it (annex D), bit by bit: it is only ever for a few bytes.
fn checksum(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| if sum & 1 == 1 { 0xedb8_8320 ^ (sum >> 1) } else { sum >> 1 })
    })
}
