//! The gateway's counters. Handles are kept, so that counting costs a few nanoseconds.

use metrics::{Counter, Gauge, counter, gauge};
use wire::json::Outcome;

/// The gateway's counters.
pub(crate) struct GatewayMetrics {
    /// Requests by the class of their status: 1xx to 5xx.
    requests: [Counter; 5],
    /// Sequenced requests and those of unknown outcome, by outcome: executed, not executed, unknown.
    outcomes: [Counter; 3],
    /// Requests that found their bucket empty.
    pub rate_limited: Counter,
    /// Requests whose signature did not hold.
    pub refused_signatures: Counter,
    /// TLS handshakes that failed or took too long.
    pub refused_handshakes: Counter,
    /// Connections that came from no proxy where only such are let in, or did not say who their client is.
    pub refused_proxies: Counter,
    /// Handlers that panicked.
    pub panics: Counter,
    /// Open connections.
    pub connections: Gauge,
    /// Connections that were refused because there were too many.
    pub connections_refused: Counter,
    /// Open WebSocket sessions.
    pub sessions: Gauge,
    /// Messages that WebSocket sessions read.
    pub session_messages: Counter,
    /// WebSocket sessions that were let go because they took no output.
    pub slow_consumers: Counter,
}

/// Something that is counted for as long as it is there, even if its task panics.
pub(crate) struct Counted(Gauge);

impl Counted {
    pub fn new(gauge: &Gauge) -> Self {
        gauge.increment(1.0);
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

impl GatewayMetrics {
    pub fn new() -> Self {
        let requests = ["1xx", "2xx", "3xx", "4xx", "5xx"];
        let outcomes = ["executed", "not_executed", "unknown"];
        Self {
            requests: requests.map(|class| counter!("meridian_gateway_requests_total", "status" => class)),
            outcomes: outcomes.map(|outcome| counter!("meridian_gateway_outcomes_total", "outcome" => outcome)),
            rate_limited: counter!("meridian_gateway_rate_limited_total"),
            refused_signatures: counter!("meridian_gateway_refused_signatures_total"),
            refused_handshakes: counter!("meridian_gateway_refused_handshakes_total"),
            refused_proxies: counter!("meridian_gateway_refused_proxies_total"),
            panics: counter!("meridian_gateway_panics_total"),
            connections: gauge!("meridian_gateway_connections"),
            connections_refused: counter!("meridian_gateway_connections_refused_total"),
            sessions: gauge!("meridian_gateway_sessions"),
            session_messages: counter!("meridian_gateway_session_messages_total"),
            slow_consumers: counter!("meridian_gateway_slow_consumers_total"),
        }
    }

    /// Counts an answer by its status.
    pub fn request(&self, status: http::StatusCode) {
        let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
        self.requests[class].increment(1);
    }

    /// Counts what became of a request that changes something.
    pub fn outcome(&self, outcome: Outcome) {
        let index = match outcome {
            Outcome::Executed => 0,
            Outcome::NotExecuted => 1,
            Outcome::Unknown => 2,
        };
        self.outcomes[index].increment(1);
    }
}
