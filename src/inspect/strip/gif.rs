//! GIF (version 89a): a screen, then blocks with a letter in front, and content in pieces of at most 255 bytes.

use std::io::{Read, Seek};

use super::Plan;
use crate::error::Result;
use crate::inspect::damaged;
use crate::inspect::walk::Walk;

/// Applications whose blocks say how the animation goes, or how its colours are meant.
const KEPT: &[&[u8; 11]] = &[b"NETSCAPE2.0", b"ANIMEXTS1.0", b"ICCRGBG1012"];

/// Leaves out comments, and what applications put there for themselves (XMP).
pub(super) fn plan<R: Read + Seek>(walk: &mut Walk<R>) -> Result<Plan> {
    let mut plan = Plan::new(walk.length());
    walk.skip(6)?;
    let (width, height) = (u16::from_le_bytes(walk.bytes()?), u16::from_le_bytes(walk.bytes()?));
    plan.picture.raster(width.into(), height.into());
    let flags = walk.byte()?;
    walk.skip(2 + table(flags))?;
    plan.keep(0..walk.at())?;
    let mut frames = false;
    while walk.left() > 0 {
        let start = walk.at();
        match walk.byte()? {
            // The end.
            0x3b => {
                plan.keep(start..walk.at())?;
                plan.end = walk.at();
                break;
            }
            // A picture: its place, its size, its own colours, the width of its codes.
            0x2c => {
                walk.skip(4)?;
                let (width, height) = (u16::from_le_bytes(walk.bytes()?), u16::from_le_bytes(walk.bytes()?));
                plan.picture.frame(width.into(), height.into());
                let flags = walk.byte()?;
                walk.skip(table(flags) + 1)?;
                pieces(walk)?;
                plan.keep(start..walk.at())?;
                frames = true;
            }
            // An extension.
            0x21 => {
                let kept = match walk.byte()? {
                    // How the next picture is shown, and text that is part of the picture.
                    0xf9 | 0x01 => true,
                    0xff => is_kept(walk)?,
                    _ => false,
                };
                pieces(walk)?;
                if kept {
                    plan.keep(start..walk.at())?;
                }
            }
            // Some programs write one zero too many.
            0 => plan.keep(start..walk.at())?,
            _ => return Err(damaged()),
        }
    }
    if frames { Ok(plan) } else { Err(damaged()) }
}

/// Bytes of a table of colours, as the flags in front of it say.
fn table(flags: u8) -> u64 {
    if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) }
}

/// Passes over pieces, the empty one that ends them included.
fn pieces<R: Read + Seek>(walk: &mut Walk<R>) -> Result<()> {
    loop {
        match walk.byte()? {
            0 => return Ok(()),
            size => walk.skip(size.into())?,
        }
    }
}

/// Whether an application's block, whose name is the first piece, is to be kept.
fn is_kept<R: Read + Seek>(walk: &mut Walk<R>) -> Result<bool> {
    let start = walk.at();
    let kept = walk.byte()? == 11 && KEPT.contains(&&walk.bytes::<11>()?);
    walk.go(start)?;
    Ok(kept)
}
