//! A disk that is full.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use kf_core::RunId;
use kf_core::metadata::RunState;
use kf_pipeline::prelude::*;
use libtest_mimic::Trial;

use super::components::{fill, stand};
use super::{Stage, refused, says};
use crate::components::make;
use crate::{Done, test};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("disk_full_in_a_tasks_output", full_in_output),
        test("disk_full_in_a_commit", full_in_commit),
        test("disk_full_in_a_checkpoint", full_in_checkpoint),
    ]
}

/// A file system of a few megabytes.
struct Disk(tempfile::TempDir);

impl Disk {
    /// None where this user may not mount.
    fn mount(megabytes: u32) -> std::io::Result<Option<Self>> {
        let folder = tempfile::tempdir()?;
        let size = format!("size={megabytes}m");
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()).output();
        match mount {
            Ok(mount) if mount.status.success() => Ok(Some(Self(folder))),
            refused => {
                println!("JUDGE disk-full skipped: a small tmpfs can't be mounted here: {refused:?}");
                Ok(None)
            }
        }
    }

    fn ballast(&self) -> PathBuf {
        self.0.path().join("ballast")
    }

    /// Leaves only so many bytes free.
    fn fill_but(&self, bytes: usize) -> std::io::Result<()> {
        let spared = self.0.path().join("spared");
        std::fs::write(&spared, vec![1; bytes])?;
        let mut file = File::create(self.ballast())?;
        for piece in [1 << 16, 1 << 12, 1] {
            while file.write_all(&vec![1; piece]).is_ok() {}
        }
        std::fs::remove_file(spared)
    }

    fn free(&self) -> std::io::Result<()> {
        std::fs::remove_file(self.ballast())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).output();
    }
}

async fn full_in_output() -> Done {
    let Some(disk) = Disk::mount(24)? else { return Ok(()) };
    let pipeline = Pipeline::build("full-output", |p| {
        let made = p.add(make(7));
        p.add(fill(8_u64 << 20).after(made));
    })?;
    let engine = Engine::open(disk.0.path().join("home")).await?;
    disk.fill_but(4 << 20)?;
    let outcome = engine.start(&pipeline, args! {}).await?.wait().await?;
    assert_eq!(outcome.state, RunState::Failed);
    says(outcome.error.as_deref(), &["fill", "write `", "No space left on device"]);
    disk.free()?;
    let outcome = engine.start(&pipeline, args! {}).await?.wait().await?;
    assert_eq!((outcome.state, outcome.error), (RunState::Succeeded, None));
    assert_eq!((outcome.tasks.cached, outcome.tasks.succeeded), (1, 1));
    Ok(())
}

async fn full_in_commit() -> Done {
    let Some(disk) = Disk::mount(8)? else { return Ok(()) };
    let stage = Stage::default();
    let pipeline = Pipeline::build("full-commit", |p| {
        let first = p.add(stand("first", "open"));
        p.add(stand("second", "gate").named("second").after(first));
    })?;
    let engine = Engine::builder().state(stage.clone()).open(disk.0.path().join("home")).await?;
    let id: RunId = "full".parse()?;
    let start = || engine.start_with(&pipeline, args! {}, StartOptions::new().id(id.clone()));
    let run = start().await?;
    stage.open("open");
    stage.seen("start second", 1).await;
    disk.fill_but(0)?;
    stage.open("gate");
    let stopped = refused(run.wait().await);
    says(Some(&stopped), &["`full`", "metadata.db", "full", "start it again"]);
    says(Some(&refused(engine.start(&pipeline, args! {}).await)), &["metadata.db", "full"]);
    disk.free()?;
    let outcome = start().await?.wait().await?;
    assert_eq!((outcome.state, outcome.error, outcome.tasks.succeeded), (RunState::Succeeded, None, 2));
    assert_eq!((stage.count("start first"), stage.count("start second")), (1, 2));
    Ok(())
}

async fn full_in_checkpoint() -> Done {
    let Some(disk) = Disk::mount(8)? else { return Ok(()) };
    let context = Context::detached(disk.0.path());
    context.save("before", &1)?;
    disk.fill_but(4096)?;
    // Half a record is written, and then there is no room.
    let large = "x".repeat(1 << 20);
    for _ in 0..3 {
        let full = context.save("large", &large).unwrap_err();
        says(Some(&full.to_string()), &["save checkpoint `large` in", "No space left"]);
        assert!(!full.is_permanent());
    }
    assert_eq!(Context::detached(disk.0.path()).saved::<String>("large")?, None);
    disk.free()?;
    context.save("large", &large)?;
    let next = Context::detached(disk.0.path());
    assert_eq!((next.saved("before")?, next.saved("large")?), (Some(1), Some(large)));
    Ok(())
}
