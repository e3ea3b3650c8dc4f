use super::super::text::Reference;
use super::*;

fn when(text: &str) -> Result<String, String> {
    condition(text, &|name| {
        let shape = match name {
            "text" => Shape::Text,
            "int" => Shape::Integer,
            "number" => Shape::Number,
            "flag" => Shape::Boolean,
            "any" => Shape::Any,
            other => return Err(format!("no {other}")),
        };
        Ok((Reference::Input(name.to_owned()).into(), shape))
    })
}

#[test]
fn conditions_compare_by_the_types_of_parameters() {
    let of = |name: &str| format!("inputs.parameter_values['{name}']");
    for (text, expected) in [
        (format!("{} == 'heads'", of("text")), "inputs.parameters['text'] == 'heads'"),
        (format!("{} >= 0.95", of("number")), "asFloat(inputs.parameters['number']) >= 0.95"),
        (format!("int({}) > -5", of("int")), "asFloat(inputs.parameters['int']) > -5"),
        (format!("int({}) > 5", of("text")), "asInt(inputs.parameters['text']) > 5"),
        (of("flag"), "sprig.lower(inputs.parameters['flag']) == 'true'"),
        (format!("{} == true", of("flag")), "(sprig.lower(inputs.parameters['flag']) == 'true') == (true)"),
        (
            format!("!({} == 'a') && {} < 1", of("text"), of("any")),
            "(!(inputs.parameters['text'] == 'a') && asFloat(inputs.parameters['any']) < 1)",
        ),
    ] {
        assert_eq!(when(&text).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn what_has_no_like_is_named() {
    let of = |name: &str| format!("inputs.parameter_values['{name}']");
    for (text, expected) in [
        (format!("{}.startsWith('a')", of("text")), "`startsWith` in it"),
        (format!("{} == 1", of("text")), "is no number"),
        (format!("{} in ['a']", of("text")), "a list in it"),
        (format!("{} == 'a'", of("absent")), "no absent"),
        (of("text"), "neither a comparison"),
        (format!("[1].exists(x, x > {})", of("int")), "a walk over a list"),
        (format!("{0} == {0}", of("any")), "known only when it runs"),
    ] {
        let problem = when(&text).unwrap_err();
        assert!(problem.contains(expected) && problem.contains(&text), "{problem}");
    }
}

#[test]
fn selectors_become_paths() {
    let select = |text: &str| {
        let value = Text::from(Reference::Input("x".into()));
        selected(text, &value, Shape::Text).map(|(text, _)| text.template().unwrap())
    };
    assert_eq!(
        select("parseJson(string_value)[\"a\"][0]").unwrap(),
        r#"{{=toJson(jsonpath(inputs.parameters['x'], '$[\'a\'][0]'))}}"#
    );
    assert_eq!(select("string_value").unwrap(), "{{inputs.parameters.x}}");
    assert!(select("string_value + 'a'").unwrap_err().contains("`_+_` in it"));
}
