//! A region's part in who is active.

use types::{Epoch, Incarnation, RegionId, Sequence, Timestamp};
use wire::journal::NodeId;
use wire::site::{DurabilityChange, LeaseCommand, LeaseRefusal, LeaseState, LeaseView, LogPlace, Renewal};

use super::answers::{Answerable, Places, Waiting};
use super::standby::Following;
use crate::lease::{Elapsed, Holder};

/// Into how many parts a lease is divided by its renewals.
const RENEWALS_PER_LEASE: u64 = 5;
/// How often a node that has nothing else to ask looks at the lease, in nanoseconds.
const LOOK_EVERY_NS: u64 = 500_000_000;
/// The same while something is about to change.
const LOOK_SOON_NS: u64 = 50_000_000;
/// For how long an answer is waited for before another voter is asked, in nanoseconds, at most.
const ANSWER_WITHIN_NS_MAX: u64 = 1_000_000_000;
/// Asks of another voter at once that may follow on each other before a pause.
const REDIRECTS_MAX: u32 = 3;
/// For how long a switch-over may take before the region goes on as it was, in nanoseconds.
const SWITCH_WITHIN_NS: u64 = 10_000_000_000;

/// What happens to answers that wait for a standby that is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStandbyLoss {
    /// They go out without it after a while, which is on record first.
    Degrade,
    /// They wait, and nothing further is taken once too many do.
    Stop,
}

/// How a region is set up.
#[derive(Clone, Debug)]
pub struct RegionSettings {
    /// Which region.
    pub region: RegionId,
    /// The other one.
    pub other: RegionId,
    /// This node.
    pub node: NodeId,
    /// The life of its group.
    pub incarnation: Incarnation,
    /// True of the region that is active first of all.
    pub founds: bool,
    /// The voters of the lease group.
    pub voters: Vec<NodeId>,
    /// True if answers have to be durable in both regions.
    pub sync: bool,
    /// True if it takes over by itself once the active region's lease has lapsed.
    pub automatic: bool,
    /// How long a renewal holds, in nanoseconds.
    pub lease_ns: u64,
    /// By how much clocks that count elapsed time may differ, in parts per million.
    pub drift_ppm: u32,
    /// How many sequences it may lack when it takes over by itself; none: however many.
    pub lag_max: Option<u64>,
    /// What happens when the standby is away.
    pub on_standby_loss: OnStandbyLoss,
    /// For how long answers wait for a standby that gets no further, in nanoseconds.
    pub degrade_after_ns: u64,
}

/// Where the region's own group stands, as this node sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupPlace {
    /// True if this node leads it and has applied its term's first entry.
    pub leads: bool,
    /// True if nothing is in its log that is not applied.
    pub settled: bool,
    /// The last batch that is applied.
    pub applied: LogPlace,
    /// Its stamp.
    pub stamp: Timestamp,
}

/// Something happened.
#[derive(Clone, Debug)]
pub enum RegionInput {
    /// Time passed.
    Tick,
    /// The group got further, or its leader changed.
    Group(GroupPlace),
    /// A voter of the lease group answered.
    Answer {
        /// The question.
        id: u64,
        /// Whether it was done.
        done: Result<(), LeaseRefusal>,
        /// How the lease is.
        view: LeaseView,
    },
    /// The standby says how far it is.
    Followed {
        /// The newest epoch that it knows of.
        epoch: Epoch,
        /// What its majority has.
        place: LogPlace,
    },
    /// Another site says that the lease has moved.
    LeaseMoved,
    /// An operator wants the other region to be active.
    SwitchOver,
    /// An operator wants this one to be, once the lease has lapsed, whatever it lacks.
    Promote,
    /// An operator wants this one to let its lease lapse; false: no longer.
    Demote(bool),
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegionOutput {
    /// Ask a voter of the lease group.
    Ask {
        /// Which.
        to: NodeId,
        /// Names the question.
        id: u64,
        /// What it is to do, if it is not just to tell.
        command: Option<LeaseCommand>,
    },
    /// What the group's leader may sequence changed.
    Mode(Mode),
    /// The lease was handed over: tell the other region's nodes.
    TellMoved(Epoch),
    /// This life of the group is over. What lies behind `kept` is void; begin anew.
    BeginAnew {
        /// The next life.
        incarnation: Incarnation,
        /// The node that it begins with.
        founder: NodeId,
        /// The last sequence of this node's log that the present epoch has too.
        kept: Sequence,
    },
    /// What an operator asked for came to its end: the present epoch, or why not.
    Operated(Result<Epoch, LeaseRefusal>),
}

/// What a region's group does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// It doesn't know yet who is active, and takes nothing.
    #[default]
    Unknown,
    /// Another region is active; it follows that one.
    Standby,
    /// It was made active and is about to begin.
    Beginning,
    /// It is active, and sequences in this epoch.
    Active(Epoch),
    /// It is active, and brings what it has taken to its end.
    Draining(Epoch),
    /// Its lease has lapsed: it takes and answers nothing until it has been renewed.
    Fenced(Epoch),
}

impl Mode {
    /// The epoch in which commands are sequenced, if they are.
    pub fn sequences(self) -> Option<Epoch> {
        match self {
            Self::Active(epoch) => Some(epoch),
            _ => None,
        }
    }
}

/// What a question is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Look,
    Found,
    Renew,
    Promote,
    HandOver,
    BeginLife,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    id: u64,
    purpose: Purpose,
    sent_at: Elapsed,
}

/// A region's part in who is active. See the module's picture.
#[derive(Debug)]
pub struct Region {
    settings: RegionSettings,
    group: GroupPlace,
    lease: LeaseState,
    /// True once a voter has told how the lease is.
    known: bool,
    holder: Holder,
    /// Until when nobody but the active region can be active, as this node counts.
    certain_until: Elapsed,
    /// The voter to ask.
    voter: NodeId,
    asked: Option<Asked>,
    /// How often in a row another voter was asked at once.
    redirects: u32,
    last_id: u64,
    next_at: Elapsed,
    renew_at: Elapsed,
    /// The epoch for which this leader knows that its beginning is on record.
    begun: Option<Epoch>,
    waiting: Waiting,
    following: Following,
    /// True if this leader's log had an end that was applied since the region became a standby. What was sequenced here
    /// before may still be on its way through the log then, and nothing follows on that.
    ends_settled: bool,
    mode: Mode,
    switching: Option<Switching>,
    promoting: bool,
    demoted: bool,
    why_not: Option<LeaseRefusal>,
    over: bool,
}

#[derive(Clone, Copy, Debug)]
struct Switching {
    until: Elapsed,
    /// True once the lease group may have been asked for it and not answered.
    asked: bool,
}

impl Region {
    /// Knows nothing yet. `now` is any moment of this system's life; `ids_from` is more than any question's id of an
    /// earlier life of this node, such as its clock.
    pub fn new(settings: RegionSettings, now: Elapsed, ids_from: u64) -> Self {
        let voter = settings.voters.first().copied().unwrap_or(settings.node);
        Self {
            waiting: Waiting::new(settings.sync),
            settings,
            group: GroupPlace::default(),
            lease: LeaseState::default(),
            known: false,
            holder: Holder::default(),
            certain_until: Elapsed(0),
            voter,
            asked: None,
            redirects: 0,
            last_id: ids_from,
            next_at: now,
            renew_at: now,
            begun: None,
            following: Following::default(),
            ends_settled: false,
            mode: Mode::Unknown,
            switching: None,
            promoting: false,
            demoted: false,
            why_not: None,
            over: false,
        }
    }

    /// Handles one input. What there is to do is appended to `outputs`, in order.
    pub fn step(&mut self, now: Elapsed, input: RegionInput, outputs: &mut Vec<RegionOutput>) {
        if self.over {
            return;
        }
        match input {
            RegionInput::Tick => {}
            RegionInput::Group(place) => self.group_moved(now, place),
            RegionInput::Answer { id, done, view } => self.answered(now, id, done, view, outputs),
            // What its log has that the present epoch has not says nothing of what it has of the present epoch.
            RegionInput::Followed { place, .. } if self.is_past_a_fork(place) => {}
            RegionInput::Followed { epoch, place } => {
                self.following.said(now, self.lease.epoch, epoch, place);
                self.following.compare(now, self.group.applied.sequence);
            }
            RegionInput::LeaseMoved => self.next_at = now,
            RegionInput::SwitchOver => self.switch_over(now, outputs),
            RegionInput::Promote => {
                if !self.group.leads {
                    outputs.push(RegionOutput::Operated(Err(LeaseRefusal::NotActive)));
                } else if self.is_active() {
                    outputs.push(RegionOutput::Operated(Err(LeaseRefusal::IsActive)));
                } else {
                    self.promoting = true;
                    self.demoted = false;
                    self.next_at = now;
                }
            }
            RegionInput::Demote(demoted) => self.demoted = demoted,
        }
        if self.switching.is_some() && self.known && !self.is_active() {
            outputs.push(RegionOutput::TellMoved(self.lease.epoch));
            self.switched(Ok(self.lease.epoch), outputs);
        }
        self.ask(now, outputs);
        self.change_mode(now, outputs);
        if self.mode == Mode::Standby && self.group.leads && self.group.settled {
            self.ends_settled = true;
        }
        self.begin_anew(outputs);
    }

    /// Up to where answers may go out now; none: none may.
    pub fn answerable(&mut self, now: Elapsed) -> Option<Answerable> {
        let epoch = self.begun?;
        if !self.group.leads || !self.is_active() || !self.holder.holds(epoch, now) {
            return None;
        }
        let places = self.places();
        Some(self.waiting.answerable(places))
    }

    /// True if no other region can be active now, so that a read of what this one has committed is the newest. A node that
    /// does not lead the group knows of no hand-over that is under way; its leader does, and serves no read then (see
    /// [`crate::Input::Sequence`]).
    pub fn may_read(&self, now: Elapsed) -> bool {
        if !self.is_active() {
            return false;
        }
        if self.group.leads {
            self.begun == Some(self.lease.epoch) && self.switching.is_none() && self.holder.holds(self.lease.epoch, now)
        } else {
            now < self.certain_until
        }
    }

    /// What the group does.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// True if this node is to follow the active region on behalf of its group.
    pub fn follows(&self) -> bool {
        let begun = self.lease.began_after().is_some();
        self.mode == Mode::Standby && self.group.leads && begun && self.ends_settled && !self.is_void() && !self.over
    }

    /// True if the region is active, as far as this node knows.
    pub fn is_active(&self) -> bool {
        self.known && self.lease.active == Some(self.settings.region)
    }

    /// The lease, as far as this node knows.
    pub fn lease(&self) -> Option<&LeaseState> {
        self.known.then_some(&self.lease)
    }

    /// How far the standby is, as the active region's leader knows.
    pub fn following(&self) -> Following {
        self.following
    }

    /// True if answers wait for the standby.
    pub fn answers_wait(&self) -> bool {
        self.settings.sync && self.waiting.waits()
    }

    /// Why the region was not made active when it last asked to be.
    pub fn why_not(&self) -> Option<LeaseRefusal> {
        self.why_not
    }

    /// For how long the lease holds, in nanoseconds: of the active region's leader.
    pub fn remaining_ns(&self, now: Elapsed) -> u64 {
        self.holder.remaining_ns(now)
    }

    /// True if the log here has something that the present epoch has not.
    pub fn is_void(&self) -> bool {
        self.is_past_a_fork(self.group.applied)
    }

    fn is_past_a_fork(&self, place: LogPlace) -> bool {
        self.known && self.lease.kept(place.epoch, place.sequence) < place.sequence
    }

    fn places(&self) -> Places {
        Places {
            applied: self.group.applied.sequence,
            followed: self.following.through,
        }
    }

    fn group_moved(&mut self, now: Elapsed, place: GroupPlace) {
        if place.leads != self.group.leads {
            // Whoever led before may have asked and answered otherwise.
            self.begun = None;
            self.ends_settled = false;
            self.holder.lost();
            self.switching = None;
            self.waiting.begin(place.applied.sequence);
            self.following = Following {
                moved_at: now,
                ..Following::default()
            };
            self.renew_at = now;
            self.next_at = now;
        }
        self.group = place;
        self.following.compare(now, place.applied.sequence);
    }

    fn answered(
        &mut self,
        now: Elapsed,
        id: u64,
        done: Result<(), LeaseRefusal>,
        view: LeaseView,
        outputs: &mut Vec<RegionOutput>,
    ) {
        let Some(asked) = self.asked.filter(|asked| asked.id == id) else {
            return;
        };
        self.asked = None;
        self.next_at = now.plus_ns(LOOK_EVERY_NS);
        if let Err(LeaseRefusal::NotLeader { leader }) = done {
            return self.ask_another(now, leader);
        }
        self.redirects = 0;
        if let Some(leader) = view.leader {
            self.voter = leader;
        }
        self.learn(now, asked.sent_at, &view);
        match (asked.purpose, done) {
            (Purpose::Renew, Ok(())) => {
                self.renewed(asked.sent_at);
                if self
                    .switching
                    .is_some_and(|switching| switching.asked && now >= switching.until)
                {
                    // The hand-over that was under way is void now.
                    self.switching = None;
                    outputs.push(RegionOutput::Operated(Err(LeaseRefusal::Renewed)));
                }
            }
            (Purpose::Found | Purpose::Promote, Ok(())) => {
                self.why_not = None;
                self.next_at = now;
            }
            (Purpose::Promote, Err(why)) => {
                self.why_not = Some(why);
                if self.promoting && !matches!(why, LeaseRefusal::Held { .. } | LeaseRefusal::Renewed) {
                    self.promoting = false;
                    outputs.push(RegionOutput::Operated(Err(why)));
                }
            }
            // Whether it was done shows in the lease's state.
            (Purpose::HandOver, Ok(())) => {}
            (Purpose::HandOver, Err(why)) => self.switched(Err(why), outputs),
            // What was void is asked again at once, now that it is known how the lease is.
            (Purpose::Renew, Err(_)) => self.renew_at = now,
            (Purpose::Look | Purpose::Found | Purpose::BeginLife, _) => {}
        }
        if !view.leads && asked.purpose == Purpose::Look {
            // Only the leader knows for how long the lease is certain.
            self.next_at = now.plus_ns(LOOK_SOON_NS);
        } else if matches!(
            self.why_not,
            Some(LeaseRefusal::Held { .. } | LeaseRefusal::Renewed) | None
        ) && !self.is_active()
        {
            self.next_at = now.plus_ns(view.remaining_ns.clamp(LOOK_SOON_NS, LOOK_EVERY_NS));
        }
    }

    fn ask_another(&mut self, now: Elapsed, leader: Option<NodeId>) {
        let voters = &self.settings.voters;
        let at = voters.iter().position(|voter| *voter == self.voter).unwrap_or(0);
        let next = voters.get((at + 1) % voters.len().max(1)).copied();
        self.voter = leader
            .filter(|leader| voters.contains(leader))
            .or(next)
            .unwrap_or(self.voter);
        self.redirects += 1;
        let at = if self.redirects <= REDIRECTS_MAX {
            now
        } else {
            // All of them were asked: nobody leads them for now.
            self.redirects = 0;
            now.plus_ns(LOOK_SOON_NS)
        };
        self.next_at = at;
        self.renew_at = at;
    }

    /// Takes over how the lease is, unless something newer is known.
    fn learn(&mut self, now: Elapsed, asked_at: Elapsed, view: &LeaseView) {
        let (state, known) = (&view.state, &self.lease);
        if (state.epoch, state.renewals) < (known.epoch, known.renewals) {
            return;
        }
        let changes = state.epoch != known.epoch || !self.known;
        if changes {
            self.begun = None;
            self.ends_settled = false;
            self.holder.lost();
            self.certain_until = Elapsed(0);
            self.waiting.begin(self.group.applied.sequence);
            self.following = Following {
                moved_at: now,
                ..Following::default()
            };
            self.renew_at = now;
        }
        self.lease.clone_from(state);
        self.known = true;
        if view.leads {
            let drift = u128::from(state.lease_ns) * u128::from(self.settings.drift_ppm) / 1_000_000;
            let certain = view
                .remaining_ns
                .saturating_sub(u64::try_from(drift).unwrap_or(u64::MAX));
            self.certain_until = self.certain_until.max(asked_at.plus_ns(certain));
        }
    }

    fn renewed(&mut self, sent_at: Elapsed) {
        if !self.is_active() {
            return;
        }
        self.renew_at = sent_at.plus_ns(self.settings.lease_ns / RENEWALS_PER_LEASE);
        if self.lease.began_after().is_none() {
            return;
        }
        self.holder.granted(self.lease.epoch, sent_at, self.settings.lease_ns);
        self.waiting.granted(self.lease.durability);
        self.begun = Some(self.lease.epoch);
    }

    fn switch_over(&mut self, now: Elapsed, outputs: &mut Vec<RegionOutput>) {
        if !self.group.leads || !matches!(self.mode, Mode::Active(_)) || self.switching.is_some() {
            outputs.push(RegionOutput::Operated(Err(LeaseRefusal::NotActive)));
            return;
        }
        self.switching = Some(Switching {
            until: now.plus_ns(SWITCH_WITHIN_NS),
            asked: false,
        });
    }

    fn switched(&mut self, result: Result<Epoch, LeaseRefusal>, outputs: &mut Vec<RegionOutput>) {
        if let Some(switching) = self.switching.take() {
            if result.is_err() && switching.asked {
                // Refused for good: it can't be done later.
                self.begun = None;
            }
            outputs.push(RegionOutput::Operated(result));
        }
    }

    /// Asks the lease group, if it is time to and nothing is being asked.
    fn ask(&mut self, now: Elapsed, outputs: &mut Vec<RegionOutput>) {
        let within = ANSWER_WITHIN_NS_MAX.min(self.settings.lease_ns / 2);
        if let Some(asked) = self.asked {
            if now.since(asked.sent_at) < within {
                return;
            }
            self.asked = None;
            self.ask_another(now, None);
        }
        if self
            .switching
            .is_some_and(|switching| !switching.asked && now >= switching.until)
        {
            let why = LeaseRefusal::Lags {
                lag: self.group.applied.sequence.0.saturating_sub(self.following.through.0),
            };
            self.switched(Err(why), outputs);
        }
        let Some((purpose, command)) = self.wanted(now) else {
            return;
        };
        if let Some(LeaseCommand::Renew(Renewal {
            change: Some(change), ..
        })) = &command
        {
            self.waiting.asked(change.durability);
        }
        if purpose == Purpose::HandOver
            && let Some(switching) = &mut self.switching
        {
            switching.asked = true;
        }
        self.last_id += 1;
        self.asked = Some(Asked {
            id: self.last_id,
            purpose,
            sent_at: now,
        });
        outputs.push(RegionOutput::Ask {
            to: self.voter,
            id: self.last_id,
            command,
        });
    }

    /// What to ask now, if anything.
    fn wanted(&mut self, now: Elapsed) -> Option<(Purpose, Option<LeaseCommand>)> {
        let look = || (now >= self.next_at).then_some((Purpose::Look, None));
        if !self.known || !self.group.leads {
            return look();
        }
        let RegionSettings {
            region,
            node,
            incarnation,
            lease_ns,
            ..
        } = self.settings;
        match self.lease.active {
            None if self.settings.founds && self.group.settled => {
                Some((Purpose::Found, Some(LeaseCommand::Found { region, lease_ns })))
            }
            Some(active) if active == region => self
                .wanted_when_active(now)
                .or_else(|| (now >= self.next_at).then_some((Purpose::Look, None))),
            Some(_) => {
                if self.is_void() && self.lease.began_after().is_some() {
                    let founder = node;
                    let begin = LeaseCommand::BeginLife {
                        region,
                        incarnation,
                        founder,
                    };
                    return (now >= self.next_at).then_some((Purpose::BeginLife, Some(begin)));
                }
                self.wanted_when_standby(now)
                    .or_else(|| (now >= self.next_at).then_some((Purpose::Look, None)))
            }
            None => look(),
        }
    }

    fn wanted_when_active(&mut self, now: Elapsed) -> Option<(Purpose, Option<LeaseCommand>)> {
        let RegionSettings {
            region,
            other,
            lease_ns,
            ..
        } = self.settings;
        let (epoch, renewals, applied) = (self.lease.epoch, self.lease.renewals, self.group.applied.sequence);
        if let Some(switching) = self.switching {
            let ready = self.group.settled && self.following.through >= applied && self.following.heard_at.is_some();
            if ready && (!switching.asked || now < switching.until) {
                let (to, at) = (other, applied);
                let hand_over = LeaseCommand::HandOver {
                    region,
                    epoch,
                    renewals,
                    to,
                    at,
                };
                return Some((Purpose::HandOver, Some(hand_over)));
            }
        }
        let stalled = self.settings.on_standby_loss == OnStandbyLoss::Degrade
            && self.following.stalled_ns(now) > self.settings.degrade_after_ns;
        let recorded = self.lease.durability;
        let places = self.places();
        let durability = self.waiting.wanted(now, recorded, places, stalled);
        let change = (durability != recorded).then_some(DurabilityChange { renewals, durability });
        let began = self.lease.began_after().or(self.group.settled.then_some(applied));
        if self.demoted || (now < self.renew_at && change.is_none()) {
            return None;
        }
        // Without a beginning on record nothing is sequenced, and whatever is in the log first comes to its end.
        let after = Some(began?);
        let renewal = Renewal {
            region,
            epoch,
            lease_ns,
            committed: applied,
            committed_at: self.group.stamp,
            change,
            after,
        };
        Some((Purpose::Renew, Some(LeaseCommand::Renew(renewal))))
    }

    fn wanted_when_standby(&mut self, now: Elapsed) -> Option<(Purpose, Option<LeaseCommand>)> {
        let wants = self.promoting || (self.settings.automatic && !self.demoted);
        if !wants || now < self.next_at || now < self.certain_until || self.is_void() {
            return None;
        }
        let applied = self.group.applied;
        let promote = LeaseCommand::Promote {
            region: self.settings.region,
            epoch: self.lease.epoch,
            renewals: self.lease.renewals,
            epoch_at: applied.epoch,
            at: applied.sequence,
            lag_max: self.settings.lag_max,
            by_operator: self.promoting,
        };
        Some((Purpose::Promote, Some(promote)))
    }

    fn change_mode(&mut self, now: Elapsed, outputs: &mut Vec<RegionOutput>) {
        let epoch = self.lease.epoch;
        let mode = if !self.known || self.lease.active.is_none() {
            Mode::Unknown
        } else if !self.is_active() {
            Mode::Standby
        } else if !self.group.leads {
            // Its leader knows better.
            Mode::Active(epoch)
        } else if self.begun != Some(epoch) {
            Mode::Beginning
        } else if !self.holder.holds(epoch, now) {
            Mode::Fenced(epoch)
        } else if self.switching.is_some() {
            Mode::Draining(epoch)
        } else {
            Mode::Active(epoch)
        };
        if self.promoting && matches!(mode, Mode::Active(_)) {
            self.promoting = false;
            outputs.push(RegionOutput::Operated(Ok(epoch)));
        }
        if mode != self.mode {
            self.mode = mode;
            outputs.push(RegionOutput::Mode(mode));
        }
    }

    fn begin_anew(&mut self, outputs: &mut Vec<RegionOutput>) {
        let life = self.lease.lives.get(&self.settings.region).copied();
        let Some(life) = life.filter(|life| life.incarnation > self.settings.incarnation) else {
            return;
        };
        if self.lease.began_after().is_none() {
            return;
        }
        self.over = true;
        let applied = self.group.applied;
        outputs.push(RegionOutput::BeginAnew {
            incarnation: life.incarnation,
            founder: life.founder,
            kept: self.lease.kept(applied.epoch, applied.sequence),
        });
    }
}
