//! Which fault comes next.

use powerloss::Random;

use super::GroupFault;

/// All faults in a random order, then all of them again in another: each comes as often as any other.
#[derive(Debug)]
pub(crate) struct Deck {
    all: Vec<GroupFault>,
    left: Vec<GroupFault>,
}

impl Deck {
    pub(crate) fn new(all: Vec<GroupFault>) -> Self {
        Self { all, left: Vec::new() }
    }

    pub(crate) fn next(&mut self, random: &mut Random) -> Option<GroupFault> {
        if self.left.is_empty() {
            self.left.clone_from(&self.all);
            for at in (1..self.left.len()).rev() {
                self.left.swap(at, random.below(at + 1));
            }
        }
        self.left.pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_comes_before_any_comes_again() {
        let all = GroupFault::of_voters();
        let mut deck = Deck::new(all.clone());
        let mut random = Random::new(7);
        let mut orders = Vec::new();
        for _ in 0..2 {
            let order: Vec<_> = all.iter().filter_map(|_| deck.next(&mut random)).collect();
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, all);
            orders.push(order);
        }
        assert_ne!(orders[0], orders[1]);
    }
}
