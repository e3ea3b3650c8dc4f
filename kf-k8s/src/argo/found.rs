//! A value that goes into a task, before its type is known.

use kf_pipeline::spec::ParameterInput;
use serde_json::Value as Json;

use super::shape::Shape;
use super::text::{Text, quoted};

/// A value that goes into a task.
pub(super) enum Found {
    /// None.
    Absent,
    /// One that is known.
    Constant(Json),
    /// One that is known but for its placeholders.
    Filled(Text, Shape),
    /// One that is known when the workflow runs, and the task, as it is called in the workflow, that may have failed to
    /// give it.
    Dynamic(Text, Shape, Option<String>),
}

impl Found {
    /// The value as the text of a parameter of this shape; none where there is no value. `default` is the parameter's own.
    pub(super) fn fit(
        self,
        wanted: Shape,
        declared: Option<&ParameterInput>,
    ) -> Result<Option<Text>, String> {
        let default =
            declared.and_then(|declared| declared.default_value.as_ref()).filter(|value| !value.is_null());
        match self {
            Self::Absent => Ok(None),
            Self::Constant(Json::Null) => {
                match declared.is_none_or(|declared| declared.is_optional) && default.is_none() {
                    true => Ok(None),
                    false => Err("it is given a null, which Argo has no text for".to_owned()),
                }
            }
            Self::Constant(value) => Ok(Some(Text::literal(wanted.text_of(&value)))),
            Self::Filled(text, shape) => Ok(Some(shape.convert(text, wanted))),
            Self::Dynamic(text, shape, None) => Ok(Some(shape.convert(text, wanted))),
            Self::Dynamic(text, shape, Some(task)) => {
                let default = default.ok_or_else(|| {
                    format!(
                        "it takes what `{task}` gives though that may have failed, and has no default instead"
                    )
                })?;
                let default = quoted(&wanted.text_of(default));
                let text = shape.convert(text, wanted).code();
                let code = format!("tasks['{task}'].status == 'Succeeded' ? {text} : {default}");
                Ok(Some(Text::of_code(code)))
            }
        }
    }
}
