//! A node in a temporary folder, with the demo's instruments and accounts.

use std::path::Path;
use std::sync::Arc;

use gateway::handle::{Applied, History, SubmitError};
use node::assembly::{Node, Stopped};
use node::config::{Config, Size};
use node::data_folder::DataFolder;
use node::demo::{self, DemoFile, DemoKey};
use node::new_cluster;
use node::replay::{JournalSource as _, Replay};
use node::snapshots::SnapshotFolder;
use types::{
    Action, AppliedBatch, Command, Event, InstrumentId, KeyId, NewOrder, OrderType, Price, Quantity, RequestId,
    SelfTradePrevention, Sequence, Side, StateMachine as _, TimeInForce,
};

/// A node and what is needed to ask it.
pub struct World {
    pub node: Node,
    pub file: DemoFile,
}

/// Small files, so that little is enough to fill several of them.
pub fn config() -> Config {
    let mut config = Config::default();
    config.journal.segment_size = Size(2 << 20);
    config.snapshots.journal_size = Size(2 << 20);
    config.events.segment_size = Size(1 << 20);
    config.events.memory_size_max = Size(64 << 10);
    config.disk.free_alarm = Size(2);
    config.disk.free_min = Size(1);
    config
}

impl World {
    /// A new one.
    pub fn create(path: &Path) -> Self {
        let (folder, identity) = new_cluster::create(path, "test".parse().unwrap(), &config()).unwrap();
        let file = DemoFile::generate(identity.cluster);
        file.write(&folder).unwrap();
        folder.finish(&identity).unwrap();
        drop(folder);
        Self::open(path)
    }

    /// The one that is there.
    pub fn open(path: &Path) -> Self {
        let (folder, identity) = DataFolder::open(path).unwrap();
        let mut file = DemoFile::read(&folder).unwrap();
        let node = Node::start(folder, identity, &config()).unwrap();
        demo::complete(&*node.core(), &*node.events(), node.folder(), &mut file).unwrap();
        Self { node, file }
    }

    /// A participant's key.
    pub fn key(&self, name: &str) -> DemoKey {
        self.file.participant(name).unwrap().clone()
    }

    /// Hands commands over and waits for all answers.
    pub fn submit(&self, commands: Vec<Command>) -> Vec<Applied> {
        let core = self.node.core();
        let mut pending = Vec::new();
        for command in commands {
            loop {
                match core.submit(command.clone()) {
                    Ok(answer) => break pending.push(answer),
                    Err(SubmitError::Busy { .. }) => std::thread::yield_now(),
                    Err(error) => panic!("{error}"),
                }
            }
        }
        let answers = pending
            .into_iter()
            .map(|answer| answer.blocking_recv().unwrap().unwrap());
        answers.collect()
    }

    /// Stops it.
    pub fn stop(self) -> Stopped {
        self.node.stop()
    }
}

/// An order in BTC-USD, near its first price, so that every other one trades.
pub fn order(key: &DemoKey, index: u64) -> Command {
    let side = if index.is_multiple_of(2) { Side::Buy } else { Side::Sell };
    let offset = i64::try_from(index % 17).unwrap() - 8;
    Command {
        account: key.account_id(),
        key: KeyId(key.key),
        request_id: request_id(index),
        valid_until: None,
        received_at: types::Timestamp(index),
        action: Action::Place(NewOrder {
            instrument: InstrumentId(0),
            scale_version: 1,
            side,
            order_type: OrderType::Limit,
            time_in_force: TimeInForce::Gtc,
            price: Price(5_000_000 + offset),
            quantity: Quantity(10 + offset),
            post_only: false,
            self_trade_prevention: SelfTradePrevention::CancelOldest,
        }),
    }
}

fn request_id(index: u64) -> RequestId {
    format!("order-{index}").parse().unwrap()
}

/// Everything that the event log has, but for when it saw the commits.
pub fn history(log: &dyn History) -> Vec<AppliedBatch> {
    let mut batches = Vec::new();
    let mut next = log.first();
    while next <= log.last() {
        for batch in log.read(next, 1 << 20).unwrap() {
            next = batch.header.last_sequence().next();
            batches.push(AppliedBatch {
                committed_at: None,
                ..(*batch).clone()
            });
        }
    }
    batches
}

/// Waits until the event log has what the core has applied.
pub fn published(node: &Node) -> Arc<node::event_log::EventLog> {
    let (core, log) = (node.core(), node.events());
    while log.last() < core.status().last_applied {
        std::thread::yield_now();
    }
    log
}

/// The last sequence of the journal, and the hash of the state that a replay from nothing comes to.
pub fn replayed(node: &Node) -> (Sequence, u64) {
    let nowhere = SnapshotFolder {
        folder: "nowhere".into(),
        identity: *node.journal().identity(),
        founder: wire::membership::FOUNDER,
    };
    let journal = node.journal();
    let mut replay = Replay::<engine::Exchange>::start(&nowhere, Sequence(0), journal.quarantined()).unwrap();
    let end = journal.durable_sequence();
    let read = journal.read(replay.applied().index, end, &mut |entry| {
        replay.apply(entry)?;
        Ok(true)
    });
    read.unwrap();
    replay.check_whole().unwrap();
    (replay.applied().sequence, replay.machine().state_hash())
}

/// The answers' first events, with where they were sequenced.
pub fn answers(applied: &[Applied]) -> Vec<(Sequence, Event)> {
    let answer = |applied: &Applied| (applied.position().sequence, applied.events()[0].clone());
    applied.iter().map(answer).collect()
}
