//! What is to be run for which partitions.

use kf_core::Timestamp;
use serde_json::Value as Json;

use crate::{Args, Error, Partition, Partitions, Pipeline, Result};

/// How many partitions run at once where not said, and at most.
const AT_ONCE: usize = 4;
const MOST_AT_ONCE: usize = 1024;

/// A pipeline's runs over [`Partitions`]: one run for each, which gets its partition's key as an argument. What was done
/// belongs to the pipeline's name, the parameters' names and the [arguments](Self::args): with others, all partitions
/// are missing again.
#[derive(Clone, Debug)]
pub struct Backfill {
    pub(super) partitions: Partitions,
    pub(super) key: String,
    pub(super) start: Option<String>,
    pub(super) end: Option<String>,
    pub(super) args: Args,
    pub(super) at_once: usize,
    pub(super) retries: u32,
    pub(super) rerun_before: Option<Timestamp>,
    pub(super) no_cache: bool,
}

impl Backfill {
    /// The pipeline's runs over these partitions; its parameter of this name, a text, takes the key.
    pub fn new(partitions: Partitions, parameter: impl Into<String>) -> Self {
        Self {
            partitions,
            key: parameter.into(),
            start: None,
            end: None,
            args: Args::new(),
            at_once: AT_ONCE,
            retries: 0,
            rerun_before: None,
            no_cache: false,
        }
    }

    /// Gives the partition's beginning and end, as texts of RFC 3339 in UTC, to the parameters of these names.
    #[must_use]
    pub fn times(mut self, start: impl Into<String>, end: impl Into<String>) -> Self {
        (self.start, self.end) = (Some(start.into()), Some(end.into()));
        self
    }

    /// The arguments that all partitions have in common.
    #[must_use]
    pub fn args(mut self, args: Args) -> Self {
        self.args = args;
        self
    }

    /// How many partitions run at once, up to 1,024; 4 where not given.
    #[must_use]
    pub fn at_once(mut self, partitions: usize) -> Self {
        self.at_once = partitions.clamp(1, MOST_AT_ONCE);
        self
    }

    /// How often in one call a partition is run again whose run failed; 0 where not given. A later call runs it again in
    /// any case.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Runs partitions again that succeeded before this time: all of them with [`Timestamp::now`]. Where a backfill with
    /// the same time was killed, the next goes on with it and doesn't begin anew.
    #[must_use]
    pub fn rerun_succeeded(mut self, before: Timestamp) -> Self {
        self.rerun_before = Some(before);
        self
    }

    /// Runs every task, whatever was run before.
    #[must_use]
    pub fn no_cache(mut self) -> Self {
        self.no_cache = true;
        self
    }

    /// The partitions.
    pub fn partitions(&self) -> &Partitions {
        &self.partitions
    }

    /// The arguments of a partition's run.
    pub(super) fn args_of(&self, partition: &Partition) -> Args {
        let mut args = self.args.clone().with(&self.key, partition.key());
        for (name, time) in [(&self.start, partition.start()), (&self.end, partition.end())] {
            if let (Some(name), Some(time)) = (name, time) {
                args = args.with(name, &time.to_string());
            }
        }
        args
    }

    /// Whether the pipeline takes what every partition would give it.
    pub(super) fn check(&self, pipeline: &Pipeline) -> Result<()> {
        let names: Vec<&String> =
            [Some(&self.key), self.start.as_ref(), self.end.as_ref()].into_iter().flatten().collect();
        let given = self.args.values()?;
        for (at, name) in names.iter().enumerate() {
            let refuse =
                |problem: &str| Err(Error::Argument { name: (*name).clone(), problem: problem.to_owned() });
            if given.contains_key(*name) {
                return refuse("it comes from the partition; leave it out of the arguments");
            }
            if names[..at].contains(name) {
                return refuse("the partition's key, beginning and end go to parameters of their own");
            }
        }
        if let Some(name) = &self.start
            && self.partitions.iter().any(|partition| partition.start().is_none())
        {
            let problem =
                "the partitions have no times; use partitions by time, or leave `times` out".to_owned();
            return Err(Error::Argument { name: name.clone(), problem });
        }
        for partition in &self.partitions {
            let args = self.args_of(partition);
            pipeline.arguments(&args)?;
            pipeline.plan().artifact_arguments(&args)?;
        }
        Ok(())
    }

    /// What tells this backfill's runs from those of others, but for the partition.
    pub(super) fn identity(&self, pipeline: &Pipeline) -> Result<String> {
        let args: Vec<_> = self.args.values()?.iter().map(|(name, value)| (name, sorted(value))).collect();
        // Moved partitions have the same keys and other times.
        let moved =
            [&self.start, &self.end].iter().any(|name| name.is_some()).then(|| self.partitions.offset());
        let all = (pipeline.name(), &self.key, &self.start, &self.end, args, self.args.artifacts(), moved);
        Ok(serde_json::to_string(&all).expect("arguments are JSON"))
    }
}

/// The same value in the one order that does not depend on how a map was walked.
fn sorted(value: &Json) -> Json {
    match value {
        Json::Object(map) => {
            let mut fields: Vec<_> = map.iter().map(|(name, value)| (name.clone(), sorted(value))).collect();
            fields.sort_by(|a, b| a.0.cmp(&b.0));
            Json::Object(fields.into_iter().collect())
        }
        Json::Array(items) => Json::Array(items.iter().map(sorted).collect()),
        plain => plain.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moved_partitions_are_others_where_their_times_are_given() {
        let pipeline = Pipeline::build("sales", |p| {
            for name in ["day", "from", "until"] {
                p.required_param::<String>(name);
            }
        });
        let pipeline = pipeline.unwrap();
        let days = || Partitions::daily("2026-01-01", "2026-02-01").unwrap();
        let of = |partitions, times: bool| {
            let backfill = Backfill::new(partitions, "day");
            let backfill = if times { backfill.times("from", "until") } else { backfill };
            backfill.identity(&pipeline).unwrap()
        };
        let moved = || days().offset_minutes(300).unwrap();
        assert_ne!(of(days(), true), of(moved(), true));
        assert_eq!(of(days(), false), of(moved(), false));
        let longer = Partitions::daily("2026-01-01", "2026-03-01").unwrap();
        assert_eq!(of(days(), true), of(longer, true));
    }
}
