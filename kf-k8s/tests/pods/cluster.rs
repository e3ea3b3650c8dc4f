//! The cluster of the tests, and a namespace of one's own on it.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};

/// A client of the cluster; none, and why, where there is none.
pub(crate) async fn client() -> Result<Client, String> {
    let configured = std::env::var_os("KUBECONFIG").map(PathBuf::from).filter(|path| path.is_file());
    if configured.is_none() {
        return Err("no cluster: `cargo xtask cluster up`, and set KUBECONFIG".into());
    }
    let client = Client::try_default().await.map_err(|error| error.to_string())?;
    client.apiserver_version().await.map_err(|error| format!("the cluster does not answer: {error}"))?;
    Ok(client)
}

/// A namespace that goes with this.
pub(crate) struct TestNamespace {
    client: Client,
    pub(crate) name: String,
}

impl TestNamespace {
    /// Whose pods have no rights beyond this level of PodSecurity, as the cluster enforces.
    pub(crate) async fn new(client: &Client, of: &str, level: &str) -> Self {
        let suffix: u32 = std::process::id();
        let name = format!("kf-{of}-{suffix}");
        let labels = [("pod-security.kubernetes.io/enforce".to_owned(), level.to_owned())];
        let metadata =
            ObjectMeta { name: Some(name.clone()), labels: Some(labels.into()), ..Default::default() };
        let namespace = Namespace { metadata, ..Default::default() };
        let all: Api<Namespace> = Api::all(client.clone());
        all.create(&PostParams::default(), &namespace).await.unwrap();
        // Pods are refused before it has its service account.
        let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> =
            Api::namespaced(client.clone(), &name);
        while accounts.get_opt("default").await.unwrap().is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        Self { client: client.clone(), name }
    }

    /// Removes it, and waits for nothing.
    pub(crate) async fn remove(self) {
        let all: Api<Namespace> = Api::all(self.client.clone());
        all.delete(&self.name, &DeleteParams::background()).await.unwrap();
    }
}
