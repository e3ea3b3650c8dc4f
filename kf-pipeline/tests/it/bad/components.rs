//! Components that behave badly, or that a test holds up.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use kf_pipeline::prelude::*;

use super::stage::Stage;

/// Those that also run as subprocesses. `unlisted` is not among them.
pub(crate) fn with_components(components: Components) -> Components {
    components.with::<boom>().with::<exits>().with::<kills_itself>().with::<prints>().with::<sleeper>()
}

/// Runs until its gate is open, or until it should end.
#[component(cache = false)]
pub(crate) async fn stand(name: String, gate: String, context: Context, stage: State<Stage>) -> TaskResult {
    stage.note(format!("start {name}"));
    let _dropped = Dropped(&stage, &name);
    tokio::select! {
        () = stage.gate(&gate) => {
            stage.note(format!("end {name}"));
            Ok(())
        }
        () = context.cancellation().cancelled() => {
            stage.note(format!("cancelled {name}"));
            Err(TaskError::new("was asked to end"))
        }
    }
}

struct Dropped<'a>(&'a Stage, &'a str);

impl Drop for Dropped<'_> {
    fn drop(&mut self) {
        self.0.note(format!("dropped {}", self.1));
    }
}

/// Does not listen when it should end.
#[component(cache = false)]
pub(crate) async fn careless(gate: String, stage: State<Stage>) -> TaskResult {
    let _dropped = Dropped(&stage, "careless");
    stage.gate(&gate).await;
    Ok(())
}

/// Does not listen either, and can't be ended.
#[component(cache = false)]
pub(crate) fn hangs(gate: String, stage: State<Stage>) -> TaskResult<i64> {
    stage.note("start hangs");
    for _ in 0..6000 {
        if stage.is_open(&gate) {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    stage.note("end hangs");
    Ok(1)
}

/// Is in the meter for a moment.
#[component(cache = false)]
pub(crate) async fn metered(item: i64, stage: State<Stage>) -> i64 {
    let _inside = stage.enter();
    tokio::time::sleep(Duration::from_millis(20)).await;
    item
}

/// Changes its input behind the store's back.
#[component(cache = false)]
pub(crate) async fn spoil(input: Input<Dataset>, really: bool) -> TaskResult {
    if really {
        overwrite(input.path()?)?;
    }
    Ok(())
}

pub(crate) fn overwrite(path: &Path) -> std::io::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644))?;
    std::fs::write(path, "spoiled")
}

/// Writes so many bytes.
#[component]
pub(crate) async fn fill(bytes: u64, out: Output<Dataset>) -> TaskResult {
    out.write(vec![1; usize::try_from(bytes)?])
}

#[component]
pub(crate) async fn boom() -> TaskResult {
    panic!("boom of {}", "async");
}

#[component]
pub(crate) fn boom_blocking() -> TaskResult {
    panic!("boom");
}

#[component]
pub(crate) async fn not_a_number() -> f64 {
    f64::NAN
}

/// Gives what is not its own.
#[component(cache = false)]
pub(crate) fn links_out(out: Output<Dataset>) -> TaskResult {
    Ok(std::os::unix::fs::symlink("/etc/passwd", out.path())?)
}

#[component]
pub(crate) async fn forgetful(out: Output<Model>) -> TaskResult {
    out.set_metadata("written", false)
}

#[component]
pub(crate) async fn wants_state(state: State<Vec<u8>>) -> TaskResult<u64> {
    Ok(state.len() as u64)
}

#[component(cache = false)]
pub(crate) async fn nothing(item: i64) -> i64 {
    item
}

#[component]
pub(crate) fn exits(code: i32) -> TaskResult {
    println!("its last words");
    std::process::exit(code)
}

#[component]
pub(crate) fn kills_itself() -> TaskResult {
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)?;
    Ok(())
}

#[component]
pub(crate) fn prints(megabytes: u64) -> TaskResult<u64> {
    let line = [b"x".repeat(127), b"\n".to_vec()].concat().repeat(8192);
    for _ in 0..megabytes {
        std::io::stdout().write_all(&line)?;
    }
    println!("the end");
    Ok(megabytes)
}

/// Writes its process id, and sleeps.
#[component(cache = false)]
pub(crate) fn sleeper(folder: String, context: Context) -> TaskResult {
    let name = context.task().replace('/', "-");
    std::fs::write(Path::new(&folder).join(name), std::process::id().to_string())?;
    std::thread::sleep(Duration::from_secs(60));
    Ok(())
}

#[component]
pub(crate) fn unlisted() -> TaskResult {
    Ok(())
}
