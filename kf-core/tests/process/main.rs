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

fn main() -> ExitCode {
    if let Some(code) = run_if_asked(&dispatch::workers()) {
        return code;
    }
    let trials = [
        Trial::test("dispatch::success_and_failure", on_runtime(dispatch::success_and_failure)),
        Trial::test("dispatch::unknown_entry", on_runtime(dispatch::unknown_entry)),
        Trial::test("dispatch::duplicate_entry", on_runtime(dispatch::duplicate_entry)),
        Trial::test("dispatch::wrong_request", on_runtime(dispatch::wrong_request)),
        Trial::test("dispatch::setup", on_runtime(dispatch::setup)),
        Trial::test("dispatch::panic", on_runtime(dispatch::panic)),
        Trial::test("dispatch::runtime_inside", on_runtime(dispatch::runtime_inside)),
        Trial::test("dispatch::answers", on_runtime(dispatch::answers)),
        Trial::test("dispatch::itself", on_runtime(dispatch::itself)),
        Trial::test("dispatch::foreign_program", on_runtime(dispatch::foreign_program)),
        Trial::test("dispatch::missing_program", on_runtime(dispatch::missing_program)),
        Trial::test("dispatch::wrong_parent", on_runtime(dispatch::wrong_parent)),
        Trial::test("ahead::each_is_used_once", on_runtime(ahead::each_is_used_once)),
        Trial::test(
            "ahead::another_environment_gets_its_own",
            on_runtime(ahead::another_environment_gets_its_own),
        ),
        Trial::test(
            "ahead::one_that_was_killed_is_replaced",
            on_runtime(ahead::one_that_was_killed_is_replaced),
        ),
        Trial::test("ahead::another_runtime_gets_its_own", on_runtime(ahead::another_runtime_gets_its_own)),
        Trial::test("ahead::none_stays_when_nothing_comes", on_runtime(ahead::none_stays_when_nothing_comes)),
        Trial::test("children::hundred_megabytes", on_runtime(children::hundred_megabytes)),
        Trial::test("children::ignores_sigterm", on_runtime(children::ignores_sigterm)),
        Trial::test("children::ends_on_sigterm", on_runtime(children::ends_on_sigterm)),
        Trial::test("children::dropped_child_dies", on_runtime(children::dropped_child_dies)),
        Trial::test(
            "children::dropped_spawner_ends_children",
            on_runtime(children::dropped_spawner_ends_children),
        ),
        Trial::test(
            "children::grandchild_dies_with_its_group",
            on_runtime(children::grandchild_dies_with_its_group),
        ),
        Trial::test("children::lines_come_live", on_runtime(children::lines_come_live)),
        Trial::test("children::environment_and_folder", on_runtime(children::environment_and_folder)),
        Trial::test("children::log_that_cannot_be_opened", on_runtime(children::log_that_cannot_be_opened)),
        Trial::test(
            "children::full_disk_leaves_the_child_alone",
            on_runtime(children::full_disk_leaves_the_child_alone),
        ),
        Trial::test("children::silence_leaves_no_log", on_runtime(children::silence_leaves_no_log)),
        Trial::test("follow::four_hundred_megabytes", on_runtime(follow::four_hundred_megabytes)),
        Trial::test("follow::killed_in_the_middle", on_runtime(follow::killed_in_the_middle)),
        Trial::test(
            "orphans::none_after_sigkill_of_the_parent",
            on_runtime(orphans::none_after_sigkill_of_the_parent),
        ),
        Trial::test(
            "orphans::none_of_a_start_that_nobody_waits_for",
            on_runtime(orphans::none_of_a_start_that_nobody_waits_for),
        ),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials.into()).exit_code()
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
