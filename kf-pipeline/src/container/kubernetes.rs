//! What KFP's platform `kubernetes` asks for, as far as it has a meaning on this machine: environment variables and
//! mounted folders. What only says where a pod may run is advice, and not followed here.

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde_json::{Map, Value as Json};
use tempfile::TempDir;

use crate::plan::ContainerTask;

/// Keys and values by name: secrets, config maps.
pub(super) type Named = BTreeMap<String, BTreeMap<String, String>>;

/// What stands for the cluster's objects.
#[derive(Clone, Default)]
pub(super) struct Objects {
    pub(super) secrets: Named,
    pub(super) config_maps: Named,
    pub(super) claims: BTreeMap<String, PathBuf>,
}

impl std::fmt::Debug for Objects {
    /// Leaves out what they hold.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Objects")
            .field("secrets", &self.secrets.keys())
            .field("config_maps", &self.config_maps.keys())
            .field("claims", &self.claims)
            .finish()
    }
}

/// What a step gets.
#[derive(Default)]
pub(super) struct Platform {
    pub(super) env: Vec<(String, String)>,
    /// Folders, and where the step sees them.
    pub(super) mounts: Vec<(PathBuf, PathBuf)>,
    /// Where the files of secrets lie, as long as the step runs.
    pub(super) secrets: Vec<TempDir>,
}

/// Finds what a step gets. Folders that are made for it lie in `scratch`, those of secrets where `secret` makes them.
///
/// # Errors
/// Names the object that is not there, or what needs a cluster.
pub(super) fn platform(
    task: &ContainerTask,
    parameter: impl Fn(&str) -> Option<Json>,
    objects: &Objects,
    pod: &str,
    scratch: &Path,
    secret: impl Fn() -> io::Result<TempDir>,
) -> Result<Platform, String> {
    if task.kubernetes.is_empty() {
        return Ok(Platform::default());
    }
    let config = Config { config: &task.kubernetes, parameter: &parameter, scratch, secret: &secret };
    let mut platform = Platform::default();
    config.refuse_init_containers()?;
    for kind in [Kind::Secret, Kind::ConfigMap] {
        config.as_env(kind, objects, &mut platform)?;
        config.as_volume(kind, objects, &mut platform)?;
    }
    config.claims(objects, &mut platform)?;
    config.empty_folders(&mut platform)?;
    config.fields(pod, &mut platform)?;
    Ok(platform)
}

#[derive(Clone, Copy)]
enum Kind {
    Secret,
    ConfigMap,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::ConfigMap => "configMap",
        }
    }

    fn of(self, objects: &Objects) -> &Named {
        match self {
            Self::Secret => &objects.secrets,
            Self::ConfigMap => &objects.config_maps,
        }
    }
}

/// An object's name, and its values by key.
type Found<'o> = (String, &'o BTreeMap<String, String>);

struct Config<'a> {
    config: &'a Map<String, Json>,
    parameter: &'a dyn Fn(&str) -> Option<Json>,
    scratch: &'a Path,
    secret: &'a dyn Fn() -> io::Result<TempDir>,
}

impl Config<'_> {
    /// The objects of a list, each with its JSON pointer.
    fn list(&self, key: &str) -> impl Iterator<Item = (String, &Json)> {
        let list = self.config.get(key).and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
        let key = key.to_owned();
        list.iter().enumerate().map(move |(index, item)| (format!("/{key}/{index}"), item))
    }

    /// The name that an item gives, as it is or by a parameter.
    fn name(&self, item: &Json, pointer: &str, key: &str) -> Result<String, String> {
        let by = |pointer: &str| {
            let value = (self.parameter)(&ContainerTask::kubernetes_parameter(pointer))?;
            value.as_str().map(str::to_owned)
        };
        by(&format!("{pointer}/{key}Parameter"))
            .or_else(|| by(pointer))
            .or_else(|| item.get(key).or_else(|| item.get("constant"))?.as_str().map(str::to_owned))
            .filter(|name| !name.is_empty())
            .ok_or_else(|| format!("platform kubernetes, `{pointer}`: no name is given"))
    }

    fn object<'o>(
        &self,
        kind: Kind,
        item: &Json,
        pointer: &str,
        objects: &'o Objects,
    ) -> Result<Option<Found<'o>>, String> {
        let word = kind.word();
        let name = self.name(item, pointer, &format!("{word}Name"))?;
        match kind.of(objects).get(&name) {
            Some(values) => Ok(Some((name, values))),
            None if item.get("optional").and_then(Json::as_bool).unwrap_or(false) => Ok(None),
            None => Err(format!("it asks for {word} `{name}`, which this machine was not given")),
        }
    }

    fn as_env(&self, kind: Kind, objects: &Objects, platform: &mut Platform) -> Result<(), String> {
        let word = kind.word();
        for (pointer, item) in self.list(&format!("{word}AsEnv")) {
            let Some((name, values)) = self.object(kind, item, &pointer, objects)? else { continue };
            for entry in item.get("keyToEnv").and_then(Json::as_array).into_iter().flatten() {
                let text = |key: &str| entry.get(key).and_then(Json::as_str).unwrap_or_default();
                let key = text(&format!("{word}Key"));
                let value = values.get(key).ok_or_else(|| format!("{word} `{name}` has no key `{key}`"))?;
                platform.env.push((text("envVar").to_owned(), value.clone()));
            }
        }
        Ok(())
    }

    fn as_volume(&self, kind: Kind, objects: &Objects, platform: &mut Platform) -> Result<(), String> {
        for (pointer, item) in self.list(&format!("{}AsVolume", kind.word())) {
            let Some((_, values)) = self.object(kind, item, &pointer, objects)? else { continue };
            let folder = match kind {
                Kind::ConfigMap => self.folder(platform)?,
                Kind::Secret => {
                    let made =
                        (self.secret)().map_err(|error| format!("make a folder for a secret: {error}"))?;
                    let folder = made.path().to_owned();
                    platform.secrets.push(made);
                    folder
                }
            };
            for (key, value) in values {
                if key.contains('/') || [".", ".."].contains(&key.as_str()) {
                    return Err(format!("platform kubernetes, `{pointer}`: `{key}` can't be a file's name"));
                }
                fs::write(folder.join(key), value).map_err(|error| format!("write a volume: {error}"))?;
            }
            platform.mounts.push((folder, mount_path(item, &pointer)?));
        }
        Ok(())
    }

    fn claims(&self, objects: &Objects, platform: &mut Platform) -> Result<(), String> {
        for (pointer, item) in self.list("pvcMount") {
            let name = self.name(item, &pointer, "pvcName")?;
            let folder = objects.claims.get(&name).ok_or_else(|| {
                format!("it asks for volume claim `{name}`, which this machine was given no folder for")
            })?;
            let inside = item.get("subPath").and_then(Json::as_str).unwrap_or_default();
            if Path::new(inside).components().any(|part| !matches!(part, std::path::Component::Normal(_))) {
                return Err(format!("platform kubernetes, `{pointer}`: subPath `{inside}` leads out"));
            }
            let folder = folder.join(inside);
            fs::create_dir_all(&folder).map_err(|error| format!("volume claim `{name}`: {error}"))?;
            platform.mounts.push((folder, mount_path(item, &pointer)?));
        }
        Ok(())
    }

    fn empty_folders(&self, platform: &mut Platform) -> Result<(), String> {
        for key in ["emptyDirMounts", "genericEphemeralVolume"] {
            for (pointer, item) in self.list(key) {
                let folder = self.folder(platform)?;
                platform.mounts.push((folder, mount_path(item, &pointer)?));
            }
        }
        Ok(())
    }

    fn fields(&self, pod: &str, platform: &mut Platform) -> Result<(), String> {
        for (pointer, item) in self.list("fieldPathAsEnv") {
            let text = |key: &str| item.get(key).and_then(Json::as_str).unwrap_or_default();
            let path = text("fieldPath");
            let value = match path {
                "metadata.name" => pod.to_owned(),
                "metadata.namespace" => "default".to_owned(),
                _ => {
                    let found = ["annotations", "labels"].iter().find_map(|what| {
                        let key = path.strip_prefix(&format!("metadata.{what}['"))?.strip_suffix("']")?;
                        let given = self.config.get("podMetadata")?.get(what).and_then(|all| all.get(key));
                        // What is not there is empty, as Kubernetes has it.
                        Some(given.and_then(Json::as_str).unwrap_or_default().to_owned())
                    });
                    let known = "metadata.name, metadata.namespace, metadata.annotations['…'] and metadata.labels['…']";
                    let unknown = || {
                        format!(
                            "platform kubernetes, `{pointer}`: `{path}` needs a pod; here there are {known}"
                        )
                    };
                    let metadata =
                        path.starts_with("metadata.annotations[") || path.starts_with("metadata.labels[");
                    found.or_else(|| metadata.then(String::new)).ok_or_else(unknown)?
                }
            };
            platform.env.push((text("name").to_owned(), value));
        }
        Ok(())
    }

    fn refuse_init_containers(&self) -> Result<(), String> {
        match self.list("initContainers").next() {
            None => Ok(()),
            Some(_) => Err("it has init containers, which need a cluster".to_owned()),
        }
    }

    /// A new folder that only this user can read.
    fn folder(&self, platform: &Platform) -> Result<PathBuf, String> {
        let folder = self.scratch.join("volumes").join(platform.mounts.len().to_string());
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        made.map_err(|error| format!("make folder `{}`: {error}", folder.display()))?;
        Ok(folder)
    }
}

fn mount_path(item: &Json, pointer: &str) -> Result<PathBuf, String> {
    let path = item.get("mountPath").and_then(Json::as_str).map(PathBuf::from);
    path.filter(|path| path.is_absolute() && path.parent().is_some())
        .ok_or_else(|| format!("platform kubernetes, `{pointer}`: mountPath is not an absolute path"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn get(kubernetes: Json, objects: &Objects) -> Result<Platform, String> {
        let task =
            ContainerTask { kubernetes: kubernetes.as_object().unwrap().clone(), ..Default::default() };
        let parameter = |name: &str| {
            (name == "kubernetes:/secretAsEnv/0/secretNameParameter").then(|| json!("by-parameter"))
        };
        let folder = tempfile::tempdir().unwrap();
        platform(&task, parameter, objects, "pod", folder.path(), tempfile::tempdir)
    }

    #[test]
    fn names_come_from_parameters_and_what_is_missing_is_named() {
        let asks = json!({"secretAsEnv": [{"secretNameParameter": {}, "keyToEnv": [{"secretKey": "k", "envVar": "V"}]}]});
        let mut objects = Objects::default();
        assert!(get(asks.clone(), &objects).err().unwrap().contains("secret `by-parameter`"));
        objects.secrets.insert("by-parameter".into(), BTreeMap::new());
        assert!(get(asks.clone(), &objects).err().unwrap().contains("no key `k`"));
        objects.secrets.get_mut("by-parameter").unwrap().insert("k".into(), "v".into());
        assert_eq!(get(asks, &objects).unwrap().env, [("V".to_owned(), "v".to_owned())]);
        let optional =
            json!({"configMapAsVolume": [{"configMapName": "c", "mountPath": "/c", "optional": true}]});
        assert!(get(optional, &objects).unwrap().mounts.is_empty());
        let out = json!({"pvcMount": [{"constant": "p", "mountPath": "/data", "subPath": "../x"}]});
        objects.claims.insert("p".into(), "/tmp".into());
        assert!(get(out, &objects).err().unwrap().contains("leads out"));
    }

    #[test]
    fn fields_of_the_pod() {
        let asks = json!({
        "podMetadata": {"labels": {"a": "b"}},
        "fieldPathAsEnv": [
            {"name": "A", "fieldPath": "metadata.labels['a']"},
            {"name": "B", "fieldPath": "metadata.annotations['a']"},
            {"name": "N", "fieldPath": "metadata.name"},
        ]});
        let env = get(asks, &Objects::default()).unwrap().env;
        assert_eq!(env.iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>(), ["b", "", "pod"]);
        let ip = json!({"fieldPathAsEnv": [{"name": "A", "fieldPath": "status.podIP"}]});
        assert!(get(ip, &Objects::default()).err().unwrap().contains("status.podIP"));
    }
}
