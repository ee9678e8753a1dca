//! The journals of all nodes, entry by entry: one order of commands.

use std::collections::BTreeMap;
use std::io;

use harness::Installation;
use serde_json::Value;

/// Compares the journals of nodes that don't run, up to an entry that all have applied. Gives how many entries all of them
/// hold, and what is wrong.
pub(crate) fn compare(nodes: &[Installation], through: u64) -> io::Result<(u64, Vec<String>)> {
    let mut broken = Vec::new();
    let mut first: BTreeMap<u64, Value> = BTreeMap::new();
    let mut compared = 0;
    let mut ends: BTreeMap<String, String> = BTreeMap::new();
    for (index, node) in nodes.iter().enumerate() {
        let name = format!("node {}", index + 1);
        let data = node.data.to_string_lossy();
        match node.command(&["journal", "replay", "--json", "--data", &data]) {
            Ok(said) => {
                let said: Value = serde_json::from_str(&said)?;
                let (sequence, hash) = (said["last_sequence"].to_string(), said["state_hash"].to_string());
                let other = ends.entry(sequence.clone()).or_insert_with(|| hash.clone());
                if *other != hash {
                    broken.push(format!(
                        "{name}: the state after {sequence} is {hash}, and elsewhere {other}"
                    ));
                }
            }
            Err(error) => broken.push(format!("{name}: its journal can't be replayed: {error}")),
        }
        let dumped = node.command(&["journal", "dump", "--json", "--data", &data])?;
        let mut last_at = 0;
        let mut last_index = 0;
        for line in dumped.lines() {
            let entry: Value = serde_json::from_str(line)?;
            let number = |value: &Value| {
                let text = value.as_str().map(str::to_owned);
                text.unwrap_or_else(|| value.to_string()).parse::<u64>().unwrap_or(0)
            };
            let position = number(&entry["index"]);
            if position > through {
                break;
            }
            let at = number(&entry["header"]["sequenced_at"]);
            if at < last_at || position <= last_index || at == 0 {
                broken.push(format!(
                    "{name}: entry {position} was sequenced at {at}, and {last_index} at {last_at}"
                ));
            }
            (last_at, last_index) = (at, position);
            // Where it is on the disk is each node's own affair.
            let same: Value = [&entry["term"], &entry["chain"], &entry["header"], &entry["commands"]]
                .into_iter()
                .cloned()
                .collect();
            if index == 0 {
                first.insert(position, same);
                continue;
            }
            match first.get(&position) {
                Some(other) if *other != same => {
                    broken.push(format!("{name}: entry {position} is {same}, at node 1 {other}"));
                    break;
                }
                Some(_) => compared += 1,
                // Node 1 may begin with a snapshot.
                None => {}
            }
        }
    }
    Ok((compared / (nodes.len() as u64 - 1).max(1), broken))
}
