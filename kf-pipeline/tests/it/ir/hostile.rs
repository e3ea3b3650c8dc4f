//! What a file may say to do harm, or by mistake, and what is said of it.

use std::time::{Duration, Instant};

use kf_pipeline::spec::PipelineFile;
use kf_pipeline::{Components, Error, Pipeline};
use serde_json::{Value as Json, json};

use crate::Done;

/// A file that is in order, but for what stands in the place of `text`.
fn with(text: &str, instead: &str) -> String {
    assert!(GOOD.contains(text), "{text}");
    GOOD.replace(text, instead)
}

const GOOD: &str = "\
pipelineInfo:
  name: good
deploymentSpec:
  executors:
    exec-make:
      container:
        image: alpine
components:
  comp-make:
    executorLabel: exec-make
    inputDefinitions:
      parameters:
        number:
          parameterType: NUMBER_INTEGER
          isOptional: true
root:
  dag:
    tasks:
      make:
        componentRef:
          name: comp-make
      use:
        componentRef:
          name: comp-make
        dependentTasks: [make]
";

/// Files that are refused: the line that is named, and words of the message.
fn refused() -> Vec<(String, Option<u64>, Vec<&'static str>)> {
    let task = "      use:\n";
    let number = "          isOptional: true\n";
    vec![
        (
            with("root:\n", "sdkVersion: kfp-3.0.0\nschemaVersion: 3.0.0\nroot:\n"),
            Some(17),
            vec!["schemaVersion", "`3.0.0`", "expected 2.1.0 or another 2.x"],
        ),
        (with("      container:\n", "      conteiner:\n"), Some(6), vec!["expected `container`, `importer`"]),
        (
            with("        dependentTasks: [make]", "        inputs: {parameters: {number: {constant: 1}}}"),
            Some(25),
            vec!["expected `runtimeValue`, `taskOutputParameter`"],
        ),
        // Names that lead nowhere.
        (
            with("dependentTasks: [make]", "dependentTasks: [mkae]"),
            Some(22),
            vec!["root/use", "`mkae`", "which has: make, use"],
        ),
        (
            with("          name: comp-make\n      use", "          name: comp-mkae\n      use"),
            Some(19),
            vec!["root/make", "`comp-mkae` is not in components"],
        ),
        (
            with("executorLabel: exec-make", "executorLabel: exec-mkae"),
            Some(9),
            vec!["comp-make", "`exec-mkae` is not in deploymentSpec"],
        ),
        (
            with("executorLabel: exec-make", "description: none"),
            Some(9),
            vec!["comp-make", "either `dag` or `executorLabel`"],
        ),
        // What goes in circles.
        (
            with(task, "        dependentTasks: [use]\n      use:\n"),
            Some(16),
            vec!["wait for one another: make, use"],
        ),
        (
            with("dependentTasks: [make]", "dependentTasks: [use]"),
            Some(16),
            vec!["wait for one another: use"],
        ),
        (
            with("executorLabel: exec-make", "dag: {tasks: {again: {componentRef: {name: comp-make}}}}"),
            Some(9),
            vec!["comp-make", "contain one another"],
        ),
        // What is said twice or of another type.
        (with(task, "      make:\n"), Some(22), vec!["duplicate", "make"]),
        (with("NUMBER_INTEGER", "NUMBER_INTEGRE"), Some(14), vec!["NUMBER_INTEGRE", "NUMBER_INTEGER"]),
        (with("NUMBER_INTEGER", "7"), Some(14), vec!["NUMBER_INTEGER"]),
        (with(number, "          isOptional: maybe\n"), Some(15), vec!["bool"]),
        (with(number, "          isOptional: yes\n"), Some(15), vec!["bool"]),
        (with("[make]", "make"), Some(25), vec!["expected a list"]),
        (with("dag:\n", "dag: 7\n  dga:\n"), Some(17), vec!["map"]),
        // No YAML.
        (with("    tasks", "\ttasks"), Some(18), vec!["tab"]),
        (with("[make]", "[make"), Some(25), vec!["unclosed", "column 25"]),
        (with("[make]", "*make"), Some(25), vec!["unknown anchor"]),
        (with("name: good", "name: \"\\xZZ\""), Some(2), vec!["hexadecimal"]),
        (with("name: good", "name: a\u{0}b"), Some(2), vec!["unexpected character", "u{0}"]),
        // More than one pipeline.
        (format!("{GOOD}---\n{GOOD}"), None, vec!["`pipelineInfo` does not belong into the second document"]),
        (
            format!("{GOOD}platforms: {{}}\n"),
            None,
            vec!["`platforms` does not belong into", "a document of their own"],
        ),
        (format!("{GOOD}platform_spec: {{}}\n"), None, vec!["`platform_spec` does not belong into"]),
        (
            format!("{GOOD}---\nplatforms: {{}}\nroot: {{dag: {{}}}}\n"),
            None,
            vec!["`root` does not belong into the second"],
        ),
        (
            request(json!({"pipelineInfo": {"name": "b"}})),
            None,
            vec!["`pipelineInfo` does not belong into a request"],
        ),
        (request(json!({"other": 1})), None, vec!["`other` does not belong into a request"]),
        (
            request(
                json!({"pipeline_spec": {"pipelineInfo": {"name": "b"}, "root": {"dag": {}}, "platforms": {}}}),
            ),
            None,
            vec!["`platforms` does not belong into the pipeline"],
        ),
        (
            request(json!({
                "pipeline_spec": {"pipelineInfo": {"name": "b"}, "root": {"dag": {}}},
                "platform_spec": {"platforms": {}, "deploymentSpec": {}},
            })),
            None,
            vec!["`deploymentSpec` does not belong into what is for platforms"],
        ),
        (format!("{GOOD}---\nplatforms: {{}}\n---\nplatforms: {{}}\n"), None, vec!["at most one document"]),
        // Text that is not what it seems.
        ("null\n".to_owned(), None, vec!["empty"]),
        ("[]\n".to_owned(), Some(1), vec!["map"]),
        ("\"pipelineInfo\"\n".to_owned(), Some(1), vec!["map"]),
        ("PK\u{3}\u{4}\n".to_owned(), Some(1), vec!["unexpected character"]),
        ("<html></html>\n".to_owned(), Some(1), vec!["map"]),
        // More than it seems.
        (nested_components(12, 10), None, vec!["comp-6", "1111110 tasks", "at most 1000000", "loop"]),
        (nested_components(150, 1), None, vec!["comp-49", "more than 100 deep"]),
    ]
}

fn request(more: Json) -> String {
    let mut request = json!({"pipeline_spec": {"pipelineInfo": {"name": "a"}, "root": {"dag": {}}}});
    for (name, value) in more.as_object().into_iter().flatten() {
        request[name] = value.clone();
    }
    request.to_string()
}

/// Components that hold one another: each level so many tasks of the next.
fn nested_components(levels: usize, tasks: usize) -> String {
    let mut components = json!({format!("comp-{levels}"): {"executorLabel": "exec"}});
    for level in 0..levels {
        let task = json!({"componentRef": {"name": format!("comp-{}", level + 1)}});
        let all: serde_json::Map<_, _> = (0..tasks).map(|n| (format!("t{n}"), task.clone())).collect();
        components[format!("comp-{level}")] = json!({"dag": {"tasks": all}});
    }
    json!({
        "pipelineInfo": {"name": "nested"},
        "deploymentSpec": {"executors": {"exec": {"container": {"image": "alpine"}}}},
        "components": components,
        "root": {"dag": {"tasks": {"first": {"componentRef": {"name": "comp-0"}}}}},
    })
    .to_string()
}

pub(super) async fn table() -> Done {
    let mut problems = Vec::new();
    Pipeline::from_yaml(GOOD, Components::new())?;
    for (text, line, words) in refused() {
        let began = Instant::now();
        let shown: String = text.chars().take(2_000).collect();
        let error = match Pipeline::from_yaml(&text, Components::new()) {
            Err(error) => error,
            Ok(_) => {
                problems.push(format!("{words:?}: not refused:\n{shown}"));
                continue;
            }
        };
        let found = match &error {
            Error::File { line, .. } | Error::Plan { line, .. } => *line,
            other => return Err(format!("{other}").into()),
        };
        let message = error.to_string();
        let missing: Vec<_> = words.iter().filter(|word| !message.contains(**word)).collect();
        if !missing.is_empty()
            || found != line
            || message.len() > 2_000
            || began.elapsed() > Duration::from_secs(5)
        {
            problems.push(format!(
                "line {found:?}, expected {line:?}; lacks {missing:?}; {:?}: {message}",
                began.elapsed()
            ));
        }
    }
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
    Ok(())
}

/// What looks odd and is a pipeline: it says the same as without.
pub(super) async fn accepted() -> Done {
    let plain = PipelineFile::from_yaml(GOOD)?;
    let json = json!(plain.pipeline_spec);
    let same = [
        ("a byte order mark", format!("\u{FEFF}{GOOD}")),
        ("lines as on Windows", GOOD.replace('\n', "\r\n")),
        ("a directive and an end", format!("%YAML 1.2\n---\n{GOOD}...\n")),
        ("JSON", json.to_string()),
        ("pretty JSON with tabs", serde_json::to_string_pretty(&json)?.replace("  ", "\t")),
        (
            "an anchor and its alias",
            GOOD.replace("[make]", "&before [make]").replace("name: good", "name: &n good"),
        ),
        ("a tag that changes nothing", GOOD.replace("name: good", "name: !!str good")),
        ("empty documents before", format!("---\n---\n{GOOD}")),
        (
            "a merge key",
            GOOD.replace(
                "      use:\n        componentRef:\n          name: comp-make\n",
                "      use:\n        <<: *ref\n",
            )
            .replace("      make:\n", "      make: &ref\n"),
        ),
        ("comments", GOOD.replace("      use:", "# one\n      use: # two")),
    ];
    for (what, text) in same {
        let file = PipelineFile::from_yaml(&text).map_err(|error| format!("{what}: {error}"))?;
        assert_eq!(file, plain, "{what}");
    }
    let long = "x".repeat(10_000);
    for (what, text) in [
        ("a long description", GOOD.replace("name: good", &format!("name: good\n  description: {long}"))),
        (
            "numbers that no double holds",
            format!("{GOOD}big: [9007199254740993, -9007199254740993, 18446744073709551615]\n"),
        ),
        ("what no version knows", format!("{GOOD}later: {{a: [1, 2.5, null, 'x']}}\n")),
    ] {
        let file = PipelineFile::from_yaml(&text).map_err(|error| format!("{what}: {error}"))?;
        assert_eq!(PipelineFile::from_yaml(file.to_yaml()?)?, file, "{what}");
        Pipeline::from_yaml(&text, Components::new()).map_err(|error| format!("{what}: {error}"))?;
    }
    let big = PipelineFile::from_yaml(format!("{GOOD}big: 9007199254740993\n"))?;
    assert_eq!(big.pipeline_spec.extra["big"], json!(9_007_199_254_740_993_i64));
    Ok(())
}
