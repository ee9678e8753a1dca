//! Tests of the core thread.
