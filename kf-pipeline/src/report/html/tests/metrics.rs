//! Metrics, curves, matrices and texts, in the shapes in which the SDK of Kubeflow Pipelines writes them.

use kf_core::artifact::{Html, Markdown};
use kf_core::metadata::RunState;
use serde_json::{Value as Json, json};

use super::fixtures::{group, io, object, ran, report};
use super::{assert_well_formed, data};
use crate::TaskState::Succeeded;
use crate::report::Report;
use crate::spec::PipelineFile;

fn curve(power: f64) -> Json {
    let points = (0..=40).map(|n| {
        let rate = f64::from(n) / 40.0;
        json!({ "confidenceThreshold": 1.0 - rate, "recall": rate.powf(power), "falsePositiveRate": rate })
    });
    points.collect()
}

fn matrix() -> Json {
    let names = ["setosa", "versicolor", "virginica"].map(|name| json!({ "displayName": name }));
    let rows = [[50, 0, 0], [0, 46, 4], [0, 7, 43]].map(|row| json!({ "row": row }));
    json!({ "annotationSpecs": names, "rows": rows })
}

/// A loop over four settings with metrics each; then slices, a page and a text.
pub(super) fn metrics_report() -> Report {
    let leaf = |after: &[&str]| json!({ "componentRef": { "name": "leaf" }, "dependentTasks": after });
    let train = json!({
        "componentRef": { "name": "leaf" },
        "inputs": { "parameters": { "depth": { "componentInputParameter": "depth" } } },
    });
    let spec = json!({
        "components": {
            "leaf": { "executorLabel": "x" },
            "body": { "dag": { "tasks": { "train": train } } },
        },
        "pipelineInfo": { "name": "iris", "description": "Fits a forest of each depth and compares them." },
        "root": { "dag": { "tasks": {
            "loop": {
                "componentRef": { "name": "body" },
                "parameterIterator": { "items": { "raw": "[2, 4, 8, 16]" }, "itemInput": "depth" },
            },
            "slices": leaf(&["loop"]),
            "page": leaf(&["loop"]),
            "text": leaf(&["slices"]),
        } } },
    });
    let file =
        PipelineFile { pipeline_spec: serde_json::from_value(spec).unwrap(), ..PipelineFile::default() };
    let mut tasks = Vec::new();
    for (n, depth) in [2, 4, 8, 16].into_iter().enumerate() {
        let mut task = ran(&format!("loop[{n}]/train"), Succeeded, 10, 900 + 400 * n as i64);
        task.inputs = object(json!({ "depth": depth }));
        let scores =
            json!({ "accuracy": 0.9 + 0.02 * n as f64, "f1": 0.88 + 0.025 * n as f64, "note": "NaN" });
        let power = 0.6 / (n + 1) as f64;
        let classes = json!({ "confidenceMetrics": curve(power), "confusionMatrix": matrix() });
        task.output_artifacts =
            vec![io("metrics", "Metrics", 0, scores), io("classes", "ClassificationMetrics", 0, classes)];
        tasks.push(task);
        tasks.push(group(&format!("loop[{n}]"), Succeeded, 900 + 400 * n as i64));
    }
    tasks.push(group("loop", Succeeded, 2_100));
    let slice = |name: &str, power| {
        let metrics = json!({ "confidenceMetrics": curve(power), "confusionMatrix": matrix() });
        json!({ "slice": name, "sliceClassificationMetrics": metrics })
    };
    let mut slices = ran("slices", Succeeded, 2_110, 2_900);
    let list = json!({ "evaluationSlices": [slice("north", 0.2), slice("south", 0.5), { "slice": 3 }] });
    slices.output_artifacts = vec![io("slices", "SlicedClassificationMetrics", 0, list)];
    let (mut page, mut text) = (ran("page", Succeeded, 2_120, 2_500), ran("text", Succeeded, 2_910, 3_400));
    page.output_artifacts = vec![io("page", "HTML", 200, json!({}))];
    text.output_artifacts = vec![io("notes", "Markdown", 300, json!({}))];
    let digest = |task: &crate::report::TaskReport| task.output_artifacts[0].artifact.digest.unwrap();
    let contents = [
        (
            digest(&page),
            "<style>h1{color:teal;font-family:serif}</style><h1>Forests</h1><table border=1><tr><td>depth<td>8</table>\
             <img src=\"https://example.com/x.png\" onerror=\"parent.document.title='taken'\"><script>parent.document.title='taken'</script>",
        ),
        (
            digest(&text),
            "# Which depth\n\nDepth **16** is best, see [the data](https://example.com/iris).\n\n| depth | f1 |\n|---|---|\n| 16 | 0.955 |\n\n\
             <script>document.title='taken'</script>\n\n```\nfit(depth=16)\n```\n",
        ),
    ];
    assert_eq!(
        [&page, &text].map(|task| task.output_artifacts[0].artifact.schema_title.as_str()),
        [
            <Html as kf_core::artifact::ArtifactKind>::SCHEMA_TITLE,
            <Markdown as kf_core::artifact::ArtifactKind>::SCHEMA_TITLE,
        ]
    );
    tasks.extend([slices, page, text]);
    let mut report = report("iris", file, RunState::Succeeded, tasks);
    report.contents = contents.map(|(digest, text)| (digest, text.to_owned())).into();
    report
}

#[test]
fn iterations_are_compared_and_pictures_drawn() {
    let html = metrics_report().to_html();
    assert_well_formed(&html);
    // One table with a row per iteration, with what the iterations differ in.
    let table = html.split_once("<caption>train</caption>").unwrap().1.split_once("</table>").unwrap().0;
    assert_eq!(table.matches("<tr>").count(), 1 + 4, "{table}");
    assert!(table.contains("<th class=given>depth<th>accuracy<th>f1"), "{table}");
    assert!(html.contains("train, iterations compared") && html.contains("[3]</span> <b>0.86"), "areas");
    assert!(html.contains("<span>north</span> <b>0.8"), "slices");
    assert_eq!(html.matches("<table class=matrix>").count(), 3 + 4 + 2);
    assert_eq!(html.matches("<template id=v").count(), 4, "those of iterations are kept for their tasks");
    assert!(html.contains("<iframe sandbox loading=lazy title=\"page\" srcdoc=\"&lt;style&gt;"));
    assert!(html.contains("<h1>Which depth</h1>") && html.contains("&lt;script&gt;document.title"));
    assert!(html.contains("style-src 'unsafe-inline'"), "the page brings styles");
    assert_eq!(data(&html)["artifacts"].as_array().unwrap().len(), 11);
}

#[test]
fn without_pages_no_style_is_let_in() {
    let mut report = metrics_report();
    report.contents.clear();
    let html = report.to_html();
    assert!(!html.contains("unsafe-inline") && html.contains("style-src 'sha256-"));
    assert!(!html.contains(" style=\""), "the policy would refuse it");
}
