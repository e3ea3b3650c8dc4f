//! Rows as records.

use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::StrDeserializer;
use sqlx::Row;
use sqlx::postgres::PgRow;

use crate::metadata::{ExecutionRecord, JournalEntry, RunRecord, RunState};
use crate::{Digest, Timestamp};

type Decoded<T> = sqlx::Result<T>;

/// As [`RUN`], without what runs are of.
pub(super) fn brief_run() -> String {
    RUN.replacen(" spec,", " '' AS spec,", 1)
}

/// What [`run`] reads, beside the `cursor` that a page needs.
pub(super) const RUN: &str = "SELECT no AS cursor, id, pipeline, spec_digest, spec, args, created_at, state, error, \
                              ended_at, epoch, seq FROM runs JOIN heads USING (no) WHERE TRUE";

pub(super) fn run(row: &PgRow) -> Decoded<RunRecord> {
    let state: StrDeserializer<'_, serde::de::value::Error> =
        row.try_get::<&str, _>("state")?.into_deserializer();
    let number = |name| row.try_get::<i64, _>(name).map(i64::cast_unsigned);
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
        epoch: number("epoch")?,
        seq: number("seq")?,
    })
}

pub(super) fn journal_entry(row: &PgRow) -> Decoded<JournalEntry> {
    Ok(JournalEntry {
        seq: row.try_get::<i64, _>("seq")?.cast_unsigned(),
        at: Timestamp::from_millis(row.try_get("at")?),
        events: row.try_get("events")?,
    })
}

pub(super) fn execution(row: &PgRow) -> Decoded<ExecutionRecord> {
    serde_json::from_str(row.try_get::<&str, _>("record")?).map_err(undecodable)
}

fn undecodable(error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::Decode(Box::new(error))
}
