//! What a run has come past: every input and output of the replica, every fault, every way of starting again.

/// Counts how often each point was come past.
#[derive(Clone, Debug)]
pub struct Coverage([u64; Point::ALL.len()]);

macro_rules! points {
    ($($group:literal { $($variant:ident = $name:literal,)* })*) => {
        /// Something that a run must come past.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Point { $($($variant,)*)* }

        impl Point {
            const ALL: &'static [(Self, &'static str, &'static str)] =
                &[$($((Self::$variant, $group, $name),)*)*];
        }
    };
}

points! {
    "input" {
        InCommands = "commands",
        InPersisted = "persisted",
        InTick = "tick",
        InDeadline = "deadline that was due",
        InMessage = "message",
        InCampaign = "campaign",
        InTransfer = "transfer leadership",
        InChangeAdd = "change: add",
        InChangePromote = "change: promote",
        InChangeRemove = "change: remove",
        InRead = "read",
        InSnapshotMade = "snapshot made",
        InSnapshotArrived = "snapshot sent, arrived",
        InSnapshotLost = "snapshot sent, lost",
        InUnreachable = "unreachable",
        InClockUnsure = "clock unsure",
        InDrain = "drain",
    }
    "output" {
        OutAppend = "append",
        OutSync = "sync",
        OutAppliedOwn = "applied, with waiters",
        OutAppliedOther = "applied, without waiters",
        OutCommitted = "committed",
        OutRefusedNotLeader = "refused: not leader",
        OutRefusedBusy = "refused: busy",
        OutRefusedClock = "refused: clock unsure",
        OutRefusedStopping = "refused: stopping",
        OutUnknown = "unknown",
        OutSend = "send",
        OutSendSnapshot = "send a snapshot",
        OutTruncate = "truncate",
        OutAccepting = "accepting",
        OutLeader = "leader",
        OutMembers = "members",
        OutChangeTaken = "change taken",
        OutChangeRefused = "change refused",
        OutReadFrom = "read from",
        OutReadFailed = "read failed",
        OutSnapshotWanted = "snapshot wanted",
        OutInstall = "install",
        OutRepaired = "repaired",
        OutHandingOverAsked = "handing over: asked",
        OutHandingOverSlowDisk = "handing over: slow disk",
        OutHandingOverClock = "handing over: clock unsure",
    }
    "fault" {
        PowerLoss = "power loss",
        PowerLossOfAll = "power loss of all",
        PowerLossAtWrite = "power loss at a write",
        Kill = "kill",
        RollingRestart = "rolling restart",
        Partition = "partition",
        OneWay = "one-way partition",
        Isolated = "leader isolated",
        Drop = "drop",
        Delay = "delay",
        Duplicate = "duplicate",
        Reorder = "reorder",
        SlowDisk = "slow disk",
        Pause = "pause",
        ClockStep = "clock step",
        ClockDrift = "clock drift",
        ClockUnsureFault = "clock out of its bound",
        BitRot = "bit rot",
        MemberAdded = "member added",
        GatewayAdded = "gateway added",
        MemberRemoved = "member removed",
        HandOver = "hand-over",
        SnapshotAndTrim = "snapshot, then restart of the leader",
    }
    "start" {
        StartClean = "whole journal",
        StartTorn = "torn tail cut",
        StartCut = "segment that cuts",
        StartCommitted = "entries known to be committed",
        StartSuffix = "entries that may be committed",
        StartSnapshot = "newer snapshot than the first",
        StartDamaged = "damage, repaired from the peers",
        StartRepairAgain = "start in the middle of a repair",
        StartInstalled = "snapshot from a peer",
        StartInstallCutOff = "power loss while a snapshot is installed",
        StartJumped = "journal given up for a snapshot",
        StartEmpty = "new node with an empty disk",
        StartLone = "lone voter",
    }
    "upgrade" {
        MixedReleases = "programs of two releases run",
        Upgraded = "node restarted with a newer program",
        SwitchedOn = "newer behaviour switched on",
        NewBehaviour = "order that asks for it",
    }
    "way" {
        Forwarded = "command forwarded to the leader",
        ForwardedAgain = "command forwarded again",
        AnsweredByFollower = "answer from a follower's own batch",
        Repeated = "request executed once and asked again",
        AskedAgain = "client asked again after a time-out",
        Expired = "order expired at its deadline",
        LearnerPromoted = "learner promoted",
        LeaderChanged = "leader changed",
        SegmentRetired = "segment retired",
        SegmentRolled = "several segments",
        SyncsInFlight = "several syncs in flight",
        MembershipWhileDown = "membership changed while a node was down",
    }
}

impl Default for Coverage {
    fn default() -> Self {
        Self([0; Point::ALL.len()])
    }
}

impl Coverage {
    pub(crate) fn hit(&mut self, point: Point) {
        self.0[point as usize] += 1;
    }

    pub(crate) fn count(&self, point: Point) -> u64 {
        self.0[point as usize]
    }

    /// Adds what another run came past.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.0.iter_mut().zip(other.0) {
            *count += more;
        }
    }

    /// How many things there are to come past.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True if there is nothing to come past.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What was never come past.
    pub fn missing(&self) -> Vec<String> {
        let zeros = Point::ALL.iter().filter(|(point, ..)| self.count(*point) == 0);
        zeros.map(|(_, group, name)| format!("{group}: {name}")).collect()
    }

    /// The table, a line each.
    pub fn table(&self) -> String {
        let mut text = String::new();
        let mut last = "";
        for (point, group, name) in Point::ALL {
            if *group != last {
                text.push_str(&format!("{group}\n"));
                last = group;
            }
            text.push_str(&format!("  {name:<44} {:>12}\n", self.count(*point)));
        }
        text
    }
}
