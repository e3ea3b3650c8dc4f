//! The artifact store of engines and pods: an S3 server at the address that pods see this machine by.

use std::net::{IpAddr, UdpSocket};
use std::path::Path;
use std::sync::OnceLock;

use k8s_openapi::api::core::v1::{Node, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kf_core::artifact::{ArtifactStore, S3Options};
use kf_core::testing::servers::S3Server;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};

use super::super::Given;

/// The secret with the keys.
pub(super) const SECRET: &str = "kf-store";
const BUCKET: &str = "kf-tests";
/// What pods are told.
const ENDPOINT: &str = "KF_TEST_S3";
const PLACE: &str = "KF_TEST_STORE";

static SERVER: OnceLock<S3Server> = OnceLock::new();

/// Starts the server, where pods can reach it.
pub(crate) async fn start(client: &Client) -> Result<(), String> {
    let server = S3Server::start_on(address(client).await?)?;
    server.make_bucket(BUCKET)?;
    let _ = SERVER.set(server);
    Ok(())
}

/// The address of this machine that the cluster's node sees.
pub(crate) async fn address(client: &Client) -> Result<IpAddr, String> {
    let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await;
    let nodes = nodes.map_err(|error| error.to_string())?;
    let addresses = nodes.items.iter().filter_map(|node| node.status.as_ref()?.addresses.as_ref()).flatten();
    let mut internal = addresses.filter(|address| address.type_ == "InternalIP");
    let node = internal.next().ok_or("the cluster's node has no address")?.address.clone();
    let ours = || {
        // Nothing is sent.
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect((node.as_str(), 9))?;
        socket.local_addr()
    };
    ours().map(|address| address.ip()).map_err(|error| error.to_string())
}

/// The endpoint that engines and pods share: of another process, as it was told.
pub(crate) fn endpoint() -> String {
    SERVER.get().map_or_else(|| std::env::var(ENDPOINT).unwrap(), S3Server::endpoint)
}

fn options() -> S3Options {
    S3Options::from_env().endpoint(&endpoint()).region("us-east-1").allow_http()
}

/// The store of a test's engine.
pub(crate) fn of_the_engine(namespace: &str, scratch: &Path) -> ArtifactStore {
    let url = format!("s3://{BUCKET}/{namespace}");
    ArtifactStore::s3(&url, scratch, options().keys("kf", "kf")).unwrap()
}

/// The same store, in a pod: its keys come from the secret.
pub(crate) fn of_a_pod() -> kf_core::Result<ArtifactStore> {
    let namespace = std::env::var(PLACE).unwrap_or_default();
    ArtifactStore::s3(&format!("s3://{BUCKET}/{namespace}"), "/kf/fetched", options())
}

/// What pods must know of it.
pub(crate) fn env(namespace: &str) -> Vec<(String, String)> {
    vec![(ENDPOINT.to_owned(), endpoint()), (PLACE.to_owned(), namespace.to_owned())]
}

/// Makes the secret with its keys.
pub(crate) async fn give_keys(given: &Given) {
    let keys = [("AWS_ACCESS_KEY_ID", "kf"), ("AWS_SECRET_ACCESS_KEY", "kf")];
    let secret = Secret {
        metadata: ObjectMeta { name: Some(SECRET.into()), ..Default::default() },
        string_data: Some(keys.map(|(name, value)| (name.to_owned(), value.to_owned())).into()),
        ..Default::default()
    };
    let secrets: Api<Secret> = Api::namespaced(given.admin.clone(), &given.namespace);
    secrets.create(&PostParams::default(), &secret).await.unwrap();
}
