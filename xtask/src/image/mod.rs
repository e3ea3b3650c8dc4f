//! `cargo xtask image`: a program with its shared libraries and some files as an OCI image, without Docker.
//!
//! The same contents give the same bytes, and each kind of contents is a layer of its own, so that after a change of
//! the program a registry is sent the program's layer alone.

mod base;
mod binary;
mod config;
mod elf;
mod given;
mod layer;
mod layout;
mod libraries;
mod options;
mod place;
mod plan;
mod reference;
mod registry;
#[cfg(test)]
mod tests;

pub(crate) use self::options::Options;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use self::config::{Image, Settings};
use self::given::Item;
use self::layer::Blob;
use self::libraries::{Libraries, Needed};
use self::options::{User, Variable};
use self::place::Place;
use self::plan::{Layer, Node, Source};
use self::reference::Reference;
use self::registry::Pushed;
use crate::cargo;

/// Where a machine of Linux keeps the certificates that it trusts, and most programs look for them.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Makes an image, and writes, pushes or imports it.
///
/// # Errors
/// A message for the user: what is missing, can't be read, or was refused.
pub(crate) fn run(root: &Path, options: &Options) -> Result<(), String> {
    let binary = match (&options.bin, &options.bin_file) {
        (_, Some(path)) => {
            std::path::absolute(path).map_err(|error| format!("{}: {error}", path.display()))?
        }
        (Some(name), None) => binary::build(root, name, options.features.as_deref(), options.release)?,
        (None, None) => return Err("name a program of the workspace, or give one with --bin-file".to_owned()),
    };
    let mut items = options.files.iter().map(given::file).collect::<Result<Vec<_>, _>>()?;
    for folder in &options.folders {
        items.extend(given::folder(folder)?);
    }
    let contents =
        Contents { binary: &binary, items, certificates: Path::new(CERTIFICATES), user: options.user };

    let work = root.join("target/xtask");
    fs::create_dir_all(&work).map_err(|error| format!("{}: {error}", work.display()))?;
    let work = tempfile::Builder::new()
        .prefix("image-")
        .tempdir_in(&work)
        .map_err(|error| format!("{}: {error}", work.display()))?;
    let image = make(contents, &options.env, &cargo::library_path(root), work.path())?;
    for blob in image.parts() {
        eprintln!("image: {:<9} {:>10}  {}", blob.name, size(blob.size), blob.digest);
    }
    let name = name(options, &binary)?;
    deliver(&image, &name, options, root, work.path())?;
    let name = options.push.as_ref().map_or_else(|| name.to_string(), ToString::to_string);
    println!("{name} {}", image.manifest.digest);
    Ok(())
}

/// What an image is made of.
struct Contents<'a> {
    binary: &'a Path,
    items: Vec<Item>,
    /// Taken where the file is there.
    certificates: &'a Path,
    user: User,
}

/// Makes an image, its layers in files of the folder `work`. `search` is where the loader looks on this machine.
fn make(contents: Contents<'_>, env: &[Variable], search: &OsStr, work: &Path) -> Result<Image, String> {
    let Contents { binary, items, certificates, user } = contents;
    let elf = elf::check(binary)?;
    let libraries = find_libraries(binary, elf.has_loader, &items, search)?;
    let program = Place::new(format!("/app/{}", file_name(binary)?))?;
    let settings = Settings {
        architecture: elf::architecture()?,
        program: program.to_string(),
        env: config::environment(&libraries.folders, env),
        user,
    };
    let layers = layers(user, libraries, certificates, items, (program, binary))?;
    let write = |layer: &Layer| layer::write(layer, &work.join(format!("{}.tar", layer.name)));
    let blobs = layers.iter().map(write).collect::<Result<Vec<_>, _>>()?;
    Ok(Image::new(blobs, &settings))
}

/// The layers, those that change least below.
fn layers(
    user: User,
    libraries: Libraries,
    certificates: &Path,
    items: Vec<Item>,
    (program, binary): (Place, &Path),
) -> Result<Vec<Layer>, String> {
    let file = |path: PathBuf, program| Node::File { source: Source::File(path), program };
    let mut shared: Vec<_> =
        libraries.files.into_iter().map(|(place, path)| (place, file(path, true))).collect();
    if certificates.is_file() {
        shared.push((Place::new(CERTIFICATES)?, file(certificates.to_owned(), false)));
    }
    plan::plan(vec![
        ("base", base::nodes(user)?),
        ("libraries", shared),
        ("files", items.into_iter().map(|item| (item.place, item.node)).collect()),
        ("program", vec![(program, file(binary.to_owned(), true))]),
    ])
}

/// The libraries of the program, and of what was given.
///
/// A library that is missing is an error where it was asked for by name; in a folder, where it may be one that its
/// program loads only after others, it is a warning.
fn find_libraries(binary: &Path, dynamic: bool, items: &[Item], search: &OsStr) -> Result<Libraries, String> {
    let mut asked = Vec::new();
    if dynamic {
        asked.push((binary.to_owned(), true));
    }
    for item in items {
        if let Node::File { source: Source::File(path), .. } = &item.node
            && elf::read(path)?.is_some()
        {
            asked.push((item.origin.clone(), item.by_name));
        }
    }
    let paths: Vec<_> = asked.iter().map(|(path, _)| path.clone()).collect();
    let moved: HashMap<_, _> = items.iter().map(|item| (item.origin.clone(), item.place.clone())).collect();
    let mut found = Vec::new();
    for ((path, needed), (_, by_name)) in libraries::needed(&paths, search)?.into_iter().zip(asked) {
        if dynamic && path == binary && needed.is_empty() {
            return Err(format!("`ldd {}` tells no library, though it has a loader", path.display()));
        }
        for library in needed {
            match library {
                Needed::Found { path, file } => found.push((path, file)),
                Needed::Missing(name) => missing(&name, &path, by_name)?,
            }
        }
    }
    libraries::place(found, &moved)
}

fn missing(name: &str, of: &Path, by_name: bool) -> Result<(), String> {
    let told = format!("{} needs the library {name}, which the loader does not find", of.display());
    if by_name {
        return Err(format!("{told}; install it, or add its folder to LD_LIBRARY_PATH"));
    }
    eprintln!("warning: {told}");
    Ok(())
}

/// The name that is given, that under which the image is pushed, or the program's.
fn name(options: &Options, binary: &Path) -> Result<Reference, String> {
    match (&options.name, &options.push) {
        (Some(name), _) => Ok(name.clone()),
        (None, Some(target)) => Ok(target.clone().into()),
        (None, None) => {
            let program = file_name(binary)?;
            program.parse().map_err(|why| format!("{why}; give a name with --name"))
        }
    }
}

fn file_name(path: &Path) -> Result<&str, String> {
    path.file_name()
        .and_then(OsStr::to_str)
        .ok_or_else(|| format!("the name of {} is not UTF-8; rename it", path.display()))
}

fn deliver(
    image: &Image,
    name: &Reference,
    options: &Options,
    root: &Path,
    work: &Path,
) -> Result<(), String> {
    if let Some(target) = &options.push {
        registry::push(image, target, |blob, pushed| {
            eprintln!("push: {:<9} {}", blob.name, told(blob, pushed))
        })?;
    }
    let asked = options.push.is_some() || options.import.is_some();
    let usual = || root.join(format!("target/images/{}-{}.tar", name.name.replace('/', "_"), name.tag));
    let output = options.output.clone().or_else(|| (!asked).then(usual));
    let tar = output.clone().unwrap_or_else(|| work.join("image.tar"));
    if output.is_some() || options.import.is_some() {
        layout::write(image, name, &tar)?;
    }
    if let Some(output) = output {
        eprintln!("image: written to {}", output.display());
    }
    options.import.as_deref().map_or(Ok(()), |socket| import(&tar, socket))
}

fn told(blob: &Blob, pushed: Pushed) -> String {
    match pushed {
        Pushed::There => "there already".to_owned(),
        Pushed::Sent => format!("pushed {}", size(blob.size)),
    }
}

/// Hands an image to containerd, in the namespace of Kubernetes.
fn import(tar: &Path, socket: &Path) -> Result<(), String> {
    if !socket.exists() {
        return Err(format!("{}: no containerd listens there; is the cluster up?", socket.display()));
    }
    let mut command = Command::new("ctr");
    command.arg("--address").arg(socket).args(["--namespace", "k8s.io", "images", "import"]).arg(tar);
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status().map_err(|error| {
        format!("`ctr` does not run: {error}. It comes with containerd (Debian, Ubuntu: apt-get install containerd)")
    })?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("`ctr images import` at {}: {status}", socket.display()))
    }
}

fn size(bytes: u64) -> String {
    let kibibytes = bytes as f64 / 1024.0;
    if kibibytes < 1024.0 { format!("{kibibytes:.1} KiB") } else { format!("{:.1} MiB", kibibytes / 1024.0) }
}
