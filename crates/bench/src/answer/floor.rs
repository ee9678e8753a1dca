//! The floor: what the operating system charges for the least that a durable answer needs.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::Result;

use super::ANSWER_WITHIN;

/// A server that answers so many bytes with so many others, on a thread of its own, and its client.
pub struct LoopbackFloor {
    stream: TcpStream,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl LoopbackFloor {
    pub fn new(request_bytes: usize, answer_bytes: usize) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let stream = TcpStream::connect(listener.local_addr()?)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        let (mut served, _) = listener.accept()?;
        served.set_nodelay(true)?;
        // It ends when the client's end is closed.
        std::thread::spawn(move || {
            let mut request = vec![0; request_bytes];
            let answer = vec![b'a'; answer_bytes];
            while served.read_exact(&mut request).is_ok() && served.write_all(&answer).is_ok() {}
        });
        Ok(Self {
            stream,
            request: vec![b'r'; request_bytes],
            answer: vec![0; answer_bytes],
        })
    }

    pub fn round_trip(&mut self) -> Result<()> {
        self.stream.write_all(&self.request)?;
        self.stream.read_exact(&mut self.answer)?;
        Ok(())
    }
}

/// A zero-filled file, written and synced a record at a time from front to back, as the journal does.
pub struct DiskFloor {
    file: File,
    record: Vec<u8>,
    at: u64,
}

const FILE_BYTES: u64 = 64 << 20;

impl DiskFloor {
    pub fn new(path: &Path, record_bytes: usize) -> Result<Self> {
        let file = OpenOptions::new().create(true).truncate(true).write(true).open(path)?;
        let zeros = vec![0; 1 << 20];
        for megabyte in 0..FILE_BYTES >> 20 {
            file.write_all_at(&zeros, megabyte << 20)?;
        }
        file.sync_all()?;
        Ok(Self {
            file,
            record: vec![7; record_bytes],
            at: 0,
        })
    }

    pub fn sync(&mut self) -> Result<()> {
        self.file.write_all_at(&self.record, self.at)?;
        self.file.sync_data()?;
        self.at = (self.at + self.record.len() as u64) % (FILE_BYTES - self.record.len() as u64);
        Ok(())
    }
}
