//! Hours, days, weeks and months of the calendar in UTC, as milliseconds since 1970.

use chrono::{
    DateTime, Datelike, Days, Months, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Timelike, Weekday,
};

pub(super) const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Every {
    Hour,
    Day,
    Week,
    Month,
}

/// Whether keys, which have years of four digits, can name the time.
pub(super) fn in_range(millis: i64) -> bool {
    time(millis).is_some_and(|time| (1..=9999).contains(&time.year()))
}

fn time(millis: i64) -> Option<NaiveDateTime> {
    Some(DateTime::from_timestamp_millis(millis)?.naive_utc())
}

fn millis(time: NaiveDateTime) -> i64 {
    time.and_utc().timestamp_millis()
}

impl Every {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Hour => "an hour",
            Self::Day => "a day",
            Self::Week => "a week",
            Self::Month => "a month",
        }
    }

    pub(super) fn example(self) -> &'static str {
        match self {
            Self::Hour => "2026-11-26T05",
            Self::Day => "2026-11-26",
            Self::Week => "2026-W48",
            Self::Month => "2026-11",
        }
    }

    /// The shortest that one may be.
    pub(super) fn shortest(self) -> i64 {
        match self {
            Self::Hour => HOUR,
            Self::Day => DAY,
            Self::Week => 7 * DAY,
            Self::Month => 28 * DAY,
        }
    }

    /// The beginning of the one that `at` is in.
    pub(super) fn floor(self, at: i64) -> Option<i64> {
        let at = time(at)?;
        let date = match self {
            Self::Hour => return Some(millis(at.date().and_hms_opt(at.hour(), 0, 0)?)),
            Self::Day => at.date(),
            Self::Week => at.date().week(Weekday::Mon).checked_first_day()?,
            Self::Month => at.date().with_day(1)?,
        };
        Some(millis(date.and_time(NaiveTime::MIN)))
    }

    /// The beginning of the next.
    pub(super) fn next(self, start: i64) -> Option<i64> {
        let start = time(start)?;
        let next = match self {
            Self::Hour => start.checked_add_signed(TimeDelta::hours(1)),
            Self::Day => start.checked_add_days(Days::new(1)),
            Self::Week => start.checked_add_days(Days::new(7)),
            Self::Month => start.checked_add_months(Months::new(1)),
        };
        next.map(millis)
    }

    pub(super) fn key(self, start: i64) -> String {
        let Some(start) = time(start) else { return String::new() };
        let (year, month, day) = (start.year(), start.month(), start.day());
        match self {
            Self::Hour => format!("{year:04}-{month:02}-{day:02}T{:02}", start.hour()),
            Self::Day => format!("{year:04}-{month:02}-{day:02}"),
            Self::Week => format!("{:04}-W{:02}", start.iso_week().year(), start.iso_week().week()),
            Self::Month => format!("{year:04}-{month:02}"),
        }
    }

    /// The beginning of the one with this key; none where there is none, or it is written in another way.
    pub(super) fn parse(self, key: &str) -> Option<i64> {
        let date = |text: &str| text.parse::<NaiveDate>().ok();
        let start = match self {
            Self::Hour => {
                let (day, hour) = key.split_once('T')?;
                date(day)?.and_hms_opt(hour.parse().ok()?, 0, 0)?
            }
            Self::Day => date(key)?.and_time(NaiveTime::MIN),
            Self::Week => {
                let (year, week) = key.split_once("-W")?;
                let monday =
                    NaiveDate::from_isoywd_opt(year.parse().ok()?, week.parse().ok()?, Weekday::Mon)?;
                monday.and_time(NaiveTime::MIN)
            }
            Self::Month => date(&format!("{key}-01"))?.and_time(NaiveTime::MIN),
        };
        let start = millis(start);
        (self.key(start) == key).then_some(start)
    }
}
