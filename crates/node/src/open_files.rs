//! How many files the process may have open. Each connection is one; were clients to use all of them up, the journal could
//! not open its next segment, and the core would have to stop.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What the node itself may have open: journal, snapshots, event log, listeners, the operations port's connections, and
/// what the runtime and the commands of an operator need besides.
const OWN_FILES: u64 = 512;
/// Clients' connections, their WebSocket sessions, and operators' connections are limited each by itself.
const KINDS_OF_CONNECTIONS: u64 = 3;
/// What a process may have open where nobody says anything.
const FILES_DEFAULT: u64 = 1_024;

/// Raises the limit of open files as far as it is needed and allowed, and returns how many connections of each kind fit.
pub fn make_room(connections_max: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let wanted = files_of(connections_max);
    if limit.current.is_none_or(|current| current >= wanted) {
        return connections_max;
    }
    let raised = limit.maximum.map_or(wanted, |maximum| wanted.min(maximum));
    let new = Rlimit {
        current: Some(raised),
        maximum: limit.maximum,
    };
    let allowed = match setrlimit(Resource::Nofile, new) {
        Ok(()) => raised,
        Err(_) => limit.current.unwrap_or(FILES_DEFAULT),
    };
    let fitting = connections_of(allowed).min(connections_max);
    if fitting < connections_max {
        tracing::warn!(
            connections_max,
            fitting,
            files = allowed,
            "the system allows too few open files for so many connections; fewer are taken (see ulimit -Hn)"
        );
    }
    fitting
}

fn files_of(connections_max: usize) -> u64 {
    (connections_max as u64).saturating_mul(KINDS_OF_CONNECTIONS) + OWN_FILES
}

fn connections_of(files: u64) -> usize {
    let each = files.saturating_sub(OWN_FILES) / KINDS_OF_CONNECTIONS;
    usize::try_from(each).unwrap_or(usize::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_the_nodes_own_files_alone() {
        for connections_max in [1, 2, 4_096, 1_000_000] {
            assert_eq!(connections_of(files_of(connections_max)), connections_max);
        }
        assert_eq!(connections_of(FILES_DEFAULT), 170);
        assert_eq!(connections_of(0), 1);
        assert_eq!(make_room(1), 1);
    }
}
