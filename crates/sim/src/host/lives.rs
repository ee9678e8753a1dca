//! How a node starts from what is on its disk, and how it ends.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use replica::{Applied, Applier, HardState, Input, Replica, Settings, SnapshotPoint};
use types::StateMachine;
use wire::journal::LogIndex;
use wire::membership::Membership;

use super::{Host, Running};
use crate::coverage::Point;
use crate::events::{Event, Waiter};
use crate::journal::{Files, Journal, NotOpened, PowerLost};
use crate::market::{EPOCH, Market};
use crate::mutation::{Mutated, Mutation};
use crate::shared::Shared;

/// What a process goes on with.
type Recovered = (Replica<Market, Waiter>, Journal);
/// A journal, the entries behind what is applied, and the term and vote.
type OpenedAs = (Journal, Vec<replica::LogEntry>, HardState);

impl Host {
    /// Starts the process from what is on its disk.
    pub(crate) fn start(&mut self, shared: &mut Shared) {
        assert!(self.running.is_none(), "it runs already");
        self.drains = false;
        self.lives += 1;
        if self.reads < self.next_reads && self.lives > 1 {
            shared.hit(Point::Upgraded);
        }
        self.reads = self.next_reads;
        self.life = self.lives;
        shared.lives[self.id.0 as usize] = self.life;
        self.disk.files.sync_all();
        let again = self.disk.repairing;
        let (replica, journal) = match self.recover(shared) {
            Ok(Some(recovered)) => recovered,
            Ok(None) => return self.kill(shared),
            Err(PowerLost) => return self.power_went(shared),
        };
        if again && self.disk.repairing && !self.is_gateway {
            shared.hit(Point::StartRepairAgain);
        }
        let applied = replica.applier().applied();
        let id = self.id;
        shared.say(|| {
            format!(
                "node {id} starts, at index {} sequence {}",
                applied.index, applied.sequence
            )
        });
        let lone = replica.applier().membership().is_lone_voter(self.id);
        self.running = Some(Running {
            snapshot_at: applied.index,
            replica,
            journal,
            queue: Vec::new(),
            gathers: false,
            forwarded: BTreeMap::new(),
            next_token: 1,
            answers: BTreeMap::new(),
            reads: BTreeMap::new(),
            next_read: 1,
            received: Vec::new(),
            disk_free_at: shared.now,
            syncs: 0,
            mark_is_due: false,
            makes_snapshot: false,
            snapshot_wanted: None,
            change_taken: None,
        });
        shared.after(
            self.clock.tick(),
            Event::Tick {
                node: self.id,
                life: self.life,
            },
        );
        if lone {
            shared.hit(Point::StartLone);
            shared.hit(Point::InCampaign);
            self.step(Input::Campaign, shared);
        }
    }

    /// From snapshot and journal to a replica. None if that can't be, which the oracle is told.
    pub(super) fn recover(&mut self, shared: &mut Shared) -> Result<Option<Recovered>, PowerLost> {
        let stored = match &self.installed {
            Some((stored, _)) => Some(Rc::clone(stored)),
            None => self
                .disk
                .snapshots
                .iter()
                .max_by_key(|stored| stored.point.applied.index)
                .cloned(),
        };
        let point = stored
            .as_ref()
            .map(|stored| stored.point.clone())
            .unwrap_or_else(|| SnapshotPoint {
                applied: Applied::default(),
                membership: Membership::default(),
            });
        let market = match &stored {
            Some(stored) if stored.engine_version > self.reads => {
                let (version, reads) = (stored.engine_version, self.reads);
                let why = format!(
                    "engine version {version} is in force in its snapshot, and it knows versions up to {reads}"
                );
                shared.oracle.stopped(self.id, why);
                return Ok(None);
            }
            Some(stored) => match Market::restore(stored.state.clone(), stored.engine_version) {
                Ok(market) => market,
                Err(error) => {
                    shared
                        .oracle
                        .stopped(self.id, format!("a snapshot can't be restored: {error}"));
                    return Ok(None);
                }
            },
            None => Market::default(),
        };
        let market = market.of_release(self.reads);
        match &stored {
            None => shared.hit(Point::StartEmpty),
            Some(_) if point.applied.index > LogIndex(1) => shared.hit(Point::StartSnapshot),
            Some(_) => {}
        }
        let mut applier = Applier::new(
            &self.identity(),
            market,
            point.applied,
            point.membership,
            BTreeSet::new(),
        );
        let Some((journal, suffix, hard_state)) = self.open(&mut applier, point.applied, shared)? else {
            return Ok(None);
        };
        for executed in applier.machine().take_executed() {
            shared.oracle.executed(self.id, &executed);
        }
        let settings = Settings {
            identity: self.identity(),
            epoch: Some(EPOCH),
            repairing: self.disk.repairing && !shared.mutation.is(Mutation::DoubtfulTailVotes),
            election_ticks: self.election_ticks,
        };
        let forgets = [Mutation::RepairForgotten, Mutation::DoubtfulTailVotes];
        if forgets.iter().any(|mutation| shared.mutation.is(*mutation)) {
            self.disk.repairing = false;
        }
        match Replica::new(&settings, applier, hard_state, suffix) {
            Ok(replica) => Ok(Some((replica, journal))),
            Err(reason) => {
                shared.oracle.stopped(self.id, format!("it can't start: {reason}"));
                Ok(None)
            }
        }
    }

    /// Opens the journal, and applies what is known to be committed.
    pub(super) fn open(
        &mut self,
        applier: &mut Applier<Market>,
        snapshot: Applied,
        shared: &mut Shared,
    ) -> Result<Option<OpenedAs>, PowerLost> {
        let identity = self.identity();
        let mutation = shared.mutation;
        let files = &mut self.disk.files;
        if self.is_gateway {
            *files = Files::new(16 << 10);
            let hard_state = self.installed.take().map(|(_, state)| state).unwrap_or_default();
            let journal = Journal::begin_anew(files, identity, snapshot, hard_state, mutation)?;
            self.disk.repairing = self.lives > 1;
            return Ok(Some((journal, Vec::new(), hard_state)));
        }
        let opened = match Journal::open(files, identity, snapshot, mutation) {
            Ok(opened) => opened,
            Err(NotOpened::PowerLost) => return Err(PowerLost),
            Err(NotOpened::Damaged(damage)) => {
                if !self.rotten {
                    shared
                        .oracle
                        .stopped(self.id, format!("its journal is damaged, and no bit rotted: {damage}"));
                    return Ok(None);
                }
                let id = self.id;
                shared.say(|| format!("node {id}: {damage}"));
                shared.hit(Point::StartDamaged);
                self.disk.repairing = true;
                let hard_state = Journal::marked_vote(files);
                let journal = Journal::begin_anew(files, identity, snapshot, hard_state, mutation)?;
                self.rotten = false;
                return Ok(Some((journal, Vec::new(), hard_state)));
            }
        };
        let mut journal = opened.journal;
        self.rotten = false;
        let ways = [
            (opened.torn, Point::StartTorn),
            (opened.cuts > 0, Point::StartCut),
            (opened.jumped, Point::StartJumped),
            (!opened.committed.is_empty(), Point::StartCommitted),
            (!opened.suffix.is_empty(), Point::StartSuffix),
            (!opened.torn && opened.cuts == 0 && !opened.jumped, Point::StartClean),
        ];
        for (_, point) in ways.iter().filter(|(is_so, _)| *is_so) {
            shared.hit(*point);
        }
        let mut suffix = VecDeque::from(opened.suffix);
        let mut committed = VecDeque::from(opened.committed);
        // Whatever a lone voter has on disk is committed.
        loop {
            let is_lone = applier.membership().is_lone_voter(identity.node);
            let next = match committed.pop_front() {
                None if is_lone => suffix.pop_front(),
                next => next,
            };
            let Some(entry) = next else { break };
            if let Err(reason) = applier.apply(&entry) {
                shared.oracle.stopped(self.id, format!("its own journal: {reason}"));
                return Ok(None);
            }
        }
        let applied = applier.applied().index;
        journal.set_committed(applied);
        if mutation.is(Mutation::SuffixForgotten) && !suffix.is_empty() {
            suffix.clear();
            journal.truncate(&mut self.disk.files, applied)?;
        }
        Ok(Some((journal, suffix.into(), opened.hard_state)))
    }

    /// The process is gone; what it wrote stays.
    pub(crate) fn kill(&mut self, shared: &mut Shared) {
        if self.running.take().is_some() {
            let id = self.id;
            shared.say(|| format!("node {id} is gone"));
        }
        self.life = 0;
        shared.lives[self.id.0 as usize] = 0;
        self.backlog.clear();
        if self.is_gateway {
            self.disk.snapshots.clear();
            self.installed = None;
        }
    }

    /// The power is gone; what was not synced may be.
    pub(crate) fn lose_power(&mut self, shared: &mut Shared) {
        self.kill(shared);
        self.disk.files.lose_power(&mut shared.dice);
    }

    /// Ends as it should: what is appended is synced.
    ///
    /// False if the power went meanwhile; then it starts by itself, later.
    pub(crate) fn shut_down(&mut self, shared: &mut Shared) -> bool {
        if self.is_active() && !self.drains {
            shared.hit(Point::InDrain);
            self.step(Input::Drain, shared);
        }
        let Some(running) = &mut self.running else {
            return false;
        };
        if self.paused == 0 && running.journal.close(&mut self.disk.files).is_err() {
            self.power_went(shared);
            return false;
        }
        self.kill(shared);
        true
    }
}
