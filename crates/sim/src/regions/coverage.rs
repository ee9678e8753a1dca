//! What runs of two regions have come past: each input and output of a region's part, each mode, each refusal, each fault
//! and each way back.

/// Counts how often each point was come past.
#[derive(Clone, Debug)]
pub struct Coverage([u64; Point::ALL.len()]);

macro_rules! points {
    ($($group:literal { $($variant:ident = $name:literal,)* })*) => {
        /// Something that runs must come past.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Point { $($($variant,)*)* }

        impl Point {
            const ALL: &'static [(Self, &'static str, &'static str)] =
                &[$($((Self::$variant, $group, $name),)*)*];
        }
    };
}

points! {
    "region input" {
        InTick = "tick",
        InGroup = "group",
        InAnswer = "answer",
        InFollowed = "followed",
        InLeaseMoved = "lease moved",
        InSwitchOver = "switch-over",
        InPromote = "promote",
        InDemote = "demote",
        InNotDemoted = "demote, no longer",
    }
    "region output" {
        OutLook = "ask: look",
        OutFound = "ask: found",
        OutRenew = "ask: renew",
        OutChange = "ask: renew, and change what answers wait for",
        OutPromote = "ask: promote",
        OutHandOver = "ask: hand over",
        OutBeginLife = "ask: begin a life",
        OutMode = "mode",
        OutTellMoved = "tell that the lease has moved",
        OutBeginAnew = "begin anew",
        OutOperated = "operated",
        OutNotOperated = "operated, in vain",
    }
    "mode" {
        Standby = "standby",
        Beginning = "beginning",
        Active = "active",
        Draining = "draining",
        Fenced = "fenced",
        FromFenced = "active again after it was fenced",
    }
    "lease refusal" {
        Founded = "founded",
        NotActive = "not active",
        IsActive = "is active",
        Renewed = "renewed",
        Held = "held",
        Lags = "lags",
        RefusedDegraded = "degraded",
        OtherLife = "other life",
        NotLeader = "not leader",
    }
    "epoch" {
        ByLapse = "began by a lapse",
        ByOperator = "began by an operator",
        BySwitchOver = "began by a switch-over",
        DoubleFailover = "a region is active again after it was lost",
    }
    "not served" {
        NotServedNotLeader = "not leader",
        NotServedRetired = "retired",
        NotServedForked = "forked",
    }
    "answers" {
        AnsweredRegion = "durable in the region",
        AnsweredBoth = "durable in both",
        AnsweredDegraded = "degraded",
        AnsweredLate = "late, after a pause in the check",
        ToDegraded = "degraded on record",
        ToBoth = "both on record",
        Void = "an answer was void in the end",
        NoLongerActive = "applied after the region was not active any more",
        Repeated = "request executed once and asked again",
        AskedAgain = "client asked again after a time-out",
        NotActiveHere = "client sent elsewhere",
        Read = "read",
        ReadRefused = "read refused, for want of the lease",
    }
    "way back" {
        BeganAnewFounder = "a new life, of its founder",
        BeganAnewOther = "a new life, of another node",
        Evidence = "void batches kept as evidence",
        TakenIn = "a member taken in again",
        SnapshotInstalled = "a snapshot from the founder",
        OldLifeRefused = "a message of another life refused",
        FollowedAgain = "a stream begun again",
        ResentDropped = "a batch that was there already",
        OutOfOrder = "a batch that does not follow",
        LeaseSnapshot = "a lease voter given the state",
        RestartTorn = "a restart without what was not synced",
        VoterRestarted = "a lease voter started again",
    }
    "fault" {
        ActiveRegionLost = "active region lost",
        StandbyRegionLost = "standby region lost",
        OneRegionAfterTheOther = "one region after the other",
        RegionsApart = "regions apart",
        RegionCutOff = "region cut off",
        RegionFromWitness = "region from witness",
        OneWay = "one way",
        WitnessLost = "witness lost",
        Drop = "drop",
        Duplicate = "duplicate",
        Reorder = "reorder",
        Slow = "slow in one direction",
        NodeCutOff = "node cut off",
        PowerLoss = "power loss",
        Kill = "kill",
        Pause = "pause",
        PauseInTheCheck = "pause in the check",
        StandbyLeaderPaused = "standby's leader paused, then the active region lost",
        SlowDisk = "slow disk",
        ClockStep = "clock step",
        VotersRestart = "voters restarted",
        SwitchOver = "switch-over",
        SwitchOverThenLoss = "switch-over, then loss",
        Promote = "promotion by an operator",
        Demote = "demotion by an operator",
        LateNode = "late node of an old life",
        DegradedThenLost = "degraded, then lost",
        SlowAndCutOff = "slow disks, and cut off",
        JournalRetired = "journal retired",
    }
    "setting" {
        Sync = "sync",
        Async = "async",
        Stop = "stop when the standby is lost",
        Degrade = "degrade when it is",
        Automatic = "automatic promotion",
        Manual = "promotion by hand",
        DriftAtTheBound = "drift at the bound",
        DriftBeyond = "drift beyond the bound",
        OneNode = "a region of one node",
    }
}

impl Default for Coverage {
    fn default() -> Self {
        Self([0; Point::ALL.len()])
    }
}

impl Coverage {
    pub(super) fn hit(&mut self, point: Point) {
        self.0[point as usize] += 1;
    }

    /// Adds what another run came past.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.0.iter_mut().zip(other.0) {
            *count += more;
        }
    }

    /// What was never come past.
    pub fn missing(&self) -> Vec<String> {
        let zeros = Point::ALL.iter().filter(|(point, ..)| self.0[*point as usize] == 0);
        zeros.map(|(_, group, name)| format!("{group}: {name}")).collect()
    }

    /// How many things there are to come past.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True if there is nothing to come past.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
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
            text.push_str(&format!("  {name:<52} {:>12}\n", self.0[*point as usize]));
        }
        text
    }
}
