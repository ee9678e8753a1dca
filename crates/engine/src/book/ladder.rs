//! The price levels of one side, in flat storage, found by a radix tree over the price.
//!
//! A node of the tree decides 6 bits of the price and has 64 branches. Paths are compressed: every node has at least two
//! branches, and a lone level hangs where its path begins. So there are fewer nodes than levels, whatever the prices;
//! depth follows from how many levels there are rather than how far apart they are (2 or 3 steps as a rule, 9 at the
//! worst); and the next best level always hangs below the same node as the best one, so a sweep never climbs.
//!
//! ```text
//!   root ─> [digit 2 of the rank: ..3.......9...] ─> [digit 1: .5.6.7...] ─> [digit 0: 0123......63] ─> level
//!                               └─> level (the only one of its branch)
//! ```
//!
//! Prices are kept as **ranks**, for which higher is better on both sides; the caller turns one into the other.

use crate::prefetch::prefetch;

/// Bits of the rank that one node of the tree decides.
const DIGIT_BITS: u32 = 6;
/// Branches of a node.
const BRANCHES: usize = 1 << DIGIT_BITS;

/// Where a branch of the tree leads: nowhere, to a level, or to a node. Which digit a node decides stands here and not in
/// the node, so that the node's two cache lines are asked for at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Branch(u32);

impl Branch {
    const INDEX_BITS: u32 = 28;
    const INDEX_END: u32 = (1 << Self::INDEX_BITS) - 1;
    const LEVEL: u32 = 15;
    const NOWHERE: Self = Self(u32::MAX);

    fn level(index: u32) -> Self {
        Self(Self::LEVEL << Self::INDEX_BITS | index)
    }

    fn node(index: u32, digit: u32) -> Self {
        Self(digit << Self::INDEX_BITS | index)
    }

    fn is_level(self) -> bool {
        self.0 >> Self::INDEX_BITS == Self::LEVEL
    }

    fn index(self) -> usize {
        (self.0 & Self::INDEX_END) as usize
    }

    /// Where the node's digit begins in a rank.
    fn shift(self) -> u32 {
        (self.0 >> Self::INDEX_BITS) * DIGIT_BITS
    }

    /// Which branch of this node a rank takes.
    fn slot(self, rank: u64) -> usize {
        (rank >> self.shift()) as usize % BRANCHES
    }
}

/// One price of one side: what is on offer there, and the queue of its orders. Half a cache line.
#[derive(Clone, Debug)]
#[repr(C, align(32))]
pub(super) struct LevelNode {
    /// The price as a rank.
    pub(super) rank: u64,
    /// What may still be filled, in lots.
    pub(super) quantity: i64,
    /// The order that is filled first.
    pub(super) head: u32,
    /// The order that is filled last.
    pub(super) tail: u32,
    /// How many orders; 0 only in a level that is not in use.
    pub(super) orders: u32,
    /// The node that leads here, if this isn't the root. In a level that is not in use, the index of the next such one.
    parent: Branch,
}

/// An inner node of the tree.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
struct TreeNode {
    /// Which branches there are.
    occupied: u64,
    /// What all ranks below have in common: the digits above this node's, the others 0.
    base: u64,
    /// The node that leads here, if this isn't the root. In a node that is not in use, the index of the next such one.
    parent: Branch,
    /// Where the branches lead. What stands in one that is not occupied has no meaning.
    branches: [Branch; BRANCHES],
}

const _: () = assert!(size_of::<LevelNode>() == 32);
const _: () = assert!(size_of::<TreeNode>() == 320);

impl TreeNode {
    fn is_occupied(&self, slot: usize) -> bool {
        self.occupied >> slot & 1 == 1
    }

    fn lowest(&self) -> Branch {
        self.branches[self.occupied.trailing_zeros() as usize % BRANCHES]
    }

    fn highest(&self) -> Branch {
        self.branches[self.occupied.ilog2() as usize % BRANCHES]
    }
}

/// The levels of one side.
#[derive(Clone, Debug)]
pub(super) struct Ladder {
    levels: Vec<LevelNode>,
    nodes: Vec<TreeNode>,
    root: Branch,
    /// The best level, or nowhere.
    best: Branch,
    best_rank: u64,
    levels_free: Branch,
    nodes_free: Branch,
}

impl Default for Ladder {
    fn default() -> Self {
        Self {
            levels: Vec::new(),
            nodes: Vec::new(),
            root: Branch::NOWHERE,
            best: Branch::NOWHERE,
            best_rank: 0,
            levels_free: Branch::NOWHERE,
            nodes_free: Branch::NOWHERE,
        }
    }
}

impl Ladder {
    /// The rank of the best level, if there is one.
    #[inline]
    pub(super) fn best_rank(&self) -> Option<u64> {
        (self.best != Branch::NOWHERE).then_some(self.best_rank)
    }

    /// The best level, if there is one.
    #[inline]
    pub(super) fn best(&self) -> Option<&LevelNode> {
        self.levels.get(self.best.index())
    }

    /// The index of the best level, and the level. There must be one.
    #[inline]
    pub(super) fn best_mut(&mut self) -> (u32, &mut LevelNode) {
        let index = self.best.index();
        (
            index as u32,
            self.levels
                .get_mut(index)
                .expect("only a side that has orders has a best one"),
        )
    }

    #[inline]
    pub(super) fn level(&self, level: u32) -> &LevelNode {
        &self.levels[level as usize]
    }

    #[inline]
    pub(super) fn level_mut(&mut self, level: u32) -> &mut LevelNode {
        &mut self.levels[level as usize]
    }

    /// The levels, best first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &LevelNode> + '_ {
        std::iter::successors(self.best(), |level| self.next_worse(level))
    }

    fn next_worse(&self, level: &LevelNode) -> Option<&LevelNode> {
        let mut above = level.parent;
        while above != Branch::NOWHERE {
            let node = &self.nodes[above.index()];
            let worse = node.occupied & ((1 << above.slot(level.rank)) - 1);
            if worse != 0 {
                let branch = node.branches[worse.ilog2() as usize % BRANCHES];
                return Some(&self.levels[self.best_below(branch).index()]);
            }
            above = node.parent;
        }
        None
    }

    /// The best level that a branch leads to.
    fn best_below(&self, mut branch: Branch) -> Branch {
        while !branch.is_level() {
            branch = self.nodes[branch.index()].highest();
        }
        branch
    }

    /// The level at which the path of this rank ends: its own, or another if it has none. Reads no level.
    #[inline]
    pub(super) fn find(&self, rank: u64) -> Option<u32> {
        let mut branch = self.root;
        while !branch.is_level() {
            let node = &self.nodes[branch.index()];
            let slot = branch.slot(rank);
            if !node.is_occupied(slot) {
                return None;
            }
            branch = node.branches[slot];
        }
        (branch != Branch::NOWHERE).then_some(branch.index() as u32)
    }

    /// Asks for a level's memory.
    #[inline]
    pub(super) fn prefetch(&self, level: u32) {
        prefetch(&self.levels, level as usize);
    }

    /// The level of this rank, made if there is none; a new one has no orders, and the caller gives it some.
    #[inline]
    pub(super) fn find_or_add(&mut self, rank: u64) -> u32 {
        let mut parent = Branch::NOWHERE;
        let mut branch = self.root;
        while !branch.is_level() {
            let node = &self.nodes[branch.index()];
            let slot = branch.slot(rank);
            if (rank ^ node.base) >> (branch.shift() + DIGIT_BITS) != 0 {
                let base = node.base;
                return self.add_beside(parent, branch, base, rank);
            }
            if !node.is_occupied(slot) {
                return self.add_below(branch, rank);
            }
            parent = branch;
            branch = node.branches[slot];
        }
        if branch == Branch::NOWHERE {
            let level = self.new_level(rank, Branch::NOWHERE);
            self.root = Branch::level(level);
            return level;
        }
        let other = self.levels[branch.index()].rank;
        if other != rank {
            return self.add_beside(parent, branch, other, rank);
        }
        branch.index() as u32
    }

    /// Takes the level, which has no orders any more, out.
    pub(super) fn remove(&mut self, level: u32) {
        let LevelNode { rank, parent, .. } = *self.level(level);
        let was_best = self.best == Branch::level(level);
        if parent == Branch::NOWHERE {
            self.root = Branch::NOWHERE;
            self.best = Branch::NOWHERE;
        } else {
            let node = &mut self.nodes[parent.index()];
            node.occupied &= !(1 << parent.slot(rank));
            if was_best {
                // It was the best one of its node, which has another.
                let highest = node.highest();
                self.best = self.best_below(highest);
                self.best_rank = self.levels[self.best.index()].rank;
            }
            let occupied = self.nodes[parent.index()].occupied;
            if occupied & (occupied - 1) == 0 {
                self.collapse(parent);
            }
        }
        let free = self.levels_free;
        let node = self.level_mut(level);
        node.orders = 0;
        node.parent = free;
        self.levels_free = Branch::level(level);
    }

    /// Puts the only branch that is left of a node in the node's place.
    fn collapse(&mut self, branch: Branch) {
        let free = self.nodes_free;
        let node = &mut self.nodes[branch.index()];
        let (above, base, last) = (node.parent, node.base, node.lowest());
        node.parent = free;
        self.nodes_free = branch;
        self.hang(above, base, last);
    }

    /// Makes the branch of `parent` that `rank` takes lead to `child`.
    fn hang(&mut self, parent: Branch, rank: u64, child: Branch) {
        if parent == Branch::NOWHERE {
            self.root = child;
        } else {
            self.nodes[parent.index()].branches[parent.slot(rank)] = child;
        }
        if child.is_level() {
            self.levels[child.index()].parent = parent;
        } else {
            self.nodes[child.index()].parent = parent;
        }
    }

    /// Adds a level where a branch leads to a lone level or to a node that this rank doesn't belong to: a new node takes
    /// the branch and holds both. `other` is a rank that does belong there.
    fn add_beside(&mut self, parent: Branch, branch: Branch, other: u64, rank: u64) -> u32 {
        let digit = (other ^ rank).ilog2() / DIGIT_BITS;
        let common = (digit + 1) * DIGIT_BITS;
        let node = self.new_node(digit, rank >> common << common);
        self.hang(parent, rank, node);
        self.nodes[node.index()].occupied = 1 << node.slot(other);
        self.hang(node, other, branch);
        self.add_below(node, rank)
    }

    /// Adds a level as a new branch of the node to which its rank belongs.
    fn add_below(&mut self, parent: Branch, rank: u64) -> u32 {
        let level = self.new_level(rank, parent);
        let node = &mut self.nodes[parent.index()];
        let slot = parent.slot(rank);
        node.occupied |= 1 << slot;
        node.branches[slot] = Branch::level(level);
        level
    }

    fn new_level(&mut self, rank: u64, parent: Branch) -> u32 {
        let level = LevelNode {
            rank,
            quantity: 0,
            head: 0,
            tail: 0,
            orders: 0,
            parent,
        };
        let index = if self.levels_free == Branch::NOWHERE {
            let index = self.levels.len() as u32;
            assert!(index < Branch::INDEX_END, "there are not more levels than orders");
            self.levels.push(level);
            index
        } else {
            let index = self.levels_free.index();
            self.levels_free = self.levels[index].parent;
            self.levels[index] = level;
            index as u32
        };
        if self.best == Branch::NOWHERE || rank > self.best_rank {
            self.best = Branch::level(index);
            self.best_rank = rank;
        }
        index
    }

    fn new_node(&mut self, digit: u32, base: u64) -> Branch {
        if self.nodes_free == Branch::NOWHERE {
            let index = self.nodes.len() as u32;
            assert!(index < Branch::INDEX_END, "there are fewer nodes than levels");
            self.nodes.push(TreeNode {
                occupied: 0,
                base,
                parent: Branch::NOWHERE,
                branches: [Branch::NOWHERE; BRANCHES],
            });
            return Branch::node(index, digit);
        }
        let index = self.nodes_free.index();
        let node = &mut self.nodes[index];
        self.nodes_free = node.parent;
        node.base = base;
        Branch::node(index as u32, digit)
    }
}

#[cfg(test)]
impl Ladder {
    /// Panics if the storage isn't what its comments say.
    pub(super) fn check_storage(&self) {
        let mut from_tree = Vec::new();
        let mut nodes = 0;
        let mut pending = vec![(Branch::NOWHERE, self.root)];
        while let Some((parent, branch)) = pending.pop() {
            if branch == Branch::NOWHERE {
                assert!(parent == Branch::NOWHERE && pending.is_empty());
                continue;
            }
            if branch.is_level() {
                let level = &self.levels[branch.index()];
                assert!(level.parent == parent && level.orders > 0 && level.quantity > 0);
                from_tree.push(level.rank);
                continue;
            }
            nodes += 1;
            let node = &self.nodes[branch.index()];
            assert!(node.parent == parent && node.occupied.count_ones() >= 2);
            if parent != Branch::NOWHERE {
                let base = self.nodes[parent.index()].base;
                assert!(parent.shift() > branch.shift() && (base ^ node.base) >> (parent.shift() + DIGIT_BITS) == 0);
            }
            // The best branch is pushed last, so that it is popped first.
            for slot in (0..BRANCHES).filter(|slot| node.is_occupied(*slot)) {
                pending.push((branch, node.branches[slot]));
            }
        }
        let ranks: Vec<u64> = self.iter().map(|level| level.rank).collect();
        assert_eq!(from_tree, ranks);
        assert_eq!(self.best_rank(), ranks.first().copied());
        let free = |mut next: Branch, after: &dyn Fn(usize) -> Branch| {
            let mut count = 0;
            while next != Branch::NOWHERE {
                next = after(next.index());
                count += 1;
            }
            count
        };
        let levels_free = free(self.levels_free, &|index| self.levels[index].parent);
        let nodes_free = free(self.nodes_free, &|index| self.nodes[index].parent);
        assert_eq!(levels_free + ranks.len(), self.levels.len());
        assert_eq!(nodes_free + nodes, self.nodes.len());
    }
}
