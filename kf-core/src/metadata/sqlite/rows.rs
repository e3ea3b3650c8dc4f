//! Rows as records.

use std::error::Error as StdError;

use rusqlite::Row;
use rusqlite::types::Type;
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::StrDeserializer;

use crate::metadata::{ExecutionRecord, JournalEntry, RunRecord, RunState};
use crate::{Digest, Timestamp};

type Decoded<T> = rusqlite::Result<T>;

/// As [`RUN`], without what runs are of.
pub(super) fn brief_run() -> String {
    RUN.replacen(" spec,", " '' AS spec,", 1)
}

/// What [`run`] reads, beside the `cursor` that a page needs.
pub(super) const RUN: &str = "SELECT no AS cursor, id, pipeline, spec_digest, spec, args, created_at, state, error, \
                              ended_at, epoch, coalesce((SELECT max(key) FROM journal WHERE key > no << 32 AND key < \
                              (no + 1) << 32) & 4294967295, 0) AS seq FROM runs JOIN heads USING (no) WHERE TRUE";

pub(super) fn run(row: &Row<'_>) -> Decoded<RunRecord> {
    let state: String = row.get("state")?;
    let state: StrDeserializer<'_, serde::de::value::Error> = state.as_str().into_deserializer();
    Ok(RunRecord {
        id: row.get::<_, String>("id")?.parse().map_err(undecodable)?,
        pipeline: row.get("pipeline")?,
        spec_digest: row.get::<_, String>("spec_digest")?.parse::<Digest>().map_err(undecodable)?,
        spec: row.get("spec")?,
        args: row.get("args")?,
        state: RunState::deserialize(state).map_err(undecodable)?,
        error: row.get("error")?,
        created_at: Timestamp::from_millis(row.get("created_at")?),
        ended_at: row.get::<_, Option<i64>>("ended_at")?.map(Timestamp::from_millis),
        epoch: row.get("epoch")?,
        seq: row.get("seq")?,
    })
}

pub(super) fn journal_entry(row: &Row<'_>) -> Decoded<JournalEntry> {
    Ok(JournalEntry {
        seq: row.get("seq")?,
        at: Timestamp::from_millis(row.get("at")?),
        events: row.get("events")?,
    })
}

pub(super) fn execution(row: &Row<'_>) -> Decoded<ExecutionRecord> {
    let record: String = row.get("record")?;
    serde_json::from_str(&record).map_err(undecodable)
}

fn undecodable(error: impl StdError + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(error))
}
