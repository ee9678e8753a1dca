//! What waits to be sent to one peer. Putting something in never waits.

use std::collections::VecDeque;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::{io, mem};

use rustix::event::{EventfdFlags, eventfd};
use wire::peer::Frame;

use super::limits::{QUEUE_BYTES_MAX, QUEUE_FRAMES_MAX, WRITE_BYTES_MAX};

/// A bounded queue whose reader sleeps in `poll`, together with its socket.
pub(super) struct Queue {
    inner: Mutex<Inner>,
    bell: Bell,
}

struct Inner {
    frames: VecDeque<(Frame, usize)>,
    bytes: usize,
    /// Whether there is a connection that it can go out on.
    is_open: bool,
    /// Whether the reader has found it empty and must be woken.
    is_awaited: bool,
    dropped: u64,
}

/// Something that wakes a thread in `poll`.
pub(super) struct Bell(OwnedFd);

impl Bell {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    pub(super) fn ring(&self) {
        // The only failure is that it rings already.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// It rings no more.
    pub(super) fn silence(&self) {
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Queue {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            inner: Mutex::new(Inner {
                frames: VecDeque::new(),
                bytes: 0,
                is_open: false,
                is_awaited: false,
                dropped: 0,
            }),
            bell: Bell::new()?,
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a frame in. False if there is no connection or no room: then it is gone.
    pub(super) fn push(&self, frame: Frame) -> bool {
        let bytes = frame.encoded_bytes();
        let mut inner = self.inner();
        let has_room = inner.frames.len() < QUEUE_FRAMES_MAX && inner.bytes + bytes <= QUEUE_BYTES_MAX;
        if !inner.is_open || !has_room {
            inner.dropped += 1;
            return false;
        }
        inner.frames.push_back((frame, bytes));
        inner.bytes += bytes;
        let must_wake = mem::take(&mut inner.is_awaited);
        drop(inner);
        if must_wake {
            self.bell.ring();
        }
        true
    }

    /// Takes frames for one write. If there is none, the next one will ring.
    pub(super) fn take(&self, into: &mut Vec<Frame>) {
        let mut inner = self.inner();
        let mut taken = 0;
        while taken < WRITE_BYTES_MAX
            && let Some((frame, bytes)) = inner.frames.pop_front()
        {
            taken += bytes;
            into.push(frame);
        }
        inner.bytes -= taken;
        inner.is_awaited = taken == 0;
    }

    /// There is a connection.
    pub(super) fn open(&self) {
        self.inner().is_open = true;
    }

    /// There is none any more: what waits is dropped, so that it can't be sent when it is stale.
    pub(super) fn close(&self) {
        let mut inner = self.inner();
        inner.is_open = false;
        inner.dropped += inner.frames.len() as u64;
        inner.frames.clear();
        inner.bytes = 0;
    }

    /// Frames that were taken and could not be sent.
    pub(super) fn lost(&self, frames: usize) {
        self.inner().dropped += frames as u64;
    }

    /// Frames and bytes that wait, and frames that were dropped so far.
    pub(super) fn figures(&self) -> (usize, usize, u64) {
        let inner = self.inner();
        (inner.frames.len(), inner.bytes, inner.dropped)
    }

    pub(super) fn bell(&self) -> &Bell {
        &self.bell
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn it_is_bounded_in_frames_and_bytes_and_keeps_nothing_stale() {
        let queue = Queue::new().unwrap();
        let small = || Frame::ControlRequest(Bytes::new());
        assert!(!queue.push(small()), "without a connection nothing waits");
        queue.open();
        for _ in 0..QUEUE_FRAMES_MAX {
            assert!(queue.push(small()));
        }
        assert!(!queue.push(small()));
        queue.close();
        queue.open();
        assert_eq!(queue.figures(), (0, 0, QUEUE_FRAMES_MAX as u64 + 2));

        let large = Frame::ControlRequest(vec![0; 1 << 20].into());
        let fitting = QUEUE_BYTES_MAX / large.encoded_bytes();
        for _ in 0..fitting {
            assert!(queue.push(large.clone()));
        }
        assert!(!queue.push(large));
        assert!(queue.push(small()), "there is room for a small one");
        let mut taken = Vec::new();
        while queue.figures().0 > 0 {
            queue.take(&mut taken);
        }
        assert_eq!(taken.len(), fitting + 1);
        assert_eq!(queue.figures().1, 0);
    }
}
