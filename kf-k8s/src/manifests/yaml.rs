//! Manifests as a file.

use kube::{Resource, ResourceExt};
use serde::Serialize;

use super::{Error, Manifests, WorkflowAccount};

impl Manifests {
    /// All objects as documents of one YAML file, in an order in which they can be applied: `kubectl apply --server-side -f`.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn to_yaml(&self) -> Result<String, Error> {
        let Self { namespace, engine, task, role, role_binding, workflow, network_policies } = self;
        let mut documents = vec![
            document(namespace)?,
            document(engine)?,
            document(task)?,
            document(role)?,
            document(role_binding)?,
        ];
        if let Some(WorkflowAccount { account, role, role_binding }) = workflow {
            documents.extend([document(account)?, document(role)?, document(role_binding)?]);
        }
        for policy in network_policies {
            documents.push(document(policy)?);
        }
        Ok(documents.join("---\n"))
    }
}

fn document<K: Resource<DynamicType = ()> + Serialize>(object: &K) -> Result<String, Error> {
    serde_saphyr::to_string(object)
        .map_err(|error| Error::Write { object: title(object), reason: error.to_string() })
}

/// An object's kind and name.
pub(super) fn title<K: Resource<DynamicType = ()>>(object: &K) -> String {
    format!("{} `{}`", K::kind(&()), object.name_any())
}
