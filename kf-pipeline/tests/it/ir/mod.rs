//! Pipeline files of Kubeflow Pipelines: read, written, refused.

mod files;
mod hostile;
mod runs;

use std::path::PathBuf;

use kf_pipeline::spec::PipelineFile;
use kf_pipeline::{Error, Plan};
use libtest_mimic::Trial;
use serde_json::Value as Json;

use crate::{Done, test};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("every_upstream_file_is_read_and_written_without_loss", every_file),
        test("every_upstream_file_is_checked", every_plan),
        test("every_upstream_file_that_can_run_here_ends_as_it_should", every_run),
        test("what_no_upstream_file_has_is_kept_too", rare_fields),
        test("files_that_are_none_are_refused_in_words", refused),
        test("files_made_to_hurt_are_refused_soon", hostile),
        test("what_is_wrong_in_a_file_is_said_with_its_place", hostile::table),
        test("what_looks_odd_and_is_in_order_is_taken", hostile::accepted),
    ]
}

/// Upstream's compiled pipelines by name; none where they are not at hand, which is said.
fn upstream() -> Option<Vec<(String, PathBuf)>> {
    let folder = std::env::var_os("KF_CONFORMANCE").map(|folder| PathBuf::from(folder).join("kfp"));
    let Some(folder) = folder.filter(|folder| folder.is_dir()) else {
        println!("JUDGE kfp-files skipped: KF_CONFORMANCE names no folder with kfp/ in it");
        return None;
    };
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| (path.file_name().unwrap_or_default().to_string_lossy().into_owned(), path))
        .collect();
    files.sort();
    Some(files)
}

async fn every_run() -> Done {
    match runs::folder() {
        Some(folder) => runs::every_run(&folder).await,
        None => Ok(()),
    }
}

async fn every_file() -> Done {
    let Some(files) = upstream() else { return Ok(()) };
    let (mut read, mut problems) = (0, Vec::new());
    for (name, path) in &files {
        let text = std::fs::read(path)?;
        let file = PipelineFile::from_yaml(&text);
        if name.starts_with("invalid__") {
            match file.and_then(|file| Plan::new(&file)) {
                Err(Error::File { .. } | Error::Plan { .. }) => read += 1,
                other => problems.push(format!("{name}: expected a refusal, found {other:?}")),
            }
            continue;
        }
        match file.map_err(|error| error.to_string()).and_then(|file| round(&file, &text)) {
            Ok(()) => read += 1,
            Err(problem) => problems.push(format!("{name}: {problem}")),
        }
    }
    println!("{read} of {} files", files.len());
    match problems.as_slice() {
        [] => println!("JUDGE kfp-files passed"),
        _ => println!("JUDGE kfp-files failed: {} of {}", problems.len(), files.len()),
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    Ok(())
}

async fn every_plan() -> Done {
    let Some(files) = upstream() else { return Ok(()) };
    let mut problems = Vec::new();
    for (name, path) in files.iter().filter(|(name, _)| !name.starts_with("invalid__")) {
        if let Err(error) = PipelineFile::from_yaml(std::fs::read(path)?).and_then(|file| Plan::new(&file)) {
            problems.push(format!("{name}: {error}"));
        }
    }
    assert!(problems.is_empty(), "{} of {}:\n{}", problems.len(), files.len(), problems.join("\n"));
    Ok(())
}

/// Written and read again it is the same, and nothing that the text says is missing.
fn round(file: &PipelineFile, text: &[u8]) -> Result<(), String> {
    let written = file.to_yaml().map_err(|error| error.to_string())?;
    let again = PipelineFile::from_yaml(&written).map_err(|error| format!("{error} in\n{written}"))?;
    if again != *file {
        return Err(format!("is another when written and read again:\n{written}"));
    }
    let documents: Vec<Json> =
        serde_saphyr::from_slice_multiple(text).map_err(|error| format!("as plain YAML: {error}"))?;
    let ours = [serde_json::json!(file.pipeline_spec), serde_json::json!(file.platform_spec)];
    for (theirs, ours) in documents.iter().zip(&ours) {
        files::same("", theirs, ours)?;
    }
    Ok(())
}

async fn rare_fields() -> Done {
    let text = files::RARE;
    let file = PipelineFile::from_yaml(text)?;
    round(&file, text.as_bytes())?;
    let json = serde_json::json!({"pipeline_spec": file.pipeline_spec, "platform_spec": file.platform_spec});
    assert_eq!(PipelineFile::from_yaml(json.to_string())?, file, "as a request's JSON");
    Ok(())
}

async fn refused() -> Done {
    let good = "pipelineInfo:\n  name: a\nroot:\n  dag:\n    tasks: {}\n";
    Plan::new(&PipelineFile::from_yaml(good)?)?;
    let cases: Vec<(Vec<u8>, Option<u64>, &str)> = vec![
        (b"".to_vec(), None, "empty"),
        (b"# only a comment\n".to_vec(), None, "empty"),
        (b"- a\n- b\n".to_vec(), Some(1), "map"),
        (b"pipelineInfo:\n  name: a\n".to_vec(), None, "no `root`"),
        (b"root:\n  dag: {}\n".to_vec(), None, "no `pipelineInfo`"),
        (b"pipelineInfo: {}\nroot: {dag: {}}\n".to_vec(), Some(1), "name"),
        (b"pipelineInfo:\n  name: a\n  name: b\nroot: {}\n".to_vec(), Some(3), "duplicate"),
        (
            good.replace("tasks: {}", "tasks: {a: {componentRef: {name: b}}, a: 1}").into_bytes(),
            Some(5),
            "duplicate",
        ),
        (good.replace("tasks: {}", "tasks: 7").into_bytes(), Some(5), "map"),
        (good.replace("tasks: {}", "tasks: {").into_bytes(), Some(5), "unclosed"),
        (b"pipelineInfo:\n  name: \xff\n".to_vec(), Some(2), "UTF-8"),
        (format!("{good}---\n{good}").into_bytes(), None, "platforms"),
        (format!("{good}---\nplatforms: {{}}\n---\na: b\n").into_bytes(), None, "at most one"),
        (b"platforms: {}\n".to_vec(), None, "first document"),
        (good.replace("  name: a", "  name: &a [*a]").into_bytes(), Some(2), ""),
    ];
    for (text, line, word) in cases {
        let shown = String::from_utf8_lossy(&text).into_owned();
        match PipelineFile::from_yaml(&text) {
            Err(Error::File { line: found, problem }) => {
                assert_eq!(found, line, "{shown}\n{problem}");
                assert!(problem.contains(word), "{shown}\n{problem}");
            }
            other => panic!("{shown}\n{other:?}"),
        }
    }
    Ok(())
}

async fn hostile() -> Done {
    let good = |metadata: &str| format!("pipelineInfo:\n  name: a\nroot:\n  dag: {{}}\nx: {metadata}\n");
    let mut bomb = "pipelineInfo: {name: a}\nroot: {dag: {}}\na0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..12 {
        let last = format!("*a{},", level - 1).repeat(10);
        bomb.push_str(&format!("a{level}: &a{level} [{last}]\n"));
    }
    let cases = [
        ("deep lists", good(&"[".repeat(100_000))),
        ("deep lists, closed", good(&format!("{}{}", "[".repeat(5_000), "]".repeat(5_000)))),
        ("deep maps", good(&format!("{}1{}", "{a: ".repeat(5_000), "}".repeat(5_000)))),
        ("deep blocks", (0..3_000).map(|level| format!("{}a:\n", " ".repeat(level))).collect()),
        ("aliases", bomb),
        ("size", good(&format!("'{}'", "x".repeat(100 << 20)))),
        ("nodes", good(&format!("[{}]", "1,".repeat(2_100_000)))),
        ("documents", "---\na: b\n".repeat(100_000)),
    ];
    for (name, text) in cases {
        let began = std::time::Instant::now();
        // As small a stack as a program may read on.
        let reading = std::thread::Builder::new().stack_size(1 << 20);
        let reading = reading.spawn(move || PipelineFile::from_yaml(text))?;
        let error = reading.join().expect("no panic").expect_err(name);
        let took = began.elapsed();
        assert!(matches!(error, Error::File { .. }), "{name}: {error}");
        assert!(error.to_string().len() < 2_000, "{name}: a message of {} bytes", error.to_string().len());
        assert!(took.as_secs() < 60, "{name}: {took:?}");
        let words = match name {
            "aliases" => "aliases stand for more than",
            "size" => "are read",
            "nodes" => "more than 2000000",
            "documents" => "at most one document for platforms",
            _ => "more than 64 deep",
        };
        assert!(error.to_string().contains(words), "{name}: {error}");
        println!("{name}: {error} ({took:?})");
    }
    Ok(())
}
