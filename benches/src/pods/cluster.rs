//! The cluster, a namespace of a bench's own on it, and the bench as an image there.

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

/// How long pods may take to go.
const PATIENCE: Duration = Duration::from_secs(120);

/// A client of the cluster.
///
/// # Errors
/// Why there is none.
pub async fn client() -> Result<Client, String> {
    let configured = std::env::var_os("KUBECONFIG").map(PathBuf::from).filter(|path| path.is_file());
    if configured.is_none() {
        return Err("no cluster: `cargo xtask cluster up`, and set KUBECONFIG".into());
    }
    let client = Client::try_default().await.map_err(|error| error.to_string())?;
    client.apiserver_version().await.map_err(|error| format!("the cluster does not answer: {error}"))?;
    Ok(client)
}

/// A namespace as a platform team makes it.
pub struct Namespace {
    /// Of the cluster.
    pub client: Client,
    /// Its name.
    pub name: String,
    /// The address of this machine that pods see.
    pub host: IpAddr,
    /// Which no registry answers for.
    image: String,
}

impl Namespace {
    /// A new one for a bench.
    ///
    /// # Errors
    /// What the cluster says.
    pub async fn new(client: &Client, bench: &str) -> Outcome<Self> {
        let name = format!("kf-bench-{bench}-{}", std::process::id());
        let host = address(client).await?;
        let mut options = Options::new(&name);
        // What serves artifacts and hears of ranks takes any port.
        let bits = if host.is_ipv4() { 32 } else { 128 };
        options.egress = vec![Endpoint::tcp(format!("{host}/{bits}"), 443)];
        kf_k8s::manifests(&options)?.apply(client).await?;
        Ok(Self { client: client.clone(), name, host, image: format!("kf.local/kf-bench-{bench}:dev") })
    }

    /// Those in it.
    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// Pods of this program.
    pub fn pod_options(&self) -> PodOptions {
        let mut options = PodOptions::new(&self.image);
        options.image_pull_policy = Some("IfNotPresent".into());
        options.service_account = Some("kf-task".into());
        options
    }

    /// Makes this program the image of the pods.
    ///
    /// # Errors
    /// No way to the cluster's images, or what makes images says.
    pub fn import(&self) -> Outcome<()> {
        let socket = socket().ok_or("no containerd of the cluster to give images to; set KF_CONTAINERD")?;
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.args([
            "run",
            "--quiet",
            "--package",
            "xtask",
            "--",
            "image",
            "--name",
            &self.image,
            "--bin-file",
        ]);
        command.arg(std::env::current_exe()?).arg("--import").arg(socket);
        let done = command.stdin(Stdio::null()).output()?;
        match done.status.success() {
            true => Ok(()),
            false => {
                Err(format!("the image can't be made: {}", String::from_utf8_lossy(&done.stderr)).into())
            }
        }
    }

    /// Waits until no pods are left that one side's turn would leave to the other's.
    ///
    /// # Errors
    /// They do not go, or what the cluster says.
    pub async fn settle(&self) -> Outcome<()> {
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

    /// Removes it, and waits for nothing.
    ///
    /// # Errors
    /// What the cluster says.
    pub async fn remove(self) -> Outcome<()> {
        let all: Api<Object> = Api::all(self.client);
        all.delete(&self.name, &DeleteParams::background()).await?;
        Ok(())
    }
}

/// Whether KWOK plays a node.
fn is_simulated(node: &Node) -> bool {
    node.metadata.annotations.as_ref().is_some_and(|all| all.contains_key("kwok.x-k8s.io/node"))
}

/// The address of this machine that the cluster's nodes see.
async fn address(client: &Client) -> Outcome<IpAddr> {
    let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await?;
    let real = nodes.items.iter().filter(|node| !is_simulated(node));
    let addresses = real.filter_map(|node| node.status.as_ref()?.addresses.as_ref()).flatten();
    let mut internal = addresses.filter(|address| address.type_ == "InternalIP");
    let node = internal.next().ok_or("the cluster's nodes have no address")?.address.clone();
    // Nothing is sent.
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect((node.as_str(), 9))?;
    Ok(socket.local_addr()?.ip())
}

/// That of the node, which the scripts of the tests' cluster keep beside its configuration.
fn socket() -> Option<PathBuf> {
    let beside = || {
        let config = PathBuf::from(std::env::var_os("KUBECONFIG")?);
        Some(config.parent()?.parent()?.join("containerd.sock"))
    };
    std::env::var_os("KF_CONTAINERD").map(PathBuf::from).or_else(beside).filter(|path| path.exists())
}
