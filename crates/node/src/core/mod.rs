//! The core thread: turns channels and deadlines into inputs of `replica`, and carries out what it puts out.

pub mod volatile;
