//! The bytes of both protocols: how requests are written before they are sent, and how answers are read while others
//! are under way. No sockets here, and no clock.

pub mod answer;
pub mod http;
pub mod request;
pub mod websocket;

use std::fmt;

/// How requests reach the exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    /// One session, one login, one message a request.
    #[value(name = "websocket")]
    WebSocket,
    /// HTTP/1.1 with connections that are kept, each request signed.
    Rest,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WebSocket => "WebSocket",
            Self::Rest => "REST",
        })
    }
}
