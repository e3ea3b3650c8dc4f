//! The pod's labels, the user of the container, and containers before it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, EnvVar, ResourceRequirements, SeccompProfile,
    SecurityContext as KubeSecurityContext, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::volumes::absolute;
use super::{Draft, filled, given, some};
use crate::tasks::platform::quantity::quantity_at;
use crate::tasks::platform::{InitContainer, InitResources, PlatformError};

impl Draft<'_> {
    pub(super) fn metadata(&mut self) {
        let Some(item) = &self.config.pod_metadata else { return };
        let kinds = [
            ("labels", &item.labels, &mut self.metadata.labels),
            ("annotations", &item.annotations, &mut self.metadata.annotations),
        ];
        for (kind, asked, has) in kinds {
            for (key, value) in asked {
                match has.get_or_insert_default().get(key) {
                    Some(found) if found != value => {
                        self.notes
                            .push(format!("`/podMetadata/{kind}`: `{key}` stays `{found}`, not `{value}`"));
                    }
                    _ => {
                        has.get_or_insert_default().insert(key.clone(), value.clone());
                    }
                }
            }
        }
    }

    pub(super) fn security_context(&mut self) -> Result<(), PlatformError> {
        let Some(item) = &self.config.security_context else { return Ok(()) };
        let pod = self.spec.security_context.as_ref().and_then(|context| context.run_as_non_root);
        let context = self.main.security_context.get_or_insert_default();
        let non_root = context.run_as_non_root.or(item.run_as_non_root).or(pod).unwrap_or(false);
        if context.run_as_user.is_none() && item.run_as_user == Some(0) && non_root {
            let expected = "another user, since `runAsNonRoot` is true";
            return Err(PlatformError::unfit("/securityContext/runAsUser", "0", expected));
        }
        let mut notes = Vec::new();
        settle("runAsUser", &mut context.run_as_user, item.run_as_user, &mut notes);
        settle("runAsGroup", &mut context.run_as_group, item.run_as_group, &mut notes);
        settle("runAsNonRoot", &mut context.run_as_non_root, item.run_as_non_root, &mut notes);
        context.capabilities = Some(none());
        self.notes.append(&mut notes);
        Ok(())
    }

    /// Those before the task have the rights of `restricted`, and the user that the operator gave to the container.
    pub(super) fn init_containers(&mut self) -> Result<(), PlatformError> {
        let operator = self.main.security_context.clone().unwrap_or_default();
        for (index, item) in self.config.init_containers.iter().enumerate() {
            let pointer = format!("/initContainers/{index}");
            let name = given(&pointer, "name", &item.name)?;
            let others = self.spec.containers.iter().chain(self.spec.init_containers.iter().flatten());
            if others.chain([&self.main]).any(|other| other.name == name) {
                return Err(PlatformError::taken(&pointer, "container", name));
            }
            let made = Container {
                name: name.to_owned(),
                image: Some(given(&pointer, "image", &item.image)?.to_owned()),
                command: filled(item.command.clone()),
                args: filled(item.args.clone()),
                env: filled(variables(&pointer, item)?),
                volume_mounts: filled(self.init_mounts(&pointer, item)?),
                restart_policy: restart_policy(&pointer, item)?,
                resources: item.resources.as_ref().map(|needs| resources(&pointer, needs)).transpose()?,
                security_context: Some(KubeSecurityContext {
                    allow_privilege_escalation: Some(false),
                    capabilities: Some(none()),
                    seccomp_profile: Some(SeccompProfile {
                        type_: "RuntimeDefault".into(),
                        localhost_profile: None,
                    }),
                    run_as_user: operator.run_as_user,
                    run_as_group: operator.run_as_group,
                    run_as_non_root: operator.run_as_non_root,
                    ..Default::default()
                }),
                ..Default::default()
            };
            self.spec.init_containers.get_or_insert_default().push(made);
        }
        Ok(())
    }

    fn init_mounts(&self, pointer: &str, item: &InitContainer) -> Result<Vec<VolumeMount>, PlatformError> {
        let mount = |(index, mount): (usize, &crate::tasks::platform::InitMount)| {
            let pointer = format!("{pointer}/volumeMounts/{index}");
            let Some(volume) = self.volume(&mount.volume_name) else {
                let known: Vec<&str> =
                    self.spec.volumes.iter().flatten().map(|volume| volume.name.as_str()).collect();
                let expected = match known.as_slice() {
                    [] => "a volume of the pod, which has none".to_owned(),
                    known => format!("a volume of the pod: {}", known.join(", ")),
                };
                let found = format!("`{}`", mount.volume_name);
                return Err(PlatformError::unfit(&format!("{pointer}/volumeName"), found, expected));
            };
            let mount_path = absolute(&pointer, &mount.mount_path)?.to_owned();
            Ok(VolumeMount { name: volume.to_owned(), mount_path, ..Default::default() })
        };
        item.volume_mounts.iter().enumerate().map(mount).collect()
    }
}

/// What the operator says stays.
fn settle<T: Copy + PartialEq + std::fmt::Display>(
    field: &str,
    has: &mut Option<T>,
    asked: Option<T>,
    notes: &mut Vec<String>,
) {
    match (*has, asked) {
        (None, asked) => *has = asked,
        (Some(found), Some(asked)) if found != asked => {
            notes.push(format!("`/securityContext/{field}` stays {found}, not {asked}"));
        }
        _ => {}
    }
}

/// No capability.
fn none() -> Capabilities {
    Capabilities { add: None, drop: Some(vec!["ALL".into()]) }
}

fn variables(pointer: &str, item: &InitContainer) -> Result<Vec<EnvVar>, PlatformError> {
    let entries = item.env.iter().enumerate();
    let variables = entries.map(|(index, entry)| {
        let name = given(&format!("{pointer}/env/{index}"), "name", &entry.name)?.to_owned();
        Ok(EnvVar { name, value: some(&entry.value), value_from: None })
    });
    variables.collect()
}

fn restart_policy(pointer: &str, item: &InitContainer) -> Result<Option<String>, PlatformError> {
    match item.restart_policy.as_deref() {
        None | Some("") => Ok(None),
        Some("Always") => Ok(Some("Always".to_owned())),
        Some(other) => {
            let place = format!("{pointer}/restartPolicy");
            Err(PlatformError::unfit(&place, format!("`{other}`"), "`Always`, or nothing"))
        }
    }
}

fn resources(pointer: &str, needs: &InitResources) -> Result<ResourceRequirements, PlatformError> {
    let amounts = |kind: &str, amounts: &BTreeMap<String, String>| {
        let amount = |(resource, text): (&String, &String)| {
            let place =
                format!("{pointer}/resources/{kind}/{}", resource.replace('~', "~0").replace('/', "~1"));
            Ok((resource.clone(), quantity_at(&place, text)?))
        };
        amounts.iter().map(amount).collect::<Result<BTreeMap<String, Quantity>, PlatformError>>()
    };
    Ok(ResourceRequirements {
        requests: filled(amounts("requests", &needs.requests)?),
        limits: filled(amounts("limits", &needs.limits)?),
        claims: None,
    })
}
