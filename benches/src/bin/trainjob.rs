//! Two ranks in pods until their first all-reduce: launched, beside the same objects made bare.

use std::process::ExitCode;

use benches::Table;
use benches::pods::Outcome;
use benches::pods::cluster::{self, Namespace};
use benches::pods::jobs::{self, Jobs};
use kf_core::worker::{Workers, run_if_asked};
use kf_k8s::train::Kind;
use kf_train::{Backend, ProcessGroup, Rank, ReduceOp};
use tch::{Device, Kind as Type, Tensor};

const JOBS: Jobs = Jobs {
    entry: "reduce",
    until: "their first all-reduce",
    kinds: &[Kind::TrainJob, Kind::Job],
    turns: None,
};

fn reduce(rank: &Rank, witness: String) -> Outcome<()> {
    tch::set_num_threads(1);
    let group = ProcessGroup::join(rank, Backend::Gloo)?;
    let mut sum = Tensor::ones([1], (Type::Float, Device::Cpu));
    group.all_reduce(&mut sum, ReduceOp::Sum)?;
    Ok(jobs::tell(rank, &witness)?)
}

fn main() -> ExitCode {
    if let Some(code) = run_if_asked(&Workers::new().with(kf_train::ranks(JOBS.entry, reduce))) {
        return code;
    }
    match bench() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("trainjob: {error}");
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
    let mut table = Table::default();
    let namespace = Namespace::new(&client, "trainjob").await?;
    let measured = tokio::select! {
        measured = measure(&namespace, &mut table) => measured,
        _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
    };
    namespace.remove().await?;
    measured?;
    table.print();
    Ok(())
}

async fn measure(namespace: &Namespace, table: &mut Table) -> Outcome<()> {
    namespace.import()?;
    jobs::measure(namespace, &JOBS, table).await
}
