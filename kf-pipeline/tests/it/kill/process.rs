//! Kills a process in the middle of its work.

use std::path::Path;
use std::time::Duration;

use kf_core::process::{Child, Exit};

/// When to kill, another time after each: not random, and yet everywhere.
#[derive(Default)]
pub(crate) struct Kills(u64);

impl Kills {
    /// Waits until the process has added some lines, up to `most`, to its witness, which is a file with a line for each
    /// thing that happened, kills it a little later, and gives what became of it.
    pub(crate) async fn one(&mut self, process: &Child, witness: &Path, most: u64) -> Exit {
        self.0 += 1;
        let before = lines(witness);
        let until = before + 1 + usize::try_from(self.0 * 7 % most).unwrap_or_default();
        let ends = process.wait();
        tokio::pin!(ends);
        let exit = loop {
            match tokio::time::timeout(Duration::from_millis(1), &mut ends).await {
                Ok(exit) => break exit,
                Err(_) if lines(witness) < until => {}
                Err(_) => {
                    tokio::time::sleep(Duration::from_micros(self.0 * 700 % 9000)).await;
                    process.kill();
                    break ends.await;
                }
            }
        };
        // The process's own children end with it.
        tokio::time::sleep(Duration::from_millis(20)).await;
        exit
    }
}

fn lines(witness: &Path) -> usize {
    std::fs::read_to_string(witness).map_or(0, |text| text.lines().count())
}
