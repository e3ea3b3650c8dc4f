//! Steps per second of data-parallel training on two ranks of one thread each, over Gloo and over shared memory; beside
//! PyTorch's DistributedDataParallel under torchrun, and beside as much computing without an exchange.
//!
//! Both sides have the same libtorch, models, parameters, batches and buckets, and come to the same losses. Runs take
//! turns, so that what else the machine does hits all.

mod measure;
mod models;

use std::collections::BTreeMap;
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use benches::torchrun::{self, Torchrun};
use benches::{Measured, Table};
use kf_core::worker::{Workers, run_if_asked};
use kf_train::{Job, LocalLauncher, ranks};
use serde::Deserialize;

use self::measure::{Asked, Figures, Way, Work, measure};
use self::models::Model;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const ROUNDS: usize = 7;
const LIMIT: Duration = Duration::from_secs(120);

#[derive(Debug, Deserialize)]
struct Peer {
    torch: String,
    measured: BTreeMap<String, Figures>,
}

/// What ran, of all the rounds: by who, model and way.
#[derive(Debug, Default)]
struct Runs(BTreeMap<(&'static str, String), Vec<Figures>>);

impl Runs {
    fn add(&mut self, who: &'static str, name: &str, figures: Figures) {
        self.0.entry((who, name.to_owned())).or_default().push(figures);
    }

    fn of(&self, who: &'static str, name: &str) -> &[Figures] {
        self.0.get(&(who, name.to_owned())).map_or(&[], Vec::as_slice)
    }

    fn rates(&self, who: &'static str, name: &str, told: String) -> Option<Measured> {
        let runs = self.of(who, name);
        (!runs.is_empty()).then(|| Measured::new(told, "steps/s", runs.iter().map(|run| run.rate).collect()))
    }
}

const GLOO: &str = "Gloo";
const SHARED: &str = "shared memory";
const TORCH: &str = "PyTorch DDP, Gloo";

const MODELS: [(&str, Model, usize, usize); 2] =
    [("MLP", Model::Mlp, 10, 60), ("transformer", Model::Transformer, 4, 12)];

fn asked() -> Vec<Asked> {
    let mut all = Vec::new();
    for (name, model, warm_up, steps) in MODELS {
        for (way, told) in [(Way::Default, "default"), (Way::Views, "views"), (Way::Alone, "alone")] {
            all.push(Asked { name: format!("{name}, {told}"), model, way, warm_up, steps });
        }
    }
    all
}

async fn run() -> Outcome<Table> {
    let python = torchrun::python();
    let asked = asked();
    let mut runs = Runs::default();
    let mut version = None;
    for round in 0..ROUNDS {
        eprintln!("round {} of {ROUNDS}", round + 1);
        for (who, shared_memory) in [(GLOO, false), (SHARED, true)] {
            let folder = tempfile::tempdir()?;
            let work = Work { shared_memory, asked: asked.clone() };
            let job = Job::ranks("measure", 2).args(&work).threads_per_rank(1).timeout(LIMIT);
            let figures: Vec<Figures> = LocalLauncher::new(folder.path()).run(job).await?;
            asked.iter().zip(figures).for_each(|(asked, figures)| runs.add(who, &asked.name, figures));
        }
        let Some(python) = &python else { continue };
        let text = serde_json::to_string(&asked)?;
        let output = Torchrun::start(python, "torch_ddp.py", &[], &[&text])?.output(LIMIT)?;
        let peer: Peer = serde_json::from_str(output.trim())?;
        version = Some(peer.torch);
        peer.measured.into_iter().for_each(|(name, figures)| runs.add(TORCH, &name, figures));
    }
    table(&runs, version)
}

fn table(runs: &Runs, version: Option<String>) -> Outcome<Table> {
    let mut table = Table::default();
    for (model, ..) in MODELS {
        for (way, told, fused) in [("default", "", ""), ("views", ", views", ", views, fused optimizer")] {
            let name = format!("{model}, {way}");
            for (who, target) in [(GLOO, "≥ 1.0"), (SHARED, "> 1.15")] {
                let ours =
                    runs.rates(who, &name, format!("{model}, {who}{told}")).ok_or("nothing was measured")?;
                let peer = runs.rates(TORCH, &name, format!("  {TORCH}{fused}"));
                table.add(ours, peer, if way == "default" { target } else { "" });
            }
        }
        // An option of ours that costs its users nothing, beside PyTorch as it is.
        let ours = runs.rates(SHARED, &format!("{model}, views"), format!("{model}, {SHARED}, views"));
        let peer = runs.rates(TORCH, &format!("{model}, default"), format!("  {TORCH}, as it is"));
        table.add(ours.ok_or("nothing was measured")?, peer, "> 1.15");
        let name = format!("{model}, alone");
        let ours =
            runs.rates(GLOO, &name, format!("{model}, without an exchange")).ok_or("nothing was measured")?;
        table.add(ours, runs.rates(TORCH, &name, "  PyTorch, without an exchange".into()), "");
    }
    for (model, ..) in MODELS {
        for who in [GLOO, SHARED, TORCH] {
            let rate = |who, way: &str| {
                runs.rates(who, &format!("{model}, {way}"), String::new()).map(|rates| rates.median())
            };
            let alone = rate(if who == TORCH { TORCH } else { GLOO }, "alone");
            if let (Some(rate), Some(alone)) = (rate(who, "default"), alone) {
                table.note(format!("{model}, {who}: {:.0} % of computing alone", 100.0 * rate / alone));
            }
        }
        table.note(losses(runs, &format!("{model}, default"))?);
    }
    table.note("MLP: 784-1024-1024-10, batches of 64 a rank, SGD with momentum; 7.5 MB of gradients");
    table.note("transformer: 4 layers of 256, batches of 8 × 64 tokens a rank, AdamW; 14.8 MB of gradients");
    table
        .note("views: gradients are views into the buckets. PyTorch's optimizers are fused only where asked");
    table.note(match version {
        Some(version) => format!("PyTorch {version}"),
        None => "without PyTorch: no Python at KF_TORCH_PYTHON or KF_TEST_PYTHON that has it".into(),
    });
    Ok(table)
}

/// Tells how far the loss has come on each side; one that came to another place has computed something else.
fn losses(runs: &Runs, name: &str) -> Outcome<String> {
    let mut told = Vec::new();
    let mut all: Vec<Figures> = Vec::new();
    for who in [GLOO, SHARED, TORCH] {
        let Some(run) = runs.of(who, name).first() else { continue };
        told.push(format!("{:.5} to {:.5} ({who})", run.first, run.last));
        all.extend(runs.of(who, name));
    }
    let told = format!("{name}: the loss goes from {}", told.join(", "));
    let near = |one: f64, other: f64| (one - other).abs() <= 0.01 * other.abs();
    match all
        .iter()
        .all(|run| near(run.first, all[0].first) && near(run.last, all[0].last) && run.last < run.first)
    {
        true => Ok(told),
        false => Err(format!("{told}; these should be the same: {all:?}").into()),
    }
}

fn main() -> ExitCode {
    if let Some(code) = run_if_asked(&Workers::new().with(ranks("measure", measure))) {
        return code;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    match runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(run())) {
        Ok(table) => {
            table.print();
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("ddp: {error}");
            ExitCode::FAILURE
        }
    }
}
