//! Adding up what test programs report.

/// How many tests passed, failed, and were left out.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) ignored: u64,
    /// The names of those that failed.
    pub(crate) names: Vec<String>,
}

impl Counts {
    /// Adds a line of a test program's output, where it is one that counts.
    pub(crate) fn add_line(&mut self, line: &str) {
        if let Some(name) = line.strip_prefix("test ").and_then(|line| line.strip_suffix(" ... FAILED")) {
            self.names.push(name.to_owned());
        }
        let Some(counts) = parse(line) else { return };
        self.passed += counts.passed;
        self.failed += counts.failed;
        self.ignored += counts.ignored;
    }
}

/// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
fn parse(line: &str) -> Option<Counts> {
    let (_, told) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut counts = Counts::default();
    for part in told.split(';') {
        let (number, what) = part.trim().split_once(' ')?;
        let Ok(number) = number.parse() else { continue };
        match what {
            "passed" => counts.passed = number,
            "failed" => counts.failed = number,
            "ignored" => counts.ignored = number,
            _ => {}
        }
    }
    Some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_add_up() {
        let mut counts = Counts::default();
        for line in [
            "running 3 tests",
            "test a ... ok",
            "test b::c ... FAILED",
            "test src/lib.rs - (line 7) ... FAILED",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.31s",
            "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s",
            "test result: nonsense",
            "test result: ok. x passed; y",
        ] {
            counts.add_line(line);
        }
        let names = vec!["b::c".to_owned(), "src/lib.rs - (line 7)".to_owned()];
        assert_eq!(counts, Counts { passed: 4, failed: 2, ignored: 1, names });
    }
}
