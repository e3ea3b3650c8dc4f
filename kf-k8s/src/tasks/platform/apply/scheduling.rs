//! Which nodes the pod goes to, for how long, and with which devices.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    LocalObjectReference, PodResourceClaim as KubePodClaim, ResourceClaim, Toleration as KubeToleration,
};
use serde::Deserialize;
use serde_json::Value as Json;

use super::{Draft, some};
use crate::pod::is_label;
use crate::tasks::platform::PlatformError;
use crate::tasks::platform::error::shown;
use crate::tasks::platform::exact::exact;

impl Draft<'_> {
    pub(super) fn images(&mut self) -> Result<(), PlatformError> {
        match self.config.image_pull_policy.as_str() {
            "" => {}
            policy @ ("Always" | "IfNotPresent" | "Never") => {
                self.main.image_pull_policy = Some(policy.to_owned())
            }
            other => {
                let expected = "`Always`, `IfNotPresent` or `Never`";
                return Err(PlatformError::unfit("/imagePullPolicy", format!("`{other}`"), expected));
            }
        }
        for (index, item) in self.config.image_pull_secret.iter().enumerate() {
            let pointer = format!("/imagePullSecret/{index}");
            let parameter = item.secret_name_parameter.as_ref();
            let Some(name) = self.name(parameter, &item.secret_name, &pointer, "secretName")? else {
                continue;
            };
            let secrets = self.spec.image_pull_secrets.get_or_insert_default();
            if !secrets.iter().any(|found| found.name == name) {
                secrets.push(LocalObjectReference { name });
            }
        }
        Ok(())
    }

    /// The shorter time is the pod's.
    pub(super) fn deadline(&mut self) {
        match self.config.active_deadline_seconds {
            None | Some(0) => {}
            Some(seconds) if seconds < 0 => {
                self.notes
                    .push(format!("`/activeDeadlineSeconds` is left out: {seconds} s is no time to run"));
            }
            Some(seconds) => {
                let most = self.spec.active_deadline_seconds.unwrap_or(i64::MAX);
                self.spec.active_deadline_seconds = Some(seconds.min(most));
            }
        }
    }

    pub(super) fn node_selector(&mut self) -> Result<(), PlatformError> {
        let Some(item) = &self.config.node_selector else { return Ok(()) };
        let (pointer, labels) = match &item.node_selector_json {
            None => ("/nodeSelector/labels", item.labels.clone()),
            Some(parameter) => {
                let pointer = "/nodeSelector/nodeSelectorJson";
                let Some(value) = self.value(parameter, pointer)? else { return Ok(()) };
                let labels = BTreeMap::<String, String>::deserialize(&value);
                let unfit = |_| PlatformError::unfit(pointer, shown(&value), "an object of texts");
                (pointer, labels.map_err(unfit)?)
            }
        };
        for (label, value) in labels {
            let selector = self.spec.node_selector.get_or_insert_default();
            match selector.get(&label) {
                Some(found) if *found != value => {
                    let (found, expected) =
                        (format!("`{label}: {value}`"), format!("`{found}`, as the pod has it"));
                    return Err(PlatformError::unfit(pointer, found, expected));
                }
                _ => selector.insert(label, value),
            };
        }
        Ok(())
    }

    pub(super) fn tolerations(&mut self) -> Result<(), PlatformError> {
        for (index, item) in self.config.tolerations.iter().enumerate() {
            let tolerations = match &item.toleration_json {
                None => vec![KubeToleration {
                    key: some(&item.key),
                    operator: some(&item.operator),
                    value: some(&item.value),
                    effect: some(&item.effect),
                    toleration_seconds: item.toleration_seconds,
                }],
                Some(parameter) => {
                    let pointer = format!("/tolerations/{index}/tolerationJson");
                    let Some(value) = self.value(parameter, &pointer)? else { continue };
                    let read = |value: &Json| {
                        let unfit = |problem| {
                            PlatformError::unfit(&pointer, shown(value), format!("a toleration: {problem}"))
                        };
                        exact(value).map_err(unfit)
                    };
                    // One without any field would bear every taint.
                    let one_or_more =
                        one_or_more(&pointer, &value)?.into_iter().filter(|one| says_something(one));
                    one_or_more.map(read).collect::<Result<_, _>>()?
                }
            };
            if !tolerations.is_empty() {
                self.spec.tolerations.get_or_insert_default().extend(tolerations);
            }
        }
        Ok(())
    }

    pub(super) fn resource_claims(&mut self) -> Result<(), PlatformError> {
        for (index, item) in self.config.pod_resource_claims.iter().enumerate() {
            let pointer = format!("/podResourceClaims/{index}");
            let Some(parameter) = &item.resource_claim_json else {
                self.resource_claim(&pointer, item.resource_claim_template_name.clone())?;
                continue;
            };
            let pointer = format!("{pointer}/resourceClaimJson");
            let Some(value) = self.value(parameter, &pointer)? else { continue };
            for one in one_or_more(&pointer, &value)? {
                let written = ClaimJson::deserialize(one).map_err(|error| {
                    PlatformError::unfit(&pointer, shown(one), format!("a resource claim: {error}"))
                })?;
                self.resource_claim(&pointer, written.resource_claim_template_name)?;
            }
        }
        Ok(())
    }

    /// Gives the container what a template describes. The claim is named after the template.
    fn resource_claim(&mut self, pointer: &str, template: String) -> Result<(), PlatformError> {
        if !is_label(&template) {
            let place = format!("{pointer}/resourceClaimTemplateName");
            return Err(PlatformError::unfit(
                &place,
                format!("`{template}`"),
                "a template's name of at most 63 characters",
            ));
        }
        let claims = self.spec.resource_claims.get_or_insert_default();
        if claims.iter().any(|found| found.name == template) {
            return Err(PlatformError::taken(pointer, "resource claim", &template));
        }
        claims.push(KubePodClaim {
            name: template.clone(),
            resource_claim_template_name: Some(template.clone()),
            ..Default::default()
        });
        let resources = self.main.resources.get_or_insert_default();
        resources.claims.get_or_insert_default().push(ResourceClaim { name: template, request: None });
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ClaimJson {
    resource_claim_template_name: String,
}

/// An object, or a list of objects.
fn one_or_more<'v>(pointer: &str, value: &'v Json) -> Result<Vec<&'v Json>, PlatformError> {
    match value {
        Json::Object(_) => Ok(vec![value]),
        Json::Array(items) => Ok(items.iter().collect()),
        _ => Err(PlatformError::unfit(pointer, shown(value), "an object or a list of objects")),
    }
}

fn says_something(value: &Json) -> bool {
    value.as_object().is_none_or(|fields| !fields.is_empty())
}
