//! How each fault comes about, and how it ends.

use replica::region::RegionInput;
use wire::journal::NodeId;

use super::network::{Site, WITNESS};
use super::part::nodes_of;
use super::plan::{Fault, FaultKind};
use super::shared::Happening;
use super::voter::VOTERS;
use super::world::World;
use crate::events::{MILLISECOND, SECOND, Time};

/// What a fault that lasts has changed.
#[derive(Clone, Debug, Default)]
pub(super) struct Lasting {
    links: Vec<(NodeId, NodeId)>,
    /// Nodes that stand still.
    paused: Vec<NodeId>,
    /// Nodes that are kept down.
    down: Vec<NodeId>,
    slow: Vec<NodeId>,
    demoted: Vec<NodeId>,
    retired: Option<NodeId>,
    site: Option<Site>,
}

impl World {
    /// The node that a fault hits: a leader more often than not.
    fn victim(&self, fault: &Fault) -> Option<NodeId> {
        let active = self.active_site().unwrap_or(Site::First);
        let leader = match fault.whom % 5 {
            0 | 1 => self.leader_of(active),
            2 => self.leader_of(active.other()),
            _ => None,
        };
        let up: Vec<NodeId> = self
            .hosts
            .iter()
            .filter(|host| host.is_active())
            .map(|host| host.id)
            .collect();
        leader.or_else(|| (!up.is_empty()).then(|| up[(fault.whom / 5) as usize % up.len()]))
    }

    pub(super) fn fault(&mut self, number: usize) {
        if self.heals_since.is_some() {
            return;
        }
        let fault = self.plan.faults[number];
        let Some(victim) = self.victim(&fault) else {
            return self.shared.after(200 * MILLISECOND, Happening::Fault(number));
        };
        self.shared
            .say(|| format!("fault {number}: {:?} for {} ms", fault.kind, fault.lasts / MILLISECOND));
        self.shared.happened(&[self.shared.now, number as u64]);
        self.faults += 1;
        self.shared.hit(fault.kind.point());
        let mut lasting = Lasting::default();
        self.begin(number, &fault, victim, &mut lasting);
        self.lasting[number] = Some(lasting);
        if fault.kind != FaultKind::SlowAndCutOff {
            self.shared.after(fault.lasts, Happening::FaultOver(number));
        }
    }

    fn begin(&mut self, number: usize, fault: &Fault, victim: NodeId, lasting: &mut Lasting) {
        let active = self.active_site().unwrap_or(Site::First);
        let either = if fault.whom.is_multiple_of(2) {
            active
        } else {
            active.other()
        };
        let later = |step: u32, after: Time| (Happening::Then(number, step), after);
        lasting.site = Some(active);
        match fault.kind {
            FaultKind::ActiveRegionLost => self.lose_region(active, fault, lasting),
            FaultKind::StandbyRegionLost => self.lose_region(active.other(), fault, lasting),
            FaultKind::OneRegionAfterTheOther => {
                self.lose_region(active, fault, lasting);
                lasting.site = Some(active.other());
                self.then_after(later(1, fault.lasts * (2 + fault.how % 3) / 4));
            }
            FaultKind::RegionsApart => self.cut(lasting, |from, to| {
                from != to && from != Site::Witness && to != Site::Witness
            }),
            FaultKind::RegionCutOff => self.cut(lasting, |from, to| (from == either) != (to == either)),
            FaultKind::RegionFromWitness => self.cut(lasting, |from, to| {
                (from == either && to == Site::Witness) || (from == Site::Witness && to == either)
            }),
            FaultKind::OneWay => {
                let sites = [Site::First, Site::Second, Site::Witness];
                let one = sites[fault.how as usize % 3];
                let other = sites[(fault.how / 3) as usize % 3];
                let is_out = (fault.how / 9).is_multiple_of(2);
                self.cut(lasting, |from, to| {
                    let (near, far) = if is_out { (from, to) } else { (to, from) };
                    near == one && far != one && (one == other || far == other)
                });
            }
            FaultKind::WitnessLost => self.take_down(WITNESS, fault.whom.is_multiple_of(2), lasting),
            FaultKind::Drop | FaultKind::Duplicate | FaultKind::Reorder => self.trouble(fault, lasting, |_, _| true),
            FaultKind::Slow => {
                let (from, to) = self.slow_way(fault, active);
                self.trouble(fault, lasting, |one, other| (one, other) == (from, to));
            }
            FaultKind::NodeCutOff => {
                let everywhere = fault.how.is_multiple_of(2);
                let site = Site::of(victim);
                let cuts = |from: NodeId, to: NodeId| {
                    from != to
                        && (from == victim || to == victim)
                        && (everywhere || (Site::of(from) == site && Site::of(to) == site))
                };
                self.cut_nodes(lasting, cuts);
            }
            FaultKind::PowerLoss => self.end_process(victim, true, fault.lasts / 2),
            FaultKind::Kill => self.end_process(victim, false, fault.lasts / 3),
            FaultKind::Pause => self.pause(victim, lasting),
            FaultKind::PauseInTheCheck => {
                if let Some(leader) = self.leader_of(active) {
                    self.host(leader).0.pause_in_check = Some(fault.lasts.max(300 * MILLISECOND));
                }
            }
            FaultKind::StandbyLeaderPaused => {
                if let Some(leader) = self.leader_of(active.other()) {
                    self.pause(leader, lasting);
                }
                let lease = self.plan.setup.lease_ns;
                self.then_after(later(2, fault.lasts.saturating_sub(lease + fault.how % lease)));
            }
            FaultKind::SlowDisk => {
                let latency = (2 + fault.how % 150) * MILLISECOND;
                if let Some(group) = &mut self.host(victim).0.group {
                    group.latency = latency;
                    lasting.slow.push(victim);
                }
            }
            FaultKind::ClockStep => {
                let step = i64::try_from(fault.how % (6 * SECOND)).unwrap_or(0) - 3_000_000_000;
                self.host(victim).0.clocks.utc_offset += step;
            }
            FaultKind::VotersRestart => {
                for (turn, voter) in (0..).zip(VOTERS) {
                    if fault.whom.is_multiple_of(3) || fault.how >> turn & 1 == 1 {
                        let down = 20 * MILLISECOND + turn * (fault.how % 200) * MILLISECOND;
                        self.end_process(voter, fault.how.is_multiple_of(2), down);
                    }
                }
            }
            FaultKind::SwitchOver => {
                self.operate(active, RegionInput::SwitchOver);
            }
            FaultKind::SwitchOverThenLoss => {
                self.operate(active, RegionInput::SwitchOver);
                self.then_after(later(3, (fault.how % 500) * MILLISECOND));
            }
            FaultKind::Promote => {
                self.operate(active.other(), RegionInput::Promote);
                if fault.whom.is_multiple_of(2) {
                    self.then_after(later(4, 0));
                }
            }
            FaultKind::Demote => {
                for node in nodes_of(active, &self.shared) {
                    self.demote(node, true);
                    lasting.demoted.push(node);
                }
            }
            FaultKind::LateNode => {
                let nodes = nodes_of(active, &self.shared);
                let late = nodes[fault.how as usize % nodes.len()];
                self.take_down(late, true, lasting);
                self.then_after(later(5, fault.lasts / 4));
            }
            FaultKind::DegradedThenLost => {
                self.cut(lasting, |from, to| {
                    from != to && from != Site::Witness && to != Site::Witness
                });
                self.then_after(later(6, fault.lasts + (fault.how % 900) * MILLISECOND));
            }
            FaultKind::SlowAndCutOff => {
                let latency = (200 + fault.how % 2_500) * MILLISECOND;
                for node in nodes_of(active, &self.shared) {
                    if let Some(group) = &mut self.host(node).0.group {
                        group.latency = latency;
                        lasting.slow.push(node);
                    }
                }
                self.then_after(later(7, 50 * MILLISECOND));
            }
            FaultKind::JournalRetired => {
                if let Some(leader) = self.leader_of(active) {
                    let host = self.host(leader).0;
                    let end = host.part.as_ref().map(|part| part.replica.applier().applied().sequence);
                    if let (Some(group), Some(end)) = (&mut host.group, end) {
                        group.retired = end;
                        lasting.retired = Some(leader);
                    }
                }
                if let Some(leader) = self.leader_of(active.other()) {
                    self.end_process(leader, true, 20 * MILLISECOND);
                }
            }
        }
    }

    fn then_after(&mut self, (event, after): (Happening, Time)) {
        self.shared.after(after, event);
    }

    /// The second part of a fault.
    pub(super) fn then(&mut self, number: usize, step: u32) {
        if self.heals_since.is_some() {
            return;
        }
        let fault = self.plan.faults[number];
        let mut lasting = self.lasting[number].take().unwrap_or_default();
        let active = self.active_site().unwrap_or(Site::First);
        match step {
            1 => {
                let other = lasting.site.unwrap_or(active);
                self.lose_region(other, &fault, &mut lasting);
            }
            4 => self.lose_region(active, &fault, &mut lasting),
            7 => {
                let was = lasting.site.unwrap_or(active);
                self.cut(&mut lasting, |from, to| (from == was) != (to == was));
                let until = self.plan.setup.lease_ns * 2 + fault.how % SECOND;
                self.lasting[number] = Some(lasting);
                return self.shared.after(until, Happening::FaultOver(number));
            }
            _ => {
                let was = lasting.site.unwrap_or(active);
                self.lose_region(was, &fault, &mut lasting);
            }
        }
        // What is lost late comes back late.
        self.lasting[number] = Some(lasting);
        self.shared.after(fault.lasts.max(SECOND), Happening::FaultOver(number));
    }

    /// In which direction messages are slow: answers of the lease group most often.
    fn slow_way(&self, fault: &Fault, active: Site) -> (Site, Site) {
        let sites = [active, active.other(), Site::Witness];
        match fault.how % 4 {
            0 | 1 => (Site::Witness, active),
            2 => (active.other(), active),
            _ => (sites[fault.how as usize / 4 % 3], sites[fault.how as usize / 12 % 3]),
        }
    }

    fn cut(&mut self, lasting: &mut Lasting, cuts: impl Fn(Site, Site) -> bool) {
        self.cut_nodes(lasting, |from, to| cuts(Site::of(from), Site::of(to)));
    }

    fn cut_nodes(&mut self, lasting: &mut Lasting, cuts: impl Fn(NodeId, NodeId) -> bool) {
        for (from, to) in self.pairs() {
            if cuts(from, to) {
                self.shared.network.link(from, to).cuts += 1;
                lasting.links.push((from, to));
            }
        }
    }

    fn pairs(&self) -> Vec<(NodeId, NodeId)> {
        let nodes = || self.hosts.iter().map(|host| host.id);
        nodes().flat_map(|from| nodes().map(move |to| (from, to))).collect()
    }

    /// Links lose, double, mix up or delay what is sent over them.
    fn trouble(&mut self, fault: &Fault, lasting: &mut Lasting, hit: impl Fn(Site, Site) -> bool) {
        for (from, to) in self.pairs() {
            if from == to || !hit(Site::of(from), Site::of(to)) {
                continue;
            }
            let link = self.shared.network.link(from, to);
            match fault.kind {
                FaultKind::Drop => link.drop_ppm = 80_000,
                FaultKind::Duplicate => link.duplicate_ppm = 80_000,
                FaultKind::Reorder => link.reorder_ppm = 100_000,
                _ => link.delay = (50 + fault.how % 500) * MILLISECOND,
            }
            lasting.links.push((from, to));
        }
    }

    /// All nodes of a region are gone at once; they come back one after the other.
    fn lose_region(&mut self, site: Site, fault: &Fault, lasting: &mut Lasting) {
        for node in nodes_of(site, &self.shared) {
            let keeps_files = (fault.how >> (8 + node.0)) & 3 == 0;
            self.take_down(node, !keeps_files, lasting);
        }
    }

    /// It is gone until the fault is over.
    fn take_down(&mut self, node: NodeId, loses_power: bool, lasting: &mut Lasting) {
        let (host, shared) = self.host(node);
        if loses_power {
            host.lose_power(shared);
        } else {
            host.kill(shared);
        }
        host.held_down += 1;
        lasting.down.push(node);
    }

    fn end_process(&mut self, node: NodeId, loses_power: bool, down: Time) {
        let (host, shared) = self.host(node);
        if !host.is_up() {
            return;
        }
        if loses_power {
            host.lose_power(shared);
        } else {
            host.kill(shared);
        }
        let life = host.lives();
        shared.after(down, Happening::Start { node, life });
    }

    fn pause(&mut self, node: NodeId, lasting: &mut Lasting) {
        self.shared.say(|| format!("node {node} stands still"));
        self.host(node).0.paused += 1;
        lasting.paused.push(node);
    }

    fn demote(&mut self, node: NodeId, demoted: bool) {
        let (host, shared) = self.host(node);
        host.demoted = demoted;
        if host.is_up() {
            host.with_part(shared, |part, turn| {
                part.tell(RegionInput::Demote(demoted), turn);
                part.look_after(turn);
            });
        }
    }

    pub(super) fn fault_over(&mut self, number: usize) {
        let Some(lasting) = self.lasting[number].take() else {
            return;
        };
        let fault = self.plan.faults[number];
        for (from, to) in lasting.links {
            let link = self.shared.network.link(from, to);
            match fault.kind {
                FaultKind::Drop => link.drop_ppm = 0,
                FaultKind::Duplicate => link.duplicate_ppm = 0,
                FaultKind::Reorder => link.reorder_ppm = 0,
                FaultKind::Slow => link.delay = 0,
                _ => link.cuts = link.cuts.saturating_sub(1),
            }
        }
        for node in lasting.slow {
            if let Some(group) = &mut self.host(node).0.group {
                group.latency = 300_000;
            }
        }
        for node in lasting.paused {
            self.shared.say(|| format!("node {node} goes on"));
            self.shared.after(0, Happening::Resume(node));
        }
        for node in lasting.demoted {
            self.demote(node, false);
        }
        if let Some(node) = lasting.retired
            && let Some(group) = &mut self.host(node).0.group
        {
            group.retired = types::Sequence(0);
        }
        for (turn, node) in (0..).zip(lasting.down) {
            let (host, shared) = self.host(node);
            host.held_down = host.held_down.saturating_sub(1);
            if host.held_down == 0 && !host.is_up() {
                let life = host.lives();
                let wait = turn * (fault.how % 150) * MILLISECOND;
                shared.after(wait, Happening::Start { node, life });
            }
        }
    }
}
