//! The price levels of one side, in flat storage.
//!
//! Two structures over one pool of levels:
//! - a **list** from each level to the next better and the next worse one. The best level is its head, so a sweep walks
//!   links and searches nothing;
//! - a **radix tree** over the price with 64 children a node, to find the level of a price, or its neighbours if it is a
//!   new one. Paths are compressed (every node has at least two children, a lone level hangs where its path begins), so
//!   there are fewer nodes than levels, whatever the prices, and depth follows from how many levels there are and not
//!   from how far apart they are: 2 or 3 steps as a rule, 9 at the worst.
//!
//! ```text
//!   root ─> [digit 2 of the rank: ..3.......9...] ─> [digit 1: .5.6.7...] ─> [digit 0: 0123......63] ─> level
//!                               └─> level (the only one of its branch)
//! ```
//!
//! Prices are kept as **ranks**, for which higher is better on both sides; the caller turns one into the other.

/// No level, or no node.
pub(super) const NONE: u32 = u32::MAX;

/// A branch of the tree that leads to a level has this bit set; the rest is the level's index.
const LEVEL: u32 = 1 << 31;
/// Bits of the rank that one node of the tree decides.
const DIGIT_BITS: u32 = 6;
/// Branches of a node.
const BRANCHES: usize = 1 << DIGIT_BITS;

/// One price of one side: what is on offer there, and the queue of its orders.
#[derive(Clone, Debug)]
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
    /// The next better level.
    better: u32,
    /// The next worse level; in a level that is not in use, the next such one.
    worse: u32,
    /// The tree's node that leads here; none if this is the root.
    parent: u32,
}

/// An inner node of the tree: what it needs to be passed through is in its first cache line.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
struct TreeNode {
    /// Which branches there are.
    occupied: u64,
    /// What all ranks below have in common: the digits above this node's, the others 0.
    base: u64,
    /// The node above; in a node that is not in use, the next such one.
    parent: u32,
    /// Where this node's digit begins in the rank.
    shift: u32,
    /// Where the branches lead. What stands in one that is not occupied has no meaning.
    branches: [u32; BRANCHES],
}

impl TreeNode {
    fn slot(&self, rank: u64) -> usize {
        (rank >> self.shift) as usize % BRANCHES
    }

    /// True if the rank belongs below this node.
    fn covers(&self, rank: u64) -> bool {
        (rank ^ self.base) >> (self.shift + DIGIT_BITS) == 0
    }

    fn is_occupied(&self, slot: usize) -> bool {
        self.occupied >> slot & 1 == 1
    }
}

/// The levels of one side.
#[derive(Clone, Debug)]
pub(super) struct Ladder {
    levels: Vec<LevelNode>,
    nodes: Vec<TreeNode>,
    root: u32,
    best: u32,
    best_rank: u64,
    levels_free: u32,
    nodes_free: u32,
}

impl Default for Ladder {
    fn default() -> Self {
        Self {
            levels: Vec::new(),
            nodes: Vec::new(),
            root: NONE,
            best: NONE,
            best_rank: 0,
            levels_free: NONE,
            nodes_free: NONE,
        }
    }
}

impl Ladder {
    /// The best level, or [`NONE`].
    #[inline]
    pub(super) fn best(&self) -> u32 {
        self.best
    }

    /// The rank of the best level, if there is one.
    #[inline]
    pub(super) fn best_rank(&self) -> Option<u64> {
        (self.best != NONE).then_some(self.best_rank)
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
        let mut next = self.best;
        std::iter::from_fn(move || {
            let level = self.levels.get(next as usize)?;
            next = level.worse;
            Some(level)
        })
    }

    /// The level of this rank, made if there is none; a new one has no orders, and the caller gives it some.
    #[inline]
    pub(super) fn find_or_add(&mut self, rank: u64) -> u32 {
        if self.best_rank == rank && self.best != NONE {
            return self.best;
        }
        let mut parent = NONE;
        let mut branch = self.root;
        loop {
            if branch == NONE {
                return self.add_first(rank);
            }
            if branch & LEVEL != 0 {
                let level = branch & !LEVEL;
                let other = self.level(level).rank;
                return if other == rank {
                    level
                } else {
                    self.add_beside(parent, branch, other, rank)
                };
            }
            let node = &self.nodes[branch as usize];
            if !node.covers(rank) {
                let base = node.base;
                return self.add_beside(parent, branch, base, rank);
            }
            let slot = node.slot(rank);
            if !node.is_occupied(slot) {
                return self.add_below(branch, rank);
            }
            parent = branch;
            branch = node.branches[slot];
        }
    }

    /// Takes the level, which has no orders any more, out.
    pub(super) fn remove(&mut self, level: u32) {
        let LevelNode {
            rank,
            better,
            worse,
            parent,
            ..
        } = *self.level(level);
        if better == NONE {
            self.best = worse;
        } else {
            self.level_mut(better).worse = worse;
        }
        if worse != NONE {
            let worse = self.level_mut(worse);
            worse.better = better;
            if better == NONE {
                self.best_rank = worse.rank;
            }
        }
        if parent == NONE {
            self.root = NONE;
        } else {
            self.cut(parent, rank);
        }
        let free = self.levels_free;
        let node = self.level_mut(level);
        node.worse = free;
        node.orders = 0;
        self.levels_free = level;
    }

    /// Takes the branch of this rank from the node, and the node too if one branch alone is left.
    fn cut(&mut self, index: u32, rank: u64) {
        let node = &mut self.nodes[index as usize];
        node.occupied &= !(1 << node.slot(rank));
        if node.occupied & (node.occupied - 1) != 0 {
            return;
        }
        let (base, above) = (node.base, node.parent);
        let last = node.branches[node.occupied.trailing_zeros() as usize % BRANCHES];
        node.parent = self.nodes_free;
        self.nodes_free = index;
        self.hang(above, base, last);
    }

    /// Makes the branch of `parent` in which `rank` lies lead to `child`.
    fn hang(&mut self, parent: u32, rank: u64, child: u32) {
        if parent == NONE {
            self.root = child;
        } else {
            let node = &mut self.nodes[parent as usize];
            let slot = node.slot(rank);
            node.branches[slot] = child;
        }
        if child & LEVEL != 0 {
            self.level_mut(child & !LEVEL).parent = parent;
        } else {
            self.nodes[child as usize].parent = parent;
        }
    }

    fn add_first(&mut self, rank: u64) -> u32 {
        let level = self.new_level(rank, NONE);
        self.root = LEVEL | level;
        self.best = level;
        self.best_rank = rank;
        level
    }

    /// Adds a level where a branch leads to a lone level or to a node that doesn't cover its rank: a new node takes the
    /// branch and holds both. `other` is a rank below the branch.
    #[inline(never)]
    fn add_beside(&mut self, parent: u32, branch: u32, other: u64, rank: u64) -> u32 {
        let shift = (other ^ rank).ilog2() / DIGIT_BITS * DIGIT_BITS;
        let base = rank >> (shift + DIGIT_BITS) << (shift + DIGIT_BITS);
        let index = self.new_node(shift, base);
        self.hang(parent, rank, index);
        let node = &mut self.nodes[index as usize];
        node.occupied = 1 << node.slot(other);
        self.hang(index, other, branch);
        self.add_below(index, rank)
    }

    /// Adds a level as a new branch of a node that covers its rank and has another branch.
    fn add_below(&mut self, index: u32, rank: u64) -> u32 {
        let level = self.new_level(rank, index);
        let node = &mut self.nodes[index as usize];
        let slot = node.slot(rank);
        let above = node.occupied >> slot;
        let below = node.occupied & ((1 << slot) - 1);
        node.occupied |= 1 << slot;
        node.branches[slot] = LEVEL | level;
        // A node has another branch: a neighbour lies there, and its link leads to the other neighbour.
        let (better, worse) = if above != 0 {
            let branch = node.branches[(slot + above.trailing_zeros() as usize) % BRANCHES];
            let better = self.lowest(branch);
            (better, self.level(better).worse)
        } else {
            let branch = node.branches[below.ilog2() as usize % BRANCHES];
            let worse = self.highest(branch);
            (self.level(worse).better, worse)
        };
        let node = self.level_mut(level);
        node.better = better;
        node.worse = worse;
        if worse != NONE {
            self.level_mut(worse).better = level;
        }
        if better == NONE {
            self.best = level;
            self.best_rank = rank;
        } else {
            self.level_mut(better).worse = level;
        }
        level
    }

    /// The worst level below a branch.
    fn lowest(&self, mut branch: u32) -> u32 {
        while branch & LEVEL == 0 {
            let node = &self.nodes[branch as usize];
            branch = node.branches[node.occupied.trailing_zeros() as usize % BRANCHES];
        }
        branch & !LEVEL
    }

    /// The best level below a branch.
    fn highest(&self, mut branch: u32) -> u32 {
        while branch & LEVEL == 0 {
            let node = &self.nodes[branch as usize];
            branch = node.branches[node.occupied.ilog2() as usize % BRANCHES];
        }
        branch & !LEVEL
    }

    fn new_level(&mut self, rank: u64, parent: u32) -> u32 {
        let level = LevelNode {
            rank,
            quantity: 0,
            head: NONE,
            tail: NONE,
            orders: 0,
            better: NONE,
            worse: NONE,
            parent,
        };
        let index = self.levels_free;
        if index == NONE {
            let index = u32::try_from(self.levels.len()).ok().filter(|index| *index < LEVEL);
            self.levels.push(level);
            return index.expect("there are fewer levels than orders, and fewer orders than 2^31");
        }
        self.levels_free = self.level(index).worse;
        *self.level_mut(index) = level;
        index
    }

    fn new_node(&mut self, shift: u32, base: u64) -> u32 {
        let index = self.nodes_free;
        if index == NONE {
            let index = u32::try_from(self.nodes.len()).ok().filter(|index| *index < LEVEL);
            self.nodes.push(TreeNode {
                occupied: 0,
                base,
                parent: NONE,
                shift,
                branches: [NONE; BRANCHES],
            });
            return index.expect("there are fewer nodes than levels");
        }
        let node = &mut self.nodes[index as usize];
        self.nodes_free = node.parent;
        node.occupied = 0;
        node.base = base;
        node.shift = shift;
        index
    }
}

#[cfg(test)]
impl Ladder {
    /// Panics if the storage isn't what its comments say.
    pub(super) fn check_storage(&self) {
        let mut from_tree = Vec::new();
        let mut nodes = 0;
        let mut pending = vec![(NONE, self.root)];
        while let Some((parent, branch)) = pending.pop() {
            if branch == NONE {
                continue;
            }
            if branch & LEVEL != 0 {
                let level = self.level(branch & !LEVEL);
                assert!(level.parent == parent && level.orders > 0 && level.quantity > 0);
                from_tree.push(level.rank);
                continue;
            }
            nodes += 1;
            let node = &self.nodes[branch as usize];
            assert!(node.parent == parent && node.occupied.count_ones() >= 2);
            if parent != NONE {
                let parent = &self.nodes[parent as usize];
                assert!(parent.shift > node.shift && parent.covers(node.base));
            }
            // The best branch is pushed last, so that it is popped first.
            for slot in (0..BRANCHES).filter(|slot| node.is_occupied(*slot)) {
                pending.push((branch, node.branches[slot]));
            }
        }
        let ranks: Vec<u64> = self.iter().map(|level| level.rank).collect();
        assert_eq!(from_tree, ranks);
        assert_eq!(self.best_rank(), ranks.first().copied());
        let mut better = NONE;
        let mut next = self.best;
        while next != NONE {
            assert_eq!(self.level(next).better, better);
            better = next;
            next = self.level(next).worse;
        }
        let mut levels_free = 0;
        let mut next = self.levels_free;
        while next != NONE {
            next = self.level(next).worse;
            levels_free += 1;
        }
        assert_eq!(levels_free + ranks.len(), self.levels.len());
        let mut nodes_free = 0;
        let mut next = self.nodes_free;
        while next != NONE {
            next = self.nodes[next as usize].parent;
            nodes_free += 1;
        }
        assert_eq!(nodes_free + nodes, self.nodes.len());
    }
}
