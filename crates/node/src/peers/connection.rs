//! One TLS connection and the frames on it. Used by one thread, which both reads and writes.

use std::collections::VecDeque;
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::net::sockopt::set_tcp_user_timeout;
use wire::peer::{FRAME_HEADER_BYTES, Frame, FrameError, FrameHeader, FrameKind, Refusal, decode, decode_header};

use super::limits::{ENCRYPT_BYTES_MAX, READ_BYTES_MAX, UNACKNOWLEDGED_MS_MAX, WRITE_STALL_MAX};
use super::tls::explain;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{}", explain(.0))]
    Tls(#[from] rustls::Error),
    #[error("it sent what is no frame: {0}")]
    Frame(#[from] FrameError),
    #[error("it refuses this node: {}", .0.text)]
    RefusedByPeer(Refusal),
    #[error("it was refused: {}", .0.text)]
    Refused(Refusal),
    #[error("{0} took longer than {1:?}")]
    TimedOut(&'static str, Duration),
    #[error("it closed the connection")]
    Closed,
    #[error("{0}")]
    Broken(String),
}

/// A connection.
pub(super) struct Connection {
    tls: rustls::Connection,
    socket: TcpStream,
    /// Bytes as they come from the socket.
    encrypted: Box<[u8]>,
    reading: Reading,
    /// Frames that were read and not yet taken.
    frames: VecDeque<Frame>,
    /// Whether the other side has said who it is, and we have believed it.
    is_known: bool,
    has_ended: bool,
    /// What came and went, in bytes of frames.
    pub(super) bytes_read: u64,
}

enum Reading {
    Header {
        bytes: [u8; FRAME_HEADER_BYTES],
        filled: usize,
    },
    Payload {
        header: FrameHeader,
        bytes: Vec<u8>,
    },
}

impl Reading {
    const START: Self = Self::Header {
        bytes: [0; FRAME_HEADER_BYTES],
        filled: 0,
    };
}

impl Connection {
    pub(super) fn new(tls: rustls::Connection, socket: TcpStream) -> Result<Self, LinkError> {
        socket.set_nodelay(true)?;
        socket.set_write_timeout(Some(WRITE_STALL_MAX))?;
        set_tcp_user_timeout(&socket, UNACKNOWLEDGED_MS_MAX).map_err(io::Error::from)?;
        Ok(Self {
            tls,
            socket,
            encrypted: vec![0; READ_BYTES_MAX].into(),
            reading: Reading::START,
            frames: VecDeque::new(),
            is_known: false,
            has_ended: false,
            bytes_read: 0,
        })
    }

    pub(super) fn tls(&self) -> &rustls::Connection {
        &self.tls
    }

    pub(super) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// From here on frames of all kinds are read.
    pub(super) fn set_known(&mut self) {
        self.is_known = true;
    }

    /// Shakes hands.
    pub(super) fn handshake(&mut self, until: Instant, limit: Duration) -> Result<(), LinkError> {
        let timed_out = || LinkError::TimedOut("the handshake", limit);
        while self.tls.is_handshaking() {
            self.flush()?;
            if !self.tls.is_handshaking() {
                break;
            }
            self.wait_until(until).map_err(|_| timed_out())?;
            if !self.receive_or_time_out()? {
                return Err(timed_out());
            }
            if self.has_ended && self.tls.is_handshaking() {
                return Err(LinkError::Closed);
            }
        }
        self.flush()
    }

    /// The next frame, which must come in time. With it, other frames may have come.
    pub(super) fn expect_frame(&mut self, until: Instant, limit: Duration) -> Result<Frame, LinkError> {
        let timed_out = || LinkError::TimedOut("the greeting", limit);
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return Ok(frame);
            }
            if self.has_ended {
                return Err(LinkError::Closed);
            }
            self.wait_until(until).map_err(|_| timed_out())?;
            if !self.receive_or_time_out()? {
                return Err(timed_out());
            }
        }
    }

    /// Lets reads wait no longer than until then.
    fn wait_until(&self, until: Instant) -> io::Result<()> {
        let left = until.saturating_duration_since(Instant::now());
        // A time-out of zero is refused by the standard library: then it is late already.
        self.socket.set_read_timeout(Some(left))
    }

    /// Lets reads wait no longer than this.
    pub(super) fn set_silence_max(&self, limit: Duration) -> Result<(), LinkError> {
        Ok(self.socket.set_read_timeout(Some(limit))?)
    }

    /// Reads what there is, and waits for it if there is nothing. False if nothing came in time.
    pub(super) fn receive_or_time_out(&mut self) -> Result<bool, LinkError> {
        let count = loop {
            match self.socket.read(&mut self.encrypted) {
                Ok(count) => break count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_time_out(&error) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        };
        if count == 0 {
            self.tls.read_tls(&mut io::empty())?;
            self.decrypt()?;
            self.has_ended = true;
            return Ok(true);
        }
        let mut from = 0;
        // What follows a goodbye is nothing.
        while from < count && !self.has_ended {
            from += self.tls.read_tls(&mut &self.encrypted[from..count])?;
            self.decrypt()?;
        }
        if self.tls.wants_write() {
            self.flush()?;
        }
        Ok(true)
    }

    /// The next frame that was read.
    pub(super) fn next_frame(&mut self) -> Option<Frame> {
        self.frames.pop_front()
    }

    /// True if nothing more will come, and the other side said so.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    fn decrypt(&mut self) -> Result<(), LinkError> {
        if let Err(error) = self.tls.process_new_packets() {
            // The other side is told why, if it still listens.
            let _ = self.tls.write_tls(&mut self.socket);
            return Err(error.into());
        }
        loop {
            let mut reader = self.tls.reader();
            let plain = match reader.fill_buf() {
                Ok([]) => {
                    self.has_ended = true;
                    return Ok(());
                }
                Ok(plain) => plain,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // Without a goodbye: its process or its system ended.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(LinkError::Closed),
                Err(error) => return Err(error.into()),
            };
            let count = plain.len();
            take_apart(&mut self.reading, plain, self.is_known, &mut self.frames)?;
            self.bytes_read += count as u64;
            reader.consume(count);
        }
    }

    /// Writes all of it, encrypted.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        self.tls.set_buffer_limit(None);
        for part in bytes.chunks(ENCRYPT_BYTES_MAX) {
            self.tls.writer().write_all(part)?;
            self.flush()?;
        }
        Ok(())
    }

    /// Writes a frame.
    pub(super) fn write_frame(&mut self, frame: &Frame) -> Result<usize, LinkError> {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes)?;
        self.write(&bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), LinkError> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.socket) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_time_out(&error) => return Err(LinkError::TimedOut("a write", WRITE_STALL_MAX)),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Says goodbye: nothing more will be written. What the other side still writes can be read.
    pub(super) fn close_sending(&mut self) {
        self.tls.send_close_notify();
        let _ = self.flush();
        let _ = self.socket.shutdown(Shutdown::Write);
    }
}

fn is_time_out(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Takes frames out of bytes as they come. Each payload has an allocation of its own, of exactly its size, so that an
/// entry that is kept keeps nothing else.
fn take_apart(
    reading: &mut Reading,
    mut bytes: &[u8],
    is_known: bool,
    frames: &mut VecDeque<Frame>,
) -> Result<(), LinkError> {
    loop {
        match reading {
            Reading::Header { bytes: header, filled } => {
                let count = bytes.len().min(FRAME_HEADER_BYTES - *filled);
                header[*filled..*filled + count].copy_from_slice(&bytes[..count]);
                bytes = &bytes[count..];
                *filled += count;
                if *filled < FRAME_HEADER_BYTES {
                    return Ok(());
                }
                let header = decode_header(header)?;
                if !is_known && !matches!(header.kind, FrameKind::Hello | FrameKind::Refused) {
                    let kind = header.kind.name();
                    return Err(LinkError::Broken(format!(
                        "it sent a {kind} frame before it said who it is"
                    )));
                }
                *reading = Reading::Payload {
                    header,
                    bytes: Vec::with_capacity(header.payload_bytes),
                };
            }
            Reading::Payload { header, bytes: payload } => {
                let count = bytes.len().min(header.payload_bytes - payload.len());
                payload.extend_from_slice(&bytes[..count]);
                bytes = &bytes[count..];
                if payload.len() < header.payload_bytes {
                    return Ok(());
                }
                let payload = Bytes::from(std::mem::take(payload));
                frames.push_back(decode(header, payload)?);
                *reading = Reading::START;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_however_the_bytes_come() {
        let frames: Vec<Frame> = (0..20)
            .map(|index| Frame::ControlRequest(vec![index; usize::from(index) * 7].into()))
            .collect();
        let mut bytes = Vec::new();
        frames.iter().for_each(|frame| frame.encode(&mut bytes).unwrap());
        for step in [1, 2, 11, 12, 13, 100, bytes.len()] {
            let (mut reading, mut found) = (Reading::START, VecDeque::new());
            for part in bytes.chunks(step) {
                take_apart(&mut reading, part, true, &mut found).unwrap();
            }
            assert!(found == frames, "in steps of {step}");
        }
        let mut reading = Reading::START;
        let refused = take_apart(&mut reading, &bytes, false, &mut VecDeque::new());
        assert!(refused.unwrap_err().to_string().contains("before it said who it is"));
    }
}
