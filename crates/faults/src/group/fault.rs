//! What happens to a group.

/// What happens to a node of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupFault {
    /// `kill -9` of the leader.
    KillLeader,
    /// `kill -9` of a follower.
    KillFollower,
    /// The leader stands still, then goes on without knowing.
    PauseLeader,
    /// A follower stands still, then goes on.
    PauseFollower,
    /// The leader and its peers lose what they send each other. Clients still reach it.
    CutLeader,
    /// What the leader sends to its peers is lost; it hears them.
    LeaderCannotSend,
    /// What its peers send to the leader is lost; they hear it.
    LeaderCannotReceive,
    /// A follower and its peers lose what they send each other. Clients still reach it.
    CutFollower,
    /// The leader is asked to end, and started again.
    StopLeader,
    /// A follower is asked to end, and started again.
    StopFollower,
    /// An operator has the leader hand leadership over.
    TransferLeadership,
    /// The leader's power is cut: what was not synced may go, be torn, or come in another order.
    LeaderPower,
    /// The same of a follower.
    FollowerPower,
    /// Each sync of the leader's disk fails. Whether it ends by that or not, it is started again afterwards.
    LeaderDiskFails,
    /// The leader's disk is full; later there is room again.
    LeaderDiskFull,
}

impl GroupFault {
    /// Every fault.
    pub const ALL: [Self; 15] = [
        Self::KillLeader,
        Self::KillFollower,
        Self::PauseLeader,
        Self::PauseFollower,
        Self::CutLeader,
        Self::LeaderCannotSend,
        Self::LeaderCannotReceive,
        Self::CutFollower,
        Self::StopLeader,
        Self::StopFollower,
        Self::TransferLeadership,
        Self::LeaderPower,
        Self::FollowerPower,
        Self::LeaderDiskFails,
        Self::LeaderDiskFull,
    ];

    /// Its name, as in reports and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::KillLeader => "kill-leader",
            Self::KillFollower => "kill-follower",
            Self::PauseLeader => "pause-leader",
            Self::PauseFollower => "pause-follower",
            Self::CutLeader => "cut-leader",
            Self::LeaderCannotSend => "leader-cannot-send",
            Self::LeaderCannotReceive => "leader-cannot-receive",
            Self::CutFollower => "cut-follower",
            Self::StopLeader => "stop-leader",
            Self::StopFollower => "stop-follower",
            Self::TransferLeadership => "transfer-leadership",
            Self::LeaderPower => "leader-power",
            Self::FollowerPower => "follower-power",
            Self::LeaderDiskFails => "leader-disk-fails",
            Self::LeaderDiskFull => "leader-disk-full",
        }
    }

    /// The fault of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.name() == name)
    }

    /// True if it is done to the network, which must then be one of namespaces.
    pub fn needs_network(self) -> bool {
        matches!(
            self,
            Self::CutLeader | Self::LeaderCannotSend | Self::LeaderCannotReceive | Self::CutFollower
        )
    }

    /// True if it is done to a disk, which must then be one that can lose power.
    pub fn needs_disk(self) -> bool {
        matches!(
            self,
            Self::LeaderPower | Self::FollowerPower | Self::LeaderDiskFails | Self::LeaderDiskFull
        )
    }

    /// True if it happens to the leader.
    pub fn is_of_leader(self) -> bool {
        !matches!(
            self,
            Self::KillFollower | Self::PauseFollower | Self::CutFollower | Self::StopFollower | Self::FollowerPower
        )
    }

    /// True if it is planned: no client may notice more than a connection that ends.
    pub fn is_planned(self) -> bool {
        matches!(self, Self::StopLeader | Self::StopFollower | Self::TransferLeadership)
    }
}
