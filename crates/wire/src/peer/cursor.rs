//! Takes a payload apart, front to back, without copying.

use bytes::Bytes;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::FrameError;

pub(super) struct Cursor(Bytes);

impl Cursor {
    pub(super) fn new(payload: Bytes) -> Self {
        Self(payload)
    }

    pub(super) fn remaining(&self) -> usize {
        self.0.len()
    }

    /// A fixed layout.
    pub(super) fn layout<T: FromBytes + KnownLayout + Immutable + Unaligned>(&mut self) -> Result<T, FrameError> {
        let (layout, _) = T::read_from_prefix(&self.0).map_err(|_| FrameError::Cut)?;
        let _ = self.0.split_to(size_of::<T>());
        Ok(layout)
    }

    /// A run of bytes.
    pub(super) fn bytes(&mut self, count: usize) -> Result<Bytes, FrameError> {
        if count > self.0.len() {
            return Err(FrameError::Cut);
        }
        Ok(self.0.split_to(count))
    }

    /// All that is left.
    pub(super) fn rest(self) -> Bytes {
        self.0
    }

    /// Nothing may be left.
    pub(super) fn end(self) -> Result<(), FrameError> {
        match self.0.len() {
            0 => Ok(()),
            bytes => Err(FrameError::TrailingBytes(bytes)),
        }
    }
}

/// A payload that is one fixed layout.
pub(super) fn whole<T: FromBytes + KnownLayout + Immutable + Unaligned>(payload: Bytes) -> Result<T, FrameError> {
    let mut cursor = Cursor::new(payload);
    let layout = cursor.layout()?;
    cursor.end()?;
    Ok(layout)
}

/// A length as it is written. That it fits was checked with the frame's length.
pub(super) fn length(count: usize) -> u32 {
    u32::try_from(count).expect("a frame's length fits")
}
