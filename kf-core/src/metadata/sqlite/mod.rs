//! Metadata in an SQLite file.

mod commit;
mod failure;
mod lease;
mod open;
mod rows;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqlitePool, SqliteRow};
use sqlx::{QueryBuilder, Row, Sqlite};
use tokio::sync::Mutex;

use self::commit::{Memory, Place, prefix};
use self::failure::failure;
pub(crate) use self::failure::is_retryable;
use self::lease::{Locks, fenced};
use super::{
    Commit, Created, ExecutionRecord, JournalEntry, Lease, LineageQuery, MetadataStore, NewRun, Page,
    RunQuery, RunRecord,
};
use crate::{Digest, Error, Result, RunId};

/// A [`MetadataStore`] in an SQLite file, for the engines of one machine.
///
/// The file is in WAL mode with `synchronous = NORMAL`: a commit survives the death of the process, however
/// violent; a power cut may take the last commits with it, in order and whole ones only.
///
/// A lease is a lock on a file in the folder `<database>-locks`, so it ends with the process that holds it and has
/// no time limit: a `ttl` is not looked at.
///
/// Clones share one connection for writing and a few for reading.
#[derive(Clone)]
pub struct SqliteMetadata(Arc<Inner>);

struct Inner {
    path: PathBuf,
    writer: Mutex<SqliteConnection>,
    /// None in memory, where the one connection has the database.
    readers: Option<SqlitePool>,
    locks: Locks,
    memory: Memory,
}

/// Where a run's journal and lineage stand.
#[derive(Clone, Copy, Debug)]
struct Head {
    epoch: u64,
    seq: u64,
    place: Place,
}

impl fmt::Debug for SqliteMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SqliteMetadata").field(&self.0.path).finish()
    }
}

impl SqliteMetadata {
    /// Opens the database, which is made where it is missing and brought to this version's format where it is
    /// older, and so is the folder of its lock files.
    ///
    /// # Errors
    /// [`Error::TooNew`] where a newer version wrote it, [`Error::Corrupt`] where it is no database or damaged,
    /// [`Error::Conflict`] where it is another program's, [`Error::Io`] where it can't be opened.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = std::path::absolute(path.as_ref()).map_err(Error::io("resolve", path.as_ref()))?;
        let (writer, readers) = open::file(&path).await?;
        let locks = Locks::Folder(open::locks_beside(&path));
        let writer = Mutex::new(writer);
        Ok(Self(Arc::new(Inner { path, writer, readers: Some(readers), locks, memory: Memory::default() })))
    }

    /// A database in memory, gone with the last clone.
    ///
    /// # Errors
    /// [`Error::Database`] where SQLite can't start.
    pub async fn in_memory() -> Result<Self> {
        let writer = Mutex::new(open::memory().await?);
        let locks = Locks::Memory(Arc::default());
        let path = ":memory:".into();
        Ok(Self(Arc::new(Inner { path, writer, readers: None, locks, memory: Memory::default() })))
    }
}

impl Inner {
    fn failure(&self, context: &'static str) -> impl FnOnce(sqlx::Error) -> Error {
        failure(&self.path, context)
    }

    async fn read<T>(
        &self,
        query: sqlx::query::Query<'_, Sqlite, SqliteArguments>,
        decode: impl Fn(&SqliteRow) -> sqlx::Result<T>,
    ) -> Result<Vec<T>> {
        let rows = match &self.readers {
            Some(readers) => query.fetch_all(readers).await,
            None => query.fetch_all(&mut *self.writer.lock().await).await,
        };
        let rows = rows.map_err(self.failure("read"))?;
        rows.iter().map(decode).collect::<sqlx::Result<_>>().map_err(self.failure("read"))
    }

    /// A page of what `query` finds, which has a column `cursor`.
    async fn page<T>(
        &self,
        mut query: QueryBuilder<Sqlite>,
        limit: usize,
        decode: impl Fn(&SqliteRow) -> sqlx::Result<T>,
    ) -> Result<Page<T>> {
        let limit = if limit == 0 { 100 } else { limit };
        // One more, to know whether there is a next page.
        query.push(" LIMIT ").push_bind(count(limit.saturating_add(1)));
        let mut rows =
            self.read(query.build(), |row| Ok((row.try_get::<i64, _>("cursor")?, decode(row)?))).await?;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(|(cursor, _)| cursor.to_string());
        Ok(Page { items: rows.into_iter().map(|(_, item)| item).collect(), next })
    }

    async fn head(&self, run: &RunId) -> Result<Head> {
        let query = sqlx::query(
            "SELECT no, epoch,
                (SELECT max(key) FROM journal WHERE key > no << 32 AND key < (no + 1) << 32) & 4294967295 AS seq,
                coalesce((SELECT max(id) FROM executions WHERE id > no << 32 AND id < (no + 1) << 32), no << 32)
                    AS last
             FROM runs JOIN heads USING (no) WHERE id = ?",
        )
        .bind(run.as_str().to_owned());
        let found = self.read(query, rows::head).await?;
        found.first().copied().ok_or_else(|| no_run(run))
    }
}

const RUN: &str = "SELECT no AS cursor, id, pipeline, spec_digest, spec, args, created_at, state, error, ended_at, \
                   epoch, (SELECT max(key) FROM journal WHERE key > no << 32 AND key < (no + 1) << 32) & 4294967295 \
                   AS seq FROM runs JOIN heads USING (no) WHERE TRUE";

#[async_trait]
impl MetadataStore for SqliteMetadata {
    async fn create_run(&self, run: NewRun) -> Result<Created> {
        let insert = sqlx::query(
            "INSERT INTO runs (id, pipeline, spec_digest, args, created_at, spec) VALUES (?, ?, ?, ?, ?, ?)
             ON CONFLICT DO NOTHING",
        )
        .bind(text(&run.id))
        .bind(run.pipeline.clone())
        .bind(run.spec_digest.to_string())
        .bind(run.args.clone())
        .bind(run.created_at.as_millis())
        .bind(run.spec);
        let made = insert.execute(&mut *self.0.writer.lock().await).await;
        if made.map_err(self.0.failure("create a run in"))?.rows_affected() > 0 {
            return Ok(Created::New);
        }
        let found = self.run(&run.id).await?.ok_or_else(|| no_run(&run.id))?;
        let difference = if found.pipeline != run.pipeline {
            format!("it is of pipeline `{}`, not `{}`", found.pipeline, run.pipeline)
        } else if found.spec_digest != run.spec_digest {
            format!("its pipeline was {}, and now is {}", found.spec_digest, run.spec_digest)
        } else if !same_json(&found.args, &run.args) {
            format!("its arguments are {}, not {}", found.args, run.args)
        } else {
            return Ok(Created::Existing(Box::new(found)));
        };
        Err(Error::Conflict { what: "run", name: run.id.to_string(), difference })
    }

    async fn acquire(&self, run: &RunId, owner: &str, _ttl: Duration) -> Result<Lease> {
        self.0.head(run).await?;
        let guard = self.0.locks.take(run, owner)?;
        let update =
            sqlx::query("UPDATE heads SET epoch = epoch + 1 WHERE no = (SELECT no FROM runs WHERE id = ?)")
                .bind(text(run));
        let updated = update.execute(&mut *self.0.writer.lock().await).await;
        updated.map_err(self.0.failure("take a lease in"))?;
        // Nobody else can change these while the guard is held.
        let Head { epoch, seq, .. } = self.0.head(run).await?;
        Ok(Lease { run: run.clone(), epoch, seq, expires_at: None, guard: Some(guard) })
    }

    async fn renew(&self, lease: &mut Lease, _ttl: Duration) -> Result<()> {
        let Head { epoch, .. } = self.0.head(&lease.run).await?;
        if epoch == lease.epoch {
            return Ok(());
        }
        Err(fenced(
            &lease.run,
            format!("the lease is number {}, and {epoch} was given out since", lease.epoch),
        ))
    }

    async fn release(&self, lease: Lease) -> Result<()> {
        drop(lease);
        Ok(())
    }

    async fn commit(&self, commit: Commit) -> Result<u64> {
        let stray = |execution: &&ExecutionRecord| execution.run != commit.run;
        if let Some(stray) = commit.lineage.executions.iter().find(stray) {
            return Err(Error::Invalid {
                what: "execution",
                found: format!("{} of run {}", stray.task, stray.run),
                expected: "executions of the run that the commit is for",
            });
        }
        commit::make(&self.0, &commit).await?;
        Ok(commit.expected_seq.saturating_add(1))
    }

    async fn run(&self, run: &RunId) -> Result<Option<RunRecord>> {
        let mut query = QueryBuilder::new(RUN);
        query.push(" AND id = ").push_bind(text(run));
        Ok(self.0.read(query.build(), rows::run).await?.pop())
    }

    async fn runs(&self, query: &RunQuery) -> Result<Page<RunRecord>> {
        let mut sql = QueryBuilder::new(RUN);
        if let Some(pipeline) = &query.pipeline {
            sql.push(" AND pipeline = ").push_bind(pipeline.clone());
        }
        if let Some(state) = query.state {
            sql.push(" AND state = ").push_bind(state.as_str());
        }
        if let Some(after) = cursor(query.after.as_deref())? {
            sql.push(" AND no < ").push_bind(after);
        }
        sql.push(" ORDER BY no DESC");
        self.0.page(sql, query.limit, rows::run).await
    }

    async fn journal(&self, run: &RunId, after: u64, limit: usize) -> Result<Vec<JournalEntry>> {
        let query = sqlx::query(
            "SELECT key & 4294967295 AS seq, at, events FROM journal, (SELECT no FROM runs WHERE id = ?)
             WHERE key > (no << 32 | ?) AND key < ((no + 1) << 32) ORDER BY key LIMIT ?",
        )
        .bind(text(run))
        .bind(i64::from(u32::try_from(after).unwrap_or(u32::MAX)))
        .bind(count(limit));
        self.0.read(query, rows::journal_entry).await
    }

    async fn cached(&self, key: &Digest) -> Result<Option<ExecutionRecord>> {
        let query = sqlx::query(
            "SELECT record FROM executions WHERE cache_key = ? AND record ->> 'cache_key' = ?
             ORDER BY id DESC LIMIT 1",
        )
        .bind(prefix(key))
        .bind(key.to_string());
        Ok(self.0.read(query, rows::execution).await?.pop())
    }

    async fn executions(&self, query: &LineageQuery) -> Result<Page<ExecutionRecord>> {
        let mut sql = QueryBuilder::new("SELECT id AS cursor, record FROM executions WHERE TRUE");
        if let Some(run) = &query.run {
            sql.push(" AND id > (SELECT no FROM runs WHERE id = ").push_bind(text(run)).push(") << 32");
            sql.push(" AND id < ((SELECT no FROM runs WHERE id = ").push_bind(text(run)).push(") + 1) << 32");
        }
        for (digest, made, list) in
            [(&query.reads, 0, "$.input_artifacts"), (&query.makes, 1, "$.output_artifacts")]
        {
            let Some(digest) = digest else { continue };
            sql.push(" AND id IN (SELECT execution FROM io WHERE digest = ").push_bind(prefix(digest));
            sql.push(" AND made = ").push_bind(made).push(") AND EXISTS (SELECT 1 FROM json_each(record, ");
            sql.push_bind(list).push(") AS each WHERE each.value ->> '$.artifact.digest' = ");
            sql.push_bind(digest.to_string()).push(")");
        }
        if let Some(after) = cursor(query.after.as_deref())? {
            sql.push(" AND id > ").push_bind(after);
        }
        sql.push(" ORDER BY id");
        self.0.page(sql, query.limit, rows::execution).await
    }
}

fn text(run: &RunId) -> String {
    run.as_str().to_owned()
}

fn count(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn cursor(after: Option<&str>) -> Result<Option<i64>> {
    let parse = |text: &str| {
        text.parse().map_err(|_| Error::Invalid {
            what: "page cursor",
            found: text.to_owned(),
            expected: "the `next` of the page before",
        })
    };
    after.map(parse).transpose()
}

fn same_json(a: &str, b: &str) -> bool {
    let parse = |text| serde_json::from_str::<serde_json::Value>(text).ok();
    a == b || parse(a).is_some_and(|a| Some(a) == parse(b))
}

fn no_run(run: &RunId) -> Error {
    Error::NotFound { what: "run", name: run.to_string() }
}
