//! Money is conserved: each asset's supply is what was paid in less what was paid out, and the balances add up to it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use types::{AssetId, Sequence};
use wire::journal::NodeId;

use super::Checked;
use super::one_order::OneOrder;
use crate::market::{Genesis, Market};

pub(crate) const NAME: &str = "money is conserved";

/// Walks a node's whole state.
pub(crate) fn check(node: NodeId, market: &Market, order: &OneOrder, through: Sequence) -> Checked {
    let whole = catch_unwind(AssertUnwindSafe(|| market.exchange.check_invariants()));
    if whole.is_err() {
        return Err(format!("the state of node {node} does not agree with itself"));
    }
    for (asset, began_with) in (0..).map(AssetId).zip(&Genesis::get().supply) {
        let executed = order.all().iter().take_while(|executed| executed.sequence <= through);
        let paid = executed.filter_map(|executed| executed.paid_in);
        let paid: i64 = paid.filter(|(of, _)| *of == asset).map(|(_, amount)| amount).sum();
        let supply = market.exchange.supply(asset).map_or(0, |amount| amount.0);
        if supply != began_with + paid {
            return Err(format!(
                "node {node} has {supply} of asset {asset}; {} were paid in",
                began_with + paid
            ));
        }
    }
    Ok(())
}
