//! Children as they are: real processes, started by a `main` that dispatches workers before it runs the tests.

#![expect(clippy::unwrap_used, clippy::panic, reason = "these are tests, in a binary of their own main")]

mod ahead;
mod children;
mod dispatch;
mod follow;
mod orphans;

use std::process::ExitCode;

use kf_core::worker::run_if_asked;
use libtest_mimic::{Arguments, Trial};

/// A trial of each of these tests, called as it is.
macro_rules! trials {
    ($($module:ident::$test:ident,)+) => {
        vec![$(Trial::test(
            concat!(stringify!($module), "::", stringify!($test)),
            on_runtime($module::$test),
        )),+]
    };
}

fn main() -> ExitCode {
    if let Some(code) = run_if_asked(&dispatch::workers()) {
        return code;
    }
    let trials = trials![
        dispatch::success_and_failure,
        dispatch::unknown_entry,
        dispatch::duplicate_entry,
        dispatch::wrong_request,
        dispatch::setup,
        dispatch::panic,
        dispatch::runtime_inside,
        dispatch::answers,
        dispatch::itself,
        dispatch::foreign_program,
        dispatch::missing_program,
        dispatch::wrong_parent,
        ahead::each_is_used_once,
        ahead::another_environment_gets_its_own,
        ahead::one_that_was_killed_is_replaced,
        ahead::another_runtime_gets_its_own,
        ahead::none_stays_when_nothing_comes,
        children::hundred_megabytes,
        children::ignores_sigterm,
        children::ends_on_sigterm,
        children::dropped_child_dies,
        children::dropped_spawner_ends_children,
        children::grandchild_dies_with_its_group,
        children::lines_come_live,
        children::environment_and_folder,
        children::log_that_cannot_be_opened,
        children::full_disk_leaves_the_child_alone,
        children::silence_leaves_no_log,
        follow::four_hundred_megabytes,
        follow::killed_in_the_middle,
        orphans::none_after_sigkill_of_the_parent,
        orphans::none_of_a_start_that_nobody_waits_for,
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn on_runtime<F>(test: fn() -> F) -> impl FnOnce() -> Result<(), libtest_mimic::Failed> + Send + 'static
where
    F: Future<Output = ()> + 'static,
{
    move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        runtime.block_on(test());
        Ok(())
    }
}

/// Waits, generously, until something is so.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..600 {
        if holds() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("not within 30 s: {what}");
}

/// Whether a process of this id exists and is no zombie.
fn lives(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| stat.rsplit_once(')').map(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X'])))
        .unwrap_or(false)
}
