//! What frameworks themselves make of their contracts: XGBoost, JAX and `mpirun` started with them.
//!
//! Each is a judge, skipped with a word where it is not installed.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use kf_train::contract::{Address, Env, Framework, Launch, Node, Placement};
use kf_train::{Job, JobHandle, Launcher as _, LocalLauncher};
use libtest_mimic::Trial;
use tokio::process::Command;

/// How long all processes of a test may take.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn trials() -> Vec<Trial> {
    let judge = |name, test: fn() -> Result<(), String>| {
        Trial::test(format!("contracts::{name}"), move || {
            match test() {
                Ok(()) => println!("JUDGE {name} passed"),
                Err(why) => println!("JUDGE {name} skipped: {why}"),
            }
            Ok(())
        })
    };
    vec![
        judge("xgboost", || block_on(xgboost(python("xgboost")?))),
        judge("jax", || block_on(jax(python("jax")?))),
        judge("mpi-openmpi", || block_on(open_mpi(mpirun("mpirun".into(), "Open MPI")?))),
        judge("mpi-mpich", || {
            block_on(hydra(mpirun(beside_python("mpiexec.hydra")?, "HYDRA")?, Framework::Mpich))
        }),
        judge("intel-mpi", || {
            block_on(hydra(mpirun(beside_python("mpiexec.hydra")?, "Intel(R) MPI")?, Framework::IntelMpi))
        }),
    ]
}

fn block_on(test: impl Future<Output = ()>) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await }).expect("not done in time");
    Ok(())
}

/// Two workers with half the data each come to one model.
async fn xgboost(python: PathBuf) {
    let [first, second] = all_ranks(&python, "xgboost_train.py", Framework::XgBoost).await;
    let (digest, same) = (first.strip_prefix("0 2 "), second.strip_prefix("1 2 "));
    assert!(digest.is_some_and(|digest| digest.len() == 64), "{first}");
    assert_eq!(digest, same);
}

/// Two processes add what each has.
async fn jax(python: PathBuf) {
    let told = all_ranks(&python, "jax_sum.py", Framework::Jax).await;
    assert_eq!(told, ["0 2 2 11.0", "1 2 2 11.0"]);
}

/// What each of two ranks of a local job says after `RESULT`.
async fn all_ranks(python: &Path, file: &str, framework: Framework) -> [String; 2] {
    let dir = tempfile::tempdir().unwrap();
    let launcher = LocalLauncher::new(dir.path());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/judges").join(file);
    let job = Job::command(python.to_str().unwrap(), [script.to_str().unwrap()], 2).framework(framework);
    launcher.run::<()>(job.env("JAX_PLATFORMS", "cpu").attempt_id(file)).await.unwrap();
    let handle = JobHandle::new("local", file);
    let [first, second] = [0, 1].map(async |rank| {
        let log = launcher.logs(&handle, rank).await.unwrap();
        let result = log.lines().find_map(|line| line.strip_prefix("RESULT ").map(str::to_owned));
        result.unwrap_or_else(|| panic!("no result in {log}"))
    });
    [first.await, second.await]
}

/// `mpirun` starts as many ranks on this machine as the hostfile says, and no more; and would start those of two nodes
/// where the placement has them.
async fn open_mpi(mpirun: PathBuf) {
    // A container may have fewer cores than ranks.
    let options = ["--allow-run-as-root", "--bind-to", "none"];
    let says =
        "echo RANK $OMPI_COMM_WORLD_RANK of $OMPI_COMM_WORLD_SIZE, $OMPI_COMM_WORLD_LOCAL_RANK, mine: $MINE";
    let launcher =
        |options| Launcher { program: &mpirun, framework: Framework::OpenMpi, options, env: &[], says };
    let here = placed(vec![Node::new("localhost", 2)]);
    let said = launcher(&options).run(&here, None).await;
    assert_eq!(said.ranks(), ["RANK 0 of 2, 0, mine: x y", "RANK 1 of 2, 1, mine: x y"], "{said:?}");
    let said = launcher(&options).run(&here, Some("3")).await;
    assert!(!said.succeeded && said.err.contains("not enough slots"), "{said:?}");

    // Two of Open MPI's daemons on one machine get in each other's way: these are not started.
    let options = [&options[..], &["--display-map", "--do-not-launch"]].concat();
    let two = placed(vec![Node::new("node-a", 1), Node::new("node-b", 3)]);
    let said = launcher(&options).run(&two, None).await;
    let mut map: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in said.out.lines() {
        if let Some((_, node)) = line.split_once("Data for node: ") {
            map.push((node.split_whitespace().next().unwrap(), Vec::new()));
        }
        // Open MPI 4 and 5.
        let rank = line.split_once("Process rank: ").or_else(|| line.split_once("App rank: "));
        if let (Some((_, rank)), Some((_, ranks))) = (rank, map.last_mut()) {
            ranks.push(rank.split_whitespace().next().unwrap());
        }
    }
    assert_eq!(map, [("node-a", vec!["0"]), ("node-b", vec!["1", "2", "3"])], "{said:?}");
}

/// MPICH and Intel MPI start the ranks of two nodes where the placement has them.
async fn hydra(mpiexec: PathBuf, framework: Framework) {
    let launcher = Launcher {
        program: &mpiexec,
        framework,
        options: &[],
        env: &[
            ("HYDRA_LAUNCHER", "ssh"),
            ("HYDRA_LAUNCHER_EXEC", "AGENT"),
            ("HYDRA_IFACE", "lo"),
            ("I_MPI_HYDRA_BOOTSTRAP", "ssh"),
            ("I_MPI_HYDRA_BOOTSTRAP_EXEC", "AGENT"),
            ("I_MPI_HYDRA_IFACE", "lo"),
        ],
        says: "echo RANK $PMI_RANK of $PMI_SIZE, $MPI_LOCALRANKID of $MPI_LOCALNRANKS, mine: $MINE",
    };
    for (nodes, sizes) in [([2, 2], [2, 2, 2, 2]), ([1, 3], [1, 3, 3, 3])] {
        let placement = placed(vec![Node::new("node-a", nodes[0]), Node::new("node-b", nodes[1])]);
        let said = launcher.run(&placement, None).await;
        let expected = placement.places().zip(sizes).map(|(place, size)| {
            format!("RANK {} of 4, {} of {size}, mine: x y", place.rank, place.local_rank)
        });
        assert_eq!(said.ranks(), expected.collect::<Vec<_>>(), "{said:?}");
        let patient = said.agent.lines().filter(|line| line.contains("-o ConnectionAttempts=10 "));
        assert_eq!(patient.count(), 2, "{said:?}");
    }
}

/// Takes the place of ssh: notes how it was called, and runs here what was to run on the host.
const AGENT: &str = r#"#!/bin/sh
echo "$*" >>"$0.log"
while :; do case $1 in -o) shift 2 ;; -*) shift ;; *) break ;; esac; done
shift
eval "$*"
"#;

/// An `mpirun`, with what a test gives it beside the contract. The value `AGENT` is the path of that program.
struct Launcher<'a> {
    program: &'a Path,
    framework: Framework,
    options: &'a [&'a str],
    env: &'a [(&'a str, &'a str)],
    /// What each rank runs.
    says: &'a str,
}

#[derive(Debug)]
struct Said {
    succeeded: bool,
    out: String,
    err: String,
    /// How the agent was called.
    agent: String,
}

impl Said {
    /// The ranks' lines, in order.
    fn ranks(&self) -> Vec<&str> {
        let mut lines: Vec<_> = self.out.lines().filter(|line| line.starts_with("RANK ")).collect();
        lines.sort_unstable();
        lines
    }
}

impl Launcher<'_> {
    /// Starts the placement's ranks, or another count of ranks on its nodes.
    async fn run(&self, placement: &Placement, count: Option<&str>) -> Said {
        let dir = tempfile::tempdir().unwrap();
        let job_env = Env::from([("MINE".to_owned(), "x y".to_owned())]);
        let Launch { mut args, env, files } =
            self.framework.launch(placement, dir.path().to_str().unwrap(), &job_env).unwrap();
        if let (Some(count), Some(told)) = (count, args.iter_mut().find(|arg| arg.parse::<usize>().is_ok())) {
            count.clone_into(told);
        }
        for (path, content) in files {
            std::fs::write(path, content).unwrap();
        }
        let agent = executable(dir.path(), "agent");
        let mut command = Command::new(self.program);
        command.args(self.options).args(args).args(["sh", "-c", self.says]).envs(env);
        command.envs(
            self.env.iter().map(|&(name, value)| (name, if value == "AGENT" { &*agent } else { value })),
        );
        // Where mpirun keeps its sockets.
        command.env("TMPDIR", dir.path()).stdin(Stdio::null()).kill_on_drop(true);
        let output = command.output().await.unwrap();
        let [out, err] =
            [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        let agent = std::fs::read_to_string(agent + ".log").unwrap_or_default();
        Said { succeeded: output.status.success(), out, err, agent }
    }
}

fn executable(folder: &Path, name: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join(name);
    std::fs::write(&path, AGENT).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

fn placed(nodes: Vec<Node>) -> Placement {
    let master = Address::new(nodes[0].host.clone(), 29500);
    Placement::new("fit", "run-1", nodes, master).unwrap()
}

/// The Python that `KF_TEST_PYTHON` names, where it has this module.
fn python(module: &str) -> Result<PathBuf, String> {
    let python = PathBuf::from(std::env::var_os("KF_TEST_PYTHON").ok_or("KF_TEST_PYTHON names no Python")?);
    let found = std::process::Command::new(&python).args(["-c", &format!("import {module}")]).output();
    match found {
        Ok(output) if output.status.success() => Ok(python),
        Ok(_) => Err(format!("{} has no {module}", python.display())),
        Err(error) => Err(format!("{} can't be run: {error}", python.display())),
    }
}

/// A program of a package that is installed for the Python that `KF_TEST_PYTHON` names.
fn beside_python(program: &str) -> Result<PathBuf, String> {
    let python = std::env::var_os("KF_TEST_PYTHON").ok_or("KF_TEST_PYTHON names no Python")?;
    Ok(Path::new(&python).with_file_name(program))
}

/// The program, where it can be run and is this implementation's.
fn mpirun(program: PathBuf, implementation: &str) -> Result<PathBuf, String> {
    let name = program.display();
    match std::process::Command::new(&program).arg("--version").output() {
        Ok(output) if String::from_utf8_lossy(&output.stdout).contains(implementation) => Ok(program),
        Ok(_) => Err(format!("{name} is not of {implementation}")),
        Err(error) => Err(format!("{name} can't be run: {error}")),
    }
}
