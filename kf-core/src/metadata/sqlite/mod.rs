//! Metadata in an SQLite file.

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

pub(crate) use self::failure::is_retryable;
use self::failure::{failure, is_fenced};
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
}

impl fmt::Debug for SqliteMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SqliteMetadata").field(&self.0.path).finish()
    }
}

impl SqliteMetadata {
    /// Opens the database, which is made where it is missing and brought to this version's format where it is
    /// older. Its folder must be there.
    ///
    /// # Errors
    /// [`Error::TooNew`] where a newer version wrote it, [`Error::Corrupt`] where it is no database or damaged,
    /// [`Error::Conflict`] where it is another program's, [`Error::Io`] where it can't be opened.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = std::path::absolute(path.as_ref()).map_err(Error::io("resolve", path.as_ref()))?;
        let (writer, readers) = open::file(&path).await?;
        let locks = Locks::Folder(open::locks_beside(&path));
        Ok(Self(Arc::new(Inner { path, writer: Mutex::new(writer), readers: Some(readers), locks })))
    }

    /// A database in memory, gone with the last clone.
    ///
    /// # Errors
    /// [`Error::Database`] where SQLite can't start.
    pub async fn in_memory() -> Result<Self> {
        let writer = Mutex::new(open::memory().await?);
        let locks = Locks::Memory(Arc::default());
        Ok(Self(Arc::new(Inner { path: ":memory:".into(), writer, readers: None, locks })))
    }

    fn failure(&self, context: &'static str) -> impl FnOnce(sqlx::Error) -> Error {
        failure(&self.0.path, context)
    }

    async fn read<T>(
        &self,
        query: sqlx::query::Query<'_, Sqlite, SqliteArguments>,
        decode: impl Fn(&SqliteRow) -> sqlx::Result<T>,
    ) -> Result<Vec<T>> {
        let rows = match &self.0.readers {
            Some(readers) => query.fetch_all(readers).await,
            None => query.fetch_all(&mut *self.0.writer.lock().await).await,
        };
        let rows = rows.map_err(self.failure("read"))?;
        rows.iter().map(decode).collect::<sqlx::Result<_>>().map_err(self.failure("read"))
    }

    /// A page of what `query` finds with one row more than the page holds, and the cursor of the next.
    async fn page<T>(
        &self,
        mut query: QueryBuilder<Sqlite>,
        limit: usize,
        decode: impl Fn(&SqliteRow) -> sqlx::Result<T>,
    ) -> Result<Page<T>> {
        let limit = if limit == 0 { 100 } else { limit };
        query.push(" LIMIT ").push_bind(count(limit.saturating_add(1)));
        let mut rows =
            self.read(query.build(), |row| Ok((row.try_get::<i64, _>("cursor")?, decode(row)?))).await?;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(|(cursor, _)| cursor.to_string());
        Ok(Page { items: rows.into_iter().map(|(_, item)| item).collect(), next })
    }

    async fn write(&self, query: sqlx::query::Query<'_, Sqlite, SqliteArguments>) -> sqlx::Result<u64> {
        Ok(query.execute(&mut *self.0.writer.lock().await).await?.rows_affected())
    }

    async fn head(&self, run: &RunId) -> Result<(u64, u64)> {
        let query =
            sqlx::query("SELECT epoch, seq FROM runs JOIN heads USING (no) WHERE id = ?").bind(text(run));
        let found =
            self.read(query, |row| Ok((rows::number(row, "epoch")?, rows::number(row, "seq")?))).await?;
        found.first().copied().ok_or_else(|| no_run(run))
    }
}

const RUN: &str = "SELECT no AS cursor, id, pipeline, spec_digest, spec, args, created_at, state, error, ended_at, \
                   epoch, seq FROM runs JOIN heads USING (no) WHERE TRUE";

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
        if self.write(insert).await.map_err(self.failure("create a run in"))? > 0 {
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
        self.head(run).await?;
        let guard = self.0.locks.take(run, owner)?;
        let query = sqlx::query(
            "UPDATE heads SET epoch = epoch + 1 WHERE no = (SELECT no FROM runs WHERE id = ?) RETURNING epoch, seq",
        )
        .bind(text(run));
        let rows = query
            .fetch_all(&mut *self.0.writer.lock().await)
            .await
            .map_err(self.failure("take a lease in"))?;
        let row = rows.first().ok_or_else(|| no_run(run))?;
        let epoch = rows::number(row, "epoch").map_err(self.failure("read"))?;
        let seq = rows::number(row, "seq").map_err(self.failure("read"))?;
        Ok(lease::lease(run, epoch, seq, guard))
    }

    async fn renew(&self, lease: &mut Lease, _ttl: Duration) -> Result<()> {
        let (epoch, _) = self.head(&lease.run).await?;
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
        let Commit { run, epoch, expected_seq, at, events, state, lineage } = commit;
        if let Some(stray) = lineage.executions.iter().find(|execution| execution.run != run) {
            return Err(Error::Invalid {
                what: "execution",
                found: format!("{} of run {}", stray.task, stray.run),
                expected: "executions of the run that the commit is for",
            });
        }
        let (executions, io) = lineage_as_json(&lineage.executions).map_err(self.failure("write"))?;
        let (state, error) = state.map_or((None, None), |(state, error)| (Some(state), error));
        let query = sqlx::query(
            "INSERT INTO commits (run, epoch, expected_seq, at, events, state, error, ended_at, executions, io)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(text(&run))
        .bind(epoch.cast_signed())
        .bind(expected_seq.cast_signed())
        .bind(at.as_millis())
        .bind(events)
        .bind(state.map(|state| state.as_str()))
        .bind(error)
        .bind(state.filter(|state| state.is_terminal()).map(|_| at.as_millis()))
        .bind(executions)
        .bind(io);
        match self.write(query).await {
            Ok(_) => Ok(expected_seq + 1),
            Err(error) if is_fenced(&error) => {
                let (newest, last) = self.head(&run).await?;
                Err(fenced(
                    &run,
                    format!(
                        "the commit was under lease {epoch} after commit {expected_seq}, and the store is at lease \
                         {newest} and commit {last}"
                    ),
                ))
            }
            Err(error) => Err(self.failure("commit to")(error)),
        }
    }

    async fn run(&self, run: &RunId) -> Result<Option<RunRecord>> {
        let mut query = QueryBuilder::new(RUN);
        query.push(" AND id = ").push_bind(text(run));
        Ok(self.read(query.build(), rows::run).await?.pop())
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
        self.page(sql, query.limit, rows::run).await
    }

    async fn journal(&self, run: &RunId, after: u64, limit: usize) -> Result<Vec<JournalEntry>> {
        let query = sqlx::query(
            "SELECT key & 4294967295 AS seq, at, events FROM journal, (SELECT no FROM runs WHERE id = ?)
             WHERE key > (no << 32 | ?) AND key < ((no + 1) << 32) ORDER BY key LIMIT ?",
        )
        .bind(text(run))
        .bind(i64::from(u32::try_from(after).unwrap_or(u32::MAX)))
        .bind(count(limit));
        self.read(query, rows::journal_entry).await
    }

    async fn cached(&self, key: &Digest) -> Result<Option<ExecutionRecord>> {
        let query = sqlx::query(
            "SELECT record FROM executions WHERE cache_key = ? AND cache_key IS NOT NULL AND state = 'COMPLETE'
             ORDER BY id DESC LIMIT 1",
        )
        .bind(key.to_string());
        Ok(self.read(query, rows::execution).await?.pop())
    }

    async fn executions(&self, query: &LineageQuery) -> Result<Page<ExecutionRecord>> {
        let mut sql = QueryBuilder::new("SELECT id AS cursor, record FROM executions WHERE TRUE");
        if let Some(run) = &query.run {
            sql.push(" AND run = (SELECT no FROM runs WHERE id = ").push_bind(text(run)).push(")");
        }
        for (digest, direction) in [(&query.reads, "in"), (&query.makes, "out")] {
            if let Some(digest) = digest {
                sql.push(" AND id IN (SELECT execution FROM io WHERE digest = ")
                    .push_bind(digest.to_string())
                    .push(" AND direction = ")
                    .push_bind(direction)
                    .push(")");
            }
        }
        if let Some(after) = cursor(query.after.as_deref())? {
            sql.push(" AND id > ").push_bind(after);
        }
        sql.push(" ORDER BY id");
        self.page(sql, query.limit, rows::execution).await
    }
}

/// The executions as one array, and their artifacts as arrays of task, direction, port, place and digest; none
/// where there are none.
fn lineage_as_json(executions: &[ExecutionRecord]) -> sqlx::Result<(Option<String>, Option<String>)> {
    let encode = |error: serde_json::Error| sqlx::Error::Encode(Box::new(error));
    if executions.is_empty() {
        return Ok((None, None));
    }
    let io: Vec<_> = executions
        .iter()
        .flat_map(|execution| {
            let each = |direction| move |io| (execution.task.as_str(), direction, io);
            let read = execution.input_artifacts.iter().map(each("in"));
            read.chain(execution.output_artifacts.iter().map(each("out")))
        })
        .filter_map(|(task, direction, io)| Some((task, direction, &io.port, io.index, io.artifact.digest?)))
        .collect();
    let io = if io.is_empty() { None } else { Some(serde_json::to_string(&io).map_err(encode)?) };
    Ok((Some(serde_json::to_string(executions).map_err(encode)?), io))
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
