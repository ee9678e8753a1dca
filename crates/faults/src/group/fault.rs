//! What happens to a group.

use std::fmt;

/// To whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whom {
    /// The node that leads.
    Leader,
    /// One of the other voters.
    Follower,
    /// One of the nodes without a vote, through which clients come where there are any.
    Gateway,
}

/// What happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// `kill -9`.
    Kill,
    /// It stands still, then goes on without knowing.
    Pause,
    /// It and its peers lose what they send each other. Clients still reach it.
    Cut,
    /// What it sends to its peers is lost; it hears them.
    CannotSend,
    /// What its peers send to it is lost; they hear it.
    CannotReceive,
    /// What it and its peers send each other takes long.
    Delay,
    /// It is asked to end, and started again.
    Stop,
    /// An operator has it hand leadership over.
    Transfer,
    /// Its power is cut: what was not synced may go, be torn, or come in another order.
    Power,
    /// Each sync of its disk fails. Whether it ends by that or not, it is started again afterwards.
    DiskFails,
    /// Its disk is full; later there is room again.
    DiskFull,
    /// Each sync of its disk takes long.
    DiskSlow,
}

/// What happens to a node of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupFault {
    /// To whom.
    pub whom: Whom,
    /// What.
    pub what: What,
}

impl What {
    const ALL: [Self; 12] = [
        Self::Kill,
        Self::Pause,
        Self::Cut,
        Self::CannotSend,
        Self::CannotReceive,
        Self::Delay,
        Self::Stop,
        Self::Transfer,
        Self::Power,
        Self::DiskFails,
        Self::DiskFull,
        Self::DiskSlow,
    ];
}

impl fmt::Display for Whom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Leader => "leader",
            Self::Follower => "follower",
            Self::Gateway => "gateway",
        })
    }
}

impl GroupFault {
    /// A fault.
    pub const fn new(what: What, whom: Whom) -> Self {
        Self { whom, what }
    }

    /// Every fault of a voter.
    pub fn of_voters() -> Vec<Self> {
        let both = [Whom::Leader, Whom::Follower].into_iter();
        let all = both.flat_map(|whom| What::ALL.map(|what| Self { whom, what }));
        // Only who leads can hand over.
        all.filter(|fault| fault.what != What::Transfer || fault.whom == Whom::Leader)
            .collect()
    }

    /// Every fault of a gateway, and some of the leader behind it.
    pub fn with_gateways() -> Vec<Self> {
        let gateway = [
            What::Kill,
            What::Stop,
            What::Pause,
            What::Cut,
            What::CannotSend,
            What::CannotReceive,
            What::Delay,
        ];
        let leader = [What::Kill, What::Pause, What::Cut, What::Transfer];
        let gateway = gateway.map(|what| Self::new(what, Whom::Gateway));
        let leader = leader.map(|what| Self::new(what, Whom::Leader));
        gateway.into_iter().chain(leader).collect()
    }

    /// The fault of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        let mut all = Self::of_voters().into_iter().chain(Self::with_gateways());
        all.find(|fault| fault.to_string() == name)
    }

    /// True if it is done to the network, which must then be one of namespaces.
    pub fn needs_network(self) -> bool {
        matches!(
            self.what,
            What::Cut | What::CannotSend | What::CannotReceive | What::Delay
        )
    }

    /// True if it is done to a disk, which must then be one that can lose power.
    pub fn needs_disk(self) -> bool {
        matches!(
            self.what,
            What::Power | What::DiskFails | What::DiskFull | What::DiskSlow
        )
    }

    /// True if the node begins anew with a snapshot, and knows nothing of orders that closed before that: a gateway keeps
    /// nothing.
    pub fn forgets(self) -> bool {
        self.whom == Whom::Gateway && matches!(self.what, What::Kill | What::Stop)
    }

    /// True if it is planned: no client may notice more than a connection that ends.
    pub fn is_planned(self) -> bool {
        matches!(self.what, What::Stop | What::Transfer)
    }
}

/// Its name, as in reports and on the command line.
impl fmt::Display for GroupFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whom = self.whom;
        let name = match self.what {
            What::Kill => format!("kill-{whom}"),
            What::Pause => format!("pause-{whom}"),
            What::Cut => format!("cut-{whom}"),
            What::CannotSend => format!("{whom}-cannot-send"),
            What::CannotReceive => format!("{whom}-cannot-receive"),
            What::Delay => format!("delay-{whom}"),
            What::Stop => format!("stop-{whom}"),
            What::Transfer => "transfer-leadership".to_owned(),
            What::Power => format!("{whom}-power"),
            What::DiskFails => format!("{whom}-disk-fails"),
            What::DiskFull => format!("{whom}-disk-full"),
            What::DiskSlow => format!("{whom}-disk-slow"),
        };
        f.pad(&name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_has_a_name_of_its_own() {
        for fault in GroupFault::of_voters().into_iter().chain(GroupFault::with_gateways()) {
            assert_eq!(GroupFault::from_name(&fault.to_string()), Some(fault));
        }
        assert_eq!(GroupFault::of_voters().len(), 23);
    }
}
