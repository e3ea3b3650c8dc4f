//! How long texts and maps may be, checked before anything is stored.

use crate::property::{Metrics, Parameters, Properties, Property};
use crate::{Error, Result};

const SHORT: usize = 256;
const LONG: usize = 4096;
const DESCRIPTION: usize = 64 * 1024;
const ENTRIES: usize = 10_000;
const BLOB: usize = 1024 * 1024;

/// The beginning of a text, for messages.
pub(crate) fn shorten(text: &str) -> String {
    let mut shown: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    if text.chars().nth(80).is_some() {
        shown.push('…');
    }
    shown
}

fn between(what: &str, text: &str, least: usize, most: usize) -> Result<()> {
    if text.len() < least {
        return Err(Error::invalid(what, "an empty text", format!("1 to {most} bytes of text")));
    }
    if text.len() > most {
        return Err(Error::invalid(
            what,
            format!("{} bytes: `{}`", text.len(), shorten(text)),
            format!("at most {most} bytes"),
        ));
    }
    if text.contains('\0') {
        return Err(Error::invalid(what, format!("`{}`", shorten(text)), "text without a NUL character"));
    }
    Ok(())
}

/// Ids, keys, actors: 1 to 256 bytes.
pub(crate) fn id(what: &str, text: &str) -> Result<()> {
    between(what, text, 1, SHORT)
}

/// URIs: 1 to 4,096 bytes.
pub(crate) fn uri(what: &str, text: &str) -> Result<()> {
    between(what, text, 1, LONG)
}

/// Reasons: up to 4,096 bytes.
pub(crate) fn reason(text: &str) -> Result<()> {
    between("reason", text, 0, LONG)
}

/// Descriptions: up to 64 KiB.
pub(crate) fn description(text: &str) -> Result<()> {
    between("description", text, 0, DESCRIPTION)
}

/// An actor or author: up to 256 bytes, and where `needed` not empty.
pub(crate) fn actor(what: &str, text: &str, needed: bool) -> Result<()> {
    between(what, text, usize::from(needed), SHORT)
}

pub(crate) fn size(bytes: u64) -> Result<i64> {
    i64::try_from(bytes)
        .map_err(|_| Error::invalid("size", format!("{bytes} bytes"), format!("at most {} bytes", i64::MAX)))
}

pub(crate) fn properties(what: &str, properties: &Properties) -> Result<()> {
    keys(what, properties.keys(), properties.len())?;
    for (key, value) in properties {
        if let Property::Double(number) = value
            && !number.is_finite()
        {
            return Err(not_finite(&format!("{what} `{}`", shorten(key)), *number));
        }
    }
    blob(what, properties)
}

pub(crate) fn metrics(metrics: &Metrics) -> Result<()> {
    keys("metric", metrics.keys(), metrics.len())?;
    for (key, value) in metrics {
        if !value.is_finite() {
            return Err(not_finite(&format!("metric `{}`", shorten(key)), *value));
        }
    }
    blob("metrics", metrics)
}

pub(crate) fn parameters(parameters: &Parameters) -> Result<()> {
    keys("parameter", parameters.keys(), parameters.len())?;
    for (key, value) in parameters {
        if value.is_null() {
            return Err(Error::invalid(
                format!("parameter `{}`", shorten(key)),
                "null, which is also what JSON makes of NaN and infinity",
                "a value; leave the parameter out, or write it as text",
            ));
        }
    }
    blob("parameters", parameters)
}

fn keys<'a>(what: &str, keys: impl Iterator<Item = &'a String>, count: usize) -> Result<()> {
    if count > ENTRIES {
        return Err(Error::invalid(what, format!("{count} entries"), format!("at most {ENTRIES}")));
    }
    for key in keys {
        between(&format!("name of a {what}"), key, 1, SHORT)?;
    }
    Ok(())
}

fn blob(what: &str, value: &impl serde::Serialize) -> Result<()> {
    let length = to_json(what, value)?.len();
    if length > BLOB {
        return Err(Error::invalid(
            what,
            format!("{length} bytes as JSON"),
            format!("at most {BLOB} bytes; store it as an artifact and register its URI"),
        ));
    }
    Ok(())
}

pub(crate) fn to_json(what: &str, value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|error| Error::invalid(what, error.to_string(), "a value that JSON can hold"))
}

fn not_finite(what: &str, value: f64) -> Error {
    Error::invalid(what, value.to_string(), "a finite number; leave it out, or record it as a text property")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_json_lacks_are_refused_by_name() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let error = metrics(&Metrics::from([("loss".to_owned(), value)])).unwrap_err().to_string();
            assert!(error.contains("`loss`"), "{error}");
            let properties_of = Properties::from([("p".to_owned(), Property::Double(value))]);
            assert!(properties("custom property", &properties_of).is_err());
        }
        let null = Parameters::from([("lr".to_owned(), serde_json::json!(f64::NAN))]);
        assert!(parameters(&null).unwrap_err().to_string().contains("`lr`"));
    }

    #[test]
    fn too_much_is_refused() {
        assert!(id("key", "").is_err());
        assert!(id("key", &"k".repeat(257)).is_err());
        assert!(id("key", "a\0b").is_err());
        assert!(description(&"d".repeat(DESCRIPTION)).is_ok());
        assert!(description(&"d".repeat(DESCRIPTION + 1)).is_err());
        assert!(size(u64::MAX).is_err());
        let many = Metrics::from_iter((0..=ENTRIES).map(|i| (i.to_string(), 0.0)));
        assert!(metrics(&many).is_err());
        let big = Parameters::from([("p".to_owned(), "x".repeat(BLOB).into())]);
        assert!(parameters(&big).is_err());
    }
}
