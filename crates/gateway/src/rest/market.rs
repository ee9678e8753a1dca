//! What everybody may see: time, instruments, books, trades.

use std::sync::Arc;

use types::{FillId, Instrument, Position, Symbol};
use wire::errors::Refusal;
use wire::json::{self, Freshness, Scale};

use crate::failure::Failure;
use crate::freshness::Answered;
use crate::gateway::Shared;
use crate::incoming::{Incoming, PathPart};
use crate::intake;
use crate::query::Query;

/// Price levels of a book if the request doesn't say.
const DEPTH_DEFAULT: usize = 50;
/// The most price levels of a book.
const DEPTH_MAX: usize = 1_000;

/// The node's time, and the cluster id for signatures
#[utoipa::path(get, path = "/v1/time", tag = "market data", operation_id = "time",
    responses((status = 200, description = "The time.", body = json::ServerTime), (status = "default", description = "An error.", body = json::Problem, content_type = "application/problem+json")))]
pub(crate) async fn time(incoming: Incoming) -> Result<Answered<json::ServerTime>, Failure> {
    incoming.query(&[])?;
    let shared = &incoming.shared;
    let status = shared.core.status();
    let body = json::ServerTime {
        now: shared.core.now().into(),
        clock_error_bound_ns: status.clock_error_bound_ns.into(),
        cluster_id: shared.config.cluster_id.to_string(),
        group: status.group.0,
        epoch: status.epoch.0,
        last_sequence: status.last_applied.into(),
    };
    let position = Position {
        group: status.group,
        epoch: status.epoch,
        sequence: status.last_applied,
    };
    Ok(Answered::stale(body, position))
}

/// Instruments, by name
#[utoipa::path(get, path = "/v1/instruments", tag = "market data", operation_id = "instruments",
    params(
        ("limit" = Option<u32>, Query, description = "Items of a page, 1 to 500; left out: 100."),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before.")),
    responses((status = 200, description = "A page.", body = json::Instruments), (status = "default", description = "An error.", body = json::Problem, content_type = "application/problem+json")))]
pub(crate) async fn instruments(incoming: Incoming) -> Result<Answered<json::Instruments>, Failure> {
    let query = incoming.query(&["limit", "cursor"])?;
    incoming.shared.catch_up().await?;
    page_of_instruments(&incoming.shared, &query, Freshness::Stale)
}

pub(super) fn page_of_instruments(
    shared: &Shared,
    query: &Query<'_>,
    freshness: Freshness,
) -> Result<Answered<json::Instruments>, Failure> {
    let limit = query.limit()?;
    let after: Option<Symbol> = query.cursor()?;
    let position = shared.view_position();
    let reference = shared.view.reference();
    let mut found: Vec<&Arc<Instrument>> = reference
        .instruments()
        .filter(|instrument| after.is_none_or(|after| instrument.symbol > after))
        .collect();
    found.sort_unstable_by_key(|instrument| instrument.symbol);
    let more = found.len() > limit;
    found.truncate(limit);
    let next_cursor = found.last().filter(|_| more).map(|last| last.symbol.to_string());
    let instruments = found.into_iter().map(|instrument| as_json(shared, instrument));
    let body = json::Instruments {
        instruments: instruments.collect::<Result<_, _>>()?,
        next_cursor,
        position: position.into(),
    };
    Ok(Answered {
        body,
        position,
        freshness,
    })
}

/// An instrument as JSON.
pub(crate) fn as_json(shared: &Shared, instrument: &Instrument) -> Result<json::Instrument, Failure> {
    let reference = shared.view.reference();
    let assets = reference.asset(instrument.base).zip(reference.asset(instrument.quote));
    let (base, quote) = assets.ok_or_else(|| Failure::new(Refusal::InternalError))?;
    Ok(json::Instrument::new(instrument, &base, &quote))
}

/// The scale of an instrument as it is now.
pub(super) fn scale_of(shared: &Shared, instrument: &Instrument) -> Result<Scale, Failure> {
    let quote = shared.view.reference().asset(instrument.quote);
    let quote = quote.ok_or_else(|| Failure::new(Refusal::InternalError))?;
    Ok(Scale::of(instrument, &quote))
}

/// One instrument
#[utoipa::path(get, path = "/v1/instruments/{symbol}", tag = "market data", operation_id = "instrument",
    params(("symbol" = String, Path, description = "The instrument.")),
    responses((status = 200, description = "The instrument.", body = json::Instrument), (status = "default", description = "An error.", body = json::Problem, content_type = "application/problem+json")))]
pub(crate) async fn instrument(symbol: PathPart, incoming: Incoming) -> Result<Answered<json::Instrument>, Failure> {
    incoming.query(&[])?;
    incoming.shared.catch_up().await?;
    let position = incoming.shared.view_position();
    let instrument = intake::known_instrument(&incoming.shared, &symbol.0)?;
    Ok(Answered::stale(as_json(&incoming.shared, &instrument)?, position))
}

/// The book of an instrument
#[utoipa::path(get, path = "/v1/instruments/{symbol}/book", tag = "market data", operation_id = "book",
    params(
        ("symbol" = String, Path, description = "The instrument."),
        ("depth" = Option<u32>, Query, description = "Price levels on each side, 1 to 1000; left out: 50.")),
    responses((status = 200, description = "The best levels.", body = json::Book), (status = "default", description = "An error.", body = json::Problem, content_type = "application/problem+json")))]
pub(crate) async fn book(symbol: PathPart, incoming: Incoming) -> Result<Answered<json::Book>, Failure> {
    let shared = &incoming.shared;
    let depth = incoming.query(&["depth"])?.parsed("depth")?.unwrap_or(DEPTH_DEFAULT);
    if !(1..=DEPTH_MAX).contains(&depth) {
        let detail = format!("it is 1 to {DEPTH_MAX}");
        return Err(Failure::new(Refusal::QueryInvalid).field("depth").detail(detail));
    }
    shared.catch_up().await?;
    let instrument = intake::known_instrument(shared, &symbol.0)?;
    let scale = scale_of(shared, &instrument)?;
    let book = shared.view.book(instrument.id, depth);
    let book = book.ok_or_else(|| Failure::new(Refusal::SymbolUnknown))?;
    let levels = |levels: Vec<(types::Price, crate::view::Level)>| {
        let level = |(price, level): (types::Price, crate::view::Level)| json::BookLevel {
            price: scale.price(price),
            quantity: scale.quantity(level.quantity),
            orders: level.order_count,
        };
        levels.into_iter().map(level).collect()
    };
    let body = json::Book {
        symbol: instrument.symbol.to_string(),
        bids: levels(book.bids),
        asks: levels(book.asks),
        position: book.position.into(),
    };
    Ok(Answered::stale(body, book.position))
}

/// The last trades of an instrument, the newest first
#[utoipa::path(get, path = "/v1/instruments/{symbol}/trades", tag = "market data", operation_id = "trades",
    params(
        ("symbol" = String, Path, description = "The instrument."),
        ("limit" = Option<u32>, Query, description = "Items of a page, 1 to 500; left out: 100."),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before.")),
    responses((status = 200, description = "A page.", body = json::Trades), (status = "default", description = "An error.", body = json::Problem, content_type = "application/problem+json")))]
pub(crate) async fn trades(symbol: PathPart, incoming: Incoming) -> Result<Answered<json::Trades>, Failure> {
    let shared = &incoming.shared;
    let query = incoming.query(&["limit", "cursor"])?;
    let (limit, before): (usize, Option<FillId>) = (query.limit()?, query.cursor()?);
    shared.catch_up().await?;
    let instrument = intake::known_instrument(shared, &symbol.0)?;
    let page = shared.view.trades(instrument.id, before, limit);
    let page = page.ok_or_else(|| Failure::new(Refusal::SymbolUnknown))?;
    let next_cursor = page
        .items
        .last()
        .filter(|_| page.more)
        .map(|last| last.fill_id.to_string());
    let trades = page.items.iter().filter_map(|trade| {
        let scale = shared.scale(instrument.id, trade.fill_id.position)?;
        Some(json::Trade {
            fill_id: trade.fill_id.to_string(),
            symbol: instrument.symbol.to_string(),
            price: scale.price(trade.price),
            quantity: scale.quantity(trade.quantity),
            taker_side: trade.taker_side.into(),
            traded_at: trade.sequenced_at.into(),
        })
    });
    let body = json::Trades {
        trades: trades.collect(),
        next_cursor,
        position: page.position.into(),
    };
    Ok(Answered::stale(body, page.position))
}
