//! Which region is followed, and which of its nodes. No I/O, no clock: answers in, a decision out.
//!
//! The epoch decides, and nothing else: a promotion starts a higher one, and the region that says `active` at the highest
//! epoch that was ever seen is the active one. A lower epoch is never followed again, whoever claims it. So edges that hear
//! the same nodes decide the same without talking to each other.

/// A region, by its place in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RegionIndex(pub usize);

/// A node, counted over all regions in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeIndex(pub usize);

/// What a node said of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether an order that comes to it reaches the active leader.
    pub active: bool,
    /// The epoch that it knows.
    pub epoch: u64,
}

/// What came of asking a node once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It answered.
    Answer(Answer),
    /// It did not, or not in a way that can be understood.
    Nothing,
}

/// Why a region is followed, or none is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// No node has answered yet.
    NothingHeard,
    /// Nodes of it say that they are active at the highest epoch.
    Active,
    /// None does at the moment, as during an election, but it was active at the highest epoch, so no other one is.
    Held,
    /// A higher epoch was seen than that of any region that was active; none of it says that it is.
    EpochWithoutRegion,
}

impl Basis {
    /// Its name, for metrics and status.
    pub fn name(self) -> &'static str {
        match self {
            Self::NothingHeard => "nothing_heard",
            Self::Active => "active",
            Self::Held => "held",
            Self::EpochWithoutRegion => "epoch_without_region",
        }
    }

    /// What it means, as a sentence.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::NothingHeard => "No node has answered yet.",
            Self::Active => "Its nodes say that they are active at the highest epoch that was seen.",
            Self::Held => "No node says that it is active; this region was the last one, at the highest epoch seen.",
            Self::EpochWithoutRegion => "A higher epoch was seen, and no node says that it is active at it.",
        }
    }
}

/// What an open connection to a node has to expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// It stays.
    Yes,
    /// The node is lost.
    Lost,
    /// The node is of a region that is not followed.
    Superseded,
}

/// What follows from all that was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The highest epoch that was ever seen.
    pub epoch: Option<u64>,
    /// The region that is followed.
    pub region: Option<RegionIndex>,
    /// Why.
    pub basis: Basis,
    /// The last region that was found active, which DNS goes on with when none is.
    pub last_region: Option<RegionIndex>,
    /// Two regions say that they are active at the same epoch, which must never be.
    pub conflict: bool,
    /// The nodes that take new connections.
    pub open_to: Vec<NodeIndex>,
    /// For each node, what becomes of open connections.
    pub keep: Vec<Keep>,
}

/// A node, as far as the decision goes.
#[derive(Clone, Debug)]
struct Node {
    region: RegionIndex,
    /// The last answer; none if it is lost or was never heard.
    answer: Option<Answer>,
    failures: u32,
}

/// All that was heard.
#[derive(Clone, Debug)]
pub struct Follow {
    failures_max: u32,
    /// The regions' names: of two with the same claim, the one whose name is first is followed, on every edge.
    names: Vec<String>,
    nodes: Vec<Node>,
    epoch: Option<u64>,
    /// The region that was last found active, and at which epoch.
    last: Option<(RegionIndex, u64)>,
}

impl Follow {
    /// Nothing was heard yet. `regions` are their names and how many nodes each has.
    pub fn new(regions: &[(String, usize)], failures_max: u32) -> Self {
        let node = |region| Node {
            region: RegionIndex(region),
            answer: None,
            failures: 0,
        };
        let nodes = regions.iter().enumerate();
        Self {
            failures_max,
            names: regions.iter().map(|(name, _)| name.clone()).collect(),
            nodes: nodes
                .flat_map(|(region, (_, count))| vec![node(region); *count])
                .collect(),
            epoch: None,
            last: None,
        }
    }

    /// Takes in what came of asking a node.
    pub fn heard(&mut self, node: NodeIndex, heard: Heard) {
        let node = &mut self.nodes[node.0];
        match heard {
            Heard::Answer(answer) => {
                node.failures = 0;
                node.answer = Some(answer);
                // An epoch that any node knows is one that was granted, also while its region isn't ready for orders yet.
                self.epoch = self.epoch.max(Some(answer.epoch));
            }
            Heard::Nothing => {
                node.failures = node.failures.saturating_add(1);
                if node.failures >= self.failures_max {
                    node.answer = None;
                }
            }
        }
    }

    /// How often a node was asked in vain since its last answer.
    pub fn failures(&self, node: NodeIndex) -> u32 {
        self.nodes[node.0].failures
    }

    /// The last answer of a node that isn't lost.
    pub fn answer(&self, node: NodeIndex) -> Option<Answer> {
        self.nodes[node.0].answer
    }

    /// Whose node it is.
    pub fn region_of(&self, node: NodeIndex) -> RegionIndex {
        self.nodes[node.0].region
    }

    /// How many nodes there are.
    pub fn nodes_count(&self) -> usize {
        self.nodes.len()
    }

    /// Decides anew. Call it after [`heard`](Self::heard).
    pub fn decide(&mut self) -> Decision {
        let of_epoch = |node: &Node| node.answer.filter(|answer| Some(answer.epoch) == self.epoch);
        let claims = |node: &&Node| of_epoch(node).is_some_and(|answer| answer.active);
        let mut claimants: Vec<RegionIndex> = self.nodes.iter().filter(claims).map(|node| node.region).collect();
        claimants.sort_by_key(|region| &self.names[region.0]);
        claimants.dedup();
        let (region, basis) = match (claimants.first(), self.epoch, self.last) {
            (Some(region), Some(epoch), _) => {
                self.last = Some((*region, epoch));
                (Some(*region), Basis::Active)
            }
            (_, Some(epoch), Some((region, of))) if of == epoch => (Some(region), Basis::Held),
            (_, Some(_), _) => (None, Basis::EpochWithoutRegion),
            (_, None, _) => (None, Basis::NothingHeard),
        };
        let keep: Vec<Keep> = self
            .nodes
            .iter()
            .map(|node| match node.answer {
                None => Keep::Lost,
                // A node of the region that doesn't know of its epoch yet loses none that it has; its group vouches for it.
                Some(_) if Some(node.region) == region => Keep::Yes,
                Some(_) => Keep::Superseded,
            })
            .collect();
        // In an election none says that it is active. Those that were will say so to clients themselves, with the reason.
        let any_active = basis == Basis::Active;
        let takes = |index: &usize| {
            let answer = of_epoch(&self.nodes[*index]);
            keep[*index] == Keep::Yes && answer.is_some_and(|answer| answer.active || !any_active)
        };
        let open_to = (0..self.nodes.len()).filter(takes).map(NodeIndex).collect();
        Decision {
            epoch: self.epoch,
            region,
            basis,
            last_region: self.last.map(|(region, _)| region),
            conflict: claimants.len() > 1,
            open_to,
            keep,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regions `east` (nodes 0, 1) and `west` (nodes 2, 3); two failures are a loss. Steps are `node:what`, where `+2` is
    /// active at epoch 2, `-2` the same but not active, and `x` no answer.
    fn check(steps: &str) -> String {
        let mut follow = Follow::new(&[("east".into(), 2), ("west".into(), 2)], 2);
        let mut decision = follow.decide();
        for step in steps.split_whitespace() {
            let (node, what) = step.split_once(':').unwrap();
            let answer = |active| {
                Heard::Answer(Answer {
                    active,
                    epoch: what[1..].parse().unwrap(),
                })
            };
            let heard = match &what[..1] {
                "+" => answer(true),
                "-" => answer(false),
                _ => Heard::Nothing,
            };
            follow.heard(NodeIndex(node.parse().unwrap()), heard);
            decision = follow.decide();
        }
        let region = decision.region.map_or("none", |region| ["east", "west"][region.0]);
        let open_to: Vec<_> = decision.open_to.iter().map(|node| node.0.to_string()).collect();
        let keep = |keep: &Keep| match keep {
            Keep::Yes => 'y',
            Keep::Lost => 'l',
            Keep::Superseded => 's',
        };
        let kept: String = decision.keep.iter().map(keep).collect();
        let conflict = if decision.conflict { " conflict" } else { "" };
        let basis = decision.basis.name();
        format!("{region} {basis} to:{} keep:{kept}{conflict}", open_to.join(","))
    }

    #[test]
    fn the_highest_epoch_decides() {
        for (steps, wanted) in [
            ("", "none nothing_heard to: keep:llll"),
            ("0:x 0:x 0:x", "none nothing_heard to: keep:llll"),
            ("0:+1 1:+1 2:-1 3:-1", "east active to:0,1 keep:yyss"),
            // A promotion: whatever the old region says.
            ("0:+1 1:+1 2:+2", "west active to:2 keep:ssyl"),
            ("2:+2 3:+2 0:+1 1:+1", "west active to:2,3 keep:ssyy"),
            // A node of the new region that doesn't know of it yet gets nothing.
            ("0:+1 2:+2 3:-1", "west active to:2 keep:slyy"),
            ("0:+1 2:+2 3:+1", "west active to:2 keep:slyy"),
            // A region that goes on with a higher epoch of its own closes nothing.
            ("0:+1 1:+1 0:+2", "east active to:0 keep:yyll"),
            // A node that can't take orders keeps what it has and gets nothing new.
            ("0:+1 1:-1", "east active to:0 keep:yyll"),
            // An election: those that are there tell clients.
            ("0:+1 1:+1 0:-1 1:-1", "east held to:0,1 keep:yyll"),
            // One failure is no loss, two are.
            ("0:+1 1:+1 0:x", "east active to:0,1 keep:yyll"),
            ("0:+1 1:+1 0:x 0:x", "east active to:1 keep:lyll"),
            ("0:+1 0:x 0:+1 0:x", "east active to:0 keep:ylll"),
            ("0:+1 0:x 0:x 2:-1", "east held to: keep:llsl"),
            // A lower epoch is never followed again, not even when nothing else is left.
            ("2:+2 0:+1 2:x 2:x", "west held to: keep:slll"),
            ("0:+2 2:+3 2:x 2:x 3:x 3:x 0:+2", "west held to: keep:slll"),
            // A higher epoch that nobody is active at supersedes, too.
            ("0:+1 2:-2", "none epoch_without_region to: keep:slsl"),
            ("0:+1 2:-2 2:+2", "west active to:2 keep:slyl"),
            ("2:-2 0:+1", "none epoch_without_region to: keep:slsl"),
            // The old one's return as a standby, and its promotion.
            ("0:+1 2:+2 0:-2", "west active to:2 keep:slyl"),
            ("0:+1 2:+2 0:-2 0:+3 2:-2", "east active to:0 keep:ylsl"),
            // What must never be is the same everywhere: the first name.
            ("2:+5 0:+5", "east active to:0 keep:ylsl conflict"),
            ("0:+5 2:+5", "east active to:0 keep:ylsl conflict"),
        ] {
            assert_eq!(check(steps), wanted, "{steps}");
        }
    }

    #[test]
    fn the_order_in_which_nodes_are_heard_changes_nothing() {
        let steps = ["0:+3", "1:-3", "2:+4", "3:+2"];
        let all = steps.join(" ");
        let wanted = check(&all);
        for rotation in 0..steps.len() {
            let mut turned = steps.to_vec();
            turned.rotate_left(rotation);
            assert_eq!(check(&turned.join(" ")), wanted);
            turned.reverse();
            assert_eq!(check(&turned.join(" ")), wanted);
        }
    }
}
