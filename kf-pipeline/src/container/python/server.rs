//! Servers that fork a process for each step: `server.py` in a virtual environment, and its client.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, IoSlice, PipeWriter};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kf_core::process::{Child, Command, Exit, Guarded, Guards, Spawner, Usage};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Interest};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{oneshot, watch};

use crate::mutex::locked;

const SOURCE: &str = include_str!("server.py");
/// How long a server may take to begin.
const BEGIN: Duration = Duration::from_secs(60);
const TAIL_LINES: usize = 15;

/// A step to run.
#[derive(Debug, Serialize)]
pub(crate) struct StepRequest {
    /// The file with the step's module.
    pub(crate) module: PathBuf,
    /// The arguments of `executor_main`.
    pub(crate) args: Vec<String>,
    /// All of its environment.
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) cwd: PathBuf,
    pub(crate) mounts: Vec<(PathBuf, PathBuf)>,
}

/// The servers of an engine, one for each environment.
#[derive(Debug, Default)]
pub(crate) struct Servers(tokio::sync::Mutex<HashMap<PathBuf, Arc<Server>>>);

impl Servers {
    /// The server of this environment; begun where there is none, or where it has ended.
    ///
    /// # Errors
    /// Says why it did not begin.
    pub(crate) async fn get(
        &self,
        spawner: &Spawner,
        venv: &Path,
        env: &BTreeMap<String, String>,
    ) -> Result<Arc<Server>, String> {
        let mut servers = self.0.lock().await;
        if let Some(server) = servers.get(venv).filter(|server| server.child.exit().is_none()) {
            return Ok(Arc::clone(server));
        }
        let server = Arc::new(Server::begin(spawner, venv, env).await?);
        servers.insert(venv.to_owned(), Arc::clone(&server));
        Ok(server)
    }
}

/// A server. Dropped, it ends, and its steps with it.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    socket: tokio::sync::Mutex<OwnedWriteHalf>,
    steps: Arc<Steps>,
    next: AtomicU64,
}

type Steps = Mutex<HashMap<u64, Waiting>>;

/// A step of which the end is waited for.
#[derive(Debug)]
struct Waiting {
    ended: oneshot::Sender<(Exit, Usage)>,
    /// Ends what it has started where this process is killed.
    guarded: Option<Guarded>,
}

#[derive(Serialize)]
struct Message<'a> {
    id: u64,
    #[serde(flatten)]
    step: Option<&'a StepRequest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<i32>,
}

#[derive(Deserialize)]
struct Reply {
    id: Option<u64>,
    pid: Option<u32>,
    status: Option<i32>,
    #[serde(default)]
    used: Usage,
}

impl Server {
    async fn begin(spawner: &Spawner, venv: &Path, env: &BTreeMap<String, String>) -> Result<Self, String> {
        let failed = |problem: String| format!("the Python server could not be started: {problem}");
        let io_failed = |error: io::Error| failed(error.to_string());
        let folder = tempfile::Builder::new().prefix("kf-python-").tempdir().map_err(io_failed)?;
        let (script, socket) = (folder.path().join("server.py"), folder.path().join("socket"));
        std::fs::write(&script, SOURCE).map_err(io_failed)?;
        let listener = UnixListener::bind(&socket).map_err(io_failed)?;
        let python = venv.join("bin").join("python3").display().to_string();
        let args = ["-u".to_owned(), script.display().to_string(), socket.display().to_string()];
        let command = Command::program_with_env(python, args, env.clone());
        let child = spawner.spawn(command).await.map_err(|error| failed(error.to_string()))?;
        let connected = async {
            let (stream, _) = listener.accept().await?;
            let (read, write) = stream.into_split();
            let mut read = BufReader::new(read);
            read.read_line(&mut String::new()).await?;
            io::Result::Ok((read, write))
        };
        let (read, write) = tokio::select! {
            connected = tokio::time::timeout(BEGIN, connected) => match connected {
                Ok(connected) => connected.map_err(io_failed)?,
                Err(_) => return Err(failed(format!("it was not ready after {BEGIN:?}"))),
            },
            exit = child.wait() => {
                return Err(failed(format!("it ended with {exit}:\n{}", child.tail(TAIL_LINES).join("\n"))));
            }
        };
        let steps = Arc::<Steps>::default();
        tokio::spawn(listen(read, Arc::clone(&steps), spawner.guards()));
        Ok(Self { child, socket: write.into(), steps, next: AtomicU64::new(0) })
    }

    /// Runs a step whose output goes to `output`; gives the step, how it ends, and what it used: an error where the server ends
    /// first.
    ///
    /// # Errors
    /// Where the server can't be reached.
    pub(crate) async fn run(
        self: &Arc<Self>,
        step: StepRequest,
        output: PipeWriter,
    ) -> Result<(Step, oneshot::Receiver<(Exit, Usage)>), String> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        locked(&self.steps).insert(id, Waiting { ended: sender, guarded: None });
        let message = serde_json::json!(Message { id, step: Some(&step), signal: None }).to_string();
        // The message is sent also where nobody waits for that any more.
        let (sent, after) = watch::channel(());
        let step = Step { server: Arc::clone(self), id, after };
        self.send(message, Some((output, sent))).await.inspect_err(|_| {
            locked(&self.steps).remove(&id);
        })?;
        Ok((step, receiver))
    }

    /// Sends a whole message, also where the caller goes away meanwhile.
    /// With it go a step's output, and what is dropped when it is sent.
    async fn send(
        self: &Arc<Self>,
        message: String,
        step: Option<(PipeWriter, watch::Sender<()>)>,
    ) -> Result<(), String> {
        let server = Arc::clone(self);
        let sent = tokio::spawn(async move {
            let mut socket = server.socket.lock().await;
            let length = u32::try_from(message.len()).map_err(io::Error::other)?.to_be_bytes();
            let _sent = step.as_ref().map(|(_, sent)| sent);
            send_head(socket.as_ref(), &length, step.as_ref().map(|(output, _)| output)).await?;
            socket.write_all(message.as_bytes()).await
        });
        let gone = |problem: String| format!("the Python server has ended: {problem}");
        sent.await.map_err(|error| gone(error.to_string()))?.map_err(|error| gone(error.to_string()))
    }
}

/// A step under way. Dropped, it is killed; one that has ended is not hit.
#[derive(Debug)]
pub(crate) struct Step {
    server: Arc<Server>,
    id: u64,
    /// Closes when it was sent: a signal that came before it would hit nothing.
    after: watch::Receiver<()>,
}

impl Step {
    /// Asks it and its process group to end.
    pub(crate) async fn terminate(&self) {
        self.signal(Signal::TERM).await;
    }

    /// Kills it and its process group.
    pub(crate) async fn kill(&self) {
        self.signal(Signal::KILL).await;
    }

    fn signal(&self, number: Signal) -> impl Future<Output = ()> + Send + use<> {
        let (server, id, mut after) = (Arc::clone(&self.server), self.id, self.after.clone());
        async move {
            // It never changes.
            let _ = after.changed().await;
            let message =
                serde_json::json!(Message { id, step: None, signal: Some(number.as_raw()) }).to_string();
            // A server that can't be reached has ended, and its steps with it.
            let _ = server.send(message, None).await;
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(self.signal(Signal::KILL));
        }
    }
}

/// Sends the first bytes of a message, and a file descriptor with them.
async fn send_head(socket: &UnixStream, head: &[u8; 4], output: Option<&PipeWriter>) -> io::Result<()> {
    let sent = socket
        .async_io(Interest::WRITABLE, || {
            let fds = output.map(|output| [output.as_fd()]);
            let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            if let Some(fds) = &fds {
                ancillary.push(SendAncillaryMessage::ScmRights(fds));
            }
            Ok(sendmsg(socket, &[IoSlice::new(head)], &mut ancillary, SendFlags::NOSIGNAL)?)
        })
        .await?;
    match sent == head.len() {
        true => Ok(()),
        false => Err(io::Error::other("a message's head was cut")),
    }
}

/// Tells steps how they ended, until the server ends.
async fn listen(mut read: BufReader<OwnedReadHalf>, steps: Arc<Steps>, guards: Guards) {
    let mut line = String::new();
    loop {
        line.clear();
        if !matches!(read.read_line(&mut line).await, Ok(read) if read > 0) {
            break;
        }
        let (id, status, used) = match serde_json::from_str(&line) {
            Ok(Reply { id: Some(id), pid: Some(pid), .. }) => {
                if let Some(step) = locked(&steps).get_mut(&id) {
                    step.guarded = Some(guards.guard(pid));
                }
                continue;
            }
            Ok(Reply { id: Some(id), status: Some(status), used, .. }) => (id, status, used),
            _ => continue,
        };
        let exit = if status < 0 { Exit::Signal(-status) } else { Exit::Code(status) };
        if let Some(step) = locked(&steps).remove(&id) {
            let _ = step.ended.send((exit, used));
        }
    }
    // Their receivers hear that the server has ended. Killed, it left behind what its steps had started.
    for (_, step) in locked(&steps).drain() {
        if let Some(guarded) = step.guarded {
            guarded.kill();
        }
    }
}
