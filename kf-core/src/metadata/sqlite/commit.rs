//! The hot path: a commit in one way to the database's thread and back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{Arguments, AssertSqlSafe, Connection, Encode, Sqlite, Type};

use super::failure::{failure, is_fenced};
use super::lease::fenced;
use super::{Head, Inner};
use crate::metadata::{Commit, ExecutionRecord, ExecutionState};
use crate::{Digest, Result, RunId};

/// At most so many rows go into one statement; SQLite takes 32,766 parameters.
const CHUNK: usize = 4096;

/// Where the next execution of a run goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// The run's number.
    pub(super) no: i64,
    /// The id of its last execution; `no << 32` where it has none.
    pub(super) last: i64,
}

/// What this process remembers between commits.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// The places of runs under way. A commit checks that its place is right.
    places: Mutex<HashMap<RunId, Place>>,
    texts: Mutex<HashMap<Shape, Arc<str>>>,
}

impl Memory {
    fn take_place(&self, run: &RunId) -> Option<Place> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).remove(run)
    }

    fn keep_place(&self, run: &RunId, place: Place) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if places.len() >= 1024 {
            places.clear();
        }
        places.insert(run.clone(), place);
    }

    fn text(&self, shape: Shape) -> Arc<str> {
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(texts.entry(shape).or_insert_with(|| shape.to_sql().into()))
    }
}

/// Makes the commit, whole or not at all.
pub(super) async fn make(inner: &Inner, commit: &Commit) -> Result<()> {
    let mut known = inner.memory.take_place(&commit.run);
    for _ in 0..3 {
        let place = match known {
            Some(place) => place,
            None => inner.head(&commit.run).await?.place,
        };
        match write(inner, commit, place).await {
            Ok(last) => {
                inner.memory.keep_place(&commit.run, Place { last, ..place });
                return Ok(());
            }
            Err(error) if is_fenced(&error) => {
                let Head { epoch, seq, place } = inner.head(&commit.run).await?;
                if (epoch, seq) != (commit.epoch, commit.expected_seq) {
                    let Commit { epoch: ours, expected_seq, .. } = commit;
                    return Err(fenced(
                        &commit.run,
                        format!(
                            "the commit was under lease {ours} after commit {expected_seq}, and the store is at \
                             lease {epoch} and commit {seq}"
                        ),
                    ));
                }
                // Only the place was an old one.
                known = Some(place);
            }
            Err(error) => return Err(failure(&inner.path, "commit to")(error)),
        }
    }
    Err(fenced(&commit.run, "another commits to it at the same time".to_owned()))
}

/// Writes everything in one transaction and returns the id of the run's last execution.
async fn write(inner: &Inner, commit: &Commit, place: Place) -> sqlx::Result<i64> {
    let rows = rows(&commit.lineage.executions, place.last)?;
    let mut writer = inner.writer.lock().await;
    if rows.len() <= CHUNK {
        insert(&mut writer, inner, Some((commit, place)), rows).await?;
    } else {
        let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await?;
        let mut head = Some((commit, place));
        let mut rows = rows.into_iter();
        while rows.len() > 0 {
            let chunk = rows.by_ref().take(CHUNK).collect();
            insert(&mut transaction, inner, head.take(), chunk).await?;
        }
        transaction.commit().await?;
    }
    Ok(place.last + commit.lineage.executions.len() as i64)
}

async fn insert(
    connection: &mut SqliteConnection,
    inner: &Inner,
    head: Option<(&Commit, Place)>,
    rows: Vec<Row>,
) -> sqlx::Result<()> {
    let text = inner.memory.text(Shape { head: head.is_some(), rows: room(rows.len()) });
    let arguments = arguments(head, rows)?;
    sqlx::query_with(AssertSqlSafe(text), arguments).execute(connection).await.map(drop)
}

/// What decides the text of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Shape {
    /// It has the commit's own row.
    head: bool,
    /// So many rows of executions and artifacts; those that get no values are left out.
    rows: usize,
}

impl Shape {
    fn to_sql(self) -> String {
        let mut sql = "INSERT INTO commits \
            (run, epoch, seq, last, at, events, state, error, ended_at, id, task, digest, body) VALUES "
            .to_owned();
        if self.head {
            sql.push_str("(?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL, NULL, NULL)");
        }
        for row in 0..self.rows {
            sql.push_str(if row > 0 || self.head { ", " } else { "" });
            // Without numbers: SQLite looks for the name of a numbered one among all of them.
            sql.push_str("(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, ?, ?, ?, ?)");
        }
        sql
    }
}

/// Room for so many rows and at most a quarter more, so that few statements serve all commits.
fn room(rows: usize) -> usize {
    let step = (rows.next_power_of_two() / 8).max(1);
    rows.next_multiple_of(step)
}

/// A row of an execution or of an artifact that it read or made.
struct Row {
    id: i64,
    task: Option<String>,
    digest: Option<i64>,
    body: Body,
}

enum Body {
    Record(String),
    Made(bool),
}

fn rows(executions: &[ExecutionRecord], last: i64) -> sqlx::Result<Vec<Row>> {
    let mut rows = Vec::with_capacity(executions.len());
    for (id, execution) in (last + 1..).zip(executions) {
        let record =
            serde_json::to_string(execution).map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
        let reusable = execution.cache_key.filter(|_| execution.state == ExecutionState::Complete);
        rows.push(Row {
            id,
            task: Some(execution.task.clone()),
            digest: reusable.map(|key| prefix(&key)),
            body: Body::Record(record),
        });
        for (ios, made) in [(&execution.input_artifacts, false), (&execution.output_artifacts, true)] {
            let digests = ios.iter().filter_map(|io| io.artifact.digest);
            rows.extend(digests.map(|digest| Row {
                id,
                task: None,
                digest: Some(prefix(&digest)),
                body: Body::Made(made),
            }));
        }
    }
    Ok(rows)
}

fn arguments(head: Option<(&Commit, Place)>, rows: Vec<Row>) -> sqlx::Result<SqliteArguments> {
    let mut arguments = SqliteArguments::default();
    arguments.reserve(9 + rows.len() * 4, 0);
    if let Some((commit, place)) = head {
        let state = commit.state.as_ref();
        let ended = state.is_some_and(|(state, _)| state.is_terminal());
        add(&mut arguments, place.no)?;
        add(&mut arguments, commit.epoch.cast_signed())?;
        add(&mut arguments, commit.expected_seq.cast_signed().wrapping_add(1))?;
        add(&mut arguments, place.last)?;
        add(&mut arguments, commit.at.as_millis())?;
        add(&mut arguments, commit.events.clone())?;
        add(&mut arguments, state.map(|(state, _)| state.as_str()))?;
        add(&mut arguments, state.and_then(|(_, error)| error.clone()))?;
        add(&mut arguments, ended.then_some(commit.at.as_millis()))?;
    }
    for row in rows {
        add(&mut arguments, row.id)?;
        add(&mut arguments, row.task)?;
        add(&mut arguments, row.digest)?;
        match row.body {
            Body::Record(record) => add(&mut arguments, record)?,
            Body::Made(made) => add(&mut arguments, i64::from(made))?,
        }
    }
    Ok(arguments)
}

fn add<'t, T: Encode<'t, Sqlite> + Type<Sqlite> + 't>(
    to: &mut SqliteArguments,
    value: T,
) -> sqlx::Result<()> {
    Arguments::add(to, value).map_err(sqlx::Error::Encode)
}

/// A digest's first 8 bytes, by which indices know it.
pub(super) fn prefix(digest: &Digest) -> i64 {
    let [a, b, c, d, e, f, g, h, ..] = *digest.as_bytes();
    i64::from_be_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_and_not_much_more() {
        for rows in 0..=CHUNK {
            let room = room(rows);
            assert!(room >= rows && room <= rows + rows / 4 && room <= CHUNK, "{rows}: {room}");
        }
        let shapes: std::collections::HashSet<_> = (0..=CHUNK).map(room).collect();
        assert!(shapes.len() < 60, "{}", shapes.len());
    }
}
