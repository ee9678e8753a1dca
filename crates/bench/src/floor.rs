//! The floor: what the operating system charges for the least that a durable answer needs.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;

use crate::results::{Floors, Percentiles, new_histogram};

/// Longer than any answer takes, and short enough to notice that there will be none.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// The bytes that the journal writes and syncs for one order.
pub const RECORD_BYTES: usize = 384;

/// Both, taken in turn.
pub struct Floor {
    loopback: LoopbackFloor,
    disk: DiskFloor,
    sizes: [usize; 3],
    round_trip: Histogram<u64>,
    sync: Histogram<u64>,
    both: Histogram<u64>,
}

impl Floor {
    /// With messages of these sizes; `file` is made anew, and as large as a segment of the journal.
    ///
    /// # Errors
    /// What the network or the disk says.
    pub fn new(file: &Path, request_bytes: usize, answer_bytes: usize, record_bytes: usize) -> Result<Self> {
        Ok(Self {
            loopback: LoopbackFloor::new(request_bytes, answer_bytes)?,
            disk: DiskFloor::new(file, record_bytes).context("failed to make the floor's file")?,
            sizes: [request_bytes, answer_bytes, record_bytes],
            round_trip: new_histogram(),
            sync: new_histogram(),
            both: new_histogram(),
        })
    }

    /// Takes a sample of each, which counts if `counts`.
    ///
    /// # Errors
    /// What the network or the disk says.
    pub fn take(&mut self, counts: bool) -> Result<()> {
        let start = Instant::now();
        self.loopback.round_trip()?;
        let round_trip = start.elapsed();
        self.disk.sync()?;
        let both = start.elapsed();
        if counts {
            record(&mut self.round_trip, round_trip);
            record(&mut self.sync, both.saturating_sub(round_trip));
            record(&mut self.both, both);
        }
        Ok(())
    }

    /// What was taken so far.
    pub fn floors(&self) -> Floors {
        let [request_bytes, answer_bytes, record_bytes] = self.sizes.map(|bytes| bytes as u64);
        Floors {
            round_trip: Percentiles::of(&self.round_trip),
            sync: Percentiles::of(&self.sync),
            both: Percentiles::of(&self.both),
            request_bytes,
            answer_bytes,
            record_bytes,
        }
    }
}

/// Adds a sample to a histogram of nanoseconds.
pub fn record(histogram: &mut Histogram<u64>, took: Duration) {
    histogram.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
}

/// A server that answers so many bytes with so many others, on a thread of its own, and its client.
struct LoopbackFloor {
    stream: TcpStream,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl LoopbackFloor {
    fn new(request_bytes: usize, answer_bytes: usize) -> Result<Self> {
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

    fn round_trip(&mut self) -> Result<()> {
        self.stream.write_all(&self.request)?;
        self.stream.read_exact(&mut self.answer)?;
        Ok(())
    }
}

/// A zero-filled file, written and synced a record at a time from front to back, as the journal does.
struct DiskFloor {
    file: File,
    record: Vec<u8>,
    at: u64,
}

const FILE_BYTES: u64 = 64 << 20;

impl DiskFloor {
    fn new(path: &Path, record_bytes: usize) -> Result<Self> {
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

    fn sync(&mut self) -> Result<()> {
        self.file.write_all_at(&self.record, self.at)?;
        self.file.sync_data()?;
        self.at = (self.at + self.record.len() as u64) % (FILE_BYTES - self.record.len() as u64);
        Ok(())
    }
}
