//! A region's part in who is active, step by step against the lease's own state machine: each test is a short table of what
//! happens and of what may be answered, or read, behind it.

use types::{Epoch, Incarnation, Position, RegionId, Sequence, StateMachine, Timestamp};
use wire::journal::{Chain, NodeId};
use wire::site::{Durability, LeaseCommand, LeaseRefusal, LeaseView, LogPlace, PromotedBy, SiteMessage};

use super::{Answerable, GroupPlace, Mode, OnStandbyLoss, Region, RegionInput, RegionOutput, RegionSettings};
use crate::lease::{Elapsed, LeaseMachine};

const FIRST: RegionId = RegionId(1);
const SECOND: RegionId = RegionId(2);
const LEASE_NS: u64 = 1_000_000_000;
const MS: u64 = 1_000_000;

fn settings(region: RegionId, sync: bool) -> RegionSettings {
    RegionSettings {
        region,
        other: if region == FIRST { SECOND } else { FIRST },
        node: NodeId(u64::from(region.0)),
        incarnation: Incarnation(1),
        founds: region == FIRST,
        voters: vec![NodeId(1), NodeId(2), NodeId(9)],
        sync,
        automatic: true,
        lease_ns: LEASE_NS,
        drift_ppm: 1_000,
        lag_max: Some(100),
        on_standby_loss: OnStandbyLoss::Degrade,
        degrade_after_ns: 2_000 * MS,
    }
}

fn place(epoch: u32, sequence: u64) -> LogPlace {
    LogPlace {
        epoch: Epoch(epoch),
        sequence: Sequence(sequence),
        chain: Chain::default(),
    }
}

fn group(leads: bool, epoch: u32, sequence: u64) -> RegionInput {
    RegionInput::Group(GroupPlace {
        leads,
        settled: true,
        applied: place(epoch, sequence),
        stamp: Timestamp(sequence),
    })
}

/// A region and the lease group, which answers each question `ANSWER_NS` after it was asked.
struct Bench {
    region: Region,
    lease: LeaseMachine,
    now: Elapsed,
    /// For how long the lease's leader says that the lease is certain.
    remaining_ns: u64,
    modes: Vec<Mode>,
    others: Vec<RegionOutput>,
}

const ANSWER_NS: u64 = 60 * MS;

impl Bench {
    fn new(settings: RegionSettings) -> Self {
        let now = Elapsed(5_000 * MS);
        Self {
            region: Region::new(settings, now, 0),
            lease: LeaseMachine::default(),
            now,
            remaining_ns: LEASE_NS,
            modes: Vec::new(),
            others: Vec::new(),
        }
    }

    /// The first region, active, with `applied` behind it.
    fn active(sync: bool, applied: u64) -> Self {
        let mut bench = Self::new(settings(FIRST, sync));
        bench.step(group(true, 1, applied));
        assert_eq!(bench.region.mode(), Mode::Active(Epoch(1)));
        bench
    }

    fn execute(&mut self, command: &LeaseCommand) -> Result<(), LeaseRefusal> {
        let mut events = Vec::new();
        self.lease
            .apply(Position::default(), Timestamp(0), command, &mut events);
        events[0].done
    }

    fn view(&self) -> LeaseView {
        LeaseView {
            state: self.lease.state().clone(),
            leader: Some(NodeId(9)),
            leads: true,
            remaining_ns: self.remaining_ns,
        }
    }

    /// One input, and the answers to whatever is asked because of it.
    fn step(&mut self, input: RegionInput) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let mut outputs = Vec::new();
            self.region.step(self.now, input, &mut outputs);
            for output in outputs {
                match output {
                    RegionOutput::Ask { id, command, .. } => {
                        let done = command.map_or(Ok(()), |command| self.execute(&command));
                        let view = self.view();
                        self.now = self.now.plus_ns(ANSWER_NS);
                        inputs.push(RegionInput::Answer { id, done, view });
                    }
                    RegionOutput::Mode(mode) => self.modes.push(mode),
                    other => self.others.push(other),
                }
            }
        }
    }

    /// The same without an answer: the lease group can't be reached.
    fn step_alone(&mut self, input: RegionInput) -> Vec<RegionOutput> {
        let mut outputs = Vec::new();
        self.region.step(self.now, input, &mut outputs);
        outputs
    }

    fn pass(&mut self, ms: u64) {
        for _ in 0..ms / 50 {
            self.now = self.now.plus_ns(50 * MS);
            self.step(RegionInput::Tick);
        }
    }

    fn followed(&mut self, epoch: u32, at: LogPlace) {
        self.step(RegionInput::Followed {
            epoch: Epoch(epoch),
            place: at,
        });
    }

    fn answerable(&mut self) -> Option<(u64, u64)> {
        let answerable = self.region.answerable(self.now);
        answerable.map(|Answerable { through, both_through }| (through.0, both_through.0))
    }

    fn durability(&self) -> Durability {
        self.lease.state().durability
    }
}

#[test]
fn the_first_region_founds_says_where_it_begins_and_only_then_sequences() {
    let mut bench = Bench::new(settings(FIRST, false));
    assert_eq!(bench.answerable(), None);
    bench.step(group(true, 0, 0));
    assert_eq!(bench.modes, [Mode::Beginning, Mode::Active(Epoch(1))]);
    let state = bench.lease.state();
    assert_eq!((state.active, state.began_after()), (Some(FIRST), Some(Sequence(0))));
    assert_eq!(bench.answerable(), Some((0, 0)));
}

#[test]
fn a_region_that_was_promoted_sequences_once_its_beginning_is_on_record() {
    let mut bench = Bench::new(settings(SECOND, false));
    for command in [
        LeaseCommand::Found {
            region: FIRST,
            lease_ns: LEASE_NS,
        },
        LeaseCommand::Promote {
            region: SECOND,
            epoch: Epoch(1),
            renewals: 0,
            epoch_at: Epoch(1),
            at: Sequence(5),
            lag_max: None,
            by_operator: false,
        },
    ] {
        assert_eq!(bench.execute(&command), Ok(()));
    }
    // Something of the old epoch is still on its way through the log.
    let unsettled = GroupPlace {
        leads: true,
        settled: false,
        applied: place(1, 5),
        stamp: Timestamp(5),
    };
    bench.step(RegionInput::Group(unsettled));
    bench.pass(400);
    assert_eq!((bench.region.mode(), bench.answerable()), (Mode::Beginning, None));
    assert_eq!(bench.lease.state().began_after(), None);
    bench.step(group(true, 1, 7));
    bench.pass(400);
    assert_eq!(bench.region.mode(), Mode::Active(Epoch(2)));
    let start = bench.lease.state().epochs[1];
    assert_eq!((start.after, start.by), (Some(Sequence(7)), PromotedBy::Lapse));
}

#[test]
fn the_lease_is_counted_from_when_the_renewal_was_sent() {
    let mut bench = Bench::active(false, 3);
    // The last answer came `ANSWER_NS` after its question.
    let sent_at = Elapsed(bench.now.0 - ANSWER_NS);
    for (after_ns, holds) in [
        (0, true),
        (LEASE_NS - 1, true),
        (LEASE_NS, false),
        (LEASE_NS + ANSWER_NS, false),
    ] {
        let now = sent_at.plus_ns(after_ns);
        assert_eq!(bench.region.answerable(now).is_some(), holds, "{after_ns}");
        assert_eq!(bench.region.may_read(now), holds, "{after_ns}");
    }
    bench.now = sent_at.plus_ns(LEASE_NS);
    let outputs = bench.step_alone(RegionInput::Tick);
    assert!(
        outputs.contains(&RegionOutput::Mode(Mode::Fenced(Epoch(1)))),
        "{outputs:?}"
    );
}

#[test]
fn what_does_not_wait_for_the_standby_is_on_record_first() {
    let mut bench = Bench::active(true, 10);
    bench.followed(1, place(1, 10));
    bench.pass(300);
    assert_eq!(
        (bench.durability(), bench.answerable()),
        (Durability::Both, Some((10, 10)))
    );
    bench.step(group(true, 1, 20));
    assert_eq!(bench.answerable(), Some((10, 10)), "the standby has ten");
    bench.pass(700);
    assert_eq!(
        (bench.durability(), bench.answerable()),
        (Durability::Both, Some((10, 10)))
    );
    bench.pass(2_000);
    assert_eq!(
        (bench.durability(), bench.answerable()),
        (Durability::Degraded, Some((20, 10)))
    );
    // It is back, and behind: what was answered must be there before that is on record again.
    bench.followed(1, place(1, 15));
    bench.pass(200);
    assert_eq!(bench.durability(), Durability::Degraded);
    bench.followed(1, place(1, 20));
    bench.pass(200);
    assert_eq!(
        (bench.durability(), bench.answerable()),
        (Durability::Both, Some((20, 20)))
    );
}

#[test]
fn a_standby_counts_by_what_it_has_of_this_epochs_log() {
    for (name, epoch, at, counts) in [
        ("of this epoch", 1, place(1, 4), true),
        ("it knows of another epoch", 2, place(1, 4), false),
        ("it knows of none", 0, place(0, 4), false),
    ] {
        let mut bench = Bench::active(true, 9);
        bench.followed(epoch, at);
        assert_eq!(
            bench.region.following().through,
            Sequence(if counts { 4 } else { 0 }),
            "{name}"
        );
    }
}

#[test]
fn a_standby_whose_log_goes_another_way_does_not_count() {
    let mut bench = Bench::active(true, 5);
    let hand_over = |region, epoch, to| LeaseCommand::HandOver {
        region,
        epoch: Epoch(epoch),
        renewals: 0,
        to,
        at: Sequence(5),
    };
    bench.lease = LeaseMachine::default();
    for command in [
        LeaseCommand::Found {
            region: FIRST,
            lease_ns: LEASE_NS,
        },
        hand_over(FIRST, 1, SECOND),
        hand_over(SECOND, 2, FIRST),
    ] {
        assert_eq!(bench.execute(&command), Ok(()));
    }
    bench.pass(1_000);
    assert_eq!(bench.region.mode(), Mode::Active(Epoch(3)));
    bench.step(group(true, 3, 9));
    for (at, counts) in [(place(1, 6), 0), (place(1, 5), 5), (place(1, 8), 5), (place(3, 7), 7)] {
        bench.followed(3, at);
        assert_eq!(bench.region.following().through, Sequence(counts), "{at:?}");
    }
}

#[test]
fn nothing_follows_on_what_is_still_on_its_way_through_the_log() {
    let mut bench = Bench::active(false, 5);
    let hand_over = LeaseCommand::Promote {
        region: SECOND,
        epoch: Epoch(1),
        renewals: bench.lease.state().renewals,
        epoch_at: Epoch(1),
        at: Sequence(5),
        lag_max: None,
        by_operator: false,
    };
    assert_eq!(bench.execute(&hand_over), Ok(()));
    let renewal = wire::site::Renewal {
        region: SECOND,
        epoch: Epoch(2),
        lease_ns: LEASE_NS,
        committed: Sequence(5),
        committed_at: Timestamp(0),
        change: None,
        after: Some(Sequence(5)),
    };
    assert_eq!(bench.execute(&LeaseCommand::Renew(renewal)), Ok(()));
    let on_its_way = |settled| {
        RegionInput::Group(GroupPlace {
            leads: true,
            settled,
            applied: place(1, 5),
            stamp: Timestamp(5),
        })
    };
    bench.step(on_its_way(false));
    bench.pass(1_000);
    assert_eq!((bench.region.mode(), bench.region.follows()), (Mode::Standby, false));
    bench.step(on_its_way(true));
    assert!(bench.region.follows());
    bench.step(on_its_way(false));
    assert!(bench.region.follows(), "what it follows is on its way");
}

#[test]
fn only_a_leader_that_holds_the_lease_reads_and_others_while_it_is_certain() {
    for (name, leads, remaining_ns, after_ms, reads) in [
        ("a leader", true, LEASE_NS, 0, true),
        ("another node", false, LEASE_NS, 0, true),
        ("another node, whose certainty has passed", false, 200 * MS, 300, false),
    ] {
        let mut bench = Bench::new(settings(FIRST, false));
        bench.remaining_ns = remaining_ns;
        let found = LeaseCommand::Found {
            region: FIRST,
            lease_ns: LEASE_NS,
        };
        assert_eq!(bench.execute(&found), Ok(()));
        bench.step(group(leads, 1, 3));
        bench.pass(50);
        let now = bench.now.plus_ns(after_ms * MS);
        assert_eq!(bench.region.may_read(now), reads, "{name}");
    }
    // A new leader knows of no hand-over that the one before may have asked for, until it has renewed.
    let mut bench = Bench::new(settings(FIRST, false));
    bench
        .execute(&LeaseCommand::Found {
            region: FIRST,
            lease_ns: LEASE_NS,
        })
        .unwrap();
    bench.step(group(false, 1, 3));
    assert!(bench.region.may_read(bench.now));
    bench.step_alone(group(true, 1, 3));
    assert_eq!(
        (bench.region.mode(), bench.region.may_read(bench.now)),
        (Mode::Beginning, false)
    );
}

#[test]
fn a_switch_over_waits_for_the_standby() {
    let mut bench = Bench::active(true, 8);
    bench.followed(1, place(1, 6));
    bench.step(RegionInput::SwitchOver);
    assert_eq!(bench.region.mode(), Mode::Draining(Epoch(1)));
    bench.pass(200);
    assert_eq!(bench.lease.state().active, Some(FIRST));
    bench.followed(1, place(1, 8));
    let state = bench.lease.state().clone();
    assert_eq!((state.active, state.epoch), (Some(SECOND), Epoch(2)));
    assert_eq!(bench.region.mode(), Mode::Standby);
    assert_eq!(
        bench.others,
        [RegionOutput::TellMoved(Epoch(2)), RegionOutput::Operated(Ok(Epoch(2)))]
    );
}

#[test]
fn a_region_with_a_void_end_begins_anew_and_does_not_follow() {
    let mut bench = Bench::new(settings(FIRST, false));
    for command in [
        LeaseCommand::Found {
            region: FIRST,
            lease_ns: LEASE_NS,
        },
        LeaseCommand::HandOver {
            region: FIRST,
            epoch: Epoch(1),
            renewals: 0,
            to: SECOND,
            at: Sequence(5),
        },
    ] {
        assert_eq!(bench.execute(&command), Ok(()));
    }
    bench.step(group(true, 1, 9));
    bench.pass(600);
    assert!(!bench.region.follows(), "it is not known where the epoch begins");
    assert_eq!(bench.others, []);
    let renewal = wire::site::Renewal {
        region: SECOND,
        epoch: Epoch(2),
        lease_ns: LEASE_NS,
        committed: Sequence(5),
        committed_at: Timestamp(0),
        change: None,
        after: Some(Sequence(5)),
    };
    assert_eq!(bench.execute(&LeaseCommand::Renew(renewal)), Ok(()));
    bench.pass(2_000);
    assert!(!bench.region.follows());
    let anew = RegionOutput::BeginAnew {
        incarnation: Incarnation(2),
        founder: NodeId(1),
        kept: Sequence(5),
    };
    assert_eq!(bench.others, [anew]);
}

#[test]
fn what_is_kept_ends_before_the_first_epoch_that_goes_another_way() {
    let mut lease = Bench::new(settings(FIRST, false)).lease.state().clone();
    for (epoch, after) in [(1, Some(0)), (2, Some(10)), (3, Some(8)), (4, Some(30)), (5, None)] {
        lease.epochs.push(wire::site::EpochStart {
            epoch: Epoch(epoch),
            region: FIRST,
            after: after.map(Sequence),
            by: PromotedBy::Lapse,
        });
    }
    for (epoch, sequence, kept) in [
        (1, 5, 5),
        (1, 9, 8),
        (1, 20, 8),
        (2, 9, 8),
        (3, 30, 30),
        (3, 31, 30),
        (4, 99, 99),
    ] {
        assert_eq!(
            lease.kept(Epoch(epoch), Sequence(sequence)),
            Sequence(kept),
            "epoch {epoch}, sequence {sequence}"
        );
    }
    // What sites say to each other survives the way.
    let said = SiteMessage::LeaseMoved { epoch: Epoch(5) };
    assert_eq!(wire::site::decode(&wire::site::encode(&said)), Some(said));
}
