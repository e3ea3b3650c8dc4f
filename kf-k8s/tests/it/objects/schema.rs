//! A strict check of an object against a CRD's schema, as an API server does it with `fieldValidation=Strict`: no field
//! that the schema does not have, none missing that it requires, and each of its type and among its values. Patterns and
//! CEL rules are not checked.

use serde_json::Value as Json;

/// Keywords that say nothing which is checked here.
const PASSED_OVER: [&str; 5] = ["default", "description", "format", "pattern", "anyOf"];

/// That a server keeps what the schema does not have.
const PRESERVED: &str = "x-kubernetes-preserve-unknown-fields";

/// The schema of an object, or of a part of it.
pub(crate) struct Schema(Json);

impl Schema {
    /// The schema of a whole object, whose metadata is the API server's own matter.
    pub(crate) fn of_object(mut schema: Json) -> Self {
        schema["properties"]["metadata"][PRESERVED] = true.into();
        Self(schema)
    }

    /// All that is wrong with a value, each with its place.
    pub(crate) fn problems(&self, value: &Json) -> Vec<String> {
        let mut problems = Vec::new();
        check(&self.0, value, "", &mut problems);
        problems
    }
}

fn check(schema: &Json, value: &Json, at: &str, problems: &mut Vec<String>) {
    let mut wrong = |what: String| problems.push(format!("{at}: {what}"));
    for keyword in schema.as_object().into_iter().flat_map(serde_json::Map::keys) {
        if !CHECKED.contains(&keyword.as_str())
            && !PASSED_OVER.contains(&keyword.as_str())
            && !keyword.starts_with("x-kubernetes-")
        {
            wrong(format!("the schema says {keyword}, which is not checked here"));
        }
    }
    if value.is_null() && schema["nullable"] == true {
        return;
    }
    let expected = match schema["x-kubernetes-int-or-string"] == true {
        true => "integer or string",
        false => schema["type"].as_str().unwrap_or("anything"),
    };
    if !is_of_type(expected, value) {
        return wrong(format!("expected {}, found {value}", with_article(expected)));
    }
    if let Some(values) = schema["enum"].as_array().filter(|values| !values.contains(value)) {
        wrong(format!("{value} is none of {}", Json::from(values.clone())));
    }
    for (least, most, found) in [
        ("minimum", "maximum", value.as_i64()),
        ("minLength", "maxLength", value.as_str().map(|text| text.chars().count() as i64)),
        ("minItems", "maxItems", value.as_array().map(|items| items.len() as i64)),
        ("minProperties", "maxProperties", value.as_object().map(|fields| fields.len() as i64)),
    ] {
        let Some(found) = found else { continue };
        if schema[least].as_i64().is_some_and(|least| found < least) {
            wrong(format!("{found} is below {least} {}", schema[least]));
        }
        if schema[most].as_i64().is_some_and(|most| found > most) {
            wrong(format!("{found} is above {most} {}", schema[most]));
        }
    }
    match value {
        // A list of anything.
        Json::Array(_) if schema["items"].is_null() && schema[PRESERVED] == true => {}
        Json::Array(items) => {
            let within = items.iter().enumerate();
            within
                .for_each(|(index, item)| check(&schema["items"], item, &format!("{at}[{index}]"), problems));
        }
        Json::Object(fields) => check_fields(schema, fields, at, problems),
        _ => {}
    }
}

fn check_fields(schema: &Json, fields: &serde_json::Map<String, Json>, at: &str, problems: &mut Vec<String>) {
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str) {
        if !fields.contains_key(name) {
            problems.push(format!("{at}.{name}: missing"));
        }
    }
    for (name, field) in fields {
        let at = format!("{at}.{name}");
        let others = &schema["additionalProperties"];
        if let Some(schema) = schema["properties"].get(name) {
            check(schema, field, &at, problems);
        } else if others.is_object() {
            check(others, field, &at, problems);
        } else if *others != true && schema[PRESERVED] != true {
            problems.push(format!("{at}: no such field"));
        }
    }
}

/// Keywords that are checked.
const CHECKED: [&str; 15] = [
    "type",
    "nullable",
    "enum",
    "required",
    "properties",
    "additionalProperties",
    "items",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
];

fn is_of_type(expected: &str, value: &Json) -> bool {
    match expected {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        "integer or string" => value.is_i64() || value.is_u64() || value.is_string(),
        "anything" => true,
        _ => false,
    }
}

fn with_article(name: &str) -> String {
    let article = if name.starts_with(['a', 'i', 'o']) { "an" } else { "a" };
    format!("{article} {name}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn problems(value: Json) -> Vec<String> {
        let schema = Schema::of_object(json!({
            "type": "object",
            "required": ["spec"],
            "properties": {
                "metadata": {"type": "object"},
                "spec": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {
                        "name": {"type": "string", "minLength": 1, "pattern": "^[a-z]+$"},
                        "mode": {"type": "string", "enum": ["hard", "soft"]},
                        "count": {"type": "integer", "minimum": 0, "maximum": 9},
                        "size": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
                        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                        "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                        "none": {"type": "object"},
                        "free": {"x-kubernetes-preserve-unknown-fields": true},
                        "gone": {"type": "string", "nullable": true},
                        "list": {"type": "array", "maxItems": 2, "items": {"type": "boolean"}},
                        "odd": {"type": "string", "not": {}},
                    },
                },
            },
        }));
        schema.problems(&value)
    }

    fn spec(field: &str, value: Json) -> Vec<String> {
        let mut spec = json!({"name": "a"});
        spec[field] = value;
        problems(json!({"spec": spec}))
    }

    #[test]
    fn what_the_schema_has_is_in_order() {
        let value = json!({
            "metadata": {"name": "a", "labels": {"b": "c"}},
            "spec": {
                "name": "a", "mode": "soft", "count": 9, "size": "1Gi", "labels": {"x": "y"}, "any": {"x": [1]}, "none": {},
                "gone": null, "list": [true, false],
            },
        });
        assert_eq!(problems(value), [""; 0]);
        assert_eq!(spec("size", json!(3)), [""; 0]);
        assert_eq!(spec("free", json!([{"x": [1]}, 2])), [""; 0]);
    }

    #[test]
    fn what_it_does_not_have_is_refused() {
        assert_eq!(spec("nmae", json!("a")), [".spec.nmae: no such field"]);
        assert_eq!(spec("none", json!({"x": 1})), [".spec.none.x: no such field"]);
        assert_eq!(problems(json!({"spec": {"name": "a"}, "sepc": {}})), [".sepc: no such field"]);
    }

    #[test]
    fn what_it_requires_may_not_be_missing() {
        assert_eq!(problems(json!({"spec": {}})), [".spec.name: missing"]);
        assert_eq!(problems(json!({})), [".spec: missing"]);
    }

    #[test]
    fn values_are_of_their_type_and_within_their_limits() {
        for (field, value, expected) in [
            ("name", json!(1), ".spec.name: expected a string, found 1"),
            ("name", json!(""), ".spec.name: 0 is below minLength 1"),
            ("name", json!(null), ".spec.name: expected a string, found null"),
            ("mode", json!("Hard"), r#".spec.mode: "Hard" is none of ["hard","soft"]"#),
            ("count", json!(1.5), ".spec.count: expected an integer, found 1.5"),
            ("count", json!("1"), r#".spec.count: expected an integer, found "1""#),
            ("count", json!(10), ".spec.count: 10 is above maximum 9"),
            ("size", json!(1.5), ".spec.size: expected an integer or string, found 1.5"),
            ("labels", json!({"x": 1}), ".spec.labels.x: expected a string, found 1"),
            ("any", json!([]), ".spec.any: expected an object, found []"),
            ("list", json!([true, "no"]), r#".spec.list[1]: expected a boolean, found "no""#),
            ("list", json!([true, true, true]), ".spec.list: 3 is above maxItems 2"),
            ("odd", json!(""), ".spec.odd: the schema says not, which is not checked here"),
        ] {
            assert_eq!(spec(field, value), [expected]);
        }
    }
}
