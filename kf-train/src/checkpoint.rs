//! Checkpoints that a kill at any moment can't spoil.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tch::nn::VarStore;
use tch::{Tensor, no_grad};

use crate::optim::Optimizer;
use crate::{Error, Result};

const WEIGHTS: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "state.json";
const MANIFEST: &str = "manifest.json";
const PREFIX: &str = "step-";

/// A folder of checkpoints: parameters and an optimizer's state as safetensors, and whatever else the loop needs as JSON.
///
/// A checkpoint is written aside and flushed to the disk, its manifest with every file's size and SHA-256 last, and
/// then takes its name `step-0000000007` in one move: a kill at any moment leaves those before it loadable, and no half one
/// is ever found. One process writes at a time (rank 0); all ranks may load, before the first step.
///
/// With [`save_training`](Self::save_training), a training that is resumed goes on to the bit as if it had not stopped:
/// give it a [`GradScaler`](crate::GradScaler), where there is one, in the state. Optimizers are those of
/// [`optim`](crate::optim); tch's own give no access to their moments, and begin anew.
///
/// ```no_run
/// # use kf_train::{Checkpoints, optim::AdamW};
/// # fn doc(vs: &mut tch::nn::VarStore) -> kf_train::Result<()> {
/// let mut optimizer = AdamW::default().build(vs, 1e-3)?;
/// let checkpoints = Checkpoints::new("digits/checkpoints").keep(3);
/// let resumed: Option<(u64, u64)> = checkpoints.load_latest_training(vs, &mut optimizer)?;
/// let next_epoch = resumed.map_or(0, |(_, epoch)| epoch + 1);
/// checkpoints.save_training(next_epoch, vs, &optimizer, &next_epoch)?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Checkpoints {
    folder: PathBuf,
    keep: usize,
}

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    format: u32,
    step: u64,
    files: BTreeMap<String, FileEntry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct FileEntry {
    bytes: u64,
    sha256: String,
}

impl Checkpoints {
    /// Checkpoints in this folder, which is made when the first is saved. The last 2 are kept.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), keep: 2 }
    }

    /// How many are kept, at least 1; older ones are removed after each save.
    #[must_use]
    pub fn keep(mut self, count: usize) -> Self {
        self.keep = count.max(1);
        self
    }

    /// Saves all variables and a state of the caller's under a number that grows: the step or epoch. A checkpoint of the
    /// same number is replaced. When this returns, it is on the disk.
    ///
    /// # Errors
    /// [`Error::Io`], such as a full disk; those before it stay. [`Error::Checkpoint`] for a state that is not JSON.
    pub fn save(&self, step: u64, vs: &VarStore, state: &impl Serialize) -> Result<PathBuf> {
        self.save_all(step, vs, None, state)
    }

    /// Like [`save`](Self::save), with the optimizer's state.
    ///
    /// # Errors
    /// Those of [`save`](Self::save).
    pub fn save_training(
        &self,
        step: u64,
        vs: &VarStore,
        optimizer: &Optimizer,
        state: &impl Serialize,
    ) -> Result<PathBuf> {
        self.save_all(step, vs, Some(optimizer), state)
    }

    fn save_all(
        &self,
        step: u64,
        vs: &VarStore,
        optimizer: Option<&Optimizer>,
        state: &impl Serialize,
    ) -> Result<PathBuf> {
        let place = self.folder.join(format!("{PREFIX}{step:010}"));
        let state = kf_core::json::to_json(state)
            .map_err(|error| bad(&place, format!("the state is not JSON: {error}")))?;
        let optimizer = optimizer.map(Optimizer::state);
        fs::create_dir_all(&self.folder).map_err(Error::io("can't make", &self.folder))?;
        self.clear_begun()?;
        let aside = self.folder.join(format!(".begun-{step:010}-{}", std::process::id()));
        fs::create_dir(&aside).map_err(Error::io("can't make", &aside))?;
        let written = write(&aside, step, vs, optimizer, &state).and_then(|()| self.place(&aside, &place));
        if written.is_err() {
            // Best effort: the next save clears it too.
            let _ = fs::remove_dir_all(&aside);
        }
        written?;
        self.prune()?;
        Ok(place)
    }

    /// Loads the checkpoint of the highest number into the variables, and returns that number and the state; `None` where
    /// there is none. Nothing is changed where it fails.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for one that is damaged, or whose names, shapes or types are not those of the variables;
    /// [`Error::Io`].
    pub fn load_latest<S: DeserializeOwned>(&self, vs: &mut VarStore) -> Result<Option<(u64, S)>> {
        match self.steps()?.last() {
            Some(&step) => self.load(step, vs).map(|state| Some((step, state))),
            None => Ok(None),
        }
    }

    /// Like [`load_latest`](Self::load_latest), with the optimizer's state.
    ///
    /// # Errors
    /// Those of [`load_training`](Self::load_training).
    pub fn load_latest_training<S: DeserializeOwned>(
        &self,
        vs: &mut VarStore,
        optimizer: &mut Optimizer,
    ) -> Result<Option<(u64, S)>> {
        match self.steps()?.last() {
            Some(&step) => self.load_training(step, vs, optimizer).map(|state| Some((step, state))),
            None => Ok(None),
        }
    }

    /// Loads the checkpoint of this number into the variables, and returns the state. Nothing is changed where it fails.
    ///
    /// # Errors
    /// Those of [`load_latest`](Self::load_latest).
    pub fn load<S: DeserializeOwned>(&self, step: u64, vs: &mut VarStore) -> Result<S> {
        self.load_all(step, vs, None)
    }

    /// Like [`load`](Self::load), with the optimizer's state. Nothing is changed where it fails.
    ///
    /// # Errors
    /// Those of [`load`](Self::load); [`Error::Checkpoint`] also for one that has no optimizer's state, or another's.
    pub fn load_training<S: DeserializeOwned>(
        &self,
        step: u64,
        vs: &mut VarStore,
        optimizer: &mut Optimizer,
    ) -> Result<S> {
        self.load_all(step, vs, Some(optimizer))
    }

    fn load_all<S: DeserializeOwned>(
        &self,
        step: u64,
        vs: &mut VarStore,
        optimizer: Option<&mut Optimizer>,
    ) -> Result<S> {
        let place = self.folder.join(format!("{PREFIX}{step:010}"));
        let files = verify(&place, step)?;
        let path = place.join(STATE);
        let state = fs::read(&path).map_err(Error::io("can't read", &path))?;
        let state = serde_json::from_slice(&state)
            .map_err(|error| bad(&path, format!("is another state: {error}")))?;
        let path = place.join(WEIGHTS);
        let loaded: HashMap<_, _> = read_tensors(&path)?.into_iter().collect();
        let variables = vs.variables();
        fits(&path, &variables, &loaded)?;
        if let Some(optimizer) = optimizer {
            let path = place.join(OPTIMIZER);
            if !files.contains_key(OPTIMIZER) {
                return Err(bad(
                    &path,
                    "is not in this checkpoint, which was saved without an optimizer".into(),
                ));
            }
            optimizer
                .load_state(&read_tensors(&path)?)
                .map_err(|error| bad(&path, format!("does not fit: {error}")))?;
        }
        no_grad(|| {
            for (name, mut variable) in variables {
                if let Some(value) = loaded.get(&name) {
                    variable.copy_(value);
                }
            }
        });
        Ok(state)
    }

    /// The numbers of the checkpoints there are, ascending.
    ///
    /// # Errors
    /// [`Error::Io`] where the folder can't be read; one that does not exist holds none.
    pub fn steps(&self) -> Result<Vec<u64>> {
        let mut steps: Vec<u64> =
            self.names()?.iter().filter_map(|name| name.strip_prefix(PREFIX)?.parse().ok()).collect();
        steps.sort_unstable();
        Ok(steps)
    }

    fn names(&self) -> Result<Vec<String>> {
        let failed = || Error::io("can't read", &self.folder);
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed())?,
        };
        let mut names = Vec::new();
        for entry in entries {
            names.extend(entry.map_err(failed())?.file_name().into_string());
        }
        Ok(names)
    }

    /// Gives a whole checkpoint its name. One of the same name is moved aside first; a kill between the two moves leaves
    /// those before it.
    fn place(&self, aside: &Path, place: &Path) -> Result<()> {
        let old = aside.with_extension("old");
        match fs::rename(place, &old) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("can't replace", place)(error));
            }
            _ => {}
        }
        fs::rename(aside, place).map_err(Error::io("can't name", place))?;
        sync_folder(&self.folder)?;
        remove(&old)
    }

    /// Removes what killed saves have left.
    fn clear_begun(&self) -> Result<()> {
        let begun = self.names()?.into_iter().filter(|name| name.starts_with(".begun-"));
        begun.into_iter().try_for_each(|name| remove(&self.folder.join(name)))
    }

    fn prune(&self) -> Result<()> {
        let steps = self.steps()?;
        for step in &steps[..steps.len().saturating_sub(self.keep)] {
            // Its name goes first, so that a kill leaves no half one under it.
            let aside = self.folder.join(format!(".begun-{step:010}-old"));
            let place = self.folder.join(format!("{PREFIX}{step:010}"));
            fs::rename(&place, &aside).map_err(Error::io("can't remove", &place))?;
            remove(&aside)?;
        }
        Ok(())
    }
}

fn write(
    folder: &Path,
    step: u64,
    vs: &VarStore,
    optimizer: Option<Vec<(String, Tensor)>>,
    state: &serde_json::Value,
) -> Result<()> {
    let mut named: Vec<(String, Tensor)> = vs.variables().into_iter().collect();
    named.sort_by(|a, b| a.0.cmp(&b.0));
    write_tensors(&folder.join(WEIGHTS), &named)?;
    let mut names = vec![WEIGHTS, STATE];
    if let Some(optimizer) = optimizer {
        write_tensors(&folder.join(OPTIMIZER), &optimizer)?;
        names.push(OPTIMIZER);
    }
    write_file(&folder.join(STATE), state.to_string().as_bytes())?;
    let mut files = BTreeMap::new();
    for name in names {
        let path = folder.join(name);
        File::open(&path).and_then(|file| file.sync_all()).map_err(Error::io("can't flush", &path))?;
        files.insert(name.to_owned(), describe(&path)?);
    }
    let manifest = serde_json::json!(Manifest { format: 1, step, files });
    write_file(&folder.join(MANIFEST), manifest.to_string().as_bytes())?;
    sync_folder(folder)
}

fn write_tensors(path: &Path, named: &[(String, Tensor)]) -> Result<()> {
    let tensors: Vec<(&str, Tensor)> =
        named.iter().map(|(name, tensor)| (name.as_str(), tensor.detach().contiguous())).collect();
    Tensor::write_safetensors(&tensors, path)
        .map_err(|error| Error::io("can't write", path)(std::io::Error::other(error)))
}

fn read_tensors(path: &Path) -> Result<Vec<(String, Tensor)>> {
    Tensor::read_safetensors(path).map_err(|error| bad(path, format!("is not safetensors: {error}")))
}

/// Refuses a checkpoint that is not, to the byte, what was saved; gives its files.
fn verify(place: &Path, step: u64) -> Result<BTreeMap<String, FileEntry>> {
    let path = place.join(MANIFEST);
    let bytes = fs::read(&path).map_err(|error| bad(&path, format!("can't be read: {error}")))?;
    let manifest: Manifest =
        serde_json::from_slice(&bytes).map_err(|error| bad(&path, format!("is damaged: {error}")))?;
    if manifest.format != 1 {
        return Err(bad(
            &path,
            format!("has format {}, this version reads 1; use a newer one", manifest.format),
        ));
    }
    if manifest.step != step {
        return Err(bad(&path, format!("is of number {}, its folder's name says {step}", manifest.step)));
    }
    let optimizer = manifest.files.contains_key(OPTIMIZER).then_some(OPTIMIZER);
    for name in [WEIGHTS, STATE].into_iter().chain(optimizer) {
        let path = place.join(name);
        let expected = manifest.files.get(name).ok_or_else(|| bad(&path, "is not in the manifest".into()))?;
        let length =
            fs::metadata(&path).map_err(|error| bad(&path, format!("can't be read: {error}")))?.len();
        if length != expected.bytes {
            let hint = "it was cut or altered; remove this checkpoint to go on from the one before";
            return Err(bad(
                &path,
                format!("has {length} bytes, the manifest says {}: {hint}", expected.bytes),
            ));
        }
        let found = describe(&path)?.sha256;
        if found != expected.sha256 {
            let hint = "it was altered; remove this checkpoint to go on from the one before";
            return Err(bad(
                &path,
                format!("has SHA-256 {found}, the manifest says {}: {hint}", expected.sha256),
            ));
        }
    }
    Ok(manifest.files)
}

/// Refuses tensors that are not those of the variables.
fn fits(path: &Path, variables: &HashMap<String, Tensor>, loaded: &HashMap<String, Tensor>) -> Result<()> {
    let told = |tensor: &Tensor| format!("{:?} {:?}", tensor.kind(), tensor.size());
    let mut names: Vec<_> = variables.keys().chain(loaded.keys()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let reason = match (variables.get(name), loaded.get(name)) {
            (Some(wanted), Some(found)) if told(wanted) == told(found) => continue,
            (Some(wanted), Some(found)) => {
                format!("`{name}` is {}, and {} in the model", told(found), told(wanted))
            }
            (Some(wanted), None) => format!("has no `{name}` ({} in the model)", told(wanted)),
            (None, _) => format!("has `{name}`, which the model has not"),
        };
        return Err(bad(path, reason));
    }
    Ok(())
}

fn describe(path: &Path) -> Result<FileEntry> {
    let mut hasher = Sha256::new();
    let mut file = File::open(path).map_err(Error::io("can't read", path))?;
    let (mut bytes, mut buffer) = (0, vec![0; 1 << 20]);
    loop {
        let read = file.read(&mut buffer).map_err(Error::io("can't read", path))?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        bytes += read as u64;
    }
    let sha256 = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(FileEntry { bytes, sha256 })
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = File::create(path).map_err(Error::io("can't write", path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(Error::io("can't write", path))
}

fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(Error::io("can't flush", folder))
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("can't remove", folder)(error))
        }
        _ => Ok(()),
    }
}

fn bad(path: &Path, reason: String) -> Error {
    Error::Checkpoint { path: path.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, nn};

    use super::*;

    fn model(value: f64) -> VarStore {
        let vs = VarStore::new(Device::Cpu);
        let linear = nn::linear(vs.root() / "layer", 3, 2, nn::LinearConfig::default());
        no_grad(|| {
            let _ = linear.ws.shallow_clone().fill_(value);
        });
        vs
    }

    fn value(vs: &VarStore) -> f64 {
        vs.variables()["layer.weight"].sum(Kind::Double).double_value(&[]) / 6.0
    }

    #[test]
    fn what_is_saved_is_loaded_and_the_last_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(dir.path().join("deep/er")).keep(2);
        let mut vs = model(0.0);
        assert_eq!(checkpoints.load_latest::<u8>(&mut vs).unwrap(), None);
        for step in [1, 2, 10] {
            checkpoints.save(step, &model(step as f64), &format!("state {step}")).unwrap();
        }
        assert_eq!(checkpoints.steps().unwrap(), [2, 10]);
        assert_eq!(checkpoints.load_latest(&mut vs).unwrap(), Some((10, "state 10".to_owned())));
        assert_eq!(value(&vs), 10.0);
        assert_eq!(checkpoints.load::<String>(2, &mut vs).unwrap(), "state 2");
        checkpoints.save(10, &model(-1.0), &"again").unwrap();
        assert_eq!(checkpoints.load_latest(&mut vs).unwrap(), Some((10, "again".to_owned())));
        assert_eq!(value(&vs), -1.0);
        assert!(vs.variables()["layer.weight"].requires_grad());
        let left: Vec<_> = fs::read_dir(dir.path().join("deep/er")).unwrap().collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }

    #[test]
    fn every_damaged_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(dir.path());
        let place = checkpoints.save(1, &model(1.0), &0).unwrap();
        type Damage = fn(&mut Vec<u8>);
        let damages: [(Damage, &str); 3] = [
            (|bytes| bytes.truncate(bytes.len() / 2), "has"),
            (|bytes| *bytes.last_mut().unwrap() ^= 1, "SHA-256"),
            (Vec::clear, "has 0 bytes"),
        ];
        for name in [WEIGHTS, STATE] {
            for (damage, expected) in damages {
                let good = fs::read(place.join(name)).unwrap();
                let mut bytes = good.clone();
                damage(&mut bytes);
                fs::write(place.join(name), bytes).unwrap();
                let mut vs = model(7.0);
                let error = checkpoints.load_latest::<u8>(&mut vs).unwrap_err();
                assert!(matches!(&error, Error::Checkpoint { path, .. } if path.ends_with(name)), "{error}");
                assert!(error.to_string().contains(expected), "{error}");
                assert_eq!(value(&vs), 7.0, "nothing is changed");
                fs::write(place.join(name), good).unwrap();
            }
        }
        for manifest in
            ["", "{", r#"{"format":2,"step":1,"files":{}}"#, r#"{"format":1,"step":9,"files":{}}"#]
        {
            fs::write(place.join(MANIFEST), manifest).unwrap();
            assert!(
                matches!(checkpoints.load::<u8>(1, &mut model(0.0)), Err(Error::Checkpoint { .. })),
                "{manifest}"
            );
        }
        fs::remove_file(place.join(MANIFEST)).unwrap();
        assert!(matches!(checkpoints.load::<u8>(1, &mut model(0.0)), Err(Error::Checkpoint { .. })));
    }

    #[test]
    fn another_model_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(dir.path());
        checkpoints.save(1, &model(1.0), &0).unwrap();
        let refused = |build: fn(&nn::Path<'_>)| {
            let mut vs = VarStore::new(Device::Cpu);
            build(&vs.root());
            checkpoints.load_latest::<u8>(&mut vs).unwrap_err().to_string()
        };
        let config = nn::LinearConfig::default();
        let text = refused(|path| drop(nn::linear(path / "layer", 4, 2, nn::LinearConfig::default())));
        assert!(text.contains("`layer.weight` is Float [2, 3], and Float [2, 4] in the model"), "{text}");
        let text = refused(|path| drop(nn::linear(path / "other", 3, 2, nn::LinearConfig::default())));
        assert!(text.contains("has `layer.bias`, which the model has not"), "{text}");
        let mut vs = model(0.0);
        let _more = nn::linear(vs.root() / "more", 1, 1, config);
        let text = checkpoints.load_latest::<u8>(&mut vs).unwrap_err().to_string();
        assert!(text.contains("has no `more.bias` (Float [1] in the model)"), "{text}");
        let text = checkpoints.load_latest::<String>(&mut model(0.0)).unwrap_err().to_string();
        assert!(text.contains("is another state"), "{text}");
    }
}
