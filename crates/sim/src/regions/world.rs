//! A whole run of two regions and a witness on one virtual time, first in trouble and then healing.

use std::panic::{AssertUnwindSafe, catch_unwind};

use replica::region::{Mode, OnStandbyLoss, RegionInput};
use wire::journal::NodeId;

use super::clients::Clients;
use super::coverage::{Coverage, Point};
use super::faults::Lasting;
use super::host::{Clocks, Host};
use super::mutation::RegionMutation;
use super::network::{Site, WITNESS};
use super::part::{nodes_of, region_of, reply};
use super::plan::{Drift, Plan};
use super::shared::{Happening, Reply, Shared};
use crate::events::{MILLISECOND, SECOND, Time};
use crate::market::TRADERS;
use crate::oracle::Violation;
use crate::random::Dice;

/// Commands that clients ask before faults end.
const COMMANDS_MIN: u64 = 600;
/// Within this long after the last fault everything must be well again.
const HEALED_WITHIN: Time = 60 * SECOND;
/// Many times more than happens in a run.
const EVENTS_MAX: u64 = 2_000_000;
/// Between two looks at whether it is.
const LOOK: Time = 50 * MILLISECOND;

/// What came of a run.
#[derive(Clone, Debug)]
pub struct RegionReport {
    /// The first promise that was broken.
    pub violation: Option<Violation>,
    /// What it came past.
    pub coverage: Coverage,
    /// A hash of all that happened: the same of every run of a seed.
    pub trace_hash: u32,
    /// Commands that clients asked.
    pub commands: u64,
    /// Faults that came about.
    pub faults: u64,
    /// Things that happened.
    pub events: u64,
    /// For how long it took to heal, in virtual milliseconds.
    pub healed_ms: u64,
    /// The last things that happened, if they were kept.
    pub lines: Vec<String>,
}

pub(super) struct World {
    pub(super) hosts: Vec<Host>,
    pub(super) clients: Clients,
    pub(super) shared: Shared,
    pub(super) plan: Plan,
    pub(super) lasting: Vec<Option<Lasting>>,
    pub(super) dice: Dice,
    events: u64,
    pub(super) faults: u64,
    pub(super) heals_since: Option<Time>,
    healed_at: Option<Time>,
    looked_at: Time,
    done: bool,
}

/// Runs a plan.
pub(super) fn run(seed: u64, plan: &Plan, mutation: Option<RegionMutation>, traced: bool) -> RegionReport {
    let mut world = World::new(seed, plan.clone(), mutation, traced);
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| world.go())) {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        world.shared.oracle.panicked(text.unwrap_or_default());
    }
    let healing = world.heals_since.unwrap_or(world.shared.now);
    RegionReport {
        violation: world.shared.oracle.violation().cloned(),
        trace_hash: world.shared.trace_hash,
        commands: world.clients.issued,
        faults: world.faults,
        events: world.events,
        healed_ms: (world.shared.now - healing) / MILLISECOND,
        lines: world.shared.take_lines(),
        coverage: world.shared.coverage,
    }
}

impl World {
    fn new(seed: u64, plan: Plan, mutation: Option<RegionMutation>, traced: bool) -> Self {
        let setup = plan.setup;
        let mut shared = Shared::new(seed, setup, mutation, traced);
        let mut dice = Dice::of(seed, 14);
        let first = nodes_of(Site::First, &shared);
        let second = nodes_of(Site::Second, &shared);
        let all = first.iter().chain(&second).copied();
        let hosts = all.clone().chain([WITNESS]).map(|node| {
            let clocks = Clocks::of(setup.drift, setup.drift_ppm, &mut dice);
            Host::new(node, clocks, &shared)
        });
        let hosts = hosts.collect();
        for (number, fault) in plan.faults.iter().enumerate() {
            shared.queue.at(fault.at, Happening::Fault(number));
        }
        let settings = [
            (setup.sync, Point::Sync, Point::Async),
            (
                setup.on_standby_loss == OnStandbyLoss::Stop,
                Point::Stop,
                Point::Degrade,
            ),
            (setup.automatic, Point::Automatic, Point::Manual),
        ];
        for (is_so, yes, no) in settings {
            shared.hit(if is_so { yes } else { no });
        }
        if setup.nodes.contains(&1) {
            shared.hit(Point::OneNode);
        }
        match setup.drift {
            Drift::AtTheBound => shared.hit(Point::DriftAtTheBound),
            Drift::Beyond => shared.hit(Point::DriftBeyond),
            Drift::Within => {}
        }
        Self {
            hosts,
            clients: Clients::new(Dice::of(seed, 15), all.collect()),
            lasting: plan.faults.iter().map(|_| None).collect(),
            shared,
            plan,
            dice,
            events: 0,
            faults: 0,
            heals_since: None,
            healed_at: None,
            looked_at: 0,
            done: false,
        }
    }

    fn go(&mut self) {
        for host in &mut self.hosts {
            host.start(&mut self.shared);
        }
        self.clients.begin(&mut self.shared);
        self.shared.after(50 * MILLISECOND, Happening::ReadSomewhere);
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
            self.check_superseded();
            self.look();
        }
    }

    pub(super) fn at(&self, node: NodeId) -> usize {
        let at = self.hosts.iter().position(|host| host.id == node);
        at.expect("there is such a node")
    }

    pub(super) fn host(&mut self, node: NodeId) -> (&mut Host, &mut Shared) {
        let at = self.at(node);
        (&mut self.hosts[at], &mut self.shared)
    }

    fn happen(&mut self, event: Happening) {
        match event {
            Happening::Tick { node, life }
            | Happening::Gather { node, life }
            | Happening::Stream { node, life }
            | Happening::Synced { node, life, .. }
            | Happening::Arrive { to: node, life, .. } => {
                if life > 0 && self.shared.life(node) == life {
                    let at = if let Happening::Arrive { from, .. } = &event {
                        from.0
                    } else {
                        0
                    };
                    let now = self.shared.now;
                    self.shared.happened(&[now, node.0, at]);
                    let (host, shared) = self.host(node);
                    host.happen(event, shared);
                }
            }
            Happening::Called { node, call, .. } => {
                if self.shared.life(node) == 0 {
                    return reply(call, Reply::Unknown, &mut self.shared);
                }
                let (host, shared) = self.host(node);
                host.happen(event, shared);
            }
            Happening::Start { node, life } => {
                let (host, shared) = self.host(node);
                if !host.is_up() && host.held_down == 0 && host.is_last_life(life) {
                    host.start(shared);
                }
            }
            Happening::Resume(node) => {
                let (host, shared) = self.host(node);
                let backlog = host.resume(shared);
                for event in backlog {
                    self.happen(event);
                }
            }
            Happening::ReadSomewhere => self.read_somewhere(),
            Happening::ClientTurn(client) => {
                let utc = self.hosts[0].utc(&self.shared);
                self.clients.turn(client, utc, &mut self.shared);
            }
            Happening::Replied { call, reply } => self.clients.replied(call, &reply, &mut self.shared),
            Happening::TimedOut(call) => self.clients.timed_out(call, &mut self.shared),
            Happening::Fault(number) => self.fault(number),
            Happening::Then(number, step) => self.then(number, step),
            Happening::FaultOver(number) => self.fault_over(number),
        }
    }

    fn read_somewhere(&mut self) {
        let wait = self.dice.between(20, 200) * MILLISECOND;
        self.shared.after(wait, Happening::ReadSomewhere);
        let at = self.dice.below(self.hosts.len() as u64) as usize;
        let host = &mut self.hosts[at];
        if host.is_active() {
            host.with_part(&mut self.shared, super::part::Part::read);
        }
    }

    /// While clocks are within their bound, no node of a region that another took over from believes that it is active.
    fn check_superseded(&mut self) {
        let Some(region) = self.shared.superseded.take() else {
            return;
        };
        if self.plan.setup.drift == Drift::Beyond {
            return;
        }
        for host in &self.hosts {
            let elapsed = host.elapsed(&self.shared);
            if let Some(part) = host.part.as_ref().filter(|part| region_of(part.site) == region) {
                let believes = part.believes(elapsed);
                self.shared.oracle.superseded(region, host.id, believes);
            }
        }
    }

    // ---- who is what -------------------------------------------------------------------------------------------------

    /// The site of the region that is active, by what the lease group agreed on.
    pub(super) fn active_site(&self) -> Option<Site> {
        let active = self.shared.oracle.lease()?.active?;
        [Site::First, Site::Second]
            .into_iter()
            .find(|site| region_of(*site) == active)
    }

    /// A node of a region that leads its group, the one of the latest term.
    pub(super) fn leader_of(&self, site: Site) -> Option<NodeId> {
        let leaders = self
            .hosts
            .iter()
            .filter(|host| host.site == site && host.is_active() && host.leads());
        let latest = leaders.max_by_key(|host| host.part.as_ref().map(|part| part.replica.term()));
        latest.map(|host| host.id)
    }

    // ---- healing -----------------------------------------------------------------------------------------------------

    fn look(&mut self) {
        let now = self.shared.now;
        let Some(since) = self.heals_since else {
            if now >= self.plan.ends && (self.clients.issued >= COMMANDS_MIN || now > 3 * self.plan.ends) {
                self.heal();
            }
            return;
        };
        if now < self.looked_at + LOOK {
            return;
        }
        self.looked_at = now;
        if self.is_well() {
            if self.healed_at.is_some() {
                return self.finish();
            }
            // Orders are executed again.
            self.healed_at = Some(now);
            for client in 0..=TRADERS {
                let utc = self.hosts[0].utc(&self.shared);
                self.clients.ask_something(client, utc, &mut self.shared);
            }
        } else if now > since + HEALED_WITHIN {
            let why = self.what_is_not_well();
            self.shared.oracle.not_healed(why);
        }
    }

    /// All faults are over.
    fn heal(&mut self) {
        let now = self.shared.now;
        self.shared.say(|| "all faults are over".to_owned());
        for number in 0..self.lasting.len() {
            self.fault_over(number);
        }
        self.heals_since = Some(now);
        self.looked_at = now;
        self.clients.open_for_business = false;
        self.shared.network.heal();
        for at in 0..self.hosts.len() {
            let host = &mut self.hosts[at];
            host.held_down = 0;
            host.pause_in_check = None;
            if !host.is_up() {
                let (node, life) = (host.id, host.lives());
                self.shared.after(0, Happening::Start { node, life });
            }
        }
    }

    fn is_well(&self) -> bool {
        let Some(active) = self.active_site() else {
            return false;
        };
        let mode = |site: Site| {
            let leader = self.leader_of(site)?;
            let part = self.hosts[self.at(leader)].part.as_ref()?;
            Some((part.region.mode(), part.region.follows()))
        };
        let works = matches!(mode(active), Some((Mode::Active(_), _)));
        let follows = matches!(mode(active.other()), Some((Mode::Standby, true)));
        let parts: Vec<_> = self.hosts.iter().filter_map(|host| host.part.as_ref()).collect();
        let nodes: u64 = self.plan.setup.nodes.iter().sum();
        let place = |part: &super::part::Part| {
            let applied = part.replica.applier().applied();
            (applied.epoch, applied.sequence, applied.chain)
        };
        let all_there = parts.len() as u64 == nodes && self.hosts.iter().all(Host::is_active);
        let is_whole = |part: &&super::part::Part| {
            let members = part.replica.applier().membership();
            members.voters().count() == nodes_of(part.site, &self.shared).len()
        };
        let agreed = |host: &Host| {
            let state = host.voter.as_ref().map(|voter| voter.state());
            state.is_none_or(|state| Some(state) == self.shared.oracle.lease())
        };
        works
            && follows
            && all_there
            && self.clients.waiting() == 0
            && parts.windows(2).all(|pair| place(pair[0]) == place(pair[1]))
            && parts.iter().all(is_whole)
            && self.hosts.iter().all(agreed)
    }

    fn what_is_not_well(&self) -> String {
        let mut why = format!("{} requests have no answer", self.clients.waiting());
        why.push_str(&format!("; the lease: {:?}", self.shared.oracle.lease()));
        for host in &self.hosts {
            if let Some(voter) = host.voter.as_ref().filter(|voter| voter.leads()) {
                why.push_str(&format!(
                    "; node {} leads the lease group, {:?}",
                    host.id,
                    voter.state().renewals
                ));
            }
            let Some(part) = &host.part else { continue };
            let applied = part.replica.applier().applied();
            why.push_str(&format!(
                "; node {} in term {} (leads: {}): {:?}, follows: {}, void: {}, epoch {} sequence {} index {}, life {}, {:?}, why not {:?}",
                host.id,
                part.replica.term(),
                part.replica.leads(),
                part.region.mode(),
                part.region.follows(),
                part.region.is_void(),
                applied.epoch,
                applied.sequence,
                applied.index,
                host.group.as_ref().map_or(0, |group| group.incarnation.0),
                part.replica.applier().membership().voters().collect::<Vec<_>>(),
                part.region.why_not(),
            ));
        }
        why
    }

    fn finish(&mut self) {
        self.done = true;
        let parts = || self.hosts.iter().filter_map(|host| host.part.as_ref());
        let standings: Vec<_> = parts().map(super::part::Part::standing).collect();
        let voters = self.hosts.iter().filter_map(|host| host.voter.as_ref());
        let leases: Vec<_> = voters.map(|voter| voter.state().clone()).collect();
        self.shared.oracle.finished(&standings, &leases);
        for part in self.hosts.iter().filter_map(|host| host.part.as_ref()) {
            let through = part.replica.applier().applied().sequence;
            self.shared.oracle.look_at(part.node, part.market(), through);
        }
        for _ in 0..self.shared.oracle.void {
            self.shared.hit(Point::Void);
        }
        let words: Vec<u64> = standings
            .iter()
            .flat_map(|standing| [standing.state_hash, standing.applied.sequence.0])
            .collect();
        self.shared.happened(&words);
    }

    /// An operator tells a region something, through whoever leads it.
    pub(super) fn operate(&mut self, site: Site, input: RegionInput) -> bool {
        let Some(leader) = self.leader_of(site) else {
            return false;
        };
        let (host, shared) = self.host(leader);
        host.with_part(shared, |part, turn| {
            part.tell(input, turn);
            part.look_after(turn);
        });
        true
    }
}
