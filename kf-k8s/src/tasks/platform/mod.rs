//! What KFP pipelines ask of the platform `kubernetes`, as changes to a pod.
//!
//! `kfp-kubernetes` compiles its calls to a second YAML document with an entry for each executor.
//! [`KubernetesConfig::read`] reads such an entry, and [`KubernetesConfig::apply`] makes a pod so. The tasks whose images are
//! `argostub/createpvc` and `argostub/deletepvc` have no pod: [`ClaimTask::of`] says what they do.
//!
//! Nothing here talks to a cluster. What upstream's driver builds is built here too; where it drops what was asked for, or
//! lets the cluster refuse the pod, there is an error with the place, or a name that fits.
//!
//! ```
//! use k8s_openapi::api::core::v1::{Container, PodSpec, PodTemplateSpec};
//! use kf_k8s::tasks::platform::{KubernetesConfig, Source};
//! use serde_json::json;
//!
//! let entry = json!({
//!     "secretAsEnv": [{
//!         "secretNameParameter": {"componentInputParameter": "login"},
//!         "keyToEnv": [{"secretKey": "password", "envVar": "PASSWORD"}],
//!     }],
//! });
//! let config = KubernetesConfig::read(entry.as_object().unwrap())?;
//!
//! let main = Container { name: "main".into(), ..Default::default() };
//! let spec = PodSpec { containers: vec![main], ..Default::default() };
//! let mut pod = PodTemplateSpec { spec: Some(spec), ..Default::default() };
//! config.apply(&|reference| match reference.source {
//!     Source::ComponentInput(name) => (name == "login").then(|| json!("team-a")),
//!     _ => None,
//! }, &mut pod, "main")?;
//!
//! let pod = serde_json::to_value(&pod).unwrap();
//! let variable = &pod["spec"]["containers"][0]["env"][0];
//! assert_eq!(variable["valueFrom"]["secretKeyRef"], json!({"name": "team-a", "key": "password"}));
//! # Ok::<(), kf_k8s::tasks::platform::PlatformError>(())
//! ```

mod apply;
mod claims;
mod config;
mod error;
mod exact;
mod number;
mod parameter;
mod quantity;

pub use claims::{CREATE_CLAIM, ClaimTask, DELETE_CLAIM};
pub use config::*;
pub use error::PlatformError;
pub use parameter::{InputParameter, Lookup, Reference, Source, TaskOutput};
