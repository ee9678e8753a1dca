//! The account's orders that have ended, the newest first, read from the event log along the account's index.

use std::fmt;
use std::str::FromStr;

use types::{AccountId, Event, InstrumentId, OrderId, OrderTarget, ParseIdError, Sequence};

use crate::failure::Failure;
use crate::gateway::Shared;
use crate::handle::HistoryError;
use crate::view::{EndedOrder, PrivateStream, closed_order};

/// Commands that one page may look at: most of an account's commands end no order.
const COMMANDS_PER_PAGE_MAX: usize = 2_000;
/// Commands that are asked of the index at once.
const COMMANDS_PER_LOOK: usize = 200;

/// Where a page begins: behind this many of the orders that this command ended. Written `sequence.count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EndedCursor {
    sequence: Sequence,
    count: u32,
}

impl fmt::Display for EndedCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.sequence, self.count)
    }
}

impl FromStr for EndedCursor {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let (sequence, count) = text.split_once('.').ok_or(ParseIdError)?;
        // A count is spelt as every number in an id is.
        let Sequence(count) = count.parse()?;
        Ok(Self {
            sequence: sequence.parse()?,
            count: u32::try_from(count).map_err(|_| ParseIdError)?,
        })
    }
}

/// A page of ended orders.
pub(super) struct EndedPage {
    pub orders: Vec<EndedOrder>,
    /// Where the next page begins; none at the end.
    pub next: Option<EndedCursor>,
}

/// The page behind a cursor.
pub(super) async fn page(
    shared: &Shared,
    account: AccountId,
    instrument: Option<InstrumentId>,
    cursor: Option<EndedCursor>,
    limit: usize,
) -> Result<EndedPage, Failure> {
    let mut orders = Vec::new();
    let mut end = cursor.map_or(Sequence(u64::MAX), |cursor| {
        Sequence(cursor.sequence.0.saturating_add(1))
    });
    for _ in 0..COMMANDS_PER_PAGE_MAX / COMMANDS_PER_LOOK {
        let sequences = shared
            .view
            .sequences(account, PrivateStream::Orders, end, COMMANDS_PER_LOOK);
        let Some(last) = sequences.last().copied() else {
            return Ok(EndedPage { orders, next: None });
        };
        for sequence in sequences {
            let skip = cursor
                .filter(|cursor| cursor.sequence == sequence)
                .map_or(0, |cursor| cursor.count);
            let room = limit - orders.len();
            let Some(ended) = ended_by(shared, account, instrument, sequence, skip, room).await? else {
                // The log no longer reaches so far.
                return Ok(EndedPage { orders, next: None });
            };
            orders.extend(ended.orders);
            if orders.len() >= limit {
                let next = EndedCursor {
                    sequence,
                    count: skip + ended.told,
                };
                return Ok(EndedPage {
                    orders,
                    next: Some(next),
                });
            }
        }
        end = last;
    }
    let next = EndedCursor {
        sequence: Sequence(end.0.saturating_sub(1)),
        count: 0,
    };
    Ok(EndedPage {
        orders,
        next: Some(next),
    })
}

/// What one command ended.
struct EndedBy {
    orders: Vec<EndedOrder>,
    /// How many of the command's ended orders were looked at.
    told: u32,
}

/// The orders of an account that a command ended, the last one first; none if the command is no longer kept.
async fn ended_by(
    shared: &Shared,
    account: AccountId,
    instrument: Option<InstrumentId>,
    sequence: Sequence,
    skip: u32,
    room: usize,
) -> Result<Option<EndedBy>, Failure> {
    let command = match shared.past.command(sequence).await {
        Ok(Some(command)) => command,
        Ok(None) | Err(HistoryError::Retired { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut ended = EndedBy {
        orders: Vec::new(),
        told: 0,
    };
    let ends = command.events().iter().rev().filter_map(|event| end_of(account, event));
    for end in ends.skip(skip as usize) {
        if ended.orders.len() == room {
            break;
        }
        ended.told += 1;
        let order = match end {
            End::Closed(order) => Some(order),
            End::Filled(order_id) => {
                let target = OrderTarget::OrderId(order_id);
                closed_order(&shared.view, &shared.past, account, &target).await?
            }
        };
        let wanted = order.filter(|ended| instrument.is_none_or(|instrument| ended.order.instrument == instrument));
        ended.orders.extend(wanted);
    }
    Ok(Some(ended))
}

/// How an order ended.
enum End {
    Closed(EndedOrder),
    Filled(OrderId),
}

/// The end of an order of an account that an event tells, if it does.
fn end_of(account: AccountId, event: &Event) -> Option<End> {
    match event {
        Event::OrderClosed { order, reason, .. } if order.account == account => Some(End::Closed(EndedOrder {
            order: *order,
            close_reason: Some(*reason),
        })),
        Event::Traded(trade) => {
            let sides = [&trade.maker, &trade.taker];
            let filled = sides
                .into_iter()
                .find(|side| side.account == account && side.remaining.0 == 0);
            filled.map(|side| End::Filled(side.order_id))
        }
        _ => None,
    }
}
