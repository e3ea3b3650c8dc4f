//! `cargo xtask test`: every check there is, each done even where another failed.

mod counts;
mod empty_crate;
mod failures;
mod judges;
mod newer;
mod package;
mod packages;

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use self::counts::Counts;
use self::failures::Failures;
use self::judges::Judges;
use self::packages::Package;
use crate::cluster::TestCluster;
use crate::libtorch::Flavor;
use crate::step::{Steps, seconds};
use crate::{cargo, libtorch, table, tools, venv};

/// Runs the checks of all packages, or of one.
///
/// # Errors
/// A message that lists what failed.
pub(crate) fn run(root: &Path, only: Option<&str>, long: bool) -> Result<(), String> {
    let began = Instant::now();
    let packages = chosen(packages::list(root)?, only)?;
    let scope = Scope { root, packages, whole: only.is_none() };
    let torch = scope.needs_torch()?;
    let pods = scope.packages.iter().any(|package| PODS.contains(&&*package.name));
    let newer = torch && long && scope.whole && libtorch::has_newer();
    let mut steps = Steps::new(
        8 + usize::from(torch)
            + 3 * usize::from(newer)
            + 2 * usize::from(pods)
            + usize::from(pods && long)
            + if scope.whole { 3 } else { 0 },
    );
    let work = root.join("target/xtask");
    fs::create_dir_all(&work).map_err(|error| format!("{}: {error}", work.display()))?;

    steps.step("tools", || {
        tools::component("fmt", "rustup component add rustfmt").find()?;
        tools::component("clippy", "rustup component add clippy").find()?;
        if torch {
            tools::compiler().find()?;
        }
        tools::python().find().map(drop)
    });
    if torch {
        steps.step("libtorch", || libtorch::ensure(root, Flavor::Cpu).map(drop));
    }
    let mut python = None;
    steps.step("Python packages of the judges (.venv-test)", || {
        python = Some(venv::ensure(root, &venv::JUDGES)?);
        Ok(())
    });
    let mut pytorch = None;
    if newer {
        steps.step("PyTorch of the long checks (.venv-torch)", || {
            pytorch = match std::env::var_os("KF_TORCH_PYTHON") {
                Some(python) => Some(python.into()),
                None => Some(venv::ensure(root, &venv::TORCH)?),
            };
            Ok(())
        });
    }
    steps.step("formatting", || scope.call("fmt", &["--check"], &[]));
    if scope.whole {
        steps.step("lints, default features", || scope.default_clippy());
    }
    steps.step("lints, all features", || scope.call("clippy", &["--all-targets", "--all-features"], DENY));
    steps.step("documentation", || scope.docs());
    steps.step("features", || scope.features());
    if scope.whole {
        let target = root.join("target/verify");
        steps.step("an empty crate with kf-pipeline: no C++, libtorch or OpenSSL", || {
            empty_crate::check(root, &target)
        });
        steps.step("packages", || package::check(root, &target));
        if cargo::in_ci() {
            // Nobody comes back to it, and the tests want the room.
            let _ = fs::remove_dir_all(&target);
        }
    }
    let mut heard = Heard::default();
    let (judges_file, conformance) = (work.join("judges.txt"), conformance(root));
    let required = std::env::var("KF_REQUIRE").unwrap_or_default();
    let environment = Environment { python, pytorch, long, judges: judges_file, conformance };
    steps.step("tests", || scope.tests(&environment, &mut heard));
    if newer {
        // No GPU is needed to build.
        steps.step("NCCL, against the headers of CUDA", || {
            let arguments = ["build", "-p", "kf-train", "--features", "nccl", "--example", "nccl_check"];
            let mut command = cargo::cargo_in(root, &arguments);
            command.env("LIBTORCH", libtorch::cuda()?).env("CARGO_TARGET_DIR", root.join("target/nccl"));
            scope.status(command)
        });
    }
    if pods {
        // Last, since a cluster keeps the machine busy, and other tests look at the clock.
        let mut cluster = None;
        steps.step("a cluster for pods", || {
            let named = std::env::var_os("KUBECONFIG").is_some_and(|list| !list.is_empty());
            if !named && !long && !required.contains("kubernetes") {
                eprintln!("    none: KF_REQUIRE does not name kubernetes, and this is not --long");
                return Ok(());
            }
            match TestCluster::find(root, CONTROLLERS)? {
                Ok(found) => cluster = Some(found),
                Err(why) => eprintln!("    none: {why}"),
            }
            Ok(())
        });
        steps.step("tests on the cluster", || {
            let mut command = scope.command("test", &["--all-features", "--test", "pods"], &[]);
            if let Some(cluster) = &cluster {
                command.env("KUBECONFIG", &cluster.kubeconfig);
            }
            environment.test(command, &mut heard)
        });
    }
    if pods && long {
        steps.step("tests on a cluster of their own", || {
            let cluster = match TestCluster::beside(root, &CONTROLLERS[..3])? {
                Ok(cluster) => cluster,
                Err(why) => {
                    for judge in ["older-kubernetes", "restarts"] {
                        heard.judges.add_line(&format!("JUDGE {judge} skipped: {why}"));
                    }
                    return Ok(());
                }
            };
            let failures: Vec<_> = ["older", "restarts"]
                .into_iter()
                .filter_map(|tests| {
                    let mut command = scope.command("test", &["--all-features", "--test", "pods"], &[]);
                    command.env("KUBECONFIG", &cluster.kubeconfig).env("KF_PODS", tests);
                    environment.test(command, &mut heard).err()
                })
                .collect();
            if failures.is_empty() { Ok(()) } else { Err(failures.join("\n    ")) }
        });
    }
    if newer {
        steps.step("training on a newer libtorch", || {
            let target = root.join("target/newer");
            let copy = newer::checkout(root, &target)?;
            environment.test(newer::tests(&copy, &target), &mut heard)
        });
    }
    steps.step("judges", || {
        // A part of the tests asks a part of the judges.
        let failures = heard.judges.failures(if scope.whole { &required } else { "" });
        if failures.is_empty() { Ok(()) } else { Err(failures.join("; ")) }
    });
    report(&steps, &heard, began)
}

fn chosen(packages: Vec<Package>, only: Option<&str>) -> Result<Vec<Package>, String> {
    let Some(only) = only else { return Ok(packages) };
    let names: Vec<_> = packages.iter().map(|package| package.name.clone()).collect();
    let chosen: Vec<_> = packages.into_iter().filter(|package| package.name == only).collect();
    if chosen.is_empty() {
        return Err(format!("there is no crate `{only}`; there are: {}", names.join(", ")));
    }
    Ok(chosen)
}

fn report(steps: &Steps, heard: &Heard, began: Instant) -> Result<(), String> {
    let Heard { counts, judges, failures: said } = heard;
    println!(
        "\nJudges\n{}",
        match judges.rows().as_slice() {
            [] => "  none was asked\n".to_owned(),
            rows => table::aligned(rows),
        }
    );
    println!("Steps\n{}", table::aligned(&steps.rows()));
    let failures: Vec<_> = steps
        .done
        .iter()
        .filter_map(|done| Some(format!("{}: {}", done.name, done.failed.as_ref()?)))
        .collect();
    println!("{} ignored; {} in all", counts.ignored, seconds(began.elapsed()));
    if !failures.is_empty() {
        let names: String = failures.iter().map(|failure| format!("  {failure}\n")).collect();
        println!("\nFailed\n{names}\n{}", said.told());
    }
    println!("{}", closing(counts, steps));
    if failures.is_empty() {
        Ok(())
    } else {
        Err(format!("{} of {} steps failed", failures.len(), steps.done.len()))
    }
}

/// The last line: tests, and beside the failed ones each other step that failed, so that it never tells of no
/// failure where there was one.
fn closing(counts: &Counts, steps: &Steps) -> String {
    let failed = steps.done.iter().filter(|done| done.failed.is_some());
    let others = failed.filter(|done| !done.name.starts_with("tests") || counts.failed == 0).count();
    format!("{} passed, {} failed", counts.passed, counts.failed + others as u64)
}

/// The crates with tests that run pods, all named `pods`, and the controllers that these want.
const PODS: &[&str] = &["kf-k8s", "examples"];
const CONTROLLERS: &[&str] = &["jobset", "trainer", "training-operator", "scheduler-plugins"];

/// Arguments of clippy that make warnings errors.
const DENY: &[&str] = &["--", "--deny", "warnings"];

/// What the tests find in their environment.
struct Environment {
    python: Option<PathBuf>,
    pytorch: Option<PathBuf>,
    long: bool,
    judges: PathBuf,
    conformance: Option<OsString>,
}

/// What was heard of all tests.
#[derive(Default)]
struct Heard {
    counts: Counts,
    judges: Judges,
    failures: Failures,
}

/// What is checked.
struct Scope<'a> {
    root: &'a Path,
    packages: Vec<Package>,
    whole: bool,
}

impl Scope<'_> {
    /// `cargo NAME` over the packages.
    fn call(&self, name: &str, arguments: &[&str], last: &[&str]) -> Result<(), String> {
        self.status(self.command(name, arguments, last))
    }

    fn command(&self, name: &str, arguments: &[&str], last: &[&str]) -> Command {
        let mut command = cargo::cargo_in(self.root, &[name]);
        match (self.whole, name) {
            (true, "fmt") => drop(command.arg("--all")),
            (true, _) => drop(command.arg("--workspace")),
            (false, _) => {
                command.args(self.packages.iter().flat_map(|package| ["--package", &package.name]));
            }
        }
        command.args(arguments).args(last);
        command
    }

    fn status(&self, mut command: Command) -> Result<(), String> {
        let status = command.status().map_err(|error| format!("cargo does not start: {error}"))?;
        if status.success() { Ok(()) } else { Err(format!("{}: {status}", told(&command))) }
    }

    /// Whether anything that is checked is built on libtorch.
    fn needs_torch(&self) -> Result<bool, String> {
        let command = self.command("tree", &["--all-features", "--prefix", "none"], &[]);
        let tree = cargo::output(command, "cargo tree")?;
        Ok(tree.lines().any(|line| line.starts_with("torch-sys ")))
    }

    /// What a plain `cargo build` covers, which no other package's wishes have made heavier.
    fn default_clippy(&self) -> Result<(), String> {
        self.status(cargo::cargo_in(self.root, &["clippy", "--all-targets", "--", "--deny", "warnings"]))
    }

    fn docs(&self) -> Result<(), String> {
        let mut command = self.command("doc", &["--no-deps", "--all-features"], &[]);
        command.env("RUSTDOCFLAGS", "--deny warnings");
        self.status(command)
    }

    /// Each published crate alone, since together they would give one another their features.
    fn features(&self) -> Result<(), String> {
        let mut failures = Vec::new();
        for package in self.packages.iter().filter(|package| package.published) {
            let sets: &[&[&str]] = match package.has_features {
                true => &[&["--no-default-features"], &[], &["--all-features"]],
                false => &[&[]],
            };
            for features in sets {
                let mut arguments = vec!["clippy", "--quiet", "--package", &package.name];
                arguments.extend(*features);
                arguments.extend(DENY);
                eprintln!("    {} {}", package.name, features.first().unwrap_or(&"--features default"));
                if self.status(cargo::cargo_in(self.root, &arguments)).is_err() {
                    let features = features.first().unwrap_or(&"--features default");
                    failures.push(format!("{} {features}", package.name));
                }
            }
        }
        if failures.is_empty() { Ok(()) } else { Err(failures.join("\n    ")) }
    }

    fn tests(&self, environment: &Environment, heard: &mut Heard) -> Result<(), String> {
        let mut command = self.command("test", &["--all-features", "--no-fail-fast"], &[]);
        command.env("KF_PODS", "later");
        environment.test(command, heard)
    }
}

impl Environment {
    /// Runs tests, and takes down what they tell.
    fn test(&self, mut command: Command, heard: &mut Heard) -> Result<(), String> {
        let _ = fs::remove_file(&self.judges);
        command.args(["--", "--show-output"]).env("KF_JUDGES", &self.judges);
        if let Some(python) = &self.python {
            command.env("KF_TEST_PYTHON", python);
        }
        if let Some(python) = &self.pytorch {
            command.env("KF_TORCH_PYTHON", python);
        }
        if self.long {
            command.env("KF_LONG", "1");
        }
        if let Some(folder) = &self.conformance {
            command.env("KF_CONFORMANCE", folder);
        }
        let failed_before = heard.counts.names.len();
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cargo does not start: {error}"))?;
        if let Some(output) = child.stdout.take() {
            read(BufReader::new(output), std::io::stdout(), |line| {
                heard.counts.add_line(line);
                heard.judges.add_line(line);
                heard.failures.add_line(line);
            });
        }
        let status = child.wait().map_err(|error| format!("cargo test: {error}"))?;
        heard.judges.add_file(&self.judges);
        if status.success() {
            return Ok(());
        }
        match &heard.counts.names[failed_before..] {
            [] => Err(format!("`cargo test`: {status}")),
            names => Err(names.join("\n    ")),
        }
    }
}

/// Passes on what a child prints, and looks at each line. What tests that passed have printed is for the look alone.
fn read(mut from: impl BufRead, mut to: impl Write, mut look: impl FnMut(&str)) {
    let mut line = Vec::new();
    let mut of_passed = false;
    while from.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        look(text);
        of_passed = match text {
            "successes:" => true,
            "failures:" => false,
            _ => of_passed && !text.starts_with("test result: "),
        };
        if !of_passed {
            // Nobody may be listening any more; the tests go on.
            let _ = to.write_all(&line);
        }
        line.clear();
    }
}

/// Upstream's data: what `KF_CONFORMANCE` names, or the folder beside the checkout, where it is there.
fn conformance(root: &Path) -> Option<OsString> {
    let named = std::env::var_os("KF_CONFORMANCE").filter(|folder| !folder.is_empty());
    let beside = root.parent()?.join("shared/conformance");
    named.or_else(|| beside.is_dir().then(|| beside.into_os_string()))
}

/// A command as one would type it.
fn told(command: &Command) -> String {
    let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy()).collect();
    format!("`cargo {}`", arguments.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_crate_lists_those_there_are() {
        let package = |name: &str| Package { name: name.to_owned(), published: true, has_features: false };
        let all = || vec![package("kf-core"), package("kf-serve")];
        assert_eq!(chosen(all(), None).unwrap().len(), 2);
        assert_eq!(chosen(all(), Some("kf-serve")).unwrap(), [package("kf-serve")]);
        assert!(chosen(all(), Some("serve")).unwrap_err().contains("kf-core, kf-serve"));
    }

    #[test]
    fn the_closing_line_never_hides_a_failure() {
        let mut steps = Steps::new(3);
        let counts = |passed, failed| Counts { passed, failed, ..Counts::default() };
        steps.step("tests", || Ok(()));
        assert_eq!(closing(&counts(7, 0), &steps), "7 passed, 0 failed");
        steps.step("lints", || Err("no".to_owned()));
        assert_eq!(closing(&counts(7, 0), &steps), "7 passed, 1 failed");

        let mut steps = Steps::new(1);
        steps.step("tests", || Err("2 failed".to_owned()));
        assert_eq!(closing(&counts(7, 2), &steps), "7 passed, 2 failed");
        assert_eq!(closing(&counts(0, 0), &steps), "0 passed, 1 failed", "it did not compile");
    }

    #[test]
    fn output_is_passed_on_and_looked_at() {
        let through = |text: &[u8]| {
            let (mut passed_on, mut lines) = (Vec::new(), Vec::new());
            read(text, &mut passed_on, |line| lines.push(line.to_owned()));
            (passed_on, lines)
        };
        let (passed_on, lines) = through(b"one\n\xff two\r\nthree");
        assert_eq!(passed_on, b"one\n\xff two\r\nthree");
        assert_eq!(lines, ["one", "\u{FFFD} two", "three"]);

        let (passed_on, lines) = through(
            b"a ok\nsuccesses:\nJUDGE x passed\nfailures:\nwhy\nsuccesses:\ny\ntest result: ok. 1\nmore\n",
        );
        assert_eq!(passed_on, b"a ok\nfailures:\nwhy\ntest result: ok. 1\nmore\n");
        assert_eq!(lines.len(), 9);
    }
}
