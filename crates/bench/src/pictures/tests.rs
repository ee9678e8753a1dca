//! What the pictures promise: well-formed, within their axes, readable names.

use super::svg::Svg;
use super::{Axis, Bar, Bars, Chart, Line, Panel, Sheet, Stroke};

/// Whether each element that is opened is closed in turn, each attribute is quoted and each number is one.
pub fn is_well_formed(svg: &str) -> bool {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = svg;
    while let Some(at) = rest.find('<') {
        if rest[..at].contains('>') && !open.contains(&"style") {
            return false;
        }
        let Some(end) = rest[at..].find('>') else { return false };
        let tag = &rest[at + 1..at + end];
        rest = &rest[at + end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            if open.pop() != Some(name) {
                return false;
            }
            continue;
        }
        let name = tag.split([' ', '/']).next().unwrap_or_default();
        if tag.contains("NaN") || tag.contains("inf") || !tag.matches('"').count().is_multiple_of(2) {
            return false;
        }
        if !tag.ends_with('/') {
            open.push(name);
        }
    }
    open.is_empty() && rest.trim().is_empty()
}

fn plain(value: f64) -> String {
    value.to_string()
}

fn ticks(axis: &Axis) -> Vec<f64> {
    axis.ticks().iter().map(|(value, _)| *value).collect()
}

#[test]
fn axes_name_round_values_around_what_they_show() {
    let linear = |most: f64| ticks(&Axis::linear("", [0.0, most].into_iter(), plain));
    assert_eq!(linear(9.0), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
    assert_eq!(linear(100.0), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
    assert_eq!(linear(0.0).len(), 6, "nothing to show is no reason to fail");
    let log = |least: f64, most: f64| ticks(&Axis::log("", [least, most].into_iter(), plain));
    assert_eq!(log(3.0, 40.0), [2.0, 5.0, 10.0, 20.0, 50.0]);
    assert_eq!(log(10.0, 10.0), [10.0, 20.0]);
    assert_eq!(log(1.0, 1e6), [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6]);
    assert_eq!(log(f64::NAN, 0.0).first(), Some(&1.0));
    let percentiles = Axis::percentiles("", 99.9);
    assert_eq!(ticks(&percentiles).len(), 5);
    assert!((percentiles.share(Axis::nines(99.9)) - 1.0).abs() < 1e-9);
    assert!((percentiles.share(Axis::nines(90.0)) - 1.0 / 3.0).abs() < 1e-9);
}

fn chart(points: Vec<(f64, f64)>) -> Panel {
    Panel::Chart(Chart {
        title: "<\"&\">".to_owned(),
        x: Axis::log("x", points.iter().map(|(x, _)| *x), plain),
        y: Axis::linear("y", points.iter().map(|(_, y)| *y), plain),
        lines: vec![Line {
            name: "a & b".to_owned(),
            colour: 11,
            stroke: Stroke::Dashed,
            points,
            has_dots: true,
        }],
        band: Some((2.0, 3.0)),
        limit: Some((1.0, "limit".to_owned())),
    })
}

#[test]
fn pictures_are_well_formed_whatever_they_show() {
    for points in [
        vec![],
        vec![(1.0, 0.0)],
        vec![(1.0, 2.0), (5.0, f64::INFINITY), (9.0, 1e9)],
    ] {
        let sheet = Sheet {
            title: "two & two".to_owned(),
            columns: 2,
            panels: vec![chart(points.clone()), chart(points.clone()), chart(points)],
        };
        let svg = sheet.render();
        assert!(is_well_formed(&svg), "{svg}");
        assert!(svg.contains("two &amp; two") && svg.contains("&lt;&quot;&amp;&quot;&gt;"));
        assert_eq!(svg, sheet.render(), "the same every time");
    }
    let bars = Bars {
        axis: Axis::linear("", [3.0].into_iter(), plain),
        parts: (0..9).map(|part| format!("part {part}")).collect(),
        bars: vec![Bar {
            name: "one".to_owned(),
            lengths: vec![0.3; 9],
        }],
    };
    assert!(is_well_formed(&Sheet::of("bars", Panel::Bars(bars)).render()));
}

#[test]
fn what_is_not_well_formed_is_found() {
    let good = Svg::new(10.0, 10.0, "x").finish();
    assert!(is_well_formed(&good));
    for bad in [
        good.replace("</svg>", ""),
        good.replace("</title>", "</titel>"),
        good.replace("width=\"10\"", "width=\"NaN\""),
        good.replace("width=\"10\"", "width=\"10"),
        format!("{good}<g>"),
    ] {
        assert!(!is_well_formed(&bad), "{bad}");
    }
}
