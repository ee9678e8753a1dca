//! When a request's first byte was read: a wrapper around a connection that looks at the clock when bytes come in.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use types::Timestamp;

use crate::handle::CoreHandle;
use crate::stages::Stage;

/// What a handler may know of the connection that a request came on. Travels in the request's extensions.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The other end.
    pub peer: IpAddr,
    /// When bytes came in.
    pub stamps: Arc<ReadStamps>,
}

/// When the present request's first byte was read. Travels in the request's extensions.
#[derive(Clone, Copy, Debug)]
pub struct ReceivedAt(pub Timestamp);

/// When bytes came in on a connection. One task reads and writes it; a WebSocket session may read it from another.
#[derive(Debug, Default)]
pub struct ReadStamps {
    /// The first byte of the next request; 0 if none came yet.
    first: AtomicU64,
    /// The last bytes.
    last: AtomicU64,
    /// 1 while a request is being answered: what comes in then is its body, or is taken for the next request's.
    answering: AtomicU64,
    /// When the request's command had been applied; 0 if it has none.
    applied: AtomicU64,
    /// When the answer to a command was written as text; 0 if none waits to be sent.
    built: AtomicU64,
    /// When the first byte of that answer's request was read.
    built_received: AtomicU64,
}

impl ReadStamps {
    /// When bytes came in last.
    pub fn last(&self) -> Timestamp {
        Timestamp(self.last.load(Ordering::Relaxed))
    }

    /// Bytes came in.
    fn read(&self, now: Timestamp) {
        self.last.store(now.0, Ordering::Relaxed);
        if self.answering.load(Ordering::Relaxed) == 0 && self.first.load(Ordering::Relaxed) == 0 {
            self.first.store(now.0, Ordering::Relaxed);
        }
    }

    /// A request's head is complete: when did its first byte come? One that came together with the request before it
    /// (pipelining) was read when bytes came in last.
    pub(crate) fn begin(&self) -> Timestamp {
        self.answering.store(1, Ordering::Relaxed);
        match self.first.swap(0, Ordering::Relaxed) {
            0 => self.last(),
            first => Timestamp(first),
        }
    }

    /// The request's command had been applied then.
    pub(crate) fn applied(&self, at: Timestamp) {
        self.applied.store(at.0, Ordering::Relaxed);
    }

    /// The request was answered. When its command had been applied, if it was.
    pub(crate) fn end(&self) -> Option<Timestamp> {
        self.answering.store(0, Ordering::Relaxed);
        let applied_at = self.applied.swap(0, Ordering::Relaxed);
        (applied_at != 0).then_some(Timestamp(applied_at))
    }

    /// The answer to a command was written as text, and goes to the connection next.
    pub(crate) fn built(&self, received_at: Timestamp, now: Timestamp) {
        self.built_received.store(received_at.0, Ordering::Relaxed);
        self.built.store(now.0, Ordering::Relaxed);
    }

    /// Something was written: the answer, if one waited.
    fn written(&self, core: &dyn CoreHandle) {
        if self.built.load(Ordering::Relaxed) == 0 {
            return;
        }
        let built_at = Timestamp(self.built.swap(0, Ordering::Relaxed));
        let received_at = Timestamp(self.built_received.load(Ordering::Relaxed));
        let (now, stages) = (core.now(), core.stages());
        stages.record(Stage::Write, now.since_ns(built_at));
        stages.record(Stage::Total, now.since_ns(received_at));
    }
}

/// A connection that stamps what it reads, and ends when what it writes isn't read for too long.
pub(crate) struct StampedStream<S> {
    inner: S,
    stamps: Arc<ReadStamps>,
    core: Arc<dyn CoreHandle>,
    /// For writes that wait for room.
    writing: Patience,
    /// For what was written and waits below, in the buffer of TLS. Plain TCP has none.
    flushing: Patience,
}

/// How long something may wait.
struct Patience {
    timeout: Duration,
    /// Runs while it waits.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    fn new(timeout: Duration) -> Self {
        Self { timeout, waiting: None }
    }

    /// Passes a result on, or an error once there has been none for too long.
    fn watch<T>(&mut self, context: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.waiting = None;
            return result;
        }
        let timeout = self.timeout;
        let waiting = self
            .waiting
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        match waiting.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S> StampedStream<S> {
    pub(crate) fn new(inner: S, stamps: Arc<ReadStamps>, core: Arc<dyn CoreHandle>, write_timeout: Duration) -> Self {
        Self {
            inner,
            stamps,
            core,
            writing: Patience::new(write_timeout),
            flushing: Patience::new(write_timeout),
        }
    }

    /// Passes a write's result on, or an error once writes have waited for too long.
    fn watch_write<T>(&mut self, context: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            // There was room, so something has left.
            self.flushing.waiting = None;
            self.stamps.written(&*self.core);
        }
        self.writing.watch(context, result)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for StampedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.inner).poll_read(context, buffer);
        if result.is_ready() && buffer.filled().len() > before {
            self.stamps.read(self.core.now());
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for StampedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.watch_write(context, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_flush(context);
        self.flushing.watch(context, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_shutdown(context);
        self.flushing.watch(context, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(context, buffers);
        self.watch_write(context, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_stamped_by_its_first_byte() {
        let stamps = ReadStamps::default();
        stamps.read(Timestamp(10));
        stamps.read(Timestamp(11));
        assert_eq!(stamps.begin(), Timestamp(10), "the head came in two reads");
        stamps.read(Timestamp(12));
        stamps.end();
        stamps.read(Timestamp(20));
        assert_eq!(
            stamps.begin(),
            Timestamp(20),
            "the body's stamp is not the next request's"
        );
        stamps.end();
        assert_eq!(
            stamps.begin(),
            Timestamp(20),
            "a pipelined request came with the bytes before it"
        );
    }
}
