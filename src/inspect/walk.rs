//! Going through a container from its beginning, without having the whole of it in memory.

use std::io::{BufRead as _, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::ops::Range;

use super::{damaged, disk};
use crate::error::Result;

/// A place in a file, and the way on from there. What ends too early is damaged.
pub(super) struct Walk<R> {
    inner: BufReader<R>,
    at: u64,
    length: u64,
}

impl<R: Read + Seek> Walk<R> {
    pub fn new(mut file: R) -> Result<Self> {
        let length = file.seek(SeekFrom::End(0)).map_err(disk)?;
        file.rewind().map_err(disk)?;
        Ok(Self { inner: BufReader::with_capacity(32 * 1024, file), at: 0, length })
    }

    /// Where we are.
    pub fn at(&self) -> u64 {
        self.at
    }

    pub fn length(&self) -> u64 {
        self.length
    }

    /// Bytes from here to the end.
    pub fn left(&self) -> u64 {
        self.length - self.at
    }

    pub fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    pub fn byte(&mut self) -> Result<u8> {
        self.bytes::<1>().map(|[byte]| byte)
    }

    /// So many bytes; the caller has seen to it that they are few.
    pub fn some(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > self.left() {
            return Err(damaged());
        }
        let mut bytes = vec![0; usize::try_from(size).map_err(|_| damaged())?];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.inner.read_exact(bytes).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => damaged(),
            _ => disk(error),
        })?;
        self.at += u64::try_from(bytes.len()).map_err(|_| damaged())?;
        Ok(())
    }

    /// Leaves out so many bytes, which must be there.
    pub fn skip(&mut self, size: u64) -> Result<()> {
        if size > self.left() {
            return Err(damaged());
        }
        self.inner.seek_relative(i64::try_from(size).map_err(|_| damaged())?).map_err(disk)?;
        self.at += size;
        Ok(())
    }

    /// Goes on to there, which must not lie behind.
    pub fn skip_to(&mut self, place: u64) -> Result<()> {
        self.skip(place.checked_sub(self.at).ok_or_else(damaged)?)
    }

    /// Goes there, back or forth. What is near is not read again.
    pub fn go(&mut self, place: u64) -> Result<()> {
        if place > self.length {
            return Err(damaged());
        }
        let distance = i64::try_from(place.abs_diff(self.at)).map_err(|_| damaged())?;
        self.inner.seek_relative(if place < self.at { -distance } else { distance }).map_err(disk)?;
        self.at = place;
        Ok(())
    }

    /// Whether so many bytes are this, and zeros behind it. Stops anywhere if they are not.
    pub fn is(&mut self, beginning: &[u8], size: u64) -> Result<bool> {
        let end = self.ahead(size)?.end;
        for byte in beginning {
            if self.byte()? != *byte {
                return Ok(false);
            }
        }
        while self.at < end {
            let buffer = self.inner.fill_buf().map_err(disk)?;
            let left = usize::try_from(end - self.at).unwrap_or(usize::MAX);
            let piece = &buffer[..buffer.len().min(left)];
            if piece.is_empty() {
                return Err(damaged());
            }
            let passed = piece.len();
            let zeros = piece.iter().all(|byte| *byte == 0);
            self.inner.consume(passed);
            self.at += u64::try_from(passed).map_err(|_| damaged())?;
            if !zeros {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Goes on to the next such byte, or to the end.
    pub fn find(&mut self, wanted: u8) -> Result<bool> {
        loop {
            let buffer = self.inner.fill_buf().map_err(disk)?;
            if buffer.is_empty() {
                return Ok(false);
            }
            let found = buffer.iter().position(|byte| *byte == wanted);
            let passed = found.unwrap_or(buffer.len());
            self.inner.consume(passed);
            self.at += u64::try_from(passed).map_err(|_| damaged())?;
            if found.is_some() {
                return Ok(true);
            }
        }
    }

    /// The range of so many bytes from here on, if they are there.
    pub fn ahead(&self, size: u64) -> Result<Range<u64>> {
        let end = self.at.checked_add(size).filter(|end| *end <= self.length).ok_or_else(damaged)?;
        Ok(self.at..end)
    }
}
