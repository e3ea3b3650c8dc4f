//! Judges what engines did: by the witness's lines, and by what is committed and reported.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use kf_core::RunId;
use kf_core::artifact::ArtifactStore;
use kf_core::metadata::{Io, MetadataStore, RunState};
use kf_pipeline::TaskState;
use kf_pipeline::report::{Report, TaskReport};
use serde_json::Value as Json;

use super::phase::{Phase, is_apart, name, phases};
use super::pipeline::{QUESTIONS, WHOLE};
use super::witness::Line;

type Failure = Box<dyn std::error::Error>;

/// What a run's journal says.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Committed {
    /// Ends by task: how many there are of each.
    pub(crate) ends: BTreeMap<String, usize>,
    failed_attempts: BTreeMap<String, u32>,
    /// How often each task asked.
    asked: BTreeMap<String, usize>,
}

impl Committed {
    pub(crate) async fn read(store: &dyn MetadataStore, run: &RunId) -> Result<Self, Failure> {
        let mut committed = Self::default();
        for entry in store.journal(run, 0, 10_000).await? {
            for event in serde_json::from_str::<Vec<Json>>(&entry.events)? {
                let Some(task) = event["task"].as_str().map(str::to_owned) else { continue };
                match event["event"].as_str() {
                    Some("task" | "group") => *committed.ends.entry(task).or_default() += 1,
                    Some("attempt_failed") => *committed.failed_attempts.entry(task).or_default() += 1,
                    Some("asked") => *committed.asked.entry(task).or_default() += 1,
                    other => return Err(format!("an event of an unknown kind: {other:?}").into()),
                }
            }
        }
        Ok(committed)
    }

    pub(crate) fn each_once(&self) {
        assert!(self.ends.values().chain(self.asked.values()).all(|times| *times == 1), "{self:?}");
    }
}

/// Compares what a process did with what was committed when it began: nothing of that ran again, and each attempt has the
/// number that follows from it.
pub(crate) fn check(run: &RunId, lines: &[Line], before: &Committed) {
    let mut last = BTreeMap::new();
    for line in lines.iter().filter(|line| line.word == "start") {
        assert!(!before.ends.contains_key(&line.task), "{run}: `{}` was committed and ran again", line.task);
        assert_eq!(line.key, format!("{run}/{}", line.task), "the key of an attempt");
        let failed = before.failed_attempts.get(&line.task).copied().unwrap_or_default();
        let last = last.entry(&line.task).or_insert(failed);
        assert_eq!(line.attempt, *last + 1, "{run}: an attempt at `{}`", line.task);
        *last = line.attempt;
    }
}

/// Judges one run over the lives of all of its engines.
pub(super) struct Judge {
    run: RunId,
    committed: Committed,
    /// Items that were saved, by the home whose engine saved them.
    saved: BTreeMap<PathBuf, BTreeSet<(String, String)>>,
    /// Who decided, where that was said to be committed, and who tried to.
    decided: BTreeMap<String, String>,
    decisions: BTreeSet<(String, String)>,
    /// Tasks that have come to their end.
    ended: BTreeSet<String>,
}

impl Judge {
    pub(super) fn new(run: RunId) -> Self {
        Self {
            run,
            committed: Committed::default(),
            saved: BTreeMap::new(),
            decided: BTreeMap::new(),
            decisions: BTreeSet::new(),
            ended: BTreeSet::new(),
        }
    }

    /// The tasks whose ends are committed.
    pub(super) fn ends(&self) -> &BTreeMap<String, usize> {
        &self.committed.ends
    }

    /// What an engine did that lived as process `pid`, what was committed when it was over, and the phases it was in then.
    pub(super) fn life(
        &mut self,
        pid: u32,
        home: &Path,
        lines: &[Line],
        now: Committed,
    ) -> Result<BTreeSet<Phase>, Failure> {
        check(&self.run, lines, &self.committed);
        let before = std::mem::replace(&mut self.committed, now);
        let lost = before.ends.keys().find(|task| !self.committed.ends.contains_key(*task));
        assert_eq!(lost, None, "{}: its end is lost", self.run);
        let saved = self.saved.entry(home.to_owned()).or_default();
        for line in lines {
            let of = |what: &str| (line.task.clone(), what.to_owned());
            match line.word.as_str() {
                "start" => {
                    assert_eq!(line.pid != pid, is_apart(&line.task), "whose process is {line:?}");
                }
                "end" => drop(self.ended.insert(line.task.clone())),
                "did" => {
                    assert!(!saved.contains(&of(&line.key)), "{}: saved and done again: {line:?}", self.run);
                }
                "saved" => drop(saved.insert(of(&line.key))),
                "asked" | "decide" => {
                    let over = before.ends.contains_key(&line.task) || self.decided.contains_key(&line.task);
                    assert!(!over, "{}: decided and asked again: {line:?}", self.run);
                    if line.word == "decide" {
                        self.decisions.insert(of(&line.key));
                    }
                }
                "decided" => drop(self.decided.insert(line.task.clone(), line.key.clone())),
                _ => {}
            }
        }
        let lost = self.decided.keys().find(|task| !self.committed.ends.contains_key(*task));
        assert_eq!(lost, None, "{}: its decision is lost", self.run);
        let ended = self.committed.ends.keys().cloned().collect();
        Ok(phases(lines, &ended))
    }

    /// Judges the run's end, and gives what became of its tasks.
    pub(super) async fn end(
        &self,
        report: &Report,
        store: &ArtifactStore,
    ) -> Result<BTreeMap<String, String>, Failure> {
        self.committed.each_once();
        assert_eq!(report.run.state, RunState::Succeeded, "{}: {:?}", self.run, report.run.error);
        assert_eq!(self.committed.asked.len(), QUESTIONS, "{:?}", self.committed.asked);
        for task in &report.tasks {
            if self.committed.asked.contains_key(&task.path) {
                let by = task.output::<String>("by")?;
                assert!(self.decisions.contains(&(task.path.clone(), by.clone())), "{by} decided nothing");
                assert!(
                    self.decided.get(&task.path).is_none_or(|decided| *decided == by),
                    "not {by} decided"
                );
            } else if task.state == TaskState::Succeeded
                && task.attempts > 0
                && name(&task.path) != "importer"
            {
                assert!(self.ended.contains(&task.path), "{}: `{}` never ran", self.run, task.path);
            }
        }
        content(report, store).await?;
        Ok(summary(report))
    }
}

/// Reads every artifact, and compares what comes out at the end with what has to.
async fn content(report: &Report, store: &ArtifactStore) -> Result<(), Failure> {
    for io in report.tasks.iter().flat_map(|task| &task.output_artifacts) {
        store.verify(&io.artifact.digest.ok_or("an output without digest")?).await?;
    }
    let whole = report.tasks.iter().find(|task| name(&task.path) == "whole").ok_or("no task `whole`")?;
    let digest =
        whole.output_artifact("out").and_then(|artifact| artifact.digest).ok_or("it gave nothing")?;
    let folder = store.fetch(&digest).await?;
    assert_eq!(std::fs::read_dir(&folder)?.count(), WHOLE.len());
    for (file, text) in WHOLE {
        assert_eq!(std::fs::read_to_string(folder.join(file))?, text, "{file}");
    }
    Ok(())
}

/// Compares what became of the tasks of two runs.
pub(crate) fn same(run: &RunId, found: &BTreeMap<String, String>, expected: &BTreeMap<String, String>) {
    let tasks: BTreeSet<&String> = found.keys().chain(expected.keys()).collect();
    for task in tasks {
        assert_eq!(found.get(task), expected.get(task), "{run}: what became of `{task}`");
    }
}

/// What became of each task, without times, and without what differs from run to run.
pub(crate) fn summary(report: &Report) -> BTreeMap<String, String> {
    let mut tasks = BTreeMap::new();
    for task in &report.tasks {
        assert_eq!(tasks.insert(task.path.clone(), of_task(task)), None, "`{}` is reported twice", task.path);
    }
    tasks
}

fn of_task(task: &TaskReport) -> String {
    let digests = |list: &[Io]| -> Vec<String> {
        list.iter().map(|io| format!("{}[{}] {:?}", io.port, io.index, io.artifact.digest)).collect()
    };
    let (mut inputs, mut outputs) = (task.inputs.clone(), task.outputs.clone());
    // A status names its run; what its task gives has the rest.
    inputs.retain(|name, _| !["at", "by", "status"].contains(&name.as_str()));
    outputs.remove("by");
    format!(
        "{} {} {:?} {} {inputs:?} {outputs:?} {:?} {:?}",
        task.state,
        task.attempts,
        task.error,
        task.failed_attempts.len(),
        digests(&task.input_artifacts),
        digests(&task.output_artifacts),
    )
}
