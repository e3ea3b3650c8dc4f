//! The cluster, a namespace of the bench's own on it, and this program as an image there.

use std::net::{IpAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Namespace as Object, Node, Pod};
use kf_k8s::manifests::{Endpoint, Options};
use kf_k8s::train::PodOptions;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client};

use super::Outcome;

/// The image, which no registry answers for.
const IMAGE: &str = "kf.local/kf-bench-pods:dev";
/// How long pods may take to go.
const PATIENCE: Duration = Duration::from_secs(120);

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

/// A namespace as a platform team makes it.
pub(crate) struct Namespace {
    pub(crate) client: Client,
    pub(crate) name: String,
    /// The address of this machine that pods see.
    pub(crate) host: IpAddr,
}

impl Namespace {
    pub(crate) async fn new(client: &Client) -> Outcome<Self> {
        let name = format!("kf-bench-pods-{}", std::process::id());
        let host = address(client).await?;
        let mut options = Options::new(&name);
        // What serves artifacts and hears of ranks takes any port.
        let bits = if host.is_ipv4() { 32 } else { 128 };
        options.egress = vec![Endpoint::tcp(format!("{host}/{bits}"), 443)];
        kf_k8s::manifests(&options)?.apply(client).await?;
        Ok(Self { client: client.clone(), name, host })
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// Pods of this program.
    pub(crate) fn pod_options(&self) -> PodOptions {
        let mut options = PodOptions::new(IMAGE);
        options.image_pull_policy = Some("IfNotPresent".into());
        options.service_account = Some("kf-task".into());
        options
    }

    /// Waits until no pods are left that one side's turn would leave to the other's.
    pub(crate) async fn settle(&self) -> Outcome<()> {
        let (pods, until) = (self.pods(), Instant::now() + PATIENCE);
        while !pods.list_metadata(&ListParams::default().limit(1)).await?.items.is_empty() {
            if Instant::now() > until {
                return Err(format!("pods of namespace `{}` do not go", self.name).into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // The node still cleans up after them.
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok(())
    }

    pub(crate) async fn remove(self) -> Outcome<()> {
        let all: Api<Object> = Api::all(self.client);
        all.delete(&self.name, &DeleteParams::background()).await?;
        Ok(())
    }
}

/// The address of this machine that the cluster's nodes see.
async fn address(client: &Client) -> Outcome<IpAddr> {
    let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await?;
    let real = nodes.items.iter().filter(|node| !super::simulated::is_simulated(node));
    let addresses = real.filter_map(|node| node.status.as_ref()?.addresses.as_ref()).flatten();
    let mut internal = addresses.filter(|address| address.type_ == "InternalIP");
    let node = internal.next().ok_or("the cluster's nodes have no address")?.address.clone();
    // Nothing is sent.
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect((node.as_str(), 9))?;
    Ok(socket.local_addr()?.ip())
}

/// Makes this program an image of the cluster.
pub(crate) fn import() -> Outcome<()> {
    let socket = socket().ok_or("no containerd of the cluster to give images to; set KF_CONTAINERD")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["run", "--quiet", "--package", "xtask", "--", "image", "--name", IMAGE, "--bin-file"]);
    command.arg(std::env::current_exe()?).arg("--import").arg(socket);
    let done = command.stdin(Stdio::null()).output()?;
    match done.status.success() {
        true => Ok(()),
        false => Err(format!("the image can't be made: {}", String::from_utf8_lossy(&done.stderr)).into()),
    }
}

/// That of the node, which the scripts of the tests' cluster keep beside its configuration.
fn socket() -> Option<PathBuf> {
    let beside = || {
        let config = PathBuf::from(std::env::var_os("KUBECONFIG")?);
        Some(config.parent()?.parent()?.join("containerd.sock"))
    };
    std::env::var_os("KF_CONTAINERD").map(PathBuf::from).or_else(beside).filter(|path| path.exists())
}
