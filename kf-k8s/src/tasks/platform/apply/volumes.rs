//! Folders of the container.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, EmptyDirVolumeSource, EphemeralVolumeSource, PersistentVolumeClaimSpec,
    PersistentVolumeClaimTemplate, PersistentVolumeClaimVolumeSource, SecretVolumeSource, Volume,
    VolumeMount, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sha2::{Digest, Sha256};

use super::{Draft, filled, given, some};
use crate::pod::is_label;
use crate::tasks::platform::claims::{ACCESS_MODES, is_access_mode};
use crate::tasks::platform::quantity::quantity_at;
use crate::tasks::platform::{
    GenericEphemeralVolume, InputParameter, KubernetesConfig, PlatformError, PvcMount, Source,
};

/// Where shared memory is.
const SHARED_MEMORY: &str = "/dev/shm";
/// What its volume is called where nothing else is said.
const SHARED_MEMORY_NAME: &str = "shm";

impl KubernetesConfig {
    /// The names that it gives to volumes itself.
    pub(super) fn volume_names(&self) -> BTreeSet<&str> {
        let ephemeral = self.generic_ephemeral_volume.iter().map(|volume| volume.volume_name.as_str());
        let empty = self.empty_dir_mounts.iter().map(|volume| volume.volume_name.as_str());
        ephemeral.chain(empty).chain(self.shared_memory_name()).collect()
    }

    fn shared_memory_name(&self) -> Option<&str> {
        let name = self.enabled_shared_memory.as_ref()?.volume_name.as_str();
        Some(if name.is_empty() { SHARED_MEMORY_NAME } else { name })
    }
}

impl Draft<'_> {
    pub(super) fn claims(&mut self) -> Result<(), PlatformError> {
        for (index, item) in self.config.pvc_mount.iter().enumerate() {
            let pointer = format!("/pvcMount/{index}");
            let name = match (&item.pvc_name_parameter, deprecated(item)) {
                (Some(parameter), _) => self.text(parameter, &format!("{pointer}/pvcNameParameter"))?,
                (None, Some(parameter)) => self.text(&parameter, &pointer)?,
                (None, None) => None,
            };
            // Without its volume a task would lose what it writes.
            let Some(name) = name else {
                return Err(PlatformError::unfit(
                    &pointer,
                    "no name",
                    "the name of a claim in `pvcNameParameter`",
                ));
            };
            let source = PersistentVolumeClaimVolumeSource { claim_name: name.clone(), read_only: None };
            let volume = Volume { persistent_volume_claim: Some(source), ..Default::default() };
            self.object(&pointer, "pvc", &name, volume, &item.mount_path, &item.sub_path)?;
        }
        Ok(())
    }

    pub(super) fn secrets_and_config_maps(&mut self) -> Result<(), PlatformError> {
        for (index, item) in self.config.secret_as_volume.iter().enumerate() {
            let pointer = format!("/secretAsVolume/{index}");
            let parameter = item.secret_name_parameter.as_ref();
            let Some(name) = self.name(parameter, &item.secret_name, &pointer, "secretName")? else {
                continue;
            };
            let source = SecretVolumeSource {
                secret_name: Some(name.clone()),
                optional: Some(item.optional.unwrap_or(false)),
                ..Default::default()
            };
            let volume = Volume { secret: Some(source), ..Default::default() };
            self.object(&pointer, "secret", &name, volume, &item.mount_path, "")?;
        }
        for (index, item) in self.config.config_map_as_volume.iter().enumerate() {
            let pointer = format!("/configMapAsVolume/{index}");
            let parameter = item.config_map_name_parameter.as_ref();
            let Some(name) = self.name(parameter, &item.config_map_name, &pointer, "configMapName")? else {
                continue;
            };
            let source = ConfigMapVolumeSource {
                name: name.clone(),
                optional: Some(item.optional.unwrap_or(false)),
                ..Default::default()
            };
            let volume = Volume { config_map: Some(source), ..Default::default() };
            self.object(&pointer, "config-map", &name, volume, &item.mount_path, "")?;
        }
        Ok(())
    }

    /// The volumes that the configuration names.
    pub(super) fn own_volumes(&mut self) -> Result<(), PlatformError> {
        for (index, item) in self.config.generic_ephemeral_volume.iter().enumerate() {
            let pointer = format!("/genericEphemeralVolume/{index}");
            let template = PersistentVolumeClaimTemplate {
                metadata: item.metadata.as_ref().map(|metadata| ObjectMeta {
                    labels: filled(metadata.labels.clone()),
                    annotations: filled(metadata.annotations.clone()),
                    ..Default::default()
                }),
                spec: claim_spec(&pointer, item)?,
            };
            let source = EphemeralVolumeSource { volume_claim_template: Some(template) };
            let volume = Volume { ephemeral: Some(source), ..Default::default() };
            self.own(&pointer, &item.volume_name, volume, &item.mount_path)?;
        }
        for (index, item) in self.config.empty_dir_mounts.iter().enumerate() {
            let pointer = format!("/emptyDirMounts/{index}");
            let limit = item.size_limit.as_deref().filter(|limit| !limit.is_empty());
            let source = EmptyDirVolumeSource {
                medium: item.medium.as_deref().and_then(some),
                size_limit: limit
                    .map(|limit| quantity_at(&format!("{pointer}/sizeLimit"), limit))
                    .transpose()?,
            };
            let volume = Volume { empty_dir: Some(source), ..Default::default() };
            self.own(&pointer, &item.volume_name, volume, &item.mount_path)?;
        }
        if let (Some(item), Some(name)) =
            (&self.config.enabled_shared_memory, self.config.shared_memory_name())
        {
            let pointer = "/enabledSharedMemory";
            let limit = Some(item.size.as_str()).filter(|size| !size.is_empty());
            let source = EmptyDirVolumeSource {
                medium: Some("Memory".into()),
                size_limit: limit.map(|limit| quantity_at(&format!("{pointer}/size"), limit)).transpose()?,
            };
            let volume = Volume { empty_dir: Some(source), ..Default::default() };
            self.own(pointer, name, volume, SHARED_MEMORY)?;
        }
        Ok(())
    }

    /// Mounts a claim, a Secret or a ConfigMap.
    fn object(
        &mut self,
        pointer: &str,
        kind: &str,
        name: &str,
        volume: Volume,
        mount_path: &str,
        sub_path: &str,
    ) -> Result<(), PlatformError> {
        let volumes = self.spec.volumes.get_or_insert_default();
        let same =
            volumes.iter().find(|found| Volume { name: found.name.clone(), ..volume.clone() } == **found);
        let volume_name = match same {
            Some(found) => found.name.clone(),
            None => {
                let taken = self.reserved.contains(name) || volumes.iter().any(|found| found.name == name);
                let own = if is_label(name) && !taken { name.to_owned() } else { derived(kind, &volume) };
                volumes.push(Volume { name: own.clone(), ..volume });
                own
            }
        };
        self.objects.entry(name.to_owned()).or_insert_with(|| volume_name.clone());
        self.mount(pointer, &volume_name, mount_path, sub_path)
    }

    /// Mounts a volume of a name that the configuration gives.
    fn own(
        &mut self,
        pointer: &str,
        name: &str,
        volume: Volume,
        mount_path: &str,
    ) -> Result<(), PlatformError> {
        if !is_label(name) {
            let expected = "at most 63 lower-case letters, digits and `-`, the first and last of them no `-`";
            return Err(PlatformError::unfit(
                &format!("{pointer}/volumeName"),
                format!("`{name}`"),
                expected,
            ));
        }
        let volume = Volume { name: name.to_owned(), ..volume };
        let volumes = self.spec.volumes.get_or_insert_default();
        match volumes.iter().find(|found| found.name == name) {
            Some(found) if *found == volume => {}
            Some(_) => return Err(PlatformError::taken(pointer, "volume", name)),
            None => volumes.push(volume),
        }
        self.mount(pointer, name, mount_path, "")
    }

    fn mount(
        &mut self,
        pointer: &str,
        volume: &str,
        mount_path: &str,
        sub_path: &str,
    ) -> Result<(), PlatformError> {
        let mounts = self.main.volume_mounts.get_or_insert_default();
        let mount = VolumeMount {
            name: volume.to_owned(),
            mount_path: absolute(pointer, mount_path)?.to_owned(),
            sub_path: some(sub_path),
            ..Default::default()
        };
        if mounts.iter().any(|found| found.mount_path == mount.mount_path) {
            return Err(PlatformError::taken(pointer, "mount path", mount_path));
        }
        mounts.push(mount);
        Ok(())
    }

    /// The volume of the pod that a name means.
    pub(super) fn volume(&self, name: &str) -> Option<&str> {
        let volumes = self.spec.volumes.iter().flatten();
        let exact = volumes.map(|volume| volume.name.as_str()).find(|found| *found == name);
        exact.or_else(|| self.objects.get(name).map(String::as_str))
    }
}

/// A path in a container.
pub(super) fn absolute<'p>(pointer: &str, path: &'p str) -> Result<&'p str, PlatformError> {
    match path.starts_with('/') {
        true => Ok(path),
        false => {
            let place = format!("{pointer}/mountPath");
            Err(PlatformError::unfit(&place, format!("`{path}`"), "a path that begins with `/`"))
        }
    }
}

/// What gives a claim's name in files of earlier SDKs.
fn deprecated(item: &PvcMount) -> Option<InputParameter> {
    let source = match item {
        PvcMount { constant, .. } if !constant.is_empty() => Source::Constant(constant.as_str().into()),
        PvcMount { task_output_parameter: Some(output), .. } => output.clone().into(),
        PvcMount { component_input_parameter: name, .. } if !name.is_empty() => {
            Source::ComponentInput(name.clone())
        }
        _ => return None,
    };
    Some(InputParameter { source, selector: None })
}

fn claim_spec(
    pointer: &str,
    item: &GenericEphemeralVolume,
) -> Result<PersistentVolumeClaimSpec, PlatformError> {
    if let Some(mode) = item.access_modes.iter().find(|mode| !is_access_mode(mode)) {
        let place = format!("{pointer}/accessModes");
        return Err(PlatformError::unfit(&place, format!("`{mode}`"), ACCESS_MODES));
    }
    if item.default_storage_class && !item.storage_class_name.is_empty() {
        let (place, found) =
            (format!("{pointer}/storageClassName"), format!("`{}`", item.storage_class_name));
        return Err(PlatformError::unfit(&place, found, "nothing, since it is of the default class"));
    }
    let size = quantity_at(&format!("{pointer}/size"), given(pointer, "size", &item.size)?)?;
    Ok(PersistentVolumeClaimSpec {
        access_modes: filled(item.access_modes.clone()),
        resources: Some(VolumeResourceRequirements {
            requests: Some(BTreeMap::from([("storage".to_owned(), size)])),
            limits: None,
        }),
        storage_class_name: (!item.default_storage_class).then(|| item.storage_class_name.clone()),
        ..Default::default()
    })
}

/// A name for what is mounted: the same for the same.
fn derived(kind: &str, volume: &Volume) -> String {
    let digest = Sha256::digest(format!("{volume:?}"));
    let hex: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("{kind}-{hex}")
}
