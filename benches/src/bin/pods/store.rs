//! The artifact store of engines and pods: an S3 server at the address that pods see this machine by.

use std::path::Path;

use benches::pods::cluster::Namespace;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kf_core::artifact::{ArtifactStore, S3Options};
use kf_core::testing::servers::S3Server;
use kube::Api;
use kube::api::PostParams;

/// The secret with the keys.
pub(crate) const SECRET: &str = "kf-store";
const STORE: &str = "s3://kf-bench/pods";
/// What pods are told.
const ENDPOINT: &str = "KF_BENCH_S3";

/// Starts the server, and gives pods of the namespace its keys.
pub(crate) async fn start(namespace: &Namespace) -> Result<S3Server, String> {
    let server = S3Server::start_on(namespace.host)?;
    server.make_bucket("kf-bench")?;
    let keys = [("AWS_ACCESS_KEY_ID", "kf"), ("AWS_SECRET_ACCESS_KEY", "kf")];
    let secret = Secret {
        metadata: ObjectMeta { name: Some(SECRET.into()), ..Default::default() },
        string_data: Some(keys.map(|(name, value)| (name.to_owned(), value.to_owned())).into()),
        ..Default::default()
    };
    let secrets: Api<Secret> = Api::namespaced(namespace.client.clone(), &namespace.name);
    secrets.create(&PostParams::default(), &secret).await.map_err(|error| error.to_string())?;
    Ok(server)
}

fn options(endpoint: &str) -> S3Options {
    S3Options::from_env().endpoint(endpoint).region("us-east-1").allow_http()
}

/// The engine's.
pub(crate) fn of_the_engine(server: &S3Server, scratch: &Path) -> kf_core::Result<ArtifactStore> {
    ArtifactStore::s3(STORE, scratch, options(&server.endpoint()).keys("kf", "kf"))
}

/// The same, in a pod: its keys come from the secret.
pub(crate) fn of_a_pod() -> kf_core::Result<ArtifactStore> {
    let endpoint = std::env::var(ENDPOINT).unwrap_or_default();
    ArtifactStore::s3(STORE, "/kf/fetched", options(&endpoint))
}

/// What pods must know of it.
pub(crate) fn env(server: &S3Server) -> Vec<(String, String)> {
    vec![(ENDPOINT.to_owned(), server.endpoint())]
}
