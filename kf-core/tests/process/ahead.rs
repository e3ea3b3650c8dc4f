//! Copies that are started ahead of their requests.

use kf_core::process::{Child, Command, Exit, Spawner};

use super::{lives, until};

/// An entry of this test's own for each use, so that the copies of tests that run beside it are not taken for ours.
pub(crate) const ENTRIES: [&str; 5] =
    ["ahead-once", "ahead-unfit", "ahead-gone", "ahead-idle", "ahead-elsewhere"];

/// The processes that wait for a request to this entry.
fn waiting(entry: &str) -> Vec<u32> {
    with_environment(&[("KF_WORKER_REQUEST", "+"), ("KF_WORKER", entry)])
}

/// The processes that have these among their variables.
pub(crate) fn with_environment(all: &[(&str, &str)]) -> Vec<u32> {
    let asked = |pid: u32| {
        let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        all.iter().all(|(name, value)| {
            environ.split(|byte| *byte == 0).any(|set| set == format!("{name}={value}").as_bytes())
        })
    };
    let pids = std::fs::read_dir("/proc").unwrap();
    let pids = pids.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    pids.filter(|&pid| lives(pid) && asked(pid)).collect()
}

async fn one_waiting(entry: &str) -> u32 {
    until("a copy waits", || waiting(entry).len() == 1).await;
    waiting(entry)[0]
}

fn command(entry: &str, name: &str) -> Command {
    Command::entry(entry, &name).unwrap().ahead()
}

async fn greeted(child: &Child, name: &str) {
    assert_eq!(child.wait().await, Exit::Code(0), "{:?}", child.tail(10));
    assert_eq!(child.tail(1), [format!("hello, {name}; 0 bytes")]);
    assert_eq!(child.answer().unwrap(), serde_json::to_vec(name).unwrap());
}

pub(crate) async fn each_is_used_once() {
    let entry = ENTRIES[0];
    let spawner = Spawner::new().unwrap();
    let first = spawner.spawn(command(entry, "Ada")).await.unwrap();
    greeted(&first, "Ada").await;
    let mut last = first.pid();
    for name in ["Grace", "Jean", "Mary"] {
        let ready = one_waiting(entry).await;
        assert_ne!(ready, last);
        let child = spawner.spawn(command(entry, name)).await.unwrap();
        assert_eq!(child.pid(), ready);
        greeted(&child, name).await;
        last = ready;
    }
    // At once, before any can be there.
    let many = (0..8).map(|number| {
        let (spawner, name) = (&spawner, number.to_string());
        async move { greeted(&spawner.spawn(command(entry, &name)).await.unwrap(), &name).await }
    });
    futures::future::join_all(many).await;
    one_waiting(entry).await;
    drop(spawner);
    until("none waits for a spawner that is gone", || waiting(entry).is_empty()).await;
}

pub(crate) async fn another_environment_gets_its_own() {
    let entry = ENTRIES[1];
    let spawner = Spawner::new().unwrap();
    greeted(&spawner.spawn(command(entry, "Ada")).await.unwrap(), "Ada").await;
    let plain = one_waiting(entry).await;
    let other = spawner.spawn(command(entry, "Grace").env("KF_TEST_A", "1")).await.unwrap();
    assert_ne!(other.pid(), plain);
    greeted(&other, "Grace").await;
    until("the one that did not fit is gone", || !lives(plain)).await;
    let fit = one_waiting(entry).await;
    let child = spawner.spawn(command(entry, "Jean").env("KF_TEST_A", "1")).await.unwrap();
    assert_eq!(child.pid(), fit);
    greeted(&child, "Jean").await;
    // Who has not asked for it gets none.
    let ready = one_waiting(entry).await;
    let cold = spawner.spawn(Command::entry(entry, &"Mary").unwrap()).await.unwrap();
    assert_ne!(cold.pid(), ready);
    greeted(&cold, "Mary").await;
    assert_eq!(waiting(entry), [ready]);
}

pub(crate) async fn one_that_was_killed_is_replaced() {
    let entry = ENTRIES[2];
    let spawner = Spawner::new().unwrap();
    greeted(&spawner.spawn(command(entry, "Ada")).await.unwrap(), "Ada").await;
    let ready = one_waiting(entry).await;
    let pid = rustix::process::Pid::from_raw(ready.try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    until("it is gone", || !lives(ready)).await;
    let child = spawner.spawn(command(entry, "Grace")).await.unwrap();
    assert_ne!(child.pid(), ready);
    greeted(&child, "Grace").await;
}

pub(crate) async fn none_stays_when_nothing_comes() {
    let entry = ENTRIES[3];
    let spawner = Spawner::new().unwrap();
    greeted(&spawner.spawn(command(entry, "Ada")).await.unwrap(), "Ada").await;
    one_waiting(entry).await;
    until("it has ended unused", || waiting(entry).is_empty()).await;
    greeted(&spawner.spawn(command(entry, "Grace")).await.unwrap(), "Grace").await;
}

pub(crate) async fn another_runtime_gets_its_own() {
    let entry = ENTRIES[4];
    let spawner = std::sync::Arc::new(Spawner::new().unwrap());
    let there = std::sync::Arc::clone(&spawner);
    // Its runtime is gone when the copy that was started in it is looked at.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            greeted(&there.spawn(command(entry, "Ada")).await.unwrap(), "Ada").await;
            one_waiting(entry).await;
        });
    })
    .join()
    .unwrap();
    let [first] = waiting(entry)[..] else { panic!("one waits") };
    let child = spawner.spawn(command(entry, "Grace")).await.unwrap();
    assert_ne!(child.pid(), first);
    greeted(&child, "Grace").await;
    until("the other runtime's is reaped", || !std::path::Path::new(&format!("/proc/{first}")).exists())
        .await;
    one_waiting(entry).await;
}
