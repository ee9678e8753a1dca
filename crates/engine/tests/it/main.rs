//! The exchange as its users see it, over both books.

mod check;
mod deadlines;
mod fees;
mod operators;
mod random;
mod rejects;
mod requests;
mod trading;
