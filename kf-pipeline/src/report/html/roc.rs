//! ROC curves, from the `confidenceMetrics` of classification metrics.

use serde_json::Value as Json;

use crate::report::text::{Safe, clipped, put};

/// How many points of a curve are drawn, and how many curves in one picture.
const POINTS: usize = 300;
pub(super) const CURVES: usize = 8;
const SIDE: f64 = 240.0;
const LEFT: f64 = 38.0;
const TOP: f64 = 8.0;

/// A curve from (0, 0) to (1, 1).
#[derive(Debug)]
pub(super) struct Curve {
    /// False positive rate, recall, threshold.
    points: Vec<(f64, f64, Option<f64>)>,
}

impl Curve {
    /// Reads what the SDK writes, a list, or what the backend makes of it, an object around one. None where there is no
    /// point with a false positive rate and a recall.
    pub(super) fn read(json: &Json) -> Option<Self> {
        let list = json.get("list").unwrap_or(json);
        let list = list.get("confidenceMetrics").unwrap_or(list).as_array()?;
        let number = |point: &Json, name: &str| point.get(name)?.as_f64().filter(|number| number.is_finite());
        let mut points: Vec<(f64, f64, Option<f64>)> = list
            .iter()
            .filter_map(|point| {
                let rate = |name| Some(number(point, name)?.clamp(0.0, 1.0));
                let threshold = number(point, "confidenceThreshold");
                Some((rate("falsePositiveRate")?, rate("recall")?, threshold))
            })
            .collect();
        if points.is_empty() {
            return None;
        }
        points.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        Some(Self { points })
    }

    /// The area under it, by the trapezoid rule.
    pub(super) fn area(&self) -> f64 {
        let ends = [(0.0, 0.0), (1.0, 1.0)];
        let inner = self.points.iter().map(|(x, y, _)| (*x, *y));
        let all: Vec<(f64, f64)> =
            ends.into_iter().take(1).chain(inner).chain(ends.into_iter().skip(1)).collect();
        all.windows(2).map(|pair| (pair[1].0 - pair[0].0) * f64::midpoint(pair[0].1, pair[1].1)).sum()
    }

    fn path(&self) -> String {
        let mut path = String::new();
        let (x, y) = place(0.0, 0.0);
        put!(path, "M{x:.1} {y:.1}");
        let step = self.points.len().div_ceil(POINTS);
        let last = self.points.len() - 1;
        for (n, (rate, recall, _)) in self.points.iter().enumerate() {
            if n.is_multiple_of(step) || n == last {
                let (x, y) = place(*rate, *recall);
                put!(path, "L{x:.1} {y:.1}");
            }
        }
        let (x, y) = place(1.0, 1.0);
        put!(path, "L{x:.1} {y:.1}");
        path
    }
}

fn place(rate: f64, recall: f64) -> (f64, f64) {
    (LEFT + rate * SIDE, TOP + (1.0 - recall) * SIDE)
}

/// Draws curves over each other, with their names and areas below.
pub(super) fn draw(out: &mut String, curves: &[(String, Curve)]) {
    let (width, height) = (LEFT + SIDE + 12.0, TOP + SIDE + 38.0);
    put!(
        out,
        "<svg class=roc width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" role=img aria-label=\"ROC curve\">"
    );
    for tick in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let ((x, bottom), (_, top)) = (place(tick, 0.0), place(tick, 1.0));
        let ((left, y), (right, _)) = (place(0.0, tick), place(1.0, tick));
        put!(out, "<path class=grid d=\"M{x} {bottom}V{top}M{left} {y}H{right}\" />");
        if tick != 0.25 && tick != 0.75 {
            put!(out, "<text x=\"{x}\" y=\"{}\" text-anchor=middle>{tick}</text>", bottom + 14.0);
            put!(out, "<text x=\"{}\" y=\"{}\" text-anchor=end>{tick}</text>", left - 6.0, y + 4.0);
        }
    }
    let ((x1, y1), (x2, y2)) = (place(0.0, 0.0), place(1.0, 1.0));
    put!(out, "<path class=chance d=\"M{x1} {y1}L{x2} {y2}\" />");
    for (n, (_, curve)) in curves.iter().enumerate().take(CURVES) {
        put!(out, "<path class=\"curve k{n}\" d=\"{}\" />", curve.path());
        if curves.len() == 1 && curve.points.len() <= 40 {
            for (rate, recall, threshold) in &curve.points {
                let (x, y) = place(*rate, *recall);
                let threshold = threshold.map(|value| format!("threshold {value}, ")).unwrap_or_default();
                put!(
                    out,
                    "<circle class=\"point k0\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=2.6><title>{threshold}\
                     false positive rate {rate:.4}, recall {recall:.4}</title></circle>"
                );
            }
        }
    }
    put!(
        out,
        "<text x=\"{}\" y=\"{}\" text-anchor=middle>false positive rate</text>\
         <text transform=\"translate(10 {}) rotate(-90)\" text-anchor=middle>recall</text></svg>",
        LEFT + SIDE / 2.0,
        TOP + SIDE + 32.0,
        TOP + SIDE / 2.0,
    );
    out.push_str("<ul class=legend>");
    for (n, (name, curve)) in curves.iter().enumerate().take(CURVES) {
        let name = if name.is_empty() { "area under the curve" } else { name };
        put!(out, "<li class=k{n}><span>{}</span> <b>{:.4}</b>", Safe(&clipped(name, 60)), curve.area());
    }
    out.push_str("</ul>");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn point(rate: f64, recall: f64) -> Json {
        json!({ "confidenceThreshold": 0.5, "recall": recall, "falsePositiveRate": rate })
    }

    #[test]
    fn the_area_is_that_of_known_curves() {
        let area = |points: &[(f64, f64)]| {
            let list: Vec<Json> = points.iter().map(|(rate, recall)| point(*rate, *recall)).collect();
            Curve::read(&json!(list)).unwrap().area()
        };
        assert!((area(&[(0.0, 1.0)]) - 1.0).abs() < 1e-9);
        assert!((area(&[(0.5, 0.5)]) - 0.5).abs() < 1e-9);
        assert!((area(&[(1.0, 1.0), (0.25, 0.75), (0.0, 0.0)]) - 0.75).abs() < 1e-9);
    }

    #[test]
    fn what_the_backend_wraps_is_read_and_what_is_no_curve_is_not() {
        assert!(Curve::read(&json!({ "list": [point(0.1, 0.9)] })).is_some());
        for broken in [
            json!(null),
            json!([]),
            json!("NaN"),
            json!([{ "recall": 1.0 }]),
            json!([{ "recall": "NaN", "falsePositiveRate": [] }]),
        ] {
            assert!(Curve::read(&broken).is_none(), "{broken}");
        }
        let huge: Vec<Json> = (0..100_000).map(|n| point(f64::from(n) * 1e300, -1e300)).collect();
        let mut out = String::new();
        draw(&mut out, &[("<i>".to_owned(), Curve::read(&json!(huge)).unwrap())]);
        assert!(out.len() < 20_000 && out.contains("&lt;i&gt;") && !out.contains("NaN"), "{}", out.len());
    }
}
