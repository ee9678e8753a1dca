//! WebSocket frames (RFC 6455): a client's are written whole and masked, a server's are read as they come in.

use crate::random::Random;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// Text, whole.
    Text,
    /// "Are you there?", to be answered with the same bytes.
    Ping,
    /// The answer to that.
    Pong,
    /// The end of the session.
    Close,
    /// Anything that the exchange never sends: parts of messages, binary, reserved.
    Unexpected(u8),
}

const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;
const TEXT: u8 = 1;
const PONG: u8 = 10;

/// Writes a client's frame with a text that `write` appends.
pub fn push_text(out: &mut Vec<u8>, random: &mut Random, write: impl FnOnce(&mut Vec<u8>)) {
    push_frame(out, TEXT, random, write);
}

/// Writes the answer to a ping.
pub fn push_pong(out: &mut Vec<u8>, random: &mut Random, payload: &[u8]) {
    push_frame(out, PONG, random, |out| out.extend_from_slice(payload));
}

fn push_frame(out: &mut Vec<u8>, opcode: u8, random: &mut Random, write: impl FnOnce(&mut Vec<u8>)) {
    // Most payloads of ours have the middle one of the three lengths; the others move by a few bytes.
    const HEADER: usize = 8;
    let start = out.len();
    out.extend_from_slice(&[0; HEADER]);
    write(out);
    let length = out.len() - start - HEADER;
    let mask = (random.any() as u32).to_be_bytes();
    for (index, byte) in out[start + HEADER..].iter_mut().enumerate() {
        *byte ^= mask[index % 4];
    }
    let mut header = vec![FINAL | opcode];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short), _) if short < 126 => header.push(MASKED | short),
        (_, Ok(medium)) => {
            header.push(MASKED | 126);
            header.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            header.push(MASKED | 127);
            header.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    header.extend_from_slice(&mask);
    out.splice(start..start + HEADER, header);
}

/// A server's frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it carries.
    pub opcode: Opcode,
    /// That.
    pub payload: &'a [u8],
    /// How many bytes the whole frame took.
    pub bytes: usize,
}

/// The first frame of what was read; none while it is not whole.
pub fn first_frame(input: &[u8]) -> Option<Frame<'_>> {
    let [first, second, rest @ ..] = input else {
        return None;
    };
    let (length, header) = match second & !MASKED {
        126 => (usize::from(u16::from_be_bytes(*rest.first_chunk()?)), 4),
        127 => (usize::try_from(u64::from_be_bytes(*rest.first_chunk()?)).ok()?, 10),
        short => (usize::from(short), 2),
    };
    let bytes = length.checked_add(header)?;
    let payload = input.get(header..bytes)?;
    let opcode = match first {
        0x81 => Opcode::Text,
        0x88 => Opcode::Close,
        0x89 => Opcode::Ping,
        0x8a => Opcode::Pong,
        other => Opcode::Unexpected(*other),
    };
    let opcode = if second & MASKED == 0 {
        opcode
    } else {
        Opcode::Unexpected(*second)
    };
    Some(Frame { opcode, payload, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;
    use tungstenite::protocol::{Role, WebSocket};
    use tungstenite::{Bytes, Message};

    #[test]
    fn a_server_reads_what_was_written() {
        let mut random = Random(7);
        for length in [0, 1, 125, 126, 127, 300, 65_535, 65_536, 70_000] {
            let text: String = (0..length).map(|index| char::from(b'a' + (index % 26) as u8)).collect();
            let mut bytes = Vec::new();
            push_text(&mut bytes, &mut random, |out| out.extend_from_slice(text.as_bytes()));
            push_pong(&mut bytes, &mut random, b"there");
            let mut server = WebSocket::from_raw_socket(Cursor::new(bytes), Role::Server, None);
            assert_eq!(server.read().unwrap(), Message::text(text));
            assert_eq!(server.read().unwrap(), Message::Pong(Bytes::from_static(b"there")));
        }
    }

    #[test]
    fn frames_are_read_however_they_are_cut() {
        let mut server = WebSocket::from_raw_socket(Cursor::new(Vec::new()), Role::Server, None);
        let lengths = [0, 1, 125, 126, 300, 65_535, 65_536];
        for length in lengths {
            server.write(Message::text("x".repeat(length))).unwrap();
        }
        server.write(Message::Ping(Bytes::from_static(b"alive"))).unwrap();
        server.close(None).unwrap();
        server.flush().unwrap();
        let bytes = server.get_ref().get_ref().clone();
        let mut at = 0;
        let mut seen = Vec::new();
        for end in 0..=bytes.len() {
            while let Some(frame) = first_frame(&bytes[at..end]) {
                at += frame.bytes;
                seen.push((frame.opcode, frame.payload.len()));
            }
        }
        let mut wanted: Vec<_> = lengths.into_iter().map(|length| (Opcode::Text, length)).collect();
        wanted.extend([(Opcode::Ping, 5), (Opcode::Close, 0)]);
        assert_eq!((seen, at), (wanted, bytes.len()));
    }
}
