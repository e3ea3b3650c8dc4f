//! What files say, compared, and a file with what upstream's examples lack.

use serde_json::Value as Json;

/// That `ours` says all that `theirs` does: a field may be missing only where its value is what an absent one means.
pub(super) fn same(place: &str, theirs: &Json, ours: &Json) -> Result<(), String> {
    match (theirs, ours) {
        (Json::Object(theirs), Json::Object(ours)) => {
            for (name, value) in theirs {
                let place = format!("{place}/{name}");
                match ours.get(name) {
                    Some(found) => same(&place, value, found)?,
                    None if is_default(value) => {}
                    None => return Err(format!("{place}: {value} is lost")),
                }
            }
            match ours.keys().find(|name| !theirs.contains_key(*name)) {
                None => Ok(()),
                Some(name) => Err(format!("{place}/{name}: was not there")),
            }
        }
        (Json::Array(theirs), Json::Array(ours)) if theirs.len() == ours.len() => theirs
            .iter()
            .zip(ours)
            .enumerate()
            .try_for_each(|(at, (a, b))| same(&format!("{place}[{at}]"), a, b)),
        _ if theirs == ours => Ok(()),
        _ => Err(format!("{place}: {theirs} became {ours}")),
    }
}

/// Protobuf's JSON knows no difference between these and nothing.
fn is_default(value: &Json) -> bool {
    match value {
        Json::Object(fields) => fields.values().all(is_default),
        Json::Array(items) => items.is_empty(),
        Json::Bool(value) => !value,
        Json::String(text) => text.is_empty(),
        Json::Number(number) => number.as_f64() == Some(0.0),
        Json::Null => false,
    }
}

/// Fields of the proto that no upstream example uses, and some that no proto has.
pub(super) const RARE: &str = include_str!("rare.yaml");
