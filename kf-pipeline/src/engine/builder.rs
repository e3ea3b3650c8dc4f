//! Building an engine that is not the default one.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kf_core::CancellationToken;
use kf_core::Home;
use kf_core::artifact::ArtifactStore;
use kf_core::metadata::MetadataStore;
use kf_core::resources::Capacity;

use super::admission::Admission;
use super::cache::CacheKeys;
use super::in_process::InProcess;
use super::locks::Locks;
use super::subprocess::Subprocess;
use super::{CONTAINER, Engine, Executor, IN_PROCESS, Inner, SUBPROCESS, cache, lease};
use crate::component::{Memory, StateMap};
use crate::container::LocalContainers;
use crate::{Result, TaskState};

/// More tasks than any machine runs at once: what stands for "no limit".
const MOST_AT_ONCE: usize = 1 << 20;
/// Longer than anybody waits, and short enough to add to a time.
const LONGEST_GRACE: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) max_in_flight: usize,
    pub(crate) start_before_commit: bool,
    /// How long a task that should end may take for it.
    pub(crate) grace: Duration,
    /// What final statuses call a success.
    pub(crate) succeeded: &'static str,
    /// How long a lease lasts where leases have an end.
    pub(crate) lease: Duration,
    pub(crate) cache_keys: CacheKeys,
    pub(crate) cache_ttl: Option<Duration>,
    /// How many attempts of a task may be lost by no fault of its own.
    pub(crate) lost: u32,
}

/// Builds an [`Engine`].
#[derive(Debug)]
pub struct EngineBuilder {
    options: Options,
    state: StateMap,
    capacity: Option<Capacity>,
    executors: BTreeMap<String, Arc<dyn Executor>>,
    default_executor: Option<Arc<dyn Executor>>,
    metadata: Option<Arc<dyn MetadataStore>>,
    artifacts: Option<ArtifactStore>,
    containers: LocalContainers,
    subprocesses: usize,
    semaphores: BTreeMap<String, usize>,
    in_memory: Option<usize>,
}

impl Default for EngineBuilder {
    fn default() -> Self {
        Self {
            options: Options {
                max_in_flight: 256,
                start_before_commit: false,
                grace: Duration::from_secs(5),
                succeeded: TaskState::Succeeded.as_str(),
                lease: lease::LEASE,
                cache_keys: CacheKeys::default(),
                cache_ttl: None,
                lost: 3,
            },
            state: StateMap::default(),
            capacity: None,
            executors: BTreeMap::new(),
            default_executor: None,
            metadata: None,
            artifacts: None,
            containers: LocalContainers::new(),
            semaphores: BTreeMap::new(),
            in_memory: None,
            subprocesses: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

impl EngineBuilder {
    /// Gives every component that asks for a [`State<T>`](crate::State) this value.
    #[must_use]
    pub fn state<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.state.insert(value);
        self
    }

    /// The resources that tasks share; those of this machine where not given.
    #[must_use]
    pub fn capacity(mut self, capacity: Capacity) -> Self {
        self.capacity = Some(capacity);
        self
    }

    /// How many tasks may hold [this name](crate::Call::mutex) at once, of all runs of all engines that share the metadata
    /// store; one where not given, or where it is 0. All engines should give a name the same.
    #[must_use]
    pub fn semaphore(mut self, name: impl Into<String>, places: usize) -> Self {
        self.semaphores.insert(name.into(), places);
        self
    }

    /// How many bytes of what tasks gave are kept in memory for the tasks that take it, where components give tables (feature
    /// `arrow`); a quarter of this machine's memory where not given, at most 4 GiB; 0 for none. What was not asked for longest goes first.
    #[must_use]
    pub fn in_memory(mut self, bytes: usize) -> Self {
        self.in_memory = Some(bytes);
        self
    }

    /// An executor of the program's own, for tasks that ask for it by this name.
    #[must_use]
    pub fn executor(mut self, name: impl Into<String>, executor: Arc<dyn Executor>) -> Self {
        self.executors.insert(name.into(), executor);
        self
    }

    /// Lets this executor carry all tasks that [ask](crate::Call::executor) for none by name, components and containers
    /// alike.
    #[must_use]
    pub fn default_executor(mut self, executor: Arc<dyn Executor>) -> Self {
        self.default_executor = Some(executor);
        self
    }

    /// How containers of Kubeflow Pipelines are carried on this machine; refused where not given.
    #[must_use]
    pub fn containers(mut self, containers: LocalContainers) -> Self {
        self.containers = containers;
        self
    }

    /// Lets final statuses, an input of exit handlers, call a success `COMPLETE` as the backend of Kubeflow Pipelines
    /// does, and not `SUCCEEDED` as its specification says.
    #[must_use]
    pub fn final_status_complete(mut self) -> Self {
        self.options.succeeded = "COMPLETE";
        self
    }

    /// What two tasks must have in common for an earlier one to stand for a later one.
    #[must_use]
    pub fn cache_keys(mut self, keys: CacheKeys) -> Self {
        self.options.cache_keys = keys;
        self
    }

    /// How old an execution may be that stands for a task, where the task does not say; of any age where not given.
    #[must_use]
    pub fn cache_ttl(mut self, ttl: Duration) -> Self {
        self.options.cache_ttl = Some(ttl);
        self
    }

    /// How many attempts of a task may be [lost](crate::AttemptEnd::Lost) by no fault of its own, such as with a node that
    /// died, before the task has failed; 3 where not given. They are tried again after a second, two, four …, and the
    /// task's own retries are left alone.
    #[must_use]
    pub fn max_lost(mut self, attempts: u32) -> Self {
        self.options.lost = attempts;
        self
    }

    /// Keeps runs, journals and lineage in this store, which engines of several machines may share; in the home where
    /// not given.
    #[must_use]
    pub fn metadata(mut self, store: Arc<dyn MetadataStore>) -> Self {
        self.metadata = Some(store);
        self
    }

    /// Keeps artifacts in this store, which engines of several machines may share; in the home where not given. Engines that
    /// share runs must share artifacts.
    #[must_use]
    pub fn artifacts(mut self, store: ArtifactStore) -> Self {
        self.artifacts = Some(store);
        self
    }

    /// How long a run stays this engine's when nothing is heard of it, where the store of metadata gives leases that end;
    /// 15 seconds where not given, 200 milliseconds at least. So long does another engine wait before it takes over a run
    /// of an engine that was killed, and so long do runs wait for a database that is away before they stop.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.options.lease = lease.clamp(lease::SHORTEST, LONGEST_GRACE);
        self
    }

    /// How many tasks of a run are under way at once, whatever resources they ask for; 256 where not given, and at least 1.
    #[must_use]
    pub fn max_tasks(mut self, tasks: usize) -> Self {
        self.options.max_in_flight = tasks.clamp(1, MOST_AT_ONCE);
        self
    }

    /// How many subprocesses run at once; the number of processor cores where not given.
    #[must_use]
    pub fn max_subprocesses(mut self, processes: usize) -> Self {
        self.subprocesses = processes.clamp(1, MOST_AT_ONCE);
        self
    }

    /// How long a task that was cancelled or whose time is over may take to end by itself, before it is ended by
    /// force where that can be done; 5 seconds where not given.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.options.grace = grace.min(LONGEST_GRACE);
        self
    }

    /// Lets a task that runs in process start before the ends of the tasks before it are written. Short tasks in a
    /// row then cost a fraction: their ends are written together, each a millisecond late at most where no commit is under
    /// way. The price is paid only when the engine dies: what ended last may run again though its successors had already
    /// begun, so all of them must bear being repeated.
    #[must_use]
    pub fn start_before_commit(mut self) -> Self {
        self.options.start_before_commit = true;
        self
    }

    /// Opens the engine with its home, metadata and artifacts in this folder.
    ///
    /// # Errors
    /// Where the folder can't be used, or was written by a newer version.
    pub async fn open(self, home: impl AsRef<Path>) -> Result<Engine> {
        self.open_home(Home::open(home).await?).await
    }

    /// Opens the engine with a home that is open already.
    ///
    /// # Errors
    /// Where this program's own file can't be read, or no process can be started.
    pub async fn open_home(self, home: Home) -> Result<Engine> {
        let home = match self.artifacts {
            Some(artifacts) => home.with_artifacts(artifacts),
            None => home,
        };
        let metadata = self.metadata.clone().unwrap_or_else(|| home.metadata());
        let mut executors = self.executors;
        let own_in_process = self.default_executor.is_none() && !executors.contains_key(IN_PROCESS);
        executors.entry(IN_PROCESS.to_owned()).or_insert_with(|| Arc::new(InProcess::default()));
        if !executors.contains_key(SUBPROCESS) {
            executors.insert(SUBPROCESS.to_owned(), Arc::new(Subprocess::new(self.subprocesses)?));
        }
        let folder = home.cache_dir();
        let containers = self.containers;
        executors.entry(CONTAINER.to_owned()).or_insert_with(|| Arc::new(containers.executor(&folder)));
        let program = tokio::task::spawn_blocking(move || cache::program_digest(&folder)).await;
        let program = program.map_err(std::io::Error::other).and_then(std::convert::identity);
        let program = program.map_err(kf_core::Error::io("read", "this program's file"))?;
        let shutdown = CancellationToken::new();
        let inner = Inner {
            home,
            locks: Locks::new(self.semaphores, Arc::clone(&metadata), shutdown.clone()),
            metadata,
            executors,
            default_executor: self.default_executor,
            own_in_process,
            state: Arc::new(self.state),
            memory: Memory::new(self.in_memory.unwrap_or_else(a_quarter)),
            admission: Admission::new(self.capacity.unwrap_or_else(Capacity::of_this_machine)),
            program,
            options: self.options,
            flights: Arc::default(),
            shutdown: shutdown.clone(),
            runs: Mutex::default(),
            starting: tokio::sync::Mutex::default(),
        };
        Ok(Engine { inner: Arc::new(inner), _alive: Arc::new(shutdown.drop_guard()) })
    }
}

/// How many bytes are kept in memory where nobody says.
fn a_quarter() -> usize {
    usize::try_from((Capacity::of_this_machine().resources().memory / 4).min(4 << 30)).unwrap_or(usize::MAX)
}
