//! The servers that engines share.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use kf_core::artifact::{ArtifactStore, S3Options};
use kf_core::metadata::{PostgresMetadata, PostgresOptions};
use kf_core::testing::servers::{PostgresServer, S3Server, judge};
use serde::{Deserialize, Serialize};

/// Where the engines' stores are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Servers {
    pub(crate) database: String,
    pub(crate) schema: String,
    pub(crate) endpoint: String,
    pub(crate) bucket: String,
    pub(crate) lease: Duration,
}

impl Servers {
    /// Stores of this name; none where there are no servers.
    pub(crate) fn new(name: &str, lease: Duration) -> Result<Option<Self>, String> {
        let Some((postgres, s3)) = tokio::task::block_in_place(running) else { return Ok(None) };
        let bucket = format!("kf-{name}");
        s3.make_bucket(&bucket)?;
        Ok(Some(Self {
            database: postgres.url(),
            schema: name.to_owned(),
            endpoint: s3.endpoint(),
            bucket: format!("s3://{bucket}/artifacts"),
            lease,
        }))
    }

    pub(crate) async fn metadata(&self) -> kf_core::Result<PostgresMetadata> {
        let options = PostgresOptions::new(&self.database)?.schema(&self.schema)?;
        // Few, since the tests have many engines.
        PostgresMetadata::open(options.connections(3).patience(self.lease / 4)).await
    }

    pub(crate) fn artifacts(&self, scratch: PathBuf) -> kf_core::Result<ArtifactStore> {
        let options = S3Options::new().endpoint(&self.endpoint).allow_http().keys("test", "test");
        ArtifactStore::s3(&self.bucket, scratch, options)
    }
}

/// A PostgreSQL server; none where it is missing, which is said.
pub(super) fn postgres() -> Option<PostgresServer> {
    judge("postgres", PostgresServer::start())
}

/// The servers that these tests share; none where one is missing, which is said.
fn running() -> Option<&'static (PostgresServer, S3Server)> {
    static SERVERS: OnceLock<Option<(PostgresServer, S3Server)>> = OnceLock::new();
    let both = SERVERS.get_or_init(|| {
        let s3 = judge("s3", S3Server::start())?;
        Some((postgres()?, s3))
    });
    both.as_ref()
}
