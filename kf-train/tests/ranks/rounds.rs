//! Ranks that go from round to round, each with a store of its own, as an agent tells them.

use std::time::{Duration, Instant};

use futures::future::join_all;
use kf_core::worker::Workers;
use kf_train::store::StoreServer;
use kf_train::{
    Backend, Error, GroupOptions, Job, LocalLauncher, ProcessGroup, Rank, ReduceOp, Result, RoundPlace, ranks,
};
use libtest_mimic::Trial;
use tch::{Kind, Tensor};

use super::collectives::{Failable, floats, same};
use super::{trial, until};

pub(crate) fn workers(workers: Workers) -> Workers {
    workers
        .with(ranks("from-round-to-round", from_round_to_round))
        .with(ranks("alone-in-a-round", alone_in_a_round))
        .with(ranks("late-in-a-round", late_in_a_round))
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("rounds::ranks_go_from_round_to_round", going),
        trial("rounds::a_store_that_goes_away_ends_the_joining", |launcher| async move {
            let (servers, ports) = served(2).await;
            let folder = tempfile::tempdir().unwrap();
            let joining = |rank| folder.path().join(format!("joining-{rank}"));
            let job = Job::ranks("alone-in-a-round", 2).args(&(ports, folder.path()));
            let ends = async {
                until("both are joining", || joining(0).exists() && joining(1).exists()).await;
                tokio::time::sleep(Duration::from_secs(1)).await;
                drop(servers);
            };
            let (end, ()) = tokio::join!(launcher.run::<()>(job), ends);
            end.unwrap();
        }),
        trial("rounds::who_is_missing_is_named_in_each", |launcher| async move {
            launcher.run::<()>(Job::ranks("late-in-a-round", 3)).await.unwrap();
        }),
    ]
}

/// The stores of so many rounds, and their ports.
async fn served(rounds: usize) -> (Vec<StoreServer>, Vec<u16>) {
    let bound = (0..rounds).map(|_| StoreServer::bind("127.0.0.1:0".parse().unwrap()));
    let servers: Vec<_> = join_all(bound).await.into_iter().map(|server| server.unwrap()).collect();
    let ports = servers.iter().map(|server| server.local_addr().port()).collect();
    (servers, ports)
}

fn place(number: usize, port: u16, rank: usize, world_size: usize) -> RoundPlace {
    let host = || "127.0.0.1".to_owned();
    RoundPlace { number: number as u64, rank, world_size, store_host: host(), store_port: port, host: host() }
}

async fn going(launcher: LocalLauncher) {
    let (_servers, ports) = served(21).await;
    let mut times: Vec<f64> = launcher.run(Job::ranks("from-round-to-round", 3).args(&ports)).await.unwrap();
    println!("from the call to a group, in ms: {times:.1?}");
    times.sort_by(f64::total_cmp);
    // The machine may be busy with other things.
    assert!(times[times.len() / 4] < 50.0, "{times:?}");
}

/// Rounds of three ranks and of two, in turns; gives how many milliseconds each joining took.
fn from_round_to_round(rank: &Rank, ports: Vec<u16>) -> Failable<Vec<f64>> {
    let own = rank.rank();
    let job = ProcessGroup::join(rank, Backend::Gloo)?;
    let mut group: Option<ProcessGroup> = None;
    let mut times = Vec::new();
    for (round, port) in ports.into_iter().enumerate() {
        // Numbers change from round to round, and rank 2 is away from every other one.
        let (number, world_size) = if round % 2 == 0 { ((own + round) % 3, 3) } else { (1 - own.min(1), 2) };
        job.barrier()?;
        if own < world_size {
            let place = place(round + 1, port, number, world_size);
            let options = GroupOptions { verify: true, ..GroupOptions::default() };
            let began = Instant::now();
            let next = ProcessGroup::join_round(rank, &place, Backend::Gloo, options)?;
            next.barrier()?;
            times.push(began.elapsed().as_secs_f64() * 1000.0);
            let present = match group.take() {
                None => next.replaceable()?,
                Some(present) => {
                    present.replace(next)?;
                    present
                }
            };
            works(&present, number, world_size)?;
            group = Some(present);
        } else {
            group = None;
        }
    }
    job.barrier()?;
    Ok(times)
}

/// Whether everything that a group does is done among these ranks.
fn works(group: &ProcessGroup, number: usize, world_size: usize) -> Failable<()> {
    same("rank and world size", (group.rank(), group.world_size()), (number, world_size))?;
    same("members", group.members(), (0..world_size).collect())?;
    let own = || Tensor::from_slice(&[number as f32, 1.0]);
    let total = (world_size * (world_size - 1) / 2) as f64;
    let work = group.all_reduce_async(own(), ReduceOp::Sum)?;
    let mut many = [own(), own().to_kind(Kind::Int64)];
    group.all_reduce_coalesced(&mut many, ReduceOp::Sum)?;
    same("coalesced", floats(&many[1])?, vec![total, world_size as f64])?;
    same("a work", floats(&futures::executor::block_on(work)?)?, vec![total, world_size as f64])?;
    let pair = group.subgroup(&[world_size - 1, 0])?;
    if let Some(pair) = pair {
        same("a subgroup's members", pair.members(), vec![world_size - 1, 0])?;
        same("a subgroup's sum", floats(&pair.all_reduce_async(own(), ReduceOp::Sum)?.wait()?)?[1], 2.0)?;
    }
    let unlike = match number {
        0 => group.broadcast(&mut own(), 0),
        _ => group.all_reduce(&mut own(), ReduceOp::Sum),
    };
    same("unlike calls", matches!(unlike, Err(Error::Collective { .. })), true)?;
    Ok(group.barrier()?)
}

/// In a round of two whose other rank never comes, at a store that goes away.
fn alone_in_a_round(rank: &Rank, (ports, folder): (Vec<u16>, std::path::PathBuf)) -> Failable<()> {
    let port = ports[rank.rank()];
    let options = GroupOptions { join_timeout: Duration::from_secs(60), ..GroupOptions::default() };
    std::fs::write(folder.join(format!("joining-{}", rank.rank())), "")?;
    let began = Instant::now();
    let place = place(4, port, rank.rank(), 2);
    match ProcessGroup::join_round(rank, &place, Backend::Gloo, options) {
        Err(Error::Collective { operation: "join", message, .. }) => {
            same(
                "the store's name",
                message.contains(&format!("the store of round 4 at 127.0.0.1:{port}")),
                true,
            )?;
        }
        other => return Err(format!("{other:?}").into()),
    }
    same("soon", began.elapsed() < Duration::from_secs(20), true)
}

/// One rank is late in the job's group, and then one in the group of those that go on without it.
fn late_in_a_round(rank: &Rank, (): ()) -> Failable<()> {
    let own = rank.rank();
    // The time of rank 0 is over before that of rank 1.
    let timeout = Duration::from_secs(if own == 0 { 1 } else { 4 });
    let options = GroupOptions { timeout, ..GroupOptions::default() };
    let group = ProcessGroup::join_with(rank, Backend::Gloo, options)?.replaceable()?;
    group.barrier()?;
    group.barrier()?;
    std::thread::sleep(Duration::from_millis(1200));
    if own == 2 {
        std::thread::sleep(Duration::from_secs(20));
        return Ok(());
    }
    let sum = |group: &ProcessGroup| -> Result<Tensor> {
        group.all_reduce_async(Tensor::from_slice(&[1.0_f32]), ReduceOp::Sum)?.wait()
    };
    let began = Instant::now();
    let error = sum(&group).err().ok_or("it went well without rank 2")?;
    same("in time", began.elapsed() < Duration::from_secs(15), true)?;
    match (own, &error) {
        (0, Error::CollectiveTimedOut { call: Some(3), missing, .. }) => {
            same("missing", &**missing, &[2][..])?;
            same(
                "the error",
                error.to_string().ends_with("rank 2 was last seen after call 2 (barrier)"),
                true,
            )?;
        }
        // Its group has failed because rank 0's has, or its own time was over.
        (1, Error::Collective { .. } | Error::CollectiveTimedOut { .. }) => {}
        (_, other) => return Err(format!("{other:?}").into()),
    }
    let began = Instant::now();
    same("a later call", sum(&group).is_err() && group.barrier().is_err(), true)?;
    same("at once", began.elapsed() < Duration::from_secs(5), true)?;

    let options = GroupOptions { timeout: Duration::from_secs(1), ..GroupOptions::default() };
    group.replace(group.regroup(&[1, 0], 1, options)?)?;
    same("members", (group.members(), group.rank()), (vec![1, 0], 1 - own))?;
    same("a sum of two", floats(&sum(&group)?)?, vec![2.0])?;
    std::thread::sleep(Duration::from_millis(1200));
    if group.rank() == 1 {
        std::thread::sleep(Duration::from_secs(5));
        return Ok(());
    }
    match sum(&group) {
        Err(error @ Error::CollectiveTimedOut { call: Some(2), .. }) => {
            let told = error.to_string().ends_with("rank 1 was last seen after call 1 (all_reduce)");
            same("the error", (told, error.to_string()), (true, error.to_string()))
        }
        other => Err(format!("{other:?}").into()),
    }
}
