//! Links between all nodes of all sites, with the time that a wide area takes.

use wire::journal::NodeId;

use super::plan::Setup;
use crate::events::{MICROSECOND, MILLISECOND, Time};
use crate::random::Dice;

/// The witness's node; the first region has those from 1 on, the second those from 4 on.
pub(super) const WITNESS: NodeId = NodeId(7);
const NODES: usize = 8;

/// A site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Site {
    First,
    Second,
    Witness,
}

impl Site {
    pub(super) fn of(node: NodeId) -> Self {
        match node.0 {
            1..=3 => Self::First,
            4..=6 => Self::Second,
            _ => Self::Witness,
        }
    }

    /// The other region.
    pub(super) fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            _ => Self::First,
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Link {
    last_arrival: Time,
    way: Time,
    /// How many faults cut it.
    pub(super) cuts: u32,
    pub(super) drop_ppm: u32,
    pub(super) duplicate_ppm: u32,
    pub(super) reorder_ppm: u32,
    pub(super) delay: Time,
}

/// All links, one a direction: first in, first out, unless a fault says otherwise.
#[derive(Debug)]
pub(super) struct Network {
    links: Vec<Link>,
    dice: Dice,
}

impl Network {
    pub(super) fn new(setup: &Setup, dice: Dice) -> Self {
        let mut links = vec![Link::default(); NODES * NODES];
        for (at, link) in links.iter_mut().enumerate() {
            let (from, to) = (at / NODES, at % NODES);
            let sites = (Site::of(NodeId(from as u64)), Site::of(NodeId(to as u64)));
            link.way = match sites {
                (one, other) if one == other => 80 * MICROSECOND,
                (Site::First, Site::Second) | (Site::Second, Site::First) => setup.ways[0],
                (Site::First, _) | (_, Site::First) => setup.ways[1],
                _ => setup.ways[2],
            };
        }
        Self { links, dice }
    }

    pub(super) fn link(&mut self, from: NodeId, to: NodeId) -> &mut Link {
        &mut self.links[from.0 as usize * NODES + to.0 as usize]
    }

    /// Every link is as it should be.
    pub(super) fn heal(&mut self) {
        for link in &mut self.links {
            *link = Link {
                last_arrival: link.last_arrival,
                way: link.way,
                ..Link::default()
            };
        }
    }

    /// When a message arrives that is sent now: not at all, once, or twice.
    pub(super) fn send(&mut self, now: Time, from: NodeId, to: NodeId) -> [Option<Time>; 2] {
        let link = *self.link(from, to);
        if from == to {
            return [Some(now + 20 * MICROSECOND), None];
        }
        let dice = &mut self.dice;
        let jitter = dice.below(link.way / 8 + 1);
        if link.cuts > 0 || dice.ppm(link.drop_ppm) {
            return [None, None];
        }
        let far = dice.below(60) * MILLISECOND;
        let mut arrives = now + link.way + jitter + link.delay;
        let reordered = dice.ppm(link.reorder_ppm);
        let twice = dice.ppm(link.duplicate_ppm);
        if reordered {
            arrives += far;
        } else {
            arrives = arrives.max(link.last_arrival + 1);
            self.link(from, to).last_arrival = arrives;
        }
        [Some(arrives), twice.then_some(arrives + far)]
    }
}
