//! The artifacts of a run, each once, with a number.

use std::collections::HashMap;

use kf_core::artifact::{ArtifactRef, Metadata};
use kf_core::{Digest, artifact::ArtifactKind as _, artifact::Html};

use crate::report::Report;

/// What makes two artifacts the same: kind, place, content, metadata.
type Key<'r> = (&'r str, &'r str, Option<Digest>, String);

pub(super) struct Artifacts<'r> {
    numbers: HashMap<Key<'r>, usize>,
    pub(super) list: Vec<&'r ArtifactRef>,
}

impl<'r> Artifacts<'r> {
    pub(super) fn of(report: &'r Report) -> Self {
        let mut artifacts = Self { numbers: HashMap::new(), list: Vec::new() };
        for task in &report.tasks {
            for io in task.input_artifacts.iter().chain(&task.output_artifacts) {
                let next = artifacts.list.len();
                let number = *artifacts.numbers.entry(key(&io.artifact)).or_insert(next);
                if number == next {
                    artifacts.list.push(&io.artifact);
                }
            }
        }
        artifacts
    }

    pub(super) fn number(&self, artifact: &ArtifactRef) -> Option<usize> {
        self.numbers.get(&key(artifact)).copied()
    }

    /// Whether a page of one is shown.
    pub(super) fn any_page(&self, report: &Report) -> bool {
        self.list.iter().any(|artifact| {
            artifact.schema_title == Html::SCHEMA_TITLE
                && artifact.digest.is_some_and(|digest| report.contents.contains_key(&digest))
        })
    }
}

fn key(artifact: &ArtifactRef) -> Key<'_> {
    (&artifact.schema_title, &artifact.uri, artifact.digest, text(&artifact.metadata))
}

fn text(metadata: &Metadata) -> String {
    if metadata.is_empty() { String::new() } else { serde_json::to_string(metadata).unwrap_or_default() }
}
