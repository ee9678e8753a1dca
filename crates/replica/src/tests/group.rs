//! Tests of several replicas.

use super::*;

/// Three voters, whose messages arrive at once and in order, or not at all.
struct Cluster {
    nodes: Vec<Node>,
    cut_off: BTreeSet<u64>,
}

impl Cluster {
    fn new() -> Self {
        let nodes = (1..=3).map(|id| Node::new(id, 3)).collect();
        let mut cluster = Self {
            nodes,
            cut_off: BTreeSet::new(),
        };
        cluster.nodes[0].step(1, Input::Campaign);
        cluster.deliver();
        assert_eq!(cluster.nodes[0].replica.accepting(), Ok(()));
        cluster
    }

    fn deliver(&mut self) {
        loop {
            let sent: Vec<_> = self
                .nodes
                .iter_mut()
                .flat_map(|node| std::mem::take(&mut node.sent))
                .collect();
            if sent.is_empty() {
                return;
            }
            for message in sent {
                let (from, to) = (message.from().0, message.to().0);
                if self.cut_off.contains(&from) || self.cut_off.contains(&to) {
                    continue;
                }
                // As it comes over a link.
                let message = PeerMessage::try_from(RaftMessage::from(message)).unwrap();
                self.nodes[usize::try_from(to).unwrap() - 1].step(2, Input::Message(message));
            }
        }
    }

    fn tick(&mut self, ticks: usize) {
        for _ in 0..ticks {
            for node in &mut self.nodes {
                node.step(2, Input::Tick);
            }
            self.deliver();
        }
    }
}

#[test]
fn three_voters_come_to_the_same_state() {
    let mut cluster = Cluster::new();
    for who in 0..10 {
        cluster.nodes[0].ask(2, &[(&[1], who)]);
        cluster.deliver();
    }
    cluster.tick(3);
    for node in &cluster.nodes {
        assert_eq!((node.sum(), node.applied.len()), (10, 10));
    }
    let chains: BTreeSet<_> = cluster
        .nodes
        .iter()
        .map(|node| node.replica.applier().applied().chain.0)
        .collect();
    assert_eq!(chains.len(), 1);
    cluster.nodes[1].ask(2, &[(&[1], 77)]);
    assert_eq!(
        cluster.nodes[1].refused,
        [(77, Refusal::NotLeader)],
        "a follower hands nothing on"
    );
}

#[test]
fn what_a_cut_off_leader_had_in_flight_is_unknown_and_never_sequenced_twice() {
    let mut cluster = Cluster::new();
    cluster.nodes[0].ask(2, &[(&[1], 1)]);
    cluster.deliver();
    cluster.cut_off.insert(1);
    cluster.nodes[0].ask(2, &[(&[10], 2)]);
    cluster.deliver();
    assert_eq!(cluster.nodes[0].answered, [1]);
    cluster.tick(60);
    let leader = cluster.nodes[1..]
        .iter()
        .position(|node| node.replica.accepting().is_ok())
        .unwrap()
        + 1;
    cluster.nodes[leader].ask(2, &[(&[100], 3)]);
    cluster.deliver();
    assert_eq!(cluster.nodes[leader].answered, [3]);
    assert_eq!(
        cluster.nodes[leader].applied.last().unwrap().header.first_sequence,
        Sequence(2)
    );
    assert_eq!(cluster.nodes[0].unknown, [2]);
    assert_eq!(cluster.nodes[0].replica.accepting(), Err(Refusal::NotLeader));
    cluster.cut_off.clear();
    cluster.tick(60);
    for node in &cluster.nodes {
        assert_eq!(node.stopped, None);
        assert_eq!(node.sum(), 101, "what only the old leader had is gone");
    }
}

#[test]
fn the_record_of_a_new_term_stands_behind_what_stays_of_the_log() {
    let mut cluster = Cluster::new();
    cluster.nodes[0].ask(2, &[(&[1], 1)]);
    cluster.deliver();
    cluster.cut_off.insert(1);
    // Never committed, and to be replaced by what the next leader sequences.
    for who in 2..5 {
        cluster.nodes[0].ask(2, &[(&[10], who)]);
    }
    cluster.deliver();
    let mut held_back = Vec::new();
    while held_back.is_empty() {
        for at in 1..3 {
            cluster.nodes[at].step(2, Input::Tick);
        }
        while cluster.nodes[1..].iter().any(|node| !node.sent.is_empty()) {
            let sent: Vec<_> = cluster.nodes[1..]
                .iter_mut()
                .flat_map(|node| std::mem::take(&mut node.sent))
                .collect();
            for message in sent {
                match usize::try_from(message.to().0).unwrap() {
                    1 => held_back.push(message),
                    to => cluster.nodes[to - 1].step(2, Input::Message(message)),
                }
            }
        }
        // The old leader hears of the new term by the very entry that replaces its own.
        held_back.retain(|message| match &message.0 {
            crate::message::Content::Consensus(message) => !message.entries.is_empty(),
            _ => false,
        });
    }
    let before = cluster.nodes[0].records.last().unwrap().index;
    for message in held_back {
        cluster.nodes[0].step(2, Input::Message(message));
    }
    let records = &cluster.nodes[0].records;
    assert!(records.last().unwrap().index < before, "the log became shorter");
    let mut index = LogIndex(0);
    for record in records {
        index = if record.kind.is_entry() { index.next() } else { index };
        assert_eq!(record.index, index, "{record:?}");
    }
}

/// Lets the three come to where nothing is under way.
impl Cluster {
    fn node(&mut self, id: u64) -> &mut Node {
        &mut self.nodes[usize::try_from(id).unwrap() - 1]
    }

    fn leader(&self) -> u64 {
        let leads = |node: &Node| node.replica.leads() && node.stopped.is_none();
        let leader = self.nodes.iter().enumerate().find(|(index, node)| {
            let id = *index as u64 + 1;
            leads(node) && !self.cut_off.contains(&id)
        });
        leader.expect("somebody leads").0 as u64 + 1
    }
}

#[test]
fn a_read_is_served_from_where_a_majority_confirms_and_fails_where_there_is_none() {
    let mut cluster = Cluster::new();
    cluster.node(1).ask(2, &[(&[1], 1)]);
    cluster.deliver();
    // A follower that has not heard of the commit yet learns of it.
    cluster.node(2).step(2, Input::Read(ReadTicket(1)));
    cluster.node(1).step(2, Input::Read(ReadTicket(2)));
    cluster.deliver();
    cluster.tick(1);
    assert_eq!(cluster.node(2).reads, [(ReadTicket(1), Some(Sequence(1)))]);
    assert_eq!(cluster.node(1).reads, [(ReadTicket(2), Some(Sequence(1)))]);
    cluster.cut_off.insert(1);
    cluster.node(1).step(2, Input::Read(ReadTicket(3)));
    cluster.tick(80);
    assert_eq!(cluster.node(1).reads[1..], [(ReadTicket(3), None)], "nobody confirms");
    // A question that was dropped for want of a leader is put again.
    let leader = cluster.leader();
    let other = 5 - leader;
    cluster.node(other).step(2, Input::Read(ReadTicket(4)));
    cluster.deliver();
    cluster.tick(4);
    assert_eq!(cluster.node(other).reads.last().unwrap().0, ReadTicket(4));
    assert!(cluster.node(other).reads.last().unwrap().1.is_some());
}

#[test]
fn leadership_is_handed_over_without_losing_anything() {
    let mut cluster = Cluster::new();
    cluster.node(1).ask(2, &[(&[1], 1)]);
    cluster.deliver();
    cluster
        .node(1)
        .step(2, Input::TransferLeadership { to: Some(NodeId(3)) });
    cluster.node(1).ask(2, &[(&[1], 2)]);
    assert_eq!(
        cluster.node(1).refused,
        [(2, Refusal::NotLeader)],
        "nothing is sequenced meanwhile"
    );
    cluster.deliver();
    cluster.tick(2);
    assert_eq!(cluster.leader(), 3);
    assert_eq!(cluster.node(1).replica.leader(), Some(NodeId(3)));
    cluster.node(3).ask(2, &[(&[1], 3)]);
    cluster.deliver();
    assert_eq!(cluster.node(3).answered, [3]);
    assert_eq!(
        cluster.node(3).applied.last().unwrap().header.first_sequence,
        Sequence(2)
    );
}

#[test]
fn a_leader_whose_disk_is_the_slowest_or_whose_clock_is_unsure_hands_over() {
    let mut cluster = Cluster::new();
    cluster.node(1).syncs = false;
    cluster.node(1).ask(2, &[(&[1], 1)]);
    cluster.deliver();
    cluster.tick(20);
    assert_eq!(cluster.node(1).handed_over[0].1, HandOver::SlowDisk);
    let leader = cluster.leader();
    assert_ne!(leader, 1);
    cluster.node(1).syncs = true;
    cluster.node(1).sync(2);
    cluster.tick(2);
    assert_eq!(
        cluster.node(leader).applied.len(),
        1,
        "what was sequenced before is kept"
    );

    cluster.node(leader).step(2, Input::ClockUnsure(true));
    cluster.node(leader).ask(2, &[(&[1], 2)]);
    assert_eq!(cluster.node(leader).refused.len(), 1);
    cluster.deliver();
    cluster.tick(2);
    assert_ne!(cluster.leader(), leader);
}

#[test]
fn a_leader_whose_disk_is_a_little_behind_all_the_time_keeps_leading() {
    let mut cluster = Cluster::new();
    cluster.node(1).syncs = false;
    for who in 0..60 {
        let earlier = cluster.node(1).sync_wanted.take();
        cluster.node(1).ask(2, &[(&[1], who)]);
        cluster.deliver();
        cluster.tick(1);
        if let Some(ticket) = earlier {
            let mut outputs = Vec::new();
            cluster
                .node(1)
                .replica
                .step(now(2), Input::Persisted(ticket), &mut outputs);
            cluster.node(1).take(outputs);
        }
    }
    assert_eq!(cluster.node(1).handed_over, []);
    assert_eq!(cluster.leader(), 1);
    assert!(cluster.node(1).answered.len() > 50);
}

#[test]
fn a_new_member_gets_a_snapshot_and_the_rest_and_becomes_a_voter() {
    let mut cluster = Cluster::new();
    for who in 0..10 {
        cluster.node(1).ask(2, &[(&[1], who)]);
        cluster.deliver();
    }
    let nobody = applier_of(Applied::default(), Membership::default());
    cluster.nodes.push(Node::over(4, nobody, HardState::default()).unwrap());
    let add = |node, gateway| {
        let address = format!("node-{node}:7414");
        Input::Change(MembershipChange::Add {
            node: NodeId(node),
            address,
            gateway,
        })
    };
    cluster.node(1).step(2, add(4, false));
    assert_eq!(cluster.node(1).change, Some(Ok(())));
    cluster.node(1).step(2, add(5, false));
    assert_eq!(cluster.node(1).change, Some(Err(ChangeRefusal::UnderWay)));
    cluster.deliver();
    // The group's first entry is long gone in a real one; here the log is made to begin later.
    cluster.tick(3);
    for node in &cluster.nodes[..3] {
        assert_eq!(node.replica.applier().membership().len(), 4);
    }
    cluster.tick(3);
    let role = cluster
        .node(1)
        .replica
        .applier()
        .membership()
        .get(NodeId(4))
        .unwrap()
        .role;
    assert_eq!(
        role,
        wire::membership::Role::Voter,
        "it caught up from the log and was promoted"
    );
    assert_eq!(cluster.node(4).sum(), 10);

    // Two of the four are cut off: no majority of what would be left answers.
    cluster.cut_off.extend([2, 3]);
    cluster.tick(12);
    cluster
        .node(1)
        .step(2, Input::Change(MembershipChange::Remove(NodeId(1))));
    assert!(matches!(
        cluster.node(1).change,
        Some(Err(ChangeRefusal::IsLeader | ChangeRefusal::NotLeader))
    ));
}

#[test]
fn who_lags_behind_the_log_in_memory_is_given_a_snapshot() {
    given_a_snapshot(false);
}

/// What is behind the snapshot comes from the log, or under load each snapshot would be followed by another.
#[test]
fn who_lost_everything_is_given_one_snapshot() {
    given_a_snapshot(true);
}

fn given_a_snapshot(repairing: bool) {
    let mut lone = Node::leading();
    for who in 0..10 {
        lone.ask(2, &[(&[1], who)]);
    }
    assert_eq!(lone.replica.log_entries_count(), 0);
    let address = "node-2:7414".to_owned();
    let add = MembershipChange::Add {
        node: NodeId(2),
        address,
        gateway: false,
    };
    lone.step(2, Input::Change(add));
    let nobody = applier_of(Applied::default(), Membership::default());
    let mut cluster = Cluster {
        nodes: vec![lone, Node::over(2, nobody, HardState::default()).unwrap()],
        cut_off: BTreeSet::new(),
    };
    cluster.deliver();
    cluster.tick(3);
    let wanted = cluster
        .node(1)
        .snapshot_wanted
        .expect("the log in memory does not reach back to the beginning");
    let point = {
        let applier = cluster.node(1).replica.applier();
        assert!(applier.applied().index >= wanted);
        SnapshotPoint {
            applied: applier.applied(),
            membership: applier.membership().clone(),
        }
    };
    cluster.node(1).ask(2, &[(&[5], 20)]);
    cluster.node(1).step(2, Input::SnapshotMade(point.clone()));
    cluster.tick(3);
    let (installed, hard_state) = cluster.node(2).installed.clone().expect("the snapshot was sent");
    assert_eq!(installed, point);
    // What the leader sends on at once does not get through yet.
    cluster.cut_off.insert(2);
    cluster.node(1).step(
        2,
        Input::SnapshotSent {
            to: NodeId(2),
            arrived: true,
        },
    );
    let machine = Sum {
        sum: 10,
        deadline: None,
    };
    let applier = Applier::new(&identity(2), machine, point.applied, point.membership, BTreeSet::new());
    let settings = Settings {
        identity: identity(2),
        epoch: Some(Epoch(1)),
        repairing,
        election_ticks: 20,
    };
    cluster.nodes[1] = Node::new(2, 3);
    cluster.nodes[1].replica = Replica::new(&settings, applier, hard_state, Vec::new()).unwrap();
    cluster.node(1).snapshot_wanted = None;
    cluster.tick(1);
    cluster.cut_off.clear();
    cluster.tick(12);
    assert_eq!(cluster.node(2).sum(), 15, "the rest came from the log");
    let another = (cluster.node(1).snapshot_wanted, cluster.node(2).installed.take());
    assert_eq!(another, (None, None));
    assert_eq!(cluster.node(2).repaired, repairing);
    let role = cluster
        .node(1)
        .replica
        .applier()
        .membership()
        .get(NodeId(2))
        .unwrap()
        .role;
    assert_eq!(role, wire::membership::Role::Voter);
    // From now on both are needed.
    cluster.node(1).ask(2, &[(&[1], 30)]);
    assert_eq!(cluster.node(1).answered.last(), Some(&20));
    cluster.deliver();
    assert_eq!(cluster.node(1).answered.last(), Some(&30));
}

#[test]
fn a_voter_that_lost_its_log_neither_votes_nor_stands_before_it_has_it_again() {
    let mut cluster = Cluster::new();
    for who in 0..10 {
        cluster.node(1).ask(2, &[(&[1], who)]);
        cluster.deliver();
    }
    cluster.tick(2);
    let hard_state = cluster.node(2).hard_state();
    let membership = Membership::of_voters((1..=3).map(NodeId));
    let lost = |cluster: &mut Cluster| {
        let settings = Settings {
            identity: identity(2),
            epoch: Some(Epoch(1)),
            repairing: true,
            election_ticks: 20,
        };
        let mut node = Node::new(2, 3);
        let applier = applier_of(Applied::default(), membership.clone());
        node.replica = Replica::new(&settings, applier, hard_state, Vec::new()).unwrap();
        cluster.nodes[1] = node;
    };
    // With the leader gone, node 3 can't be elected by one that does not know what it has acknowledged.
    lost(&mut cluster);
    cluster.cut_off.insert(1);
    cluster.tick(100);
    assert!(cluster.nodes[1..].iter().all(|node| !node.replica.leads()));
    cluster.cut_off.clear();
    cluster.tick(60);
    assert!(cluster.node(2).repaired);
    assert_eq!(cluster.node(2).sum(), 10);
    // The others can go on without each of them.
    for _ in 0..2 {
        let leader = cluster.leader();
        cluster.cut_off = BTreeSet::from([leader]);
        cluster.tick(100);
        let next = cluster.leader();
        cluster.node(next).ask(3, &[(&[1], 50)]);
        cluster.deliver();
        assert_eq!(cluster.node(next).answered.last(), Some(&50));
    }
}

/// The records as they stand in a journal of one segment, and how far a start knows them to be committed.
fn committed_at_a_start(records: &[Record]) -> LogIndex {
    let mut bytes = wire::journal::encode_segment_header(&wire::journal::SegmentHeader {
        identity: identity(2),
        number: 1,
        previous_index: LogIndex(0),
        previous_term: Term(0),
        previous_sequence: Sequence(0),
        previous_epoch: Epoch(0),
        previous_chain: Chain::START,
        term: Term(0),
        vote: NodeId(0),
        begins: wire::journal::Begins::AtTheEnd,
    });
    for record in records {
        let fields = wire::journal::RecordFields {
            kind: record.kind,
            incarnation: Incarnation(1),
            segment: 1,
            epoch: record.epoch,
            term: record.term,
            index: record.index,
            first_sequence: record.first_sequence,
            durable_index: LogIndex(0),
            chain: record.chain,
        };
        wire::journal::encode_record(&fields, &record.payload, &mut bytes);
    }
    let mark = wire::journal::Mark::default();
    let mut scan = crate::recovery::Scan::new(identity(2), mark, Applied::default());
    scan.segment(1, &bytes, &mut |_| {}).unwrap();
    scan.finish().unwrap().committed.index
}

#[test]
fn a_start_does_not_forget_who_belongs_to_the_group() {
    let mut cluster = Cluster::new();
    for node in [4, 5] {
        let nobody = applier_of(Applied::default(), Membership::default());
        cluster
            .nodes
            .push(Node::over(node, nobody, HardState::default()).unwrap());
        let address = String::new();
        let gateway = true;
        let node = NodeId(node);
        cluster
            .node(1)
            .step(2, Input::Change(MembershipChange::Add { node, address, gateway }));
        cluster.deliver();
        cluster.tick(2);
    }
    let records = cluster.node(2).records.clone();
    let changes = records.iter().filter(|record| record.kind == RecordKind::ConfChange);
    let changes: Vec<LogIndex> = changes.map(|record| record.index).collect();
    assert_eq!(changes.len(), 2);
    assert_eq!(committed_at_a_start(&records), changes[1]);
    // What was written last is lost: then no more than the last change is not known.
    let entries: Vec<Record> = records.into_iter().filter(|record| record.kind.is_entry()).collect();
    assert_eq!(committed_at_a_start(&entries), changes[0]);
}
