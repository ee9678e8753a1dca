//! What other processes use, as the kernel counts it (`proc(5)`).

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// Processes that are measured together with all that they started.
#[derive(Clone, Debug, Default)]
pub struct Processes {
    /// Their ids. None: nothing is known of them, and their use counts as nothing.
    pub roots: Vec<u32>,
}

/// What processes have used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time since they began, in user and kernel mode, to the clock tick (mostly 10 ms).
    pub processor: Duration,
    /// Memory that is resident now, in bytes. Pages that several processes share count in each.
    pub resident_bytes: u64,
}

struct Stat {
    id: u32,
    parent: u32,
    ticks: u64,
    resident_pages: u64,
}

impl Processes {
    /// What they have used until now.
    ///
    /// # Errors
    /// If the kernel doesn't tell.
    pub fn usage(&self) -> Result<Usage> {
        if self.roots.is_empty() {
            return Ok(Usage::default());
        }
        let all = all_stats()?;
        let mut ids: BTreeSet<u32> = self.roots.iter().copied().collect();
        // A child may stand before its parent in the list; generations are few.
        loop {
            let before = ids.len();
            ids.extend(
                all.iter()
                    .filter(|stat| ids.contains(&stat.parent))
                    .map(|stat| stat.id)
                    .collect::<Vec<_>>(),
            );
            if ids.len() == before {
                break;
            }
        }
        let own = || all.iter().filter(|stat| ids.contains(&stat.id));
        let ticks: u64 = own().map(|stat| stat.ticks).sum();
        let pages: u64 = own().map(|stat| stat.resident_pages).sum();
        Ok(Usage {
            processor: Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64),
            resident_bytes: pages * rustix::param::page_size() as u64,
        })
    }
}

fn all_stats() -> Result<Vec<Stat>> {
    let mut stats = Vec::new();
    for entry in std::fs::read_dir("/proc").context("failed to list processes")? {
        let path = entry?.path().join("stat");
        // Threads and other entries have none, and a process may have ended meanwhile.
        let Ok(text) = std::fs::read_to_string(path) else {
            continue;
        };
        stats.extend(parse(&text));
    }
    Ok(stats)
}

/// The fields of `/proc/<pid>/stat`; the name in brackets may hold anything.
fn parse(text: &str) -> Option<Stat> {
    let (id, rest) = text.split_once(" (")?;
    let fields: Vec<&str> = rest.rsplit_once(") ")?.1.split_ascii_whitespace().collect();
    // Numbered from 1 in the manual, where the state, which is the first here, is the third.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Stat {
        id: id.parse().ok()?,
        parent: u32::try_from(field(4)?).ok()?,
        // Own user and kernel time, and that of children that have ended.
        ticks: field(14)? + field(15)? + field(16)? + field(17)?,
        resident_pages: field(24)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something() {
        let processes = Processes {
            roots: vec![std::process::id()],
        };
        assert!(processes.usage().unwrap().resident_bytes > 1 << 20);
        assert_eq!(Processes::default().usage().unwrap(), Usage::default());
    }

    #[test]
    fn a_name_may_hold_brackets() {
        let numbers: Vec<String> = (5..=24).map(|number| number.to_string()).collect();
        let stat = parse(&format!("17 (a) (b) R 4 {}", numbers.join(" "))).unwrap();
        assert_eq!(
            (stat.id, stat.parent, stat.ticks, stat.resident_pages),
            (17, 4, 14 + 15 + 16 + 17, 24)
        );
        assert!(parse("17 (a").is_none());
    }
}
