//! The table of judges: outside programs and data that a test measures the project against.
//!
//! A test that asks a judge says so in one line, `JUDGE name passed`, `JUDGE name failed: why` or
//! `JUDGE name skipped: why`, appended to the file that the environment variable `KF_JUDGES` names, or printed to
//! standard output. A judge that speaks more than once is told with its worst answer.

use std::collections::BTreeMap;
use std::path::Path;

/// What a judge said, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Passed,
    Skipped,
    Failed,
}

/// What all judges said.
#[derive(Debug, Default)]
pub(crate) struct Judges {
    said: BTreeMap<String, (Verdict, String)>,
}

impl Judges {
    /// Adds a line, where it is a judge's.
    pub(crate) fn add_line(&mut self, line: &str) {
        let Some((name, verdict, why)) = parse(line) else { return };
        match self.said.get(name) {
            Some((before, _)) if *before >= verdict => {}
            _ => {
                self.said.insert(name.to_owned(), (verdict, why.to_owned()));
            }
        }
    }

    /// Adds the lines of a file, where it is there.
    pub(crate) fn add_file(&mut self, path: &Path) {
        let bytes = std::fs::read(path).unwrap_or_default();
        String::from_utf8_lossy(&bytes).lines().for_each(|line| self.add_line(line));
    }

    /// What is wrong: judges that failed, and `required` ones (a list with commas) that did not pass. A required
    /// name stands for every judge whose name begins with it.
    pub(crate) fn failures(&self, required: &str) -> Vec<String> {
        let mut failures: Vec<_> = self
            .said
            .iter()
            .filter(|(_, (verdict, _))| *verdict == Verdict::Failed)
            .map(|(name, (_, why))| format!("judge {name} failed: {why}"))
            .collect();
        for wanted in required.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let mut named = self.said.iter().filter(|(name, _)| name.starts_with(wanted)).peekable();
            if named.peek().is_none() {
                failures.push(format!("judge {wanted} is required, and no test asked it"));
            }
            failures.extend(
                named
                    .filter(|(_, (verdict, _))| *verdict == Verdict::Skipped)
                    .map(|(name, (_, why))| format!("judge {name} is required, and was skipped: {why}")),
            );
        }
        failures
    }

    /// A row of name, verdict and reason for each judge.
    pub(crate) fn rows(&self) -> Vec<Vec<String>> {
        self.said
            .iter()
            .map(|(name, (verdict, why))| {
                let verdict = match verdict {
                    Verdict::Passed => "passed",
                    Verdict::Skipped => "skipped",
                    Verdict::Failed => "FAILED",
                };
                vec![name.clone(), verdict.to_owned(), why.clone()]
            })
            .collect()
    }
}

fn parse(line: &str) -> Option<(&str, Verdict, &str)> {
    // A harness may have put the test's name before it, without a line break.
    let (_, told) = line.split_once("JUDGE ")?;
    let (name, told) = told.split_once(' ')?;
    let (verdict, why) = told.split_once(':').unwrap_or((told, ""));
    let verdict = match verdict.trim() {
        "passed" => Verdict::Passed,
        "skipped" => Verdict::Skipped,
        "failed" => Verdict::Failed,
        _ => return None,
    };
    Some((name, verdict, why.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judges(lines: &[&str]) -> Judges {
        let mut judges = Judges::default();
        lines.iter().for_each(|line| judges.add_line(line));
        judges
    }

    #[test]
    fn lines_are_read_wherever_they_stand() {
        let judges = judges(&[
            "JUDGE tritonclient passed",
            "test judge ... JUDGE dask skipped: no Python: none at all",
            "JUDGE kfp failed: 3 of 250 cases",
            "JUDGE nonsense maybe",
            "no judge here",
        ]);
        let rows = judges.rows();
        let expected = [
            ["dask", "skipped", "no Python: none at all"],
            ["kfp", "FAILED", "3 of 250 cases"],
            ["tritonclient", "passed", ""],
        ];
        assert_eq!(rows, expected.map(|row| row.map(str::to_owned).to_vec()));
    }

    #[test]
    fn the_worst_answer_counts() {
        let told = judges(&["JUDGE a passed", "JUDGE a failed: one", "JUDGE a passed", "JUDGE a skipped: x"]);
        assert_eq!(told.rows(), [["a", "FAILED", "one"].map(str::to_owned).to_vec()]);
    }

    #[test]
    fn required_judges_may_not_be_skipped_nor_forgotten() {
        let judges = judges(&["JUDGE triton-json passed", "JUDGE triton-binary skipped: no Python"]);
        assert!(judges.failures("").is_empty());
        assert_eq!(judges.failures("triton").len(), 1);
        assert!(judges.failures("triton")[0].contains("triton-binary"));
        assert!(judges.failures("triton-json").is_empty());
        assert!(judges.failures("triton-json, dask")[0].contains("no test asked it"));
        assert_eq!(self::judges(&["JUDGE x failed: why"]).failures("").len(), 1);
    }
}
