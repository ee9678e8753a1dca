//! The exchange as its users see it, over both books.

mod check;
mod trading;
