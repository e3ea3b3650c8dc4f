//! A question to a person as a step that is suspended until somebody resumes it.

use kf_pipeline::spec::{ComponentSpec, KfExecutor};

use super::command::Command;
use super::exporter::Variant;
use super::{Error, Result, inputs};
use crate::objects::argo::{Inputs, Outputs, Parameter, Supplied, Suspend, Template, ValueFrom};

/// The question is the parameter `message`, which Argo shows; what is answered are outputs that
/// `argo node set --output-parameter` supplies before `argo resume`, and a no is `argo stop`.
pub(super) fn template(
    place: &str,
    variant: &Variant,
    component: &ComponentSpec,
    kf: &KfExecutor,
) -> Result<Template> {
    let refuse = |problem: String| Error::unsupported(place, problem);
    let command = Command::new(component, variant).map_err(refuse)?;
    let asked = kf.approval.as_ref().map(|approval| approval.message.as_str()).unwrap_or_default();
    let message = command.text(asked).and_then(|text| text.template()).map_err(refuse)?;
    let mut parameters = inputs::parameters(place, component, &variant.absent)?;
    if parameters.iter().any(|parameter| parameter.name == "message") {
        return Err(refuse(
            "it shows an input called `message`, which is what the question itself is called".into(),
        ));
    }
    parameters.push(Parameter { name: "message".into(), value: Some(message), ..Parameter::default() });
    let outputs = component.output_definitions.parameters.keys().map(|name| {
        // Nobody has to say who they are, or why.
        let default = ["by", "comment"].contains(&name.as_str()).then(String::new);
        let value_from = ValueFrom { supplied: Some(Supplied {}), default, ..ValueFrom::default() };
        Parameter { name: command.output_port(name), value_from: Some(value_from), ..Parameter::default() }
    });
    Ok(Template {
        inputs: Inputs { parameters, ..Inputs::default() },
        outputs: Outputs { parameters: outputs.collect(), ..Outputs::default() },
        suspend: Some(Suspend::default()),
        timeout: kf.timeout.map(|timeout| format!("{}s", timeout.as_secs().max(1))),
        ..Template::default()
    })
}
