//! The program meridian.
fn main() {}
