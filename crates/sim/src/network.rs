//! Links between the nodes: one a direction, first in, first out, unless a fault says otherwise.

use wire::journal::NodeId;

use crate::events::{MICROSECOND, MILLISECOND, Time};
use crate::random::Dice;

/// The most nodes of a run, gateways and those that were removed included.
pub(crate) const NODES_MAX: usize = 9;

/// One direction between two nodes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Link {
    last_arrival: Time,
    /// How many faults cut it.
    pub(crate) cuts: u32,
    pub(crate) drop_ppm: u32,
    pub(crate) duplicate_ppm: u32,
    pub(crate) reorder_ppm: u32,
    pub(crate) delay: Time,
    /// When its sender was told last that nothing gets through.
    pub(crate) told_at: Time,
}

/// All links.
#[derive(Debug)]
pub(crate) struct Network {
    links: Vec<Link>,
    dice: Dice,
}

impl Network {
    pub(crate) fn new(dice: Dice) -> Self {
        Self {
            links: vec![Link::default(); NODES_MAX * NODES_MAX],
            dice,
        }
    }

    pub(crate) fn link(&mut self, from: NodeId, to: NodeId) -> &mut Link {
        let (from, to) = (from.0 as usize - 1, to.0 as usize - 1);
        &mut self.links[from * NODES_MAX + to]
    }

    /// Every link is as it should be.
    pub(crate) fn heal(&mut self) {
        for link in &mut self.links {
            *link = Link {
                last_arrival: link.last_arrival,
                ..Link::default()
            };
        }
    }

    /// When a message arrives that is sent now: not at all, once, or twice. `transfer` is what it takes besides.
    pub(crate) fn send(&mut self, now: Time, from: NodeId, to: NodeId, transfer: Time) -> ([Option<Time>; 2], bool) {
        let jitter = self.dice.below(200) * MICROSECOND;
        let (lost, twice, reordered, far) = {
            let link = *self.link(from, to);
            let dice = &mut self.dice;
            (
                dice.ppm(link.drop_ppm),
                dice.ppm(link.duplicate_ppm),
                dice.ppm(link.reorder_ppm),
                dice.below(30) * MILLISECOND,
            )
        };
        let link = self.link(from, to);
        if link.cuts > 0 || lost {
            return ([None, None], false);
        }
        let mut arrives = now + 100 * MICROSECOND + jitter + link.delay + transfer;
        if reordered {
            arrives += far;
        } else {
            arrives = arrives.max(link.last_arrival + 1);
            link.last_arrival = arrives;
        }
        let again = twice.then(|| arrives + far);
        ([Some(arrives), again], reordered || twice)
    }
}
