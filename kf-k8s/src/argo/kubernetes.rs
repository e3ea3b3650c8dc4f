//! What KFP's platform `kubernetes` says of an executor, as KFP's `KubernetesExecutorConfig`. A field that is not carried
//! over is refused by its name.

mod config;

use k8s_openapi::api::core::v1::{
    ConfigMapKeySelector, ConfigMapVolumeSource, Container, EmptyDirVolumeSource, EnvVar, EnvVarSource,
    ObjectFieldSelector, PersistentVolumeClaimVolumeSource, PodSecurityContext, SecretKeySelector,
    SecretVolumeSource, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kf_pipeline::spec::TaskParameter;
use serde::Deserialize;
use serde_json::Value as Json;

use super::text::{Reference, Text};
use crate::objects::argo::{Template, TemplateMetadata};
use config::{AsEnv, AsVolume, Config, KeyToEnv, Metadata, SecurityContext};

/// The parameters that it is filled in from: the pointer of each, what it is called, and where it comes from.
type Parameters = [(String, String, TaskParameter)];

/// Says it in a container's template.
pub(super) fn apply(config: &Json, parameters: &Parameters, template: &mut Template) -> Result<(), String> {
    let config = Config::deserialize(config).map_err(|error| {
        format!("the platform `kubernetes` says something that is not carried over: {error}")
    })?;
    let Template { container: Some(container), volumes, .. } = template else { return Ok(()) };
    let mut made = Made { container, volumes, parameters };
    made.env(&config.secret_as_env, "secret")?;
    made.env(&config.config_map_as_env, "configMap")?;
    for field in &config.field_path_as_env {
        let field_ref = ObjectFieldSelector { field_path: field.field_path.clone(), ..Default::default() };
        made.variable(&field.name, EnvVarSource { field_ref: Some(field_ref), ..Default::default() });
    }
    made.volumes(&config.secret_as_volume, "secret")?;
    made.volumes(&config.config_map_as_volume, "configMap")?;
    made.claims(&config.pvc_mount)?;
    for folder in config.empty_dir_mounts {
        let size_limit = folder.size_limit.map(Quantity);
        let empty_dir = Some(EmptyDirVolumeSource { medium: folder.medium, size_limit });
        made.mount(
            Volume { name: folder.volume_name, empty_dir, ..Volume::default() },
            &folder.mount_path,
            None,
        );
    }
    if config.image_pull_policy.is_some() {
        made.container.image_pull_policy = config.image_pull_policy;
    }
    template.node_selector = config.node_selector.labels;
    template.tolerations = config.tolerations;
    let Metadata { labels, annotations } = config.pod_metadata;
    if !labels.is_empty() || !annotations.is_empty() {
        template.metadata = Some(TemplateMetadata { labels, annotations });
    }
    if let Some(seconds) = config.active_deadline_seconds {
        template.active_deadline_seconds = Some(IntOrString::Int(seconds));
    }
    if let Some(asked) = config.security_context {
        run_as(&asked, template.security_context.get_or_insert_default())?;
    }
    Ok(())
}

/// Has a pod run as the pipeline says, within what the options ask of it.
fn run_as(asked: &SecurityContext, context: &mut PodSecurityContext) -> Result<(), String> {
    let restricted = context.run_as_non_root == Some(true);
    if restricted && (asked.run_as_user == Some(0) || asked.run_as_non_root == Some(false)) {
        return Err(
            "the platform `kubernetes` has it run as root, which `Options::pod_security` forbids: say \
                    `Baseline` there, and submit it to a namespace that lets it"
                .to_owned(),
        );
    }
    context.run_as_user = asked.run_as_user.or(context.run_as_user);
    context.run_as_group = asked.run_as_group.or(context.run_as_group);
    context.run_as_non_root = asked.run_as_non_root.or(context.run_as_non_root);
    Ok(())
}

struct Made<'a> {
    container: &'a mut Container,
    volumes: &'a mut Vec<Volume>,
    parameters: &'a Parameters,
}

impl Made<'_> {
    /// An object's name, as it is or by the parameter at one of these pointers.
    fn name(&self, said: Option<&String>, pointers: &[String]) -> Result<String, String> {
        let by = self.parameters.iter().find(|(pointer, ..)| pointers.contains(pointer));
        match (by, said.filter(|name| !name.is_empty())) {
            (Some((_, port, _)), _) => Text::from(Reference::Input(port.clone())).template(),
            (None, Some(name)) => Text::literal(name.as_str()).template(),
            (None, None) => {
                let pointer = pointers.first().map_or("", String::as_str);
                Err(format!("platform kubernetes, `{pointer}`: no name is given"))
            }
        }
    }

    fn variable(&mut self, name: &str, source: EnvVarSource) {
        let variable = EnvVar { name: name.to_owned(), value_from: Some(source), ..EnvVar::default() };
        self.container.env.get_or_insert_default().push(variable);
    }

    fn mount(&mut self, volume: Volume, path: &str, sub_path: Option<String>) {
        let mount = VolumeMount {
            name: volume.name.clone(),
            mount_path: path.to_owned(),
            sub_path,
            ..VolumeMount::default()
        };
        self.container.volume_mounts.get_or_insert_default().push(mount);
        self.volumes.push(volume);
    }

    fn env(&mut self, list: &[AsEnv], kind: &str) -> Result<(), String> {
        for (index, asked) in list.iter().enumerate() {
            let pointer = format!("/{kind}AsEnv/{index}/{kind}NameParameter");
            let name = self.name(asked.secret_name.as_ref(), &[pointer])?;
            for KeyToEnv { secret_key: key, env_var } in &asked.key_to_env {
                let (name, key, optional) = (name.clone(), key.clone(), asked.optional);
                let source = match kind {
                    "secret" => EnvVarSource {
                        secret_key_ref: Some(SecretKeySelector { key, name, optional }),
                        ..EnvVarSource::default()
                    },
                    _ => EnvVarSource {
                        config_map_key_ref: Some(ConfigMapKeySelector { key, name, optional }),
                        ..EnvVarSource::default()
                    },
                };
                self.variable(env_var, source);
            }
        }
        Ok(())
    }

    fn volumes(&mut self, list: &[AsVolume], kind: &str) -> Result<(), String> {
        for (index, asked) in list.iter().enumerate() {
            let pointer = format!("/{kind}AsVolume/{index}/{kind}NameParameter");
            let object = self.name(asked.secret_name.as_ref(), &[pointer])?;
            let optional = asked.optional;
            let name = format!("{}-{index}", kind.to_lowercase());
            let volume = match kind {
                "secret" => Volume {
                    name,
                    secret: Some(SecretVolumeSource {
                        secret_name: Some(object),
                        optional,
                        ..Default::default()
                    }),
                    ..Volume::default()
                },
                _ => Volume {
                    name,
                    config_map: Some(ConfigMapVolumeSource { name: object, optional, ..Default::default() }),
                    ..Volume::default()
                },
            };
            self.mount(volume, &asked.mount_path, None);
        }
        Ok(())
    }

    fn claims(&mut self, list: &[Json]) -> Result<(), String> {
        let known = [
            "constant",
            "pvcName",
            "pvcNameParameter",
            "mountPath",
            "subPath",
            "taskOutputParameter",
            "componentInputParameter",
        ];
        for (index, asked) in list.iter().enumerate() {
            let pointer = format!("/pvcMount/{index}");
            if let Some(key) =
                asked.as_object().and_then(|fields| fields.keys().find(|key| !known.contains(&key.as_str())))
            {
                return Err(format!("platform kubernetes, `{pointer}/{key}` is not carried over"));
            }
            let text = |key: &str| asked.get(key).and_then(Json::as_str).map(str::to_owned);
            let said = text("constant").or_else(|| text("pvcName"));
            let claim_name =
                self.name(said.as_ref(), &[format!("{pointer}/pvcNameParameter"), pointer.clone()])?;
            let claim = PersistentVolumeClaimVolumeSource { claim_name, read_only: None };
            let volume = Volume {
                name: format!("claim-{index}"),
                persistent_volume_claim: Some(claim),
                ..Volume::default()
            };
            let path =
                text("mountPath").ok_or_else(|| format!("platform kubernetes, `{pointer}`: no mountPath"))?;
            self.mount(volume, &path, text("subPath").filter(|path| !path.is_empty()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn applied(config: Json, parameters: &Parameters) -> Result<Json, String> {
        let mut template = Template { container: Some(Container::default()), ..Template::default() };
        apply(&config, parameters, &mut template)?;
        Ok(serde_json::to_value(template).unwrap())
    }

    #[test]
    fn names_are_given_as_they_are_or_by_parameters() {
        let config = json!({
            "secretAsEnv": [{"secretNameParameter": {}, "keyToEnv": [{"secretKey": "k", "envVar": "V"}], "optional": false}],
            "configMapAsVolume": [{"configMapName": "c", "mountPath": "/c"}],
            "pvcMount": [{"constant": "p", "mountPath": "/data", "subPath": "x"}],
        });
        let given = serde_json::from_value(json!({"componentInputParameter": "name"})).unwrap();
        let parameters =
            [("/secretAsEnv/0/secretNameParameter".to_owned(), "kubernetes-1".to_owned(), given)];
        let template = applied(config, &parameters).unwrap();
        let key = &template["container"]["env"][0]["valueFrom"]["secretKeyRef"];
        assert_eq!((&key["name"], &key["key"]), (&json!("{{inputs.parameters.kubernetes-1}}"), &json!("k")));
        assert_eq!(template["volumes"][0]["configMap"]["name"], "c");
        assert_eq!(template["volumes"][1]["persistentVolumeClaim"]["claimName"], "p");
        assert_eq!(template["container"]["volumeMounts"][1]["subPath"], "x");
    }

    #[test]
    fn who_a_pod_runs_as_stays_within_the_level() {
        let apply = |asked: Json, context: Option<PodSecurityContext>| {
            let container = Some(Container::default());
            let mut template = Template { container, security_context: context, ..Template::default() };
            let config = json!({"securityContext": asked});
            super::apply(&config, &[], &mut template).map(|()| json!(template.security_context))
        };
        let restricted = || Some(crate::pod::pod_security(Some(65_532)));
        let made = apply(json!({"runAsUser": 1000}), restricted()).unwrap();
        assert_eq!((&made["runAsUser"], &made["runAsGroup"]), (&json!(1000), &json!(65_532)));
        assert_eq!(made["seccompProfile"]["type"], "RuntimeDefault");
        for root in [json!({"runAsUser": 0}), json!({"runAsNonRoot": false})] {
            let problem = apply(root.clone(), restricted()).unwrap_err();
            assert!(problem.contains("as root") && problem.contains("`Options::pod_security`"), "{problem}");
            assert_eq!(apply(root.clone(), None).unwrap(), root);
        }
    }

    #[test]
    fn what_is_not_carried_over_is_named() {
        let problem = applied(json!({"genericEphemeralVolume": []}), &[]).unwrap_err();
        assert!(problem.contains("genericEphemeralVolume"), "{problem}");
        let problem = applied(json!({"pvcMount": [{"constant": "p", "mountPath": "/d", "later": 1}]}), &[])
            .unwrap_err();
        assert!(problem.contains("/pvcMount/0/later"), "{problem}");
        let nameless = json!({"secretAsVolume": [{"mountPath": "/s"}]});
        assert!(applied(nameless, &[]).unwrap_err().contains("no name"));
    }
}
