//! The cluster of the tests, and a namespace of one's own on it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use kf_k8s::manifests::Options;
use kf_k8s::train::Kind;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::client::ClientBuilder;
use kube::{Api, Client, Config};
use serde_json::json;
use tokio::runtime::Runtime;

use super::asked::Asked;
use super::strict::Strict;

/// A client of the cluster with all rights; none, and why, where there is none.
pub(crate) async fn client() -> Result<Client, String> {
    let configured = std::env::var_os("KUBECONFIG").map(PathBuf::from).filter(|path| path.is_file());
    if configured.is_none() {
        return Err("no cluster: `cargo xtask cluster up`, and set KUBECONFIG".into());
    }
    let client = Client::try_default().await.map_err(|error| error.to_string())?;
    client.apiserver_version().await.map_err(|error| format!("the cluster does not answer: {error}"))?;
    Ok(client)
}

/// The kinds of objects that the cluster carries jobs by, and their names in tests.
pub(crate) fn carried(runtime: &Runtime, client: &Client) -> Vec<(&'static str, Kind)> {
    let groups = runtime.block_on(client.list_api_groups()).unwrap();
    // The test cluster has all definitions, and not all controllers.
    let runs = |namespace: &str| {
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let pods = runtime.block_on(pods.list(&ListParams::default()));
        pods.is_ok_and(|pods| !pods.items.is_empty())
    };
    let kinds = [
        ("jobs", Kind::Job, "batch", None),
        ("jobsets", Kind::JobSet, "jobset.x-k8s.io", Some("jobset-system")),
        ("trainjobs", Kind::TrainJob, "trainer.kubeflow.org", Some("kubeflow-system")),
        ("pytorchjobs", Kind::PyTorchJob, "kubeflow.org", Some("kubeflow")),
    ];
    let there = kinds.into_iter().filter(|(_, _, group, controller)| {
        let defined = groups.groups.iter().any(|there| there.name == *group);
        controller.is_none_or(|namespace| defined && runs(namespace))
    });
    there.map(|(name, kind, ..)| (name, kind)).collect()
}

/// A client with the rights of a service account, by a token of it and nothing else.
pub(crate) async fn account(admin: &Client, namespace: &str, name: &str) -> Client {
    Client::try_from(account_config(admin, namespace, name).await).unwrap()
}

async fn account_config(admin: &Client, namespace: &str, name: &str) -> Config {
    let mut config = Config::infer().await.unwrap();
    let token = token(admin, namespace, name).await;
    config.auth_info = serde_json::from_value(json!({"token": token})).unwrap();
    config
}

/// A token of a service account.
pub(crate) async fn token(admin: &Client, namespace: &str, name: &str) -> String {
    let accounts: Api<ServiceAccount> = Api::namespaced(admin.clone(), namespace);
    let asked = TokenRequest::default();
    let given = accounts.create_token_request(name, &PostParams::default(), &asked).await.unwrap();
    given.status.unwrap().token
}

/// A namespace that goes with this.
pub(crate) struct TestNamespace {
    admin: Client,
    pub(crate) name: String,
}

impl TestNamespace {
    /// As a platform team makes it, of options in which its name stands in for `of`.
    pub(crate) async fn new(admin: &Client, of: &str, options: impl FnOnce(&mut Options)) -> Self {
        let of = of[..of.len().min(50)].trim_end_matches('-');
        let name = format!("kf-{of}-{}", std::process::id());
        let mut made = Options::new(&name);
        options(&mut made);
        kf_k8s::manifests(&made).unwrap().apply(admin).await.unwrap();
        Self { admin: admin.clone(), name }
    }

    /// Who launches here, and what is asked by it. The cluster refuses what it does not know of what this makes.
    pub(crate) async fn engine(&self) -> (Client, Asked) {
        let config = account_config(&self.admin, &self.name, "kf-engine").await;
        // The API server hears of rights a little later.
        let pods: Api<Pod> = Api::namespaced(Client::try_from(config.clone()).unwrap(), &self.name);
        let until = Instant::now() + Duration::from_secs(20);
        while let Err(error) = pods.list(&ListParams::default()).await {
            assert!(Instant::now() < until, "{error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let asked = Asked::default();
        (
            ClientBuilder::try_from(config)
                .unwrap()
                .with_layer(&asked)
                .with_layer(&Strict { dry: false })
                .build(),
            asked,
        )
    }

    /// Removes it, and waits for nothing.
    pub(crate) async fn remove(self) {
        let all: Api<Namespace> = Api::all(self.admin.clone());
        all.delete(&self.name, &DeleteParams::background()).await.unwrap();
    }
}
