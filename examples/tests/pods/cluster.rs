//! The cluster of the tests, and a namespace of one's own on it.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{self, PersistentVolume, PersistentVolumeClaim, Pod, ServiceAccount};
use kf_k8s::manifests::Options;
use kf_k8s::train::{ClaimMount, Kind, KubeLauncher, PodOptions};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client, Config};
use serde_json::json;

use super::image;

/// Where pods have the claim mounted.
pub(crate) const MOUNT: &str = "/data";

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

/// The kinds of objects whose controllers run; the test cluster has all definitions.
pub(crate) async fn carried(client: &Client) -> Vec<(&'static str, Kind)> {
    let kinds = [
        ("jobs", Kind::Job, None),
        ("jobsets", Kind::JobSet, Some("jobset-system")),
        ("trainjobs", Kind::TrainJob, Some("kubeflow-system")),
        ("pytorchjobs", Kind::PyTorchJob, Some("kubeflow")),
    ];
    let mut carried = Vec::new();
    for (name, kind, controller) in kinds {
        let runs = match controller {
            None => true,
            Some(namespace) => {
                let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
                pods.list(&ListParams::default()).await.is_ok_and(|pods| !pods.items.is_empty())
            }
        };
        match runs {
            true => carried.push((name, kind)),
            false => println!("JUDGE {}-{name} skipped: the cluster has no such controller", super::JUDGE),
        }
    }
    carried
}

/// A namespace as a platform team makes it, with a claim that all its pods may write to.
pub(crate) struct Namespace {
    pub(crate) admin: Client,
    pub(crate) name: String,
}

impl Namespace {
    pub(crate) async fn new(admin: &Client, name: &str) -> Self {
        kf_k8s::manifests(&Options::new(name)).unwrap().apply(admin).await.unwrap();
        Self { admin: admin.clone(), name: name.to_owned() }
    }

    /// Makes a claim, and waits until there is a volume.
    pub(crate) async fn claim(&self, claim: &str) {
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.admin.clone(), &self.name);
        let made = json!({"metadata": {"name": claim},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
        claims.create(&PostParams::default(), &serde_json::from_value(made).unwrap()).await.unwrap();
        let bound = async {
            loop {
                let spec = claims.get(claim).await.unwrap().spec.unwrap();
                match spec.volume_name {
                    Some(volume) => return volume,
                    None => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        };
        let volume = tokio::time::timeout(Duration::from_secs(60), bound).await.unwrap();
        let volume = Api::<PersistentVolume>::all(self.admin.clone()).get(&volume).await.unwrap();
        // Folders of a node are nobody's but root's, and this cluster's node is this machine.
        let folder = volume.spec.and_then(|spec| Some(spec.host_path?.path));
        if let Some(folder) = folder.filter(|folder| Path::new(folder).is_dir()) {
            std::fs::set_permissions(folder, Permissions::from_mode(0o777)).unwrap();
        }
    }

    /// A launcher with the engine's rights, whose pods have the claim mounted.
    pub(crate) async fn launcher(&self, kind: Kind, claim: &str) -> KubeLauncher {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.admin.clone(), &self.name);
        let asked = TokenRequest::default();
        let token = accounts.create_token_request("kf-engine", &PostParams::default(), &asked).await.unwrap();
        let mut config = Config::infer().await.unwrap();
        config.auth_info = serde_json::from_value(json!({"token": token.status.unwrap().token})).unwrap();
        let engine = Client::try_from(config).unwrap();
        // The API server hears of rights a little later.
        let pods: Api<Pod> = Api::namespaced(engine.clone(), &self.name);
        let until = Instant::now() + Duration::from_secs(20);
        while let Err(error) = pods.list(&ListParams::default()).await {
            assert!(Instant::now() < until, "{error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let mut options = PodOptions::new(image::NAME);
        options.image_pull_policy = Some("IfNotPresent".into());
        options.service_account = Some("kf-task".into());
        options.claims = vec![ClaimMount::new(claim, MOUNT)];
        KubeLauncher::new(engine, &self.name, kind, options)
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.admin.clone(), &self.name)
    }
}

/// Removes a namespace, and waits for nothing.
pub(crate) async fn remove(admin: &Client, name: &str) {
    let all: Api<v1::Namespace> = Api::all(admin.clone());
    all.delete(name, &DeleteParams::background()).await.unwrap();
}
