//! Metadata in an SQLite file.

mod commit;
mod connections;
mod failure;
mod lease;
mod open;
mod rows;
mod select;
mod threads;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::types::Value;
use rusqlite::{OptionalExtension, TransactionBehavior, params};

use self::commit::{Head, Prepared, prefix};
use self::connections::Connections;
pub(crate) use self::failure::is_retryable;
use self::failure::{Fault, failure, is_busy};
use self::lease::{Locks, fenced};
use self::rows::RUN;
use self::select::Select;
use super::page::{count, cursor};
use super::same::same_run;
use super::{
    Commit, Created, ExecutionRecord, Hold, JournalEntry, Lease, LineageQuery, MetadataStore, NewRun, Page,
    RunQuery, RunRecord,
};
use crate::{Digest, Error, Result, RunId};

/// A commit of more pages than this takes long enough to be worth the way to another thread.
const FEW_PAGES: usize = 32;
/// Bytes of a pipeline from which on its pages are not kept in memory once they are written.
const LONG_SPEC: usize = 64 << 10;

/// A [`MetadataStore`] in an SQLite file, for the engines of one machine.
///
/// The file is in WAL mode with `synchronous = NORMAL`: a commit survives the death of the process, however
/// violent; a power cut may take the last commits with it, in order and whole ones only.
///
/// A lease is a lock on a file in the folder `<database>-locks`, so it ends with the process that holds it and has
/// no time limit: a `ttl` is not looked at.
///
/// Clones share one connection for writing and a few for reading. A small commit is made on the caller's thread, where
/// it takes some tens of microseconds; large ones, those that have to wait for another process, reads, and the copying
/// of the write-ahead log are made on a few threads of the store's own, which end with its last clone. That one's drop
/// closes the file and copies what is left of the log. That is 16 MiB, or where a disk is slower than its writers 32 MiB, from
/// which on commits wait; it is more only while a reader needs it, or where it can't be copied.
#[derive(Clone)]
pub struct SqliteMetadata(Arc<Inner>);

struct Inner {
    connections: Arc<Connections>,
    locks: Locks,
}

impl fmt::Debug for SqliteMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SqliteMetadata").field(&self.0.connections.path).finish()
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
        let locks = Locks::Folder(open::locks_beside(&path));
        let opening = tokio::task::spawn_blocking(move || {
            let writer = open::file(&path)?;
            Connections::to_file(path, writer).map(Arc::new)
        });
        let connections = opening
            .await
            .map_err(|error| Error::Process(format!("opening a database was interrupted: {error}")))??;
        Ok(Self(Arc::new(Inner { connections, locks })))
    }

    /// A database in memory, gone with the last clone.
    ///
    /// # Errors
    /// [`Error::Database`] where SQLite can't start.
    pub async fn in_memory() -> Result<Self> {
        let connections = Arc::new(Connections::in_memory(":memory:".into(), open::memory()?)?);
        Ok(Self(Arc::new(Inner { connections, locks: Locks::Memory(Arc::default()) })))
    }
}

impl Inner {
    fn failure(&self, context: &'static str) -> impl FnOnce(rusqlite::Error) -> Error {
        failure(&self.connections.path, context)
    }

    async fn head(&self, run: &RunId) -> Result<Head> {
        let id = run.clone();
        let head = self.connections.read(move |connection| Head::of(connection, id.as_str())).await?;
        head.ok_or_else(|| no_run(run))
    }
}

/// How many runs were made: none where one of this id is there.
fn insert_run(connection: &rusqlite::Connection, new: &NewRun) -> rusqlite::Result<usize> {
    connection.execute(
        "INSERT INTO runs (id, pipeline, spec_digest, args, created_at, spec) VALUES (?, ?, ?, ?, ?, ?)
         ON CONFLICT DO NOTHING",
        params![
            new.id.as_str(),
            new.pipeline,
            new.spec_digest.to_string(),
            new.args,
            new.created_at.as_millis(),
            new.spec
        ],
    )
}

#[async_trait]
impl MetadataStore for SqliteMetadata {
    async fn create_run(&self, run: NewRun) -> Result<Created> {
        let new = run.clone();
        let insert = move |connection: &mut rusqlite::Connection| match new.spec.len() > LONG_SPEC {
            true => open::past_the_cache(connection, |connection| insert_run(connection, &new)),
            false => insert_run(connection, &new),
        };
        let made = self.0.connections.write(insert).await?;
        if made.map_err(self.0.failure("create a run in"))? > 0 {
            self.0.connections.wrote(4 + run.spec.len() / 4096);
            return Ok(Created::New);
        }
        let found = self.run(&run.id).await?.ok_or_else(|| no_run(&run.id))?;
        same_run(found, &run)
    }

    async fn acquire(&self, run: &RunId, owner: &str, _ttl: Duration) -> Result<Lease> {
        self.0.head(run).await?;
        let guard = self.0.locks.take(run, owner)?;
        let id = run.clone();
        // The lock goes along, so that nobody gets it while this is under way, also where the caller goes away.
        let take = move |connection: &mut rusqlite::Connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction.execute(
                "UPDATE heads SET epoch = epoch + 1 WHERE no = (SELECT no FROM runs WHERE id = ?)",
                [id.as_str()],
            )?;
            let head = Head::of(&transaction, id.as_str())?;
            transaction.commit()?;
            Ok((guard, head))
        };
        let (guard, head) =
            self.0.connections.write(take).await?.map_err(self.0.failure("take a lease in"))?;
        let Head { epoch, seq, .. } = head.ok_or_else(|| no_run(run))?;
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

    async fn hold(&self, hold: &mut Hold, places: u32) -> Result<bool> {
        if hold.guard.is_some() {
            return Ok(true);
        }
        let (store, name) = (self.clone(), hold.name.clone());
        let owner = format!("run {}, lease {}", hold.run, hold.epoch);
        let take = move || {
            let mut free = (0..places.max(1)).map(|place| store.0.locks.hold(&name, place, &owner));
            free.find_map(Result::transpose).transpose()
        };
        let interrupted = |error| Error::Process(format!("taking a place was interrupted: {error}"));
        hold.guard = tokio::task::spawn_blocking(take).await.map_err(interrupted)??;
        Ok(hold.guard.is_some())
    }

    async fn let_go(&self, hold: &mut Hold) -> Result<()> {
        hold.guard = None;
        Ok(())
    }

    async fn commit(&self, commit: Commit) -> Result<u64> {
        // A small commit is made without a pause, so that one who makes many lets others have their turn here.
        tokio::task::consume_budget().await;
        let run = commit.run.clone();
        let prepared = Prepared::new(commit)?;
        let (connections, pages) = (&self.0.connections, prepared.pages());
        let at_once = if pages > FEW_PAGES {
            None
        } else {
            connections.write_now(|connection| commit::make(connection, &prepared))
        };
        let made = match at_once {
            Some(Err(Fault::Sql(error))) if is_busy(&error) => None,
            made => made,
        };
        let made = match made {
            Some(made) => made,
            None => connections.write(move |connection| commit::make(connection, &prepared)).await?,
        };
        let seq = made.map_err(|fault| match fault {
            Fault::Fenced(detail) => fenced(&run, detail),
            Fault::NoRun => no_run(&run),
            Fault::Sql(error) => self.0.failure("commit to")(error),
        })?;
        connections.wrote(pages);
        Ok(seq)
    }

    async fn run(&self, run: &RunId) -> Result<Option<RunRecord>> {
        let run = run.clone();
        let read = move |connection: &rusqlite::Connection| {
            let mut query = connection.prepare_cached(&format!("{RUN} AND id = ?"))?;
            query.query_row([run.as_str()], rows::run).optional()
        };
        self.0.connections.read(read).await
    }

    async fn runs(&self, query: &RunQuery) -> Result<Page<RunRecord>> {
        let mut select = if query.brief { Select::new(&rows::brief_run()) } else { Select::new(RUN) };
        if let Some(pipeline) = &query.pipeline {
            select = select.and("pipeline = ?", [pipeline.clone()]);
        }
        if let Some(state) = query.state {
            select = select.and("state = ?", [state.as_str().to_owned()]);
        }
        if let Some(ids) = &query.ids {
            let ids = serde_json::to_string(ids).expect("ids are text");
            select = select.and("id IN (SELECT value FROM json_each(?))", [ids]);
        }
        if let Some(after) = cursor(query.after.as_deref())? {
            select = select.and("no < ?", [after]);
        }
        let limit = query.limit;
        self.0.connections.read(move |connection| select.page(connection, "no DESC", limit, rows::run)).await
    }

    async fn journal(&self, run: &RunId, after: u64, limit: usize) -> Result<Vec<JournalEntry>> {
        let run = run.clone();
        let read = move |connection: &rusqlite::Connection| {
            let mut query = connection.prepare_cached(
                "SELECT key & 4294967295 AS seq, at, events FROM journal, (SELECT no FROM runs WHERE id = ?)
                 WHERE key > (no << 32 | ?) AND key < ((no + 1) << 32) ORDER BY key LIMIT ?",
            )?;
            let after = u32::try_from(after).unwrap_or(u32::MAX);
            query.query_map(params![run.as_str(), after, count(limit)], rows::journal_entry)?.collect()
        };
        self.0.connections.read(read).await
    }

    async fn cached(&self, key: &Digest, not_of: &RunId) -> Result<Option<ExecutionRecord>> {
        let (key, not_of) = (*key, not_of.clone());
        let read = move |connection: &rusqlite::Connection| {
            let mut query = connection.prepare_cached(
                "SELECT record FROM executions
                 WHERE cache_key = ? AND record ->> 'cache_key' = ? AND record ->> 'run' <> ?
                 ORDER BY id DESC LIMIT 1",
            )?;
            query
                .query_row(params![prefix(&key), key.to_string(), not_of.as_str()], rows::execution)
                .optional()
        };
        self.0.connections.read(read).await
    }

    async fn executions(&self, query: &LineageQuery) -> Result<Page<ExecutionRecord>> {
        let mut select = Select::new("SELECT id AS cursor, record FROM executions WHERE TRUE");
        if let Some(run) = &query.run {
            let id = run.as_str().to_owned();
            select = select
                .and("id > (SELECT no FROM runs WHERE id = ?) << 32", [id.clone()])
                .and("id < ((SELECT no FROM runs WHERE id = ?) + 1) << 32", [id]);
        }
        for (digest, made, list) in
            [(&query.reads, 0, "$.input_artifacts"), (&query.makes, 1, "$.output_artifacts")]
        {
            let Some(digest) = digest else { continue };
            select = select
                .and::<i64>(
                    "id IN (SELECT execution FROM io WHERE digest = ? AND made = ?)",
                    [prefix(digest), made],
                )
                .and(
                    "EXISTS (SELECT 1 FROM json_each(record, ?) AS each
                             WHERE each.value ->> '$.artifact.digest' = ?)",
                    [Value::from(list.to_owned()), Value::from(digest.to_string())],
                );
        }
        if let Some(after) = cursor(query.after.as_deref())? {
            select = select.and("id > ?", [after]);
        }
        let limit = query.limit;
        self.0.connections.read(move |connection| select.page(connection, "id", limit, rows::execution)).await
    }
}

fn no_run(run: &RunId) -> Error {
    Error::NotFound { what: "run", name: run.to_string() }
}
