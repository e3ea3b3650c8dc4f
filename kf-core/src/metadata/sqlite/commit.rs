//! The hot path: a commit as one transaction.

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::failure::Fault;
use crate::metadata::{Commit, ExecutionRecord, ExecutionState};
use crate::{Digest, Error, Result};

/// A commit with everything made that needs no database.
pub(super) struct Prepared {
    commit: Commit,
    /// What is stored of each execution.
    records: Vec<String>,
}

impl Prepared {
    /// # Errors
    /// [`Error::Invalid`] where an execution is of another run.
    pub(super) fn new(commit: Commit) -> Result<Self> {
        let executions = &commit.lineage.executions;
        if let Some(stray) = executions.iter().find(|execution| execution.run != commit.run) {
            return Err(Error::Invalid {
                what: "execution",
                found: format!("{} of run {}", stray.task, stray.run),
                expected: "executions of the run that the commit is for",
            });
        }
        let record = |execution| {
            serde_json::to_string(execution).map_err(|source| Error::Database {
                context: "write an execution as JSON".to_owned(),
                source: Box::new(source),
            })
        };
        let records = executions.iter().map(record).collect::<Result<_>>()?;
        Ok(Self { commit, records })
    }

    /// About how many pages of the database it changes.
    pub(super) fn pages(&self) -> usize {
        let text: usize = self.records.iter().map(String::len).sum::<usize>() + self.commit.events.len();
        let artifacts = |e: &ExecutionRecord| e.input_artifacts.len() + e.output_artifacts.len();
        let artifacts: usize = self.commit.lineage.executions.iter().map(artifacts).sum();
        2 + 2 * self.records.len() + artifacts + text / 4096
    }
}

/// Makes the commit, whole or not at all.
pub(super) fn make(connection: &mut Connection, prepared: &Prepared) -> Result<u64, Fault> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let seq = write(&transaction, prepared)?;
    transaction.commit()?;
    Ok(seq)
}

fn write(transaction: &Transaction<'_>, prepared: &Prepared) -> Result<u64, Fault> {
    let commit = &prepared.commit;
    let head = Head::of(transaction, commit.run.as_str())?.ok_or(Fault::NoRun)?;
    if (head.epoch, head.seq) != (commit.epoch, commit.expected_seq) {
        return Err(Fault::Fenced(format!(
            "the commit was under lease {} after commit {}, and the store is at lease {} and commit {}",
            commit.epoch, commit.expected_seq, head.epoch, head.seq
        )));
    }
    let seq = commit.expected_seq + 1;
    let place = head.run << 32;
    transaction
        .prepare_cached("INSERT INTO journal (key, at, events) VALUES (?, ?, ?)")?
        .execute(params![place | seq.cast_signed(), commit.at.as_millis(), commit.events])?;
    if let Some((state, error)) = &commit.state {
        let ended = state.is_terminal().then(|| commit.at.as_millis());
        transaction
            .prepare_cached("UPDATE heads SET state = ?, error = ?, ended_at = ? WHERE no = ?")?
            .execute(params![state.as_str(), error, ended, head.run])?;
    }
    if !prepared.records.is_empty() {
        executions(transaction, prepared, head.run)?;
    }
    Ok(seq)
}

fn executions(transaction: &Transaction<'_>, prepared: &Prepared, run: i64) -> rusqlite::Result<()> {
    let last: Option<i64> = transaction
        .prepare_cached("SELECT max(id) FROM executions WHERE id > ?1 << 32 AND id < (?1 + 1) << 32")?
        .query_row([run], |row| row.get(0))?;
    let first = last.unwrap_or(run << 32) + 1;
    let mut execution = transaction.prepare_cached(
        "INSERT OR REPLACE INTO executions (id, run, task, cache_key, record) VALUES (?, ?, ?, ?, ?)",
    )?;
    let mut artifact =
        transaction.prepare_cached("INSERT OR IGNORE INTO io (digest, made, execution) VALUES (?, ?, ?)")?;
    for (id, (record, text)) in
        (first..).zip(prepared.commit.lineage.executions.iter().zip(&prepared.records))
    {
        let reusable = record.cache_key.filter(|_| record.state == ExecutionState::Complete);
        execution.execute(params![id, run, record.task, reusable.map(|key| prefix(&key)), text])?;
        for (list, made) in [(&record.input_artifacts, 0), (&record.output_artifacts, 1)] {
            for digest in list.iter().filter_map(|io| io.artifact.digest) {
                artifact.execute(params![prefix(&digest), made, id])?;
            }
        }
    }
    Ok(())
}

/// Where a run's journal stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    /// The run's number in the database.
    run: i64,
    pub(super) epoch: u64,
    pub(super) seq: u64,
}

impl Head {
    pub(super) fn of(connection: &Connection, run: &str) -> rusqlite::Result<Option<Self>> {
        let mut query = connection.prepare_cached(
            "SELECT no, epoch, coalesce(
                (SELECT max(key) FROM journal WHERE key > no << 32 AND key < (no + 1) << 32) & 4294967295, 0)
             FROM runs JOIN heads USING (no) WHERE id = ?",
        )?;
        query
            .query_row([run], |row| {
                let number = |at| row.get::<_, i64>(at).map(i64::cast_unsigned);
                Ok(Self { run: row.get(0)?, epoch: number(1)?, seq: number(2)? })
            })
            .optional()
    }
}

/// A digest's first 8 bytes, by which indices know it.
pub(super) fn prefix(digest: &Digest) -> i64 {
    let [a, b, c, d, e, f, g, h, ..] = *digest.as_bytes();
    i64::from_be_bytes([a, b, c, d, e, f, g, h])
}
