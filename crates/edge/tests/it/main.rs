//! The edge over real sockets, before nodes that say what a test has them say.

mod dns;
mod following;
mod limits;
mod passing;
mod support;
