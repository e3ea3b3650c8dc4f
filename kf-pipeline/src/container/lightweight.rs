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
        let runs = ["kfp.dsl.executor_main", "kfp.components.executor_main"]
            .iter()
            .any(|main| script.contains(main))
            && script.contains("--component_module_path");
        // What else the script may do besides writing the file and running it is not known.
        let steps = script.lines().map(str::trim).filter(|line| !line.is_empty());
        let known = steps.clone().all(|line| {
            line == "program_path=$(mktemp -d)"
                || line.starts_with("printf \"%s\" \"$0\" >")
                || line.starts_with("_KFP_RUNTIME=true python3 -m kfp.")
                || line.starts_with("python3 -m kfp.")
        });
        if !["-c", "-ec"].contains(flags) || !runs || !known {
            return None;
        }
        let (mut kept, mut kfp) = (Vec::new(), None);
        for install in installs {
            let version = install.iter().find_map(|word| word.strip_prefix("kfp==").map(str::to_owned));
            if version.is_some() {
                kfp = version;
                continue;
            }
            if install.iter().any(|word| !word.starts_with('-')) {
                kept.push(install);
            }
        }
        let args = args.iter().map(|word| (*word).to_owned()).collect();
        Some(Self { installs: kept, kfp, source: (*source).to_owned(), args })
    }
}

/// What each `pip install` of a script is given; none where the script does something else too.
fn installs(script: &str) -> Option<Vec<Vec<String>>> {
    let mut found: Vec<Vec<String>> = Vec::new();
    let mut rest = script;
    while let Some(at) = rest.find("pip install") {
        rest = &rest[at + "pip install".len()..];
        let (words, after) = words(rest)?;
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
    let runs_on = rest.trim_end_matches([')', ' ', '\n']).contains("\"$0\" \"$@\"");
    runs_on.then_some(found)
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
            "\nif ! [ -x \"$(command -v pip)\" ]; then\n    python3 -m ensurepip\nfi\n\n\
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
    }

    #[test]
    fn other_commands_are_not() {
        assert_eq!(recognise("pip install $PACKAGES && \"$0\" \"$@\""), None);
        assert_eq!(recognise("pip install x"), None);
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
