//! Metadata in PostgreSQL.

mod commit;
mod failure;
mod lease;
mod open;
mod options;
mod rows;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::AssertSqlSafe;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgPool, PgRow};
use sqlx::query::Query;
use sqlx::{Postgres, QueryBuilder, Row};

use self::commit::{Prepared, keepable};
use self::failure::failure;
pub(crate) use self::failure::is_retryable;
use self::lease::{Dropped, Guard, holder};
pub use self::options::PostgresOptions;
use self::rows::RUN;
use super::same::same_run;
use super::{
    Commit, Created, ExecutionRecord, Hold, JournalEntry, Lease, LineageQuery, MetadataStore, NewRun, Page,
    RunQuery, RunRecord, page,
};
use crate::mutex::locked;
use crate::{Digest, Error, Result, RunId, Timestamp};

/// A [`MetadataStore`] in a PostgreSQL database (12 or newer), for engines of any number of machines.
///
/// Every call is one statement, and so one transaction and one round trip: a commit writes journal, state and lineage
/// together. A commit that is made again under the same lease with the same content, because the connection broke before
/// its answer came, is found made.
///
/// A lease ends `ttl` after it was taken or renewed by the clock of the database's server; those of the engines do not
/// matter. A commit is refused by the lease's number, not by its time, so an engine that slept through its lease does no
/// harm, and one whose lease ended without another taking the run goes on.
///
/// Where the server is away, calls end with an error that [may be tried again](Error::is_retryable), at the latest after
/// [`PostgresOptions::patience`]; connections are made anew when it is back.
///
/// The tables lie in a schema of their own, which is made by the first who opens it, under an advisory lock.
///
/// Clones share the connections.
#[derive(Clone)]
pub struct PostgresMetadata(Arc<Inner>);

struct Inner {
    pool: PgPool,
    /// What errors call it.
    name: String,
    patience: Duration,
    dropped: Dropped,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Debug for PostgresMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PostgresMetadata").field(&self.0.name).finish()
    }
}

impl PostgresMetadata {
    /// Connects to the database of this URL, as [`PostgresOptions::new`] takes it, and opens the schema `kf`.
    ///
    /// # Errors
    /// Those of [`open`](Self::open), and [`Error::Invalid`] where the URL is none.
    pub async fn connect(url: &str) -> Result<Self> {
        Self::open(PostgresOptions::new(url)?).await
    }

    /// Connects, and makes the schema or brings it to this version's format where it is older.
    ///
    /// # Errors
    /// [`Error::TooNew`] where a newer version made the schema, [`Error::Conflict`] where it holds another program's
    /// tables, [`Error::Database`] where the server can't be reached or refuses.
    pub async fn open(options: PostgresOptions) -> Result<Self> {
        let name = open::name(&options);
        let pool = open::pool(&options, &name).await?;
        Ok(Self(Arc::new(Inner { pool, name, patience: options.patience, dropped: Dropped::default() })))
    }

    /// Closes the connections. Other clones can't be used afterwards.
    pub async fn close(&self) {
        self.0.pool.close().await;
    }
}

/// What places under a name are kept under: an index has room for short texts, of characters that it knows.
fn held_name(name: &str) -> String {
    Digest::of(name).to_hex()
}

/// A connection with a statement under way. Left before the answer, it is closed: nobody else is to wait for it.
struct Asking(Option<PoolConnection<Postgres>>);

impl Drop for Asking {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}

impl Inner {
    /// What a statement gives, in time or not at all.
    async fn ask(
        &self,
        context: &'static str,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<Vec<PgRow>> {
        let asking = async {
            let mut asking = Asking(Some(self.pool.acquire().await?));
            let Some(connection) = &mut asking.0 else { return Ok(Vec::new()) };
            let rows = query.fetch_all(&mut **connection).await;
            if !matches!(rows, Err(sqlx::Error::Io(_))) {
                drop(asking.0.take());
            }
            rows
        };
        let late = || {
            let what = format!("no answer in {:?}", self.patience);
            sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, what))
        };
        let answer = tokio::time::timeout(self.patience, asking).await.unwrap_or_else(|_| Err(late()));
        answer.map_err(|error| failure(&self.name, context, error))
    }

    async fn list<T>(
        &self,
        query: Query<'_, Postgres, PgArguments>,
        decode: impl Fn(&PgRow) -> sqlx::Result<T>,
    ) -> Result<Vec<T>> {
        let rows = self.ask("read", query).await?;
        rows.iter().map(|row| decode(row).map_err(|error| self.unreadable(error))).collect()
    }

    /// A page of what the query finds; it has a column `cursor`.
    async fn page<T>(
        &self,
        mut query: QueryBuilder<Postgres>,
        order: &str,
        limit: usize,
        decode: impl Fn(&PgRow) -> sqlx::Result<T>,
    ) -> Result<Page<T>> {
        let limit = if limit == 0 { 100 } else { limit };
        // One more, to know whether there is a next page.
        query.push(" ORDER BY ").push(order).push(" LIMIT ").push_bind(page::count(limit.saturating_add(1)));
        let decode = |row: &PgRow| Ok((row.try_get::<i64, _>("cursor")?, decode(row)?));
        let rows = self.list(query.build(), decode).await?;
        Ok(page::of(rows, limit))
    }

    fn unreadable(&self, error: sqlx::Error) -> Error {
        failure(&self.name, "understand what was read from", error)
    }

    fn get<'r, T>(&self, row: &'r PgRow, column: &str) -> Result<T>
    where
        T: sqlx::Decode<'r, Postgres> + sqlx::Type<Postgres>,
    {
        row.try_get(column).map_err(|error| self.unreadable(error))
    }

    /// Takes a place that is free, or was that of a lease that is no more.
    async fn take_place(&self, hold: &Hold, places: u32) -> Result<bool> {
        // Who took a place since this began may have a lease that cannot be seen from here yet.
        let taken = "(holds.taken >= now() OR EXISTS (SELECT FROM heads WHERE heads.no = holds.run
                      AND heads.epoch = holds.epoch AND held_until IS NOT NULL)) AND holds.id <> $5";
        let statement = format!(
            "INSERT INTO holds (name, place, run, epoch, id)
             SELECT $1, place, runs.no, $4, $5 FROM runs JOIN heads USING (no), generate_series(0, $2 - 1) AS place
             WHERE runs.id = $3 AND heads.epoch = $4 AND held_until > clock_timestamp()
                 AND NOT EXISTS (SELECT FROM holds WHERE name = $1 AND holds.place = place.place AND {taken})
             ORDER BY EXISTS (SELECT FROM holds WHERE name = $1 AND holds.place = place.place AND id = $5) DESC, place
             LIMIT 1
             ON CONFLICT (name, place) DO UPDATE
                 SET run = excluded.run, epoch = excluded.epoch, id = excluded.id, taken = clock_timestamp()
                 WHERE NOT ({taken})
             RETURNING place"
        );
        let places = i32::try_from(places.max(1)).unwrap_or(i32::MAX);
        let name = held_name(&hold.name);
        let insert = sqlx::query(AssertSqlSafe(statement)).bind(&name).bind(places).bind(hold.run.as_str());
        let insert = insert.bind(hold.epoch.cast_signed()).bind(hold.id.to_string());
        Ok(!self.ask("take a place under a name in", insert).await?.is_empty())
    }

    async fn give_back(&self, run: &RunId, epoch: i64) -> Result<()> {
        let query = sqlx::query(
            "WITH ended AS (
                 UPDATE heads SET held_until = NULL, owner = NULL
                 WHERE no = (SELECT no FROM runs WHERE id = $1) AND epoch = $2 RETURNING no
             )
             DELETE FROM holds USING ended WHERE run = ended.no AND epoch = $2",
        );
        self.ask("give back a lease in", query.bind(run.as_str()).bind(epoch)).await.map(drop)
    }
}

#[async_trait]
impl MetadataStore for PostgresMetadata {
    async fn create_run(&self, run: NewRun) -> Result<Created> {
        for (what, text) in
            [("pipeline name", &*run.pipeline), ("arguments of a run", &*run.args), ("pipeline", &*run.spec)]
        {
            keepable(what, text)?;
        }
        let digest = run.spec_digest.to_string();
        let insert = sqlx::query(
            "WITH made AS (
                 INSERT INTO runs (id, pipeline, spec_digest, args, created_at, spec) VALUES ($1, $2, $3, $4, $5, $6)
                 ON CONFLICT (id) DO NOTHING RETURNING no
             )
             INSERT INTO heads (no) SELECT no FROM made RETURNING no",
        )
        .bind(run.id.as_str())
        .bind(&run.pipeline)
        .bind(&digest)
        .bind(&run.args)
        .bind(run.created_at.as_millis())
        .bind(&*run.spec);
        if !self.0.ask("create a run in", insert).await?.is_empty() {
            return Ok(Created::New);
        }
        let found = self.run(&run.id).await?.ok_or_else(|| no_run(&run.id))?;
        same_run(found, &run)
    }

    async fn acquire(&self, run: &RunId, owner: &str, ttl: Duration) -> Result<Lease> {
        let dropped = locked(&self.0.dropped).remove(run);
        let take = sqlx::query(
            "UPDATE heads SET epoch = epoch + 1, owner = $2, held_until = clock_timestamp() + $3 * interval '1 ms'
             WHERE no = (SELECT no FROM runs WHERE id = $1)
                 AND (held_until IS NULL OR held_until <= clock_timestamp() OR epoch = $4)
             RETURNING epoch, seq, (extract(epoch FROM held_until) * 1000)::bigint AS until",
        );
        let holder = holder(owner);
        let take = take.bind(run.as_str()).bind(&holder).bind(millis(ttl)).bind(dropped);
        let taken = self.0.ask("take a lease in", take).await?;
        let Some(row) = taken.first() else {
            let asked =
                sqlx::query("SELECT owner FROM runs JOIN heads USING (no) WHERE id = $1").bind(run.as_str());
            let found = self.0.ask("read", asked).await?;
            let found = found.first().ok_or_else(|| no_run(run))?;
            let owner: Option<String> = self.0.get(found, "owner")?;
            let holder = owner.unwrap_or_else(|| "another engine".to_owned());
            return Err(Error::Held { what: "run", name: run.to_string(), holder });
        };
        let epoch: i64 = self.0.get(row, "epoch")?;
        Ok(Lease {
            run: run.clone(),
            epoch: epoch.cast_unsigned(),
            seq: self.0.get::<i64>(row, "seq")?.cast_unsigned(),
            expires_at: Some(Timestamp::from_millis(self.0.get(row, "until")?)),
            guard: Some(Box::new(Guard::new(&self.0, run, epoch))),
        })
    }

    async fn renew(&self, lease: &mut Lease, ttl: Duration) -> Result<()> {
        let renew = sqlx::query(
            "UPDATE heads SET held_until = clock_timestamp() + $3 * interval '1 ms'
             WHERE no = (SELECT no FROM runs WHERE id = $1) AND epoch = $2 AND held_until IS NOT NULL
             RETURNING (extract(epoch FROM held_until) * 1000)::bigint AS until",
        );
        let renew = renew.bind(lease.run.as_str()).bind(lease.epoch.cast_signed()).bind(millis(ttl));
        let renewed = self.0.ask("renew a lease in", renew).await?;
        let Some(row) = renewed.first() else {
            let detail = match self.run(&lease.run).await? {
                Some(found) => {
                    format!("the lease is number {}, and {} was given out since", lease.epoch, found.epoch)
                }
                None => "the run is gone".to_owned(),
            };
            return Err(Error::Fenced { run: lease.run.to_string(), detail });
        };
        lease.expires_at = Some(Timestamp::from_millis(self.0.get(row, "until")?));
        Ok(())
    }

    async fn release(&self, mut lease: Lease) -> Result<()> {
        self.0.give_back(&lease.run, lease.epoch.cast_signed()).await?;
        if let Some(guard) = lease.guard.as_mut().and_then(|guard| guard.downcast_mut::<Guard>()) {
            guard.disarm();
        }
        Ok(())
    }

    async fn hold(&self, hold: &mut Hold, places: u32) -> Result<bool> {
        if self.0.take_place(hold, places).await? {
            return Ok(true);
        }
        // Only here time counts, on the row itself: a lease that is over is taken away before its places are.
        let over = sqlx::query(
            "UPDATE heads SET held_until = NULL, owner = NULL FROM holds
             WHERE holds.name = $1 AND heads.no = holds.run AND heads.epoch = holds.epoch
                 AND held_until <= clock_timestamp()
             RETURNING heads.no",
        );
        let name = held_name(&hold.name);
        let ended = self.0.ask("end leases that are over in", over.bind(&name)).await?;
        if ended.is_empty() { Ok(false) } else { self.0.take_place(hold, places).await }
    }

    async fn let_go(&self, hold: &mut Hold) -> Result<()> {
        let delete = sqlx::query("DELETE FROM holds WHERE name = $1 AND id = $2");
        let name = held_name(&hold.name);
        let delete = delete.bind(&name).bind(hold.id.to_string());
        self.0.ask("give back a place under a name in", delete).await.map(drop)
    }

    async fn commit(&self, commit: Commit) -> Result<u64> {
        let prepared = Prepared::new(commit)?;
        let made = self.0.ask("commit to", prepared.statement()).await?;
        if let Some(row) = made.first() {
            return Ok(self.0.get::<i64>(row, "seq")?.cast_unsigned());
        }
        let found = self.0.ask("read", prepared.question()).await?;
        let commit = prepared.commit();
        let row = found.first().ok_or_else(|| no_run(&commit.run))?;
        if self.0.get(row, "made")? {
            return Ok(commit.expected_seq + 1);
        }
        let (epoch, seq): (i64, i64) = (self.0.get(row, "epoch")?, self.0.get(row, "seq")?);
        Err(Error::Fenced {
            run: commit.run.to_string(),
            detail: format!(
                "the commit was under lease {} after commit {}, and the store is at lease {epoch} and commit {seq}",
                commit.epoch, commit.expected_seq
            ),
        })
    }

    async fn run(&self, run: &RunId) -> Result<Option<RunRecord>> {
        let mut query = QueryBuilder::new(RUN);
        query.push(" AND id = ").push_bind(run.as_str());
        Ok(self.0.list(query.build(), rows::run).await?.pop())
    }

    async fn runs(&self, wanted: &RunQuery) -> Result<Page<RunRecord>> {
        let mut query =
            if wanted.brief { QueryBuilder::new(rows::brief_run()) } else { QueryBuilder::new(RUN) };
        if let Some(pipeline) = &wanted.pipeline {
            keepable("pipeline name", pipeline)?;
            query.push(" AND pipeline = ").push_bind(pipeline.clone());
        }
        if let Some(state) = wanted.state {
            query.push(" AND state = ").push_bind(state.as_str());
        }
        if let Some(ids) = &wanted.ids {
            let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
            query.push(" AND id = ANY(").push_bind(ids).push(")");
        }
        if let Some(after) = page::cursor(wanted.after.as_deref())? {
            query.push(" AND no < ").push_bind(after);
        }
        self.0.page(query, "no DESC", wanted.limit, rows::run).await
    }

    async fn journal(&self, run: &RunId, after: u64, limit: usize) -> Result<Vec<JournalEntry>> {
        let query = sqlx::query(
            "SELECT seq, at, events FROM journal WHERE run = (SELECT no FROM runs WHERE id = $1) AND seq > $2
             ORDER BY seq LIMIT $3",
        );
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        let query = query.bind(run.as_str()).bind(after).bind(page::count(limit));
        self.0.list(query, rows::journal_entry).await
    }

    async fn cached(&self, key: &Digest, not_of: &RunId) -> Result<Option<ExecutionRecord>> {
        let query = sqlx::query(
            "SELECT record FROM executions
             WHERE cache_key = $1 AND run IS DISTINCT FROM (SELECT no FROM runs WHERE id = $2)
             ORDER BY id DESC LIMIT 1",
        );
        let query = query.bind(key.as_bytes().as_slice()).bind(not_of.as_str());
        Ok(self.0.list(query, rows::execution).await?.into_iter().next())
    }

    async fn executions(&self, wanted: &LineageQuery) -> Result<Page<ExecutionRecord>> {
        let mut query = QueryBuilder::new("SELECT id AS cursor, record FROM executions WHERE TRUE");
        if let Some(run) = &wanted.run {
            for (compare, next) in [(">", 0_i64), ("<", 1)] {
                query.push(format!(" AND id {compare} ((SELECT no FROM runs WHERE runs.id = "));
                query.push_bind(run.as_str()).push(") + ").push_bind(next).push(") << 32");
            }
        }
        for (digest, made) in [(&wanted.reads, false), (&wanted.makes, true)] {
            let Some(digest) = digest else { continue };
            query.push(" AND id IN (SELECT execution FROM io WHERE digest = ");
            query.push_bind(digest.as_bytes().to_vec()).push(" AND made = ").push_bind(made).push(")");
        }
        if let Some(after) = page::cursor(wanted.after.as_deref())? {
            query.push(" AND id > ").push_bind(after);
        }
        self.0.page(query, "id", wanted.limit, rows::execution).await
    }
}

fn millis(ttl: Duration) -> i64 {
    // More than a hundred years is for ever, and PostgreSQL can add it to a time.
    i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX).min(100 * 365 * 24 * 3600 * 1000)
}

fn no_run(run: &RunId) -> Error {
    Error::NotFound { what: "run", name: run.to_string() }
}
