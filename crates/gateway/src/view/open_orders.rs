//! An account's open orders, found by either id and listed by age.
//!
//! The orders themselves lie in slots that are used again, and the ordered index holds only ids and slot numbers: an
//! order is a quarter of a kilobyte, and an index of whole orders would move a page of them with every change.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use types::{Order, OrderId, OrderTarget, RequestId};

/// The open orders of one account.
#[derive(Debug, Default)]
pub(crate) struct OpenOrders {
    slots: Vec<Order>,
    /// Slots that hold no open order.
    free: Vec<u32>,
    by_id: BTreeMap<OrderId, u32>,
    by_client_id: HashMap<RequestId, OrderId>,
}

impl OpenOrders {
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Takes in an order that is open, or what became of one.
    pub fn insert(&mut self, order: Order) {
        if let Some(slot) = self.by_id.get(&order.order_id) {
            self.slots[*slot as usize] = order;
            return;
        }
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = order;
                slot
            }
            None => {
                self.slots.push(order);
                u32::try_from(self.slots.len() - 1).expect("open orders are fewer than sequences")
            }
        };
        self.by_id.insert(order.order_id, slot);
        self.by_client_id.insert(order.client_order_id, order.order_id);
    }

    /// Takes out an order that is no longer open.
    pub fn remove(&mut self, order_id: OrderId) -> Option<Order> {
        let slot = self.by_id.remove(&order_id)?;
        self.free.push(slot);
        let order = self.slots[slot as usize];
        // The client may have used its name for a later order by now.
        if self.by_client_id.get(&order.client_order_id) == Some(&order_id) {
            self.by_client_id.remove(&order.client_order_id);
        }
        Some(order)
    }

    /// The order of an id, to be changed.
    pub fn get_mut(&mut self, order_id: OrderId) -> Option<&mut Order> {
        let slot = self.by_id.get(&order_id)?;
        Some(&mut self.slots[*slot as usize])
    }

    /// The order that is meant.
    pub fn get(&self, target: &OrderTarget) -> Option<&Order> {
        let order_id = match target {
            OrderTarget::OrderId(order_id) => order_id,
            OrderTarget::ClientOrderId(client_order_id) => self.by_client_id.get(client_order_id)?,
        };
        let slot = self.by_id.get(order_id)?;
        Some(&self.slots[*slot as usize])
    }

    /// Those behind an order, or all, the oldest first.
    pub fn after(&self, order_id: Option<OrderId>) -> impl Iterator<Item = &Order> {
        let start = order_id.map_or(Bound::Unbounded, Bound::Excluded);
        let slots = self.by_id.range((start, Bound::Unbounded));
        slots.map(|(_, slot)| &self.slots[*slot as usize])
    }
}
