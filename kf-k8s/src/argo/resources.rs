//! What containers need.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kf_core::resources::Resources;
use kf_pipeline::spec::ContainerResources;
use serde_json::json;

use super::text::Text;

/// What a container needs: known, or with things to fill in, for which Kubernetes' own fields have no room.
#[derive(Default)]
pub(super) struct Asked {
    pub(super) known: Option<ResourceRequirements>,
    /// A patch of the pod's spec, as JSON text.
    pub(super) patch: Option<String>,
}

/// What a component of the program asks for; it gets no more than that.
pub(super) fn of_component(asked: &Resources) -> Option<ResourceRequirements> {
    let milli = |count: u64| {
        if count.is_multiple_of(1000) { (count / 1000).to_string() } else { format!("{count}m") }
    };
    let own = [("cpu", asked.cpu, milli(asked.cpu)), ("memory", asked.memory, asked.memory.to_string())];
    let own = own.into_iter().map(|(name, count, text)| (name.to_owned(), count, text));
    let others = asked.accelerators.iter().map(|(name, count)| (name.clone(), *count, milli(*count)));
    let all: BTreeMap<String, Quantity> = own
        .chain(others)
        .filter(|(_, count, _)| *count > 0)
        .map(|(name, _, text)| (name, Quantity(text)))
        .collect();
    let some = (!all.is_empty()).then_some(all)?;
    Some(ResourceRequirements { limits: Some(some.clone()), requests: Some(some), ..Default::default() })
}

/// What a container of a file asks for.
pub(super) fn of_container(
    asked: &ContainerResources,
    fill: &dyn Fn(&str) -> Result<Text, String>,
) -> Result<Asked, String> {
    let gigabytes = |number: &serde_json::Number| {
        let bytes = number.as_f64().unwrap_or_default() * 1e9;
        format!("{bytes:.0}")
    };
    let say = |text: &Option<String>, number: Option<String>| text.clone().or(number);
    let cores = |number: &Option<serde_json::Number>| number.as_ref().map(ToString::to_string);
    let bytes = |number: &Option<serde_json::Number>| number.as_ref().map(gigabytes);
    let mut limits = vec![
        ("cpu".to_owned(), say(&asked.resource_cpu_limit, cores(&asked.cpu_limit))),
        ("memory".to_owned(), say(&asked.resource_memory_limit, bytes(&asked.memory_limit))),
    ];
    let requests = vec![
        ("cpu".to_owned(), say(&asked.resource_cpu_request, cores(&asked.cpu_request))),
        ("memory".to_owned(), say(&asked.resource_memory_request, bytes(&asked.memory_request))),
    ];
    if let Some(accelerator) = &asked.accelerator {
        let kind = accelerator.resource_type.as_ref().or(accelerator.kind.as_ref());
        let count = accelerator.count.as_ref().map(|count| count.to_string().trim_matches('"').to_owned());
        let kind = kind.ok_or("it asks for an accelerator of no kind")?;
        limits.push((kind.clone(), say(&accelerator.resource_count, count)));
    }
    let filled = |list: Vec<(String, Option<String>)>| -> Result<Vec<(Text, Text)>, String> {
        let some = list.into_iter().filter_map(|(name, count)| Some((name, count?)));
        some.map(|(name, count)| Ok((fill(&name)?, fill(&count)?))).collect()
    };
    let (limits, requests) = (filled(limits)?, filled(requests)?);
    let all = || limits.iter().chain(&requests);
    if all().all(|(name, count)| name.as_literal().is_some() && count.as_literal().is_some()) {
        let known = |list: &[(Text, Text)]| {
            let some: BTreeMap<String, Quantity> = list
                .iter()
                .filter_map(|(name, count)| {
                    Some((name.as_literal()?.to_owned(), Quantity(count.as_literal()?.to_owned())))
                })
                .collect();
            (!some.is_empty()).then_some(some)
        };
        let known =
            ResourceRequirements { limits: known(&limits), requests: known(&requests), ..Default::default() };
        return Ok(Asked { known: (known != ResourceRequirements::default()).then_some(known), patch: None });
    }
    let written = |list: &[(Text, Text)]| -> Result<serde_json::Map<String, serde_json::Value>, String> {
        list.iter().map(|(name, count)| Ok((name.template()?, count.template()?.into()))).collect()
    };
    let resources = json!({"limits": written(&limits)?, "requests": written(&requests)?});
    let patch = json!({"containers": [{"name": "main", "resources": resources}]});
    Ok(Asked { known: None, patch: Some(patch.to_string()) })
}
