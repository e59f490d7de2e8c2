//! Writing over what a file tells, where it stands. Some containers say by places in the file where their parts are: nothing can
//! be taken out of them without moving all the rest. So the file keeps its length, and every other byte its place and its value.

use std::io::{Read, Seek};
use std::ops::Range;

use super::Plan;
use crate::error::Result;
use crate::inspect::boxes::Atom;
use crate::inspect::damaged;
use crate::inspect::picture::Picture;
use crate::inspect::walk::Walk;

/// Places to write over, at most.
const TOLD: usize = 5_000;
/// Places that must stay as they are, at most.
const SHOWN: usize = 1 << 18;

/// What is written over, and what must not be.
#[derive(Debug, Default)]
pub(super) struct Over {
    /// Where, and with what; zeros follow it.
    told: Vec<(Range<u64>, Vec<u8>)>,
    /// What the picture is made of.
    shown: Vec<Range<u64>>,
}

impl Over {
    /// Writes this at the beginning of a range, and zeros behind it. What does not fit is left out.
    pub fn write(&mut self, range: Range<u64>, mut beginning: Vec<u8>) -> Result<()> {
        let room = range.end.saturating_sub(range.start);
        beginning.truncate(usize::try_from(room).unwrap_or(usize::MAX));
        if self.told.len() == TOLD {
            return Err(damaged());
        }
        if room > 0 {
            self.told.push((range, beginning));
        }
        Ok(())
    }

    /// Writes zeros.
    pub fn blank(&mut self, range: Range<u64>) -> Result<()> {
        self.write(range, Vec::new())
    }

    /// Makes room of a box that nobody needs: it has another name, and nothing in it.
    pub fn free(&mut self, atom: &Atom) -> Result<()> {
        self.write(atom.start + 4..atom.start + 8, b"free".to_vec())?;
        self.blank(atom.content.clone())
    }

    /// Nothing is written over this.
    pub fn spare(&mut self, range: Range<u64>) -> Result<()> {
        if self.shown.len() == SHOWN {
            return Err(damaged());
        }
        self.shown.push(range);
        Ok(())
    }

    /// Whether there is something to write over.
    pub fn is_needed(&self) -> bool {
        !self.told.is_empty()
    }

    /// The file with all of this written over it. If something of it belongs to the picture the file contradicts itself, and is
    /// refused: nobody gets a picture that was damaged here.
    pub fn plan<R: Read + Seek>(mut self, walk: &mut Walk<R>, picture: Picture) -> Result<Plan> {
        self.told.sort_by_key(|(range, _)| (range.start, range.end));
        let mut told: Vec<(Range<u64>, Vec<u8>)> = Vec::new();
        for (range, beginning) in self.told {
            match told.last_mut() {
                // The same bytes may be known by two names.
                Some(last) if *last == (range.clone(), beginning.clone()) => {}
                Some((last, written)) if range.start < last.end => {
                    if !(written.is_empty() && beginning.is_empty()) {
                        return Err(damaged());
                    }
                    last.end = last.end.max(range.end);
                }
                _ => told.push((range, beginning)),
            }
        }
        for shown in &self.shown {
            let next = told.partition_point(|(range, _)| range.end <= shown.start);
            if told.get(next).is_some_and(|(range, _)| range.start < shown.end) {
                return Err(damaged());
            }
        }
        let mut plan = Plan::new(walk.length());
        plan.picture = picture;
        let mut at = 0;
        for (range, beginning) in told {
            walk.go(range.start)?;
            if walk.is(&beginning, range.end - range.start)? {
                continue;
            }
            plan.keep(at..range.start)?;
            let zeros = range.end - range.start - u64::try_from(beginning.len()).map_err(|_| damaged())?;
            if !beginning.is_empty() {
                plan.put(beginning)?;
            }
            plan.zeros(zeros)?;
            at = range.end;
        }
        plan.keep(at..walk.length())?;
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn written(told: &[(Range<u64>, &[u8])], shown: &[Range<u64>]) -> Option<Vec<u8>> {
        let file = b"0123456789";
        let mut over = Over::default();
        for (range, beginning) in told {
            over.write(range.clone(), beginning.to_vec()).expect("few");
        }
        for range in shown {
            over.spare(range.clone()).expect("few");
        }
        let plan = over.plan(&mut Walk::new(Cursor::new(file)).expect("reads"), Picture::default()).ok()?;
        let mut new = Vec::new();
        plan.write(Cursor::new(file), &mut new).expect("written");
        assert_eq!(plan.changes(), new != file);
        Some(new)
    }

    #[test]
    fn what_is_told_is_written_over_and_nothing_else() {
        let new = |told: &[(Range<u64>, &[u8])]| written(told, &[]).expect("a plan");
        assert_eq!(new(&[]), b"0123456789");
        assert_eq!(new(&[(2..5, b"")]), b"01\0\0\x0056789");
        assert_eq!(new(&[(5..10, b"x"), (0..2, b"abcd")]), b"ab234x\0\0\0\0");
        assert_eq!(new(&[(2..4, b""), (4..6, b"")]), b"01\0\0\0\x006789");
        assert_eq!(new(&[(2..4, b""), (3..6, b""), (2..4, b"")]), b"01\0\0\0\x006789");
        assert_eq!(new(&[(2..4, b"x"), (2..4, b"x"), (3..3, b"y")]), b"01x\x00456789");
        // As it is already.
        assert_eq!(new(&[(2..4, b"23")]), b"0123456789");
        assert_eq!(written(&[(2..6, b"x"), (4..6, b"")], &[]), None);
        assert_eq!(written(&[(2..4, b"x"), (2..4, b"y")], &[]), None);
    }

    #[test]
    fn the_picture_is_not_written_over() {
        for (shown, good) in [
            (vec![0..2, 4..9], true),
            (vec![8..9, 0..1, 6..7], true),
            (vec![0..1, 3..4], false),
            (vec![0..3, 5..6], false),
            (vec![0..10, 0..1], false),
            (vec![2..4, 7..8], false),
            (vec![5..6, 4..10], false),
        ] {
            assert_eq!(written(&[(2..4, b""), (9..10, b"")], &shown).is_some(), good, "{shown:?}");
        }
    }
}
