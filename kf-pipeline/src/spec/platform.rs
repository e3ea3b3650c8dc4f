//! What KFP has no field for, under the platform `kf`.

use std::time::Duration;

use kf_core::resources::Resources;
use serde::de::Error;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Extra, Named, exact};

type Fields = serde_json::Map<String, Value>;

/// Platforms by name. Only `kf` is read; others are kept as they are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Platforms {
    /// The platforms.
    #[serde(default, deserialize_with = "exact::named")]
    pub platforms: Named<serde_json::Value>,
    /// Fields that this version does not know, kept as they are.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Platforms {
    /// The platform `kf`; an empty one where the file says nothing of it.
    pub(crate) fn kf(&self) -> serde_json::Result<KfPlatform> {
        match self.platforms.get("kf") {
            None => Ok(KfPlatform::default()),
            Some(value) => KfPlatform::deserialize(value),
        }
    }

    /// The platform `kf` without its executors, which it takes out, and these unread: of many, one at a time takes less
    /// room.
    pub(crate) fn take_kf(&mut self) -> serde_json::Result<(KfPlatform, Option<Fields>)> {
        let refused = |problem: &str| serde_json::Error::custom(problem);
        let Some(kf) = self.platforms.remove("kf") else { return Ok((KfPlatform::default(), None)) };
        let Value::Object(mut fields) = kf else { return Err(refused("expected a map")) };
        let executors = fields.remove("executors");
        let platform = KfPlatform::deserialize(Value::Object(fields))?;
        match executors {
            None => Ok((platform, None)),
            Some(Value::Object(executors)) => Ok((platform, Some(executors))),
            Some(_) => Err(refused("`executors`: expected a map")),
        }
    }
}

/// The platform `kf`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KfPlatform {
    /// What it adds to executors, by label.
    pub executors: Named<KfExecutor>,
    /// How many tasks of a run are under way at once; as many as the engine allows where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tasks: Option<u32>,
    /// What it adds to components that are DAGs, by name; `root` is the outermost.
    #[serde(skip_serializing_if = "Named::is_empty")]
    pub components: Named<KfComponent>,
}

/// What the platform `kf` adds to a component that is a DAG.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KfComponent {
    /// What it adds to its tasks, by name.
    #[serde(skip_serializing_if = "Named::is_empty")]
    pub tasks: Named<KfTask>,
    /// How deep it may run, where its tasks, or what is in them, run itself: 1 is itself alone. A component without it never
    /// runs within itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_depth: Option<u32>,
}

/// What the platform `kf` adds to a task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KfTask {
    /// Of a loop: how many of its iterations must succeed for it to succeed; all where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_success: Option<KfMinSuccess>,
    /// Of a loop: the name of a further output, the list of its failed iterations, each with `iteration` (from 0), `item`
    /// and `error`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failures: Option<String>,
    /// The task of the same DAG that runs where this one has failed, and stands for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
}

/// How many iterations of a loop must succeed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum KfMinSuccess {
    /// So many; all where there are fewer.
    Count(u64),
    /// This share of all, 0 to 1.
    Ratio(f64),
}

/// A step that waits for a person.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KfApproval {
    /// What is asked, with placeholders of the task's inputs.
    pub message: String,
}

/// What the platform `kf` adds to an executor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KfExecutor {
    /// The name of the `#[component]` that it runs.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub component: String,
    /// The module that declares it, such as `quickstart::steps`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub module: String,
    /// The version that stands for the component's code in cache keys; the program's digest where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// How old an execution may be that stands for a task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_ttl: Option<Duration>,
    /// Which of the engine's executors carries it: `in-process` where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub executor: Option<String>,
    /// How long an attempt may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// The largest share of a wait between attempts that is left out at random, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff_jitter: Option<f64>,
    /// What it needs.
    pub resources: Resources,
    /// Mutexes and semaphores that its attempts hold, by name, with placeholders of the task's inputs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub locks: Vec<String>,
    /// Where it runs nothing and waits for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval: Option<KfApproval>,
}
