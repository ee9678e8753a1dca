//! The core as one of a region: which answers may go out, what the standby follows, and who is active.
//!
//! ```text
//!  active:    applied ──> held ── the lease holds, and the standby has it if it must ──> answers, publisher
//!                            the journal ──> a stream of its own (`sites::follow`) ──> the standby's leader
//!  standby:   batches from the active region ──> incoming ──> replica.step(Follow) ──> applied ──> "I have it"
//! ```
//!
//! What is decided is decided by [`Region`], which does no I/O; this module brings it what happens and does what it says.

mod following;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use gateway::handle::{Lag, NotAccepting, RegionOperation, RegionStatus};
use replica::lease::Elapsed;
use replica::region::{GroupPlace, Mode, Region, RegionInput, RegionOutput, RegionSettings};
use replica::{Input, Replica};
use tokio::sync::oneshot;
use types::limits::COMMANDS_QUEUED_MAX;
use types::{AppliedBatch, Command, Epoch, Event, RegionId, Sequence, StateMachine, Timestamp};
use wire::journal::NodeId;
use wire::peer::Frame;
use wire::site::{LeaseRefusal, LogPlace, SiteMessage};

use super::CoreEnd;
use super::forward::Asker;
use super::state::CoreState;
use crate::journal::Room;
use following::Follow;

/// Batches that a standby puts into its log before it waits for the first of them to be committed.
const FOLLOW_IN_FLIGHT_MAX: usize = 32;
/// Moments that are remembered to tell by how much the standby lags.
const MOMENTS_MAX: usize = 4_096;

/// What the core of a region asks of the node around it. Nothing of it may wait.
pub trait Sites: Send + 'static {
    /// Time that passed since some moment of the system's life.
    fn now(&self) -> Elapsed;

    /// Sends to a node of any site. False: it was not taken, and may be taken for lost.
    fn send(&self, to: NodeId, message: &SiteMessage) -> bool;

    /// Streams what the journal has behind `place` to a standby's leader, in place of what is streamed now.
    fn serve(&self, to: NodeId, stream: u64, place: LogPlace);

    /// The standby has this much of a stream.
    fn followed(&self, stream: u64, through: Sequence);

    /// Something is committed in this epoch; of a region that is not active: none.
    fn committed(&self, epoch: Option<Epoch>, through: Sequence, stamp: Timestamp);

    /// How the region is, for whoever asks the node.
    fn status(&self, status: RegionStatus);
}

/// What happens to the core of a region.
#[derive(Debug)]
pub enum SiteEvent {
    /// Another site says something.
    Message {
        /// Which node of it.
        from: NodeId,
        /// What.
        message: SiteMessage,
    },
    /// Batches of the active region, as they stand in its journal.
    Batches {
        /// Who sent them.
        from: NodeId,
        /// The stream.
        stream: u64,
        /// What the active region has committed, and
        committed: Sequence,
        /// the last sequence before the first of these batches.
        after: Sequence,
        /// The batches; none: it lives.
        batches: Vec<Bytes>,
    },
    /// An operator asks for something.
    Operate(RegionOperation, oneshot::Sender<Result<Epoch, LeaseRefusal>>),
}

/// How the core of a region is set up.
pub struct RegionPart {
    /// The region's part in who is active.
    pub settings: RegionSettings,
    /// The other region's nodes.
    pub others: Vec<NodeId>,
    /// From how many commands behind new ones are slowed, and from how many they are refused; 0: never.
    pub lag_slow_from: u64,
    /// See above.
    pub lag_refuse_from: u64,
    /// The node around it.
    pub sites: Box<dyn Sites>,
}

/// A batch whose answers wait.
struct Held {
    batch: Arc<AppliedBatch>,
    waiters: Vec<Asker>,
    applied_at: Timestamp,
}

/// What the core of a region works with.
pub(super) struct InRegion {
    region: Region,
    id: RegionId,
    sites: Box<dyn Sites>,
    others: Vec<NodeId>,
    held: VecDeque<Held>,
    held_commands: usize,
    /// True if answers are to be durable in both regions.
    waits_for_both: bool,
    outputs: Vec<RegionOutput>,
    operating: Option<oneshot::Sender<Result<Epoch, LeaseRefusal>>>,
    follow: Follow,
    told: Option<GroupPlace>,
    moments: VecDeque<Moment>,
    lag_slow_from: u64,
    lag_refuse_from: u64,
}

/// What was applied at a moment.
#[derive(Clone, Copy)]
struct Moment {
    at: Elapsed,
    applied: Sequence,
    journal_bytes: u64,
}

impl InRegion {
    pub(super) fn new(part: RegionPart, now: Timestamp) -> Self {
        let RegionPart {
            settings,
            others,
            lag_slow_from,
            lag_refuse_from,
            sites,
        } = part;
        let (id, waits_for_both, elapsed) = (settings.region, settings.sync, sites.now());
        Self {
            region: Region::new(settings, elapsed, now.0),
            id,
            sites,
            others,
            held: VecDeque::new(),
            held_commands: 0,
            waits_for_both,
            outputs: Vec::new(),
            operating: None,
            follow: Follow {
                even_at: elapsed,
                ..Follow::default()
            },
            told: None,
            moments: VecDeque::new(),
            lag_slow_from,
            lag_refuse_from,
        }
    }

    fn step(&mut self, input: RegionInput) {
        let now = self.sites.now();
        self.region.step(now, input, &mut self.outputs);
    }

    /// Tells it where the group stands, if that changed.
    fn look_at<M: StateMachine>(&mut self, replica: &Replica<M, Asker>) {
        let applied = replica.applier().applied();
        let place = GroupPlace {
            leads: replica.leads(),
            settled: replica.is_settled(),
            applied: LogPlace {
                epoch: applied.epoch,
                sequence: applied.sequence,
                chain: applied.chain,
            },
            stamp: applied.sequenced_at,
        };
        if self.told != Some(place) {
            self.told = Some(place);
            self.step(RegionInput::Group(place));
        }
    }

    /// Whether commands are taken here, as far as regions go. Where it is about to go on they are, and wait.
    pub(super) fn accepting(&self) -> Result<(), NotAccepting> {
        if self.lag_refuse_from > 0 && self.standby_lag() >= self.lag_refuse_from {
            return Err(NotAccepting::StandbyLags);
        }
        match self.region.mode() {
            Mode::Unknown | Mode::Standby | Mode::Draining(_) => Err(NotAccepting::NotActive),
            Mode::Beginning | Mode::Fenced(_) | Mode::Active(_) => Ok(()),
        }
    }

    /// True while commands had better not be taken out of the queue.
    pub(super) fn has_too_much(&self) -> bool {
        let slow = self.lag_slow_from > 0 && self.standby_lag() >= self.lag_slow_from;
        self.held_commands >= if slow { SLOWED_COMMANDS } else { COMMANDS_QUEUED_MAX }
    }

    /// How many sequences the standby lacks, of the active region's leader; otherwise 0.
    fn standby_lag(&self) -> u64 {
        let leads = self.told.is_some_and(|place| place.leads) && self.region.is_active();
        if !leads {
            return 0;
        }
        let applied = self.told.map(|place| place.applied.sequence).unwrap_or_default();
        applied.0.saturating_sub(self.region.following().through.0)
    }

    /// True if no answer waits.
    pub(super) fn is_idle(&self) -> bool {
        self.held.is_empty()
    }

    /// True if what is read here is the newest that there is.
    pub(super) fn may_read(&self) -> bool {
        self.region.may_read(self.sites.now())
    }

    pub(super) fn status(&self) -> RegionStatus {
        let now = self.sites.now();
        let place = self.told.unwrap_or_default();
        let active = self.region.is_active();
        let following = self.region.following();
        let standby = (place.leads && active).then(|| {
            let oldest = self.moments.front();
            let newest = self.moments.back();
            let bytes = oldest
                .zip(newest)
                .map_or(0, |(oldest, newest)| newest.journal_bytes - oldest.journal_bytes);
            let sequences = place.applied.sequence.0.saturating_sub(following.through.0);
            Lag {
                through: following.through,
                sequences,
                bytes: if sequences > 0 { bytes } else { 0 },
                ns: if sequences > 0 {
                    oldest.map_or(0, |oldest| now.since(oldest.at))
                } else {
                    0
                },
                heard_ns_ago: following.heard_at.map(|at| now.since(at)),
            }
        });
        let behind = (place.leads && self.region.follows()).then(|| {
            let sequences = self.follow.committed.0.saturating_sub(place.applied.sequence.0);
            Lag {
                through: place.applied.sequence,
                sequences,
                bytes: self.follow.incoming_bytes as u64,
                ns: if sequences > 0 {
                    now.since(self.follow.even_at)
                } else {
                    0
                },
                heard_ns_ago: (self.follow.heard_at > Elapsed(0)).then(|| now.since(self.follow.heard_at)),
            }
        });
        RegionStatus {
            region: self.id,
            mode: match self.region.mode() {
                // Its leader knows at once; the others, once they have not heard of a renewal for long enough.
                Mode::Active(_) if !place.leads && !self.region.may_read(now) => "fenced",
                mode => name_of(mode),
            },
            lease: self.region.lease().cloned(),
            lease_remaining_ns: self.region.remaining_ns(now),
            answers_wait: self.region.answers_wait(),
            standby,
            behind,
            why_not: self.region.why_not(),
            is_void: self.region.is_void(),
            other_reads: None,
        }
    }

    /// Remembers how far the region is now, and forgets what the standby has.
    fn note_moment(&mut self, journal_bytes: u64) {
        let Some(place) = self.told.filter(|place| place.leads && self.region.is_active()) else {
            return self.moments.clear();
        };
        let applied = place.applied.sequence;
        if self.moments.back().is_none_or(|last| last.applied < applied) {
            if self.moments.len() == MOMENTS_MAX {
                let mut at = 0;
                self.moments.retain(|_| {
                    at += 1;
                    at % 2 == 1
                });
            }
            self.moments.push_back(Moment {
                at: self.sites.now(),
                applied,
                journal_bytes,
            });
        }
        let through = self.region.following().through;
        while self.moments.front().is_some_and(|first| first.applied <= through) {
            self.moments.pop_front();
        }
    }
}

/// Commands whose answers may wait while intake is slowed.
const SLOWED_COMMANDS: usize = 256;

fn name_of(mode: Mode) -> &'static str {
    match mode {
        Mode::Unknown => "unknown",
        Mode::Standby => "standby",
        Mode::Beginning => "beginning",
        Mode::Active(_) => "active",
        Mode::Draining(_) => "draining",
        Mode::Fenced(_) => "fenced",
    }
}

impl<M> CoreState<M>
where
    M: StateMachine<Command = Command, Event = Event>,
{
    /// A batch was applied: its answers wait if this node leads an active region, and go out at once otherwise.
    pub(super) fn hold_or_answer(&mut self, batch: Arc<AppliedBatch>, waiters: Vec<Asker>) {
        let applied_at = self.shared.clock.now();
        let leads = self.replica.leads();
        let Some(part) = self.region.as_mut().filter(|part| leads && part.region.is_active()) else {
            // Whoever waits where the region is active no longer learns that it is not known what becomes of it.
            let waiters = if leads { Vec::new() } else { waiters };
            return self.answer(&batch, waiters, applied_at);
        };
        part.held_commands += waiters.len();
        part.held.push_back(Held {
            batch,
            waiters,
            applied_at,
        });
    }

    /// What is to be done for the region after each turn.
    pub(super) fn look_after_region(&mut self) -> Result<(), CoreEnd> {
        let Some(part) = self.region.as_mut() else {
            return Ok(());
        };
        part.look_at(&self.replica);
        self.do_as_the_region_says()?;
        self.release();
        self.feed()?;
        self.tell_followed();
        Ok(())
    }

    /// A tick has passed.
    pub(super) fn region_tick(&mut self) -> Result<(), CoreEnd> {
        let journal_bytes = self.journal.figures().bytes;
        let Some(part) = self.region.as_mut() else {
            return Ok(());
        };
        part.step(RegionInput::Tick);
        part.note_moment(journal_bytes);
        part.ask_to_follow();
        self.look_after_region()
    }

    /// Tells everybody else how the region is.
    pub(super) fn tell_region(&self) {
        let Some(part) = &self.region else { return };
        if let Some(lease) = part.region.lease() {
            self.shared.epoch.store(lease.epoch.0, Ordering::Release);
        }
        let both = Sequence(self.shared.both_through.load(Ordering::Acquire));
        if self.replica.leads() && both > Sequence(0) {
            // They need it for what they keep, also where no answer waits for it.
            self.member
                .tell_all_both_through(both, self.replica.applier().membership());
        }
        part.sites.status(part.status());
    }

    /// Another site, or an operator, says something.
    pub(super) fn take_site_event(&mut self, event: SiteEvent) {
        let Some(part) = self.region.as_mut() else { return };
        match event {
            SiteEvent::Message { from, message } => part.hear(from, message, self.replica.leader()),
            SiteEvent::Batches {
                from,
                stream,
                committed,
                after,
                batches,
            } => part.take_batches(from, stream, committed, after, batches),
            SiteEvent::Operate(operation, waits) => part.operate(operation, waits),
        }
    }

    fn do_as_the_region_says(&mut self) -> Result<(), CoreEnd> {
        loop {
            let Some(part) = self.region.as_mut() else {
                return Ok(());
            };
            if part.outputs.is_empty() {
                return Ok(());
            }
            for output in std::mem::take(&mut part.outputs) {
                self.do_one(output)?;
            }
            // Some of it may have moved the group.
            if let Some(part) = self.region.as_mut() {
                part.look_at(&self.replica);
            }
        }
    }

    fn do_one(&mut self, output: RegionOutput) -> Result<(), CoreEnd> {
        let Some(part) = self.region.as_mut() else {
            return Ok(());
        };
        match output {
            RegionOutput::Ask { to, id, command } => {
                // What is not taken is asked again.
                let _ = part.sites.send(to, &SiteMessage::LeaseAsk { id, command });
            }
            RegionOutput::TellMoved(epoch) => {
                for node in &part.others {
                    let _ = part.sites.send(*node, &SiteMessage::LeaseMoved { epoch });
                }
            }
            RegionOutput::Operated(result) => {
                if let Some(waits) = part.operating.take() {
                    let _ = waits.send(result);
                }
            }
            RegionOutput::Mode(mode) => return self.mode_changed(mode),
            RegionOutput::BeginAnew {
                incarnation,
                founder,
                kept,
            } => {
                return Err(CoreEnd::BeginsLife {
                    incarnation,
                    founder,
                    kept,
                });
            }
        }
        Ok(())
    }

    fn mode_changed(&mut self, mode: Mode) -> Result<(), CoreEnd> {
        let Some(part) = self.region.as_mut() else {
            return Ok(());
        };
        let leads = part.told.is_some_and(|place| place.leads);
        let epoch = part.region.lease().map(|lease| lease.epoch).unwrap_or_default();
        tracing::info!(
            mode = name_of(mode),
            epoch = epoch.0,
            leads,
            "the region's part has changed"
        );
        self.shared.epoch.store(epoch.0, Ordering::Release);
        if let (Mode::Active(_), Some(lease)) = (mode, part.region.lease()) {
            // What came before this epoch is in both regions' logs.
            let after = lease.began_after().unwrap_or_default();
            self.shared.both_through.fetch_max(after.0, Ordering::AcqRel);
        }
        if !matches!(mode, Mode::Standby) {
            part.follow = Follow {
                even_at: part.sites.now(),
                ..Follow::default()
            };
        }
        if !part.region.is_active() {
            part.sites.committed(None, Sequence(0), Timestamp(0));
            // They are in this log; whether they are in that of the new epoch is asked there.
            self.let_go_of_held();
            let bells = &mut self.bells;
            self.member.forwarding.refuse_parked(NotAccepting::NotActive, bells);
            bells.ring();
        }
        self.step(Input::Sequence(mode.sequences()))?;
        self.follow_replica();
        Ok(())
    }

    /// Publishes what waits to be answered, without answering.
    fn let_go_of_held(&mut self) {
        let Some(part) = self.region.as_mut() else { return };
        part.held_commands = 0;
        for held in std::mem::take(&mut part.held) {
            self.answer(&held.batch, Vec::new(), held.applied_at);
        }
    }

    /// Answers what may be answered by now.
    pub(super) fn release(&mut self) {
        let Some(part) = self.region.as_mut() else { return };
        let now = part.sites.now();
        let Some(answerable) = part.region.answerable(now) else {
            if !self.replica.leads() {
                // Whoever leads now streams to the standby.
                part.sites.committed(None, Sequence(0), Timestamp(0));
                self.release_as_follower(now);
            }
            return;
        };
        if let (Some(place), Some(lease)) = (part.told, part.region.lease()) {
            part.sites
                .committed(Some(lease.epoch), place.applied.sequence, place.stamp);
        }
        let both = answerable.both_through;
        let before = self.shared.both_through.fetch_max(both.0, Ordering::AcqRel);
        if both.0 > before && part.region.answers_wait() {
            self.member.tell_both_through(both);
        }
        self.release_through(answerable.through);
    }

    /// Answers what a former leader held: it is in the region's log, and that region is the active one for certain.
    fn release_as_follower(&mut self, now: Elapsed) {
        let Some(part) = self.region.as_mut().filter(|part| !part.held.is_empty()) else {
            return;
        };
        if !part.region.may_read(now) {
            return;
        }
        let through = match part.waits_for_both {
            true => Sequence(self.shared.both_through.load(Ordering::Acquire)),
            false => Sequence(u64::MAX),
        };
        self.release_through(through);
    }

    fn release_through(&mut self, through: Sequence) {
        while let Some(part) = self.region.as_mut()
            && part
                .held
                .front()
                .is_some_and(|held| held.batch.header.last_sequence() <= through)
            && let Some(held) = part.held.pop_front()
        {
            part.held_commands -= held.waiters.len();
            self.answer(&held.batch, held.waiters, held.applied_at);
        }
        self.member.send_answers();
    }

    /// Puts what came from the active region into the log, as far as there is room.
    fn feed(&mut self) -> Result<(), CoreEnd> {
        loop {
            let room = self.journal.room() == Room::Enough;
            let in_flight = self.replica.in_flight_count();
            let Some(part) = self.region.as_mut() else {
                return Ok(());
            };
            if part.follow.incoming.is_empty() || !part.region.follows() || !room || in_flight >= FOLLOW_IN_FLIGHT_MAX {
                return Ok(());
            }
            let Some(batches) = part.next_batches(self.replica.next_sequence(), FOLLOW_IN_FLIGHT_MAX - in_flight)
            else {
                continue;
            };
            self.step(Input::Follow(batches))?;
            if let Some(part) = self.region.as_mut() {
                part.look_at(&self.replica);
            }
            self.do_as_the_region_says()?;
        }
    }

    /// Tells the active region how far this one is, when that changed.
    fn tell_followed(&mut self) {
        let Some(part) = self.region.as_mut() else { return };
        let (Some(place), Some(lease)) = (part.told, part.region.lease()) else {
            return;
        };
        let follow = &mut part.follow;
        if follow.stream == 0 || follow.said == Some(place.applied) {
            return;
        }
        let now = part.sites.now();
        if place.applied.sequence >= follow.committed {
            follow.even_at = now;
        }
        follow.said = Some(place.applied);
        follow.said_at = now;
        let message = SiteMessage::Followed {
            stream: follow.stream,
            epoch: lease.epoch,
            place: place.applied,
        };
        if let Some(source) = follow.source {
            let _ = part.sites.send(source, &message);
        }
    }
}

impl InRegion {
    fn operate(&mut self, operation: RegionOperation, waits: oneshot::Sender<Result<Epoch, LeaseRefusal>>) {
        // Whoever waits for an earlier one learns that it is not known what became of it.
        self.operating = Some(waits);
        self.step(match operation {
            RegionOperation::SwitchOver => RegionInput::SwitchOver,
            RegionOperation::Promote => RegionInput::Promote,
            RegionOperation::Demote => RegionInput::Demote(true),
        });
        if operation == RegionOperation::Demote {
            let epoch = self.region.lease().map(|lease| lease.epoch).unwrap_or_default();
            if let Some(waits) = self.operating.take() {
                let _ = waits.send(Ok(epoch));
            }
        }
    }
}

/// The frame that tells another node of the group up to where everything is durable in both regions.
pub(super) fn both_through_frame(through: Sequence) -> Frame {
    Frame::ControlRequest(through.0.to_le_bytes().to_vec().into())
}

/// Reads it.
pub fn both_through_of(bytes: &[u8]) -> Option<Sequence> {
    Some(Sequence(u64::from_le_bytes(bytes.try_into().ok()?)))
}
