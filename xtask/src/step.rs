//! Steps: what is done, told as it happens, with the time it took.

use std::time::{Duration, Instant};

/// A step that was done.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) name: String,
    /// Why it failed, where it did.
    pub(crate) failed: Option<String>,
    pub(crate) took: Duration,
}

/// Does steps one after another; one that fails does not stop those after it.
pub(crate) struct Steps {
    total: usize,
    pub(crate) done: Vec<Done>,
}

impl Steps {
    pub(crate) fn new(total: usize) -> Self {
        Self { total, done: Vec::new() }
    }

    /// Does a step, and tells whether it passed.
    pub(crate) fn step(&mut self, name: &str, action: impl FnOnce() -> Result<(), String>) -> bool {
        eprintln!("\n[{}/{}] {name}", self.done.len() + 1, self.total);
        let began = Instant::now();
        let failed = action().err();
        let took = began.elapsed();
        match &failed {
            None => eprintln!("    passed in {}", seconds(took)),
            Some(why) => eprintln!("    FAILED in {}: {why}", seconds(took)),
        }
        let passed = failed.is_none();
        self.done.push(Done { name: name.to_owned(), failed, took });
        passed
    }

    /// A row of name, end and time for each step.
    pub(crate) fn rows(&self) -> Vec<Vec<String>> {
        self.done
            .iter()
            .map(|done| {
                let (end, why) = match &done.failed {
                    None => ("passed", ""),
                    Some(_) => ("FAILED", "see below"),
                };
                vec![done.name.clone(), end.to_owned(), seconds(done.took), why.to_owned()]
            })
            .collect()
    }
}

/// A time as a person reads it.
pub(crate) fn seconds(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{:.0} min {:.0} s", (seconds / 60.0).floor(), (seconds % 60.0).floor())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_does_not_stop_the_rest() {
        let mut steps = Steps::new(3);
        assert!(steps.step("one", || Ok(())));
        assert!(!steps.step("two", || Err("broken".to_owned())));
        assert!(steps.step("three", || Ok(())));
        let ends: Vec<_> = steps.rows().into_iter().map(|row| (row[1].clone(), row[3].clone())).collect();
        let expected = [("passed", ""), ("FAILED", "see below"), ("passed", "")];
        assert_eq!(ends, expected.map(|(end, why)| (end.to_owned(), why.to_owned())));
    }

    #[test]
    fn times() {
        assert_eq!(seconds(Duration::from_millis(1500)), "1.5 s");
        assert_eq!(seconds(Duration::from_secs(125)), "2 min 5 s");
    }
}
