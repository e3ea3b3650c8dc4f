//! What failed tests said, to be told once more at the end, where it is looked for.

/// Of each failed test, so many of its first lines and so many of its last ones.
const FIRST: usize = 10;
const LAST: usize = 30;

/// What failed tests said.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    said: Vec<Vec<String>>,
    at: At,
}

/// Where in a test program's output a line is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum At {
    #[default]
    Elsewhere,
    /// In the first list of failures, which has what they said. The second has their names only.
    Said,
    Backtrace,
}

impl Failures {
    /// Takes a line of a test program's output, where it is a failed test's.
    pub(crate) fn add_line(&mut self, line: &str) {
        let begins = line.starts_with("---- ") && line.ends_with(" ----");
        self.at = match (self.at, line) {
            (At::Elsewhere, "failures:") => At::Said,
            (_, "failures:") => At::Elsewhere,
            (_, line) if line.starts_with("test result: ") => At::Elsewhere,
            (At::Said, "stack backtrace:") => At::Backtrace,
            (At::Backtrace, line) if begins || line.starts_with("note: ") => At::Said,
            (at, _) => at,
        };
        match (self.at, self.said.last_mut()) {
            (At::Said, _) if begins => self.said.push(vec![line.to_owned()]),
            (At::Said, Some(lines))
                if !(line.is_empty() || line == "failures:" || line.starts_with("note: ")) =>
            {
                lines.push(line.to_owned());
            }
            _ => {}
        }
    }

    /// A block of lines for each, where it is long without its middle.
    pub(crate) fn told(&self) -> String {
        self.said.iter().map(|lines| format!("{}\n", shortened(lines).join("\n"))).collect()
    }
}

fn shortened(lines: &[String]) -> Vec<String> {
    if lines.len() <= FIRST + LAST {
        return lines.to_vec();
    }
    let left_out = lines.len() - FIRST - LAST;
    let (first, last) = (&lines[..FIRST], &lines[lines.len() - LAST..]);
    [first, &[format!("[{left_out} lines more]")], last].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(output: &str) -> String {
        let mut failures = Failures::default();
        output.lines().for_each(|line| failures.add_line(line));
        failures.told()
    }

    #[test]
    fn what_failed_tests_said_is_kept() {
        let output = "running 3 tests\ntest a ... ok\nsuccesses:\n---- a stdout ----\nfine\nfailures:\n\n\
            ---- b stdout ----\nbefore\npanicked at b.rs:1:1\nstack backtrace:\n   0: rust_begin_unwind\n\
            note: some details are omitted\n\n---- c ----\nnot within 30 s\n\nfailures:\n    b\n    c\n\n\
            test result: FAILED. 1 passed; 2 failed\nmore\n";
        let expected = "---- b stdout ----\nbefore\npanicked at b.rs:1:1\n---- c ----\nnot within 30 s\n";
        assert_eq!(told(output), expected);
        assert_eq!(told(&format!("{output}{output}")), format!("{expected}{expected}"));
        assert_eq!(told("running 1 test\ntest a ... ok\ntest result: ok. 1 passed\n"), "");
    }

    #[test]
    fn of_much_the_middle_is_left_out() {
        let lines: String = (0..100).map(|number| format!("line {number}\n")).collect();
        let told = told(&format!("failures:\n---- a ----\n{lines}failures:\n    a\n"));
        assert!(told.starts_with("---- a ----\nline 0\n"), "{told}");
        assert!(told.contains("line 8\n[61 lines more]\nline 70\n"), "{told}");
        assert!(told.ends_with("line 99\n"), "{told}");
    }
}
