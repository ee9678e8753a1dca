//! Pictures of what was measured, as SVG.
//!
//! Written by hand and not with a plotting library: the pictures follow the reader's light or dark mode, which takes
//! style classes where such libraries write fixed colours, and what is needed is lines, bars, axes and a legend.
//!
//! ```text
//!  sheet ── panel: chart (axes, lines) or bars ──> svg (elements, escaping, the style of both modes)
//! ```

mod axis;
mod bars;
mod chart;
mod svg;

#[cfg(test)]
pub mod tests;

pub use axis::Axis;
pub use bars::{Bar, Bars};
pub use chart::{Chart, Line, Stroke};

use svg::{Anchor, Svg};

/// Width of each picture in CSS pixels: as wide as a page's text.
const WIDTH: f64 = 760.0;
/// Room above the first panel, for the title.
const TITLE_HEIGHT: f64 = 36.0;

/// One picture: a title, and panels in rows of equal width.
#[derive(Clone, Debug)]
pub struct Sheet {
    /// What it shows.
    pub title: String,
    /// How many panels stand side by side.
    pub columns: usize,
    /// The panels, row by row.
    pub panels: Vec<Panel>,
}

/// What a panel shows.
#[derive(Clone, Debug)]
pub enum Panel {
    /// Lines over two axes.
    Chart(Chart),
    /// Stacked bars.
    Bars(Bars),
}

/// A rectangle in CSS pixels, from its upper left corner.
#[derive(Clone, Copy, Debug)]
struct Area {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

impl Sheet {
    /// A picture with one panel.
    pub fn of(title: &str, panel: Panel) -> Self {
        Self {
            title: title.to_owned(),
            columns: 1,
            panels: vec![panel],
        }
    }

    /// The SVG file's text.
    pub fn render(&self) -> String {
        let columns = self.columns.max(1);
        let width = WIDTH / columns as f64;
        let rows: Vec<&[Panel]> = self.panels.chunks(columns).collect();
        let heights: Vec<f64> = rows
            .iter()
            .map(|row| row.iter().map(|panel| panel.height(columns)).fold(0.0, f64::max))
            .collect();
        let mut svg = Svg::new(WIDTH, TITLE_HEIGHT + heights.iter().sum::<f64>(), &self.title);
        svg.text(16.0, 24.0, Anchor::Start, "title", &self.title);
        let mut y = TITLE_HEIGHT;
        for (row, height) in rows.into_iter().zip(heights) {
            for (column, panel) in row.iter().enumerate() {
                let area = Area {
                    x: column as f64 * width,
                    y,
                    width,
                    height,
                };
                match panel {
                    Panel::Chart(chart) => chart.draw(&mut svg, area),
                    Panel::Bars(bars) => bars.draw(&mut svg, area),
                }
            }
            y += height;
        }
        svg.finish()
    }
}

impl Panel {
    fn height(&self, columns: usize) -> f64 {
        match self {
            Self::Chart(chart) => chart.height(WIDTH / columns as f64),
            Self::Bars(bars) => bars.height(WIDTH / columns as f64),
        }
    }
}

/// The legend: a sample of each line or bar and its name, in as many rows as it needs.
struct Legend {
    rows: Vec<Vec<(usize, f64)>>,
}

const LEGEND_ROW_HEIGHT: f64 = 20.0;
const LEGEND_SAMPLE_WIDTH: f64 = 30.0;
/// The width of a letter of the legend's font, on average.
const LETTER_WIDTH: f64 = 6.8;

impl Legend {
    fn new<'a>(names: impl Iterator<Item = &'a str>, width: f64) -> Self {
        let mut rows: Vec<Vec<(usize, f64)>> = Vec::new();
        let mut x = width;
        for (index, name) in names.enumerate() {
            let needs = LEGEND_SAMPLE_WIDTH + name.chars().count() as f64 * LETTER_WIDTH + 14.0;
            if x + needs > width || rows.is_empty() {
                rows.push(Vec::new());
                x = 0.0;
            }
            rows.last_mut().expect("there is a row").push((index, x));
            x += needs;
        }
        Self { rows }
    }

    fn height(&self) -> f64 {
        self.rows.len() as f64 * LEGEND_ROW_HEIGHT
    }

    /// Calls with each entry's index and the place of its sample's left end.
    fn place(&self, x: f64, y: f64, mut draw: impl FnMut(usize, f64, f64)) {
        for (row, entries) in self.rows.iter().enumerate() {
            for (index, at) in entries {
                draw(*index, x + at, y + row as f64 * LEGEND_ROW_HEIGHT);
            }
        }
    }
}
