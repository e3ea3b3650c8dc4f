//! Virtual environments: one for each set of requirements, made once and shared by all engines of a home.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use kf_core::Digest;
use kf_core::lock::{FileLock, Locking};
use kf_core::process::{Command, Log, Spawner};
use serde_json::json;
use tokio::sync::OnceCell;

use crate::mutex::locked;

/// How often a lock is tried that another process holds.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Says that an environment is whole.
const READY: &str = "kf-ready";
/// How many of the last lines go into an error.
const TAIL_LINES: usize = 15;

/// What an environment holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Requirements {
    /// The version of KFP.
    pub(crate) kfp: String,
    /// What `pip install` is given, in turn.
    pub(crate) installs: Vec<Vec<String>>,
}

impl std::fmt::Display for Requirements {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "kfp {}", self.kfp)?;
        self.installs.iter().flatten().try_for_each(|word| write!(f, " {word}"))
    }
}

/// The environments of a folder.
#[derive(Debug)]
pub(crate) struct Venvs {
    folder: PathBuf,
    /// The Python that they are made with.
    python: String,
    made: Mutex<HashMap<Requirements, Arc<OnceCell<PathBuf>>>>,
}

impl Venvs {
    pub(crate) fn new(folder: PathBuf, python: String) -> Self {
        Self { folder, python, made: Mutex::default() }
    }

    /// The folder of the environment with these requirements; made where it is missing.
    ///
    /// # Errors
    /// Says which command failed, with its last lines.
    pub(crate) async fn get(
        &self,
        spawner: &Spawner,
        requirements: &Requirements,
        env: &BTreeMap<String, String>,
        making: impl FnOnce(),
    ) -> Result<PathBuf, String> {
        let cell = Arc::clone(locked(&self.made).entry(requirements.clone()).or_default());
        cell.get_or_try_init(|| self.make(spawner, requirements, env, making)).await.cloned()
    }

    async fn make(
        &self,
        spawner: &Spawner,
        requirements: &Requirements,
        env: &BTreeMap<String, String>,
        making: impl FnOnce(),
    ) -> Result<PathBuf, String> {
        let python = resolve(&self.python, env)?;
        let identity =
            identity(&python).map_err(|error| format!("look at `{}`: {error}", python.display()))?;
        let key = json!({"python": identity, "kfp": requirements.kfp, "installs": requirements.installs});
        let name = format!("venv-{}", &Digest::of(key.to_string()).to_hex()[..16]);
        let venv = self.folder.join(&name);
        std::fs::create_dir_all(&self.folder)
            .map_err(|error| format!("make folder `{}`: {error}", self.folder.display()))?;
        if venv.join(READY).exists() {
            return Ok(venv);
        }
        let lock = self.folder.join(format!("{name}.lock"));
        let _held = loop {
            match FileLock::try_take(&lock, &std::process::id().to_string()) {
                Ok(Locking::Got(lock)) => break lock,
                Ok(Locking::Held(_)) => tokio::time::sleep(LOOK_AGAIN).await,
                Err(error) => return Err(format!("lock `{}`: {error}", lock.display())),
            }
        };
        if venv.join(READY).exists() {
            return Ok(venv);
        }
        making();
        // What a maker left that was killed half-way.
        let _ = std::fs::remove_dir_all(&venv);
        let log = self.folder.join(format!("{name}.log"));
        let run = async |program: &Path, args: Vec<String>| {
            let shown = format!("{} {}", program.display(), args.join(" "));
            let command = Command::program_with_env(program.display().to_string(), args, env.clone());
            let child = spawner.spawn(command.log(Log::to(&log))).await.map_err(|error| error.to_string())?;
            let exit = child.wait().await;
            match exit.success() {
                true => Ok(()),
                false => {
                    let tail = child.tail(TAIL_LINES).join("\n");
                    Err(format!(
                        "the Python environment could not be made: `{shown}` ended with {exit}:\n{tail}"
                    ))
                }
            }
        };
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let own = venv.join("bin").join("python3").display().to_string();
        let options = ["install", "--quiet", "--disable-pip-version-check", "--no-input"];
        let mut pip = [words(&["-m", "pip"]), words(&options)].concat();
        let mut installer = PathBuf::from(&own);
        let made = run(&python, words(&["-m", "venv", &venv.display().to_string()])).await;
        if made.is_err() {
            // Debian without python3-venv: the environment has no pip of its own, and the system's fills it.
            run(&python, words(&["-m", "venv", "--clear", "--without-pip", &venv.display().to_string()]))
                .await?;
            pip = [words(&["-m", "pip", "--python", &own]), words(&options)].concat();
            installer.clone_from(&python);
        }
        let kfp = [pip.clone(), words(&["--no-deps", &format!("kfp=={}", requirements.kfp)])].concat();
        run(&installer, kfp).await?;
        for install in &requirements.installs {
            run(&installer, [pip.as_slice(), install].concat()).await?;
        }
        std::fs::write(venv.join(READY), requirements.to_string())
            .map_err(|error| format!("write `{}`: {error}", venv.join(READY).display()))?;
        Ok(venv)
    }
}

/// What tells a Python from the one that was at the same path before: an environment is of no use to another version.
fn identity(python: &Path) -> std::io::Result<serde_json::Value> {
    let real = python.canonicalize()?;
    let about = real.metadata()?;
    let modified = about.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    // Two names of one file: Python finds its packages by the name that it is called by.
    Ok(json!([python, real, about.len(), modified.to_string()]))
}

/// The program's path, looked up in `PATH`.
fn resolve(program: &str, env: &BTreeMap<String, String>) -> Result<PathBuf, String> {
    let found = match program.contains('/') {
        true => Some(PathBuf::from(program)),
        false => {
            let folders = env.get("PATH").map(|path| std::env::split_paths(path)).into_iter().flatten();
            folders.map(|folder| folder.join(program)).find(|path| path.is_file())
        }
    };
    let missing =
        || format!("Python steps need `{program}`, which is not in PATH; install Python 3.9 or newer");
    found.filter(|path| path.is_file()).ok_or_else(missing)
}
