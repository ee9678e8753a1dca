//! Three cores over real journals, whose links are a thread that hands frames over.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, unbounded};
use gateway::handle::{CoreHandle, NotAccepting, ReadFrom, SubmitError};
use replica::{Applied, PeerMessage, SnapshotPoint};
use types::{
    AccountId, Action, CancelAll, Command, EngineVersion, Epoch, Event, GroupId, Incarnation, KeyId, Sequence,
    Timestamp,
};
use wire::batch;
use wire::journal::{Identity, LogIndex, NodeId};
use wire::membership::Membership;
use wire::peer::Frame;

use super::{Core, CoreEnd, CoreEvent, CoreSettings, Peers, recover};
use crate::journal::{JournalSettings, SEGMENT_BYTES_MIN, create};
use crate::publisher::{PublishReceiver, with_room_for};
use crate::testing::Tally;

/// Longer than anything takes.
const LONG: Duration = Duration::from_secs(60);

type Cores = Arc<Mutex<BTreeMap<NodeId, Weak<Core<Tally>>>>>;

/// What one node sends goes through here, unless it is cut off.
#[derive(Clone)]
struct Lines {
    sent: Sender<(NodeId, NodeId, Frame)>,
    cores: Cores,
    cut_off: Arc<Mutex<BTreeSet<NodeId>>>,
}

impl Lines {
    fn new() -> Self {
        let (sent, came) = unbounded::<(NodeId, NodeId, Frame)>();
        let lines = Self {
            sent,
            cores: Cores::default(),
            cut_off: Arc::default(),
        };
        let (cores, cut_off) = (Arc::clone(&lines.cores), Arc::clone(&lines.cut_off));
        // Ends with the last node that holds an end of it.
        std::thread::spawn(move || {
            for (from, to, frame) in came {
                let cut = { cut_off.lock().unwrap().contains(&from) || cut_off.lock().unwrap().contains(&to) };
                let core = cores.lock().unwrap().get(&to).and_then(Weak::upgrade);
                if let Some(core) = core.filter(|_| !cut) {
                    core.tell(event_of(from, frame));
                }
            }
        });
        lines
    }
}

fn event_of(from: NodeId, frame: Frame) -> CoreEvent {
    match frame {
        Frame::Raft(message) => CoreEvent::Message(PeerMessage::try_from(message).unwrap()),
        Frame::Forward(forwards) => {
            let commands = forwards.iter();
            let commands = commands.map(|forward| (forward.token, batch::decode_command(&forward.command)));
            let commands = commands.collect();
            CoreEvent::Forwarded { from, commands }
        }
        Frame::Answers(answers) => CoreEvent::Answers { from, answers },
        other => panic!("a core sends no {:?} frame", other.kind()),
    }
}

struct Ends {
    own: NodeId,
    lines: Lines,
}

impl Peers for Ends {
    fn send(&self, to: NodeId, frame: Frame) -> bool {
        self.lines.sent.send((self.own, to, frame)).is_ok()
    }

    fn send_snapshot(&self, _: PeerMessage, _: SnapshotPoint) {
        panic!("nobody is so far behind");
    }

    fn engine_version_of(&self, _: NodeId) -> Option<EngineVersion> {
        None
    }

    fn make_snapshot(&self, _: LogIndex) -> bool {
        true
    }

    fn adopt_snapshot(&self, _: &SnapshotPoint) -> std::io::Result<()> {
        panic!("nobody is so far behind");
    }

    fn repaired(&self) {}

    fn members_changed(&self, _: &Membership) {}
}

struct Node {
    core: Arc<Core<Tally>>,
    thread: JoinHandle<CoreEnd>,
    published: PublishReceiver,
}

fn start(folder: &Path, node: u64, lines: &Lines) -> Node {
    let settings = JournalSettings {
        folder: folder.join(format!("journal-{node}")),
        identity: Identity {
            cluster: "test".parse().unwrap(),
            group: GroupId(0),
            incarnation: Incarnation(1),
            node: NodeId(node),
        },
        segment_bytes: SEGMENT_BYTES_MIN,
    };
    if !settings.folder.exists() {
        create(&settings).unwrap();
    }
    let membership = Membership::of_voters((1..=3).map(NodeId));
    let recovered = recover(&settings, Tally::default(), Applied::default(), membership, &mut |_| {}).unwrap();
    let (publish, published) = with_room_for(100_000);
    let core_settings = CoreSettings {
        epoch: Some(Epoch(1)),
        spin: Duration::ZERO,
        processor: None,
        inline_sync_max: LONG,
        gateway: false,
        repairing: false,
    };
    let own = NodeId(node);
    let peers = Box::new(Ends {
        own,
        lines: lines.clone(),
    });
    let (core, thread) = Core::start(&core_settings, recovered, publish, peers, None, |_| {}, |_| {}).unwrap();
    lines.cores.lock().unwrap().insert(own, Arc::downgrade(&core));
    Node {
        core,
        thread,
        published,
    }
}

fn command(request_id: &str) -> Command {
    Command {
        account: AccountId(2),
        key: KeyId(1),
        request_id: request_id.parse().unwrap(),
        valid_until: None,
        received_at: Timestamp(7),
        action: Action::CancelAll(CancelAll { instrument: None }),
    }
}

fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < LONG, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn leader_of(nodes: &[&Node]) -> Option<NodeId> {
    let leaders: BTreeSet<_> = nodes.iter().map(|node| node.core.group().leader).collect();
    match leaders.into_iter().collect::<Vec<_>>()[..] {
        [Some(leader)] => Some(leader),
        _ => None,
    }
}

/// What a node published, as request ids by sequence.
fn published(node: &Node, count: usize) -> Vec<(Sequence, String)> {
    let mut commands = Vec::new();
    while commands.len() < count {
        let batch = node.published.recv_timeout(LONG).unwrap();
        for index in 0..batch.commands.len() {
            let Event::ClientOrderIdBurnt { client_order_id, .. } = &batch.events_of(index)[0] else {
                panic!("a tally knows one event");
            };
            let sequence = Sequence(batch.header.first_sequence.0 + index as u64);
            commands.push((sequence, client_order_id.to_string()));
        }
    }
    commands
}

#[test]
fn commands_may_come_by_any_node_and_have_one_order_on_all() {
    let folder = tempfile::tempdir().unwrap();
    let lines = Lines::new();
    let nodes: Vec<_> = (1..=3).map(|node| start(folder.path(), node, &lines)).collect();
    let all: Vec<&Node> = nodes.iter().collect();
    wait_until("one leads", || leader_of(&all).is_some());
    wait_until("commands are taken", || {
        all.iter().all(|node| node.core.status().accepting.is_ok())
    });
    let mut pending = Vec::new();
    for at in 0..300 {
        let node = &nodes[at % 3];
        let id = format!("c-{at}");
        pending.push((id.clone(), node.core.submit(command(&id)).unwrap()));
    }
    let mut answered = BTreeMap::new();
    for (id, pending) in pending {
        let applied = pending.blocking_recv().unwrap().unwrap();
        let Event::ClientOrderIdBurnt { client_order_id, .. } = &applied.events()[0] else {
            panic!("a tally knows one event");
        };
        assert_eq!(client_order_id.to_string(), id, "each is told of its own");
        answered.insert(applied.position().sequence, id);
    }
    let expected: Vec<_> = answered.into_iter().collect();
    assert_eq!(expected.len(), 300);
    for node in &nodes {
        assert_eq!(published(node, 300), expected);
    }

    // A read by a node that does not lead begins behind everything that was acknowledged anywhere.
    let last = nodes[0]
        .core
        .submit(command("last"))
        .unwrap()
        .blocking_recv()
        .unwrap()
        .unwrap();
    for node in &nodes {
        let ReadFrom::Group(told) = node.core.read_from() else {
            panic!("a node of several asks its group");
        };
        let from = told.blocking_recv().unwrap().expect("there is a leader");
        assert!(from >= last.position().sequence);
        assert!(node.core.status().last_applied >= from);
    }

    // The leader leaves: another takes over, and goes on where it ended.
    let leader = leader_of(&all).unwrap();
    let (gone, stay): (Vec<_>, Vec<_>) = nodes.into_iter().partition(|node| node.core.group().node == leader);
    for node in gone {
        node.core.stop();
        assert!(node.thread.join().unwrap().is_graceful());
    }
    let next = stay[0]
        .core
        .submit(command("next"))
        .unwrap()
        .blocking_recv()
        .unwrap()
        .unwrap();
    assert_eq!(next.position().sequence, last.position().sequence.next());
    assert!(next.batch.header.sequenced_at >= last.batch.header.sequenced_at);
    for node in stay {
        node.core.stop();
        assert!(node.thread.join().unwrap().is_graceful());
    }
}

#[test]
fn a_leader_that_is_cut_off_answers_nothing_and_learns_what_became_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let lines = Lines::new();
    let nodes: Vec<_> = (1..=3).map(|node| start(folder.path(), node, &lines)).collect();
    let all: Vec<&Node> = nodes.iter().collect();
    wait_until("one leads", || leader_of(&all).is_some());
    let leader = leader_of(&all).unwrap();
    let (old, others): (Vec<&Node>, Vec<&Node>) = nodes.iter().partition(|node| node.core.group().node == leader);
    let first = old[0]
        .core
        .submit(command("first"))
        .unwrap()
        .blocking_recv()
        .unwrap()
        .unwrap();
    lines.cut_off.lock().unwrap().insert(leader);
    // It is sequenced there, and nobody else hears of it.
    let mut alone = old[0].core.submit(command("alone")).unwrap();
    wait_until("the others have a leader", || {
        leader_of(&others).is_some_and(|other| other != leader)
    });
    let second = others[0]
        .core
        .submit(command("second"))
        .unwrap()
        .blocking_recv()
        .unwrap()
        .unwrap();
    assert_eq!(
        second.position().sequence,
        first.position().sequence.next(),
        "what was not committed never was"
    );
    assert!(alone.try_recv().is_err());
    // Back again, it hands on what it could not bring to its end.
    lines.cut_off.lock().unwrap().clear();
    let alone = alone.blocking_recv().unwrap().unwrap();
    assert!(alone.position().sequence > second.position().sequence);
    for node in &nodes {
        let ids: Vec<_> = published(node, 3).into_iter().map(|(_, id)| id).collect();
        assert_eq!(ids, ["first", "second", "alone"]);
        node.core.stop();
    }
    for node in nodes {
        assert!(node.thread.join().unwrap().is_graceful());
    }
}

#[test]
fn a_leader_whose_disk_is_short_hands_over() {
    let folder = tempfile::tempdir().unwrap();
    let lines = Lines::new();
    let nodes: Vec<_> = (1..=3).map(|node| start(folder.path(), node, &lines)).collect();
    let all: Vec<&Node> = nodes.iter().collect();
    wait_until("one leads", || leader_of(&all).is_some());
    let leader = leader_of(&all).unwrap();
    let (old, others): (Vec<&Node>, Vec<&Node>) = nodes.iter().partition(|node| node.core.group().node == leader);
    old[0].core.block(Some(NotAccepting::DiskFull));
    wait_until("another leads", || {
        leader_of(&others).is_some_and(|other| other != leader)
    });
    let applied = others[0].core.submit(command("on")).unwrap().blocking_recv().unwrap();
    assert_eq!(applied.unwrap().position().sequence, Sequence(1));
    for node in &nodes {
        node.core.stop();
    }
    for node in nodes {
        assert!(node.thread.join().unwrap().is_graceful());
    }
}

#[test]
fn without_a_majority_commands_are_refused_in_the_end_and_nothing_is_executed() {
    let folder = tempfile::tempdir().unwrap();
    let lines = Lines::new();
    let node = start(folder.path(), 1, &lines);
    wait_until("it says that nobody leads", || {
        node.core.status().accepting == Err(NotAccepting::NotLeader)
    });
    let refused = node.core.submit(command("refused")).map(|_| ());
    assert_eq!(refused, Err(SubmitError::NotAccepting(NotAccepting::NotLeader)));
    assert_eq!(node.core.status().last_applied, Sequence(0));
    node.core.stop();
    assert!(node.thread.join().unwrap().is_graceful());
}
