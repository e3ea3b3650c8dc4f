//! Pages of a list, by numbers that stand for places in it.

use super::Page;
use crate::{Error, Result};

/// A page of rows, of which there may be one more than the page holds.
pub(super) fn of<T>(mut rows: Vec<(i64, T)>, limit: usize) -> Page<T> {
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| more).map(|(cursor, _)| cursor.to_string());
    Page { items: rows.into_iter().map(|(_, item)| item).collect(), next }
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
