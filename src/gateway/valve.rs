//! The valve of a connection: whether its client takes what it is sent, and the means to cut it off.
//!
//! A client that stops reading fills the kernel's buffers and then blocks the writer of its connection. The valve notices
//! that at the stream itself, so that frames wait in our own bounded queue, where they are shared and counted, and not in
//! the queues of the layers between. Cutting ends the transport as a lost network would: a client of Socket.IO then comes
//! back by itself, which it does not when the server says good-bye.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

/// Bytes that may wait in the queue of a writer of ours before it counts as blocked.
const QUEUED: usize = 64 << 10;
/// A queue is looked at this often even if nobody says that there is room.
const LOOK: Duration = Duration::from_millis(50);

/// Shared by a connection and its stream.
#[derive(Debug, Default)]
pub struct Valve {
    blocked: AtomicBool,
    queued: AtomicUsize,
    is_cut: AtomicBool,
    reader: AtomicWaker,
    writer: AtomicWaker,
    freed: Notify,
    cut_asked: Notify,
    /// The stream is gone.
    over: Notify,
}

impl Valve {
    /// Whether the client does not take what it is sent right now.
    pub fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Relaxed) || self.queued.load(Ordering::Relaxed) > QUEUED
    }

    /// This much was handed to a writer of ours.
    pub fn hand_over(&self, bytes: usize) {
        self.queued.fetch_add(bytes, Ordering::Relaxed);
    }

    /// It has written this much.
    pub fn written(&self, bytes: usize) {
        self.queued.fetch_sub(bytes, Ordering::Relaxed);
        self.freed.notify_one();
    }

    /// Waits until there may be room, not for long.
    pub async fn freed(&self) {
        let _ = tokio::time::timeout(LOOK, self.freed.notified()).await;
    }

    /// Ends the transport.
    pub fn cut(&self) {
        self.is_cut.store(true, Ordering::Release);
        self.reader.wake();
        self.writer.wake();
        self.cut_asked.notify_one();
    }

    /// Waits until the transport is to end. For one task only.
    pub async fn cut_asked(&self) {
        self.cut_asked.notified().await;
    }

    /// Waits until the stream is gone. For one task only.
    pub async fn over(&self) {
        self.over.notified().await;
    }

    fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Acquire)
    }
}

/// A stream with a valve.
#[derive(Debug)]
pub struct Gated<S> {
    stream: S,
    valve: Arc<Valve>,
}

impl<S> Drop for Gated<S> {
    fn drop(&mut self) {
        self.valve.over.notify_one();
    }
}

impl<S> Gated<S> {
    /// Puts the valve on a stream.
    pub const fn new(stream: S, valve: Arc<Valve>) -> Self {
        Self { stream, valve }
    }

    /// Notes whether a write went through.
    fn note<T>(&self, write: Poll<T>) -> Poll<T> {
        if write.is_pending() {
            self.valve.blocked.store(true, Ordering::Relaxed);
        } else if self.valve.blocked.swap(false, Ordering::Relaxed) {
            self.valve.freed.notify_one();
        }
        write
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gated<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.valve.reader.register(cx.waker());
        if self.valve.is_cut() {
            // As if the other end had gone.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gated<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.valve.writer.register(cx.waker());
        if self.valve.is_cut() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.valve.writer.register(cx.waker());
        if self.valve.is_cut() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.note(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.valve.writer.register(cx.waker());
        if self.valve.is_cut() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.valve.writer.register(cx.waker());
        if self.valve.is_cut() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_client_that_does_not_read_is_noticed_and_can_be_cut_off() {
        let (ours, mut theirs) = tokio::io::duplex(8);
        let valve = Arc::<Valve>::default();
        let (mut reads, mut writes) = tokio::io::split(Gated::new(ours, valve.clone()));
        writes.write_all(b"12345678").await.expect("it fits");
        assert!(!valve.is_blocked());
        let mut more = Box::pin(writes.write_all(b"9"));
        assert!(futures_util::poll!(&mut more).is_pending());
        assert!(valve.is_blocked());
        theirs.read_exact(&mut [0; 8]).await.expect("read");
        more.await.expect("there is room");
        assert!(!valve.is_blocked());

        let mut buffer = [0; 1];
        let mut read = Box::pin(reads.read(&mut buffer));
        assert!(futures_util::poll!(&mut read).is_pending());
        valve.cut();
        assert_eq!(read.await.expect("an end"), 0);
        assert!(writes.write_all(b"x").await.is_err());
    }
}
