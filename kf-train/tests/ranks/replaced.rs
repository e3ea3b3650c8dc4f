//! Groups that lose a rank in the middle of a backward pass, and go on as others.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kf_core::process::{Child, Command, Spawner};
use kf_core::worker::{Request, WorkerError, Workers, entry};
use kf_train::{
    Backend, Compression, DdpOptions, DistributedDataParallel, GroupOptions, ProcessGroup, Rank, ReduceOp,
};
use libtest_mimic::Trial;
use rustix::process::{Signal, getpid, kill_process};
use serde::{Deserialize, Serialize};
use tch::nn::{Module, OptimizerConfig};
use tch::{Device, Kind, Tensor, nn};

use super::collectives::{Failable, floats, same};
use super::{trial, until};

pub(crate) fn workers(workers: Workers) -> Workers {
    workers.with(entry("lose-a-rank", |request: Request| {
        lose_a_rank(request.parse()?).map_err(|error| WorkerError::failed(std::io::Error::other(error)))
    }))
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("replaced::a_killed_rank_is_gone_on_without", |_| lost(PLAIN)),
        trial("replaced::a_hanging_rank_is_gone_on_without", |_| lost(Lost { hangs: true, ..PLAIN })),
        trial("replaced::in_every_mode", |_| async {
            lost(Lost { views: true, find_unused: true, tiny_buckets: true, ..PLAIN }).await;
            lost(Lost { compression: Some(Compression::Bf16), hangs: true, ..PLAIN }).await;
            lost(Lost { first_pass: true, ..PLAIN }).await;
        }),
        trial("replaced::calls_fail_and_leave_their_tensors", |_| lost(Lost { in_calls: true, ..PLAIN })),
    ]
}

/// How rank 2 of 3 is lost, and what the others are at then.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Lost {
    /// It stops without dying, and the others are told.
    hangs: bool,
    /// In the first pass, before the buckets are rebuilt.
    first_pass: bool,
    /// The others are in a collective.
    in_calls: bool,
    views: bool,
    find_unused: bool,
    tiny_buckets: bool,
    #[serde(skip)]
    compression: Option<Compression>,
    bf16: bool,
    folder: PathBuf,
}

const PLAIN: Lost = Lost {
    hangs: false,
    first_pass: false,
    in_calls: false,
    views: false,
    find_unused: false,
    tiny_buckets: false,
    compression: None,
    bf16: false,
    folder: PathBuf::new(),
};

/// What a survivor saw.
#[derive(Debug, Serialize, Deserialize)]
struct Seen {
    /// When its pass was over.
    over: f64,
    error: String,
    /// How long it took to go on as a group of two.
    regrouped: f64,
    parameters: Vec<f64>,
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

fn model(vs: &nn::VarStore) -> impl Module + use<> {
    let mut net = nn::seq();
    for layer in 0..6 {
        net = net
            .add(nn::linear(vs.root() / layer, 64, 64, nn::LinearConfig::default()))
            .add_fn(|xs| xs.relu());
    }
    net
}

fn batch(step: i64, rank: usize) -> Tensor {
    let numbers = Tensor::arange(32 * 64, (Kind::Float, Device::Cpu)).view([32, 64]);
    ((numbers * 0.13 + step as f64 * 0.7 + rank as f64 * 1.9).sin() * 3.0).set_requires_grad(false)
}

fn lose_a_rank(how: Lost) -> Failable<()> {
    let rank = Rank::from_env()?;
    tch::manual_seed(rank.rank() as i64);
    let options = GroupOptions { timeout: Duration::from_secs(10), ..GroupOptions::default() };
    let group = ProcessGroup::join_with(&rank, Backend::Gloo, options)?.replaceable()?;
    let vs = nn::VarStore::new(Device::Cpu);
    let net = model(&vs);
    let mut options = DdpOptions {
        gradient_views: how.views,
        find_unused_parameters: how.find_unused,
        compression: how.bf16.then_some(Compression::Bf16),
        ..DdpOptions::default()
    };
    if how.tiny_buckets {
        (options.first_bucket_bytes, options.bucket_bytes) = (64, 20_000);
    }
    let mut ddp = DistributedDataParallel::with_options(&vs, &group, options)?;
    let mut optimizer = nn::Sgd { momentum: 0.9, ..nn::Sgd::default() }.build(&vs, 0.05)?;
    let loss = |step, rank| net.forward(&batch(step, rank)).square().mean(Kind::Float);
    let steps = if how.first_pass { 0 } else { 3 };
    for step in 0..steps {
        ddp.backward_step(&mut optimizer, &loss(step, group.rank()))?;
    }
    if rank.rank() == 2 {
        while (0..2).any(|other| !how.folder.join(format!("began-{other}")).exists()) {
            std::thread::sleep(Duration::from_millis(5));
        }
        // The others have done their part by then, and wait.
        std::thread::sleep(Duration::from_millis(400));
        std::thread::spawn({
            let (folder, hangs) = (how.folder.clone(), how.hangs);
            move || {
                let _ = std::fs::write(folder.join("lost"), now().to_string());
                let _ = kill_process(getpid(), if hangs { Signal::STOP } else { Signal::KILL });
            }
        });
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    }
    let aborter = group.aborter()?;
    let threads = || {
        let all = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
        let names = all.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
        names.filter(|name| name.contains("gloo")).count()
    };
    let threads_before = threads();
    same("there are threads", threads_before > 0, true)?;
    std::thread::spawn({
        let folder = how.folder.clone();
        move || {
            while !folder.join("abort").exists() {
                std::thread::sleep(Duration::from_millis(1));
            }
            aborter.abort("told that rank 2 hangs")
        }
    });
    let mut own = Tensor::full([100_000], 7, (Kind::Float, Device::Cpu));
    std::fs::write(how.folder.join(format!("began-{}", rank.rank())), "")?;
    let failed = match how.in_calls {
        true => group.all_reduce(&mut own, ReduceOp::Sum),
        false => ddp.backward_step(&mut optimizer, &loss(steps, group.rank())),
    };
    let over = now();
    let error = failed.err().ok_or("the pass went well without rank 2")?.to_string();
    same("the failure", group.failure().is_some(), true)?;
    same("a call's own values", (own.min().double_value(&[]), own.max().double_value(&[])), (7.0, 7.0))?;
    // Whatever is tried now fails at once.
    let began = Instant::now();
    same("a barrier", group.barrier().is_err(), true)?;
    same("another pass", ddp.backward(&loss(0, 0)).is_err(), true)?;
    same("at once", began.elapsed() < Duration::from_secs(10), true)?;

    let began = Instant::now();
    group.replace(group.regroup(&[0, 1], 1, GroupOptions::default())?)?;
    let regrouped = began.elapsed().as_secs_f64();
    same("ranks", (group.rank(), group.world_size()), (rank.rank(), 2))?;
    same("no failure", group.failure().is_none(), true)?;
    group.barrier()?;
    if rank.rank() == 1 {
        // As one that is new.
        drop(ddp);
        ddp = DistributedDataParallel::with_options(&vs, &group, options)?;
    } else {
        ddp.synchronize()?;
    }
    for step in 10..20 {
        if step == 13 {
            // The mean is that of two.
            let parameters = vs.trainable_variables();
            let joint = (loss(step, 0) + loss(step, 1)) / 2.0;
            let expected = Tensor::run_backward(&[joint], &parameters, false, false);
            ddp.zero_grad();
            ddp.backward(&loss(step, group.rank()))?;
            let tolerance = if how.bf16 { 0.02 } else { 1e-5 };
            for (parameter, expected) in parameters.iter().zip(&expected) {
                let difference = (parameter.grad() - expected).abs().max().double_value(&[]);
                let largest = expected.abs().max().double_value(&[]);
                if difference > tolerance * largest.max(1e-3) {
                    return Err(format!("a gradient differs by {difference} of {largest}").into());
                }
            }
        }
        ddp.backward_step(&mut optimizer, &loss(step, group.rank()))?;
    }
    let mut parameters = Vec::new();
    for parameter in vs.trainable_variables() {
        parameters.extend(floats(&parameter.detach())?);
    }
    // What was left of the old group is gone within its time: Gloo may wait in an operation until then.
    let began = Instant::now();
    while threads() > threads_before {
        same("threads end", began.elapsed() < Duration::from_secs(30), true)?;
        std::thread::sleep(Duration::from_millis(20));
    }
    let seen = serde_json::to_vec(&Seen { over, error, regrouped, parameters })?;
    std::fs::write(how.folder.join(format!("seen-{}", rank.rank())), seen)?;
    Ok(())
}

async fn started(spawner: &Spawner, how: &Lost) -> Vec<Child> {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut children = Vec::new();
    for rank in 0..3 {
        let command = Command::entry("lose-a-rank", how)
            .unwrap()
            .env("RANK", rank.to_string())
            .env("WORLD_SIZE", "3")
            .env("MASTER_ADDR", "127.0.0.1")
            .env("MASTER_PORT", port.to_string())
            .on_line(move |line| println!("{rank}: {line}"));
        children.push(spawner.spawn(command).await.unwrap());
    }
    children
}

fn number(path: &Path) -> Option<f64> {
    std::fs::read_to_string(path).ok()?.parse().ok()
}

async fn lost(how: Lost) {
    let dir = tempfile::tempdir().unwrap();
    let how = Lost { folder: dir.path().to_owned(), bf16: how.compression.is_some(), ..how };
    let spawner = Spawner::new().unwrap();
    let children = started(&spawner, &how).await;
    until("rank 2 is lost", || number(&dir.path().join("lost")).is_some()).await;
    let mut gone = number(&dir.path().join("lost")).unwrap();
    if how.hangs {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let aside = dir.path().join("told");
        std::fs::write(&aside, "").unwrap();
        gone = now();
        std::fs::rename(aside, dir.path().join("abort")).unwrap();
    }
    for child in &children[..2] {
        let exit = child.wait().await;
        assert!(exit.success(), "{exit:?}: {:?}", child.tail(20));
    }
    children[2].kill();
    children[2].wait().await;
    let seen: Vec<Seen> = (0..2)
        .map(|rank| {
            let json = std::fs::read(dir.path().join(format!("seen-{rank}"))).unwrap();
            serde_json::from_slice(&json).unwrap()
        })
        .collect();
    let reasons: BTreeSet<&str> = seen.iter().map(|seen| seen.error.as_str()).collect();
    println!(
        "{how:?}: over after {:.4} s and {:.4} s, regrouped within {:.3} s: {reasons:?}",
        seen[0].over - gone,
        seen[1].over - gone,
        seen[0].regrouped
    );
    for seen in &seen {
        assert!((0.0..20.0).contains(&(seen.over - gone)), "{} s", seen.over - gone);
        assert_eq!(how.hangs, seen.error.contains("told that rank 2 hangs"), "{}", seen.error);
    }
    assert!(seen[0].parameters.iter().all(|value| value.is_finite()));
    assert_eq!(seen[0].parameters, seen[1].parameters);
}
