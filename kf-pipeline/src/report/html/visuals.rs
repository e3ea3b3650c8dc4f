//! What of an artifact is more than words: curves, matrices, pages and texts.

use kf_core::artifact::{ArtifactKind as _, ArtifactRef, Html, Markdown};
use serde_json::Value as Json;

use super::markdown;
use super::matrix::Matrix;
use super::roc::{self, Curve};
use crate::report::Report;
use crate::report::text::{Safe, clipped, put};

/// The metrics of slices of the data, as the SDK names them.
const SLICED: &str = "system.SlicedClassificationMetrics";
/// How many slices are shown.
const SLICES: usize = 12;

/// Draws it where there is something to draw.
pub(super) fn draw(report: &Report, artifact: &ArtifactRef) -> Option<String> {
    let mut out = String::new();
    if artifact.schema_title == SLICED {
        slices(&mut out, artifact);
    } else {
        let curve = curve(artifact).map(|curve| (String::new(), curve));
        curve.into_iter().for_each(|curve| roc::draw(&mut out, &[curve]));
        matrix(artifact).iter().for_each(|matrix| matrix.draw(&mut out));
    }
    if let Some(text) = artifact.digest.and_then(|digest| report.contents.get(&digest)) {
        content(&mut out, artifact, text);
    }
    (!out.is_empty()).then_some(out)
}

pub(super) fn curve(artifact: &ArtifactRef) -> Option<Curve> {
    artifact.metadata.get("confidenceMetrics").and_then(Curve::read)
}

pub(super) fn matrix(artifact: &ArtifactRef) -> Option<Matrix> {
    artifact.metadata.get("confusionMatrix").and_then(Matrix::read)
}

fn slices(out: &mut String, artifact: &ArtifactRef) {
    let slices = artifact.metadata.get("evaluationSlices").and_then(Json::as_array);
    let named = slices.into_iter().flatten().filter_map(|slice| {
        let name = slice.get("slice")?.as_str()?;
        Some((name, slice.get("sliceClassificationMetrics")?))
    });
    let named: Vec<(&str, &Json)> = named.take(SLICES).collect();
    let curves: Vec<(String, Curve)> = named
        .iter()
        .filter_map(|(name, metrics)| {
            Some(((*name).to_owned(), Curve::read(metrics.get("confidenceMetrics")?)?))
        })
        .take(roc::CURVES)
        .collect();
    if !curves.is_empty() {
        roc::draw(out, &curves);
    }
    for (name, metrics) in named {
        if let Some(matrix) = metrics.get("confusionMatrix").and_then(Matrix::read) {
            put!(out, "<div><h4>{}</h4>", Safe(&clipped(name, 60)));
            matrix.draw(out);
            out.push_str("</div>");
        }
    }
}

/// The text of an HTML or Markdown artifact. HTML is shown where it can neither run scripts nor reach out.
fn content(out: &mut String, artifact: &ArtifactRef, text: &str) {
    if artifact.schema_title == Html::SCHEMA_TITLE {
        put!(
            out,
            "<iframe sandbox loading=lazy title=\"{}\" srcdoc=\"{}\"></iframe>",
            Safe(&clipped(&artifact.name, 60)),
            Safe(text)
        );
    } else if artifact.schema_title == Markdown::SCHEMA_TITLE {
        put!(out, "<div class=markdown>{}</div>", markdown::to_html(text));
    }
}
