//! What happens to regions.

use std::fmt;

/// What happens to the sites of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RegionFault {
    /// `kill -9` of every node of the active region.
    KillRegion,
    /// Nothing gets into or out of the active region any more, clients' requests among it.
    CutRegion,
    /// The active region and the other sites lose what they send each other. Clients still reach it.
    PartitionRegion,
    /// An operator has the active region hand over.
    SwitchOver,
    /// `kill -9` of the witness.
    KillWitness,
    /// The two regions lose what they send each other; both reach the witness.
    CutLink,
    /// `kill -9` of every node of the standby region.
    KillStandby,
}

impl RegionFault {
    /// Each of them.
    pub const ALL: [Self; 7] = [
        Self::KillRegion,
        Self::CutRegion,
        Self::PartitionRegion,
        Self::SwitchOver,
        Self::KillWitness,
        Self::CutLink,
        Self::KillStandby,
    ];

    /// The fault of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.to_string() == name)
    }

    /// True if the active region is lost by it, so that the other one takes over.
    pub fn loses_region(self) -> bool {
        matches!(self, Self::KillRegion | Self::CutRegion | Self::PartitionRegion)
    }

    /// True if the other region is active afterwards.
    pub fn moves(self) -> bool {
        self.loses_region() || self == Self::SwitchOver
    }

    /// True if the standby can't be heard of while it lasts.
    pub fn hides_standby(self) -> bool {
        matches!(self, Self::CutLink | Self::KillStandby)
    }
}

/// Its name, as in reports and on the command line.
impl fmt::Display for RegionFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::KillRegion => "kill-region",
            Self::CutRegion => "cut-region",
            Self::PartitionRegion => "partition-region",
            Self::SwitchOver => "switch-over",
            Self::KillWitness => "kill-witness",
            Self::CutLink => "cut-link",
            Self::KillStandby => "kill-standby",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_has_a_name_of_its_own() {
        for fault in RegionFault::ALL {
            assert_eq!(RegionFault::from_name(&fault.to_string()), Some(fault));
        }
    }
}
