//! Lists in pages.

use serde::{Deserialize, Serialize};

use crate::limits::shorten;
use crate::{Error, Result};

/// Which part of a list is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PageRequest {
    /// How many items at most, 1 to 1,000.
    pub limit: u32,
    /// Where to go on: [`Page::next`] of the page before, of the same list.
    pub after: Option<String>,
}

impl PageRequest {
    /// The first page of up to `limit` items.
    pub fn first(limit: u32) -> Self {
        Self { limit, after: None }
    }

    /// The page after the one that ended with `token`.
    pub fn after(mut self, token: impl Into<String>) -> Self {
        self.after = Some(token.into());
        self
    }

    /// Refuses a limit outside 1 to 1,000. Implementations call it first.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub fn validate(&self) -> Result<()> {
        if !(1..=1000).contains(&self.limit) {
            return Err(Error::invalid("page limit", self.limit.to_string(), "1 to 1000"));
        }
        Ok(())
    }

    /// The token as a number, for implementations whose keys are numbers.
    ///
    /// # Errors
    /// [`Error::Invalid`] where it is none.
    pub fn after_number(&self) -> Result<Option<i64>> {
        let Some(token) = &self.after else { return Ok(None) };
        match token.parse::<i64>() {
            Ok(number) if number >= 0 => Ok(Some(number)),
            _ => Err(Error::invalid(
                "page token",
                format!("`{}`", shorten(token)),
                "the `next` of this list's page before",
            )),
        }
    }
}

impl Default for PageRequest {
    /// The first 100.
    fn default() -> Self {
        Self::first(100)
    }
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Asks for what follows; none at the end.
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// Makes the page from one item more than was asked for, where there is one more. `key` gives an item's
    /// token.
    pub fn cut(mut items: Vec<T>, limit: u32, key: impl Fn(&T) -> String) -> Self {
        let limit = limit as usize;
        let more = items.len() > limit;
        items.truncate(limit);
        let next = if more { items.last().map(key) } else { None };
        Self { items, next }
    }

    /// The page with each item changed by `change`.
    pub fn map<U>(self, change: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(change).collect(), next: self.next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_told() {
        let page = |count: u32| Page::cut((0..count).collect(), 3, u32::to_string);
        assert_eq!(page(4), Page { items: vec![0, 1, 2], next: Some("2".to_owned()) });
        assert_eq!(page(3).next, None);
        assert_eq!(page(0).next, None);
    }

    #[test]
    fn hostile_requests() {
        assert!(PageRequest::first(0).validate().is_err());
        assert!(PageRequest::first(1001).validate().is_err());
        for token in ["", "x", "-1", "1; DROP TABLE models", "99999999999999999999"] {
            assert!(PageRequest::first(1).after(token).after_number().is_err(), "{token}");
        }
    }
}
