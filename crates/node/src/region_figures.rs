//! The figures of a region's part in who is active, as the node knows it. What only a leader knows is not a number (`NaN`)
//! elsewhere. A cluster with one region has none of them.

use std::sync::OnceLock;

use gateway::handle::{Lag, RegionStatus};
use metrics::{Gauge, gauge};
use wire::site::Durability;

/// What a region does, as the mode's gauge names it.
const MODES: [&str; 6] = ["unknown", "standby", "beginning", "active", "draining", "fenced"];

/// The region's figures, from the first time that there are any.
#[derive(Default)]
pub struct RegionFigures(OnceLock<Gauges>);

struct Gauges {
    modes: Vec<(&'static str, Gauge)>,
    epoch: Gauge,
    lease_remaining: Gauge,
    degraded: Gauge,
    standby: LagFigures,
    behind: LagFigures,
}

struct LagFigures {
    sequences: Gauge,
    bytes: Gauge,
    seconds: Gauge,
    heard_seconds_ago: Gauge,
}

impl RegionFigures {
    /// Brings all of them up to date.
    pub fn refresh(&self, region: Option<&RegionStatus>) {
        let Some(region) = region else { return };
        let gauges = self.0.get_or_init(Gauges::new);
        for (mode, gauge) in &gauges.modes {
            gauge.set(f64::from(u8::from(*mode == region.mode)));
        }
        let lease = region.lease.clone().unwrap_or_default();
        gauges.epoch.set(f64::from(lease.epoch.0));
        gauges.lease_remaining.set(seconds(region.lease_remaining_ns));
        gauges
            .degraded
            .set(f64::from(u8::from(lease.durability == Durability::Degraded)));
        gauges.standby.set(region.standby.as_ref());
        gauges.behind.set(region.behind.as_ref());
    }
}

impl Gauges {
    fn new() -> Self {
        Self {
            modes: MODES
                .into_iter()
                .map(|mode| (mode, gauge!("meridian_region_mode", "mode" => mode)))
                .collect(),
            epoch: gauge!("meridian_region_epoch"),
            lease_remaining: gauge!("meridian_region_lease_remaining_seconds"),
            degraded: gauge!("meridian_region_degraded"),
            standby: LagFigures::new("standby"),
            behind: LagFigures::new("behind"),
        }
    }
}

impl LagFigures {
    /// `of`: `standby` is how far the other region is, `behind` how far this one.
    fn new(of: &'static str) -> Self {
        Self {
            sequences: gauge!("meridian_region_lag_sequences", "of" => of),
            bytes: gauge!("meridian_region_lag_bytes", "of" => of),
            seconds: gauge!("meridian_region_lag_seconds", "of" => of),
            heard_seconds_ago: gauge!("meridian_region_heard_seconds_ago", "of" => of),
        }
    }

    fn set(&self, lag: Option<&Lag>) {
        self.sequences.set(lag.map_or(f64::NAN, |lag| float(lag.sequences)));
        self.bytes.set(lag.map_or(f64::NAN, |lag| float(lag.bytes)));
        self.seconds.set(lag.map_or(f64::NAN, |lag| seconds(lag.ns)));
        let heard = lag.and_then(|lag| lag.heard_ns_ago);
        self.heard_seconds_ago.set(heard.map_or(f64::NAN, seconds));
    }
}

fn seconds(ns: u64) -> f64 {
    float(ns) / 1e9
}

#[expect(
    clippy::cast_precision_loss,
    reason = "metrics are floats, and 53 bits are enough for them"
)]
fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;
    use types::{Epoch, RegionId, Sequence};
    use wire::site::LeaseState;

    use super::*;

    #[test]
    fn a_lag_that_nobody_knows_is_no_number() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            let figures = RegionFigures::default();
            figures.refresh(None);
            assert_eq!(handle.render(), "", "a cluster with one region has none");
            let region = RegionStatus {
                region: RegionId(1),
                mode: "active",
                lease: Some(LeaseState {
                    epoch: Epoch(3),
                    durability: Durability::Degraded,
                    ..LeaseState::default()
                }),
                lease_remaining_ns: 1_500_000_000,
                answers_wait: false,
                standby: Some(Lag {
                    through: Sequence(5),
                    sequences: 4,
                    bytes: 400,
                    ns: 2_000_000_000,
                    heard_ns_ago: None,
                }),
                behind: None,
                why_not: None,
                is_void: false,
                other_reads: None,
            };
            figures.refresh(Some(&region));
            let text = handle.render();
            for line in [
                "meridian_region_mode{mode=\"active\"} 1",
                "meridian_region_mode{mode=\"standby\"} 0",
                "meridian_region_epoch 3",
                "meridian_region_lease_remaining_seconds 1.5",
                "meridian_region_degraded 1",
                "meridian_region_lag_sequences{of=\"standby\"} 4",
                "meridian_region_lag_seconds{of=\"standby\"} 2",
                "meridian_region_heard_seconds_ago{of=\"standby\"} NaN",
                "meridian_region_lag_sequences{of=\"behind\"} NaN",
            ] {
                assert!(text.lines().any(|other| other == line), "{line} is not in:\n{text}");
            }
        });
    }
}
