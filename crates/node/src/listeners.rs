//! The sockets that a node listens on.

use std::io;
use std::net::{SocketAddr, TcpListener};

use crate::config::ListenConfig;

/// How many ports behind a busy one are tried.
const PORTS_TRIED: u16 = 200;

/// Bound sockets, on which nothing is accepted yet.
#[derive(Debug)]
pub struct Listeners {
    /// Clients.
    pub public: TcpListener,
    /// Operators.
    pub admin: TcpListener,
    /// Health and metrics.
    pub operations: TcpListener,
}

/// What to do if a port is busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BusyPort {
    /// Give up.
    Refuse,
    /// Take the next free one.
    MoveOn,
}

/// A socket could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("listen for {purpose} on {address}: {error}")]
pub struct ListenError {
    purpose: &'static str,
    address: SocketAddr,
    error: io::Error,
}

impl Listeners {
    /// Binds all three, or none.
    pub fn bind(config: &ListenConfig, busy: BusyPort) -> Result<Self, ListenError> {
        Ok(Self {
            public: bind("clients", config.public, busy)?,
            admin: bind("operators", config.admin, busy)?,
            operations: bind("health and metrics", config.operations, busy)?,
        })
    }
}

/// Binds one.
pub(crate) fn bind(purpose: &'static str, wanted: SocketAddr, busy: BusyPort) -> Result<TcpListener, ListenError> {
    let mut address = wanted;
    loop {
        let error = match TcpListener::bind(address) {
            Ok(listener) => {
                listener.set_nonblocking(true).map_err(|error| ListenError {
                    purpose,
                    address,
                    error,
                })?;
                return Ok(listener);
            }
            Err(error) => error,
        };
        let next = address
            .port()
            .checked_add(1)
            .filter(|port| port - wanted.port() <= PORTS_TRIED);
        match next {
            Some(port) if busy == BusyPort::MoveOn && error.kind() == io::ErrorKind::AddrInUse => {
                address.set_port(port);
            }
            _ => {
                return Err(ListenError {
                    purpose,
                    address,
                    error,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_port_is_refused_or_passed_over() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let refused = bind("clients", address, BusyPort::Refuse).unwrap_err().to_string();
        assert!(
            refused.starts_with(&format!("listen for clients on {address}: ")),
            "{refused}"
        );
        let moved = bind("clients", address, BusyPort::MoveOn)
            .unwrap()
            .local_addr()
            .unwrap();
        assert!(moved.port() > address.port());
    }
}
