//! Symbolic links among what an attempt wrote.

use std::io;
use std::path::{Path, PathBuf};

/// How deep a container's folder may go.
const DEEPEST: usize = 64;
/// How many files and folders may be copied in place of links: links that lead to links grow without end.
const MOST: usize = 100_000;

/// Follows links within an attempt's own folder and to its inputs. What a task links to elsewhere is not its output: this
/// process may be able to read what the task is not to publish. A path that a task names outright, instead of one that it
/// was given, is taken as it is.
pub(super) struct Links {
    within: PathBuf,
    /// The content of its input artifacts.
    inputs: Vec<PathBuf>,
    /// The folders that are being copied, each within the one before.
    way: Vec<PathBuf>,
    copied: usize,
    most: usize,
}

impl Links {
    /// For an output at this path, which lies in a folder in the attempt's own, of an attempt with these inputs.
    pub(super) fn of_output(path: &Path, inputs: &[PathBuf]) -> io::Result<Self> {
        let within = path.ancestors().nth(2).unwrap_or(path).canonicalize()?;
        Ok(Self { within, inputs: inputs.to_vec(), way: Vec::new(), copied: 0, most: MOST })
    }

    /// Whether a path, without links in it, is in the attempt's own folder.
    pub(super) fn owns(&self, real: &Path) -> bool {
        real.starts_with(&self.within)
    }

    fn is_input(&self, real: &Path) -> bool {
        self.inputs.iter().any(|input| input.canonicalize().is_ok_and(|input| real.starts_with(input)))
    }

    /// Where a path leads.
    ///
    /// # Errors
    /// Names the target that lies elsewhere.
    pub(super) fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        let link = |problem: String| format!("the link `{}` {problem}", path.display());
        let real = path
            .canonicalize()
            .map_err(|error| io::Error::new(error.kind(), link(format!("leads nowhere: {error}"))))?;
        if self.owns(&real) || self.is_input(&real) {
            return Ok(real);
        }
        let target = real.display();
        let problem = format!(
            "leads to `{target}`, outside of the attempt's folder and its inputs; copy what it leads to"
        );
        Err(io::Error::other(link(problem)))
    }

    /// Puts in place of the links in a folder what they lead to: the store keeps files.
    ///
    /// # Errors
    /// Names the link that leads around it, or to what is no file, too deep or too much.
    pub(super) fn replace(mut self, folder: &Path) -> io::Result<()> {
        self.follow(folder, 0)
    }

    fn follow(&mut self, folder: &Path, depth: usize) -> io::Result<()> {
        refuse_depth(depth)?;
        for entry in std::fs::read_dir(folder)? {
            let (kind, path) = entry.and_then(|entry| Ok((entry.file_type()?, entry.path())))?;
            if kind.is_symlink() {
                let real = self.resolve(&path)?;
                if path.starts_with(&real) {
                    return Err(io::Error::other(format!("the link `{}` leads around it", path.display())));
                }
                std::fs::remove_file(&path)?;
                self.copy(&real, &path, depth + 1)?;
            } else if kind.is_dir() {
                self.follow(&path, depth + 1)?;
            }
        }
        Ok(())
    }

    fn copy(&mut self, from: &Path, to: &Path, depth: usize) -> io::Result<()> {
        refuse_depth(depth)?;
        self.copied += 1;
        if self.copied > self.most {
            return Err(io::Error::other(format!(
                "its links lead to more than {} files and folders",
                self.most
            )));
        }
        let about = std::fs::metadata(from)?;
        if about.is_file() {
            return std::fs::copy(from, to).map(drop);
        }
        if !about.is_dir() {
            // To read a pipe or a device may never end.
            return Err(io::Error::other(format!("`{}` is neither a file nor a folder", from.display())));
        }
        if self.way.iter().any(|around| around == from) {
            return Err(io::Error::other(format!("links within `{}` lead around it", from.display())));
        }
        self.way.push(from.to_owned());
        std::fs::create_dir(to)?;
        for entry in std::fs::read_dir(from)? {
            let entry = entry?;
            let real = match entry.file_type()?.is_symlink() {
                true => self.resolve(&entry.path())?,
                false => entry.path(),
            };
            self.copy(&real, &to.join(entry.file_name()), depth + 1)?;
        }
        self.way.pop();
        Ok(())
    }
}

fn refuse_depth(depth: usize) -> io::Result<()> {
    match depth > DEEPEST {
        true => Err(io::Error::other(format!("folders lie more than {DEEPEST} deep in one another"))),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Follows the links in an output of the attempt whose folder is `dir`.
    fn replace(dir: &Path, output: &Path) -> Result<(), String> {
        let within = dir.canonicalize().unwrap();
        let links = Links { within, inputs: Vec::new(), way: Vec::new(), copied: 0, most: 1000 };
        links.replace(output).map_err(|error| error.to_string())
    }

    #[test]
    fn links_that_grow_without_end_or_lead_to_a_pipe_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (outside, folder) = (dir.path().join("outside"), dir.path().join("folder"));
        std::fs::create_dir(&folder).unwrap();
        // Each level holds two links to the one before.
        for level in 0..40 {
            let place = outside.join(level.to_string());
            std::fs::create_dir_all(&place).unwrap();
            if level > 0 {
                for name in ["a", "b"] {
                    symlink(outside.join((level - 1).to_string()), place.join(name)).unwrap();
                }
            }
        }
        symlink(outside.join("39"), folder.join("link")).unwrap();
        assert!(replace(dir.path(), &folder).unwrap_err().contains("more than 1000 files"));
        let pipe = dir.path().join("pipes");
        std::fs::create_dir(&pipe).unwrap();
        let made = std::process::Command::new("mkfifo").arg(outside.join("pipe")).status().unwrap();
        assert!(made.success());
        symlink(outside.join("pipe"), pipe.join("link")).unwrap();
        assert!(replace(dir.path(), &pipe).unwrap_err().contains("neither a file nor a folder"));
    }

    #[test]
    fn links_are_followed_within_the_attempts_folder_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (attempt, elsewhere) = (dir.path().join("attempt"), dir.path().join("elsewhere"));
        let output = attempt.join("outputs-1/out");
        let work = attempt.join("work");
        for folder in [&output, &work, &elsewhere] {
            std::fs::create_dir_all(folder).unwrap();
        }
        std::fs::write(elsewhere.join("secret"), "secret").unwrap();
        std::fs::write(work.join("made"), "made").unwrap();
        let links = Links::of_output(&output, &[]).unwrap();
        assert_eq!(links.within, attempt.canonicalize().unwrap());

        symlink(work.join("made"), output.join("link")).unwrap();
        replace(&attempt, &output).unwrap();
        assert!(output.join("link").symlink_metadata().unwrap().is_file());
        assert_eq!(std::fs::read_to_string(output.join("link")).unwrap(), "made");

        symlink(elsewhere.join("secret"), output.join("outside")).unwrap();
        let refused = replace(&attempt, &output).unwrap_err();
        assert!(refused.contains("elsewhere/secret`, outside of the attempt's folder"), "{refused}");
        std::fs::remove_file(output.join("outside")).unwrap();

        // Two folders that lead to each other.
        let (one, other) = (attempt.join("one"), attempt.join("other"));
        for folder in [&one, &other] {
            std::fs::create_dir(folder).unwrap();
        }
        symlink(&one, output.join("around")).unwrap();
        symlink(&other, one.join("other")).unwrap();
        symlink(&one, other.join("one")).unwrap();
        let refused = replace(&attempt, &output).unwrap_err();
        assert!(refused.contains("one` lead around it"), "{refused}");
        std::fs::remove_dir_all(output.join("around")).unwrap();

        // An input may be handed on.
        symlink(elsewhere.join("secret"), output.join("input")).unwrap();
        Links::of_output(&output, &[elsewhere.join("secret")]).unwrap().replace(&output).unwrap();
        assert_eq!(std::fs::read_to_string(output.join("input")).unwrap(), "secret");

        // Also by way of a folder that a link leads to.
        symlink(elsewhere.join("secret"), work.join("deeper")).unwrap();
        symlink(&work, output.join("folder")).unwrap();
        let refused = replace(&attempt, &output).unwrap_err();
        assert!(
            refused.contains("work/deeper` leads to") && refused.contains("elsewhere/secret"),
            "{refused}"
        );
        std::fs::remove_dir_all(output.join("folder")).unwrap();

        symlink(attempt.join("nothing"), output.join("nowhere")).unwrap();
        assert!(replace(&attempt, &output).unwrap_err().contains("leads nowhere"));
    }
}
