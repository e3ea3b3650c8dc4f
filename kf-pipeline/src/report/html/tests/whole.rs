//! What reports say of runs that went well, badly, or not at all.

use kf_core::metadata::RunState;
use serde_json::json;

use super::fixtures::{digits, digits_report, group, hostile_report, io, object, ran, report, thousands};
use super::{assert_well_formed, data, rows};
use crate::TaskState::*;
use crate::spec::PipelineFile;

#[test]
fn the_digits_pipeline_is_told_whole() {
    let mut report = digits_report();
    let html = report.to_html();
    assert_well_formed(&html);
    for expected in [
        "<title>digits · SUCCEEDED</title>",
        "Written by the run's own last task",
        "for each over rates",
        "3 iterations · 3 succeeded",
        "when evaluate-accuracy ≥ 0.95",
        "false: skipped",
        "4 attempts",
        "Rows are true classes",
        "1 failed attempt took 3.72 s of it",
    ] {
        assert!(html.contains(expected), "{expected}");
    }
    for task in
        ["importer", "check", "split", "fit", "pick-best", "evaluate", "register", "alert", "run-report"]
    {
        assert_eq!(html.matches(&format!("class=name>{task}</text>")).count(), 1, "{task} is drawn once");
    }
    assert_eq!(
        rows(&html),
        [
            "importer succeeded critical",
            "check cached critical",
            "split succeeded critical",
            "for-loop-1 over rates succeeded critical",
            "  fit [0] lr = 0.03 succeeded",
            "  fit [1] lr = 0.1 succeeded",
            "  fit [2] lr = 0.3 succeeded critical",
            "pick-best succeeded critical",
            "evaluate succeeded critical",
            "condition-1 evaluate-accuracy ≥ 0.95 succeeded critical",
            "  register succeeded critical",
            "condition-2 evaluate-accuracy < 0.95 skipped",
            "  alert skipped",
            "run-report running",
        ]
    );
    let tasks = &data(&html)["tasks"];
    assert_eq!(tasks[1]["cached"][0], "0193f2b4-0000-7d35-9e0b-51c2d6a7f001");
    assert_eq!(tasks[7]["failed"][0][3].as_str().unwrap().lines().count(), 4, "{}", tasks[7]);
    assert_eq!(tasks[7]["log"][2], 1_200_000);
    assert_eq!(tasks[7]["used"], json!([8_050, 15_220, 104_857_600]));
    assert_eq!(tasks[7]["events"], json!([[4_200, "no node takes it: 0/1 nodes are available"]]));
    assert_eq!(tasks[7]["failed"][0][4], json!([3_100, null, null]));
    assert_eq!(tasks[7]["failed"][0][5], json!([[410, "FailedMount: secret \"keys\" not found"]]));
    assert_eq!(tasks[2]["used"], json!(null), "nothing is known of it");
    report.run.state = RunState::Succeeded;
    report.run.ended_at = Some(report.at);
    report.tasks.push(ran("run-report", Succeeded, 13_400, 13_440));
    let html = report.to_html();
    assert_eq!(rows(&html).last().unwrap(), "run-report succeeded critical");
    assert_well_formed(&html);
}

#[test]
fn a_run_that_has_not_begun_is_shown() {
    let mut report = report("digits", digits().file().unwrap(), RunState::Pending, Vec::new());
    report.run.args = "not json".to_owned();
    let html = report.to_html();
    assert_well_formed(&html);
    assert!(html.contains("· PENDING</title>") && html.contains("No task has run."));
    report.pipeline = PipelineFile::default();
    assert_well_formed(&report.to_html());
}

#[test]
fn a_failed_run_says_what_failed_and_where() {
    let mut failed = ran("exit-handler-1/check", Failed, 30, 60);
    failed.error = Some("column `label`: expected int64, found utf8\nat row 3".to_owned());
    failed.attempts = 3;
    let tasks = vec![
        ran("exit-handler-1/importer", Succeeded, 4, 22),
        failed,
        group("exit-handler-1/split", Skipped, 61),
        group("exit-handler-1/for-loop-1", Skipped, 61),
        group("exit-handler-1", Failed, 62),
    ];
    let mut report = report("digits", digits().file().unwrap(), RunState::Running, tasks);
    let html = report.to_html();
    assert_well_formed(&html);
    assert!(html.contains("· FAILED</title>"), "the outcome is known before the exit handler ends");
    assert!(html.contains("<a href=\"#t1\">exit-handler-1/check</a> after 3 attempts"));
    report.run.state = RunState::Failed;
    report.run.error = Some("`check`: column `label`: expected int64, found utf8".to_owned());
    let html = report.to_html();
    assert!(html.contains("1 task failed") && html.contains("<pre>`check`: column"));
    assert_eq!(rows(&html)[1], "check failed critical");
}

#[test]
fn hostile_names_and_values_stay_text() {
    let html = hostile_report().to_html();
    assert_well_formed(&html);
    assert!(!html.contains("<img"), "markup got through");
    assert!(html.contains("srcdoc=\"&lt;p onclick=&quot;x&quot;&gt;hello"));
    assert_eq!(html.matches("</script>").count(), 2);
    assert!(html.contains("shortened from 1.0 MB") && html.len() < 400_000, "{} bytes", html.len());
    assert!(data(&html)["tasks"][1]["in"].to_string().contains("<img src=x"), "told whole, as text")
}

#[test]
fn thousands_of_tasks_stay_readable() {
    let html = thousands().to_html();
    assert_well_formed(&html);
    assert!(html.len() < 9_000_000, "{} bytes", html.len());
    assert!(html.contains("5,000 iterations · 4,999 succeeded"));
    let rows = rows(&html);
    assert_eq!(rows.len(), 1 + 3 * 5_000 + 300);
    assert!(rows.contains(&"    second failed".to_owned()));
    assert!(html.contains("The first 120 tasks are drawn"));
}

#[test]
fn the_critical_path_goes_through_limits_and_what_was_skipped() {
    let leaf = |after: &[&str]| json!({ "componentRef": { "name": "leaf" }, "dependentTasks": after });
    let spec = json!({
        "components": {
            "leaf": { "executorLabel": "x" },
            "body": { "dag": { "tasks": { "first": leaf(&[]), "second": leaf(&["first"]) } } },
            "branch": { "dag": { "tasks": { "never": leaf(&[]) } } },
        },
        "pipelineInfo": { "name": "limits" },
        "root": { "dag": { "tasks": {
            "loop": {
                "componentRef": { "name": "body" },
                "parameterIterator": { "items": { "raw": "[1, 2, 3]" }, "itemInput": "item" },
                "iteratorPolicy": { "parallelismLimit": 2 },
            },
            "branch": {
                "componentRef": { "name": "branch" },
                "dependentTasks": ["loop"],
                "triggerPolicy": { "condition": "false" },
            },
            "last": leaf(&["branch"]),
        } } },
    });
    let file =
        PipelineFile { pipeline_spec: serde_json::from_value(spec).unwrap(), ..PipelineFile::default() };
    let mut tasks = Vec::new();
    // The third iteration starts when the first has ended; the second takes longer, but is not waited for.
    for (n, from, middle, to) in [(0, 0, 10, 50), (1, 0, 30, 80), (2, 51, 60, 90)] {
        tasks.push(ran(&format!("loop[{n}]/first"), Succeeded, from, middle));
        tasks.push(ran(&format!("loop[{n}]/second"), Succeeded, middle, to));
        tasks.push(group(&format!("loop[{n}]"), Succeeded, to));
    }
    tasks.push(group("loop", Succeeded, 90));
    tasks.push(group("branch", Skipped, 91));
    tasks.push(ran("last", Cached, 92, 92));
    let html = report("limits", file, RunState::Succeeded, tasks).to_html();
    assert_well_formed(&html);
    assert_eq!(
        rows(&html),
        [
            "loop over [1, 2, 3] succeeded critical",
            "  [0] succeeded critical",
            "    first succeeded critical",
            "    second succeeded critical",
            "  [1] succeeded",
            "    first succeeded",
            "    second succeeded",
            "  [2] succeeded critical",
            "    first succeeded critical",
            "    second succeeded critical",
            "branch false skipped",
            "  never skipped",
            "last cached critical",
        ]
    );
    assert!(html.contains("5 tasks in 92 ms, 3 ms of it waiting to start"));
}

#[test]
fn loops_in_loops_are_rows_in_rows() {
    let leaf = json!({
        "componentRef": { "name": "leaf" },
        "inputs": { "parameters": { "size": { "componentInputParameter": "item" } } },
    });
    let each = |body: &str| {
        json!({
            "componentRef": { "name": body },
            "parameterIterator": { "items": { "raw": "[1, 2]" }, "itemInput": "item" },
        })
    };
    let spec = json!({
        "components": {
            "leaf": { "executorLabel": "x" },
            "inner": { "dag": { "tasks": { "one": leaf, "two": leaf } } },
            "outer": { "dag": { "tasks": { "inner": each("inner") } } },
        },
        "pipelineInfo": { "name": "nested" },
        "root": { "dag": { "tasks": { "outer": each("outer") } } },
    });
    let file =
        PipelineFile { pipeline_spec: serde_json::from_value(spec).unwrap(), ..PipelineFile::default() };
    let mut task = ran("outer[1]/inner[0]/one", Succeeded, 0, 5);
    task.inputs = object(json!({ "size": 7 }));
    let tasks = vec![task, ran("outer[1]/inner[0]/two", Failed, 2, 9)];
    let html = report("nested", file, RunState::Running, tasks).to_html();
    assert_well_formed(&html);
    assert_eq!(
        rows(&html),
        [
            "outer over [1, 2] running critical",
            "  [1] failed critical",
            "    inner over [1, 2] running critical",
            "      [0] size = 7 failed critical",
            "        one succeeded",
            "        two failed critical",
        ]
    );
}

#[test]
fn endless_values_make_a_file_of_bounded_size() {
    let leaf = json!({ "componentRef": { "name": "leaf" } });
    let tasks: serde_json::Map<_, _> = (0..3_000).map(|n| (format!("t{n}"), leaf.clone())).collect();
    let spec = json!({
        "components": { "leaf": { "executorLabel": "x" } },
        "pipelineInfo": { "name": "long" },
        "root": { "dag": { "tasks": tasks } },
    });
    let file =
        PipelineFile { pipeline_spec: serde_json::from_value(spec).unwrap(), ..PipelineFile::default() };
    let inputs: serde_json::Map<_, _> =
        (0..20).map(|n| (format!("p{n}"), "<\u{1}".repeat(400).into())).collect();
    let all = (0..3_000).map(|n| {
        let mut task = ran(&format!("t{n}"), Failed, n, n + 9);
        task.inputs.clone_from(&inputs);
        task.error = Some(if n == 0 { "e<".repeat(5 << 20) } else { "e<".repeat(4_000) });
        task.output_artifacts = vec![io("model", "Model", n as u64, json!({ "long": "m".repeat(2_000) }))];
        task
    });
    let html = report("long", file, RunState::Failed, all.collect()).to_html();
    assert!(html.len() < 18_000_000, "{} bytes", html.len());
    let data = data(&html);
    assert_eq!(data["rows"].as_array().unwrap().len(), 3_000, "all are listed");
    let task = |n: usize| &data["tasks"][n];
    assert!(task(0)["error"].as_str().unwrap().ends_with("… shortened from 10 MB"));
    assert!(task(0)["in"][0][1].as_str().unwrap().len() > 400, "the first are told in full");
    assert!(data["tasks"].as_array().unwrap().iter().any(|task| task["in"][6] == 14), "then shorter");
}
