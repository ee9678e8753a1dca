//! `meridian reconcile`: what a region that was lost had executed, and the region that took over had not been sent. Reads the
//! evidence that a rejoining node keeps; needs no running node.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde::Serialize;
use types::{Action, Command, Event, OrderTarget, Sequence, Side};

use super::say::{say, say_line};
use super::table::Table;
use crate::event_log;
use crate::journal::tools;
use crate::rejoin::{NextLife, VOID, VOID_FILE};

/// Arguments of `reconcile`.
#[derive(Debug, Args)]
pub struct ReconcileArguments {
    /// The data folder of a node that had something void.
    #[arg(long)]
    data: PathBuf,
    /// Print comma-separated values.
    #[arg(long, conflicts_with = "lines")]
    csv: bool,
    /// Print one JSON object a line.
    #[arg(long)]
    lines: bool,
}

/// A command that is void, or an order of another that it filled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Affected {
    /// The life of the group that had it.
    incarnation: u32,
    epoch: u32,
    sequence: u64,
    sequenced_at: u64,
    account: u32,
    /// The request's id; of a maker's order, the client order id.
    request_id: String,
    /// What was asked; `maker` of a resting order that a void order traded with.
    command: &'static str,
    /// What had come of it.
    outcome: String,
    order_id: String,
    instrument: Option<u32>,
    side: &'static str,
    /// In ticks.
    price: Option<i64>,
    /// In lots.
    quantity: Option<i64>,
    /// In lots, by this command.
    filled: i64,
}

/// Runs the command.
pub fn run(arguments: &ReconcileArguments) -> Result<()> {
    let mut affected = Vec::new();
    for void in void_folders(&arguments.data)? {
        affected.extend(read(&void)?);
    }
    if arguments.lines {
        for row in &affected {
            say_line(format_args!("{}", serde_json::to_string(row)?))?;
        }
        return Ok(());
    }
    if arguments.csv {
        return say(format_args!("{}", csv(&affected)));
    }
    if affected.is_empty() {
        return say_line(format_args!("Nothing in {} is void.", arguments.data.display()));
    }
    let mut table = Table::new(&[
        "position",
        "#account",
        "request",
        "command",
        "outcome",
        "order",
        "side",
        "#price",
        "#quantity",
        "#filled",
    ]);
    let number = |number: Option<i64>| number.map(|number| number.to_string()).unwrap_or_default();
    for row in &affected {
        table.row([
            format!("{}.{}", row.epoch, row.sequence),
            row.account.to_string(),
            row.request_id.clone(),
            row.command.to_owned(),
            row.outcome.clone(),
            row.order_id.clone(),
            row.side.to_owned(),
            number(row.price),
            number(row.quantity),
            row.filled.to_string(),
        ]);
    }
    say(format_args!(
        "{table}\n{} rows. Prices are in ticks and quantities in lots of the instrument.\n",
        affected.len()
    ))
}

/// The folders of what is void, the oldest life first.
fn void_folders(data: &Path) -> Result<Vec<PathBuf>> {
    ensure!(
        data.join("cluster.toml").is_file(),
        "read what is void in {}: it is no data folder of a node",
        data.display()
    );
    let mut folders: BTreeMap<u32, PathBuf> = BTreeMap::new();
    for entry in std::fs::read_dir(data).with_context(|| format!("list {}", data.display()))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(life) = name.strip_prefix(VOID).and_then(|life| life.parse().ok()) {
            folders.insert(life, path);
        }
    }
    Ok(folders.into_values().collect())
}

fn read(void: &Path) -> Result<Vec<Affected>> {
    let file = void.join(VOID_FILE);
    let text = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    let life: NextLife = serde_json::from_str(&text).with_context(|| format!("read {}", file.display()))?;
    let kept = Sequence(life.kept);
    let mut events: BTreeMap<Sequence, Vec<Event>> = BTreeMap::new();
    event_log::batches_behind(&void.join("events"), kept, &mut |batch| {
        for index in 0..batch.commands.len() {
            let sequence = Sequence(batch.header.first_sequence.0 + index as u64);
            events.insert(sequence, batch.events_of(index).to_vec());
        }
    })
    .with_context(|| format!("read the events in {}", void.display()))?;
    let mut affected = Vec::new();
    tools::batches_behind(void, kept, &mut |header, commands| {
        for (index, command) in (0..).zip(commands) {
            let position = header.position(index);
            if position.sequence <= kept || command.action == Action::Clock {
                continue;
            }
            let came = events.get(&position.sequence).map(Vec::as_slice).unwrap_or_default();
            let own = Affected {
                incarnation: life.ended,
                epoch: position.epoch.0,
                sequence: position.sequence.0,
                sequenced_at: header.sequenced_at.0,
                ..of_command(command, came)
            };
            affected.extend(makers(&own, came));
            affected.push(own);
        }
        Ok(())
    })?;
    affected.sort_by_key(|row| (row.sequence, row.command == "maker"));
    Ok(affected)
}

fn of_command(command: &Command, came: &[Event]) -> Affected {
    let mut row = Affected {
        incarnation: 0,
        epoch: 0,
        sequence: 0,
        sequenced_at: 0,
        account: command.account.0,
        request_id: command.request_id.to_string(),
        command: name_of(&command.action),
        outcome: outcome_of(came),
        order_id: String::new(),
        instrument: None,
        side: "",
        price: None,
        quantity: None,
        filled: 0,
    };
    match &command.action {
        Action::Place(order) => {
            row.instrument = Some(order.instrument.0);
            row.side = side_of(order.side);
            row.price = Some(order.price.0);
            row.quantity = Some(order.quantity.0);
        }
        Action::Cancel(OrderTarget::OrderId(order)) => row.order_id = order.to_string(),
        _ => {}
    }
    for event in came {
        match event {
            Event::OrderPlaced(order) | Event::OrderReplaced { order, .. } | Event::OrderClosed { order, .. }
                if row.order_id.is_empty() =>
            {
                row.order_id = order.order_id.to_string();
            }
            Event::Traded(trade) if trade.taker.account == command.account => row.filled += trade.quantity.0,
            _ => {}
        }
    }
    row
}

/// The resting orders that a void command traded with: their fills are void too.
fn makers(own: &Affected, came: &[Event]) -> Vec<Affected> {
    let trades = came.iter().filter_map(|event| match event {
        Event::Traded(trade) => Some(trade),
        _ => None,
    });
    let maker = trades.map(|trade| Affected {
        account: trade.maker.account.0,
        request_id: trade.maker.client_order_id.to_string(),
        command: "maker",
        outcome: "filled".to_owned(),
        order_id: trade.maker.order_id.to_string(),
        instrument: Some(trade.instrument.0),
        side: side_of(match trade.taker_side {
            Side::Buy => Side::Sell,
            Side::Sell => Side::Buy,
        }),
        price: Some(trade.price.0),
        quantity: None,
        filled: trade.quantity.0,
        ..own.clone()
    });
    maker.collect()
}

fn side_of(side: Side) -> &'static str {
    match side {
        Side::Buy => "buy",
        Side::Sell => "sell",
    }
}

fn outcome_of(came: &[Event]) -> String {
    match came.first() {
        None => "unknown".to_owned(),
        Some(Event::Rejected { reason, .. }) => format!("rejected: {reason:?}"),
        Some(Event::Repeated { original, .. }) => format!("repeat of {original}"),
        Some(_) => "executed".to_owned(),
    }
}

fn name_of(action: &Action) -> &'static str {
    match action {
        Action::Clock => "clock",
        Action::Place(_) => "place",
        Action::Replace(_) => "replace",
        Action::Cancel(_) => "cancel",
        Action::CancelAll(_) => "cancel_all",
        Action::CancelAfter(_) => "cancel_after",
        Action::Deposit(_) => "deposit",
        Action::Withdraw(_) => "withdraw",
        _ => "operator",
    }
}

fn csv(affected: &[Affected]) -> String {
    let mut text = String::from(
        "incarnation,epoch,sequence,sequenced_at,account,request_id,command,outcome,order_id,instrument,side,price_ticks,\
         quantity_lots,filled_lots\n",
    );
    let number = |number: Option<i64>| number.map(|number| number.to_string()).unwrap_or_default();
    for row in affected {
        // Ids are of letters, digits, - and _; outcomes are this program's own words, without commas.
        text.push_str(&format!(
            "{},{},{},{},{},{},{},{},{},{},{},{},{},{}\n",
            row.incarnation,
            row.epoch,
            row.sequence,
            row.sequenced_at,
            row.account,
            row.request_id,
            row.command,
            row.outcome.replace(',', ";"),
            row.order_id,
            row.instrument
                .map(|instrument| instrument.to_string())
                .unwrap_or_default(),
            row.side,
            number(row.price),
            number(row.quantity),
            row.filled
        ));
    }
    text
}
