//! Starts: from a journal alone, and from a snapshot.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use types::Side;
use types::limits::BATCH_REQUEST_ITEMS_MAX;

use super::INSTRUMENTS_USUAL;
use super::fleet::BatchSession;
use super::subject::Subject;
use crate::load::{Flow, Mix};
use crate::protocol::request::{Kind, OrderRequest};
use crate::results::{Recovery, SnapshotStart};

/// Sessions that fill the journal.
const SESSIONS: usize = 8;
/// How many orders rest while they do.
const OPEN_ORDERS: usize = 20_000;
/// The same requests every time.
const SEED: u64 = 11;
/// Numbers that no order of a study has, and how many cancels are more than a small segment holds.
const NEVER_PLACED: u64 = 1 << 40;
const CANCELS_OF_A_SEGMENT: u64 = 200_000;
/// The longest that a snapshot is waited for.
const SNAPSHOT_WITHIN: Duration = Duration::from_secs(600);
/// How often the node is looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// `kill -9` and a start, with more and more commands of a realistic mix in the journal, and no snapshot.
pub fn recoveries(program: &Path, work: &Path, settings: &str, counts: &[u64]) -> Result<Vec<Recovery>> {
    let mut subject = Subject::start(program, work, settings, SESSIONS, INSTRUMENTS_USUAL)?;
    let accounts = subject.market.accounts();
    let mut flow = Flow::new(Mix::Realistic, SEED, SESSIONS, accounts, INSTRUMENTS_USUAL, OPEN_ORDERS);
    let mut recoveries = Vec::new();
    for count in counts {
        let present = subject.metric("meridian_sequence")? as u64;
        send(&subject, &mut flow, count.saturating_sub(present))?;
        let commands = subject.metric("meridian_sequence")? as u64;
        let journal_bytes = subject.metric("meridian_journal_bytes")? as u64;
        let (started, ready_seconds) = subject.kill_and_start()?;
        subject = started;
        let found = subject.metric("meridian_sequence")? as u64;
        ensure!(
            found >= commands,
            "of {commands} acknowledged commands a start found {found}"
        );
        println!("{commands:>10} commands     journal {journal_bytes:>12} bytes   ready after {ready_seconds:.2} s");
        recoveries.push(Recovery {
            commands,
            journal_bytes,
            ready_seconds,
        });
    }
    subject.stop()?;
    Ok(recoveries)
}

/// Sends so many requests in batches, as fast as they are answered.
fn send(subject: &Subject, flow: &mut Flow, count: u64) -> Result<()> {
    let market = &subject.market;
    let sessions = (0..SESSIONS).map(|trader| BatchSession::open(market, trader, &market.names));
    let mut sessions = sessions.collect::<Result<Vec<_>>>()?;
    let mut left = count as usize;
    'all: loop {
        for (index, session) in sessions.iter_mut().enumerate() {
            let items = left.min(BATCH_REQUEST_ITEMS_MAX);
            if items == 0 {
                break 'all;
            }
            let batch: Vec<OrderRequest> = (0..items).map(|_| flow.next(index as u32)).collect();
            session.send(&batch)?;
            left -= items;
        }
    }
    for session in sessions {
        session.finish()?;
    }
    Ok(())
}

/// Lets the node, with these settings, make a snapshot of all that it has, and starts it from that.
pub fn from_snapshot(subject: Subject, settings: &str) -> Result<SnapshotStart> {
    let accounts = subject.accounts();
    let open_orders = subject.open_orders()?;
    let sequence = subject.metric("meridian_sequence")? as u64;
    close_the_segment(&subject)?;
    let subject = subject.restart_with(settings)?;
    let begun = Instant::now();
    let mut rss_bytes_making = 0;
    while (subject.metric("meridian_snapshot_sequence")? as u64) < sequence {
        ensure!(
            begun.elapsed() < SNAPSHOT_WITHIN,
            "no snapshot was made in {} s",
            SNAPSHOT_WITHIN.as_secs()
        );
        rss_bytes_making = rss_bytes_making.max(subject.processes().usage()?.resident_bytes);
        std::thread::sleep(LOOK_EVERY);
    }
    let made_in_seconds = begun.elapsed().as_secs_f64();
    let covered = subject.metric("meridian_snapshot_sequence")? as u64;
    let last = subject.metric("meridian_sequence")? as u64;
    let (subject, ready_seconds) = subject.kill_and_start()?;
    let start = SnapshotStart {
        open_orders,
        accounts,
        snapshot_bytes: newest_snapshot_bytes(&subject.installation.data)?,
        commands_after: last - covered,
        ready_seconds,
        rss_bytes: subject.processes().usage()?.resident_bytes,
        open_orders_found: subject.open_orders()?,
        made_in_seconds,
        rss_bytes_making,
    };
    println!(
        "{:>10} open orders in a snapshot of {} bytes, made in {made_in_seconds:.1} s at up to {} MiB; ready after {ready_seconds:.2} s \
         with {} MiB; {} commands behind it; {} open orders found",
        start.open_orders,
        start.snapshot_bytes,
        start.rss_bytes_making >> 20,
        start.rss_bytes >> 20,
        start.commands_after,
        start.open_orders_found
    );
    ensure!(
        start.open_orders_found == open_orders,
        "{} of {open_orders} open orders were found",
        start.open_orders_found
    );
    subject.stop()?;
    Ok(start)
}

/// A snapshot holds what is in closed segments, so the one with the last orders must be closed: cancels of orders that were
/// never there fill it.
fn close_the_segment(subject: &Subject) -> Result<()> {
    let mut session = BatchSession::open(&subject.market, 0, &subject.market.names)?;
    let numbers: Vec<u64> = (NEVER_PLACED..NEVER_PLACED + CANCELS_OF_A_SEGMENT).collect();
    for batch in numbers.chunks(BATCH_REQUEST_ITEMS_MAX) {
        let cancel = |number: &u64| OrderRequest {
            number: *number,
            kind: Kind::Cancel(*number + CANCELS_OF_A_SEGMENT),
            instrument: 0,
            side: Side::Buy,
            price_ticks: 0,
            quantity_lots: 0,
        };
        let batch: Vec<OrderRequest> = batch.iter().map(cancel).collect();
        session.send(&batch)?;
    }
    session.finish()?;
    Ok(())
}

/// The largest file of those that are snapshots: the newest holds all that the older ones do.
fn newest_snapshot_bytes(data: &Path) -> Result<u64> {
    let mut largest = 0;
    let mut folders = vec![data.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if entry
                .path()
                .extension()
                .is_some_and(|extension| extension == "snapshot")
            {
                largest = largest.max(entry.metadata()?.len());
            }
        }
    }
    Ok(largest)
}
