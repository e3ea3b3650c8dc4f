//! Partitions: the parts of a data set that a pipeline is run for one by one, such as days.

mod every;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use kf_core::Timestamp;
use serde::Serialize;

use crate::{Error, Result};
use every::{Every, MINUTE};

/// More partitions than anybody lists at once.
const MOST: usize = 100_000;
/// The longest key.
const LONGEST_KEY: usize = 256;

/// One part of a data set: a name, and for parts by time when they begin and end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Partition {
    key: String,
    start: Option<Timestamp>,
    end: Option<Timestamp>,
}

impl Partition {
    /// Its name: `2026-11-26T05` for an hour, `2026-11-26` for a day, `2026-W48` for a week of ISO 8601 (from Monday),
    /// `2026-11` for a month, or a key as it was given.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// When it begins; none where partitions have nothing to do with time.
    pub fn start(&self) -> Option<Timestamp> {
        self.start
    }

    /// When it ends, which is when the next begins.
    pub fn end(&self) -> Option<Timestamp> {
        self.end
    }
}

/// A list of [`Partition`]s in order, each there once.
///
/// ```
/// use kf_core::Timestamp;
/// use kf_pipeline::Partitions;
///
/// let days = Partitions::daily("2028-02-28", "2028-03-02")?;
/// let keys: Vec<&str> = days.iter().map(|day| day.key()).collect();
/// assert_eq!(keys, ["2028-02-28", "2028-02-29", "2028-03-01"]);
///
/// // Every month that has ended by now; every hour, whose data comes 15 minutes late.
/// let months = Partitions::monthly("2026-01-01", Timestamp::now())?;
/// let hours = Partitions::hourly("2026-11-26", "2026-11-27")?.offset_minutes(15)?;
/// assert_eq!(hours.get("2026-11-26T05")?.start().unwrap().to_string(), "2026-11-26T05:15:00.000Z");
/// # Ok::<(), kf_pipeline::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partitions {
    /// What they were made from; none for keys as given.
    rule: Option<Rule>,
    list: Vec<Partition>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rule {
    every: Every,
    from: Timestamp,
    until: Timestamp,
    /// Milliseconds from the beginning of the hour, day, week or month to the partition's.
    offset: i64,
}

impl Partitions {
    /// The whole hours, in UTC, from `from` to before `until`. Both are a [`Timestamp`] or text: a date or RFC 3339.
    ///
    /// # Errors
    /// [`Error::Partition`] where `from` is not before `until`, either is outside of the years 1 to 9999, or there are
    /// more than 100,000 partitions.
    pub fn hourly<F, U>(from: F, until: U) -> Result<Self>
    where
        F: TryInto<Timestamp, Error: Into<Error>>,
        U: TryInto<Timestamp, Error: Into<Error>>,
    {
        Self::by_time(Every::Hour, from, until)
    }

    /// The whole days, as [`hourly`](Self::hourly).
    ///
    /// # Errors
    /// As [`hourly`](Self::hourly).
    pub fn daily<F, U>(from: F, until: U) -> Result<Self>
    where
        F: TryInto<Timestamp, Error: Into<Error>>,
        U: TryInto<Timestamp, Error: Into<Error>>,
    {
        Self::by_time(Every::Day, from, until)
    }

    /// The whole weeks of ISO 8601, from Monday to Monday, as [`hourly`](Self::hourly).
    ///
    /// # Errors
    /// As [`hourly`](Self::hourly).
    pub fn weekly<F, U>(from: F, until: U) -> Result<Self>
    where
        F: TryInto<Timestamp, Error: Into<Error>>,
        U: TryInto<Timestamp, Error: Into<Error>>,
    {
        Self::by_time(Every::Week, from, until)
    }

    /// The whole months, as [`hourly`](Self::hourly).
    ///
    /// # Errors
    /// As [`hourly`](Self::hourly).
    pub fn monthly<F, U>(from: F, until: U) -> Result<Self>
    where
        F: TryInto<Timestamp, Error: Into<Error>>,
        U: TryInto<Timestamp, Error: Into<Error>>,
    {
        Self::by_time(Every::Month, from, until)
    }

    /// Partitions that have nothing to do with time, such as `["eu", "us"]`, in the order given.
    ///
    /// # Errors
    /// [`Error::Partition`] where a key is empty, longer than 256 bytes, has a control character or is given twice, or
    /// there are more than 100,000.
    pub fn of_keys<K: Into<String>>(keys: impl IntoIterator<Item = K>) -> Result<Self> {
        let (mut list, mut seen) = (Vec::new(), HashSet::new());
        for key in keys {
            let key: String = key.into();
            let problem = if key.is_empty() || key.len() > LONGEST_KEY {
                Some(format!("has {} bytes; expected 1 to {LONGEST_KEY}", key.len()))
            } else if key.chars().any(char::is_control) {
                Some("has a control character; leave it out".to_owned())
            } else if !seen.insert(key.clone()) {
                Some("is given twice; give it once".to_owned())
            } else if list.len() == MOST {
                Some(format!("is one more than {MOST}; give fewer at once"))
            } else {
                None
            };
            if let Some(problem) = problem {
                return Err(Error::Partition { key: key.chars().take(64).collect(), problem });
            }
            list.push(Partition { key, start: None, end: None });
        }
        Ok(Self { rule: None, list })
    }

    /// The same partitions, each so many minutes later, or earlier where negative: days that begin at 02:30 have 150,
    /// days of a place two hours east of Greenwich -120. A partition keeps the key of the hour, day, week or month that
    /// it is moved from, and those are listed that now lie within the range.
    ///
    /// # Errors
    /// [`Error::Partition`] where the offset is as long as a partition or longer, or the partitions aren't by time.
    pub fn offset_minutes(self, minutes: i32) -> Result<Self> {
        let refuse = |problem: String| Err(Error::Partition { key: format!("{minutes} minutes"), problem });
        let Some(mut rule) = self.rule else {
            return refuse("an offset is for partitions by time, and these are keys".to_owned());
        };
        rule.offset = i64::from(minutes) * MINUTE;
        let shortest = rule.every.shortest();
        if rule.offset.abs() >= shortest {
            let (most, name) = (shortest / MINUTE, rule.every.name());
            return refuse(format!("an offset is shorter than {name}: expected less than {most} minutes"));
        }
        Ok(Self { rule: Some(rule), list: rule.list()? })
    }

    /// Milliseconds by which all partitions are moved from the hours, days, weeks or months that they are called after.
    pub(crate) fn offset(&self) -> i64 {
        self.rule.map_or(0, |rule| rule.offset)
    }

    /// Those of these keys, in the order of the list.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn only<K: AsRef<str>>(mut self, keys: impl IntoIterator<Item = K>) -> Result<Self> {
        let mut kept = HashSet::new();
        for key in keys {
            kept.insert(self.get(key.as_ref())?.key.clone());
        }
        self.list.retain(|partition| kept.contains(&partition.key));
        Ok(self)
    }

    /// The partition of this key.
    ///
    /// # Errors
    /// [`Error::Partition`] where the key is not written as these are, or is of none of them.
    pub fn get(&self, key: &str) -> Result<&Partition> {
        let found = match &self.rule {
            Some(rule) => {
                let refuse = |problem| Error::Partition { key: key.chars().take(64).collect(), problem };
                let start = rule.every.parse(key).ok_or_else(|| {
                    refuse(format!("expected {} such as `{}`", rule.every.name(), rule.every.example()))
                })?;
                let start = Timestamp::from_millis(start + rule.offset);
                self.list.binary_search_by_key(&Some(start), Partition::start).ok()
            }
            None => self.list.iter().position(|partition| partition.key == key),
        };
        found.map(|at| &self.list[at]).ok_or_else(|| {
            let range = match (self.list.first(), self.list.last()) {
                (Some(first), Some(last)) => {
                    format!("there are {}, from `{}` to `{}`", self.len(), first.key, last.key)
                }
                _ => "there are none".to_owned(),
            };
            Error::Partition {
                key: key.chars().take(64).collect(),
                problem: format!("is not among the partitions: {range}"),
            }
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The partitions in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Partition> {
        self.list.iter()
    }

    fn by_time<F, U>(every: Every, from: F, until: U) -> Result<Self>
    where
        F: TryInto<Timestamp, Error: Into<Error>>,
        U: TryInto<Timestamp, Error: Into<Error>>,
    {
        let from = from.try_into().map_err(Into::into)?;
        let until = until.try_into().map_err(Into::into)?;
        let rule = Rule { every, from, until, offset: 0 };
        Ok(Self { rule: Some(rule), list: rule.list()? })
    }
}

impl<'a> IntoIterator for &'a Partitions {
    type Item = &'a Partition;
    type IntoIter = std::slice::Iter<'a, Partition>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Rule {
    fn list(self) -> Result<Vec<Partition>> {
        let Self { every, from, until, offset } = self;
        let refuse = |problem| Error::Partition { key: format!("{from} to {until}"), problem };
        if from >= until {
            return Err(refuse("the first time must be before the second".to_owned()));
        }
        let (from, until) = (from.as_millis(), until.as_millis());
        if !every::in_range(from) || !every::in_range(until) {
            return Err(refuse("expected times of the years 1 to 9999".to_owned()));
        }
        let most = usize::try_from((until - from) / every.shortest()).unwrap_or(usize::MAX);
        if most > MOST {
            let problem = format!("has about {most} times {}, and {MOST} is the most", every.name());
            return Err(refuse(format!("{problem}; take a shorter range")));
        }
        let mut list = Vec::with_capacity(most);
        let mut at = every.floor(from - offset);
        while let Some((start, next)) = at.and_then(|at| Some((at, every.next(at)?))) {
            if next + offset > until {
                break;
            }
            if start + offset >= from {
                list.push(Partition {
                    key: every.key(start),
                    start: Some(Timestamp::from_millis(start + offset)),
                    end: Some(Timestamp::from_millis(next + offset)),
                });
            }
            at = Some(next);
        }
        Ok(list)
    }
}
