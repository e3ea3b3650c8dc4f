//! What a test and its tasks share: notes, gates and a meter.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

#[derive(Clone, Debug, Default)]
pub(crate) struct Stage(Arc<Mutex<Board>>);

#[derive(Debug, Default)]
struct Board {
    notes: Vec<String>,
    open: HashSet<String>,
    now: usize,
    most: usize,
}

impl Stage {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.0.lock().unwrap()
    }

    pub(crate) fn note(&self, note: impl Into<String>) {
        self.board().notes.push(note.into());
    }

    pub(crate) fn count(&self, note: &str) -> usize {
        self.board().notes.iter().filter(|found| *found == note).count()
    }

    /// Waits until there are so many of a note.
    pub(crate) async fn seen(&self, note: &str, times: usize) {
        for _ in 0..6000 {
            if self.count(note) >= times {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("`{note}` was not seen {times} times within a minute: {:?}", self.board().notes);
    }

    pub(crate) fn open(&self, gate: &str) {
        self.board().open.insert(gate.to_owned());
    }

    pub(crate) fn is_open(&self, gate: &str) -> bool {
        self.board().open.contains(gate)
    }

    /// Waits until a gate is open.
    pub(crate) async fn gate(&self, gate: &str) {
        while !self.is_open(gate) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Is inside until the value is dropped.
    pub(crate) fn enter(&self) -> Inside {
        let mut board = self.board();
        board.now += 1;
        board.most = board.most.max(board.now);
        Inside(self.clone())
    }

    /// How many were inside at once at most.
    pub(crate) fn most(&self) -> usize {
        self.board().most
    }
}

pub(crate) struct Inside(Stage);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.board().now -= 1;
    }
}
