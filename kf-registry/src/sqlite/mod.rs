//! The registry in one SQLite file.

mod aliases;
mod failure;
mod lineage;
mod models;
mod schema;
mod versions;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use kf_core::{Digest, Timestamp};
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Sqlite, SqliteConnection, SqlitePool, Transaction};
use tokio::sync::{Mutex, MutexGuard};

use self::failure::{Failure, is_busy};
use crate::{
    AliasChange, AliasChanged, AliasEvent, AliasName, DigestUse, Error, Model, ModelName, ModelPatch,
    NewModel, NewVersion, Page, PageRequest, Registered, Registry, Result, Version, VersionPatch,
};

/// How long a write waits for other processes' writes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A registry in one SQLite file, or in memory.
///
/// Any number of tasks and processes may use one file at once; writes are short and come one after another,
/// reads wait for nobody. A call that returned is on disk. The file must lie on a local disk: SQLite's
/// write-ahead log does not work over network file systems. It comes with two files beside it (`-wal` and
/// `-shm`), which belong to it when it is copied.
pub struct SqliteRegistry {
    pool: SqlitePool,
    path: PathBuf,
    /// Writers of this process queue here, in the order of their coming.
    turn: Mutex<()>,
    /// Keeps a registry in memory alive: the pool closes the connection of a call that was dropped half-way.
    _keeper: Option<Mutex<SqliteConnection>>,
}

/// A transaction that may write, and the turn of this process.
struct Write<'a> {
    tx: Transaction<'static, Sqlite>,
    _turn: MutexGuard<'a, ()>,
}

impl SqliteRegistry {
    /// Opens the registry in `path`; the file and its folder are made where they are missing, and a file of
    /// an older schema is brought up to date.
    ///
    /// # Errors
    /// [`Error::TooNew`] where a newer version of this library wrote the file, [`Error::Damaged`] where it is
    /// no registry or does not pass SQLite's check, [`Error::Store`] where it can't be read or made. The file
    /// stays as it was.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            tokio::fs::create_dir_all(folder).await.map_err(|source| Error::Store {
                what: format!("make the folder `{}`", folder.display()),
                source: source.into(),
            })?;
        }
        schema::check_length(&path, schema::SMALLEST_PAGE).await?;
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .busy_timeout(Duration::from_secs(5))
            .synchronous(SqliteSynchronous::Full);
        let mut first = options.connect().await.map_err(Failure { path: &path }.of("open the registry"))?;
        let prepared = schema::prepare(&mut first, &path, false).await;
        let closed = first.close().await.map_err(Failure { path: &path }.of("open the registry"));
        prepared.and(closed)?;
        let pool = SqlitePoolOptions::new().max_connections(4).connect_lazy_with(options);
        Ok(Self { pool, path, turn: Mutex::new(()), _keeper: None })
    }

    /// A registry that is gone when it is dropped.
    ///
    /// # Errors
    /// [`Error::Store`] where SQLite has no memory.
    pub async fn in_memory() -> Result<Self> {
        let path = PathBuf::from(":memory:");
        let failure = Failure { path: &path };
        // A name of its own, which the connections of this registry share.
        let options: SqliteConnectOptions =
            "sqlite::memory:".parse().map_err(failure.of("open the registry"))?;
        let mut keeper = options.connect().await.map_err(failure.of("open the registry"))?;
        schema::prepare(&mut keeper, &path, true).await?;
        let pool = SqlitePoolOptions::new().max_connections(1).connect_lazy_with(options);
        Ok(Self { pool, path, turn: Mutex::new(()), _keeper: Some(Mutex::new(keeper)) })
    }

    /// The file; `:memory:` where there is none.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Ends all connections and waits for them. Dropping does it too, without waiting.
    pub async fn close(self) {
        self.pool.close().await;
    }

    fn failure(&self) -> Failure<'_> {
        Failure { path: &self.path }
    }

    async fn read(&self, what: &'static str) -> Result<PoolConnection<Sqlite>> {
        let began = Instant::now();
        self.pool.acquire().await.map_err(|error| self.not_begun(what, began, error))
    }

    /// Begins a transaction that holds the write lock from the start, so that none of its statements can fail
    /// because of another writer.
    async fn write(&self, what: &'static str) -> Result<Write<'_>> {
        let began = Instant::now();
        let waited = |began: Instant| Error::Busy { what, waited_ms: began.elapsed().as_millis() as u64 };
        let turn = tokio::time::timeout(PATIENCE, self.turn.lock()).await.map_err(|_| waited(began))?;
        loop {
            match self.pool.begin_with("BEGIN IMMEDIATE").await {
                Ok(tx) => return Ok(Write { tx, _turn: turn }),
                // SQLite has waited for its own busy timeout; recovery after a crash makes it give up early.
                Err(error) if is_busy(&error) && began.elapsed() < PATIENCE => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => return Err(self.not_begun(what, began, error)),
            }
        }
    }

    fn not_begun(&self, what: &'static str, began: Instant, error: sqlx::Error) -> Error {
        if is_busy(&error) {
            return Error::Busy { what, waited_ms: began.elapsed().as_millis() as u64 };
        }
        self.failure().of(what)(error)
    }
}

impl Write<'_> {
    async fn commit(self, failure: Failure<'_>, what: &'static str) -> Result<()> {
        self.tx.commit().await.map_err(failure.of(what))
    }
}

impl std::fmt::Debug for SqliteRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteRegistry").field("path", &self.path).finish_non_exhaustive()
    }
}

#[async_trait]
impl Registry for SqliteRegistry {
    async fn create_model(&self, new: NewModel) -> Result<Model> {
        new.validate()?;
        let mut write = self.write("create a model").await?;
        let model = models::create(&mut write.tx, self.failure(), new, Timestamp::now()).await?;
        write.commit(self.failure(), "create a model").await?;
        Ok(model)
    }

    async fn model(&self, model: &ModelName) -> Result<Model> {
        let mut connection = self.read("read a model").await?;
        Ok(models::get(&mut connection, self.failure(), model).await?.model)
    }

    async fn models(&self, page: PageRequest) -> Result<Page<Model>> {
        page.validate()?;
        let mut connection = self.read("list models").await?;
        models::list(&mut connection, self.failure(), &page).await
    }

    async fn update_model(&self, model: &ModelName, patch: ModelPatch) -> Result<Model> {
        let mut write = self.write("update a model").await?;
        let row = models::get(&mut write.tx, self.failure(), model).await?;
        let updated = patch.apply(row.model, Timestamp::now())?;
        models::replace(&mut write.tx, self.failure(), row.id, &updated).await?;
        write.commit(self.failure(), "update a model").await?;
        Ok(updated)
    }

    async fn register(&self, new: NewVersion) -> Result<Registered> {
        new.validate()?;
        let mut write = self.write("register a version").await?;
        let registered = versions::register(&mut write.tx, self.failure(), new, Timestamp::now()).await?;
        write.commit(self.failure(), "register a version").await?;
        Ok(registered)
    }

    async fn version(&self, model: &ModelName, number: u32) -> Result<Version> {
        let mut connection = self.read("read a version").await?;
        Ok(versions::get(&mut connection, self.failure(), model, number).await?.version)
    }

    async fn version_by_alias(&self, model: &ModelName, alias: &AliasName) -> Result<Version> {
        let mut connection = self.read("read an alias").await?;
        versions::by_alias(&mut connection, self.failure(), model, alias).await
    }

    async fn versions(&self, model: &ModelName, page: PageRequest) -> Result<Page<Version>> {
        page.validate()?;
        let mut connection = self.read("list versions").await?;
        versions::list(&mut connection, self.failure(), model, &page).await
    }

    async fn update_version(&self, model: &ModelName, number: u32, patch: VersionPatch) -> Result<Version> {
        let mut write = self.write("update a version").await?;
        let row = versions::get(&mut write.tx, self.failure(), model, number).await?;
        let updated = patch.apply(row.version, Timestamp::now())?;
        versions::replace_mutable(&mut write.tx, self.failure(), row.id, &updated).await?;
        write.commit(self.failure(), "update a version").await?;
        Ok(updated)
    }

    async fn change_alias(&self, change: AliasChange) -> Result<AliasChanged> {
        change.validate()?;
        let mut write = self.write("change an alias").await?;
        let changed = aliases::change(&mut write.tx, self.failure(), change, Timestamp::now()).await?;
        write.commit(self.failure(), "change an alias").await?;
        Ok(changed)
    }

    async fn aliases(&self, model: &ModelName) -> Result<Vec<AliasEvent>> {
        let mut connection = self.read("list aliases").await?;
        aliases::current(&mut connection, self.failure(), model).await
    }

    async fn alias_history(
        &self,
        model: &ModelName,
        alias: &AliasName,
        page: PageRequest,
    ) -> Result<Page<AliasEvent>> {
        page.validate()?;
        let mut connection = self.read("read an alias's history").await?;
        aliases::history(&mut connection, self.failure(), model, alias, &page).await
    }

    async fn versions_of_run(&self, run_id: &str, page: PageRequest) -> Result<Page<Version>> {
        page.validate()?;
        let mut connection = self.read("follow lineage").await?;
        lineage::of_run(&mut connection, self.failure(), run_id, &page).await
    }

    async fn versions_of_digest(&self, digest: &Digest, page: PageRequest) -> Result<Page<DigestUse>> {
        page.validate()?;
        let mut connection = self.read("follow lineage").await?;
        lineage::of_digest(&mut connection, self.failure(), digest, &page).await
    }
}
