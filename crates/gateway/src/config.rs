//! What an operator sets of the gateway. Nothing here changes what a request does, only whether it is let in.

use std::net::IpAddr;
use std::time::Duration;

use types::{ClusterId, RegionId};

use crate::rate_limits::RateLimitsConfig;
use crate::tls::Tls;

/// A region, as clients and operators are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedRegion {
    /// Its number.
    pub id: RegionId,
    /// Its name.
    pub name: String,
    /// Where clients reach it; may be empty.
    pub url: String,
}

/// What an operator sets of the gateway.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// The cluster's id, which is part of every signature.
    pub cluster_id: ClusterId,
    /// The most connections at the same time, on each listener.
    pub connections_max: usize,
    /// How long a request's head may take to arrive, and how long a connection may be idle between two requests.
    pub head_timeout: Duration,
    /// How long a request's body may take to arrive.
    pub body_timeout: Duration,
    /// How long a client may leave an answer unread, once the connection's buffers are full.
    pub write_timeout: Duration,
    /// How long the gateway waits for the core's answer before it says that the outcome is unknown.
    pub answer_timeout: Duration,
    /// The regions, if there are several.
    pub regions: Vec<NamedRegion>,
    /// How long a query waits until the view has what the core has executed.
    pub view_timeout: Duration,
    /// How long a WebSocket session may take no output before it is let go.
    pub session_write_timeout: Duration,
    /// How long a WebSocket session may give no sign of life before it is let go; a third of it before it is asked.
    pub session_idle_timeout: Duration,
    /// How long open connections may take to end when the node stops.
    pub drain_timeout: Duration,
    /// How many requests are let in.
    pub rate_limits: RateLimitsConfig,
    /// The proxies whose connections to the public listener begin with who their client is (PROXY protocol, version 2).
    /// If there are any, nobody else is let in there.
    pub proxy_protocol_from: Vec<IpAddr>,
    /// The TLS of both listeners; without it they are plain.
    pub tls: Option<Tls>,
}

impl GatewayConfig {
    /// The defaults for a cluster.
    pub fn new(cluster_id: ClusterId) -> Self {
        Self {
            cluster_id,
            connections_max: 4_096,
            head_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(30),
            answer_timeout: Duration::from_secs(5),
            regions: Vec::new(),
            view_timeout: Duration::from_secs(2),
            session_write_timeout: Duration::from_secs(10),
            session_idle_timeout: Duration::from_secs(45),
            drain_timeout: Duration::from_secs(5),
            rate_limits: RateLimitsConfig::default(),
            proxy_protocol_from: Vec::new(),
            tls: None,
        }
    }
}
