//! The exception that a Python process ended with, among what it printed.

/// How a traceback begins, and one of an exception group, each with what its other lines begin with.
const BEGINNINGS: [(&str, &str); 2] = [
    ("Traceback (most recent call last):", ""),
    ("  + Exception Group Traceback (most recent call last):", "  | "),
];

/// An exception among the lines that a process printed.
pub(super) struct Exception<'a> {
    /// The line that its traceback begins with.
    pub(super) begin: usize,
    /// The line that it is in.
    pub(super) at: usize,
    /// It, with the first line of its message.
    pub(super) text: &'a str,
}

impl<'a> Exception<'a> {
    /// That of the last traceback.
    pub(super) fn last(printed: &'a [String]) -> Option<Self> {
        let (begin, prefix) = printed.iter().enumerate().rev().find_map(|(at, line)| {
            let found = BEGINNINGS.iter().find(|(beginning, _)| line == beginning);
            found.map(|(_, prefix)| (at, *prefix))
        })?;
        printed.iter().enumerate().skip(begin + 1).find_map(|(at, line)| {
            let text = line.strip_prefix(prefix)?;
            // The frames are indented.
            let is_it = !text.is_empty() && !text.starts_with(char::is_whitespace);
            is_it.then_some(Self { begin, at, text })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(printed: &str) -> Option<(usize, String)> {
        let printed: Vec<String> = printed.lines().map(str::to_owned).collect();
        Exception::last(&printed).map(|found| (found.at, found.text.to_owned()))
    }

    const FIRST: &str =
        "Traceback (most recent call last):\n  File \"a.py\", line 1, in f\n    g()\nKeyError: 'a'";

    #[test]
    fn the_exception_is_found_among_other_lines() {
        let printed = format!("{{\n  \"inputs\": {{}}\n}}\n{FIRST}\nbye");
        assert_eq!(found(&printed), Some((6, "KeyError: 'a'".to_owned())));
    }

    #[test]
    fn of_chained_exceptions_the_last_counts() {
        let chained = format!(
            "{FIRST}\n\nDuring handling of the above exception, another exception occurred:\n\n\
             Traceback (most recent call last):\n  File \"a.py\", line 3, in f\n    h()\nValueError: two\nlines"
        );
        assert_eq!(found(&chained), Some((10, "ValueError: two".to_owned())));
    }

    #[test]
    fn a_group_is_one_exception() {
        let group = "  + Exception Group Traceback (most recent call last):\n  |   File \"a.py\", line 1, in f\n  |     g()\n  \
                     | ExceptionGroup: both (2 sub-exceptions)\n  +-+---------------- 1 ----------------\n    \
                     | Traceback (most recent call last):\n    |   File \"a.py\", line 2, in g\n    | ValueError: 1\n    \
                     +------------------------------------";
        assert_eq!(found(group), Some((3, "ExceptionGroup: both (2 sub-exceptions)".to_owned())));
    }

    #[test]
    fn what_is_no_whole_traceback_is_none() {
        assert_eq!(found(""), None);
        assert_eq!(found("said\nTraceback (most recent call last):\n  File \"a.py\", line 1, in f"), None);
        assert_eq!(found("it printed Traceback (most recent call last):\nno"), None);
    }
}
