//! The figures of the group that a node belongs to, as the node knows it. What the leader alone knows is not a number
//! (`NaN`) elsewhere, and so is what was said of a member that has gone: a gauge can't be taken back.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use gateway::handle::GroupStatus;
use metrics::{Gauge, gauge};
use wire::journal::NodeId;
use wire::membership::Role;

/// The group's figures.
pub struct GroupFigures {
    leader: Gauge,
    term: Gauge,
    applied_index: Gauge,
    members: [(Role, Gauge); 3],
    /// One an id that was ever a member's while the process runs.
    by_node: Mutex<BTreeMap<NodeId, MemberFigures>>,
}

struct MemberFigures {
    lag_entries: Gauge,
    heard: Gauge,
}

impl GroupFigures {
    /// Handles for all of them.
    pub fn new() -> Self {
        let of_role = |role: Role| (role, gauge!("meridian_group_members", "role" => role.to_string()));
        Self {
            leader: gauge!("meridian_group_leader"),
            term: gauge!("meridian_group_term"),
            applied_index: gauge!("meridian_group_applied_index"),
            members: [Role::Voter, Role::Learner, Role::Gateway].map(of_role),
            by_node: Mutex::default(),
        }
    }

    /// Brings all of them up to date.
    pub fn refresh(&self, group: &GroupStatus) {
        self.leader.set(flag(group.leads()));
        self.term.set(float(group.term.0));
        self.applied_index.set(float(group.applied.0));
        for (role, gauge) in &self.members {
            let count = group.members.iter().filter(|member| member.role == *role).count();
            gauge.set(float(count as u64));
        }
        let mut by_node = self.by_node.lock().unwrap_or_else(PoisonError::into_inner);
        for figures in by_node.values() {
            figures.lag_entries.set(f64::NAN);
            figures.heard.set(f64::NAN);
        }
        for member in &group.members {
            let figures = by_node
                .entry(member.node)
                .or_insert_with(|| MemberFigures::new(member.node));
            if let Some(lag) = group.lag_of(member) {
                figures.lag_entries.set(float(lag));
            }
            if group.leads() || member.node == group.node {
                figures.heard.set(flag(member.heard));
            }
        }
    }
}

impl MemberFigures {
    fn new(node: NodeId) -> Self {
        let node = node.to_string();
        let figures = Self {
            lag_entries: gauge!("meridian_group_member_lag_entries", "node" => node.clone()),
            heard: gauge!("meridian_group_member_heard", "node" => node),
        };
        figures.lag_entries.set(f64::NAN);
        figures.heard.set(f64::NAN);
        figures
    }
}

fn flag(set: bool) -> f64 {
    f64::from(u8::from(set))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "metrics are floats, and 53 bits are enough for them"
)]
fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use gateway::handle::MemberStatus;
    use metrics_exporter_prometheus::PrometheusBuilder;
    use wire::journal::{LogIndex, Term};

    use super::*;

    fn member(node: u64, role: Role, matched: u64, heard: bool) -> MemberStatus {
        MemberStatus {
            node: NodeId(node),
            role,
            address: String::new(),
            matched: Some(LogIndex(matched)),
            heard,
            engine_version_max: None,
        }
    }

    #[test]
    fn what_only_the_leader_knows_is_no_number_elsewhere() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            let figures = GroupFigures::new();
            let check = |group: &GroupStatus, wanted: &[&str]| {
                figures.refresh(group);
                let text = handle.render();
                for line in wanted {
                    assert!(text.lines().any(|other| other == *line), "{line} is not in:\n{text}");
                }
            };
            let mut group = GroupStatus {
                term: Term(7),
                members: vec![
                    member(1, Role::Voter, 100, true),
                    member(2, Role::Voter, 60, false),
                    member(3, Role::Learner, 0, true),
                ],
                ..GroupStatus::lone(NodeId(1), LogIndex(100))
            };
            check(
                &group,
                &[
                    "meridian_group_leader 1",
                    "meridian_group_term 7",
                    "meridian_group_applied_index 100",
                    "meridian_group_members{role=\"voter\"} 2",
                    "meridian_group_members{role=\"learner\"} 1",
                    "meridian_group_members{role=\"gateway\"} 0",
                    "meridian_group_member_lag_entries{node=\"2\"} 40",
                    "meridian_group_member_heard{node=\"2\"} 0",
                    "meridian_group_member_heard{node=\"3\"} 1",
                ],
            );
            group.leader = Some(NodeId(2));
            group.members.pop();
            check(
                &group,
                &[
                    "meridian_group_leader 0",
                    "meridian_group_members{role=\"learner\"} 0",
                    "meridian_group_member_lag_entries{node=\"2\"} NaN",
                    "meridian_group_member_heard{node=\"1\"} 1",
                    "meridian_group_member_heard{node=\"2\"} NaN",
                    "meridian_group_member_heard{node=\"3\"} NaN",
                ],
            );
        });
    }
}
