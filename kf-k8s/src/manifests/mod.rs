//! What a platform team applies once for a namespace that programs of this project work in: its rules for pods, service
//! accounts, what they may do, and whom pods may talk to.
//!
//! ```
//! use kf_k8s::manifests::{Endpoint, Options};
//! use kf_k8s::train::Kind;
//!
//! let mut options = Options::new("team-a");
//! options.kinds = vec![Kind::JobSet];
//! options.egress = vec![Endpoint::tcp("10.20.0.7/32", 9000)];
//! let manifests = kf_k8s::manifests(&options)?;
//! print!("{}", manifests.to_yaml()?);
//! # Ok::<(), kf_k8s::manifests::Error>(())
//! ```
//!
//! The YAML is for those who keep such things in a repository; [`Manifests::apply`] does the same from the program, with the
//! rights of whoever sets the namespace up. The program that launches then runs under the first account, and its pods under
//! the second: [`PodOptions::service_account`](crate::train::PodOptions::service_account).
//!
//! # What the accounts may do
//! - **`kf-engine`**, for the program that launches: what its launcher and executor do with the jobs of the chosen kinds, their
//!   pods, logs, events and claims, in this namespace, and nothing else. It reads no secrets and no config maps.
//! - **`kf-task`**, for pods: nothing at all. Its token is not mounted.
//! - **the account that [`Options::workflow`] names**, if any, for pods of Argo's Workflows: to create and patch
//!   `workflowtaskresults`, by which Argo hears what a step gave. Whoever submits workflows needs rights of their own.
//!
//! The border is the namespace: whoever may make pods in it can make one that mounts a secret of it, or that runs under
//! another service account of it. Keep secrets that the engine is not to reach, and accounts with rights, in other namespaces.
//!
//! # Whom pods may talk to
//! Pods with the label `app.kubernetes.io/managed-by: kf`, which all of ours have, take no connections and make none, but for
//! names (port 53 of the pods `k8s-app: kube-dns` in `kube-system`) and the [`Endpoint`]s that the options give. Pods of jobs
//! (label `kf.dev/job`) reach one another besides. A policy can't say "of the same job", so those of other jobs in the
//! namespace are among them. Where names are answered elsewhere, as with a cache on each node, give that as an endpoint.
//!
//! Policies hold where the cluster's network enforces them; some networks don't, and say nothing of it.

mod accounts;
mod apply;
mod cidr;
mod error;
mod network;
mod options;
mod rights;
#[cfg(test)]
mod tests;
mod yaml;

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};

pub use error::Error;
pub use options::{Endpoint, Options, PodSecurity, Protocol};

/// The objects, typed as Kubernetes has them.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Manifests {
    /// The namespace, with the labels by which PodSecurity refuses pods.
    pub namespace: Namespace,
    /// The account of the program that launches.
    pub engine: ServiceAccount,
    /// The account of pods.
    pub task: ServiceAccount,
    /// What the engine's account may do in the namespace.
    pub role: Role,
    /// What gives it to that account.
    pub role_binding: RoleBinding,
    /// The account of pods of Argo's Workflows, where there is to be one.
    pub workflow: Option<WorkflowAccount>,
    /// Whom pods may talk to: `kf-pods` for all of ours, and `kf-jobs` for those of jobs.
    pub network_policies: Vec<NetworkPolicy>,
}

/// The account of pods of Argo's Workflows, and its rights.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct WorkflowAccount {
    /// The account.
    pub account: ServiceAccount,
    /// What it may do in the namespace.
    pub role: Role,
    /// What gives it that.
    pub role_binding: RoleBinding,
}

/// What is to be applied, by these options; nothing is asked and nothing done.
///
/// # Errors
/// [`Error::Option`] for an option that can't be had.
pub fn manifests(options: &Options) -> Result<Manifests, Error> {
    options.check()?;
    let reach = options.reach()?;
    Ok(Manifests {
        namespace: accounts::namespace(options),
        engine: accounts::with_token(options, &options.engine),
        task: accounts::task(options),
        role: rights::role(options),
        role_binding: rights::binding(options, &options.engine),
        workflow: options.workflow.as_deref().map(|name| WorkflowAccount {
            account: accounts::with_token(options, name),
            role: rights::of_workflows(options, name),
            role_binding: rights::binding(options, name),
        }),
        network_policies: network::policies(options, &reach),
    })
}
