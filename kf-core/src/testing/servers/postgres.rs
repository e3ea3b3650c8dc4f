//! A PostgreSQL server.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::{Supervised, free_port, tail, until};

/// PostgreSQL refuses to run as root; then it runs as `nobody`.
const NOBODY: u32 = 65534;
const NEEDED: [&str; 3] = ["initdb", "postgres", "pg_isready"];

/// A PostgreSQL cluster of its own, from the programs that are installed: on the path or in
/// `/usr/lib/postgresql/*/bin`. It does not wait for the disk. Ends when dropped.
#[derive(Debug)]
pub struct PostgresServer {
    server: Option<Supervised>,
    programs: PathBuf,
    port: u16,
    user: Option<u32>,
    folder: TempDir,
}

impl PostgresServer {
    /// Makes a cluster and starts it; some seconds.
    ///
    /// # Errors
    /// Why there is none here, such as that PostgreSQL is not installed.
    pub fn start() -> Result<Self, String> {
        let programs = programs()
            .ok_or("PostgreSQL is not installed: no initdb, postgres and pg_isready on the path or in /usr/lib/postgresql")?;
        let folder = tempfile::Builder::new().prefix("kf-pg-").tempdir().map_err(said("a folder"))?;
        let user = rustix::process::geteuid().is_root().then_some(NOBODY);
        if let Some(user) = user {
            std::os::unix::fs::chown(folder.path(), Some(user), Some(user)).map_err(said("chown"))?;
        }
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).map_err(said("chmod"))?;
        let mut this = Self { server: None, programs, port: 0, user, folder };
        let mut command = this.command("initdb");
        command.args(["--username=kf", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]);
        let made = command.arg("--pgdata").arg(this.data()).output().map_err(said("initdb"))?;
        if !made.status.success() {
            return Err(format!("initdb: {}: {}", made.status, String::from_utf8_lossy(&made.stderr).trim()));
        }
        let mut tries = 0;
        loop {
            this.port = free_port().map_err(said("a port"))?;
            match this.resume() {
                Err(_) if tries < 3 => tries += 1,
                done => return done.map(|()| this),
            }
        }
    }

    /// The URL of its database, over TCP.
    pub fn url(&self) -> String {
        format!("postgres://kf@127.0.0.1:{}/postgres", self.port)
    }

    /// The URL of its database, over a Unix socket.
    pub fn socket_url(&self) -> String {
        format!("postgres://kf@localhost:{}/postgres?host={}", self.port, self.folder.path().display())
    }

    /// Its port on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends it at once, as a crash would. Everything that was committed is kept.
    pub fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop();
        }
    }

    /// Starts it again on the same port.
    ///
    /// # Errors
    /// Why it does not start.
    pub fn resume(&mut self) -> Result<(), String> {
        let text = |path: &Path| path.display().to_string();
        let mut arguments =
            vec!["-D".to_owned(), text(&self.data()), "-k".to_owned(), text(self.folder.path())];
        arguments.extend(["-h", "127.0.0.1", "-p"].map(str::to_owned));
        arguments.push(self.port.to_string());
        for setting in ["fsync=off", "max_connections=60"] {
            arguments.extend(["-c".to_owned(), setting.to_owned()]);
        }
        let program = self.programs.join("postgres");
        // SIGQUIT: the server's children end, and it does not tidy up.
        let server = Supervised::start("QUIT", self.folder.path(), self.user, &program, &arguments)
            .map_err(said("postgres"))?;
        let server = self.server.insert(server);
        let mut ready = Command::new(self.programs.join("pg_isready"));
        ready.args(["-q", "-h", "127.0.0.1", "-U", "kf", "-p", &self.port.to_string()]);
        until(server, || ready.status().is_ok_and(|status| status.success())).map_err(|why| {
            let why = format!("postgres: {why}: {}", tail(self.folder.path()));
            self.stop();
            why
        })
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.stdin(Stdio::null()).current_dir(self.folder.path());
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command
    }
}

/// A folder with PostgreSQL's programs: of the path, or Debian's newest.
fn programs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // What lies on the path may be links to some of the programs.
    let real = |folder: PathBuf| folder.join("initdb").canonicalize().ok()?.parent().map(Path::to_owned);
    let on_path = std::env::split_paths(&path).filter_map(real);
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let version = |folder: &PathBuf| folder.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions.map(|entry| entry.path()).max_by_key(version).map(|folder| folder.join("bin"));
    let whole = |folder: &PathBuf| NEEDED.iter().all(|program| folder.join(program).is_file());
    on_path.chain(newest).find(whole)
}

fn said(what: &'static str) -> impl Fn(std::io::Error) -> String {
    move |error| format!("{what}: {error}")
}
