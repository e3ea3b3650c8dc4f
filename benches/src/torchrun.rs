//! PyTorch's launcher, with ranks on this machine.

use std::error::Error;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long it may take to end its ranks.
const GRACE: Duration = Duration::from_secs(40);

/// A Python that has PyTorch, of those that `KF_TORCH_PYTHON` and `KF_TEST_PYTHON` name.
pub fn python() -> Option<PathBuf> {
    let named = ["KF_TORCH_PYTHON", "KF_TEST_PYTHON"].into_iter().filter_map(std::env::var_os);
    named.map(PathBuf::from).find(|python| {
        let has = Command::new(python).args(["-c", "import torch"]).stderr(Stdio::null()).status();
        has.is_ok_and(|status| status.success())
    })
}

/// Two ranks of a script of the folder `peers`, of one thread each. It is ended when it is dropped.
#[derive(Debug)]
pub struct Torchrun {
    process: Child,
    output: File,
    errors: File,
}

impl Torchrun {
    /// Starts it with options of torchrun's own and with arguments of the script.
    ///
    /// # Errors
    /// That it does not start.
    pub fn start(
        python: &Path,
        script: &str,
        options: &[&str],
        arguments: &[&str],
    ) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let (output, errors) = (tempfile::tempfile()?, tempfile::tempfile()?);
        let process = Command::new(python)
            .args(["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"])
            .args(options)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(script))
            .args(arguments)
            .env("OMP_NUM_THREADS", "1")
            // Without it, no restart succeeds: the store of the first start outlives it.
            .env("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
            // Libraries of this program's are no concern of its.
            .env_remove("LD_LIBRARY_PATH")
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(errors.try_clone()?)
            .spawn()?;
        Ok(Self { process, output, errors })
    }

    /// Waits for its end, and gives what the ranks have printed.
    ///
    /// # Errors
    /// That it failed, or did not end within this time.
    pub fn output(mut self, limit: Duration) -> Result<String, Box<dyn Error + Send + Sync>> {
        let until = Instant::now() + limit;
        loop {
            match self.process.try_wait()? {
                Some(status) if status.success() => break,
                Some(status) => return Err(format!("torchrun: {status}\n{}", text(&self.errors)?).into()),
                None if Instant::now() > until => {
                    return Err(format!("torchrun: not done in {limit:?}").into());
                }
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
        Ok(text(&self.output)?)
    }
}

/// All that a file holds.
fn text(mut file: &File) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

impl Drop for Torchrun {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            // Killed outright, it would leave its ranks behind.
            let pid = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw);
            let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
            let until = Instant::now() + GRACE;
            while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
