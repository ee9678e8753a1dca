//! Faults that are put into the driver of the regions on purpose, to prove that the oracle sees them. What is broken inside
//! the pure crates stands in `mutations-regions.toml`.

macro_rules! mutations {
    ($($variant:ident = $name:literal, $what:literal;)*) => {
        /// A fault of the driver, on purpose.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum RegionMutation {
            $(#[doc = $what] $variant,)*
        }

        impl RegionMutation {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// What it is called on the command line.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What is wrong with it, in a sentence.
            pub fn what(self) -> &'static str {
                match self { $(Self::$variant => $what,)* }
            }
        }
    };
}

mutations! {
    OldLifeHeard = "old-life-heard", "Votes and logs of a group's old life count in its new one.";
    VoidSnapshotKept = "void-snapshot-kept", "A new life begins with its founder's newest snapshot, whatever that holds.";
    AnsweredWithoutLease = "answered-without-lease", "Answers go out as soon as they are applied, without a look at the lease.";
    AnsweredWhenNotActive = "answered-when-not-active", "What is applied after another region was made active is answered.";
    PromotedBeforeTheLapse = "promoted-before-the-lapse", "The lease group's leader promotes without waiting for the lapse.";
    EvidenceNotKept = "evidence-not-kept", "A new life begins without keeping what is void.";
    FollowedBeforeCommitted = "followed-before-committed", "The standby says that it has what its majority does not have yet.";
    ReadsWithoutLease = "reads-without-lease", "Reads are served without a look at the lease.";
    FormerLeaderStreams = "former-leader-streams", "A node that no longer leads the active region goes on saying to the standby that it lives.";
    GapNotNoticed = "gap-not-noticed", "A standby does not notice that batches got lost on the way, as long as none comes behind them.";
    FounderAloneTakesIn = "founder-alone-takes-in", "Only a life's founder takes the others in again, also when it does not lead any more.";
    VoterForgets = "voter-forgets", "A voter of the lease group starts again without the records behind its first.";
}
