//! The table of versions.

use kf_core::{Digest, Timestamp};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::failure::Failure;
use super::models::{self, json, text_as, time};
use super::{aliases, lineage};
use crate::limits::to_json;
use crate::{
    AliasName, Error, ModelName, NewModel, NewVersion, Page, PageRequest, Registered, Result, Version,
    VersionState,
};

/// A version and its key.
pub(super) struct VersionRow {
    pub(super) id: i64,
    pub(super) version: Version,
}

macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT v.*, m.name AS model FROM versions v JOIN models m ON m.id = v.model_id ", $rest)
    };
}

pub(super) fn parse(row: &SqliteRow) -> Result<VersionRow, sqlx::Error> {
    let version = Version {
        model: text_as(row, "model")?,
        number: row.try_get("number")?,
        digest: text_as(row, "digest")?,
        uri: row.try_get("uri")?,
        size: row.try_get("size")?,
        metadata: json(row, "metadata")?,
        parameters: json(row, "parameters")?,
        metrics: json(row, "metrics")?,
        lineage: json(row, "lineage")?,
        author: row.try_get("author")?,
        created: time(row, "created")?,
        description: row.try_get("description")?,
        state: state_of(row.try_get("state")?)?,
        custom_properties: json(row, "properties")?,
        revision: row.try_get("revision")?,
        updated: time(row, "updated")?,
    };
    Ok(VersionRow { id: row.try_get("id")?, version })
}

fn state_of(text: &str) -> Result<VersionState, sqlx::Error> {
    match text {
        "LIVE" => Ok(VersionState::Live),
        "ARCHIVED" => Ok(VersionState::Archived),
        other => Err(sqlx::Error::Decode(format!("a version's state is `{other}`").into())),
    }
}

fn state_text(state: VersionState) -> &'static str {
    match state {
        VersionState::Live => "LIVE",
        VersionState::Archived => "ARCHIVED",
    }
}

fn parse_optional(row: Option<SqliteRow>) -> Result<Option<VersionRow>, sqlx::Error> {
    row.as_ref().map(parse).transpose()
}

async fn find(
    connection: &mut SqliteConnection,
    failure: Failure<'_>,
    model: &ModelName,
    number: u32,
) -> Result<Option<VersionRow>> {
    sqlx::query(select!("WHERE m.name = ? AND v.number = ?"))
        .bind(model.as_str())
        .bind(number)
        .fetch_optional(connection)
        .await
        .and_then(parse_optional)
        .map_err(failure.of("read a version"))
}

pub(super) async fn get(
    connection: &mut SqliteConnection,
    failure: Failure<'_>,
    model: &ModelName,
    number: u32,
) -> Result<VersionRow> {
    if let Some(row) = find(connection, failure, model, number).await? {
        return Ok(row);
    }
    let newest = models::get(connection, failure, model).await?.model.versions;
    let next = match newest {
        0 => "it has none yet".to_owned(),
        newest => format!("its versions are 1 to {newest}"),
    };
    Err(Error::NotFound { what: format!("version {number} of model `{model}`"), next })
}

pub(super) async fn by_alias(
    connection: &mut SqliteConnection,
    failure: Failure<'_>,
    model: &ModelName,
    alias: &AliasName,
) -> Result<Version> {
    let found = sqlx::query(select!(
        "JOIN alias_events e ON e.model_id = v.model_id AND e.holds = v.number \
         WHERE m.name = ?1 AND e.sequence = (SELECT max(sequence) FROM alias_events \
         WHERE model_id = m.id AND alias = ?2)"
    ))
    .bind(model.as_str())
    .bind(alias.as_str())
    .fetch_optional(&mut *connection)
    .await
    .and_then(parse_optional)
    .map_err(failure.of("read an alias"))?;
    if let Some(row) = found {
        return Ok(row.version);
    }
    let set = aliases::current(connection, failure, model).await?;
    let names: Vec<_> = set.iter().take(20).map(|event| event.alias.as_str()).collect();
    let next = match names.as_slice() {
        [] => "no alias of this model is set".to_owned(),
        names => format!("set are: {}", names.join(", ")),
    };
    Err(Error::NotFound { what: format!("alias `{alias}` of model `{model}`"), next })
}

pub(super) async fn list(
    connection: &mut SqliteConnection,
    failure: Failure<'_>,
    model: &ModelName,
    page: &PageRequest,
) -> Result<Page<Version>> {
    let model = models::get(connection, failure, model).await?;
    let rows = sqlx::query(select!("WHERE v.model_id = ? AND v.number < ? ORDER BY v.number DESC LIMIT ?"))
        .bind(model.id)
        .bind(page.after_number()?.unwrap_or(i64::MAX))
        .bind(i64::from(page.limit) + 1)
        .fetch_all(connection)
        .await
        .and_then(|rows| {
            rows.iter().map(|row| parse(row).map(|row| row.version)).collect::<Result<Vec<_>, _>>()
        })
        .map_err(failure.of("list versions"))?;
    Ok(Page::cut(rows, page.limit, |version| version.number.to_string()))
}

/// Finds the content, or gives it the next number; the caller holds the write lock.
pub(super) async fn register(
    connection: &mut SqliteConnection,
    failure: Failure<'_>,
    new: NewVersion,
    now: Timestamp,
) -> Result<Registered> {
    let (model_id, newest) = match models::find(connection, failure, &new.model).await? {
        Some(row) => (row.id, row.model.versions),
        None => {
            let model = NewModel::new(new.model.clone()).into_model(now);
            (models::insert(connection, failure, &model).await?, 0)
        }
    };
    if let Some(key) = &new.idempotency_key
        && let Some(used) = by_key(connection, failure, model_id, key).await?
        && used.version.digest != new.digest
    {
        return Err(Error::KeyConflict {
            model: new.model,
            key: key.clone(),
            version: used.version.number,
            found: used.version.digest.to_string(),
            given: new.digest.to_string(),
        });
    }
    let (key, links) = (new.idempotency_key.clone(), new.lineage.clone());
    let (row, created) = match by_digest(connection, failure, model_id, &new.digest).await? {
        Some(row) => (row, false),
        None => {
            let number = newest.checked_add(1).ok_or_else(|| {
                Error::invalid("version number", format!("{newest} versions"), "fewer; use another model")
            })?;
            let version = new.into_version(number, now);
            (VersionRow { id: insert(connection, failure, model_id, &version).await?, version }, true)
        }
    };
    if let Some(key) = key {
        sqlx::query("INSERT OR IGNORE INTO registration_keys (model_id, key, version_id) VALUES (?, ?, ?)")
            .bind(model_id)
            .bind(key)
            .bind(row.id)
            .execute(&mut *connection)
            .await
            .map_err(failure.of("register a version"))?;
    }
    lineage::link(connection, failure, row.id, &links, now).await?;
    Ok(Registered::new(row.version, created))
}

async fn by_key(
    connection: &mut SqliteConnection,
    failure: Failure<'_>,
    model_id: i64,
    key: &str,
) -> Result<Option<VersionRow>> {
    sqlx::query(select!("JOIN registration_keys k ON k.version_id = v.id WHERE k.model_id = ? AND k.key = ?"))
        .bind(model_id)
        .bind(key)
        .fetch_optional(connection)
        .await
        .and_then(parse_optional)
        .map_err(failure.of("register a version"))
}

async fn by_digest(
    connection: &mut SqliteConnection,
    failure: Failure<'_>,
    model_id: i64,
    digest: &Digest,
) -> Result<Option<VersionRow>> {
    sqlx::query(select!("WHERE v.model_id = ? AND v.digest = ?"))
        .bind(model_id)
        .bind(digest.to_string())
        .fetch_optional(connection)
        .await
        .and_then(parse_optional)
        .map_err(failure.of("register a version"))
}

async fn insert(
    connection: &mut SqliteConnection,
    failure: Failure<'_>,
    model_id: i64,
    version: &Version,
) -> Result<i64> {
    sqlx::query(
        "INSERT INTO versions (model_id, number, digest, uri, size, metadata, parameters, metrics, lineage, \
         author, created, description, state, properties, revision, updated) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(model_id)
    .bind(version.number)
    .bind(version.digest.to_string())
    .bind(&version.uri)
    .bind(crate::limits::size(version.size)?)
    .bind(to_json("metadata", &version.metadata)?)
    .bind(to_json("parameters", &version.parameters)?)
    .bind(to_json("metrics", &version.metrics)?)
    .bind(to_json("lineage", &version.lineage)?)
    .bind(&version.author)
    .bind(version.created.as_millis())
    .bind(&version.description)
    .bind(state_text(version.state))
    .bind(to_json("custom properties", &version.custom_properties)?)
    .bind(version.revision as i64)
    .bind(version.updated.as_millis())
    .execute(connection)
    .await
    .map(|done| done.last_insert_rowid())
    .map_err(failure.of("register a version"))
}

pub(super) async fn replace_mutable(
    connection: &mut SqliteConnection,
    failure: Failure<'_>,
    id: i64,
    version: &Version,
) -> Result<()> {
    sqlx::query(
        "UPDATE versions SET description = ?, state = ?, properties = ?, revision = ?, updated = ? WHERE id = ?",
    )
    .bind(&version.description)
    .bind(state_text(version.state))
    .bind(to_json("custom properties", &version.custom_properties)?)
    .bind(version.revision as i64)
    .bind(version.updated.as_millis())
    .bind(id)
    .execute(connection)
    .await
    .map(drop)
    .map_err(failure.of("update a version"))
}
