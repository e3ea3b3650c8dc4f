//! Rows as records.

use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::StrDeserializer;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::Head;
use super::commit::Place;
use crate::metadata::{ExecutionRecord, JournalEntry, RunRecord, RunState};
use crate::{Digest, Timestamp};

type Decoded<T> = Result<T, sqlx::Error>;

pub(super) fn run(row: &SqliteRow) -> Decoded<RunRecord> {
    let state: StrDeserializer<'_, serde::de::value::Error> =
        row.try_get::<&str, _>("state")?.into_deserializer();
    Ok(RunRecord {
        id: row.try_get::<&str, _>("id")?.parse().map_err(undecodable)?,
        pipeline: row.try_get("pipeline")?,
        spec_digest: row.try_get::<&str, _>("spec_digest")?.parse::<Digest>().map_err(undecodable)?,
        spec: row.try_get("spec")?,
        args: row.try_get("args")?,
        state: RunState::deserialize(state).map_err(undecodable)?,
        error: row.try_get("error")?,
        created_at: Timestamp::from_millis(row.try_get("created_at")?),
        ended_at: row.try_get::<Option<i64>, _>("ended_at")?.map(Timestamp::from_millis),
        epoch: number(row, "epoch")?,
        seq: number(row, "seq")?,
    })
}

pub(super) fn head(row: &SqliteRow) -> Decoded<Head> {
    let place = Place { no: row.try_get("no")?, last: row.try_get("last")? };
    Ok(Head { epoch: number(row, "epoch")?, seq: number(row, "seq")?, place })
}

pub(super) fn journal_entry(row: &SqliteRow) -> Decoded<JournalEntry> {
    Ok(JournalEntry {
        seq: number(row, "seq")?,
        at: Timestamp::from_millis(row.try_get("at")?),
        events: row.try_get("events")?,
    })
}

pub(super) fn execution(row: &SqliteRow) -> Decoded<ExecutionRecord> {
    serde_json::from_str(row.try_get("record")?).map_err(undecodable)
}

/// A number that is at least 0, which it also is where there is none.
fn number(row: &SqliteRow, column: &str) -> Decoded<u64> {
    u64::try_from(row.try_get::<Option<i64>, _>(column)?.unwrap_or(0)).map_err(undecodable)
}

fn undecodable(error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::Decode(Box::new(error))
}
