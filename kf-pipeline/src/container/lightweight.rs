//! Lightweight Python components: what the commands that KFP's compiler writes for them ask for.
//!
//! Such a command is a shell that installs packages, then a shell that writes the function's source to a file and
//! runs `python3 -m kfp.dsl.executor_main` on it. Recognised, neither shell is needed.

/// A lightweight Python component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lightweight {
    /// What each `pip install` is given, but for options that only change what it prints and for KFP itself.
    pub(crate) installs: Vec<Vec<String>>,
    /// The version of KFP that it was compiled with, where it says.
    pub(crate) kfp: Option<String>,
    /// The source of its module.
    pub(crate) source: String,
    /// What follows, with placeholders: the arguments of `executor_main`.
    pub(crate) args: Vec<String>,
}

impl Lightweight {
    /// What a command and its arguments ask for; none where it is another kind of command, or one that is put together
    /// otherwise.
    pub(crate) fn recognise(command: &[String], args: &[String]) -> Option<Self> {
        let words: Vec<&str> = command.iter().chain(args).map(String::as_str).collect();
        let (installs, rest) = match words.as_slice() {
            ["sh", "-c", script, rest @ ..] if script.contains("pip install") => (installs(script)?, rest),
            rest => (Vec::new(), rest),
        };
        let ["sh", flags, script, source, args @ ..] = rest else { return None };
        if !["-c", "-ec"].contains(flags) || !runs_source(script) {
            return None;
        }
        let (mut kept, mut kfp) = (Vec::new(), None);
        for mut install in installs {
            let version = install.iter().find_map(|word| word.strip_prefix("kfp==").map(str::to_owned));
            if version.is_some() {
                kfp = version;
                // The compiler's own, with what old Pythons need besides.
                if install.iter().any(|word| word == "--no-deps") {
                    continue;
                }
                install.retain(|word| !word.starts_with("kfp=="));
            }
            if names_package(&install) {
                kept.push(install);
            }
        }
        let args = args.iter().map(|word| (*word).to_owned()).collect();
        Some(Self { installs: kept, kfp, source: (*source).to_owned(), args })
    }
}

/// Whether a script writes the source that it is given to a file, runs that, and does nothing else.
fn runs_source(script: &str) -> bool {
    let lines: Vec<Vec<&str>> = script
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|line| !line.is_empty())
        .collect();
    let [folder, write, run] = lines.as_slice() else { return false };
    let run = match run.as_slice() {
        ["_KFP_RUNTIME=true", run @ ..] => run,
        run => run,
    };
    let ["python3", "-m", "kfp.dsl.executor_main" | "kfp.components.executor_main", run @ ..] = run else {
        return false;
    };
    folder == &["program_path=$(mktemp", "-d)"]
        && write == &["printf", "\"%s\"", "\"$0\"", ">", MODULE]
        && run == ["--component_module_path", MODULE, "\"$@\""]
}

/// Where a script writes the source.
const MODULE: &str = "\"$program_path/ephemeral_component.py\"";
/// What a script begins with that makes sure of pip, word by word.
const ENSURE_PIP: &str = "if ! [ -x \"$(command -v pip)\" ]; then python3 -m ensurepip || python3 -m ensurepip --user \
                          || apt-get install python3-pip fi";

/// Whether anything is left to install, besides options.
fn names_package(install: &[String]) -> bool {
    let takes_value =
        |word: &str| ["-i", "--index-url", "--extra-index-url", "--trusted-host", "-f"].contains(&word);
    let mut words = install.iter();
    while let Some(word) = words.next() {
        if takes_value(word) {
            words.next();
        } else if !word.starts_with('-') {
            return true;
        }
    }
    false
}

/// What a compiler puts in for a step that asks for a virtual environment of its own.
const OWN_VENV: &str = "export PIP_DISABLE_PIP_VERSION_CHECK=1 tmp=$(mktemp -d) python3 -m venv \"$tmp/venv\" \
                        --system-site-packages . \"$tmp/venv/bin/activate\"";

/// What each `pip install` of a script is given; none where the script does something else too.
fn installs(script: &str) -> Option<Vec<Vec<String>>> {
    let mut found: Vec<Vec<String>> = Vec::new();
    let mut rest = without_words(script, ENSURE_PIP).unwrap_or(script);
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || "()&|".contains(c));
        if let Some(end) = rest.strip_prefix("\"$0\" \"$@\"") {
            return end.trim_matches([')', ' ', '\n']).is_empty().then_some(found);
        }
        let command = rest.strip_prefix("PIP_DISABLE_PIP_VERSION_CHECK=1").unwrap_or(rest).trim_start();
        let command = without_words(command, OWN_VENV).unwrap_or(command).trim_start();
        let command = command.strip_prefix("python3 -m").unwrap_or(command).trim_start();
        let (words, after) = words(command.strip_prefix("pip install ")?)?;
        rest = after;
        let kept: Vec<String> = words
            .into_iter()
            .filter(|word| !["--quiet", "-q", "--no-warn-script-location", "--user"].contains(&word.as_str()))
            .collect();
        // `… || … --user` installs the same.
        if !found.contains(&kept) {
            found.push(kept);
        }
    }
}

/// What follows these words, whatever space is between them; none where the text begins otherwise.
fn without_words<'a>(text: &'a str, words: &str) -> Option<&'a str> {
    words.split_whitespace().try_fold(text, |rest, word| rest.trim_start().strip_prefix(word))
}

/// The words of a command up to its end, quotes taken off, and what follows; none where a shell would put something
/// else in place of a part.
fn words(text: &str) -> Option<(Vec<String>, &str)> {
    let (mut words, mut word, mut at) = (Vec::new(), None::<String>, 0);
    while let Some(c) = text[at..].chars().next() {
        match c {
            '&' | '|' | ';' | ')' | '\n' => break,
            '$' | '`' | '\\' => return None,
            '\'' | '"' => {
                let quoted = &text[at + 1..];
                let quoted = &quoted[..quoted.find(c)?];
                if c == '"' && quoted.contains(['$', '`', '\\']) {
                    return None;
                }
                word.get_or_insert_default().push_str(quoted);
                at += quoted.len() + 1;
            }
            c if c.is_whitespace() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
        at += c.len_utf8();
    }
    words.extend(word);
    Some((words, &text[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = "program_path=$(mktemp -d)\n\nprintf \"%s\" \"$0\" > \"$program_path/ephemeral_component.py\"\n\
        _KFP_RUNTIME=true python3 -m kfp.dsl.executor_main --component_module_path \
        \"$program_path/ephemeral_component.py\" \"$@\"\n";

    fn recognise(install: &str) -> Option<Lightweight> {
        let command = ["sh", "-c", install, "sh", "-ec", RUN, "def f(): pass"].map(str::to_owned);
        Lightweight::recognise(&command, &["--executor_input", "{{$}}"].map(str::to_owned))
    }

    #[test]
    fn what_compilers_write_is_recognised() {
        let found = recognise(
            "\nif ! [ -x \"$(command -v pip)\" ]; then\n    python3 -m ensurepip || python3 -m ensurepip --user || \
             apt-get install python3-pip\nfi\n\n\
             PIP_DISABLE_PIP_VERSION_CHECK=1 python3 -m pip install --quiet --no-warn-script-location 'kfp==2.14.3' \
             '--no-deps' 'typing-extensions>=3.7.4,<5; python_version<\"3.9\"'  &&  python3 -m pip install --quiet \
             --no-warn-script-location --index-url https://pypi.org/simple 'yapf' 'a'\"b\" && \"$0\" \"$@\"\n",
        );
        let found = found.unwrap();
        assert_eq!(found.kfp.as_deref(), Some("2.14.3"));
        assert_eq!(found.installs, [["--index-url", "https://pypi.org/simple", "yapf", "ab"]]);
        assert_eq!((found.source.as_str(), found.args.len()), ("def f(): pass", 2));
        let twice = "(pip install --quiet 'x' || pip install --quiet 'x' --user) && \"$0\" \"$@\"";
        assert_eq!(recognise(twice).unwrap().installs, [["x"]]);
        let venv = "PIP_DISABLE_PIP_VERSION_CHECK=1 python3 -m pip install 'x' && \nexport \
             PIP_DISABLE_PIP_VERSION_CHECK=1\ntmp=$(mktemp -d)\npython3 -m venv \"$tmp/venv\" \
             --system-site-packages\n. \"$tmp/venv/bin/activate\"\npython3 -m pip install --index-url u 'kfp==2.1' \
             && \"$0\" \"$@\"";
        assert_eq!(recognise(venv).unwrap().installs, [["x"]]);
        let own = recognise("python3 -m pip install 'kfp==2.7.0' 'pandas' --no-cache-dir && \"$0\" \"$@\"")
            .unwrap();
        assert_eq!(own.installs, [["pandas", "--no-cache-dir"]]);
        assert_eq!(own.kfp.as_deref(), Some("2.7.0"));
    }

    #[test]
    fn other_commands_are_not() {
        assert_eq!(recognise("pip install $PACKAGES && \"$0\" \"$@\""), None);
        assert_eq!(recognise("pip install x"), None);
        assert_eq!(recognise("touch /x && pip install x && \"$0\" \"$@\""), None);
        assert_eq!(recognise("pip install x && rm /x && \"$0\" \"$@\""), None);
        assert_eq!(recognise("pip install x && \"$0\" \"$@\" && rm /x"), None);
        let more = RUN.replace("\"$@\"", "\"$@\"; rm /x");
        let command = ["sh", "-ec", &more, "def f(): pass"].map(str::to_owned);
        assert_eq!(Lightweight::recognise(&command, &[]), None);
        let command = ["sh", "-c", "echo kfp.dsl.executor_main"].map(str::to_owned);
        assert_eq!(Lightweight::recognise(&command, &[]), None);
        let more = RUN.replace("mktemp -d)", "mktemp -d); rm -rf /x\nrm y");
        let command = ["sh", "-ec", &more, "def f(): pass"].map(str::to_owned);
        assert_eq!(Lightweight::recognise(&command, &[]), None);
        assert!(
            Lightweight::recognise(&["sh", "-ec", RUN, "def f(): pass"].map(str::to_owned), &[]).is_some()
        );
    }
}
