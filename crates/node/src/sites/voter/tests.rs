//! Tests of voters: by hand on a clock of the test's own, each with a real store, and once with their threads.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;

use replica::HardState;
use types::limits::BATCHES_IN_FLIGHT_MAX;
use types::{Epoch, RegionId, Sequence, Timestamp};
use wire::site::{Durability, LeaseCommand, LeaseRefusal, LeaseState, Renewal};

use super::super::store::{self, Store};
use super::*;

const VOTERS: [NodeId; 3] = [NodeId(1), NodeId(11), WITNESS];
const WITNESS: NodeId = NodeId(99);
/// Who asks.
const ASKER: NodeId = NodeId(5);
const DRIFT_PPM: u32 = 1_000;
const LEASE_NS: u64 = 4_000_000_000;
const WHOLE_NS: u64 = 4_004_000_000;
const TICK_NS: u64 = 50_000_000;

enum Sent {
    Raft(RaftMessage),
    Site(SiteMessage),
}

struct Node {
    seat: Seat,
    store: Store,
    installs: u32,
}

/// Three voters, whose messages arrive at once and in order, or not at all.
struct World {
    _folder: tempfile::TempDir,
    folders: BTreeMap<NodeId, PathBuf>,
    nodes: BTreeMap<NodeId, Node>,
    now: Elapsed,
    under_way: VecDeque<(NodeId, NodeId, Sent)>,
    cut_off: BTreeSet<NodeId>,
    last_id: u64,
    answers: BTreeMap<u64, (Result<(), LeaseRefusal>, LeaseView)>,
}

fn start(folder: &std::path::Path, node: NodeId) -> (Node, HardState) {
    let identity = super::super::lease_identity("test".parse().unwrap(), node);
    let (store, kept) = Store::open(folder, identity, &Membership::of_voters(VOTERS)).unwrap();
    let hard_state = kept.hard_state;
    let seat = Seat::new(identity, &VOTERS, WITNESS, DRIFT_PPM, kept).unwrap();
    let node = Node {
        seat,
        store,
        installs: 0,
    };
    (node, hard_state)
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let folders = VOTERS.map(|node| (node, folder.path().join(node.to_string())));
        let nodes = folders.iter().map(|(node, path)| {
            store::found(path).unwrap();
            (*node, start(path, *node).0)
        });
        Self {
            nodes: nodes.collect(),
            _folder: folder,
            folders: BTreeMap::from(folders),
            now: Elapsed(1_000_000_000),
            under_way: VecDeque::new(),
            cut_off: BTreeSet::new(),
            last_id: 0,
            answers: BTreeMap::new(),
        }
    }

    fn with_leader() -> Self {
        let mut world = Self::new();
        world.tick(30);
        assert_eq!(world.leader(), Some(WITNESS));
        world
    }

    fn moment(&self) -> Moment {
        Moment {
            elapsed: self.now,
            now: Now {
                utc: Timestamp(self.now.0),
                clock_error_bound_ns: 1,
            },
        }
    }

    /// Lets one do something, and does what comes of it, but for sending.
    fn with(&mut self, node: NodeId, what: impl FnOnce(&mut Seat, Moment, &mut Vec<Action>)) {
        let moment = self.moment();
        let running = self.nodes.get_mut(&node).unwrap();
        let mut actions = Vec::new();
        what(&mut running.seat, moment, &mut actions);
        let mut actions = VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            let Node { seat, store, installs } = &mut *running;
            let mut more = Vec::new();
            match action {
                Action::Append(records) => store.append(&records).unwrap(),
                Action::Truncate(after) => store.truncate(after).unwrap(),
                Action::Sync(ticket) => {
                    store.sync().unwrap();
                    seat.persisted(moment, ticket, &mut more);
                }
                Action::Repaired => compact(seat, store),
                Action::Install(kept) => {
                    *installs += 1;
                    let (point, state) = (kept.point.clone(), kept.state.clone());
                    store.install(point, state, kept.hard_state, kept.repairing).unwrap();
                    seat.installed(*kept).unwrap();
                }
                Action::Send(to, message) => self.under_way.push_back((node, to, Sent::Site(message))),
                Action::SendRaft(to, message) => self.under_way.push_back((node, to, Sent::Raft(message))),
                Action::Stop(reason) => panic!("node {node} stopped: {reason}"),
            }
            actions.extend(more);
        }
    }

    fn deliver(&mut self) {
        while let Some((from, to, sent)) = self.under_way.pop_front() {
            // Whoever asks is beside whom it asks.
            if to != ASKER && (self.cut_off.contains(&from) || self.cut_off.contains(&to)) {
                continue;
            }
            match sent {
                Sent::Site(SiteMessage::LeaseAnswer { id, done, view }) => {
                    assert_eq!(to, ASKER);
                    assert!(self.answers.insert(id, (done, view)).is_none(), "answered once");
                }
                Sent::Site(message) => self.with(to, |seat, moment, out| seat.message(moment, from, message, out)),
                Sent::Raft(message) => self.with(to, |seat, moment, out| seat.raft(moment, from, message, out)),
            }
        }
    }

    fn tick(&mut self, ticks: u32) {
        for _ in 0..ticks {
            self.now = self.now.plus_ns(TICK_NS);
            for node in VOTERS {
                self.with(node, |seat, moment, out| seat.tick(moment, out));
            }
            self.deliver();
        }
    }

    /// Who leads among those that are not cut off. There may be only one.
    fn leader(&self) -> Option<NodeId> {
        let leads = |node: &NodeId| !self.cut_off.contains(node) && self.nodes[node].seat.leads();
        let leaders: Vec<NodeId> = VOTERS.into_iter().filter(leads).collect();
        assert!(leaders.len() <= 1, "{leaders:?}");
        leaders.first().copied()
    }

    fn ask(&mut self, voter: NodeId, command: Option<LeaseCommand>) -> Option<(Result<(), LeaseRefusal>, LeaseView)> {
        self.last_id += 1;
        let id = self.last_id;
        self.with(voter, |seat, moment, out| {
            seat.message(moment, ASKER, SiteMessage::LeaseAsk { id, command }, out);
        });
        self.deliver();
        self.answers.remove(&id)
    }

    /// Has the leader do it.
    fn done(&mut self, command: LeaseCommand) -> Result<(), LeaseRefusal> {
        let leader = self.leader().unwrap();
        self.ask(leader, Some(command)).unwrap().0
    }

    fn restart(&mut self, node: NodeId) -> HardState {
        self.nodes.remove(&node);
        let (running, hard_state) = start(&self.folders[&node], node);
        self.nodes.insert(node, running);
        hard_state
    }

    fn state(&self, node: NodeId) -> LeaseState {
        self.nodes[&node].seat.view(self.now).state
    }

    #[track_caller]
    fn agree(&self) -> LeaseState {
        let state = self.state(VOTERS[0]);
        for node in VOTERS {
            assert_eq!(self.state(node), state, "of {node}");
        }
        state
    }
}

fn compact(seat: &Seat, store: &mut Store) {
    let kept = seat.to_keep();
    store.compact(kept.point, kept.state, kept.repairing).unwrap();
}

fn found_by(region: u16) -> LeaseCommand {
    LeaseCommand::Found {
        region: RegionId(region),
        lease_ns: LEASE_NS,
    }
}

fn renewal(region: u16, epoch: u64, committed: u64) -> LeaseCommand {
    LeaseCommand::Renew(Renewal {
        region: RegionId(region),
        epoch: epoch_of(epoch),
        lease_ns: LEASE_NS,
        committed: Sequence(committed),
        committed_at: Timestamp(1),
        change: None,
        after: None,
    })
}

fn epoch_of(epoch: u64) -> Epoch {
    Epoch(epoch.try_into().unwrap())
}

fn promotion(region: u16, renewals: u64) -> LeaseCommand {
    LeaseCommand::Promote {
        region: RegionId(region),
        epoch: Epoch(1),
        renewals,
        epoch_at: Epoch(1),
        at: Sequence(10),
        lag_max: None,
        by_operator: false,
    }
}

#[test]
fn the_witness_waits_the_shortest_and_nobody_as_long_as_another() {
    let ticks = VOTERS.map(|node| seat::election_ticks(node, WITNESS, &VOTERS));
    assert_eq!(ticks, [25, 30, 20]);
}

#[test]
fn one_leads_and_others_say_who() {
    let mut world = World::with_leader();
    for node in [VOTERS[0], VOTERS[1]] {
        let (done, view) = world.ask(node, Some(found_by(1))).unwrap();
        assert_eq!(done, Err(LeaseRefusal::NotLeader { leader: Some(WITNESS) }));
        assert_eq!((view.leader, view.leads, view.remaining_ns), (Some(WITNESS), false, 0));
    }
    assert_eq!(world.done(found_by(1)), Ok(()));
    assert_eq!(world.done(found_by(2)), Err(LeaseRefusal::Founded));
    assert_eq!(world.done(renewal(1, 1, 10)), Ok(()));
    world.tick(2);
    let state = world.agree();
    assert_eq!((state.active, state.renewals), (Some(RegionId(1)), 1));
    assert_eq!((state.committed, state.durability), (Sequence(10), Durability::Region));
    // A look goes to anyone.
    let (done, view) = world.ask(VOTERS[1], None).unwrap();
    assert_eq!((done, view.state), (Ok(()), state));
}

#[test]
fn leadership_goes_back_to_the_witness_but_not_while_nobody_renews_and_not_all_the_time() {
    let mut world = World::with_leader();
    world.done(found_by(1)).unwrap();
    let lose_the_witness = |world: &mut World| {
        world.cut_off.insert(WITNESS);
        world.tick(60);
        let leader = world.leader().unwrap();
        assert_ne!(leader, WITNESS);
        world.cut_off.clear();
        world.tick(20);
        assert_eq!(world.leader(), Some(leader), "a look alone moves nothing");
    };
    lose_the_witness(&mut world);
    world.done(renewal(1, 1, 1)).unwrap();
    world.tick(1);
    let handed_over_at = world.now;
    world.tick(1);
    assert_eq!(world.leader(), Some(WITNESS));
    lose_the_witness(&mut world);
    while world.now.since(handed_over_at) < 9_900_000_000 {
        world.done(renewal(1, 1, 1)).unwrap();
        world.tick(1);
        assert_ne!(world.leader(), Some(WITNESS), "not twice within ten seconds");
    }
    for _ in 0..4 {
        let leader = world.leader().unwrap();
        world.ask(leader, Some(renewal(1, 1, 1)));
        world.tick(1);
    }
    assert_eq!(world.leader(), Some(WITNESS));
}

#[test]
fn nobody_is_promoted_before_the_lease_has_lapsed_for_certain() {
    let mut world = World::with_leader();
    world.done(found_by(1)).unwrap();
    for committed in 1..=10 {
        world.tick(4);
        world.done(renewal(1, 1, committed)).unwrap();
    }
    let renewed_at = world.now;
    let held = |remaining_ns| Err(LeaseRefusal::Held { remaining_ns });
    assert_eq!(world.done(promotion(2, 10)), held(WHOLE_NS));
    world.tick(40);
    assert_eq!(world.done(promotion(2, 10)), held(WHOLE_NS - 40 * TICK_NS));
    let (_, view) = world.ask(WITNESS, None).unwrap();
    assert_eq!((view.leads, view.remaining_ns), (true, WHOLE_NS - 40 * TICK_NS));
    world.now = renewed_at.plus_ns(WHOLE_NS - 1);
    assert_eq!(world.done(promotion(2, 10)), held(1));
    world.now = renewed_at.plus_ns(WHOLE_NS);
    assert_eq!(world.done(promotion(2, 9)), Err(LeaseRefusal::Renewed));
    assert_eq!(world.done(promotion(2, 10)), Ok(()));
    assert_eq!(world.done(renewal(1, 1, 11)), Err(LeaseRefusal::NotActive));
    world.tick(2);
    assert_eq!(world.agree().active, Some(RegionId(2)));
    // The promoted one has a whole lease to begin in.
    let (_, view) = world.ask(WITNESS, None).unwrap();
    assert_eq!(view.remaining_ns, WHOLE_NS - 2 * TICK_NS);
}

#[test]
fn a_new_leader_of_the_group_waits_for_a_whole_lease_of_its_own() {
    let mut world = World::with_leader();
    world.done(found_by(1)).unwrap();
    world.done(renewal(1, 1, 10)).unwrap();
    // Nearly over at the old leader, which knows that it can't tell any more once it is cut off.
    world.tick(79);
    world.cut_off.insert(WITNESS);
    while world.leader().is_none() {
        world.tick(1);
    }
    let leader = world.leader().unwrap();
    assert_eq!(
        world.done(promotion(2, 1)),
        Err(LeaseRefusal::Held { remaining_ns: WHOLE_NS })
    );
    world.tick(80);
    assert_eq!(world.leader(), Some(leader));
    assert_eq!(
        world.done(promotion(2, 1)),
        Err(LeaseRefusal::Held {
            remaining_ns: WHOLE_NS - 80 * TICK_NS
        })
    );
    world.tick(1);
    assert_eq!(world.done(promotion(2, 1)), Ok(()));
    // The one that was cut off neither leads nor tells.
    world.cut_off.clear();
    let (_, view) = world.ask(WITNESS, None).unwrap();
    assert_eq!((view.leads, view.remaining_ns), (false, 0));
    world.tick(3);
    assert_eq!(world.agree().active, Some(RegionId(2)));
}

#[test]
fn what_a_cut_off_leader_was_asked_is_not_answered() {
    let mut world = World::with_leader();
    world.done(found_by(1)).unwrap();
    world.cut_off.insert(WITNESS);
    // It still believes that it leads.
    let asked: Vec<_> = (0..BATCHES_IN_FLIGHT_MAX + 1)
        .map(|_| world.ask(WITNESS, Some(renewal(1, 1, 1))))
        .collect();
    let (unknown, last) = asked.split_at(BATCHES_IN_FLIGHT_MAX);
    assert!(unknown.iter().all(Option::is_none), "nobody confirms");
    assert_eq!(last[0].as_ref().unwrap().0, Err(LeaseRefusal::Busy));
    world.tick(60);
    world.cut_off.clear();
    world.tick(40);
    assert!(world.answers.is_empty());
    assert_eq!(world.agree().renewals, 0);
}

#[test]
fn all_may_restart_and_nothing_that_was_promised_is_gone() {
    let mut world = World::with_leader();
    world.done(found_by(1)).unwrap();
    for committed in 1..=20 {
        world.done(renewal(1, 1, committed)).unwrap();
    }
    world.tick(2);
    let before = world.agree();
    let hard_states: Vec<HardState> = VOTERS.into_iter().map(|node| world.restart(node)).collect();
    assert!(hard_states.iter().all(|state| state.term.0 > 0));
    assert!(
        hard_states
            .iter()
            .all(|state| state.vote == WITNESS || state.vote == NodeId(0))
    );
    world.tick(30);
    assert_eq!(world.agree(), before);
    let again = world.restart(WITNESS);
    assert!(again.term > hard_states[2].term, "a new election is of a new term");
    assert_eq!(again.vote, WITNESS);
}

#[test]
fn a_store_that_was_made_anew_is_as_good() {
    let mut world = World::with_leader();
    world.done(found_by(1)).unwrap();
    for committed in 1..=50 {
        world.done(renewal(1, 1, committed)).unwrap();
        if committed % 7 == 0 {
            for node in world.nodes.values_mut() {
                compact(&node.seat, &mut node.store);
            }
        }
    }
    world.tick(2);
    let before = world.agree();
    for node in VOTERS {
        world.restart(node);
    }
    world.tick(30);
    assert_eq!(world.agree(), before);
    assert_eq!(world.done(renewal(1, 1, 51)), Ok(()));
}

#[test]
fn a_voter_that_lacks_too_much_is_given_the_state() {
    let mut world = World::with_leader();
    world.done(found_by(1)).unwrap();
    let late = VOTERS[1];
    world.cut_off.insert(late);
    for committed in 1..=20 {
        world.done(renewal(1, 1, committed)).unwrap();
    }
    // Neither of the others has the log any more that it would take.
    for node in [VOTERS[0], WITNESS] {
        let running = world.nodes.get_mut(&node).unwrap();
        compact(&running.seat, &mut running.store);
        world.restart(node);
    }
    world.tick(30);
    world.cut_off.clear();
    world.tick(40);
    assert!(world.nodes[&late].installs > 0);
    let state = world.agree();
    assert_eq!(state.renewals, 20);
    world.restart(late);
    assert_eq!(world.state(late), state, "it was kept");
    // And it counts: without another one it is a majority with the witness.
    world.cut_off.insert(VOTERS[0]);
    world.tick(30);
    assert_eq!(world.done(renewal(1, 1, 21)), Ok(()));
}

#[test]
fn a_voter_whose_store_is_gone_does_not_vote_before_it_has_what_the_others_have() {
    let mut world = World::with_leader();
    world.done(found_by(1)).unwrap();
    world.done(renewal(1, 1, 1)).unwrap();
    world.tick(2);
    let lost = VOTERS[0];
    world.nodes.remove(&lost);
    std::fs::remove_file(world.folders[&lost].join("lease.store")).unwrap();
    world.nodes.insert(lost, start(&world.folders[&lost], lost).0);
    // With the only other voter that answers it is no majority.
    world.cut_off.insert(WITNESS);
    world.tick(100);
    assert_eq!(world.leader(), None);
    assert!(world.nodes[&lost].seat.shown().is_repairing);
    world.cut_off.clear();
    world.tick(60);
    assert!(!world.nodes[&lost].seat.shown().is_repairing);
    world.agree();
    world.restart(lost);
    assert!(
        !world.nodes[&lost].seat.shown().is_repairing,
        "that it is repaired is kept"
    );
    world.cut_off.insert(WITNESS);
    world.tick(100);
    assert!(world.leader().is_some());
}

/// Carries messages between voters in one process.
#[derive(Default)]
struct Carrier {
    voters: Mutex<BTreeMap<NodeId, Arc<Voter>>>,
    answers: Mutex<Option<Sender<SiteMessage>>>,
}

struct Post {
    own: NodeId,
    carrier: Arc<Carrier>,
}

impl SiteSender for Post {
    fn send(&self, to: NodeId, message: &SiteMessage) -> bool {
        if to == ASKER {
            return lock(&self.carrier.answers)
                .as_ref()
                .is_some_and(|answers| answers.send(message.clone()).is_ok());
        }
        let voter = lock(&self.carrier.voters).get(&to).cloned();
        voter
            .inspect(|voter| voter.message(self.own, message.clone()))
            .is_some()
    }

    fn send_raft(&self, to: NodeId, message: RaftMessage) -> bool {
        let voter = lock(&self.carrier.voters).get(&to).cloned();
        voter.inspect(|voter| voter.raft(self.own, message)).is_some()
    }
}

#[test]
fn three_voters_with_their_threads_agree_and_go_on_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    for node in VOTERS {
        store::found(&folder.path().join(node.to_string())).unwrap();
    }
    for life in 1..=2_u64 {
        let carrier = Arc::new(Carrier::default());
        let (answered, answers) = unbounded();
        *lock(&carrier.answers) = Some(answered);
        let senders: Vec<Arc<Post>> = VOTERS
            .into_iter()
            .map(|own| {
                let carrier = Arc::clone(&carrier);
                Arc::new(Post { own, carrier })
            })
            .collect();
        for sender in &senders {
            let config = VoterConfig {
                folder: folder.path().join(sender.own.to_string()),
                identity: super::super::lease_identity("test".parse().unwrap(), sender.own),
                voters: VOTERS.to_vec(),
                witness: WITNESS,
                drift_ppm: DRIFT_PPM,
                region_of: BTreeMap::from([(ASKER, RegionId(1))]),
                threads: Arc::default(),
            };
            let links: Weak<Post> = Arc::downgrade(sender);
            let voter = Voter::start(config, links).unwrap();
            lock(&carrier.voters).insert(sender.own, voter);
        }
        let voters = lock(&carrier.voters).clone();
        let mut id = 0;
        let until = Instant::now() + Duration::from_secs(120);
        // Asks until it is done; whoever doesn't lead says so, and who lost leadership meanwhile says nothing.
        let mut done = |command: LeaseCommand| {
            while Instant::now() < until {
                id += 1;
                let leader = voters.values().find_map(|voter| voter.view().leader);
                let command = Some(command.clone());
                voters[&leader.unwrap_or(WITNESS)].message(ASKER, SiteMessage::LeaseAsk { id, command });
                while let Ok(answer) = answers.recv_timeout(Duration::from_secs(2)) {
                    match answer {
                        SiteMessage::LeaseAnswer { id: of, done, .. } if of == id => match done {
                            Err(LeaseRefusal::NotLeader { .. }) => break,
                            done => return done,
                        },
                        _ => {}
                    }
                }
                std::thread::sleep(TICK);
            }
            panic!("nobody did {command:?}");
        };
        let founded = done(found_by(1));
        assert_eq!(founded.is_ok(), life == 1, "{founded:?}");
        assert_eq!(done(renewal(1, 1, life)), Ok(()));
        for voter in voters.values() {
            assert_eq!(voter.status().failed, None);
            voter.stop();
        }
        let renewals = voters.values().map(|voter| voter.view().state.renewals).max();
        assert!(renewals >= Some(life), "{renewals:?}");
        lock(&carrier.voters).clear();
    }
}
