//! What of NCCL works on this machine: `cargo run -p kf-train --features nccl --example nccl_check`.
//!
//! Needs one GPU, and uses one: worlds of one rank check every collective's values and training, worlds of two whose
//! second rank is absent check that nothing waits for ever. Each check has processes of its own. Ends with a table, and
//! with 1 unless all passed.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use kf_core::worker::{Workers, run_if_asked};
use kf_train::{
    Backend, DdpOptions, DistributedDataParallel, Error, GroupOptions, Job, LocalLauncher, ProcessGroup,
    Rank, ReduceOp, ranks,
};
use tch::nn::{Module, OptimizerConfig};
use tch::{Device, Kind, Tensor, nn};

type Checked = Result<String, Box<dyn std::error::Error + Send + Sync>>;

/// What each rank of a check does; rank 0 tells what it saw.
type Check = fn(&Rank) -> Checked;

/// By name, with how many ranks.
const CHECKS: &[(&str, usize, Check)] = &[
    ("a GPU is there", 1, gpu),
    ("values of every collective", 1, values),
    ("tensors elsewhere are refused", 1, refusals),
    ("a training makes the plain one's steps", 1, training),
    ("time that runs out in a collective", 1, late_collective),
    ("time that runs out in a backward pass", 1, late_backward),
    ("a backward pass that fails half-way", 1, half_a_backward),
    ("a GPU that is not there", 1, no_such_gpu),
    ("a rank that never comes", 2, never_comes),
    ("a rank that comes and never connects", 2, never_connects),
    ("two ranks on one GPU", 2, one_gpu_for_two),
];
/// None takes as long.
const LIMIT: Duration = Duration::from_secs(90);

fn main() -> ExitCode {
    let workers = CHECKS.iter().fold(Workers::new(), |workers, &(name, _, check)| {
        workers.with(ranks(name, move |rank: &Rank, (): ()| check(rank)))
    });
    if let Some(code) = run_if_asked(&workers) {
        return code;
    }
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool, Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let runtime = tokio::runtime::Runtime::new()?;
    let mut rows = Vec::new();
    for &(name, world_size, _) in CHECKS {
        let began = Instant::now();
        let launcher = LocalLauncher::new(folder.path());
        let job = Job::ranks(name, world_size).on_line(|line| println!("  {line}"));
        println!("{name} …");
        let outcome =
            runtime.block_on(async { tokio::time::timeout(LIMIT, launcher.run::<String>(job)).await });
        let (passed, told) = match outcome {
            Ok(Ok(told)) => (true, told),
            Ok(Err(error)) => (false, error.to_string()),
            Err(_) => (false, format!("still not done after {LIMIT:?}")),
        };
        println!("  {}: {told}", if passed { "passed" } else { "FAILED" });
        rows.push((name, passed, began.elapsed(), told));
    }
    println!("\nNCCL");
    for (name, passed, took, told) in &rows {
        let state = if *passed { "passed" } else { "FAILED" };
        let first = told.lines().next().unwrap_or_default();
        println!("  {name:<42} {state}  {:>6.2} s  {first}", took.as_secs_f64());
    }
    let failed = rows.iter().filter(|row| !row.1).count();
    println!("{} passed, {failed} failed", rows.len() - failed);
    Ok(failed == 0)
}

fn group(rank: &Rank, seconds: f64) -> kf_train::Result<ProcessGroup> {
    let timeout = Duration::from_secs_f64(seconds);
    let join_timeout = Duration::from_secs(30);
    ProcessGroup::join_with(
        rank,
        Backend::Nccl,
        GroupOptions { timeout, join_timeout, gpu: Some(0), ..GroupOptions::default() },
    )
}

fn expect(what: &str, holds: bool) -> Result<(), String> {
    if holds { Ok(()) } else { Err(format!("not so: {what}")) }
}

fn gpu(rank: &Rank) -> Checked {
    let group = group(rank, 60.0)?;
    expect("the group is on GPU 0", group.device() == Device::Cuda(0))?;
    let sum = Tensor::ones([1000, 1000], (Kind::Float, group.device())).sum(Kind::Double).double_value(&[]);
    expect("a sum on the GPU", sum == 1e6)?;
    let began = Instant::now();
    drop(group);
    let took = began.elapsed();
    expect(&format!("a group is left at once, not after {took:?}"), took < Duration::from_secs(3))?;
    let (gpus, cudnn) = (tch::Cuda::device_count(), tch::Cuda::cudnn_is_available());
    Ok(format!("{gpus} GPU(s), cuDNN {cudnn}; a group is left in {:.0} ms", took.as_secs_f64() * 1e3))
}

fn values(rank: &Rank) -> Checked {
    let group = group(rank, 60.0)?;
    let mut done = 0;
    for kind in [Kind::Float, Kind::Double, Kind::Half, Kind::BFloat16, Kind::Int64] {
        // Of one rank all is the identity: that outputs are written, whole, of the right shape and nobody's view.
        let given = || (Tensor::arange(6, (kind, group.device())) - 2).view([2, 3]);
        let unwritten = |shape: &[i64]| Tensor::full(shape, 99, (kind, group.device()));
        let mut check = |what: &str, found: Tensor, expected: Tensor| {
            done += 1;
            let same =
                found.size() == expected.size() && found.equal(&expected) && found.device() == group.device();
            expect(&format!("{what} of {kind:?}"), same)
        };
        let mut tensor = given();
        group.broadcast(&mut tensor, 0)?;
        check("broadcast", tensor, given())?;
        let mut ops = vec![ReduceOp::Sum, ReduceOp::Min, ReduceOp::Max];
        if kind != Kind::Int64 {
            ops.push(ReduceOp::Avg);
        }
        for op in ops {
            let (mut all, mut one) = (given(), given());
            group.all_reduce(&mut all, op)?;
            check("all_reduce", all, given())?;
            group.reduce(&mut one, 0, op)?;
            check("reduce", one, given())?;
            check("reduce_scatter", group.reduce_scatter(&given(), op)?, given())?;
        }
        check("all_gather", group.all_gather(&given())?, given().unsqueeze(0))?;
        let mut whole = unwritten(&[1, 2, 3]);
        group.all_gather_into(&mut whole, &given())?;
        check("all_gather_into", whole, given().unsqueeze(0))?;
        check("gather", group.gather(&given(), 0)?.ok_or("no tensor on the root")?, given().unsqueeze(0))?;
        let mut part = unwritten(&[2, 3]);
        group.scatter(&mut part, Some(&given().unsqueeze(0)), 0)?;
        check("scatter", part, given())?;
        check("all_to_all", group.all_to_all(&given())?, given())?;
        let mut input = given();
        let outputs = [
            group.all_to_all(&input)?,
            group.reduce_scatter(&input, ReduceOp::Sum)?,
            group.all_gather(&input)?.squeeze_dim(0),
        ];
        let _ = input.fill_(7);
        for output in outputs {
            check("an output that is the input's view", output, given())?;
        }
    }
    group.barrier()?;
    let mut big = Tensor::ones([64 << 20], (Kind::Float, group.device()));
    group.all_reduce(&mut big, ReduceOp::Sum)?;
    expect("a big sum", big.sum(Kind::Double).double_value(&[]) == (64 << 20) as f64)?;
    let mut small = Tensor::ones([1], (Kind::Float, group.device()));
    let began = Instant::now();
    for _ in 0..1000 {
        group.all_reduce(&mut small, ReduceOp::Sum)?;
    }
    Ok(format!("{done} results and a barrier; a call takes {:.0} µs", began.elapsed().as_secs_f64() * 1e3))
}

fn refusals(rank: &Rank) -> Checked {
    let group = group(rank, 60.0)?;
    let mut here = Tensor::from_slice(&[1.0_f32]);
    let refused = |result: kf_train::Result<()>| match result {
        Err(error @ Error::Tensor { .. }) => Ok(error.to_string()),
        other => Err(format!("not refused: {other:?}")),
    };
    let text = refused(group.all_reduce(&mut here, ReduceOp::Sum))?;
    let mut there = here.to_device(group.device());
    refused(group.send(&there, 0))?;
    refused(group.recv(&mut there, 1))?;
    refused(group.broadcast(&mut Tensor::ones([2, 3], (Kind::Float, group.device())).tr(), 0))?;
    // The group is none the worse for it.
    group.all_reduce(&mut there, ReduceOp::Sum)?;
    Ok(text)
}

fn training(rank: &Rank) -> Checked {
    let group = group(rank, 60.0)?;
    let fit = |ddp_options: Option<DdpOptions>| -> Result<Tensor, Box<dyn std::error::Error + Send + Sync>> {
        tch::manual_seed(7);
        let vs = nn::VarStore::new(group.device());
        let net = nn::seq()
            .add(nn::linear(vs.root() / "a", 64, 512, nn::LinearConfig::default()))
            .add_fn(|xs| xs.relu())
            .add(nn::linear(vs.root() / "b", 512, 10, nn::LinearConfig::default()));
        let x = (Tensor::arange(128 * 64, (Kind::Float, group.device())).view([128, 64]) * 0.7).sin();
        let y = Tensor::arange(128, (Kind::Int64, group.device())).remainder(10);
        let mut optimizer = nn::Sgd { momentum: 0.9, ..nn::Sgd::default() }.build(&vs, 0.1)?;
        let ddp = match ddp_options {
            Some(options) => Some(DistributedDataParallel::with_options(&vs, &group, options)?),
            None => None,
        };
        for _ in 0..20 {
            let loss = net.forward(&x).cross_entropy_for_logits(&y);
            match &ddp {
                Some(ddp) => ddp.backward_step(&mut optimizer, &loss)?,
                None => optimizer.backward_step(&loss),
            }
        }
        let all: Vec<_> =
            vs.trainable_variables().iter().map(|tensor| tensor.detach().flatten(0, -1)).collect();
        Ok(Tensor::cat(&all, 0))
    };
    let plain = fit(None)?;
    let views = DdpOptions {
        gradient_views: true,
        first_bucket_bytes: 64,
        bucket_bytes: 1024,
        ..DdpOptions::default()
    };
    let mut told = Vec::new();
    for (name, options) in [("copies", DdpOptions::default()), ("views, small buckets", views)] {
        let difference = (fit(Some(options))? - &plain).abs().max().double_value(&[]);
        expect(&format!("parameters as of plain training, {name}: off by {difference}"), difference < 1e-5)?;
        told.push(format!("{name}: off by {difference:.1e}"));
    }
    Ok(told.join("; "))
}

/// Some six seconds of work for the GPU, behind which a collective has to wait.
fn busy(device: Device) -> Tensor {
    let side = Tensor::ones([8192, 8192], (Kind::Float, device)) / 8192.0;
    let product = |times: usize| (0..times).fold(side.shallow_clone(), |product, _| product.matmul(&side));
    product(1).sum(Kind::Float).double_value(&[]);
    let began = Instant::now();
    product(3).sum(Kind::Float).double_value(&[]);
    let one = began.elapsed().as_secs_f64() / 3.0;
    product(((6.0 / one) as usize).clamp(1, 900))
}

/// The error, which came when the time of 1 s was over, and after that soon: a collective's only when the GPU has done what
/// it was at, since CUDA lets nothing else happen while NCCL ends.
fn late(result: kf_train::Result<()>, began: Instant, operation: &str) -> Result<String, String> {
    let text = match result {
        Err(error @ Error::CollectiveTimedOut { .. }) => error.to_string(),
        other => return Err(format!("no timeout: {other:?} after {:?}", began.elapsed())),
    };
    let took = began.elapsed();
    let most = Duration::from_secs(if operation == "backward" { 3 } else { 9 });
    expect(&format!("soon after its time: after {took:?}"), took < most)?;
    expect(&format!("names what, who and how long: {text}"), {
        text.starts_with(&format!("{operation} was not done on rank 0 within 1s"))
    })?;
    Ok(text)
}

fn late_collective(rank: &Rank) -> Checked {
    let first = group(rank, 1.0)?;
    let _product = busy(first.device());
    let mut tensor = Tensor::ones([4], (Kind::Float, first.device()));
    let began = Instant::now();
    let text = late(first.all_reduce(&mut tensor, ReduceOp::Sum), began, "all_reduce")?;
    let took = began.elapsed();
    let again = match first.all_reduce(&mut tensor, ReduceOp::Sum) {
        Err(error @ Error::Collective { .. }) => error.to_string(),
        other => return Err(format!("the group is of use yet: {other:?}").into()),
    };
    expect(&format!("says that it was ended before: {again}"), again.contains("by an earlier failure"))?;
    drop(first);
    let second = group(rank, 60.0)?;
    let mut tensor = Tensor::ones([4], (Kind::Float, second.device()));
    second.all_reduce(&mut tensor, ReduceOp::Sum)?;
    expect("a new group works", tensor.sum(Kind::Double).double_value(&[]) == 4.0)?;
    Ok(format!("after {:.2} s, and a new group works: {text}", took.as_secs_f64()))
}

fn late_backward(rank: &Rank) -> Checked {
    let group = group(rank, 1.0)?;
    let vs = nn::VarStore::new(group.device());
    let layer = nn::linear(vs.root() / "layer", 4, 1, nn::LinearConfig::default());
    let ddp = DistributedDataParallel::new(&vs, &group)?;
    let loss = layer.forward(&Tensor::ones([4, 4], (Kind::Float, group.device()))).mean(Kind::Float);
    let _product = busy(group.device());
    let began = Instant::now();
    let text = late(ddp.backward(&loss), began, "backward")?;
    Ok(format!("after {:.2} s: {text}", began.elapsed().as_secs_f64()))
}

/// The last layer's gradients are on their way when the first layer's fail.
fn half_a_backward(rank: &Rank) -> Checked {
    let first = group(rank, 10.0)?;
    let vs = nn::VarStore::new(first.device());
    let layer = |name: &str| nn::linear(vs.root() / name, 512, 512, nn::LinearConfig::default());
    let (a, b) = (layer("a"), layer("b"));
    let options = DdpOptions { first_bucket_bytes: 64, bucket_bytes: 1024, ..DdpOptions::default() };
    let ddp = DistributedDataParallel::with_options(&vs, &first, options)?;
    let mut x = Tensor::ones([512, 512], (Kind::Float, first.device()));
    let loss = b.forward(&a.forward(&x).relu()).mean(Kind::Float);
    let _ = x.fill_(2);
    let text = match ddp.backward(&loss) {
        Err(error @ Error::Torch { .. }) => error.to_string(),
        other => return Err(format!("no failure of autograd's: {other:?}").into()),
    };
    let again = match first.barrier() {
        Err(error @ Error::Collective { .. }) => error.to_string(),
        other => return Err(format!("the group is of use yet: {other:?}").into()),
    };
    expect(&format!("says that it was ended before: {again}"), again.contains("by an earlier failure"))?;
    drop(ddp);
    drop(first);
    let second = group(rank, 10.0)?;
    let mut tensor = Tensor::ones([4], (Kind::Float, second.device()));
    second.all_reduce(&mut tensor, ReduceOp::Sum)?;
    expect("a new group works", tensor.sum(Kind::Double).double_value(&[]) == 4.0)?;
    Ok(text)
}

fn no_such_gpu(rank: &Rank) -> Checked {
    let options = GroupOptions { gpu: Some(99), ..GroupOptions::default() };
    match ProcessGroup::join_with(rank, Backend::Nccl, options) {
        Err(error @ Error::Gpu { gpu: 99, .. }) => Ok(error.to_string()),
        other => Err(format!("{other:?}").into()),
    }
}

const SHORT: Duration = Duration::from_secs(4);

fn missing(rank: &Rank) -> Checked {
    let began = Instant::now();
    let options = GroupOptions { join_timeout: SHORT, gpu: Some(0), ..GroupOptions::default() };
    match ProcessGroup::join_with(rank, Backend::Nccl, options) {
        Err(error @ Error::NotJoined { .. }) => {
            let text = error.to_string();
            expect(&format!("rank 1 is named: {text}"), text.contains("rank 1 of 2"))?;
            Ok(format!("after {:.2} s: {text}", began.elapsed().as_secs_f64()))
        }
        other => Err(format!("{other:?} after {:?}", began.elapsed()).into()),
    }
}

fn never_comes(rank: &Rank) -> Checked {
    if rank.is_main() {
        return missing(rank);
    }
    std::thread::sleep(3 * SHORT);
    Ok(String::new())
}

/// Rank 1 is at the store as one that is about to connect, and no more than that.
fn never_connects(rank: &Rank) -> Checked {
    if rank.is_main() {
        let text = missing(rank)?;
        // What still waits for rank 1 is in nobody's way.
        return Ok(format!("{text}; and again: {}", missing(rank)?));
    }
    let store = c10d_sys::Store::connect(rank.master_addr(), rank.master_port(), LIMIT)?;
    let store = store.prefixed(&format!("kf/{}/{}", rank.run_id(), rank.restart_count()))?;
    let round = String::from_utf8(store.get("round", LIMIT)?)?;
    store.prefixed(&round)?.set("here/1", b"")?;
    std::thread::sleep(4 * SHORT);
    Ok(String::new())
}

fn one_gpu_for_two(rank: &Rank) -> Checked {
    match group(rank, 20.0) {
        Err(error @ Error::Collective { .. }) => {
            let text = error.to_string();
            let told = text.contains("Duplicate GPU") || text.contains("invalid usage");
            expect(&format!("tells of the GPU: {text}"), told)?;
            Ok(text)
        }
        other => Err(format!("no error: {other:?}").into()),
    }
}
