//! Faults that are put into the driver on purpose, to prove that the oracle sees them. Each breaks what a node owes its
//! replica; what is broken inside the pure crates stands in `mutations.toml`.

macro_rules! mutations {
    ($($variant:ident = $name:literal, $what:literal;)*) => {
        /// A fault of the driver, on purpose.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mutation {
            $(#[doc = $what] $variant,)*
        }

        impl Mutation {
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
    PersistedBeforeSync = "persisted-before-sync", "Commit before fsync: the node says that something is on disk before its sync is done.";
    AnsweredWhenSequenced = "answered-when-sequenced", "Answer before quorum: the leader answers what it has only sequenced.";
    ForwardedUnderNewId = "forwarded-under-new-id", "A command that is forwarded once more goes under another request id.";
    HardStateNotWritten = "hard-state-not-written", "Terms and votes don't reach the journal.";
    TruncateIgnored = "truncate-ignored", "The journal keeps what another leader replaced.";
    MarkNotChecked = "mark-not-checked", "The start doesn't look at the mark, and takes what was lost for a torn tail.";
    WholeJournalCommitted = "whole-journal-committed", "The start applies the whole journal as if it were committed.";
    SuffixForgotten = "suffix-forgotten", "The start drops what is not known to be committed.";
    DoubtfulTailVotes = "doubtful-tail-votes", "A voter whose journal was damaged votes and acknowledges at once.";
    RepairForgotten = "repair-forgotten", "A voter that is started again in the middle of its repair takes itself for whole.";
    StaleReads = "stale-reads", "Reads are answered from what is applied, without asking a majority.";
    WrongSnapshotInstalled = "wrong-snapshot-installed", "The state that is installed is not that of the snapshot's place.";
    SwitchedOnTooEarly = "switched-on-too-early", "Newer behaviour is switched on while nodes still run a program that does not know it.";
    SequenceTakenForAnswer = "sequence-taken-for-answer", "A node that forwarded a command answers with whatever command it applied last.";
}

/// Asks whether a mutation is the one of this run.
pub(crate) trait Mutated {
    fn is(self, mutation: Mutation) -> bool;
}

impl Mutated for Option<Mutation> {
    fn is(self, mutation: Mutation) -> bool {
        self == Some(mutation)
    }
}
