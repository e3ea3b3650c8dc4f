//! A query whose conditions are added one by one.

use rusqlite::types::Value;
use rusqlite::{Connection, Row, params_from_iter};

use crate::metadata::{Page, page};

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
        let sql = format!("{} ORDER BY {order} LIMIT {}", self.sql, page::count(limit.saturating_add(1)));
        let mut statement = connection.prepare_cached(&sql)?;
        let rows = statement
            .query_map(params_from_iter(self.values), |row| Ok((row.get::<_, i64>("cursor")?, decode(row)?)))?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        Ok(page::of(rows, limit))
    }
}
