//! What a batch in the journal costs beyond one bare write and `fdatasync` of the same bytes, both measured in turn in one
//! run on the same disk.
//!
//! `cargo run --release -p node --example journal_cost -- FOLDER [ROUNDS]`

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use node::journal::{Journal, JournalSettings, create};
use replica::{Applied, Record};
use types::{BatchHeader, Command, Epoch, GroupId, Incarnation, Timestamp};
use wire::batch::BatchEncoder;
use wire::journal::{Identity, NodeId, RecordKind, Term, record_bytes};

const SEGMENT_BYTES: u64 = 64 << 20;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().context("say in which folder")?);
    let rounds: usize = arguments.next().map_or(Ok(5_000), |rounds| rounds.parse())?;
    let run = folder.join(format!("journal-cost-{}", std::process::id()));
    let settings = JournalSettings {
        folder: run.join("journal"),
        identity: Identity {
            cluster: "cost".parse()?,
            group: GroupId(0),
            incarnation: Incarnation(1),
            node: NodeId(1),
        },
        segment_bytes: SEGMENT_BYTES,
    };
    create(&settings)?;
    let (mut journal, _) = Journal::open(&settings, Applied::default(), &mut |_| Ok(()))?;
    let bare = OpenOptions::new().create_new(true).write(true).open(run.join("bare"))?;
    bare.write_all_at(&vec![0; usize::try_from(SEGMENT_BYTES)?], 0)?;
    bare.sync_all()?;
    // The first segment's file is ready only after its zeros are written.
    append(&mut journal, 1)?;

    println!("commands   bytes   floor p50   p99      journal p50   p99      p50 ratio");
    for commands in [1, 10, 100, 1_000] {
        let (mut floor, mut cost) = (Vec::new(), Vec::new());
        let mut offset = 0;
        let bytes = record_bytes(encode(&journal, commands).payload.len());
        let block = vec![7; bytes];
        for _ in 0..rounds {
            let started = Instant::now();
            bare.write_all_at(&block, offset)?;
            bare.sync_data()?;
            floor.push(started.elapsed());
            offset += bytes as u64;
            if offset + bytes as u64 > SEGMENT_BYTES {
                offset = 0;
            }
            cost.push(append(&mut journal, commands)?);
        }
        let (floor_p50, floor_p99) = percentiles(&mut floor);
        let (cost_p50, cost_p99) = percentiles(&mut cost);
        println!(
            "{commands:>8}  {bytes:>6}   {floor_p50:>7.1}us {floor_p99:>7.1}us   {cost_p50:>7.1}us {cost_p99:>7.1}us      {:.2}",
            cost_p50 / floor_p50
        );
    }
    println!("{:?}", journal.figures());
    journal.close()?;
    std::fs::remove_dir_all(&run)?;
    Ok(())
}

fn encode(journal: &Journal, commands: u64) -> Record {
    let end = journal.end();
    let mut encoder = BatchEncoder::new();
    for at in 0..commands {
        let mut command = Command::clock(Timestamp(at));
        command.request_id = "client-order-0001".parse().expect("it is one");
        encoder.push(&command).expect("a thousand small commands fit");
    }
    let first_sequence = end.sequence.next();
    let (header, payload) = encoder.finish(BatchHeader {
        epoch: Epoch(1),
        first_sequence,
        ..BatchHeader::default()
    });
    Record {
        kind: RecordKind::Batch,
        epoch: Epoch(1),
        term: Term(1),
        index: end.index.next(),
        first_sequence,
        last_sequence: header.last_sequence(),
        chain: end.chain.behind(Epoch(1), first_sequence, &payload),
        payload: payload.into(),
    }
}

/// From the commands to the durable record: encoding, chain and checksum are part of the cost.
fn append(journal: &mut Journal, commands: u64) -> anyhow::Result<Duration> {
    let started = Instant::now();
    let record = encode(journal, commands);
    journal.append(&[record])?;
    journal.sync()?;
    Ok(started.elapsed())
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn percentiles(times: &mut [Duration]) -> (f64, f64) {
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_nanos() as f64 / 1_000.0;
    (at(50), at(99))
}
