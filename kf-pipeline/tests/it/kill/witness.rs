//! The outside witness: an append-only file with a line per event. What is in it was there before the kill.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use kf_pipeline::{Context, TaskError};
use serde::{Deserialize, Serialize};

use super::phase::Phase;

/// Kill when `phase` is reached for the `nth` time, and `delay` microseconds have gone by.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Kill {
    pub(crate) phase: Phase,
    pub(crate) nth: u32,
    pub(crate) delay: u64,
}

/// What the processes of a run write its witness with.
#[derive(Clone, Debug)]
pub(crate) struct Witness(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    file: File,
    /// The file that says when to kill this process, and what it says.
    order: Option<PathBuf>,
    kill: OnceLock<Option<Kill>>,
    reached: AtomicU32,
}

/// The witness of this process, where it is an engine's that may be killed.
static HERE: OnceLock<Witness> = OnceLock::new();

impl Witness {
    /// The witness of this process, an engine's, which is killed as a file says that is there before the first phase is
    /// reached.
    pub(crate) fn of_engine(path: &Path, order: Option<PathBuf>) -> io::Result<Self> {
        let witness = Self::open(path, order)?;
        Ok(HERE.get_or_init(|| witness).clone())
    }

    /// The witness in a task, which may be in a process of its own.
    pub(crate) fn of_task(path: &str) -> io::Result<Self> {
        HERE.get().cloned().map_or_else(|| Self::open(Path::new(path), None), Ok)
    }

    /// The witness in a task that is not told where it is, since it is cached.
    pub(crate) fn here() -> io::Result<Self> {
        HERE.get().cloned().ok_or_else(|| io::Error::other("this process has no witness"))
    }

    fn open(path: &Path, order: Option<PathBuf>) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        let (path, kill, reached) = (path.to_owned(), OnceLock::new(), AtomicU32::new(0));
        Ok(Self(Arc::new(Inner { path, file, order, kill, reached })))
    }

    /// Writes a line.
    pub(crate) fn note(&self, word: &str, task: &str, key: &str, attempt: u32) -> io::Result<()> {
        let line = format!("{word} {task} {key} {attempt} {}\n", std::process::id());
        (&self.0.file).write_all(line.as_bytes())
    }

    /// Writes a line about an attempt.
    pub(crate) fn of(&self, context: &Context, word: &str) -> io::Result<()> {
        self.note(word, context.task(), &context.idempotency_key(), context.attempt())
    }

    /// Says that a phase is reached, which may be the end.
    pub(crate) fn reached(&self, phase: Phase) {
        let Some(kill) = self.kill() else { return };
        // Who comes to the end dies there at the latest.
        let last = phase == Phase::InExitHandler && kill.phase != phase;
        let nth = || self.0.reached.fetch_add(1, Ordering::SeqCst) + 1;
        if !last && (kill.phase != phase || nth() != kill.nth) {
            return;
        }
        if kill.delay == 0 {
            die();
        }
        let at = Instant::now() + Duration::from_micros(kill.delay);
        std::thread::spawn(move || {
            while Instant::now() < at {
                std::hint::spin_loop();
            }
            die();
        });
    }

    fn kill(&self) -> Option<Kill> {
        let order = self.0.order.as_ref()?;
        *self.0.kill.get_or_init(|| {
            // Written after this process was started.
            let read = || fs::read(order).inspect_err(|_| std::thread::sleep(Duration::from_millis(1)));
            let text = std::iter::repeat_with(read).take(2_000).find_map(Result::ok);
            text.and_then(|text| serde_json::from_slice(&text).unwrap_or_default())
        })
    }

    /// Makes a file that nobody else may make, which stands until what this gives is dropped.
    ///
    /// # Errors
    /// Where a process that lives holds it. What a killed one held is free.
    pub(crate) fn alone(&self, context: &Context) -> Result<Alone, TaskError> {
        // One for all runs.
        let path = self.0.path.with_file_name("held");
        // A link is made with what it says, and by one.
        while let Err(error) = symlink(std::process::id().to_string(), &path) {
            if error.kind() != io::ErrorKind::AlreadyExists {
                return Err(error.into());
            }
            let Ok(holder) = fs::read_link(&path) else { continue };
            let holder = holder.display().to_string();
            let holder_id = holder.parse()?;
            if is_orphan(holder_id) {
                // Its engine was killed, and its own death is on the way.
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            if is_alive(holder_id) {
                return Err(TaskError::permanent(format!("process {holder} holds `{}`", path.display())));
            }
            let _ = fs::remove_file(&path);
        }
        self.of(context, "hold")?;
        Ok(Alone { path, witness: self.clone(), context: context.clone() })
    }
}

/// A file that stands as long as this lives.
pub(crate) struct Alone {
    path: PathBuf,
    witness: Witness,
    context: Context,
}

impl Drop for Alone {
    fn drop(&mut self) {
        let _ = self.witness.of(&self.context, "free");
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether there is such a process, and not just its remains that nobody has asked for yet.
pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Whether there is such a process whose parent is none of these tests' any more.
fn is_orphan(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse::<u32>().ok());
    let program = |pid: u32| fs::read_link(format!("/proc/{pid}/exe")).ok();
    is_alive(pid) && parent.is_some_and(|parent| program(parent) != program(std::process::id()))
}

/// Kills this process with -9.
fn die() -> ! {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    loop {
        std::thread::park();
    }
}

/// A line of a witness.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) word: String,
    pub(crate) task: String,
    /// The attempt's key; of an item its name, of a decision who decided.
    pub(crate) key: String,
    pub(crate) attempt: u32,
    /// The process that wrote it.
    pub(crate) pid: u32,
}

/// The lines of a witness after the first `skip`; none where it has none yet.
pub(crate) fn read(path: &Path, skip: usize) -> io::Result<Vec<Line>> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text?,
    };
    let line = |line: &str| {
        let torn = || io::Error::other(format!("a torn line: {line}"));
        let [word, task, key, attempt, pid] = line.split(' ').collect::<Vec<_>>()[..] else {
            return Err(torn());
        };
        let (attempt, pid) = (attempt.parse().map_err(|_| torn())?, pid.parse().map_err(|_| torn())?);
        Ok(Line { word: word.to_owned(), task: task.to_owned(), key: key.to_owned(), attempt, pid })
    };
    text.lines().skip(skip).map(line).collect()
}
