//! The elements, and the style of light and dark mode.

use std::fmt::Write as _;

/// Colours that colour-blind readers tell apart too, after Okabe and Ito: in light and in dark mode.
const COLOURS: [(&str, &str); 8] = [
    ("#0072b2", "#56b4e9"),
    ("#c94f00", "#f08a4b"),
    ("#00805c", "#3ccb9f"),
    ("#9a3d8c", "#d78bc8"),
    ("#806600", "#e6c229"),
    ("#555f6b", "#9aa6b2"),
    ("#c2185b", "#ff86b7"),
    ("#7a4a1d", "#c99766"),
];

/// How many colours there are before they start over.
pub const COLOURS_COUNT: usize = COLOURS.len();

/// Which end of a text stands at its place.
#[derive(Clone, Copy, Debug)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

/// A picture that is being written.
pub struct Svg {
    text: String,
}

impl Svg {
    pub fn new(width: f64, height: f64, title: &str) -> Self {
        let (width, height) = (number(width), number(height));
        let mut text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
             height=\"{height}\" role=\"img\">\n<title>{}</title>\n<style>\n{}</style>\n",
            escape(title),
            style()
        );
        let _ = writeln!(
            text,
            "<rect class=\"paper\" width=\"{width}\" height=\"{height}\" rx=\"6\"/>"
        );
        Self { text }
    }

    pub fn text(&mut self, x: f64, y: f64, anchor: Anchor, class: &str, text: &str) {
        self.element(&format!(
            "<text class=\"{class}\" x=\"{}\" y=\"{}\" text-anchor=\"{}\">{}</text>",
            number(x),
            number(y),
            anchor.name(),
            escape(text)
        ));
    }

    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        self.element(&format!(
            "<line class=\"{class}\" x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\"/>",
            number(from.0),
            number(from.1),
            number(to.0),
            number(to.1)
        ));
    }

    pub fn polyline(&mut self, points: &[(f64, f64)], class: &str) {
        let points: Vec<String> = points
            .iter()
            .map(|(x, y)| format!("{},{}", number(*x), number(*y)))
            .collect();
        self.element(&format!(
            "<polyline class=\"{class}\" points=\"{}\"/>",
            points.join(" ")
        ));
    }

    pub fn dot(&mut self, at: (f64, f64), class: &str) {
        self.element(&format!(
            "<circle class=\"{class}\" cx=\"{}\" cy=\"{}\" r=\"3\"/>",
            number(at.0),
            number(at.1)
        ));
    }

    pub fn rectangle(&mut self, from: (f64, f64), size: (f64, f64), class: &str) {
        self.element(&format!(
            "<rect class=\"{class}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>",
            number(from.0),
            number(from.1),
            number(size.0.max(0.0)),
            number(size.1.max(0.0))
        ));
    }

    pub fn finish(mut self) -> String {
        self.text.push_str("</svg>\n");
        self.text
    }

    fn element(&mut self, element: &str) {
        self.text.push_str(element);
        self.text.push('\n');
    }
}

impl Anchor {
    fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Middle => "middle",
            Self::End => "end",
        }
    }
}

fn style() -> String {
    let mut style = String::from(
        "text{font:12px system-ui,sans-serif;fill:#24292f}\n.title{font-size:15px;font-weight:600}\n\
         .panel{font-weight:600}\n.quiet{fill:#57606a}\n.paper{fill:#fff}\n.frame{stroke:#8c959f;fill:none}\n\
         .grid{stroke:#d8dee4}\n.band{fill:#eaeef2}\n.limit{stroke:#cf222e;stroke-dasharray:2 3}\n\
         .curve{fill:none;stroke-width:2;stroke-linejoin:round}\n.dashed{stroke-dasharray:7 4}\n\
         .dotted{stroke-dasharray:2 3}\n",
    );
    for (index, (light, _)) in COLOURS.iter().enumerate() {
        let _ = writeln!(style, ".s{index}{{stroke:{light}}}.f{index}{{fill:{light}}}");
    }
    style.push_str(
        "@media (prefers-color-scheme:dark){\ntext{fill:#e6edf3}.quiet{fill:#9ba5b0}.paper{fill:#0d1117}\
         .frame{stroke:#6e7681}.grid{stroke:#262c34}.band{fill:#1c232c}.limit{stroke:#ff7b72}\n",
    );
    for (index, (_, dark)) in COLOURS.iter().enumerate() {
        let _ = writeln!(style, ".s{index}{{stroke:{dark}}}.f{index}{{fill:{dark}}}");
    }
    style.push_str("}\n");
    style
}

/// At most two digits after the point: a hundredth of a pixel is not seen.
fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
