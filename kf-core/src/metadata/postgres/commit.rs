//! The hot path: a commit as one statement, and so one transaction and one round trip.

use std::collections::HashMap;

use sqlx::Postgres;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;

use crate::metadata::{Commit, ExecutionState};
use crate::{Error, Result};

/// Only where the head is where the caller thinks is there anything for the other parts to join. A head that is being
/// changed is waited for and looked at again (READ COMMITTED).
const COMMIT: &str = "
    WITH head AS (
        UPDATE heads SET
            seq = seq + 1, executions = executions + $10,
            state = coalesce($6, state),
            error = CASE WHEN $6 IS NULL THEN error ELSE $7 END,
            ended_at = CASE WHEN $6 IS NULL THEN ended_at ELSE $8 END
        WHERE no = (SELECT no FROM runs WHERE id = $1) AND epoch = $2 AND seq = $3
        RETURNING no, seq, executions - $10 AS place
    ), entry AS (
        INSERT INTO journal (run, seq, epoch, at, events) SELECT no, seq, $2, $4, $5 FROM head
    ), ended AS (
        INSERT INTO executions (id, run, task, cache_key, record)
        SELECT (no << 32) | (place + nth), no, task, cache_key, record
        FROM head, unnest($9::text[], $11::bytea[], $12::text[]) WITH ORDINALITY AS e (task, cache_key, record, nth)
        ON CONFLICT (run, task) DO UPDATE SET
            id = excluded.id, cache_key = excluded.cache_key, record = excluded.record
    ), joined AS (
        INSERT INTO io (digest, made, execution)
        SELECT DISTINCT digest, made, (no << 32) | (place + nth)
        FROM head, unnest($13::bytea[], $14::bool[], $15::bigint[]) AS i (digest, made, nth)
        ON CONFLICT DO NOTHING
    )
    SELECT seq FROM head";

/// A commit with everything made that needs no database.
pub(super) struct Prepared {
    commit: Commit,
    tasks: Vec<String>,
    cache_keys: Vec<Option<Vec<u8>>>,
    records: Vec<String>,
    digests: Vec<Vec<u8>>,
    made: Vec<bool>,
    /// The number of the execution that read or made the digest, from 1.
    of: Vec<i64>,
}

impl Prepared {
    /// # Errors
    /// [`Error::Invalid`] where an execution is of another run, or a text has a NUL in it, which PostgreSQL does not
    /// keep.
    pub(super) fn new(mut commit: Commit) -> Result<Self> {
        let executions = std::mem::take(&mut commit.lineage.executions);
        if let Some(stray) = executions.iter().find(|execution| execution.run != commit.run) {
            return Err(Error::Invalid {
                what: "execution",
                found: format!("{} of run {}", stray.task, stray.run),
                expected: "executions of the run that the commit is for",
            });
        }
        keepable("events of a commit", &commit.events)?;
        if let Some((_, Some(error))) = &mut commit.state
            && error.contains('\0')
        {
            *error = error.replace('\0', "\u{fffd}");
        }
        // A task that is there twice replaces itself, which one statement can't.
        let last: HashMap<&str, usize> =
            executions.iter().enumerate().map(|(at, execution)| (execution.task.as_str(), at)).collect();
        let mut prepared = Self {
            tasks: Vec::with_capacity(last.len()),
            cache_keys: Vec::with_capacity(last.len()),
            records: Vec::with_capacity(last.len()),
            digests: Vec::new(),
            made: Vec::new(),
            of: Vec::new(),
            commit,
        };
        for (at, execution) in executions.iter().enumerate() {
            if last[execution.task.as_str()] != at {
                continue;
            }
            keepable("path of a task", &execution.task)?;
            let record = serde_json::to_string(execution).map_err(|source| Error::Database {
                context: "write an execution as JSON".to_owned(),
                source: Box::new(source),
            })?;
            let reusable = execution.cache_key.filter(|_| execution.state == ExecutionState::Complete);
            prepared.tasks.push(execution.task.clone());
            prepared.cache_keys.push(reusable.map(|key| key.as_bytes().to_vec()));
            prepared.records.push(record);
            let number = prepared.tasks.len() as i64;
            for (list, made) in [(&execution.input_artifacts, false), (&execution.output_artifacts, true)] {
                for digest in list.iter().filter_map(|io| io.artifact.digest) {
                    prepared.digests.push(digest.as_bytes().to_vec());
                    prepared.made.push(made);
                    prepared.of.push(number);
                }
            }
        }
        Ok(prepared)
    }

    /// The statement; gives the commit's number, or nothing where it was not made.
    pub(super) fn statement(&self) -> Query<'_, Postgres, PgArguments> {
        let commit = &self.commit;
        let state = commit.state.as_ref();
        let ended = state.filter(|(state, _)| state.is_terminal()).map(|_| commit.at.as_millis());
        sqlx::query(COMMIT)
            .bind(commit.run.as_str())
            .bind(commit.epoch.cast_signed())
            .bind(commit.expected_seq.cast_signed())
            .bind(commit.at.as_millis())
            .bind(&commit.events)
            .bind(state.map(|(state, _)| state.as_str()))
            .bind(state.and_then(|(_, error)| error.as_deref()))
            .bind(ended)
            .bind(&self.tasks)
            .bind(self.tasks.len() as i64)
            .bind(&self.cache_keys)
            .bind(&self.records)
            .bind(&self.digests)
            .bind(&self.made)
            .bind(&self.of)
    }

    /// Where the run stands, and whether this very commit is there: the connection may have broken after it was made
    /// and before that was heard.
    pub(super) fn question(&self) -> Query<'_, Postgres, PgArguments> {
        let commit = &self.commit;
        sqlx::query(
            "SELECT heads.epoch, heads.seq, EXISTS (
                 SELECT 1 FROM journal WHERE run = heads.no AND seq = $3 + 1 AND heads.seq = seq
                 AND epoch = $2 AND heads.epoch = epoch AND at = $4 AND events = $5) AS made
             FROM runs JOIN heads USING (no) WHERE id = $1",
        )
        .bind(commit.run.as_str())
        .bind(commit.epoch.cast_signed())
        .bind(commit.expected_seq.cast_signed())
        .bind(commit.at.as_millis())
        .bind(&commit.events)
    }

    pub(super) fn commit(&self) -> &Commit {
        &self.commit
    }
}

/// Refuses what PostgreSQL's texts can't hold.
pub(super) fn keepable(what: &'static str, text: &str) -> Result<()> {
    if !text.contains('\0') {
        return Ok(());
    }
    let found = text.chars().take(60).collect::<String>().escape_debug().to_string();
    Err(Error::Invalid { what, found, expected: "a text without the character NUL" })
}
