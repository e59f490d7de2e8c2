//! Films and recordings (ISO/IEC 14496-12, `QuickTime`): what they say of the place where they were taken. It stands beside the
//! tracks, in boxes of several makers: a box of its own (`©xyz` of Apple and Android, `loci` of 3GPP), an entry under a name of
//! many words in a list, or a block of XMP. Each is turned into room that nobody uses.
//!
//! What is written as a track of its own, along with the pictures (as action cameras do), is part of the film and stays.

use std::collections::BTreeSet;
use std::io::{Read, Seek};

use super::over::Over;
use crate::error::Result;
use crate::inspect::boxes::{self, Atom, Boxes};
use crate::inspect::walk::Walk;

/// Boxes that say where it was, and blocks of XMP, which may.
const PLACES: &[&[u8; 4]] = &[b"\xa9xyz", b"loci", b"XMP_"];
/// What a box is called that has a name of 16 bytes, and that name if it has XMP in it.
const NAMED: &[u8; 4] = b"uuid";
const XMP: [u8; 16] = *b"\xbe\x7a\xcf\xcb\x97\xa9\x42\xe8\x9c\x71\x99\x94\x91\xe3\xaf\xac";
/// What the name of an entry in a list has in it if it says where it was.
const LOCATION: &[u8] = b"location";
/// Names of entries that are looked at, and bytes of each.
const KEYS: u32 = 4096;
const KEY: u64 = 256;
/// Boxes in boxes: a film, its tracks, what the user has there, a list, its entries.
const DEPTH: usize = 5;

/// Writes over what says where it was.
pub(super) fn over<R: Read + Seek>(walk: &mut Walk<R>) -> Result<Over> {
    let mut over = Over::default();
    let file = boxes::list(walk, 0..walk.length())?;
    movie(walk, &file, &mut over)?;
    for meta in file.named(b"meta") {
        list(walk, meta, &mut over)?;
    }
    Ok(over)
}

/// The same for what is in a film's box, and for XMP beside it.
pub(super) fn movie<R: Read + Seek>(walk: &mut Walk<R>, file: &Boxes, over: &mut Over) -> Result<()> {
    for atom in file.all.iter().filter(|atom| [b"moov", NAMED].contains(&&atom.name)) {
        see(walk, atom, 0, over)?;
    }
    Ok(())
}

fn see<R: Read + Seek>(walk: &mut Walk<R>, atom: &Atom, depth: usize, over: &mut Over) -> Result<()> {
    match &atom.name {
        name if PLACES.contains(&name) => over.free(atom),
        NAMED => {
            let is_xmp = atom.content.end - atom.content.start >= 16 && {
                walk.go(atom.content.start)?;
                walk.bytes()? == XMP
            };
            if is_xmp { over.free(atom) } else { Ok(()) }
        }
        b"meta" => list(walk, atom, over),
        b"moov" | b"trak" | b"udta" if depth < DEPTH => {
            let inner = boxes::list(walk, atom.content.clone())?;
            inner.all.iter().try_for_each(|atom| see(walk, atom, depth + 1, over))
        }
        _ => Ok(()),
    }
}

/// A list of what is said of something: entries that go by a box's name, or by a number in a table of names.
fn list<R: Read + Seek>(walk: &mut Walk<R>, meta: &Atom, over: &mut Over) -> Result<()> {
    let mut content = meta.content.clone();
    if content.end - content.start < 8 {
        return Ok(());
    }
    walk.go(content.start)?;
    // QuickTime has boxes at once, others have a version first, which is nothing.
    if walk.bytes()? == [0; 4] {
        content.start += 4;
    }
    let inner = boxes::list(walk, content)?;
    let mut places = BTreeSet::new();
    for keys in inner.named(b"keys") {
        named(walk, keys, &mut places)?;
    }
    let entries = inner.within(walk, *b"ilst")?;
    for entry in entries.all.iter().chain(&inner.all) {
        if PLACES.contains(&&entry.name) || places.contains(&entry.name) {
            over.free(entry)?;
        }
    }
    Ok(())
}

/// Adds the names of those boxes whose entry in a table says that they are a place.
fn named<R: Read + Seek>(walk: &mut Walk<R>, keys: &Atom, places: &mut BTreeSet<[u8; 4]>) -> Result<()> {
    let end = keys.content.end;
    if end - keys.content.start < 8 {
        return Ok(());
    }
    walk.go(keys.content.start)?;
    walk.skip(4)?;
    let count = u32::from_be_bytes(walk.bytes()?);
    for number in 1..=count.min(KEYS) {
        let start = walk.at();
        if end - start < 8 {
            break;
        }
        let size = u64::from(u32::from_be_bytes(walk.bytes()?));
        if size < 8 || size > end - start {
            break;
        }
        walk.skip(4)?;
        let name = walk.some((size - 8).min(KEY))?.to_ascii_lowercase();
        if name.windows(LOCATION.len()).any(|window| window == LOCATION) {
            places.insert(number.to_be_bytes());
        }
        walk.skip_to(start + size)?;
    }
    Ok(())
}
