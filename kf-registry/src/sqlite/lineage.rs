//! From runs and data to versions.

use kf_core::{Digest, Timestamp};
use sqlx::{Row, SqliteConnection};

use super::failure::Failure;
use super::versions::parse;
use crate::{DigestRole, DigestUse, Lineage, Page, PageRequest, Result, Version};

/// Adds what a registration says of a version's origin to what others have said.
pub(super) async fn link(
    connection: &mut SqliteConnection,
    failure: Failure<'_>,
    version_id: i64,
    lineage: &Lineage,
    now: Timestamp,
) -> Result<()> {
    if let Some(run) = &lineage.run_id {
        sqlx::query(
            "INSERT OR IGNORE INTO run_links (run_id, version_id, task, created) VALUES (?, ?, ?, ?)",
        )
        .bind(run)
        .bind(version_id)
        .bind(lineage.task.as_deref().unwrap_or_default())
        .bind(now.as_millis())
        .execute(&mut *connection)
        .await
        .map_err(failure.of("link a version to its run"))?;
    }
    for (name, digest) in &lineage.data {
        sqlx::query(
            "INSERT OR IGNORE INTO data_links (digest, version_id, name, created) VALUES (?, ?, ?, ?)",
        )
        .bind(digest.to_string())
        .bind(version_id)
        .bind(name)
        .bind(now.as_millis())
        .execute(&mut *connection)
        .await
        .map_err(failure.of("link a version to its data"))?;
    }
    Ok(())
}

pub(super) async fn of_run(
    connection: &mut SqliteConnection,
    failure: Failure<'_>,
    run_id: &str,
    page: &PageRequest,
) -> Result<Page<Version>> {
    let rows = sqlx::query(
        "SELECT v.*, m.name AS model FROM versions v JOIN models m ON m.id = v.model_id \
         WHERE v.id IN (SELECT version_id FROM run_links WHERE run_id = ?) AND v.id > ? ORDER BY v.id LIMIT ?",
    )
    .bind(run_id)
    .bind(page.after_number()?.unwrap_or(0))
    .bind(i64::from(page.limit) + 1)
    .fetch_all(connection)
    .await
    .and_then(|rows| rows.iter().map(parse).collect::<Result<Vec<_>, _>>())
    .map_err(failure.of("follow lineage"))?;
    Ok(Page::cut(rows, page.limit, |row| row.id.to_string()).map(|row| row.version))
}

pub(super) async fn of_digest(
    connection: &mut SqliteConnection,
    failure: Failure<'_>,
    digest: &Digest,
    page: &PageRequest,
) -> Result<Page<DigestUse>> {
    // A page's place is a version's key doubled, plus one for its role.
    let rows = sqlx::query(
        "SELECT v.*, m.name AS model, u.place FROM ( \
             SELECT id AS version_id, id * 2 AS place FROM versions WHERE digest = ?1 \
             UNION SELECT version_id, version_id * 2 + 1 FROM data_links WHERE digest = ?1 \
         ) u JOIN versions v ON v.id = u.version_id JOIN models m ON m.id = v.model_id \
         WHERE u.place > ?2 ORDER BY u.place LIMIT ?3",
    )
    .bind(digest.to_string())
    .bind(page.after_number()?.unwrap_or(0))
    .bind(i64::from(page.limit) + 1)
    .fetch_all(connection)
    .await
    .and_then(|rows| {
        rows.iter()
            .map(|row| {
                let place: i64 = row.try_get("place")?;
                let role = if place % 2 == 0 { DigestRole::Content } else { DigestRole::Data };
                Ok((place, DigestUse::new(role, parse(row)?.version)))
            })
            .collect::<Result<Vec<_>, sqlx::Error>>()
    })
    .map_err(failure.of("follow lineage"))?;
    Ok(Page::cut(rows, page.limit, |(place, _)| place.to_string()).map(|(_, found)| found))
}
