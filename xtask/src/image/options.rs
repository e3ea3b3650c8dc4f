//! The arguments of `cargo xtask image`, checked.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

use super::place::{Place, own_path};
use super::reference::{Reference, Target};

/// What image is made, and where it goes.
#[derive(Args)]
pub(crate) struct Options {
    /// A program of this workspace, which is built first.
    #[arg(value_name = "BIN", required_unless_present = "bin_file")]
    pub(crate) bin: Option<String>,
    /// Instead, a program that is built already.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["bin", "features", "release"])]
    pub(crate) bin_file: Option<PathBuf>,
    /// Features of its crate, beside those that the program can't do without.
    #[arg(long, value_name = "FEATURES")]
    pub(crate) features: Option<String>,
    /// Builds it with optimisation.
    #[arg(long)]
    pub(crate) release: bool,
    /// A file to put in, at its own path or at DST. One that links to shared libraries brings them along.
    #[arg(long = "file", value_name = "SRC[:DST]")]
    pub(crate) files: Vec<Given>,
    /// A folder to put in, likewise.
    #[arg(long = "dir", value_name = "SRC[:DST]")]
    pub(crate) folders: Vec<Given>,
    /// A variable of the program's environment.
    #[arg(long, value_name = "K=V")]
    pub(crate) env: Vec<Variable>,
    /// The image's name: BIN under `kf.local/` where nothing is said, or what is pushed to; the tag is `dev`.
    #[arg(long, value_name = "NAME[:TAG]")]
    pub(crate) name: Option<Reference>,
    /// As whom the program runs. The default is a user without rights, as PodSecurity's `restricted` wants it.
    #[arg(long, value_name = "UID[:GID]", default_value = "65532:65532")]
    pub(crate) user: User,
    /// Where the image is written to, as an OCI image layout in one tar. Without this, and neither pushed nor imported:
    /// `target/images/NAME-TAG.tar`.
    #[arg(long, value_name = "FILE.tar")]
    pub(crate) output: Option<PathBuf>,
    /// Pushes it to a registry that speaks HTTP without TLS; only what is not there already.
    #[arg(long, value_name = "REGISTRY/NAME:TAG")]
    pub(crate) push: Option<Target>,
    /// Imports it into the containerd that listens on this socket, where Kubernetes finds it.
    #[arg(long, value_name = "SOCKET")]
    pub(crate) import: Option<PathBuf>,
}

/// A file or folder of this machine, and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Given {
    /// Its path here.
    pub(crate) source: PathBuf,
    /// Its place in the image.
    pub(crate) place: Place,
}

impl FromStr for Given {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (source, place) = match text.rsplit_once(':') {
            Some((source, place)) => (PathBuf::from(source), Place::new(place)?),
            None => (PathBuf::from(text), Place::new(own_path(text.as_ref())?)?),
        };
        if source.as_os_str().is_empty() {
            return Err("no path before `:`; write SRC or SRC:DST".to_owned());
        }
        Ok(Self { source, place })
    }
}

/// A variable of the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Variable {
    /// Its name.
    pub(crate) name: String,
    /// Its value.
    pub(crate) value: String,
}

impl FromStr for Variable {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => {
                Ok(Self { name: name.to_owned(), value: value.to_owned() })
            }
            _ => Err(format!("`{text}` is no variable: write NAME=VALUE")),
        }
    }
}

/// A user and a group, as numbers: Kubernetes can't tell from a name whether it is root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct User {
    /// The user.
    pub(crate) uid: u32,
    /// The group; where none is given, of the same number.
    pub(crate) gid: u32,
}

impl FromStr for User {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |part: &str| {
            let number =
                part.parse().map_err(|_| format!("`{part}` in `{text}` is no number: write UID or UID:GID"));
            number.and_then(|number: u32| match number {
                // What an image names as user must fit a signed number of 32 bits.
                0..=0x7fff_ffff => Ok(number),
                _ => Err(format!("`{part}` in `{text}` is above 2147483647")),
            })
        };
        let (uid, gid) = text.split_once(':').unwrap_or((text, text));
        Ok(Self { uid: number(uid)?, gid: number(gid)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users() {
        assert_eq!("7:8".parse(), Ok(User { uid: 7, gid: 8 }));
        assert_eq!("7".parse(), Ok(User { uid: 7, gid: 7 }));
        for text in ["", "root", "7:", "-1", "4294967295", "1:2:3"] {
            assert!(text.parse::<User>().is_err(), "{text}");
        }
    }

    #[test]
    fn files_and_their_places() {
        let given: Given = "some/model.bin:/models/a.bin".parse().unwrap();
        assert_eq!(given.source, PathBuf::from("some/model.bin"));
        assert_eq!(given.place.to_string(), "/models/a.bin");
        let here: Given = "Cargo.toml".parse().unwrap();
        let full = std::env::current_dir().unwrap().canonicalize().unwrap().join("Cargo.toml");
        assert_eq!(here.place.to_string(), full.display().to_string());
        for (text, why) in [("a:b", "begin with `/`"), (":/a", "before `:`"), ("a:/../b", "`..`")] {
            let message = text.parse::<Given>().unwrap_err();
            assert!(message.contains(why), "{text}: {message}");
        }
    }

    #[test]
    fn variables() {
        let variable: Variable = "A=b=c".parse().unwrap();
        assert_eq!((variable.name.as_str(), variable.value.as_str()), ("A", "b=c"));
        assert!("A".parse::<Variable>().is_err());
        assert!("=b".parse::<Variable>().is_err());
    }
}
