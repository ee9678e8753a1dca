//! Assets: what is held in balances.

use serde::{Deserialize, Serialize};

use crate::ids::{AssetId, Symbol};

/// Something that accounts hold, counted in smallest units of 10^-`decimals`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asset {
    /// Its id.
    pub id: AssetId,
    /// Its name, as in `USD`.
    pub symbol: Symbol,
    /// Digits after the point of one smallest unit, 0 to 12.
    pub decimals: u8,
}
