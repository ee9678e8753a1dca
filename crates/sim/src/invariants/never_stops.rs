//! A node never stops by itself, its journal is damaged only if a bit of it rotted, and nothing panics.

pub(crate) const NAME: &str = "no node stops by itself";
