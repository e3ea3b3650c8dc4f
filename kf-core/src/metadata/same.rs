//! Whether a run that is asked for is the one that is there.

use super::{Created, NewRun, RunRecord};
use crate::{Error, Result};

/// What creating `run` is where `found` is there already.
///
/// # Errors
/// [`Error::Conflict`] where they differ in more than when they were asked for.
pub(super) fn same_run(found: RunRecord, run: &NewRun) -> Result<Created> {
    let difference = if found.pipeline != run.pipeline {
        format!("it is of pipeline `{}`, not `{}`", found.pipeline, run.pipeline)
    } else if found.spec_digest != run.spec_digest {
        format!("its pipeline was {}, and now is {}", found.spec_digest, run.spec_digest)
    } else if !same_json(&found.args, &run.args) {
        format!("its arguments are {}, not {}", found.args, run.args)
    } else {
        return Ok(Created::Existing(Box::new(found)));
    };
    Err(Error::Conflict { what: "run", name: run.id.to_string(), difference })
}

fn same_json(a: &str, b: &str) -> bool {
    let parse = |text| serde_json::from_str::<serde_json::Value>(text).ok();
    a == b || parse(a).is_some_and(|a| Some(a) == parse(b))
}
