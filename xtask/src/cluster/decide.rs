//! What to do about a cluster, decided by what there is alone.

use std::path::{Path, PathBuf};

use super::Task;

/// What was found on the machine.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// What `KUBECONFIG` is set to: a file, or several with colons between them.
    pub(crate) kubeconfig: Option<String>,
    /// Whether one of them is there.
    pub(crate) kubeconfig_there: bool,
    /// The folder of scripts that is looked at.
    pub(crate) scripts: PathBuf,
    /// Whether `KF_CLUSTER` names it.
    pub(crate) named: bool,
    /// The scripts that are not in it.
    pub(crate) lacking: Vec<&'static str>,
    /// The controllers that they can run.
    pub(crate) controllers: Vec<String>,
    /// Where the scripts put their programs, `kubectl` among them.
    pub(crate) programs: PathBuf,
    /// Where the scripts keep the state of the cluster.
    pub(crate) run: PathBuf,
    /// Whether they have started one, and not ended it.
    pub(crate) up: bool,
    /// The number of a cluster that they have not started yet, and where they would keep its state.
    pub(crate) free: Option<(u8, PathBuf)>,
}

/// What is done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Tells how to use a cluster.
    Tell(Use),
    /// Runs scripts one after another, then tells how to use what they have started.
    Run { calls: Vec<Call>, then: Option<Use> },
    /// Asks a cluster whether it answers.
    Ask(Use),
}

/// A script with its arguments.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    /// Of which cluster, where it is not that of `KF_CLUSTER_ID`.
    pub(crate) cluster: Option<u8>,
}

/// How a cluster is used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Use {
    /// For `KUBECONFIG`.
    pub(crate) kubeconfig: String,
    /// For `PATH`, before what it has.
    pub(crate) programs: Option<PathBuf>,
    /// What is said beside the line.
    pub(crate) words: Option<String>,
}

impl Use {
    /// The line for a shell.
    pub(crate) fn line(&self) -> String {
        let kubeconfig = quoted(&self.kubeconfig);
        match &self.programs {
            None => format!("export KUBECONFIG={kubeconfig}"),
            Some(folder) => {
                format!("export KUBECONFIG={kubeconfig} PATH={}:\"$PATH\"", quoted(&folder.to_string_lossy()))
            }
        }
    }
}

/// A word as a shell reads it back.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:".contains(c);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// Decides. A cluster that `KUBECONFIG` names goes before one of the scripts, but that it names theirs.
///
/// # Errors
/// Why it can't be done, and what to do.
pub(crate) fn decide(task: &Task, seen: &Seen) -> Result<Action, String> {
    match seen.kubeconfig.as_deref().filter(|list| !is_of_scripts(list, &seen.run)) {
        Some(kubeconfig) => with_given(task, kubeconfig, seen.kubeconfig_there),
        None => with_scripts(task, seen),
    }
}

/// Whether all files of a list are in the folder of the scripts' cluster, as after `eval` of what `up` prints.
fn is_of_scripts(kubeconfig: &str, run: &Path) -> bool {
    kubeconfig.split(':').filter(|file| !file.is_empty()).all(|file| Path::new(file).starts_with(run))
}

fn with_given(task: &Task, kubeconfig: &str, there: bool) -> Result<Action, String> {
    let used = |words: Option<String>| Use { kubeconfig: kubeconfig.to_owned(), programs: None, words };
    if !there && !matches!(task, Task::Down) {
        return Err(format!(
            "KUBECONFIG is {kubeconfig}, but there is no such file; correct it, or unset it to have a cluster started"
        ));
    }
    match task {
        Task::Up { with, .. } if !with.is_empty() => Err(format!(
            "--with runs controllers in a cluster that was started from here, and KUBECONFIG names another, \
             {kubeconfig}; install them there, or unset KUBECONFIG"
        )),
        Task::Up { .. } => Ok(Action::Tell(used(Some(format!(
            "KUBECONFIG names a cluster already, {kubeconfig}: nothing is started"
        ))))),
        Task::Down => Err(format!(
            "KUBECONFIG is {kubeconfig}, a cluster that was not started from here and is left as it is; unset it to \
             end the one that was"
        )),
        Task::Status => Ok(Action::Ask(used(None))),
        Task::Env => Ok(Action::Tell(used(None))),
    }
}

fn with_scripts(task: &Task, seen: &Seen) -> Result<Action, String> {
    let used = |words: Option<&str>| Use {
        kubeconfig: seen.run.join("kc/admin").to_string_lossy().into_owned(),
        programs: Some(seen.programs.clone()),
        words: words.map(str::to_owned),
    };
    let call = |script: &str, arguments: Vec<String>| Call {
        program: seen.scripts.join(script),
        arguments,
        cluster: None,
    };
    match task {
        Task::Up { api_only, with } => {
            scripts(seen)?;
            let mut calls = vec![call("up", api_only.then(|| "--api-only".to_owned()).into_iter().collect())];
            known(with, seen)?;
            if !with.is_empty() {
                calls.push(call("with", with.clone()));
            }
            let words = "The cluster is up. To use it in this shell: eval \"$(cargo xtask cluster env)\", or";
            Ok(Action::Run { calls, then: Some(used(Some(words))) })
        }
        Task::Down => {
            scripts(seen)?;
            Ok(Action::Run { calls: vec![call("down", Vec::new())], then: None })
        }
        Task::Status | Task::Env if !seen.up => {
            scripts(seen)?;
            Err("no cluster is up; start one with `cargo xtask cluster up`, or set KUBECONFIG to that of another"
                .to_owned())
        }
        Task::Status => Ok(Action::Ask(used(None))),
        Task::Env => Ok(Action::Tell(used(None))),
    }
}

/// What starts one more cluster, with controllers and these controllers' own definitions, and what ends it; its number, and
/// its file for `KUBECONFIG`.
///
/// # Errors
/// Why it can't be done, and what to do.
pub(crate) fn beside(with: &[String], seen: &Seen) -> Result<Beside, String> {
    scripts(seen)?;
    known(with, seen)?;
    let (number, run) = seen.free.as_ref().ok_or("there are as many clusters as the scripts can start")?;
    let call = |script: &str, arguments: &[String]| Call {
        program: seen.scripts.join(script),
        arguments: arguments.to_vec(),
        cluster: Some(*number),
    };
    let with: Vec<_> = ["--upstream-crds".to_owned()].into_iter().chain(with.iter().cloned()).collect();
    Ok(Beside {
        starts: vec![call("up", &[]), call("with", &with)],
        ends: call("down", &[]),
        kubeconfig: run.join("kc/admin").to_string_lossy().into_owned(),
    })
}

/// One more cluster.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Beside {
    pub(crate) starts: Vec<Call>,
    pub(crate) ends: Call,
    /// For `KUBECONFIG`.
    pub(crate) kubeconfig: String,
}

/// Checks that the scripts know these controllers.
fn known(with: &[String], seen: &Seen) -> Result<(), String> {
    match with.iter().find(|name| !seen.controllers.contains(name)) {
        None => Ok(()),
        Some(name) => Err(format!(
            "{} has no controller `{name}`; there are: {}",
            seen.scripts.display(),
            seen.controllers.join(", ")
        )),
    }
}

/// Checks that the scripts are there.
fn scripts(seen: &Seen) -> Result<(), String> {
    let Seen { scripts, named, lacking, .. } = seen;
    let (shown, lacking) = (scripts.display(), lacking.join(", "));
    match (lacking.as_str(), named) {
        ("", _) => Ok(()),
        (lacking, true) => Err(format!(
            "KF_CLUSTER is {shown}, where there is no script {lacking}; set it to a folder with up, down and with"
        )),
        (_, false) => Err(format!(
            "there is no cluster: KUBECONFIG is not set, and {shown} has no scripts that start one. Set KUBECONFIG to \
             the file of a cluster, or KF_CLUSTER to a folder with the scripts up, down and with"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine with scripts and no cluster.
    fn seen() -> Seen {
        Seen {
            scripts: "/shared/cluster".into(),
            controllers: ["jobset", "trainer"].map(str::to_owned).to_vec(),
            programs: "/home/bin".into(),
            run: "/home/run-0".into(),
            ..Seen::default()
        }
    }

    fn given(kubeconfig: &str, there: bool) -> Seen {
        Seen { kubeconfig: Some(kubeconfig.to_owned()), kubeconfig_there: there, ..seen() }
    }

    fn up(with: &[&str]) -> Task {
        Task::Up { api_only: false, with: with.iter().map(|name| (*name).to_owned()).collect() }
    }

    /// What is done, in one line.
    fn told(task: &Task, seen: &Seen) -> String {
        match decide(task, seen) {
            Err(why) => format!("error: {why}"),
            Ok(Action::Tell(cluster)) => format!("tell {}", cluster.line()),
            Ok(Action::Ask(cluster)) => format!("ask {}", cluster.kubeconfig),
            Ok(Action::Run { calls, then }) => {
                let calls = calls.iter().map(|call| {
                    let program = call.program.display();
                    format!("run {program} {}", call.arguments.join(" ")).trim_end().to_owned()
                });
                let then = then.map(|cluster| format!("tell {}", cluster.line()));
                calls.chain(then).collect::<Vec<_>>().join("; ")
            }
        }
    }

    const LINE: &str = "tell export KUBECONFIG=/home/run-0/kc/admin PATH=/home/bin:\"$PATH\"";

    #[test]
    fn the_scripts_are_run_where_no_cluster_is_named() {
        let api_only = Task::Up { api_only: true, with: Vec::new() };
        let (running, no_scripts) = (Seen { up: true, ..seen() }, Seen { lacking: vec!["up"], ..seen() });
        let ended = given("/home/run-0/kc/admin", false);
        let cases = [
            (up(&[]), &running, format!("run /shared/cluster/up; {LINE}")),
            (api_only, &running, format!("run /shared/cluster/up --api-only; {LINE}")),
            (
                up(&["jobset", "trainer"]),
                &running,
                format!("run /shared/cluster/up; run /shared/cluster/with jobset trainer; {LINE}"),
            ),
            (Task::Down, &running, "run /shared/cluster/down".to_owned()),
            (Task::Status, &running, "ask /home/run-0/kc/admin".to_owned()),
            (Task::Env, &running, LINE.to_owned()),
            // Its own cluster is named by KUBECONFIG after `eval`, and may have been ended since.
            (
                up(&["jobset"]),
                &ended,
                format!("run /shared/cluster/up; run /shared/cluster/with jobset; {LINE}"),
            ),
            (Task::Down, &ended, "run /shared/cluster/down".to_owned()),
            // Scripts that are gone don't hide what they have started.
            (Task::Env, &Seen { up: true, ..no_scripts }, LINE.to_owned()),
        ];
        for (task, seen, expected) in cases {
            assert_eq!(told(&task, seen), expected);
        }
    }

    #[test]
    fn one_more_cluster_has_a_number_of_its_own() {
        let names = ["jobset".to_owned(), "trainer".to_owned()];
        let free = Seen { free: Some((3, "/home/run-3".into())), ..given("/etc/kube", true) };
        let more = beside(&names, &free).unwrap();
        let told = more.starts.iter().chain([&more.ends]).map(|call| {
            assert_eq!(call.cluster, Some(3));
            format!("{} {}", call.program.display(), call.arguments.join(" ")).trim_end().to_owned()
        });
        let expected = [
            "/shared/cluster/up",
            "/shared/cluster/with --upstream-crds jobset trainer",
            "/shared/cluster/down",
        ];
        assert_eq!(told.collect::<Vec<_>>(), expected);
        assert_eq!(more.kubeconfig, "/home/run-3/kc/admin");
        assert!(beside(&names, &seen()).unwrap_err().contains("as many clusters"));
        assert!(beside(&["kueue".to_owned()], &free).unwrap_err().contains("no controller `kueue`"));
        assert!(beside(&names, &Seen { lacking: vec!["up"], ..free }).unwrap_err().contains("no scripts"));
    }

    #[test]
    fn a_cluster_that_is_named_is_used_and_left_as_it_is() {
        let there = given("/etc/kube/a:/etc/kube/b", true);
        let line = "tell export KUBECONFIG=/etc/kube/a:/etc/kube/b";
        let cases = [(up(&[]), line), (Task::Env, line), (Task::Status, "ask /etc/kube/a:/etc/kube/b")];
        for (task, expected) in cases {
            assert_eq!(told(&task, &there), expected);
        }
        let quoted = told(&Task::Env, &given("/a folder/it's", true));
        assert_eq!(quoted, r"tell export KUBECONFIG='/a folder/it'\''s'");
    }

    #[test]
    fn what_can_not_be_done_is_told_with_what_to_do() {
        let bare = Seen { lacking: vec!["up", "down", "with"], ..seen() };
        let named = Seen { named: true, lacking: vec!["with"], ..seen() };
        let cases = [
            (up(&[]), bare.clone(), "Set KUBECONFIG to the file of a cluster, or KF_CLUSTER to a folder"),
            (Task::Down, bare.clone(), "/shared/cluster has no scripts"),
            (Task::Env, bare.clone(), "Set KUBECONFIG"),
            (Task::Status, bare, "Set KUBECONFIG"),
            (up(&[]), named, "KF_CLUSTER is /shared/cluster, where there is no script with"),
            (Task::Env, seen(), "start one with `cargo xtask cluster up`"),
            (Task::Status, seen(), "start one with `cargo xtask cluster up`"),
            (up(&["jobset", "--without"]), seen(), "no controller `--without`; there are: jobset, trainer"),
            (up(&["jobset"]), given("/etc/kube", true), "KUBECONFIG names another, /etc/kube"),
            (Task::Down, given("/etc/kube", true), "unset it to end the one that was"),
            (up(&[]), given("/etc/kube", false), "no such file"),
            (Task::Env, given("/etc/kube", false), "no such file"),
        ];
        for (task, seen, why) in cases {
            let message = told(&task, &seen);
            assert!(message.starts_with("error: ") && message.contains(why), "{why}: {message}");
        }
    }
}
