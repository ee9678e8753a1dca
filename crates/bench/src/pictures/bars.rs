//! Stacked bars, each of the same parts.

use super::svg::{Anchor, COLOURS_COUNT, Svg};
use super::{Area, Axis, LEGEND_ROW_HEIGHT, Legend};

/// Stacked horizontal bars.
#[derive(Clone, Debug)]
pub struct Bars {
    /// What the length of a part is.
    pub axis: Axis,
    /// The names of the parts, in the order in which they follow each other.
    pub parts: Vec<String>,
    /// From top to bottom.
    pub bars: Vec<Bar>,
}

/// One bar.
#[derive(Clone, Debug)]
pub struct Bar {
    /// What it is of.
    pub name: String,
    /// The length of each part.
    pub lengths: Vec<f64>,
}

const LEFT: f64 = 16.0;
const RIGHT: f64 = 28.0;
const NAME_HEIGHT: f64 = 18.0;
const BAR_HEIGHT: f64 = 24.0;
const GAP: f64 = 12.0;
const BELOW: f64 = 48.0;

impl Bars {
    pub(super) fn height(&self, width: f64) -> f64 {
        self.bars_height() + BELOW + self.legend(width).height() + 8.0
    }

    fn bars_height(&self) -> f64 {
        self.bars.len() as f64 * (NAME_HEIGHT + BAR_HEIGHT + GAP)
    }

    fn legend(&self, width: f64) -> Legend {
        Legend::new(self.parts.iter().map(String::as_str), width - LEFT - RIGHT)
    }

    pub(super) fn draw(&self, svg: &mut Svg, area: Area) {
        let (left, width) = (area.x + LEFT, area.width - LEFT - RIGHT);
        let bottom = area.y + self.bars_height();
        for (value, name) in self.axis.ticks() {
            let x = left + self.axis.share(*value) * width;
            svg.line((x, area.y), (x, bottom), "grid");
            svg.text(x, bottom + 16.0, Anchor::Middle, "", name);
        }
        svg.text(
            left + width / 2.0,
            bottom + 36.0,
            Anchor::Middle,
            "quiet",
            &self.axis.label,
        );
        for (index, bar) in self.bars.iter().enumerate() {
            let y = area.y + index as f64 * (NAME_HEIGHT + BAR_HEIGHT + GAP);
            svg.text(left + 2.0, y + NAME_HEIGHT - 5.0, Anchor::Start, "", &bar.name);
            let mut from = 0.0;
            for (part, length) in bar.lengths.iter().enumerate() {
                let (start, end) = (self.axis.share(from) * width, self.axis.share(from + length) * width);
                let class = format!("f{}", part % COLOURS_COUNT);
                // A sliver between two parts tells them apart where their colours are close.
                let shown = (end - start - 1.0).max(0.0);
                svg.rectangle((left + start, y + NAME_HEIGHT), (shown, BAR_HEIGHT), &class);
                from += length;
            }
        }
        let legend = self.legend(area.width);
        legend.place(left, bottom + BELOW + LEGEND_ROW_HEIGHT / 2.0, |index, x, y| {
            svg.rectangle((x, y - 6.0), (18.0, 12.0), &format!("f{}", index % COLOURS_COUNT));
            svg.text(x + 24.0, y + 4.0, Anchor::Start, "", &self.parts[index]);
        });
    }
}
