//! A query whose conditions are added one by one.

use rusqlite::types::Value;
use rusqlite::{Connection, Row, params_from_iter};

use crate::metadata::Page;
use crate::{Error, Result};

pub(super) struct Select {
    sql: String,
    values: Vec<Value>,
}

impl Select {
    /// A query that may be added to.
    pub(super) fn new(sql: &str) -> Self {
        Self { sql: sql.to_owned(), values: Vec::new() }
    }

    /// This and ` AND condition`, with a value for each `?` in it.
    pub(super) fn and<V: Into<Value>>(
        mut self,
        condition: &str,
        values: impl IntoIterator<Item = V>,
    ) -> Self {
        self.sql.push_str(" AND ");
        self.sql.push_str(condition);
        self.values.extend(values.into_iter().map(Into::into));
        self
    }

    /// A page of what it finds in this order; the query has a column `cursor`.
    pub(super) fn page<T>(
        self,
        connection: &Connection,
        order: &str,
        limit: usize,
        decode: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Page<T>> {
        let limit = if limit == 0 { 100 } else { limit };
        // One more, to know whether there is a next page.
        let sql = format!("{} ORDER BY {order} LIMIT {}", self.sql, count(limit.saturating_add(1)));
        let mut statement = connection.prepare_cached(&sql)?;
        let mut rows = statement
            .query_map(params_from_iter(self.values), |row| Ok((row.get::<_, i64>("cursor")?, decode(row)?)))?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(|(cursor, _)| cursor.to_string());
        Ok(Page { items: rows.into_iter().map(|(_, item)| item).collect(), next })
    }
}

pub(super) fn count(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// The `next` of an earlier page.
pub(super) fn cursor(after: Option<&str>) -> Result<Option<i64>> {
    let parse = |text: &str| {
        text.parse().map_err(|_| Error::Invalid {
            what: "page cursor",
            found: text.to_owned(),
            expected: "the `next` of the page before",
        })
    };
    after.map(parse).transpose()
}
