//! A run while the system's clock is set back and forth by an hour.

use std::path::Path;
use std::time::{Duration, Instant};

use kf_core::RunId;
use kf_core::metadata::RunState;
use kf_core::process::{Command, Log, Spawner};
use kf_pipeline::prelude::*;
use libtest_mimic::Trial;

use crate::kill::program::{Begin, ENTRY, Order, Which};
use crate::kill::stores::Stores;
use crate::{Done, test};

pub(crate) fn tests() -> Vec<Trial> {
    vec![test("a_clock_that_jumps_an_hour_holds_nothing_up", jumps)]
}

/// Where Debian and its like keep the library that fakes the time of a process.
const LIBRARY: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
];

async fn jumps() -> Done {
    let Some(library) = LIBRARY.iter().find(|library| Path::new(library).is_file()) else {
        println!("JUDGE faketime skipped: libfaketime is not installed (Debian's package `faketime`)");
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let (home, offset, file) =
        (folder.path().join("home"), folder.path().join("offset"), folder.path().join("file"));
    std::fs::write(&file, "a seed")?;
    let spawner = Spawner::new()?;
    let reader = Engine::open(&home).await?;
    // What was written last in the future waits no longer than from now.
    for (round, jumps) in [["-1h", "+0h"], ["+1h", "-1h"], ["+0h", "-1h"], ["-1h", "+1h"]].iter().enumerate()
    {
        let set = |to: &str| std::fs::write(&offset, format!("{to}\n"));
        set("+0h")?;
        let run: RunId = format!("round-{round}").parse()?;
        let witness = folder.path().join(run.as_str());
        let order = Order {
            stores: Stores::Home,
            home: home.clone(),
            witness: witness.clone(),
            run: run.clone(),
            pipeline: Which::Richest { name: "jumps".to_owned(), file: file.clone() },
            begin: Begin::Start,
            kill: None,
        };
        let command = Command::entry(ENTRY, &order)?
            .env("LD_PRELOAD", *library)
            .env("FAKETIME_TIMESTAMP_FILE", offset.display().to_string())
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .log(Log::to(folder.path().join("log")));
        let child = spawner.spawn(command).await?;
        let seen = async |word: &str| {
            while child.exit().is_none()
                && !std::fs::read_to_string(&witness).unwrap_or_default().contains(word)
            {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        seen("start").await;
        set(jumps[0])?;
        seen("retry").await;
        let began = Instant::now();
        set(jumps[1])?;
        let exit = tokio::time::timeout(Duration::from_secs(30), child.wait()).await;
        let exit = exit.map_err(|_| format!("{jumps:?}: it waits: {:?}", child.tail(20)))?;
        assert!(exit.success(), "{jumps:?}: {exit}: {:?}", child.tail(20));
        let record = reader.run(&run).await?.ok_or("no such run")?;
        assert_eq!(record.state, RunState::Succeeded, "{:?}", record.error);
        let report = reader.report(&run).await?;
        for task in &report.tasks {
            assert!(
                task.started_at.is_none_or(|started| task.ended_at >= started),
                "{jumps:?}: `{}` ended before it began",
                task.path
            );
        }
        println!("{jumps:?}: {:?} after the first retry", began.elapsed());
    }
    println!("JUDGE faketime passed");
    Ok(())
}
