//! Looks acknowledged orders up by their names, as their clients would: where no journal can be read.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use anyhow::{Context as _, Result, ensure};
use client::SignedAt;
use wire::json::Order;

use super::connect::connect_one;
use super::market::{Market, epoch_ms};
use super::told::{AllTold, Fate};
use crate::protocol::Protocol;
use crate::protocol::http::{Signer, first_response};
use crate::results::Check;

/// How many orders are looked up at most, at even distances among all of them: nodes remember only so many that closed.
pub const SAMPLE: usize = 20_000;
const WINDOW_MS: u64 = 5_000;

/// Looks up orders whose placing was acknowledged. Gives the counts of those that were looked up, and each difference in
/// words.
///
/// # Errors
/// If the exchange doesn't answer.
pub fn look_up(market: &Market, told: &AllTold) -> Result<(Check, Vec<String>)> {
    let placed: Vec<(u64, u64, u32)> = (0..)
        .zip(&told.requests)
        .filter_map(|(number, told)| match told.fate {
            Fate::Executed(sequence) if told.places => Some((number, sequence, told.account)),
            _ => None,
        })
        .collect();
    let mut check = Check::default();
    let mut differences = Vec::new();
    let mut stream = connect_one(Protocol::Rest, market, 0)?;
    for (number, sequence, account) in placed.iter().step_by(placed.len().div_ceil(SAMPLE).max(1)) {
        let trader = market.traders.iter().find(|trader| trader.account.0 == *account);
        let trader = trader.context("an order of nobody")?;
        let signer = Signer {
            credentials: &trader.credentials,
            cluster: &market.cluster,
            host: &market.host,
            at: SignedAt {
                timestamp_ms: epoch_ms(),
                window_ms: WINDOW_MS,
            },
        };
        let id = market.names.request_id(*number);
        let (status, body) = ask(&mut stream, &signer, &format!("/v1/orders/by-client-id/{id}"))?;
        check.acknowledged += 1;
        if status != 200 {
            check.missing += 1;
            differences.push(format!(
                "{id} was acknowledged at sequence {sequence}, and is answered with {status}"
            ));
            continue;
        }
        let order: Order = serde_json::from_slice(&body).context("an order is not understood")?;
        // An order's id is the position of the request that placed it.
        if order.client_order_id == id && order.order_id.rsplit('.').next() == Some(sequence.to_string().as_str()) {
            check.found += 1;
        } else {
            check.doubled += 1;
            differences.push(format!(
                "{id} was acknowledged at sequence {sequence}, and is the order {}",
                order.order_id
            ));
        }
    }
    Ok((check, differences))
}

fn ask(stream: &mut TcpStream, signer: &Signer<'_>, target: &str) -> Result<(u16, Vec<u8>)> {
    let mut request = Vec::new();
    signer.push(&mut request, "GET", target, "", b"");
    stream.write_all(&request)?;
    let mut input = Vec::new();
    let mut part = [0; 16 << 10];
    loop {
        let read = stream.read(&mut part).context("no answer to a look-up")?;
        ensure!(read > 0, "the exchange closed the connection");
        input.extend_from_slice(&part[..read]);
        if let Some(response) = first_response(&input)? {
            return Ok((response.status, response.body.to_vec()));
        }
    }
}
