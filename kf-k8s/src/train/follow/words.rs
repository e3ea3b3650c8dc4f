//! What goes wrong with a job's pods, in words.

use kf_train::{Failure, JobSpec, Program};

use crate::facts::Wait;

/// What keeps a pod from running, and what to do about it.
pub(super) fn waits(pod: &str, wait: Wait) -> Wait {
    let reason = match wait.hopeless {
        true => format!(
            "pod `{pod}` can't start: {}; see that the image's name is right and that the cluster may pull it, and that the \
             secrets and config maps that it takes variables from are there",
            wait.reason
        ),
        false => format!("pod `{pod}`: {}", wait.reason),
    };
    Wait { reason, ..wait }
}

/// What a rank failed by whose program the node could not start.
pub(super) fn unstarted(spec: &JobSpec, image: &str, said: &str) -> String {
    let program = match &spec.program {
        Program::Ranks { .. } => "the entrypoint of",
        Program::Command { program, .. } => &format!("program `{program}` in"),
    };
    let folder = match &spec.cwd {
        Some(folder) => format!(", and folder `{}`", folder.display()),
        None => String::new(),
    };
    format!("its program could not be started: {said}; is there {program} image `{image}`{folder}?")
}

/// What became of the result of rank 0, which has ended well.
pub(super) fn no_result(entry: &str, image: &str, unread: Option<&str>) -> String {
    let ended = "rank 0 ended with exit code 0, but its log";
    match unread {
        Some(why) => format!("{ended}, which holds what it returned, can't be read: {why}"),
        None => format!(
            "{ended} holds no result of it: is image `{image}` that of this program, with `{entry}` among its workers?"
        ),
    }
}

/// Why a rank may not have told that it has begun.
pub(super) fn unheard(unread: &str) -> String {
    format!("its log, by which it would tell that, can't be read: {unread}")
}

/// Why a job failed of which a rank's pod went away; what the cluster says of its object.
pub(super) fn taken_away(failure: &Failure, max_restarts: u64, evicted: bool, said: &str) -> String {
    let again = match max_restarts {
        0 => "; a job with `max_restarts` has its ranks started anew then".to_owned(),
        used => format!("; it was started anew {used} times, its `max_restarts`"),
    };
    let said = if evicted { String::new() } else { format!("; the cluster says of the job: {said}") };
    format!("{}{again}{said}", failure.summary())
}

#[cfg(test)]
mod tests {
    use kf_core::process::Exit;
    use kf_train::{Job, RankEnd};

    use super::*;

    #[test]
    fn a_pod_that_waits_is_named_with_what_to_do() {
        let wait = |hopeless| Wait { reason: "why".into(), hopeless };
        assert_eq!(waits("p", wait(false)), Wait { reason: "pod `p`: why".into(), hopeless: false });
        let hopeless = waits("p", wait(true));
        assert!(hopeless.hopeless);
        for expected in ["pod `p` can't start: why", "see that the image's name is right"] {
            assert!(hopeless.reason.contains(expected), "{}", hopeless.reason);
        }
    }

    #[test]
    fn a_program_that_is_not_in_the_image_is_named() {
        let command = Job::command("sh", ["-c", "true"], 1).cwd("/work");
        assert_eq!(
            unstarted(command.spec().unwrap(), "i:1", "not found"),
            "its program could not be started: not found; is there program `sh` in image `i:1`, and folder `/work`?"
        );
        let own = unstarted(Job::ranks("fit", 1).spec().unwrap(), "i:1", "not found");
        assert!(own.ends_with("is there the entrypoint of image `i:1`?"), "{own}");
    }

    #[test]
    fn a_result_that_is_missing_is_told_from_one_that_can_t_be_read() {
        let unread = no_result("fit", "i:1", Some("Forbidden (403): no"));
        assert!(
            unread.contains("can't be read: Forbidden (403): no") && !unread.contains("image"),
            "{unread}"
        );
        let missing = no_result("fit", "i:1", None);
        assert!(missing.contains("image `i:1`") && missing.contains("`fit` among its workers"), "{missing}");
    }

    #[test]
    fn a_pod_that_was_taken_away_is_the_reason() {
        let mut failure = Failure::new(1, 2, RankEnd::Exited(Exit::Signal(15)));
        failure.message = Some("its pod was taken away".into());
        let never = taken_away(&failure, 0, false, "ReachedMaxRestarts: of the JobSet");
        assert!(never.starts_with("rank 1 of 2 ended with signal 15"), "{never}");
        for expected in
            ["its pod was taken away; a job with `max_restarts`", "says of the job: ReachedMaxRestarts"]
        {
            assert!(never.contains(expected), "{never}");
        }
        let twice = taken_away(&failure, 2, true, "Evicted: disk");
        assert!(twice.contains("started anew 2 times") && !twice.contains("Evicted"), "{twice}");
    }
}
