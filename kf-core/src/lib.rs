//! What the KF crates share: artifacts and where their bytes lie, runs and lineage, resources, and how a program
//! starts copies of itself as workers.
//!
//! | for | there is |
//! |---|---|
//! | content, by digest | [`artifact::ArtifactStore`], on a folder, S3 or any object store; [swept](artifact::ArtifactStore::sweep) beside who puts |
//! | runs, journals, lineage | [`metadata::MetadataStore`], on SQLite as [`metadata::SqliteMetadata`], on PostgreSQL as `PostgresMetadata` |
//! | both in one folder | [`Home`] |
//! | what tasks need and machines have | [`resources`] |
//! | waiting before the next attempt | [`backoff`] |
//! | copies of this program as workers | [`worker`] and [`process`] |
//! | traces, exported over OTLP with `otel` | [`telemetry`] |
//! | values as JSON, without silent nulls | [`json`] |
//! | tests of own implementations | `testing`, with the feature of that name |
//!
//! # The way in
//! Pipelines, training, registry and serving use these parts for you. By hand, a run that makes one artifact is:
//!
//! ```
//! use std::time::Duration;
//!
//! use kf_core::artifact::ArtifactRef;
//! use kf_core::metadata::{Commit, ExecutionRecord, ExecutionState, Io, Lineage, LineageQuery, NewRun, RunState};
//! use kf_core::{Digest, Home, RunId, Timestamp};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! let home = Home::open(folder.path().join("home")).await?;
//! let runs = home.metadata();
//!
//! // A run is created once, however often it is asked for.
//! let run: RunId = "nightly-1".parse()?;
//! let spec = r#"{"name":"nightly"}"#;
//! runs.create_run(NewRun {
//!     id: run.clone(),
//!     pipeline: "nightly".into(),
//!     spec_digest: Digest::of(spec),
//!     spec: spec.into(),
//!     args: "{}".into(),
//!     created_at: Timestamp::now(),
//! })
//! .await?;
//!
//! // Whoever holds its lease writes its journal.
//! let lease = runs.acquire(&run, "me", Duration::from_secs(60)).await?;
//!
//! // Content first, then the commit that tells of it: what a commit names is there.
//! let stored = home.artifacts().put_bytes("weights".into()).await?;
//! let model = ArtifactRef {
//!     name: "model".into(),
//!     schema_title: "system.Model".into(),
//!     uri: home.artifacts().uri(&stored.digest),
//!     digest: Some(stored.digest),
//!     size: stored.size,
//!     metadata: Default::default(),
//! };
//! let fit = ExecutionRecord {
//!     run: run.clone(),
//!     task: "fit".into(),
//!     component: "fit".into(),
//!     state: ExecutionState::Complete,
//!     cache_key: None,
//!     started_at: Timestamp::now(),
//!     ended_at: Timestamp::now(),
//!     inputs: Default::default(),
//!     outputs: Default::default(),
//!     input_artifacts: vec![],
//!     output_artifacts: vec![Io { port: "model".into(), index: 0, artifact: model }],
//! };
//! runs.commit(Commit {
//!     run: run.clone(),
//!     epoch: lease.epoch,
//!     expected_seq: lease.seq,
//!     at: Timestamp::now(),
//!     events: r#"["fit ended"]"#.into(),
//!     state: Some((RunState::Succeeded, None)),
//!     lineage: Lineage { executions: vec![fit] },
//! })
//! .await?;
//!
//! // Which task made this content?
//! let query = LineageQuery { makes: Some(stored.digest), ..LineageQuery::default() };
//! assert_eq!(runs.executions(&query).await?.items[0].task, "fit");
//! # Ok(()) }
//! ```
//!
//! # Where one machine ends
//! The same two traits on servers, for programs of any number of machines:
//!
//! ```no_run
//! # #[cfg(all(feature = "postgres", feature = "s3"))]
//! # async fn open() -> kf_core::Result<()> {
//! use kf_core::artifact::{ArtifactStore, S3Options};
//! use kf_core::metadata::{PostgresMetadata, PostgresOptions};
//!
//! // Passwords may come from PGPASSWORD or ~/.pgpass, keys from AWS_ACCESS_KEY_ID or the machine's role.
//! let database = PostgresOptions::new("postgres://kf@db.internal/platform?sslmode=verify-full")?;
//! let metadata = PostgresMetadata::open(database.schema("kf")?.connections(16)).await?;
//! let artifacts = ArtifactStore::s3("s3://models/kf", "/var/cache/kf", S3Options::from_env())?;
//!
//! // A server of one's own, without TLS, says so.
//! let near = S3Options::new().endpoint("http://minio.internal:9000").allow_http().keys("id", "secret");
//! # Ok(()) }
//! ```
//!
//! # Features
//! `sqlite` (on by default) brings [`metadata::SqliteMetadata`] and [`Home`], and with them the bundled SQLite, which
//! needs a C compiler. `postgres` brings `PostgresMetadata`, in Rust alone, and `postgres-tls` its connections under TLS.
//! `s3` brings `ArtifactStore::s3`, with TLS. `otel` brings `telemetry::Otlp`, and gives spans their places in traces.
//! `testing` brings the conformance suites and private servers for tests.
//!
//! # Limits
//! The artifact store uses Unix file identities and locks; it is developed and tested on Linux. A lease on an SQLite
//! file is a file lock, so engines that share a home run on one machine; those that share a PostgreSQL need not.

pub mod artifact;
pub mod backoff;
mod digest;
mod error;
#[cfg(feature = "sqlite")]
mod home;
mod id;
pub mod json;
pub mod lock;
pub mod metadata;
mod mutex;
pub mod process;
pub mod resources;
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
mod time;
pub mod worker;

pub use digest::{Digest, Hasher};
pub use error::{Error, Result};
#[cfg(feature = "sqlite")]
pub use home::Home;
pub use id::RunId;
pub use time::Timestamp;
pub use tokio_util::sync::CancellationToken;
