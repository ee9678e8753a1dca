//! The event log on disk: what `apply` yielded, derived from the journal and rebuilt from it when damaged.
