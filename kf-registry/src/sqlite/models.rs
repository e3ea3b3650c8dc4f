//! The table of models.

use kf_core::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::failure::Failure;
use crate::limits::to_json;
use crate::{Error, Model, ModelName, NewModel, Page, PageRequest, Result};

/// A model and its key.
pub(super) struct ModelRow {
    pub(super) id: i64,
    pub(super) model: Model,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT m.*, (SELECT coalesce(max(number), 0) FROM versions v WHERE v.model_id = m.id) AS versions \
             FROM models m ",
            $rest
        )
    };
}

fn parse(row: &SqliteRow) -> Result<ModelRow, sqlx::Error> {
    let model = Model {
        name: text_as(row, "name")?,
        description: row.try_get("description")?,
        custom_properties: json(row, "properties")?,
        versions: row.try_get("versions")?,
        revision: row.try_get("revision")?,
        created: time(row, "created")?,
        updated: time(row, "updated")?,
    };
    Ok(ModelRow { id: row.try_get("id")?, model })
}

/// A column that holds JSON.
pub(super) fn json<T: serde::de::DeserializeOwned>(row: &SqliteRow, column: &str) -> Result<T, sqlx::Error> {
    serde_json::from_str(row.try_get(column)?)
        .map_err(|error| sqlx::Error::ColumnDecode { index: column.to_owned(), source: error.into() })
}

/// A column that holds a text of a type's own form.
pub(super) fn text_as<T>(row: &SqliteRow, column: &str) -> Result<T, sqlx::Error>
where
    T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    row.try_get::<&str, _>(column)?
        .parse()
        .map_err(|error: T::Err| sqlx::Error::ColumnDecode { index: column.to_owned(), source: error.into() })
}

/// A column that holds milliseconds.
pub(super) fn time(row: &SqliteRow, column: &str) -> Result<Timestamp, sqlx::Error> {
    row.try_get(column).map(Timestamp::from_millis)
}

pub(super) async fn find(
    connection: &mut SqliteConnection,
    failure: Failure<'_>,
    model: &ModelName,
) -> Result<Option<ModelRow>> {
    sqlx::query(select!("WHERE m.name = ?"))
        .bind(model.as_str())
        .fetch_optional(connection)
        .await
        .and_then(|row| row.as_ref().map(parse).transpose())
        .map_err(failure.of("read a model"))
}

pub(super) async fn get(
    connection: &mut SqliteConnection,
    failure: Failure<'_>,
    model: &ModelName,
) -> Result<ModelRow> {
    find(connection, failure, model).await?.ok_or_else(|| Error::NotFound {
        what: format!("model `{model}`"),
        next: "check the name, or register a version, which creates the model".to_owned(),
    })
}

pub(super) async fn create(
    connection: &mut SqliteConnection,
    failure: Failure<'_>,
    new: NewModel,
    now: Timestamp,
) -> Result<Model> {
    if find(connection, failure, &new.name).await?.is_some() {
        return Err(Error::AlreadyExists { model: new.name });
    }
    let model = new.into_model(now);
    insert(connection, failure, &model).await?;
    Ok(model)
}

/// Writes a new model and gives its key.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    failure: Failure<'_>,
    model: &Model,
) -> Result<i64> {
    sqlx::query(
        "INSERT INTO models (name, description, properties, revision, created, updated) VALUES (?, ?, ?, ?, ?, ?)",
    )
    .bind(model.name.as_str())
    .bind(&model.description)
    .bind(to_json("custom properties", &model.custom_properties)?)
    .bind(model.revision as i64)
    .bind(model.created.as_millis())
    .bind(model.updated.as_millis())
    .execute(connection)
    .await
    .map(|done| done.last_insert_rowid())
    .map_err(failure.of("create a model"))
}

pub(super) async fn replace(
    connection: &mut SqliteConnection,
    failure: Failure<'_>,
    id: i64,
    model: &Model,
) -> Result<()> {
    sqlx::query("UPDATE models SET description = ?, properties = ?, revision = ?, updated = ? WHERE id = ?")
        .bind(&model.description)
        .bind(to_json("custom properties", &model.custom_properties)?)
        .bind(model.revision as i64)
        .bind(model.updated.as_millis())
        .bind(id)
        .execute(connection)
        .await
        .map(drop)
        .map_err(failure.of("update a model"))
}

pub(super) async fn list(
    connection: &mut SqliteConnection,
    failure: Failure<'_>,
    page: &PageRequest,
) -> Result<Page<Model>> {
    let after = match &page.after {
        Some(token) => ModelName::new(token.as_str())?.to_string(),
        None => String::new(),
    };
    let rows = sqlx::query(select!("WHERE m.name > ? ORDER BY m.name LIMIT ?"))
        .bind(after)
        .bind(i64::from(page.limit) + 1)
        .fetch_all(connection)
        .await
        .and_then(|rows| {
            rows.iter().map(|row| parse(row).map(|row| row.model)).collect::<Result<Vec<_>, _>>()
        })
        .map_err(failure.of("list models"))?;
    Ok(Page::cut(rows, page.limit, |model| model.name.to_string()))
}
