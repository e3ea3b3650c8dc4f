//! Real servers for tests, each private to the test that starts it: they listen on loopback, keep everything in a
//! folder that goes away with them, and end with the process that started them, however it ends.

mod postgres;
mod s3;

use std::fmt::Display;
use std::io::{self, Write};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub use postgres::PostgresServer;
pub use s3::S3Server;

/// The server, where it could be started. What the tests judge by is said in the form that `cargo xtask test` reads:
/// `JUDGE s3 passed`, or why it is skipped.
pub fn judge<T, E: Display>(name: &str, started: Result<T, E>) -> Option<T> {
    match started {
        Ok(server) => {
            println!("JUDGE {name} passed");
            Some(server)
        }
        Err(why) => {
            println!("JUDGE {name} skipped: {why}");
            None
        }
    }
}

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a program until a line comes or the end of this process closes the standard input; then ends it with the signal
/// `$1` and removes the folder `$0`, unless the line was `keep`.
const SUPERVISE: &str = "folder=$0; signal=$1; shift; \"$@\" </dev/null & child=$!; read -r word; \
                         kill -\"$signal\" \"$child\"; wait \"$child\"; \
                         [ \"$word\" = keep ] || rm -rf \"$folder\"";

/// A server's process under supervision. It ends when dropped, and its folder goes with it.
#[derive(Debug)]
struct Supervised(Child);

impl Supervised {
    /// Starts a program with its output in `folder/log`, as another user where one is given.
    fn start(
        signal: &str,
        folder: &Path,
        user: Option<u32>,
        program: &Path,
        arguments: &[String],
    ) -> io::Result<Self> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("log"))?;
        let mut command = Command::new("sh");
        command.args(["-c", SUPERVISE]).arg(folder).arg(signal).arg(program).args(arguments);
        command.stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log);
        if let Some(user) = user {
            command.uid(user).gid(user);
        }
        // Not ended by a Ctrl-C before who uses it has ended.
        command.process_group(0);
        command.spawn().map(Self)
    }

    /// Ends the program, and leaves its folder.
    fn stop(mut self) {
        if let Some(mut stdin) = self.0.stdin.take() {
            let _ = stdin.write_all(b"keep\n");
        }
    }

    fn is_over(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// A port of loopback that is free now, and that the system gives to nobody who asks for any: somebody who does could have it
/// before the caller does.
///
/// # Errors
/// None can be had.
pub fn free_port() -> io::Result<u16> {
    // Those that systems give lie above.
    const RANGE: std::ops::Range<u16> = 10_000..32_000;
    let mut problem = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..1000 {
        let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), ());
        let port = RANGE.start + (random % RANGE.len() as u64) as u16;
        match TcpListener::bind(("127.0.0.1", port)) {
            Ok(_) => return Ok(port),
            Err(error) => problem = error,
        }
    }
    Err(problem)
}

/// Asks until the answer is yes, the server has ended or the time is over.
fn until(server: &mut Supervised, mut answers: impl FnMut() -> bool) -> Result<(), String> {
    let began = Instant::now();
    while !answers() {
        if server.is_over() {
            return Err("it ended at once".to_owned());
        }
        if began.elapsed() > PATIENCE {
            return Err(format!("it did not answer in {PATIENCE:?}"));
        }
        std::thread::sleep(Duration::from_millis(30));
    }
    Ok(())
}

/// The end of a server's log, for errors.
fn tail(folder: &Path) -> String {
    let text = std::fs::read(folder.join("log")).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().rev().take(5).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
}
