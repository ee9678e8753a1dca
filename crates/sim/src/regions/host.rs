//! A node: its clocks, its disk, and its process with a part in a region, a voter of the lease group, or both.

use std::collections::VecDeque;

use replica::lease::Elapsed;
use replica::region::RegionInput;
use replica::{Input, Now, PeerMessage};
use types::{Command, Sequence, Timestamp};
use wire::journal::NodeId;
use wire::peer::RaftMessage;
use wire::site::SiteMessage;

use super::coverage::Point;
use super::mutation::RegionMutation;
use super::network::Site;
use super::part::{End, GroupDisk, Part, Turn, founders_store, nodes_of, reply};
use super::plan::Drift;
use super::shared::{Happening, LogOf, Packet, Reply, Shared};
use super::store::Store;
use super::voter::{LeaseStore, Moment, TICK, VOTERS, Voter};
use crate::events::{Call, MILLISECOND, Time};
use crate::market::NOON;
use crate::random::Dice;

/// Between the end of a process that ends by itself and the next one.
const STARTS_WITHIN: Time = 5 * MILLISECOND;

/// A node's clocks: one that counts elapsed time, and one that shows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clocks {
    rate_ppm: u64,
    since: u64,
    pub(super) utc_offset: i64,
}

impl Clocks {
    pub(super) fn of(drift: Drift, drift_ppm: u32, dice: &mut Dice) -> Self {
        let most = u64::from(drift_ppm);
        let rate_ppm = match drift {
            Drift::AtTheBound => dice.below(2) * most,
            Drift::Within => dice.below(most + 1),
            Drift::Beyond => dice.below(2) * most * 4,
        };
        Self {
            rate_ppm,
            since: dice.below(1_000) * 1_000_000_000,
            utc_offset: i64::try_from(dice.below(4 * MILLISECOND)).unwrap_or(0),
        }
    }

    fn elapsed(&self, now: Time) -> Elapsed {
        Elapsed(self.since + now + now / 1_000 * self.rate_ppm / 1_000)
    }

    fn now(&self, now: Time) -> Now {
        Now {
            utc: Timestamp((NOON + now).saturating_add_signed(self.utc_offset)),
            clock_error_bound_ns: MILLISECOND,
        }
    }
}

/// A node, up or down.
pub(super) struct Host {
    pub(super) id: NodeId,
    pub(super) site: Site,
    pub(super) clocks: Clocks,
    pub(super) group: Option<GroupDisk>,
    lease: Option<LeaseStore>,
    lives: u32,
    pub(super) part: Option<Part>,
    pub(super) voter: Option<Voter>,
    /// How many reasons there are for which it stands still.
    pub(super) paused: u32,
    backlog: VecDeque<Happening>,
    /// It is to stand still for so long once it has looked whether it may answer.
    pub(super) pause_in_check: Option<Time>,
    /// True while it is not to be started.
    pub(super) held_down: u32,
    pub(super) demoted: bool,
}

impl Host {
    pub(super) fn new(id: NodeId, clocks: Clocks, shared: &Shared) -> Self {
        let site = Site::of(id);
        Self {
            id,
            site,
            clocks,
            group: (site != Site::Witness).then(|| GroupDisk::first(site, shared)),
            lease: VOTERS.contains(&id).then(Store::empty),
            lives: 0,
            part: None,
            voter: None,
            paused: 0,
            backlog: VecDeque::new(),
            pause_in_check: None,
            held_down: 0,
            demoted: false,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.part.is_some() || self.voter.is_some()
    }

    /// Up, and not standing still.
    pub(super) fn is_active(&self) -> bool {
        self.is_up() && self.paused == 0
    }

    pub(super) fn leads(&self) -> bool {
        self.part.as_ref().is_some_and(|part| part.replica.leads())
    }

    pub(super) fn elapsed(&self, shared: &Shared) -> Elapsed {
        self.clocks.elapsed(shared.now)
    }

    pub(super) fn utc(&self, shared: &Shared) -> Timestamp {
        self.clocks.now(shared.now).utc
    }

    /// True if this is the start that is due.
    pub(super) fn is_last_life(&self, life: u32) -> bool {
        self.lives == life
    }

    pub(super) fn lives(&self) -> u32 {
        self.lives
    }

    /// Starts the process from what is on the disk.
    pub(super) fn start(&mut self, shared: &mut Shared) {
        assert!(!self.is_up(), "it runs already");
        self.lives += 1;
        shared.lives[self.id.0 as usize] = self.lives;
        let id = self.id;
        if let Some(lease) = &mut self.lease {
            lease.sync_all();
            if self.lives > 1 {
                shared.hit(Point::VoterRestarted);
            }
            self.voter = Voter::start(id, lease, shared);
        }
        let (elapsed, now) = (self.clocks.elapsed(shared.now), self.clocks.now(shared.now));
        if let Some(disk) = &mut self.group {
            disk.store.sync_all();
            let mut turn = Turn {
                disk,
                shared,
                now,
                elapsed,
            };
            self.part = Part::start(id, self.site, &mut turn);
            if let Some(part) = &mut self.part
                && self.demoted
            {
                part.tell(RegionInput::Demote(true), &mut turn);
            }
        }
        shared.say(|| format!("node {id} starts"));
        let life = self.lives;
        shared.after(TICK, Happening::Tick { node: id, life });
        self.settle(shared);
    }

    /// The process is gone; what it wrote stays.
    pub(super) fn kill(&mut self, shared: &mut Shared) {
        if self.is_up() {
            let id = self.id;
            shared.say(|| format!("node {id} is gone"));
        }
        self.part = None;
        self.voter = None;
        self.backlog.clear();
        shared.lives[self.id.0 as usize] = 0;
    }

    /// The power is gone; what was not synced may be.
    pub(super) fn lose_power(&mut self, shared: &mut Shared) {
        self.kill(shared);
        let mut torn = false;
        if let Some(disk) = &mut self.group {
            torn |= disk.store.lose_power(&mut shared.dice);
        }
        if let Some(lease) = &mut self.lease {
            torn |= lease.lose_power(&mut shared.dice);
        }
        if torn {
            shared.hit(Point::RestartTorn);
        }
    }

    /// Something happens at this node, which is up.
    pub(super) fn happen(&mut self, event: Happening, shared: &mut Shared) {
        if self.paused > 0 {
            return self.backlog.push_back(event);
        }
        match event {
            Happening::Tick { life, .. } => {
                shared.after(TICK, Happening::Tick { node: self.id, life });
                self.with_voter(shared, |voter, moment, store, shared| voter.tick(moment, store, shared));
                self.with_part(shared, Part::tick);
            }
            Happening::Gather { .. } => self.with_part(shared, Part::gather),
            Happening::Stream { .. } => self.with_part(shared, Part::stream_turn),
            Happening::Synced {
                log: LogOf::Group,
                ticket,
                written,
                ..
            } => self.with_part(shared, |part, turn| {
                turn.disk.store.synced(written);
                part.step(Input::Persisted(ticket), turn);
                part.look_after(turn);
            }),
            Happening::Synced { ticket, written, .. } => self.with_voter(shared, |voter, moment, store, shared| {
                store.synced(written);
                voter.step(moment, Input::Persisted(ticket), store, shared);
            }),
            Happening::Arrive { from, packet, .. } => self.arrived(from, *packet, shared),
            Happening::Called { call, command, .. } => self.called(call, *command, shared),
            _ => unreachable!("it is none of a node's"),
        }
    }

    fn called(&mut self, call: Call, command: Command, shared: &mut Shared) {
        if self.part.is_none() {
            return reply(call, Reply::Unknown, shared);
        }
        self.with_part(shared, |part, turn| part.called(call, command, turn));
    }

    fn arrived(&mut self, from: NodeId, packet: Packet, shared: &mut Shared) {
        match packet {
            Packet::Group(incarnation, message) => {
                self.with_part(shared, |part, turn| hear(part, from, incarnation, message, turn));
            }
            Packet::Snapshot(incarnation, message, stored) => self.with_part(shared, |part, turn| {
                part.received(stored);
                hear(part, from, incarnation, message, turn);
            }),
            Packet::Lease(message) => self.with_voter(shared, |voter, moment, store, shared| {
                voter.heard(moment, message, store, shared);
            }),
            Packet::LeaseSnapshot(message, point, state) => self.with_voter(shared, |voter, moment, store, shared| {
                voter.given(moment, message, (point, state), store, shared);
            }),
            Packet::Site(SiteMessage::LeaseAsk { id, command }) => {
                self.with_voter(shared, |voter, moment, store, shared| {
                    voter.asked(moment, (from, id), command, store, shared);
                });
            }
            Packet::Site(message) => self.with_part(shared, |part, turn| part.hear(from, message, turn)),
            Packet::Batches { stream, after, batches } => {
                self.with_part(shared, |part, turn| {
                    part.take_batches(from, (stream, after), batches, turn)
                });
            }
        }
    }

    fn with_voter(&mut self, shared: &mut Shared, work: impl FnOnce(&mut Voter, Moment, &mut LeaseStore, &mut Shared)) {
        let moment = Moment {
            elapsed: self.clocks.elapsed(shared.now),
            now: self.clocks.now(shared.now),
        };
        if let (Some(voter), Some(store)) = (&mut self.voter, &mut self.lease) {
            work(voter, moment, store, shared);
            if voter.installs {
                self.voter = Voter::start(self.id, store, shared);
            }
        }
    }

    /// A turn of its part in the region.
    pub(super) fn with_part(&mut self, shared: &mut Shared, work: impl FnOnce(&mut Part, &mut Turn<'_>)) {
        let (elapsed, now) = (self.clocks.elapsed(shared.now), self.clocks.now(shared.now));
        let (Some(part), Some(disk)) = (&mut self.part, &mut self.group) else {
            return;
        };
        part.pause_in_check = self.pause_in_check;
        let mut turn = Turn {
            disk,
            shared,
            now,
            elapsed,
        };
        work(part, &mut turn);
        if let Some(pause) = self.pause_in_check
            && !part.late.is_empty()
        {
            self.pause_in_check = None;
            self.paused += 1;
            let id = self.id;
            shared.say(|| format!("node {id} stands still between its look at the lease and its answers"));
            shared.after(pause, Happening::Resume(id));
        }
        self.settle(shared);
    }

    /// It goes on. What waited for it comes at once.
    pub(super) fn resume(&mut self, shared: &mut Shared) -> VecDeque<Happening> {
        self.paused = self.paused.saturating_sub(1);
        if self.paused > 0 {
            return VecDeque::new();
        }
        let late = self.part.as_mut().map(|part| std::mem::take(&mut part.late));
        for (call, told) in late.unwrap_or_default() {
            shared.hit(Point::AnsweredLate);
            shared.oracle.answered(told);
            reply(call, Reply::Answer(told.answer), shared);
        }
        std::mem::take(&mut self.backlog)
    }

    /// If the process has come to its end by itself: does what is to be done between this life and the next.
    fn settle(&mut self, shared: &mut Shared) {
        let Some(end) = self.part.as_mut().and_then(|part| part.end.take()) else {
            return;
        };
        let id = self.id;
        self.kill(shared);
        let Some(disk) = &mut self.group else { return };
        match end {
            End::Failed => return,
            End::Install(stored, hard_state) => {
                shared.hit(Point::SnapshotInstalled);
                shared.say(|| format!("node {id} installs {:?}", stored.point));
                disk.store = Store::behind(stored, hard_state);
            }
            End::BeginAnew {
                incarnation,
                founder,
                kept,
            } => {
                disk.incarnation = incarnation;
                let others = nodes_of(self.site, shared).into_iter().filter(|node| *node != id);
                disk.to_take_in = others.collect();
                if founder == id {
                    shared.hit(Point::BeganAnewFounder);
                    let whatever = shared.is_mutated(RegionMutation::VoidSnapshotKept);
                    disk.store = founders_store(&disk.store, id, kept, whatever);
                } else {
                    shared.hit(Point::BeganAnewOther);
                    disk.store = Store::empty();
                    if shared.is_mutated(RegionMutation::FounderAloneTakesIn) {
                        disk.to_take_in = Vec::new();
                    }
                }
                disk.retired = Sequence(0);
            }
        }
        let life = self.lives;
        shared.after(STARTS_WITHIN, Happening::Start { node: id, life });
    }
}

/// A message of the region's group, if it is of this life.
fn hear(part: &mut Part, from: NodeId, incarnation: types::Incarnation, message: RaftMessage, turn: &mut Turn<'_>) {
    let is_mutated = turn.shared.is_mutated(RegionMutation::OldLifeHeard);
    if incarnation != turn.disk.incarnation && !is_mutated {
        return turn.shared.hit(Point::OldLifeRefused);
    }
    match PeerMessage::try_from(message) {
        Ok(message) => {
            part.step(Input::Message(message), turn);
            part.look_after(turn);
        }
        Err(error) => turn.shared.oracle.stopped(from, error.to_string()),
    }
}
