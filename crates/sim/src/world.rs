//! A whole run: nodes, network, clients and faults on one virtual time, first in trouble and then healing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use replica::Input;
use types::EngineVersion;
use wire::journal::{LogIndex, NodeId};
use wire::membership::{Membership, MembershipChange, Role};

use crate::clients::Clients;
use crate::coverage::{Coverage, Point};
use crate::events::{Event, MILLISECOND, Reply, SECOND, Stored, Time};
use crate::faults::{Fault, FaultKind, Schedule};
use crate::host::Host;
use crate::market::Genesis;
use crate::mutation::Mutation;
use crate::network::NODES_MAX;
use crate::oracle::Violation;
use crate::random::Dice;
use crate::shared::Shared;
use crate::upgrade;

/// Commands that a run asks at least.
const COMMANDS_MIN: u64 = 2_000;
/// Within this long after the last fault everything must be well again.
const HEALED_WITHIN: Time = 60 * SECOND;
/// Many times more than happens in a run.
const EVENTS_MAX: u64 = 2_000_000;
/// Between two looks at whether it is.
const LOOK: Time = 40 * MILLISECOND;

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// The first promise that was broken.
    pub violation: Option<Violation>,
    /// What it came past.
    pub coverage: Coverage,
    /// A hash of all that happened: the same of every run of a seed.
    pub trace_hash: u32,
    /// Commands that were executed.
    pub commands: u64,
    /// Faults that came about.
    pub faults: u64,
    /// Things that happened.
    pub events: u64,
    /// The last things that happened, if they were kept.
    pub lines: Vec<String>,
}

/// What a fault that lasts has changed.
#[derive(Clone, Debug, Default)]
struct Active {
    links: Vec<(NodeId, NodeId)>,
    nodes: Vec<NodeId>,
}

pub(crate) struct World {
    pub(crate) hosts: Vec<Host>,
    clients: Clients,
    pub(crate) shared: Shared,
    schedule: Schedule,
    active: Vec<Option<Active>>,
    /// Changes of the membership that an operator wants, one after the other.
    goals: Vec<MembershipChange>,
    /// Who belongs to the group, and as of where in the log.
    members: Membership,
    members_at: LogIndex,
    dice: Dice,
    /// What the operator of the upgrade rolls.
    pub(crate) upgrade_dice: Dice,
    /// How much has happened, and how many faults were among it.
    events: u64,
    faults: u64,
    heals_since: Option<Time>,
    looked_at: Time,
    removing: bool,
    done: bool,
}

/// Runs a schedule.
pub(crate) fn run(seed: u64, schedule: &Schedule, mutation: Option<Mutation>, traced: bool) -> Report {
    let mut world = World::new(seed, schedule.clone(), mutation, traced);
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| world.go())) {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        world.shared.oracle.panicked(text.unwrap_or_default());
    }
    Report {
        violation: world.shared.oracle.violation().cloned(),
        trace_hash: world.shared.trace_hash,
        commands: world.shared.oracle.executed_count(),
        faults: world.faults,
        events: world.events,
        lines: world.shared.take_lines(),
        coverage: world.shared.coverage,
    }
}

impl World {
    fn new(seed: u64, schedule: Schedule, mutation: Option<Mutation>, traced: bool) -> Self {
        let mut shared = Shared::new(seed, mutation, traced);
        let voters: Vec<NodeId> = (1..=schedule.voters).map(NodeId).collect();
        let genesis = Genesis::get();
        let first = Rc::new(Stored {
            point: genesis.point(voters.iter().copied()),
            state: genesis.snapshot.clone(),
            engine_version: EngineVersion::FIRST,
        });
        let mut upgrade_dice = Dice::of(seed, 6);
        let mut hosts = Vec::new();
        let mut dice = Dice::of(seed, 4);
        for voter in &voters {
            let mut host = Host::first_voter(*voter, schedule.segment_bytes, Rc::clone(&first), &shared);
            host.clock.drift_ppm = i64::try_from(dice.below(200)).unwrap_or(0) - 100;
            host.clock.offset = i64::try_from(dice.below(4 * MILLISECOND)).unwrap_or(0);
            host.snapshot_every = dice.between(60, 400);
            host.next_reads = upgrade::first_release(&mut upgrade_dice);
            hosts.push(host);
        }
        for (number, fault) in schedule.faults.iter().enumerate() {
            shared.queue.at(fault.at, Event::Fault(number));
        }
        let active = vec![None; schedule.faults.len()];
        Self {
            hosts,
            clients: Clients::new(Dice::of(seed, 5), voters),
            shared,
            schedule,
            active,
            goals: Vec::new(),
            members: first.point.membership.clone(),
            members_at: LogIndex(0),
            dice,
            upgrade_dice,
            events: 0,
            faults: 0,
            heals_since: None,
            looked_at: 0,
            removing: false,
            done: false,
        }
    }

    fn go(&mut self) {
        for host in &mut self.hosts {
            host.start(&mut self.shared);
        }
        self.clients.begin(&mut self.shared);
        self.shared.after(100 * MILLISECOND, Event::Members);
        self.shared.after(50 * MILLISECOND, Event::ReadSomewhere);
        self.plan_upgrade();
        while !self.done && self.shared.oracle.violation().is_none() {
            let Some((at, event)) = self.shared.queue.next() else {
                break;
            };
            self.shared.now = at;
            self.events += 1;
            if self.events > EVENTS_MAX {
                let why = format!("{EVENTS_MAX} things happened, and there is no end of them");
                return self.shared.oracle.not_healed(why);
            }
            self.happen(event);
            self.look();
        }
    }

    fn host(&mut self, node: NodeId) -> &mut Host {
        &mut self.hosts[node.0 as usize - 1]
    }

    // ---- what happens ------------------------------------------------------------------------------------------------

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tick { node, life }
            | Event::Gather { node, life }
            | Event::Synced { node, life, .. }
            | Event::MarkDue { node, life }
            | Event::MarkSynced { node, life, .. }
            | Event::SnapshotDone { node, life, .. }
            | Event::SnapshotSent { node, life, .. }
            | Event::Unreachable { node, life, .. } => {
                if self.shared.life(node) == life && life > 0 {
                    self.at_node(node, event);
                }
            }
            Event::Arrive {
                from,
                to,
                life,
                ref packet,
            } => {
                let now = self.shared.life(to);
                if now == 0 || (life != 0 && life != now) {
                    return self.shared.not_arrived(from, to, packet, 0);
                }
                self.at_node(to, event);
            }
            Event::Called { node, call, .. } => {
                if self.shared.life(node) == 0 {
                    let reply = Reply::NoConnection;
                    return self.shared.after(200_000, Event::Replied { call, reply });
                }
                self.at_node(node, event);
            }
            Event::Start { node, life } => {
                let shared = &mut self.shared;
                let host = &mut self.hosts[node.0 as usize - 1];
                if !host.is_up() && host.is_last_life(life) && !host.removed {
                    shared.happened(&[shared.now, node.0]);
                    host.start(shared);
                }
            }
            Event::Restart { node } => self.restart(node),
            Event::ReadSomewhere => self.read_somewhere(),
            Event::ClientTurn { client } => {
                let utc = self.hosts[0].utc(&self.shared);
                self.clients.turn(client, utc, &mut self.shared);
            }
            Event::Replied { call, .. } if upgrade::is_operators(call) => {}
            Event::Upgrade => self.upgrade(),
            Event::Replied { call, reply } => self.clients.replied(call, &reply, &mut self.shared),
            Event::TimedOut { call } => self.clients.timed_out(call, &mut self.shared),
            Event::Members => self.change_members(),
            Event::Fault(number) => self.fault(number),
            Event::FaultOver(number) => self.fault_over(number),
        }
    }

    /// Something happens at a node that is up.
    fn at_node(&mut self, node: NodeId, event: Event) {
        let shared = &mut self.shared;
        let host = &mut self.hosts[node.0 as usize - 1];
        if host.paused > 0 {
            return host.backlog.push_back(event);
        }
        match event {
            Event::Tick { .. } => host.tick(shared),
            Event::Gather { .. } => host.gather(shared),
            Event::Synced { ticket, job, .. } => host.synced(ticket, job, shared),
            Event::MarkDue { .. } => host.mark_due(shared),
            Event::MarkSynced { writes, .. } => host.mark_synced(writes, shared),
            Event::SnapshotDone { stored, .. } => host.snapshot_done(stored, shared),
            Event::SnapshotSent { to, arrived, .. } => {
                shared.hit(if arrived {
                    Point::InSnapshotArrived
                } else {
                    Point::InSnapshotLost
                });
                host.step(Input::SnapshotSent { to, arrived }, shared);
            }
            Event::Unreachable { peer, .. } => host.unreachable(peer, shared),
            Event::Arrive { from, packet, .. } => {
                shared.happened(&[shared.now, from.0, node.0]);
                host.arrived(from, *packet, shared);
            }
            Event::Called { call, command, .. } => host.called(call, *command, shared),
            _ => unreachable!("it is none of a node's"),
        }
    }

    fn read_somewhere(&mut self) {
        let wait = self.dice.between(5, 60) * MILLISECOND;
        self.shared.after(wait, Event::ReadSomewhere);
        let at = self.dice.below(self.hosts.len() as u64) as usize;
        let host = &mut self.hosts[at];
        if host.is_active() && !host.removed {
            host.read(&mut self.shared);
        }
    }

    fn restart(&mut self, node: NodeId) {
        let shared = &mut self.shared;
        let host = &mut self.hosts[node.0 as usize - 1];
        // Whoever waits for its end also ends it in the middle of a pause.
        if (host.is_active() || host.drains) && host.is_up() && !host.removed {
            if !std::mem::replace(&mut host.drains, true) {
                shared.hit(Point::InDrain);
                host.step(Input::Drain, shared);
                return shared.after(25 * MILLISECOND, Event::Restart { node });
            }
            if !host.shut_down(shared) {
                return;
            }
            // Settings may differ from before.
            host.election_ticks = 10 + usize::try_from((node.0 + host.lives() as u64) % 12 * 3).unwrap_or(0);
            host.snapshot_every = shared.dice.between(60, 400);
            let life = host.lives();
            shared.after(30 * MILLISECOND, Event::Start { node, life });
        }
    }

    // ---- the membership ----------------------------------------------------------------------------------------------

    pub(crate) fn leader(&self) -> Option<NodeId> {
        let leaders = self.hosts.iter().filter(|host| host.is_active() && host.leads());
        leaders.max_by_key(|host| host.term()).map(|host| host.id)
    }

    /// Learns who belongs to the group from whoever has come furthest.
    fn learn_members(&mut self) {
        let up = self.hosts.iter().filter(|host| host.is_up());
        if let Some(newest) = up.max_by_key(|host| host.applied().index)
            && newest.applied().index >= self.members_at
            && let Some(members) = newest.membership()
        {
            self.members = members.clone();
            self.members_at = newest.applied().index;
        }
    }

    /// An operator goes on with what he wants.
    fn change_members(&mut self) {
        self.shared.after(60 * MILLISECOND, Event::Members);
        let Some(goal) = self.goals.first().cloned() else {
            return;
        };
        self.learn_members();
        let members = self.members.clone();
        let is_done = match &goal {
            MembershipChange::Add { node, .. } => members.get(*node).is_some(),
            MembershipChange::Promote(node) => members.get(*node).is_some_and(|member| member.role == Role::Voter),
            MembershipChange::Remove(node) => members.get(*node).is_none(),
        };
        if is_done {
            self.goals.remove(0);
            return self.changed(&goal);
        }
        let Some(leader) = self
            .leader()
            .filter(|leader| self.hosts[leader.0 as usize - 1].accepts())
        else {
            return;
        };
        if goal == MembershipChange::Remove(leader) {
            let shared = &mut self.shared;
            let host = &mut self.hosts[leader.0 as usize - 1];
            return host.step(Input::TransferLeadership { to: None }, shared);
        }
        let down = self.hosts.iter().any(|host| !host.is_up() && !host.removed);
        let shared = &mut self.shared;
        shared.hit(match goal {
            MembershipChange::Add { .. } => Point::InChangeAdd,
            MembershipChange::Promote(_) => Point::InChangePromote,
            MembershipChange::Remove(_) => Point::InChangeRemove,
        });
        let host = &mut self.hosts[leader.0 as usize - 1];
        host.step(Input::Change(goal), shared);
        if host.take_change() == Some(Ok(())) && down {
            shared.hit(Point::MembershipWhileDown);
        }
    }

    fn changed(&mut self, goal: &MembershipChange) {
        match goal {
            MembershipChange::Add { node, gateway, .. } => {
                self.shared.hit(if *gateway {
                    Point::GatewayAdded
                } else {
                    Point::MemberAdded
                });
                self.clients.nodes.push(*node);
                if !gateway {
                    self.goals.insert(0, MembershipChange::Promote(*node));
                }
            }
            MembershipChange::Promote(_) => {}
            MembershipChange::Remove(node) => {
                self.shared.hit(Point::MemberRemoved);
                self.removing = false;
                self.clients.nodes.retain(|known| known != node);
                self.host(*node).removed = true;
            }
        }
    }

    /// A new node with an empty disk, which waits for the leader to call.
    fn new_host(&mut self, gateway: bool) {
        let id = NodeId(self.hosts.len() as u64 + 1);
        if id.0 as usize > NODES_MAX {
            return;
        }
        let mut host = Host::new(id, gateway, self.schedule.segment_bytes);
        host.snapshot_every = self.dice.between(60, 400);
        host.start(&mut self.shared);
        self.hosts.push(host);
        self.goals.push(MembershipChange::Add {
            node: id,
            address: format!("node-{id}:7414"),
            gateway,
        });
    }

    // ---- faults ------------------------------------------------------------------------------------------------------

    /// The node that a fault hits.
    fn victim(&self, whom: u64) -> Option<NodeId> {
        if whom.is_multiple_of(3)
            && let Some(leader) = self.leader()
        {
            return Some(leader);
        }
        let up: Vec<NodeId> = self
            .hosts
            .iter()
            .filter(|host| host.is_active() && !host.removed)
            .map(|host| host.id)
            .collect();
        (!up.is_empty()).then(|| up[(whom / 3) as usize % up.len()])
    }

    fn fault(&mut self, number: usize) {
        if self.heals_since.is_some() {
            return;
        }
        let fault = self.schedule.faults[number];
        if self.victim(fault.whom).is_none() {
            // All are down: it comes when somebody is there.
            return self.shared.after(100 * MILLISECOND, Event::Fault(number));
        }
        self.shared
            .say(|| format!("fault {number}: {:?} for {} ms", fault.kind, fault.lasts / MILLISECOND));
        self.shared.happened(&[self.shared.now, number as u64]);
        let mut active = Active::default();
        if self.begin(&fault, &mut active) {
            self.faults += 1;
            if let Some(point) = fault.kind.point() {
                self.shared.hit(point);
            }
        } else if let Some(victim) = self.victim(fault.whom) {
            // What can't come about now is a node that ends instead.
            self.faults += 1;
            self.shared.hit(Point::Kill);
            self.kill(victim, fault.lasts / 2);
        }
        self.active[number] = Some(active);
        self.shared.after(fault.lasts, Event::FaultOver(number));
    }

    /// False if there is nobody whom it could hit.
    fn begin(&mut self, fault: &Fault, active: &mut Active) -> bool {
        let Some(victim) = self.victim(fault.whom) else {
            return false;
        };
        let all: Vec<NodeId> = self.hosts.iter().map(|host| host.id).collect();
        match fault.kind {
            FaultKind::PowerLoss => self.power_loss(victim, fault.lasts),
            FaultKind::PowerLossOfAll => {
                for node in all {
                    let later = self.dice.below(300) * MILLISECOND;
                    self.power_loss(node, fault.lasts / 3 + later);
                }
            }
            FaultKind::PowerLossAtWrite => {
                let writes = u32::try_from(fault.how % 24).unwrap_or(0);
                self.host(victim).disk.files.power_lasts = Some(writes);
            }
            FaultKind::Kill => self.kill(victim, fault.lasts / 2),
            FaultKind::RollingRestart => {
                for (turn, node) in (0..).zip(all) {
                    self.shared.after(turn * 350 * MILLISECOND, Event::Restart { node });
                }
            }
            FaultKind::Partition => {
                let side = |node: &NodeId| fault.how >> node.0 & 1 == 1;
                let links = pairs(&all).filter(|(from, to)| side(from) != side(to));
                active.links = links.collect();
            }
            FaultKind::OneWay => {
                let links = pairs(&all).filter(|(from, to)| match fault.how % 3 {
                    0 => *from == victim,
                    1 => *to == victim,
                    _ => *from == victim && (fault.how >> to.0) & 1 == 1,
                });
                active.links = links.collect();
            }
            FaultKind::Isolated => {
                let hit = self.leader().unwrap_or(victim);
                active.links = pairs(&all).filter(|(from, to)| *from == hit || *to == hit).collect();
            }
            FaultKind::Drop | FaultKind::Duplicate | FaultKind::Reorder => active.links = pairs(&all).collect(),
            FaultKind::Delay => {
                active.links = pairs(&all)
                    .filter(|(from, to)| *from == victim || *to == victim)
                    .collect();
            }
            FaultKind::SlowDisk => {
                let latency = 5 + fault.how % 700;
                self.host(victim).disk.latency = latency * MILLISECOND;
                active.nodes.push(victim);
            }
            FaultKind::Pause => {
                self.host(victim).paused += 1;
                active.nodes.push(victim);
            }
            FaultKind::ClockStep => {
                let step = i64::try_from(fault.how % (6 * SECOND)).unwrap_or(0) - 3 * 1_000_000_000;
                self.host(victim).clock.offset += step;
            }
            FaultKind::ClockDrift => {
                let drift = i64::try_from(fault.how % 40_000).unwrap_or(0) - 20_000;
                self.host(victim).clock.drift_ppm = drift;
            }
            FaultKind::ClockUnsure => {
                self.clock_unsure(victim, true);
                active.nodes.push(victim);
            }
            FaultKind::BitRot => return self.bit_rot(victim, fault),
            FaultKind::MemberAdded => self.new_host(false),
            FaultKind::GatewayAdded => self.new_host(true),
            FaultKind::MemberRemoved => return self.remove(victim),
            FaultKind::HandOver => {
                let to = (!fault.how.is_multiple_of(3)).then(|| all[(fault.how / 3) as usize % all.len()]);
                let Some(leader) = self.leader() else { return false };
                self.shared.hit(Point::InTransfer);
                let shared = &mut self.shared;
                self.hosts[leader.0 as usize - 1].step(Input::TransferLeadership { to }, shared);
            }
            FaultKind::SnapshotAndTrim => self.snapshot_and_trim(&all, fault),
        }
        self.apply_links(fault, active);
        true
    }

    fn apply_links(&mut self, fault: &Fault, active: &Active) {
        for (from, to) in &active.links {
            let link = self.shared.network.link(*from, *to);
            match fault.kind {
                FaultKind::Drop => link.drop_ppm = 50_000,
                FaultKind::Duplicate => link.duplicate_ppm = 50_000,
                FaultKind::Reorder => link.reorder_ppm = 50_000,
                FaultKind::Delay => link.delay = (1 + fault.how % 60) * MILLISECOND,
                _ => link.cuts += 1,
            }
        }
    }

    fn fault_over(&mut self, number: usize) {
        let Some(active) = self.active[number].take() else {
            return;
        };
        let fault = self.schedule.faults[number];
        for (from, to) in active.links {
            let link = self.shared.network.link(from, to);
            match fault.kind {
                FaultKind::Drop => link.drop_ppm = 0,
                FaultKind::Duplicate => link.duplicate_ppm = 0,
                FaultKind::Reorder => link.reorder_ppm = 0,
                FaultKind::Delay => link.delay = 0,
                _ => link.cuts = link.cuts.saturating_sub(1),
            }
        }
        for node in active.nodes {
            match fault.kind {
                FaultKind::SlowDisk => self.host(node).disk.latency = 300_000,
                FaultKind::Pause => self.resume(node),
                FaultKind::ClockUnsure => self.clock_unsure(node, false),
                _ => {}
            }
        }
    }

    fn kill(&mut self, node: NodeId, down: Time) {
        let shared = &mut self.shared;
        let host = &mut self.hosts[node.0 as usize - 1];
        host.kill(shared);
        let life = host.lives();
        shared.after(down, Event::Start { node, life });
    }

    fn power_loss(&mut self, node: NodeId, down: Time) {
        let shared = &mut self.shared;
        let host = &mut self.hosts[node.0 as usize - 1];
        if host.is_up() {
            host.lose_power(shared);
            let life = host.lives();
            shared.after(down, Event::Start { node, life });
        }
    }

    /// Everything that waited for a stopped node comes at once.
    fn resume(&mut self, node: NodeId) {
        let host = self.host(node);
        host.paused = host.paused.saturating_sub(1);
        if host.paused > 0 {
            return;
        }
        let backlog = std::mem::take(&mut host.backlog);
        for event in backlog {
            self.happen(event);
        }
    }

    fn clock_unsure(&mut self, node: NodeId, unsure: bool) {
        self.shared.hit(Point::InClockUnsure);
        let shared = &mut self.shared;
        self.hosts[node.0 as usize - 1].step(Input::ClockUnsure(unsure), shared);
    }

    /// A bit of a journal changes while its node is down. At most one voter of several at a time, while the others know that
    /// they can do without it, and only of what the mark speaks of: what else can be lost is not in any node's hands.
    fn bit_rot(&mut self, victim: NodeId, fault: &Fault) -> bool {
        self.learn_members();
        let members = self.members.clone();
        let voters = members.voters().count();
        let others_are_whole = self.hosts.iter().all(|host| !host.is_repairing() && !host.rotten);
        // Each other voter must be there and know that there are three: where two decide, neither can do without the other.
        let mut others = members.voters().filter(|voter| *voter != victim);
        let others_can_decide = others.all(|voter| {
            let known = self.host(voter).membership();
            known.is_some_and(|known| known.voters().count() >= 3)
        });
        if voters < 3
            || !others_are_whole
            || !others_can_decide
            || self.host(victim).is_gateway
            || members.get(victim).is_none()
        {
            return false;
        }
        let shared = &mut self.shared;
        let host = &mut self.hosts[victim.0 as usize - 1];
        if !host.shut_down(shared) {
            return true;
        }
        if host.disk.files.rot(fault.how) {
            host.rotten = true;
            shared.hit(Point::BitRot);
        }
        let life = host.lives();
        shared.after(fault.lasts / 3, Event::Start { node: victim, life });
        true
    }

    fn remove(&mut self, victim: NodeId) -> bool {
        self.learn_members();
        let members = &self.members;
        let voters = members.voters().count();
        let is_voter = members.get(victim).is_some_and(|member| member.role == Role::Voter);
        if self.removing || members.get(victim).is_none() || (is_voter && voters <= 3) {
            return false;
        }
        self.removing = true;
        self.goals.push(MembershipChange::Remove(victim));
        true
    }

    /// A follower is away while all others make snapshots and begin again from them: it needs one then.
    fn snapshot_and_trim(&mut self, all: &[NodeId], fault: &Fault) {
        let leader = self.leader();
        let others: Vec<NodeId> = all.iter().copied().filter(|node| Some(*node) != leader).collect();
        let away = (others.len() > 1).then(|| others[fault.how as usize % others.len()]);
        if let Some(away) = away {
            self.power_loss(away, 1_300 * MILLISECOND);
        }
        for (turn, node) in (1..).zip(all.iter().copied().filter(|node| Some(*node) != away)) {
            let shared = &mut self.shared;
            let host = &mut self.hosts[node.0 as usize - 1];
            if host.is_active() && !host.removed && !host.is_gateway {
                host.snapshot_now(shared);
                shared.after((200 + turn * 180) * MILLISECOND, Event::Restart { node });
            }
        }
    }

    // ---- healing -----------------------------------------------------------------------------------------------------

    /// True once all faults are over.
    pub(crate) fn heals(&self) -> bool {
        self.heals_since.is_some()
    }

    fn look(&mut self) {
        let now = self.shared.now;
        let Some(since) = self.heals_since else {
            if now >= self.schedule.ends && (self.clients.issued >= COMMANDS_MIN || now > 4 * self.schedule.ends) {
                self.heal();
            }
            return;
        };
        if now < self.looked_at + LOOK {
            return;
        }
        self.looked_at = now;
        self.learn_members();
        if self.is_well() {
            self.finish();
        } else if now > since + HEALED_WITHIN {
            let why = self.what_is_not_well();
            self.shared.oracle.not_healed(why);
        }
    }

    /// All faults are over.
    fn heal(&mut self) {
        let now = self.shared.now;
        self.shared.say(|| "all faults are over".to_owned());
        for number in 0..self.active.len() {
            self.fault_over(number);
        }
        self.heals_since = Some(now);
        self.looked_at = now;
        self.clients.open_for_business = false;
        self.shared.network.heal();
        for at in 0..self.hosts.len() {
            let node = NodeId(at as u64 + 1);
            let host = &mut self.hosts[at];
            host.disk.files.power_lasts = None;
            host.disk.latency = 300_000;
            if host.removed {
                host.kill(&mut self.shared);
                continue;
            }
            if !host.is_up() {
                let life = host.lives();
                self.shared.after(0, Event::Start { node, life });
            }
        }
    }

    /// The nodes that belong to the group in the end.
    fn expected(&self) -> Vec<&Host> {
        let is_member = |host: &&Host| self.members.get(host.id).is_some();
        self.hosts.iter().filter(is_member).collect()
    }

    fn is_well(&self) -> bool {
        let expected = self.expected();
        let Some(first) = expected.first().map(|host| host.applied()) else {
            return false;
        };
        let well = |host: &&Host| host.is_active() && !host.is_repairing() && host.is_idle() && host.applied() == first;
        self.goals.is_empty() && self.clients.are_served() && expected.iter().all(well) && first.index > LogIndex(1)
    }

    fn what_is_not_well(&self) -> String {
        let mut why = self.clients.waiting();
        if let Some(goal) = self.goals.first() {
            why.push_str(&format!("; {goal:?} did not come about"));
        }
        for host in self.expected() {
            why.push_str(&format!(
                "; node {} is {}, leads: {}, term {}, at {:?}{}",
                host.id,
                if host.is_active() { "up" } else { "down" },
                host.leads(),
                host.term(),
                host.applied(),
                if host.is_repairing() { ", in repair" } else { "" }
            ));
        }
        why
    }

    fn finish(&mut self) {
        self.done = true;
        let standings: Vec<_> = self.expected().iter().filter_map(|host| host.standing()).collect();
        self.shared.oracle.finished(&standings);
        for host in &self.hosts {
            if self.members.get(host.id).is_none() {
                continue;
            }
            if host.segments() > 2 {
                self.shared.hit(Point::SegmentRolled);
            }
            let applied = host.applied().sequence;
            if let Some(market) = host.market() {
                self.shared.oracle.look_at(host.id, market, applied);
            }
        }
        let words = standings
            .iter()
            .flat_map(|standing| [standing.state_hash, standing.applied.index.0]);
        self.shared.happened(&words.collect::<Vec<_>>());
    }
}

fn pairs(nodes: &[NodeId]) -> impl Iterator<Item = (NodeId, NodeId)> {
    let all = nodes.iter().flat_map(|from| nodes.iter().map(|to| (*from, *to)));
    all.filter(|(from, to)| from != to)
}
