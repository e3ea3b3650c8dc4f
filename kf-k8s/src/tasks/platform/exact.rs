//! Kubernetes' own types from JSON that a pipeline gives, with nothing dropped.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::number::whole_numbers;

/// Reads one.
///
/// # Errors
/// What doesn't fit, or the field that the type doesn't have.
pub(super) fn exact<T: Serialize + DeserializeOwned>(value: &Json) -> Result<T, String> {
    let value = whole_numbers(value);
    let read = T::deserialize(&value).map_err(|error| error.to_string())?;
    let kept = serde_json::to_value(&read).map_err(|error| error.to_string())?;
    match dropped(&value, &kept) {
        None => Ok(read),
        Some(field) => Err(format!("no field `{}`", field.trim_start_matches('.'))),
    }
}

/// The first part that says something and is not kept.
fn dropped(value: &Json, kept: &Json) -> Option<String> {
    match (value, kept) {
        (Json::Object(fields), _) => fields.iter().find_map(|(key, value)| {
            let within = match kept.get(key) {
                Some(kept) => dropped(value, kept),
                None if says_nothing(value) => None,
                None => Some(String::new()),
            };
            within.map(|within| format!(".{key}{within}"))
        }),
        (Json::Array(items), Json::Array(kept)) => {
            let items = items.iter().zip(kept).enumerate();
            items
                .into_iter()
                .find_map(|(index, (item, kept))| Some(format!("[{index}]{}", dropped(item, kept)?)))
        }
        _ => None,
    }
}

fn says_nothing(value: &Json) -> bool {
    match value {
        Json::Null => true,
        Json::Array(items) => items.is_empty(),
        Json::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{NodeAffinity, Toleration};
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_type_does_not_have_is_named() {
        let read: Toleration =
            exact(&json!({"key": "a", "tolerationSeconds": 3600.0, "value": null})).unwrap();
        assert_eq!(read.toleration_seconds, Some(3600));
        let error = exact::<Toleration>(&json!({"key": "a", "seconds": 1})).unwrap_err();
        assert_eq!(error, "no field `seconds`");
        let deep = json!({"preferredDuringSchedulingIgnoredDuringExecution":
            [{"weight": 1, "preference": {"matchExpressions": [{"key": "a", "operator": "Exists", "vals": ["b"]}]}}]});
        let error = exact::<NodeAffinity>(&deep).unwrap_err();
        assert!(error.ends_with("[0].preference.matchExpressions[0].vals`"), "{error}");
        assert!(exact::<NodeAffinity>(&json!({"requiredDuringScheduling": {}})).is_ok(), "it says nothing");
        assert!(exact::<Toleration>(&json!({"key": 1})).unwrap_err().contains("string"));
    }
}
