//! The exception that a Python process ended with, among what it printed.

/// How a traceback begins, and one of an exception group, each with what its other lines begin with.
const BEGINNINGS: [(&str, &str); 2] = [
    ("Traceback (most recent call last):", ""),
    ("  + Exception Group Traceback (most recent call last):", "  | "),
];

/// The last traceback among the lines that a process printed.
#[derive(Debug, PartialEq)]
pub(super) struct Traceback<'a> {
    /// The exception, with the first line of its message.
    pub(super) exception: &'a str,
    /// The traceback, without its beginning where it is longer than was asked for, and what was printed after it where
    /// it is shorter.
    pub(super) lines: &'a [String],
}

impl<'a> Traceback<'a> {
    /// Finds it, with at most so many of its lines.
    pub(super) fn find(printed: &'a [String], most: usize) -> Option<Self> {
        let (begin, prefix) = printed.iter().enumerate().rev().find_map(|(at, line)| {
            let found = BEGINNINGS.iter().find(|(beginning, _)| line == beginning);
            found.map(|(_, prefix)| (at, *prefix))
        })?;
        let mut after = printed.iter().enumerate().skip(begin + 1);
        let (end, exception) = after.find_map(|(at, line)| {
            let text = line.strip_prefix(prefix)?;
            // The frames are indented.
            (!text.is_empty() && !text.starts_with(char::is_whitespace)).then_some((at, text))
        })?;
        let from = begin.max((end + 1).saturating_sub(most));
        let lines = &printed[from..printed.len().min(from + most)];
        Some(Self { exception, lines })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(printed: &str, most: usize) -> Option<(String, String)> {
        let printed: Vec<String> = printed.lines().map(str::to_owned).collect();
        Traceback::find(&printed, most).map(|found| (found.exception.to_owned(), found.lines.join("\n")))
    }

    const FIRST: &str =
        "Traceback (most recent call last):\n  File \"a.py\", line 1, in f\n    g()\nKeyError: 'a'";

    #[test]
    fn the_exception_is_found_among_other_lines() {
        let (exception, lines) = found(&format!("{{\n  \"inputs\": {{}}\n}}\n{FIRST}\nbye"), 20).unwrap();
        assert_eq!(exception, "KeyError: 'a'");
        assert_eq!(lines, format!("{FIRST}\nbye"));
    }

    #[test]
    fn of_chained_exceptions_the_last_counts() {
        let chained = format!(
            "{FIRST}\n\nDuring handling of the above exception, another exception occurred:\n\n\
             Traceback (most recent call last):\n  File \"a.py\", line 3, in f\n    h()\nValueError: two\nlines"
        );
        let (exception, lines) = found(&chained, 20).unwrap();
        assert_eq!(exception, "ValueError: two");
        assert!(lines.starts_with("Traceback") && lines.ends_with("two\nlines"), "{lines}");
    }

    #[test]
    fn a_long_one_keeps_its_end() {
        let frames = "  File \"a.py\", line 1, in f\n    f()\n".repeat(50);
        let long = format!("Traceback (most recent call last):\n{frames}RecursionError: too deep\nbye");
        let (exception, lines) = found(&long, 3).unwrap();
        assert_eq!(exception, "RecursionError: too deep");
        assert_eq!(lines, "  File \"a.py\", line 1, in f\n    f()\nRecursionError: too deep");
    }

    #[test]
    fn a_group_is_one_exception() {
        let group = "  + Exception Group Traceback (most recent call last):\n  |   File \"a.py\", line 1, in f\n  |     g()\n  \
                     | ExceptionGroup: both (2 sub-exceptions)\n  +-+---------------- 1 ----------------\n    \
                     | Traceback (most recent call last):\n    |   File \"a.py\", line 2, in g\n    | ValueError: 1\n    \
                     +------------------------------------";
        let (exception, lines) = found(group, 20).unwrap();
        assert_eq!(exception, "ExceptionGroup: both (2 sub-exceptions)");
        assert_eq!(lines, group);
    }

    #[test]
    fn what_is_no_whole_traceback_is_none() {
        assert_eq!(found("", 20), None);
        assert_eq!(
            found("said\nTraceback (most recent call last):\n  File \"a.py\", line 1, in f", 20),
            None
        );
        assert_eq!(found("it printed Traceback (most recent call last):\nno", 20), None);
    }
}
