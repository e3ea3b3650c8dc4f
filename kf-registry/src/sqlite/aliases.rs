//! The log of aliases; the last event of an alias is its state.

use kf_core::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::failure::Failure;
use super::models::{self, text_as, time};
use super::versions;
use crate::{
    AliasChange, AliasChanged, AliasDecision, AliasEvent, AliasName, ModelName, Page, PageRequest, Result,
};

macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT e.*, m.name AS model FROM alias_events e JOIN models m ON m.id = e.model_id ", $rest)
    };
}

fn parse(row: &SqliteRow) -> Result<AliasEvent, sqlx::Error> {
    Ok(AliasEvent {
        sequence: row.try_get("sequence")?,
        model: text_as(row, "model")?,
        alias: text_as(row, "alias")?,
        from: row.try_get("held")?,
        to: row.try_get("holds")?,
        actor: row.try_get("actor")?,
        reason: row.try_get("reason")?,
        at: time(row, "at")?,
    })
}

fn parse_all(rows: Vec<SqliteRow>) -> Result<Vec<AliasEvent>, sqlx::Error> {
    rows.iter().map(parse).collect()
}

/// Decides and appends; the caller holds the write lock.
pub(super) async fn change(
    connection: &mut SqliteConnection,
    failure: Failure<'_>,
    change: AliasChange,
    now: Timestamp,
) -> Result<AliasChanged> {
    let model_id = match change.to {
        Some(number) => {
            versions::get(connection, failure, &change.model, number).await?;
            models::get(connection, failure, &change.model).await?.id
        }
        None => models::get(connection, failure, &change.model).await?.id,
    };
    let last = sqlx::query(select!("WHERE e.model_id = ? AND e.alias = ? ORDER BY e.sequence DESC LIMIT 1"))
        .bind(model_id)
        .bind(change.alias.as_str())
        .fetch_optional(&mut *connection)
        .await
        .and_then(|row| row.as_ref().map(parse).transpose())
        .map_err(failure.of("change an alias"))?;
    let decision = change.decide(last.as_ref())?;
    let from = match (decision, last) {
        (AliasDecision::AlreadySo, Some(last)) => return Ok(AliasChanged::new(last, false)),
        (AliasDecision::AlreadySo, None) => None,
        (AliasDecision::Append { from }, _) => from,
    };
    let AliasChange { model, alias, to, actor, reason, .. } = change;
    let sequence = sqlx::query(
        "INSERT INTO alias_events (model_id, alias, held, holds, actor, reason, at) VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(model_id)
    .bind(alias.as_str())
    .bind(from)
    .bind(to)
    .bind(&actor)
    .bind(&reason)
    .bind(now.as_millis())
    .execute(connection)
    .await
    .map_err(failure.of("change an alias"))?
    .last_insert_rowid();
    let sequence = sequence.unsigned_abs();
    Ok(AliasChanged::new(AliasEvent { sequence, model, alias, from, to, actor, reason, at: now }, true))
}

pub(super) async fn current(
    connection: &mut SqliteConnection,
    failure: Failure<'_>,
    model: &ModelName,
) -> Result<Vec<AliasEvent>> {
    let id = models::get(connection, failure, model).await?.id;
    sqlx::query(select!(
        "WHERE e.holds IS NOT NULL AND e.sequence IN \
         (SELECT max(sequence) FROM alias_events WHERE model_id = ? GROUP BY alias) ORDER BY e.alias"
    ))
    .bind(id)
    .fetch_all(connection)
    .await
    .and_then(parse_all)
    .map_err(failure.of("list aliases"))
}

pub(super) async fn history(
    connection: &mut SqliteConnection,
    failure: Failure<'_>,
    model: &ModelName,
    alias: &AliasName,
    page: &PageRequest,
) -> Result<Page<AliasEvent>> {
    let id = models::get(connection, failure, model).await?.id;
    let events = sqlx::query(select!(
        "WHERE e.model_id = ? AND e.alias = ? AND e.sequence < ? ORDER BY e.sequence DESC LIMIT ?"
    ))
    .bind(id)
    .bind(alias.as_str())
    .bind(page.after_number()?.unwrap_or(i64::MAX))
    .bind(i64::from(page.limit) + 1)
    .fetch_all(connection)
    .await
    .and_then(parse_all)
    .map_err(failure.of("read an alias's history"))?;
    Ok(Page::cut(events, page.limit, |event| event.sequence.to_string()))
}
