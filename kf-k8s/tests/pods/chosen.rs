//! Which of the tests are run: `KF_PODS` says it.

use std::sync::Arc;

use kube::Client;
use libtest_mimic::Trial;
use tokio::runtime::Runtime;

use super::{
    conformance, elastic, faults, functions, gangs, jobs, manifests, reasons, rights, strict, suspended,
    tasks, trouble, workflows,
};

const VARIABLE: &str = "KF_PODS";

/// Which of the tests are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chosen {
    /// What any cluster may be used for.
    All,
    /// `older`: what the definitions of Trainer, JobSet and the training operator have to do with, on a cluster that has
    /// old ones.
    Older,
    /// `restarts`: those that end the API server of a cluster that nobody else uses, and start it again.
    Restarts,
}

impl Chosen {
    /// None where they are to be run later.
    pub(crate) fn of_environment() -> Result<Option<Self>, String> {
        match std::env::var(VARIABLE).unwrap_or_default().as_str() {
            "" => Ok(Some(Self::All)),
            "later" => Ok(None),
            "older" => Ok(Some(Self::Older)),
            "restarts" => Ok(Some(Self::Restarts)),
            other => Err(format!("{VARIABLE} is `{other}`; it may be later, older or restarts, or unset")),
        }
    }

    pub(crate) fn trials(self, runtime: &Arc<Runtime>, client: &Client) -> Vec<Trial> {
        let all = [
            conformance::trials,
            elastic::trials,
            faults::trials,
            functions::trials,
            gangs::trials,
            jobs::trials,
            manifests::trials,
            reasons::trials,
            rights::trials,
            strict::trials,
            suspended::trials,
            tasks::trials,
            trouble::trials,
            workflows::trials,
        ];
        let defined = [conformance::trials, jobs::trials, strict::trials, suspended::trials];
        match self {
            Self::All => all.into_iter().flat_map(|of| of(runtime, client)).collect(),
            Self::Older => {
                let mut trials: Vec<_> = defined.into_iter().flat_map(|of| of(runtime, client)).collect();
                let kinds = ["trainjobs", "jobsets", "pytorchjobs", "strict::"];
                trials.retain(|trial| kinds.iter().any(|kind| trial.name().contains(kind)));
                trials
            }
            Self::Restarts => faults::restarts::trials(runtime, client),
        }
    }
}

/// Tells what a judge says: of a cluster that is not like others under a name of its own.
pub(crate) fn judge(name: &str, told: &str) {
    match Chosen::of_environment() {
        Ok(Some(Chosen::Older)) => println!("JUDGE older-{name} {told}"),
        Ok(Some(Chosen::Restarts)) if name != "kubernetes" => {}
        Ok(Some(Chosen::Restarts)) => println!("JUDGE restarts {told}"),
        _ => println!("JUDGE {name} {told}"),
    }
}
