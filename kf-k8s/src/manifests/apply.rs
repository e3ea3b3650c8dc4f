//! Manifests on a cluster.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::yaml::title;
use super::{Error, Manifests, WorkflowAccount};

/// Who has set the fields, for the cluster.
const MANAGER: &str = "kf";

impl Manifests {
    /// Makes the objects, or makes those there are what these say, by server-side apply. What others have set on them stays;
    /// where others have set the same field to something else, it is left to them, and that is an error. Rights take hold
    /// some moments later.
    ///
    /// It needs the rights to make namespaces and all that is in them, and whatever the role gives away.
    ///
    /// # Errors
    /// [`Error::Apply`] with the first object that the cluster does not take. Applied again, it goes on from there.
    pub async fn apply(&self, client: &Client) -> Result<(), Error> {
        let Self { namespace, engine, task, role, role_binding, workflow, network_policies } = self;
        one(Api::all(client.clone()), namespace).await?;
        let within = namespace.name_any();
        one(inside(client, &within), engine).await?;
        one(inside(client, &within), task).await?;
        one(inside(client, &within), role).await?;
        one(inside(client, &within), role_binding).await?;
        if let Some(WorkflowAccount { account, role, role_binding }) = workflow {
            one(inside(client, &within), account).await?;
            one(inside(client, &within), role).await?;
            one(inside(client, &within), role_binding).await?;
        }
        for policy in network_policies {
            one(inside(client, &within), policy).await?;
        }
        Ok(())
    }
}

fn inside<K>(client: &Client, namespace: &str) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    Api::namespaced(client.clone(), namespace)
}

async fn one<K>(api: Api<K>, object: &K) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
{
    let params = PatchParams::apply(MANAGER).validation_strict();
    let applied = api.patch(&object.name_any(), &params, &Patch::Apply(object)).await;
    applied.map(drop).map_err(|error| refused(title(object), error))
}

fn refused(object: String, error: kube::Error) -> Error {
    let (reason, retryable) = match &error {
        kube::Error::Api(status) if status.code == 409 => (
            format!("{}; leave the field to whoever has set it, or have it let go of there", status.message),
            false,
        ),
        kube::Error::Api(status) => (
            format!("{} ({}): {}", status.reason, status.code, status.message),
            status.code == 429 || status.code >= 500,
        ),
        other => (other.to_string(), true),
    };
    Error::Apply { object, reason, retryable, source: Box::new(error) }
}
