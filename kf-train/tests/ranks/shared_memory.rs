//! Ranks over shared memory: values, equal bits, training, and each way to fail.

use std::time::{Duration, Instant};

use kf_core::worker::Workers;
use kf_train::{
    Backend, DdpOptions, DistributedDataParallel, Error, GroupOptions, Job, LocalLauncher, ProcessGroup,
    Rank, ReduceOp, Result, ranks,
};
use libtest_mimic::Trial;
use rustix::process::{Pid, Signal, getpid, kill_process};
use tch::nn::{self, Module, OptimizerConfig};
use tch::{Device, Kind, Tensor};

use super::collectives::{Failable, floats, same};
use super::trial;

pub(crate) fn workers(workers: Workers) -> Workers {
    workers
        .with(ranks("shared-values", values))
        .with(ranks("shared-bits", bits))
        .with(ranks("shared-messages", messages))
        .with(ranks("shared-works", works))
        .with(ranks("shared-training", training))
        .with(ranks("shared-misfits", misfits))
        .with(ranks("shared-gone", gone))
        .with(ranks("shared-killed-in-backward", killed_in_backward))
        .with(ranks("shared-aborted", aborted))
        .with(ranks("shared-frozen", frozen))
        .with(ranks("shared-leaving", leaving))
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("shared_memory::values_on_one_rank", |launcher| check_values(launcher, 1)),
        trial("shared_memory::values_on_two_ranks", |launcher| check_values(launcher, 2)),
        trial("shared_memory::values_on_three_ranks", |launcher| check_values(launcher, 3)),
        trial("shared_memory::values_on_four_ranks", |launcher| check_values(launcher, 4)),
        trial("shared_memory::all_ranks_have_the_same_bits", same_bits),
        trial("shared_memory::messages_arrive_in_order", messages_arrive),
        trial("shared_memory::many_calls_are_under_way_at_once", many_at_once),
        trial("shared_memory::training_is_that_of_gloo", training_is_that_of_gloo),
        trial("shared_memory::what_does_not_fit_is_an_error_on_all_ranks", misfits_are_errors),
        trial("shared_memory::a_rank_that_ends_is_noticed_and_named", gone_is_noticed),
        trial("shared_memory::a_rank_killed_in_backward_is_named", killed_in_backward_is_named),
        trial("shared_memory::an_abort_ends_all_waits_at_once", abort_ends_waits),
        trial("shared_memory::a_frozen_rank_is_waited_for_until_time_is_over", frozen_is_late),
        trial("shared_memory::who_leaves_early_has_done_its_part", leaving_is_no_failure),
    ]
}

/// Without the comparison that groups make by themselves in debug builds.
fn join(rank: &Rank, timeout: Duration) -> Result<ProcessGroup> {
    let options = GroupOptions { timeout, verify: false, ..GroupOptions::default() };
    ProcessGroup::join_with(rank, Backend::SharedMemory, options)
}

const LONG: Duration = Duration::from_secs(60);
const CPU: Device = Device::Cpu;

/// Small whole numbers, other ones on each rank, whose sums every type holds.
fn numbers(elements: i64, rank: usize, kind: Kind) -> Tensor {
    let all = Tensor::arange(elements, (Kind::Int64, CPU)) * 7 + 13 * rank as i64;
    (all.remainder(61) - 30).to_kind(kind)
}

fn equal(what: &str, found: &Tensor, expected: &Tensor) -> Failable<()> {
    let expected = expected.to_kind(found.kind());
    match found.size() == expected.size() && found.equal(&expected) {
        true => Ok(()),
        false => Err(format!("{what} of {:?} {:?} is wrong", found.kind(), found.size()).into()),
    }
}

fn values(rank: &Rank, (): ()) -> Failable<usize> {
    let group = join(rank, LONG)?;
    let (own, world) = (group.rank(), group.world_size());
    let kinds = [Kind::Float, Kind::Double, Kind::Half, Kind::BFloat16, Kind::Int, Kind::Int64, Kind::Uint8];
    for (elements, kinds) in
        [(1, &kinds[..]), (3, &kinds), (1023, &kinds), (100_001, &kinds), ((4 << 20) + 1, &kinds[..1])]
    {
        for &kind in kinds {
            let numbers = |rank: usize| {
                let all = numbers(elements, rank, Kind::Int64);
                if kind == Kind::Uint8 { all + 30 } else { all }
            };
            let of_all: Vec<Tensor> = (0..world).map(numbers).collect();
            let stacked = Tensor::stack(&of_all, 0);
            let input = || of_all[own].copy().to_kind(kind);
            let sum = stacked.sum_dim_intlist([0].as_slice(), false, Kind::Int64);
            let mut cases = vec![
                (ReduceOp::Sum, sum.shallow_clone()),
                (ReduceOp::Min, stacked.amin([0].as_slice(), false)),
                (ReduceOp::Max, stacked.amax([0].as_slice(), false)),
            ];
            if matches!(kind, Kind::Float | Kind::Double) {
                cases.push((ReduceOp::Avg, sum.to_kind(Kind::Double) / world as f64));
            }
            for (op, expected) in cases {
                let mut reduced = input();
                group.all_reduce(&mut reduced, op)?;
                equal("all_reduce", &reduced, &expected)?;
                let mut reduced = input();
                group.reduce(&mut reduced, world - 1, op)?;
                if own == world - 1 {
                    equal("reduce", &reduced, &expected)?;
                }
            }
            let mut given = input();
            group.broadcast(&mut given, world / 2)?;
            equal("broadcast", &given, &of_all[world / 2])?;
            equal("all_gather", &group.all_gather(&input())?, &stacked)?;
            if let Some(gathered) = group.gather(&input(), 0)? {
                equal("gather", &gathered, &stacked)?;
            }
            // Each rank gives every rank its own numbers, plus one for each rank it passes on the way.
            let parts = |of: usize| (0..world as i64).map(|to| (&of_all[of] + to) * 2).collect::<Vec<_>>();
            let whole = Tensor::stack(&parts(own), 0).to_kind(kind);
            let mut part = Tensor::zeros([elements], (kind, CPU));
            group.scatter(&mut part, (own == 0).then_some(&whole), 0)?;
            equal("scatter", &part, &parts(0)[own])?;
            let exchanged: Vec<_> = (0..world).map(|of| (&of_all[of] + own as i64) * 2).collect();
            equal("all_to_all", &group.all_to_all(&whole)?, &Tensor::stack(&exchanged, 0))?;
            if kind != Kind::Uint8 {
                let reduced = group.reduce_scatter(&whole, ReduceOp::Sum)?;
                let expected = (&sum + (world * own) as i64) * 2;
                if !matches!(kind, Kind::Half | Kind::BFloat16) {
                    equal("reduce_scatter", &reduced.get(0), &expected)?;
                }
            }
        }
    }
    let mut nothing = Tensor::zeros([0], (Kind::Float, CPU));
    group.all_reduce(&mut nothing, ReduceOp::Sum)?;
    group.broadcast(&mut nothing, 0)?;
    group.barrier()?;
    Ok(world)
}

async fn check_values(launcher: LocalLauncher, world_size: usize) {
    assert_eq!(launcher.run::<usize>(Job::ranks("shared-values", world_size)).await.unwrap(), world_size);
}

/// Sums that depend on the order in which they are made, of sizes that are cut in each way.
fn bits(rank: &Rank, (): ()) -> Failable<()> {
    let group = join(rank, LONG)?;
    let world = group.world_size();
    for elements in [5, 1000, 16_384, 16_385, 65_537, 262_144, 1_900_001] {
        for kind in [Kind::Float, Kind::Double] {
            tch::manual_seed(elements);
            let all: Vec<Tensor> = (0..world).map(|_| Tensor::randn([elements], (kind, CPU))).collect();
            let mut reduced = all[group.rank()].copy();
            group.all_reduce(&mut reduced, ReduceOp::Sum)?;
            let mut expected = all[0].copy();
            for other in &all[1..] {
                expected += other;
            }
            equal("the sum in the ranks' order", &reduced, &expected)?;
        }
        // Floats in between, and one rounding at the end.
        for kind in [Kind::Half, Kind::BFloat16] {
            tch::manual_seed(elements);
            let all: Vec<Tensor> =
                (0..world).map(|_| Tensor::randn([elements], (Kind::Float, CPU)).to_kind(kind)).collect();
            let mut reduced = all[group.rank()].copy();
            group.all_reduce(&mut reduced, ReduceOp::Sum)?;
            let mut expected = all[0].to_kind(Kind::Float);
            for other in &all[1..] {
                expected += other.to_kind(Kind::Float);
            }
            equal("the sum of halves", &reduced, &expected.to_kind(kind))?;
        }
    }
    // What is not a number is so in every reduction, on every rank.
    for op in [ReduceOp::Sum, ReduceOp::Min, ReduceOp::Max] {
        for from in 0..world {
            let value = if group.rank() == from { f32::NAN } else { 1.0 };
            let mut reduced = Tensor::from_slice(&[value, 2.0]);
            group.all_reduce(&mut reduced, op)?;
            let found = floats(&reduced)?;
            same("NaN", (found[0].is_nan(), found[1].is_nan()), (true, false))?;
        }
    }
    Ok(())
}

async fn same_bits(launcher: LocalLauncher) {
    launcher.run::<()>(Job::ranks("shared-bits", 3)).await.unwrap();
}

/// Long and short ones, in a ring and between collectives.
fn messages(rank: &Rank, (): ()) -> Failable<()> {
    let group = join(rank, LONG)?;
    let (own, world) = (group.rank(), group.world_size());
    let (next, previous) = ((own + 1) % world, (own + world - 1) % world);
    for elements in [1, 0, 3, 16_384, 16_385, 1_000_001] {
        let tensor = |of: usize, nth: i64| numbers(elements, of, Kind::Float) + nth as f64;
        let send = || (0..3).try_for_each(|nth| group.send(&tensor(own, nth), next));
        if own % 2 == 0 {
            send()?;
        }
        for nth in 0..3 {
            let mut received = Tensor::zeros([elements], (Kind::Float, CPU));
            group.recv(&mut received, previous)?;
            equal("recv", &received, &tensor(previous, nth))?;
        }
        if own % 2 == 1 {
            send()?;
        }
        let mut one = Tensor::from(1.0);
        group.all_reduce(&mut one, ReduceOp::Sum)?;
        same("a sum in between", one.double_value(&[]), world as f64)?;
    }
    Ok(())
}

async fn messages_arrive(launcher: LocalLauncher) {
    launcher.run::<()>(Job::ranks("shared-messages", 2)).await.unwrap();
    launcher.run::<()>(Job::ranks("shared-messages", 3)).await.unwrap();
}

/// Many calls at once, large ones among them, waited for in reverse; and some of the ranks as a group of their own.
fn works(rank: &Rank, (): ()) -> Failable<()> {
    let group = join(rank, LONG)?;
    let world = group.world_size();
    let sizes = [1, 5000, 3, 400_000, 17];
    let mut works = Vec::new();
    for nth in 0..300 {
        let elements = sizes[nth % sizes.len()];
        let work = match nth % 3 {
            0 => group.broadcast_async(numbers(elements, group.rank() + nth, Kind::Float), 1)?,
            _ => group.all_reduce_async(numbers(elements, group.rank() + nth, Kind::Float), ReduceOp::Max)?,
        };
        works.push((nth, elements, work));
    }
    for (nth, elements, work) in works.into_iter().rev() {
        let all: Vec<_> = (0..world).map(|rank| numbers(elements, rank + nth, Kind::Float)).collect();
        let expected = match nth % 3 {
            0 => all[1].copy(),
            _ => Tensor::stack(&all, 0).amax([0].as_slice(), false),
        };
        equal("a work", &work.wait()?, &expected)?;
    }
    if let Some(some) = group.subgroup(&[2, 0])? {
        let mut sum = Tensor::from(1.0);
        some.all_reduce(&mut sum, ReduceOp::Sum)?;
        same("the sum of some", sum.double_value(&[]), 2.0)?;
    }
    group.barrier()?;
    Ok(())
}

async fn many_at_once(launcher: LocalLauncher) {
    launcher.run::<()>(Job::ranks("shared-works", 3)).await.unwrap();
}

/// A few steps; all ranks end with the same bits. With tiny buckets, many exchanges are under way at once.
fn training(rank: &Rank, (shared, tiny): (bool, bool)) -> Failable<Vec<f32>> {
    tch::manual_seed(rank.rank() as i64);
    let backend = if shared { Backend::cpu(rank) } else { Backend::Gloo };
    same("the choice", backend == Backend::SharedMemory, shared)?;
    let group = ProcessGroup::join(rank, backend)?;
    let vs = nn::VarStore::new(CPU);
    let root = vs.root();
    let mut net = nn::seq();
    for layer in 0..8 {
        net = net.add(nn::linear(&root / layer, 96, 96, nn::LinearConfig::default())).add_fn(|xs| xs.tanh());
    }
    let mut options = DdpOptions::default();
    if tiny {
        (options.first_bucket_bytes, options.bucket_bytes) = (64, 1024);
    }
    let ddp = DistributedDataParallel::with_options(&vs, &group, options)?;
    let mut optimizer = nn::Sgd { momentum: 0.9, ..nn::Sgd::default() }.build(&vs, 0.05)?;
    for step in 0..20 {
        let x = (Tensor::arange(32 * 96, (Kind::Float, CPU)) * (step + 1) as f64 + rank.rank() as f64).sin();
        let loss = net.forward(&x.view([32, 96])).square().mean(Kind::Float);
        ddp.backward_step(&mut optimizer, &loss)?;
    }
    let all: Vec<Tensor> =
        vs.trainable_variables().iter().map(|tensor| tensor.detach().flatten(0, -1)).collect();
    let own = Tensor::cat(&all, 0);
    let everyones = group.all_gather(&own)?;
    for other in 0..group.world_size() as i64 {
        equal("another rank's parameters", &everyones.get(other), &own)?;
    }
    Ok(Vec::try_from(own)?)
}

async fn training_is_that_of_gloo(launcher: LocalLauncher) {
    let run = |args: (bool, bool), ranks| {
        launcher.run::<Vec<f32>>(Job::ranks("shared-training", ranks).args(&args))
    };
    for (tiny, ranks) in [(false, 2), (true, 3)] {
        let (gloo, shared) =
            (run((false, tiny), ranks).await.unwrap(), run((true, tiny), ranks).await.unwrap());
        assert_eq!(gloo.len(), shared.len());
        let difference = gloo.iter().zip(&shared).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(difference < 1e-5, "{difference}");
    }
}

type Call = fn(&ProcessGroup) -> Result<()>;

/// What rank 1 calls while the others make a sum of four floats.
const MISFITS: &[(&str, Call)] = &[
    ("all_reduce by sum of 5 × Float", |group| group.all_reduce(&mut zeros(5, Kind::Float), ReduceOp::Sum)),
    ("all_reduce by sum of 3000000 × Float", |group| {
        group.all_reduce(&mut zeros(3_000_000, Kind::Float), ReduceOp::Sum)
    }),
    ("all_reduce by sum of 4 × Int", |group| group.all_reduce(&mut zeros(4, Kind::Int), ReduceOp::Sum)),
    ("all_reduce by max of 4 × Float", |group| group.all_reduce(&mut zeros(4, Kind::Float), ReduceOp::Max)),
    ("broadcast from rank 1 of 4 × Float", |group| group.broadcast(&mut zeros(4, Kind::Float), 1)),
    ("all_gather of 4 × Float", |group| group.all_gather(&zeros(4, Kind::Float)).map(drop)),
    ("barrier", |group| group.barrier()),
];

fn zeros(elements: i64, kind: Kind) -> Tensor {
    Tensor::zeros([elements], (kind, CPU))
}

fn misfits(rank: &Rank, (): ()) -> Failable<()> {
    for (name, call) in MISFITS {
        let group = join(rank, LONG)?;
        let result = match rank.rank() {
            1 => call(&group),
            _ => group.all_reduce(&mut zeros(4, Kind::Float), ReduceOp::Sum),
        };
        let Err(error @ Error::Collective { .. }) = result else {
            return Err(format!("{name}: {result:?}").into());
        };
        let text = error.to_string();
        let theirs = format!("rank 0 is at all_reduce by sum of 4 × Float, and rank 1 at {name}");
        // A rank may learn from another before it looks itself.
        if !text.contains(&theirs) && !text.contains("found that the ranks' calls do not fit") {
            return Err(format!("{name}: {text}").into());
        }
        let Err(error @ Error::Collective { .. }) = group.barrier() else {
            return Err("the group goes on".into());
        };
        let text = error.to_string();
        if !text.contains("the group was ended by an earlier failure") || !text.contains("do not fit") {
            return Err(text.into());
        }
    }
    // And of messages: rank 0 sends less than is received.
    let group = join(rank, LONG)?;
    if rank.rank() == 0 {
        group.send(&zeros(2, Kind::Float), 1)?;
    } else if rank.rank() == 1 {
        let text = group.recv(&mut zeros(4, Kind::Float), 0).unwrap_err().to_string();
        if !text.contains("Float [2]") {
            return Err(text.into());
        }
    }
    Ok(())
}

async fn misfits_are_errors(launcher: LocalLauncher) {
    launcher.run::<()>(Job::ranks("shared-misfits", 3)).await.unwrap();
}

/// Rank 1 ends while the others wait for it; gives how many milliseconds later that is known, and as what.
fn gone(rank: &Rank, (): ()) -> Failable<(u128, String)> {
    let ending = Duration::from_millis(300);
    let group = join(rank, LONG)?;
    group.barrier()?;
    let began = Instant::now();
    if rank.rank() == 1 {
        std::thread::sleep(ending);
        // As a kill, no destructor runs; but the launcher takes it for a success, and lets the others tell.
        std::process::exit(0);
    }
    let work = group.all_reduce_async(zeros(1_000_000, Kind::Float), ReduceOp::Sum)?;
    while !work.is_completed() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let after = began.elapsed().saturating_sub(ending);
    match work.wait() {
        Err(error @ Error::Collective { .. }) => Ok((after.as_millis(), error.to_string())),
        other => Err(format!("{other:?}").into()),
    }
}

async fn gone_is_noticed(launcher: LocalLauncher) {
    let (after, text): (u128, String) = launcher.run(Job::ranks("shared-gone", 3)).await.unwrap();
    println!("noticed after {after} ms");
    // Some 10 ms where the machine has nothing else to do.
    assert!(after < 500, "{after} ms");
    assert!(text.contains("rank 1 is gone"), "{text}");
}

fn killed_in_backward(rank: &Rank, (): ()) -> Failable<()> {
    let group = join(rank, LONG)?;
    let vs = nn::VarStore::new(CPU);
    let net = nn::linear(vs.root(), 600, 600, nn::LinearConfig::default());
    let ddp = DistributedDataParallel::new(&vs, &group)?;
    let mut optimizer = nn::Sgd::default().build(&vs, 0.1)?;
    let x = Tensor::ones([8, 600], (Kind::Float, CPU));
    for step in 0.. {
        if rank.rank() == 1 && step == 10 {
            kill_process(getpid(), Signal::KILL)?;
        }
        match ddp.backward_step(&mut optimizer, &net.forward(&x).square().mean(Kind::Float)) {
            Ok(()) => {}
            Err(error @ Error::Collective { .. }) if error.to_string().contains("rank 1 is gone") => {
                return Err(error.into());
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    Ok(())
}

async fn killed_in_backward_is_named(launcher: LocalLauncher) {
    let text = launcher.run::<()>(Job::ranks("shared-killed-in-backward", 2)).await.unwrap_err().to_string();
    assert!(text.contains("rank 1 of 2 ended with signal 9 (SIGKILL)"), "{text}");
}

/// Rank 2 stays away, and rank 0 gives up from another thread; gives how many milliseconds later each work was over.
fn aborted(rank: &Rank, (): ()) -> Failable<(u128, String)> {
    let (before, away) = (Duration::from_millis(300), Duration::from_secs(5));
    let group = join(rank, LONG)?.replaceable()?;
    group.barrier()?;
    let began = Instant::now();
    if rank.rank() == 2 {
        std::thread::sleep(away);
        return Ok((0, String::new()));
    }
    let aborter = (rank.rank() == 0).then(|| group.aborter()).transpose()?;
    let aborting = std::thread::spawn(move || {
        std::thread::sleep(before);
        aborter.map(|aborter| aborter.abort("enough of it")).transpose()
    });
    let work = group.all_reduce_async(zeros(1_000_000, Kind::Float), ReduceOp::Sum)?;
    while !work.is_completed() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let after = began.elapsed().saturating_sub(before);
    aborting.join().map_err(|_| "the thread panicked")??;
    let text = work.wait().err().map(|error| error.to_string()).unwrap_or_default();
    if after > Duration::from_millis(500) {
        return Err(format!("after {after:?}: {text}").into());
    }
    match (rank.rank(), text.contains("rank 0 has aborted its group")) {
        (1, false) => Err(text.into()),
        _ => Ok((after.as_millis(), text)),
    }
}

async fn abort_ends_waits(launcher: LocalLauncher) {
    let (after, text): (u128, String) = launcher.run(Job::ranks("shared-aborted", 3)).await.unwrap();
    println!("over after {after} ms");
    assert!(text.contains("enough of it"), "{text}");
}

/// Rank 1 stops itself; rank 0 gives up, lets it go on, and both go on in a new group.
fn frozen(rank: &Rank, (): ()) -> Failable<Vec<String>> {
    let group = join(rank, Duration::from_secs(1))?;
    let ids = Vec::<i64>::try_from(group.all_gather(&Tensor::from(i64::from(getpid().as_raw_pid())))?)?;
    let mut texts = Vec::new();
    if rank.rank() == 1 {
        kill_process(getpid(), Signal::STOP)?;
        // Rank 0 did its part of this before it gave up.
        group.all_reduce(&mut zeros(2, Kind::Float), ReduceOp::Sum)?;
        let text = group.barrier().unwrap_err().to_string();
        if !text.contains("rank 0 timed out waiting for rank 1") {
            return Err(text.into());
        }
    } else {
        let began = Instant::now();
        match group.all_reduce(&mut zeros(2, Kind::Float), ReduceOp::Sum) {
            Err(error @ Error::CollectiveTimedOut { .. }) => texts.push(error.to_string()),
            other => return Err(format!("{other:?}").into()),
        }
        let took = began.elapsed();
        if took < Duration::from_millis(950) || took > Duration::from_secs(20) {
            return Err(format!("after {took:?}").into());
        }
        texts.push(group.barrier().unwrap_err().to_string());
        let other = i32::try_from(ids[1]).ok().and_then(Pid::from_raw).ok_or("no process")?;
        kill_process(other, Signal::CONT)?;
    }
    drop(group);
    let group = join(rank, LONG)?;
    let mut tensor = Tensor::from(1.0);
    group.all_reduce(&mut tensor, ReduceOp::Sum)?;
    same("the new group's sum", tensor.double_value(&[]), 2.0)?;
    Ok(texts)
}

async fn frozen_is_late(launcher: LocalLauncher) {
    let texts: Vec<String> = launcher.run(Job::ranks("shared-frozen", 2)).await.unwrap();
    assert!(texts[0].contains("rank 1 was "), "{texts:?}");
    assert!(texts[0].contains("was not done on rank 0 within 1s"), "{texts:?}");
    assert!(texts[1].contains("ended by an earlier failure (rank 1 was late)"), "{texts:?}");
}

/// Ranks drop their groups as soon as they are done, while others are still about the last call.
fn leaving(rank: &Rank, (): ()) -> Failable<()> {
    for _ in 0..30 {
        let group = join(rank, LONG)?;
        let mut tensor = Tensor::from_slice(&[rank.rank() as f32; 1000]);
        group.broadcast(&mut tensor, 0)?;
        group.all_reduce(&mut tensor, ReduceOp::Max)?;
    }
    let group = join(rank, LONG)?;
    if rank.rank() == 1 {
        return Ok(());
    }
    let text = group.barrier().unwrap_err().to_string();
    match text.contains("rank 1 has dropped its group") || text.contains("found that rank 1 is gone") {
        true => Ok(()),
        false => Err(text.into()),
    }
}

async fn leaving_is_no_failure(launcher: LocalLauncher) {
    launcher.run::<()>(Job::ranks("shared-leaving", 3)).await.unwrap();
}
