//! Lines over two axes.

use super::svg::{Anchor, COLOURS_COUNT, Svg};
use super::{Area, Axis, Legend};

/// Lines over two axes.
#[derive(Clone, Debug)]
pub struct Chart {
    /// What the panel shows; may be empty where the picture's title says it.
    pub title: String,
    /// From left to right.
    pub x: Axis,
    /// From bottom to top.
    pub y: Axis,
    /// The lines.
    pub lines: Vec<Line>,
    /// A part of the x axis that is shaded.
    pub band: Option<(f64, f64)>,
    /// A height that matters, and what it is.
    pub limit: Option<(f64, String)>,
}

/// One line.
#[derive(Clone, Debug)]
pub struct Line {
    /// As in the legend; a line without a name is not in it.
    pub name: String,
    /// Which of the colours; lines that belong together share one.
    pub colour: usize,
    /// How it is drawn.
    pub stroke: Stroke,
    /// Values on the axes, from left to right.
    pub points: Vec<(f64, f64)>,
    /// Whether each point is a measurement of its own and gets a dot.
    pub has_dots: bool,
}

/// How a line is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stroke {
    /// Without gaps.
    Solid,
    /// For what is compared with, such as a floor.
    Dashed,
    /// For what is secondary, such as the median beside the 99th percentile.
    Dotted,
}

const LEFT: f64 = 68.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 12.0;
const PANEL_TITLE_HEIGHT: f64 = 16.0;
/// The x axis' numbers.
const TICKS_HEIGHT: f64 = 24.0;
/// The x axis' label.
const LABEL_HEIGHT: f64 = 20.0;
const BOTTOM: f64 = 10.0;

impl Stroke {
    fn class(self) -> &'static str {
        match self {
            Self::Solid => "curve",
            Self::Dashed => "curve dashed",
            Self::Dotted => "curve dotted",
        }
    }
}

impl Line {
    fn class(&self) -> String {
        format!("{} s{}", self.stroke.class(), self.colour % COLOURS_COUNT)
    }
}

impl Chart {
    /// Height of the panel at this width, in CSS pixels.
    pub(super) fn height(&self, width: f64) -> f64 {
        let plot = (width * 0.45).clamp(180.0, 320.0);
        plot + self.above() + self.below() + self.legend(width).height() + BOTTOM
    }

    fn above(&self) -> f64 {
        TOP + if self.title.is_empty() { 0.0 } else { PANEL_TITLE_HEIGHT }
    }

    fn below(&self) -> f64 {
        TICKS_HEIGHT + if self.x.label.is_empty() { 0.0 } else { LABEL_HEIGHT }
    }

    fn legend(&self, width: f64) -> Legend {
        Legend::new(self.named().map(|line| line.name.as_str()), width - LEFT - RIGHT)
    }

    fn named(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(|line| !line.name.is_empty())
    }

    pub(super) fn draw(&self, svg: &mut Svg, area: Area) {
        let legend = self.legend(area.width);
        let plot = Area {
            x: area.x + LEFT,
            y: area.y + self.above(),
            width: area.width - LEFT - RIGHT,
            height: area.height - self.above() - self.below() - legend.height() - BOTTOM,
        };
        if !self.title.is_empty() {
            svg.text(plot.x, area.y + 14.0, Anchor::Start, "panel", &self.title);
        }
        let at = |x: f64, y: f64| {
            (
                plot.x + self.x.share(x) * plot.width,
                plot.y + (1.0 - self.y.share(y)) * plot.height,
            )
        };
        if let Some((from, to)) = self.band {
            let (left, right) = (at(from, 0.0).0, at(to, 0.0).0);
            svg.rectangle((left, plot.y), (right - left, plot.height), "band");
        }
        self.draw_axes(svg, plot);
        if let Some((value, name)) = &self.limit {
            let (_, y) = at(0.0, *value);
            svg.line((plot.x, y), (plot.x + plot.width, y), "limit");
            svg.text(plot.x + 6.0, y - 4.0, Anchor::Start, "quiet", name);
        }
        for line in &self.lines {
            let points: Vec<(f64, f64)> = line.points.iter().map(|(x, y)| at(*x, *y)).collect();
            svg.polyline(&points, &line.class());
            if line.has_dots {
                for point in points {
                    svg.dot(point, &format!("f{}", line.colour % COLOURS_COUNT));
                }
            }
        }
        let named: Vec<&Line> = self.named().collect();
        legend.place(plot.x, plot.y + plot.height + self.below() + 8.0, |index, x, y| {
            svg.line((x, y), (x + 22.0, y), &named[index].class());
            svg.text(x + 28.0, y + 4.0, Anchor::Start, "", &named[index].name);
        });
    }

    fn draw_axes(&self, svg: &mut Svg, plot: Area) {
        let (right, bottom) = (plot.x + plot.width, plot.y + plot.height);
        for (value, name) in self.y.ticks() {
            let y = plot.y + (1.0 - self.y.share(*value)) * plot.height;
            svg.line((plot.x, y), (right, y), "grid");
            svg.text(plot.x - 7.0, y + 4.0, Anchor::End, "", name);
        }
        let mut free_from = f64::NEG_INFINITY;
        for (value, name) in self.x.ticks() {
            let x = plot.x + self.x.share(*value) * plot.width;
            svg.line((x, plot.y), (x, bottom), "grid");
            // Names that would touch the one before are left out.
            let half = name.chars().count() as f64 * super::LETTER_WIDTH / 2.0;
            if x - half > free_from {
                svg.text(x, bottom + 16.0, Anchor::Middle, "", name);
                free_from = x + half + 4.0;
            }
        }
        svg.rectangle((plot.x, plot.y), (plot.width, plot.height), "frame");
        svg.text(
            plot.x + plot.width / 2.0,
            bottom + 36.0,
            Anchor::Middle,
            "quiet",
            &self.x.label,
        );
        svg.text(plot.x + 6.0, plot.y + 14.0, Anchor::Start, "quiet", &self.y.label);
    }
}
