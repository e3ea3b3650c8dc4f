//! Tasks and jobs as pods of a cluster, beside the same pods and objects made bare: one task, a chain of them, thousands on
//! simulated nodes, and jobs of two ranks until these have begun.
//!
//! `pods` measures all, `pods task`, `pods thousands` and `pods jobs` a part; `--turns N` says how often, and `--tasks N` how
//! many thousands are, where the usual numbers are too much.

mod bare;
mod count;
mod process;
mod simulated;
mod single;
mod store;
mod thousands;

use std::process::ExitCode;

use benches::Table;
use benches::pods::Outcome;
use benches::pods::cluster::{self, Namespace};
use benches::pods::jobs::{self, Jobs};
use kf_core::worker::{Workers, run_if_asked};
use kf_k8s::train::Kind;
use kf_pipeline::Components;
use kf_pipeline::remote::RemoteTasks;
use kf_train::Rank;

/// The entry of ranks that tell that they have begun, and no more.
const ARRIVE: &str = "arrive";

/// What is to be measured.
struct Asked {
    part: Option<String>,
    turns: Option<usize>,
    tasks: Option<usize>,
}

impl Asked {
    fn of_arguments() -> Self {
        let mut asked = Self { part: None, turns: None, tasks: None };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--turns" => asked.turns = arguments.next().and_then(|turns| turns.parse().ok()),
                "--tasks" => asked.tasks = arguments.next().and_then(|tasks| tasks.parse().ok()),
                "--json" => {}
                _ => asked.part = Some(argument),
            }
        }
        asked
    }

    fn wants(&self, part: &str) -> bool {
        self.part.as_deref().is_none_or(|asked| asked == part)
    }

    fn turns(&self, usual: usize) -> usize {
        self.turns.unwrap_or(usual).max(1)
    }

    /// How many are many, and a tenth of them.
    fn tasks(&self, usual: usize) -> (usize, usize) {
        let many = self.tasks.unwrap_or(usual).max(10);
        (many, many / 10)
    }
}

fn main() -> ExitCode {
    let components = Components::new().with::<single::nothing>().with::<single::pass>();
    let tasks = RemoteTasks::new(components, store::of_a_pod);
    let arrive = kf_train::ranks(ARRIVE, |rank: &Rank, witness: String| jobs::tell(rank, &witness));
    if let Some(code) = run_if_asked(&Workers::new().with(tasks).with(arrive).with(thousands::worker())) {
        return code;
    }
    match bench() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pods: {error}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn bench() -> Outcome<()> {
    let client = match cluster::client().await {
        Ok(client) => client,
        Err(why) => {
            println!("skipped: {why}");
            return Ok(());
        }
    };
    let asked = Asked::of_arguments();
    let mut table = Table::default();
    let namespace = Namespace::new(&client, "pods").await?;
    let measured = tokio::select! {
        measured = measure(&namespace, &asked, &mut table) => measured,
        _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
    };
    simulated::stop(&client).await?;
    namespace.remove().await?;
    measured?;
    let version = client.apiserver_version().await?.git_version;
    table.note(format!("kf-k8s {}; Kubernetes {version}", env!("CARGO_PKG_VERSION")));
    table.print();
    Ok(())
}

async fn measure(namespace: &Namespace, asked: &Asked, table: &mut Table) -> Outcome<()> {
    if asked.wants("task") || asked.wants("jobs") {
        namespace.import()?;
    }
    if asked.wants("task") {
        match store::start(namespace).await {
            Ok(server) => single::measure(namespace, &server, asked, table).await?,
            Err(why) => table.note(format!("without single tasks: {why}")),
        }
    }
    if asked.wants("thousands") {
        thousands::measure(namespace, asked, table).await?;
    }
    if asked.wants("jobs") {
        let kinds = &[Kind::Job, Kind::JobSet, Kind::TrainJob, Kind::PyTorchJob];
        let jobs = Jobs { entry: ARRIVE, until: "both have begun", kinds, turns: asked.turns };
        jobs::measure(namespace, &jobs, table).await?;
        table.note(
            "ranks have begun when their functions run; `trainjob` measures until their first all-reduce",
        );
    }
    Ok(())
}
