//! Axes: where a value stands, and which values are named.

/// An axis, from its lowest value to its highest.
#[derive(Clone, Debug)]
pub struct Axis {
    /// What is on it, with its unit.
    pub label: String,
    scale: Scale,
    from: f64,
    to: f64,
    ticks: Vec<(f64, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Scale {
    Linear,
    Log,
}

/// How many ticks a linear axis has at most.
const TICKS_MAX: f64 = 7.0;
/// How many ticks a logarithmic axis has at most, before only powers of ten are named.
const LOG_TICKS_MAX: usize = 11;

impl Axis {
    /// From 0 to a round number over the largest value.
    pub fn linear(label: &str, values: impl Iterator<Item = f64>, name: fn(f64) -> String) -> Self {
        let most = values.filter(|value| value.is_finite()).fold(0.0, f64::max);
        let most = if most > 0.0 { most } else { 1.0 };
        let step = round_up(most / TICKS_MAX);
        let count = (most / step).ceil() as u32;
        Self {
            label: label.to_owned(),
            scale: Scale::Linear,
            from: 0.0,
            to: f64::from(count) * step,
            ticks: (0..=count)
                .map(|tick| f64::from(tick) * step)
                .map(|value| (value, name(value)))
                .collect(),
        }
    }

    /// Logarithmic, so that all values stand between its ends; ticks at 1, 2 and 5 times powers of ten, or at the powers
    /// alone where that would be too many.
    pub fn log(label: &str, values: impl Iterator<Item = f64>, name: fn(f64) -> String) -> Self {
        let (mut least, mut most) = (f64::INFINITY, 0.0_f64);
        for value in values.filter(|value| value.is_finite() && *value > 0.0) {
            (least, most) = (least.min(value), most.max(value));
        }
        if most == 0.0 {
            (least, most) = (1.0, 10.0);
        }
        let all = ticks_between(least, most, &[1.0, 2.0, 5.0]);
        let (from, to) = (all[0], all[all.len() - 1]);
        let are_many = all.len() > LOG_TICKS_MAX;
        let named = all.into_iter().filter(|tick| !are_many || is_power_of_ten(*tick));
        Self {
            label: label.to_owned(),
            scale: Scale::Log,
            from,
            to,
            ticks: named.map(|value| (value, name(value))).collect(),
        }
    }

    /// Percentiles up to `highest`, each further nine as far as the one before. Values on it are [`Axis::nines`].
    pub fn percentiles(label: &str, highest: f64) -> Self {
        let to = Self::nines(highest).clamp(1.0, 6.0);
        let named = ["0 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %", "99.9999 %"];
        let mut ticks: Vec<(f64, String)> = (0..named.len())
            .map(|nines| (nines as f64, named[nines].to_owned()))
            .filter(|(nines, _)| *nines <= to)
            .collect();
        ticks.insert(1, (Self::nines(50.0), "50 %".to_owned()));
        Self {
            label: label.to_owned(),
            scale: Scale::Linear,
            from: 0.0,
            to,
            ticks,
        }
    }

    /// Where a percentile stands on an axis of percentiles: how many nines it has.
    pub fn nines(percentile: f64) -> f64 {
        -(1.0 - (percentile / 100.0).min(0.999_999)).log10()
    }

    /// Where a value stands: 0 at the beginning, 1 at the end.
    pub fn share(&self, value: f64) -> f64 {
        let share = match self.scale {
            Scale::Linear => (value - self.from) / (self.to - self.from),
            Scale::Log => (value.max(self.from) / self.from).log10() / (self.to / self.from).log10(),
        };
        share.clamp(0.0, 1.0)
    }

    /// The values that are named.
    pub fn ticks(&self) -> &[(f64, String)] {
        &self.ticks
    }
}

/// 1, 2 or 5 times a power of ten, and no smaller than `least`.
fn round_up(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .find(|factor| factor * power >= least * 0.999);
    factor.unwrap_or(10.0) * power
}

fn is_power_of_ten(value: f64) -> bool {
    let power = value.log10();
    (power - power.round()).abs() < 1e-9
}

/// The factors times powers of ten, from the last one that is no larger than `least` to the first no smaller than `most`.
fn ticks_between(least: f64, most: f64, factors: &[f64]) -> Vec<f64> {
    let first = least.log10().floor() as i32;
    let last = most.log10().ceil() as i32;
    let all: Vec<f64> = (first..=last)
        .flat_map(|power| factors.iter().map(move |factor| factor * 10_f64.powi(power)))
        .collect();
    let from = all.iter().rposition(|tick| *tick <= least * 1.001).unwrap_or(0);
    let to = all
        .iter()
        .position(|tick| *tick >= most * 0.999)
        .unwrap_or(all.len() - 1);
    all[from..=to.max(from + 1).min(all.len() - 1)].to_vec()
}
