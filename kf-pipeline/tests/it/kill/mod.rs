//! A run goes on where it was, however its engine is killed: 100 kills with -9, and 1,000 with `KF_LONG=1`; 10 and 200
//! where the next engine has another home, with which it shares PostgreSQL and S3.

pub(crate) mod components;
mod deaths;
pub(crate) mod judge;
pub(crate) mod phase;
mod pipeline;
mod process;
pub(crate) mod program;
pub(crate) mod rounds;
pub(crate) mod stores;
mod watched;
pub(crate) mod witness;

use kf_core::worker::{Entry, entry};
use libtest_mimic::Trial;

use crate::{Done, test};
pub(crate) use components::with_components;
pub(crate) use process::Kills;
use rounds::{Rounds, Wanted};
use stores::Stores;

pub(crate) fn tests() -> Vec<Trial> {
    vec![test("a_hundred_kills_lose_nothing", a_hundred_kills_lose_nothing)]
}

/// What the engine's process runs.
pub(crate) fn worker() -> impl Entry {
    entry(program::ENTRY, program::run)
}

/// Whether there is time to try much.
pub(crate) fn is_long() -> bool {
    std::env::var_os("KF_LONG").is_some()
}

async fn a_hundred_kills_lose_nothing() -> Done {
    let folder = tempfile::tempdir()?;
    let wanted = match is_long() {
        true => Wanted { kills: 1_000, each: 20, lanes: 2 },
        false => Wanted { kills: 150, each: 2, lanes: 2 },
    };
    Rounds::new(Stores::Home, folder.path(), wanted).await?.all().await
}
