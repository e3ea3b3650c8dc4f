//! Programs of the machine that the tasks need.

use std::process::{Command, Stdio};

/// A program that a task needs.
pub(crate) struct Tool {
    /// The names it may have; the first that runs is taken.
    pub(crate) names: Vec<String>,
    /// The arguments with which it tells that it is there.
    pub(crate) check: &'static [&'static str],
    /// What it is needed for.
    pub(crate) needed: &'static str,
    /// How to get it.
    pub(crate) get: &'static str,
}

impl Tool {
    /// The name under which it runs.
    ///
    /// # Errors
    /// A message for the user: what is missing, why it is needed, what to do.
    pub(crate) fn find(&self) -> Result<String, String> {
        let runs = |name: &&String| {
            Command::new(name)
                .args(self.check)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
        };
        self.names.iter().find(runs).cloned().ok_or_else(|| {
            format!(
                "`{} {}` does not run. It is needed {}. To get it: {}",
                self.names.join("` or `"),
                self.check.join(" "),
                self.needed,
                self.get
            )
        })
    }
}

/// The C++ compiler that the `cc` crate takes: `CXX`, or `c++`.
pub(crate) fn compiler() -> Tool {
    let named = std::env::var("CXX").ok().filter(|name| !name.is_empty());
    Tool {
        names: vec![named.unwrap_or_else(|| "c++".into())],
        check: &["--version"],
        needed: "to build the bindings of libtorch",
        get: "apt-get install g++ (Debian, Ubuntu), dnf install gcc-c++ (Fedora), or set CXX",
    }
}

/// The Python that makes the tests' environment.
pub(crate) fn python() -> Tool {
    let named = std::env::var("PYTHON").ok().filter(|name| !name.is_empty());
    Tool {
        names: vec![named.unwrap_or_else(|| "python3".into())],
        check: &["-c", "import sys, venv; sys.exit(sys.version_info < (3, 11))"],
        needed: "in version 3.11 or newer, for the official clients that judge the servers",
        get: "apt-get install python3 python3-venv python3-pip (Debian, Ubuntu), or set PYTHON to one that is new enough",
    }
}

/// A part of the Rust toolchain that rustup's minimal profile leaves out.
pub(crate) fn component(name: &'static str, get: &'static str) -> Tool {
    Tool {
        names: vec![std::env::var("CARGO").unwrap_or_else(|_| "cargo".into())],
        check: match name {
            "fmt" => &["fmt", "--version"],
            _ => &["clippy", "--version"],
        },
        needed: "to check the code",
        get,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_is_told_with_the_way_out() {
        let tool = Tool {
            names: vec!["no-such-program-here".into()],
            check: &["--version"],
            needed: "for this test",
            get: "write it",
        };
        let message = tool.find().unwrap_err();
        for part in ["no-such-program-here", "for this test", "write it"] {
            assert!(message.contains(part), "{message}");
        }
        let there = Tool { names: vec!["no-such-program-here".into(), "true".into()], check: &[], ..tool };
        assert_eq!(there.find().unwrap(), "true");
    }
}
