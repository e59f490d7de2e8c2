//! Boxes of ISO base media files (ISO/IEC 14496-12, 4.2), which pictures (HEIF, AVIF) and films (MP4, `QuickTime`) are made of: a
//! length, a name of four letters, and content, which may be boxes again.

use std::io::{Read, Seek};
use std::ops::Range;

use super::walk::Walk;
use crate::error::Result;

/// Boxes of one box that are looked at.
const BOXES: usize = 20_000;

/// A box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Atom {
    pub name: [u8; 4],
    /// Where it begins, with its length.
    pub start: u64,
    pub content: Range<u64>,
}

/// The boxes of a range.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Boxes {
    pub all: Vec<Atom>,
    /// Whether there is nothing but boxes in it, and all of them are here. A few bytes at the end do not count.
    pub whole: bool,
}

impl Boxes {
    /// Those of this name.
    pub fn named<'a>(&'a self, name: &'a [u8; 4]) -> impl Iterator<Item = &'a Atom> {
        self.all.iter().filter(move |atom| atom.name == *name)
    }

    /// Those of this name, and what is in them.
    pub fn within<R: Read + Seek>(&self, walk: &mut Walk<R>, name: [u8; 4]) -> Result<Self> {
        let mut inner = Self { all: Vec::new(), whole: true };
        for atom in self.named(&name) {
            let more = list(walk, atom.content.clone())?;
            inner.all.extend(more.all);
            inner.whole &= more.whole;
        }
        Ok(inner)
    }
}

/// What stands one after the other in a range of the file. Ends where there is something that is no box.
pub(super) fn list<R: Read + Seek>(walk: &mut Walk<R>, range: Range<u64>) -> Result<Boxes> {
    let mut boxes = Boxes::default();
    if range.start > range.end || range.end > walk.length() {
        return Ok(boxes);
    }
    walk.go(range.start)?;
    while boxes.all.len() < BOXES {
        let Some(atom) = next(walk, range.end)? else {
            boxes.whole = range.end - boxes.all.last().map_or(range.start, |last| last.content.end) < 8;
            break;
        };
        walk.skip_to(atom.content.end)?;
        boxes.all.push(atom);
    }
    Ok(boxes)
}

/// The box here, if it ends there or before.
fn next<R: Read + Seek>(walk: &mut Walk<R>, end: u64) -> Result<Option<Atom>> {
    let start = walk.at();
    let room = end - start;
    if room < 8 {
        return Ok(None);
    }
    let (short, name) = (u32::from_be_bytes(walk.bytes()?), walk.bytes()?);
    let size = match short {
        // As far as it goes.
        0 => room,
        1 if room >= 16 => u64::from_be_bytes(walk.bytes()?),
        _ => short.into(),
    };
    let fits = size >= walk.at() - start && size <= room;
    Ok(fits.then(|| Atom { name, start, content: walk.at()..start + size }))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::super::samples::boxed;
    use super::*;

    fn listed(bytes: &[u8]) -> (Vec<(String, Range<u64>)>, bool) {
        let mut walk = Walk::new(Cursor::new(bytes)).expect("reads");
        let boxes = list(&mut walk, 0..u64::try_from(bytes.len()).expect("short")).expect("reads");
        let name = |atom: &Atom| String::from_utf8_lossy(&atom.name).into_owned();
        (boxes.all.iter().map(|atom| (name(atom), atom.content.clone())).collect(), boxes.whole)
    }

    #[test]
    fn boxes_stand_one_after_the_other() {
        let first = boxed(b"ftyp", &[b"1234"]);
        let wide = [b"\0\0\0\x01mdat\0\0\0\0\0\0\0\x12".as_slice(), b"ab"].concat();
        let open = b"\0\0\0\0free---".to_vec();
        let ftyp = ("ftyp".to_owned(), 8..12);
        assert_eq!(listed(&[]), (vec![], true));
        assert_eq!(listed(&first), (vec![ftyp.clone()], true));
        assert_eq!(listed(&[first.as_slice(), &[0; 4]].concat()), (vec![ftyp.clone()], true));
        let all = vec![ftyp.clone(), ("mdat".to_owned(), 28..30), ("free".to_owned(), 38..41)];
        assert_eq!(listed(&[first.as_slice(), &wide, &open].concat()), (all, true));
        for odd in [
            b"\0\0\0\x07free1234".as_slice(),
            b"\0\0\0\x0dfree1234",
            b"\0\0\0\x01free1234",
            b"\0\0\0\x01free\0\0\0\0\0\0\0\x0f",
            b"\0\0\0\x01free\xff\xff\xff\xff\xff\xff\xff\xff",
        ] {
            assert_eq!(listed(&[first.as_slice(), odd].concat()), (vec![ftyp.clone()], false), "{odd:?}");
        }
    }

    #[test]
    fn boxes_are_counted() {
        let many = boxed(b"free", &[]).repeat(BOXES + 1);
        let (all, whole) = listed(&many);
        assert_eq!((all.len(), whole), (BOXES, false));
    }

    #[test]
    fn a_range_that_is_none_has_none() {
        let mut walk = Walk::new(Cursor::new(boxed(b"free", &[]))).expect("reads");
        let (back, beyond) = (Range { start: 8, end: 4 }, 0..9);
        for range in [back, beyond] {
            assert_eq!(list(&mut walk, range).expect("reads"), Boxes::default());
        }
    }
}
