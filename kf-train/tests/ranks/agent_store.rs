//! Ranks that meet at a store which is not rank 0's and outlives them, as under torchrun. They are started by hand.

use std::net::TcpListener;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use kf_train::store::StoreServer;
use kf_train::{Backend, GroupOptions, ProcessGroup, Rank, ReduceOp};
use libtest_mimic::Trial;
use tch::Tensor;

use super::collectives::{Failable, floats, same};
use super::trial;

/// What a process that is such a rank does.
const ROLE: &str = "KF_TEST_AGENTS_RANK";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("agent_store::ranks_start_anew_at_a_store_that_stays", |_| async {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            let _served = c10d_sys::Store::serve(listener, Duration::from_secs(60)).unwrap();
            starting_anew(port);
        }),
        trial("agent_store::ranks_start_anew_at_our_own_store", |_| async {
            let server = StoreServer::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
            let port = server.local_addr().port();
            tokio::task::spawn_blocking(move || starting_anew(port)).await.unwrap();
        }),
        trial("agent_store::no_store_is_an_error", |_| async {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            drop(listener);
            for rank in [0, 1] {
                let text = end(start(port, rank, 2, "absent"));
                let expected = format!("the launcher's store at 127.0.0.1:{port} can't be reached within 2s");
                assert!(text.contains(&format!("join failed on rank {rank}: {expected}")), "{text}");
            }
        }),
    ]
}

/// Some come, some come and are killed, and in the end all come; no variable tells one start from another.
fn starting_anew(port: u16) {
    let text = end(start(port, 0, 3, "absent"));
    assert!(text.contains("ranks 1 and 2 of 3 did not join within 2s"), "{text}");
    let text = end(start(port, 1, 3, "absent"));
    assert!(text.contains("rank 0 of 3 did not join within 2s"), "{text}");
    for round in 0..3 {
        // Whoever comes first finds the round before, whose ranks are gone.
        let mut ranks = Vec::new();
        for rank in if round == 1 { [0, 1, 2] } else { [2, 1, 0] } {
            ranks.push(start(port, rank, 3, "works"));
            std::thread::sleep(Duration::from_millis(200));
        }
        for rank in ranks {
            let text = end(rank);
            assert!(text.ends_with("worked\n"), "{text}");
        }
        let mut killed = start(port, 0, 3, "works");
        std::thread::sleep(Duration::from_millis(500));
        killed.kill().unwrap();
        killed.wait().unwrap();
    }
}

fn start(port: u16, rank: usize, world_size: usize, role: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .env(ROLE, role)
        .env("RANK", rank.to_string())
        .env("WORLD_SIZE", world_size.to_string())
        .env("MASTER_ADDR", "127.0.0.1")
        .env("MASTER_PORT", port.to_string())
        .env("TORCHELASTIC_USE_AGENT_STORE", "True")
        .env("TORCHELASTIC_RUN_ID", "a-job")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What a rank says, once it has ended.
fn end(rank: Child) -> String {
    String::from_utf8_lossy(&rank.wait_with_output().unwrap().stdout).into_owned()
}

pub(crate) fn run_if_asked() -> Option<ExitCode> {
    let role = std::env::var(ROLE).ok()?;
    match run(&role) {
        Ok(()) => println!("worked"),
        Err(error) => println!("{error}"),
    }
    Some(ExitCode::SUCCESS)
}

fn run(role: &str) -> Failable<()> {
    let rank = Rank::from_env()?;
    let began = Instant::now();
    let patience = if role == "works" { 60 } else { 2 };
    let options = GroupOptions { join_timeout: Duration::from_secs(patience), ..GroupOptions::default() };
    // One group after another, too.
    for _ in 0..3 {
        let group = ProcessGroup::join_with(&rank, Backend::Gloo, options)?;
        let mut sum = Tensor::from_slice(&[rank.rank() as f32]);
        group.all_reduce(&mut sum, ReduceOp::Sum)?;
        same("the sum", floats(&sum)?, vec![3.0])?;
    }
    same("in time", began.elapsed() < Duration::from_secs(30), true)
}
