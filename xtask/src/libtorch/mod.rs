//! `cargo xtask libtorch`: a fitting libtorch, linked as `.libtorch` in the checkout.
//!
//! Taken, in this order: the `.libtorch` that is there; the folder `LIBTORCH` names; but for `--nccl`, whose headers
//! come with none, the PyTorch of `python3`; the user's cache folder, filled from the wheels of the package index that
//! pip is set to. Only libraries and headers are unpacked: those for CPUs, or with `--nccl` those for GPUs too, in a
//! folder of their own.

mod wheels;

pub(crate) use self::wheels::Flavor;

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cargo::cargo_in;

const SCRIPT: &str = include_str!("wheels.py");

/// Makes sure that `root/.libtorch` is a fitting libtorch, and returns that path.
///
/// Asking again costs a few file look-ups. Two checkouts that ask at once wait for one another.
///
/// # Errors
/// A message for the user: which tool is missing, what could not be fetched, and what to do.
pub(crate) fn ensure(root: &Path, flavor: Flavor) -> Result<PathBuf, String> {
    let link = root.join(".libtorch");
    if fits(&link, flavor) {
        return Ok(link);
    }
    let found = match given(&link, flavor)? {
        Some(folder) => folder,
        None => match installed(flavor)? {
            Some(folder) => folder,
            None => cached(flavor)?,
        },
    };
    eprintln!("libtorch: {} -> {}", link.display(), found.display());
    let moved = fs::read_link(&link).is_ok();
    place_link(&link, &found, flavor)?;
    if moved {
        forget_builds(root);
    }
    Ok(link)
}

/// The CPU libtorch of the newer release that training is tried against, in the user's cache.
///
/// # Errors
/// As [`ensure`].
pub(crate) fn newer() -> Result<PathBuf, String> {
    cached(Flavor::Newer)
}

/// The one with CUDA and NCCL, and the headers to build with; fetched where it is not there.
///
/// # Errors
/// A message for the user: what can't be fetched.
pub(crate) fn cuda() -> Result<PathBuf, String> {
    cached(Flavor::Cuda)
}

/// Whether there is one for this platform.
pub(crate) fn has_newer() -> bool {
    Flavor::Newer.wheels().next().is_some()
}

/// What was built against another libtorch is built anew; cargo sees the link's name alone, which is the same.
fn forget_builds(root: &Path) {
    for profile in ["dev", "release"] {
        let arguments = ["clean", "--quiet", "--profile", profile, "-p", "torch-sys", "-p", "c10d-sys"];
        let done = cargo_in(root, &arguments).status();
        if !done.is_ok_and(|status| status.success()) {
            eprintln!(
                "libtorch: what is built against the former one could not be removed: run `cargo {}`",
                arguments.join(" ")
            );
        }
    }
    eprintln!(
        "libtorch: in other target folders run `cargo clean -p torch-sys -p c10d-sys`, for --release too"
    );
}

/// Whether a folder is a libtorch of the flavor's release, with headers; one for GPUs does for CPUs, too.
fn fits(folder: &Path, flavor: Flavor) -> bool {
    version_of(folder).is_some_and(|version| version.split('+').next() == Some(flavor.version()))
        && folder.join("include/torch/csrc/api/include/torch/torch.h").is_file()
        && folder.join("lib").is_dir()
        && (flavor != Flavor::Cuda || lacks_for_cuda(folder).is_none())
}

/// What a libtorch has not, and groups over NCCL need; the headers where the build script of `c10d-sys` seeks them.
fn lacks_for_cuda(folder: &Path) -> Option<&'static str> {
    if !folder.join("lib/libtorch_cuda.so").is_file() {
        return Some("lib/libtorch_cuda.so");
    }
    let toolkit = std::env::var_os("CUDA_HOME").map_or_else(|| "/usr/local/cuda".into(), PathBuf::from);
    let places = [
        folder.join("cuda/include"),
        folder.join("../nvidia/nccl/include"),
        folder.join("../nvidia/cu13/include"),
        toolkit.join("include"),
        toolkit.join("include/cccl"),
        "/usr/include".into(),
    ];
    let headers = ["nccl.h", "cuda_runtime_api.h", "crt/host_defines.h", "cusolverDn.h", "nv/target"];
    headers.into_iter().find(|header| !places.iter().any(|place| place.join(header).is_file()))
}

/// The version that a libtorch states: in `build-version`, or, as a part of PyTorch, in its header.
fn version_of(folder: &Path) -> Option<String> {
    if let Ok(text) = fs::read_to_string(folder.join("build-version")) {
        return Some(text.trim().to_owned());
    }
    let header = fs::read_to_string(folder.join("include/torch/headeronly/version.h"))
        .or_else(|_| fs::read_to_string(folder.join("include/torch/csrc/api/include/torch/version.h")))
        .ok()?;
    let part = |name: &str| {
        let line = header.lines().find_map(|line| line.strip_prefix("#define ")?.strip_prefix(name))?;
        line.trim().parse::<u32>().ok()
    };
    Some(format!(
        "{}.{}.{}",
        part("TORCH_VERSION_MAJOR ")?,
        part("TORCH_VERSION_MINOR ")?,
        part("TORCH_VERSION_PATCH ")?
    ))
}

/// The folder that `LIBTORCH` names, unless it is the link itself, which cargo's configuration puts there.
fn given(link: &Path, flavor: Flavor) -> Result<Option<PathBuf>, String> {
    let Some(folder) = std::env::var_os("LIBTORCH").filter(|value| !value.is_empty()).map(PathBuf::from)
    else {
        return Ok(None);
    };
    if folder == link || folder.ends_with(".libtorch") {
        return Ok(None);
    }
    if fits(&folder, flavor) {
        return Ok(Some(folder));
    }
    let found = version_of(&folder).unwrap_or_else(|| "none that states its version".into());
    let (with, without) = match fits(&folder, Flavor::Cpu) {
        true => (" with CUDA", lacks_for_cuda(&folder).map(|lacks| format!(" without {lacks}"))),
        false => ("", None),
    };
    let (version, without) = (flavor.version(), without.unwrap_or_default());
    Err(format!(
        "LIBTORCH is {}, but libtorch {version}{with} is needed and {found}{without} was found there; \
         set it to a fitting one, or unset it to have one fetched",
        folder.display()
    ))
}

/// The PyTorch of `python3`, where it is of our release. CUDA's headers come with none.
fn installed(flavor: Flavor) -> Result<Option<PathBuf>, String> {
    if flavor == Flavor::Cuda {
        return Ok(None);
    }
    let output = python(&["installed"])?.stderr(Stdio::null()).output().map_err(|error| no_python(&error))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let folder = text.lines().nth(1).map(PathBuf::from);
    Ok(folder.filter(|folder| fits(folder, flavor)))
}

/// The folder in the user's cache, filled where need be.
fn cached(flavor: Flavor) -> Result<PathBuf, String> {
    let version = flavor.version();
    if flavor.wheels().next().is_none() {
        return Err(format!(
            "no libtorch is pinned for {} on {}; set LIBTORCH to a libtorch {version}, \
             or install PyTorch {version} for python3",
            std::env::consts::OS,
            std::env::consts::ARCH
        ));
    }
    let cache = cache_folder()?;
    fs::create_dir_all(&cache).map_err(|error| at(&cache, &error))?;
    let name = format!("libtorch-{version}-{}", flavor.name());
    let folder = cache.join(&name);
    if fits(&folder, flavor) {
        return Ok(folder);
    }
    let lock_path = cache.join(format!("{name}.lock"));
    let lock = File::create(&lock_path).map_err(|error| at(&lock_path, &error))?;
    if lock.try_lock().is_err() {
        eprintln!("libtorch: another process is fetching it; waiting");
        lock.lock().map_err(|error| at(&lock_path, &error))?;
    }
    // The one we waited for may have done it all.
    if !fits(&folder, flavor) {
        fill(&cache, &name, flavor)?;
    }
    Ok(folder)
}

/// Fetches and unpacks; the folder appears whole, or not at all.
fn fill(cache: &Path, name: &str, flavor: Flavor) -> Result<(), String> {
    let compiler = compiler()?;
    eprintln!(
        "libtorch: fetching {} ({}), {}, into {}",
        flavor.version(),
        flavor.name(),
        flavor.size(),
        cache.display()
    );
    let wheels = cache.join(format!("{name}.wheels"));
    let mut arguments = vec!["fetch", path(&wheels)?];
    arguments.extend(flavor.wheels().flat_map(|(name, sha256)| [name, sha256]));
    run_python(&arguments)?;

    eprintln!("libtorch: unpacking");
    let aside = cache.join(format!("{name}.part"));
    remove(&aside)?;
    let files: Vec<_> = flavor.wheels().map(|(name, _)| wheels.join(name)).collect();
    let mut arguments = vec!["unpack", flavor.name(), path(&aside)?];
    for file in &files {
        arguments.push(path(file)?);
    }
    run_python(&arguments)?;
    if flavor != Flavor::Cuda {
        link_cpu_alone(&compiler, &aside.join("lib"))?;
    }
    // Last, since it is what tells a whole folder from a begun one.
    let version = aside.join("build-version");
    fs::write(&version, format!("{}+{}\n", flavor.version(), flavor.name()))
        .map_err(|error| at(&version, &error))?;
    let folder = cache.join(name);
    remove(&folder)?;
    fs::rename(&aside, &folder).map_err(|error| at(&folder, &error))?;
    remove(&wheels)
}

/// The wheel's own `libtorch.so` would load all of CUDA.
fn link_cpu_alone(compiler: &str, lib: &Path) -> Result<(), String> {
    let stub = Command::new(compiler)
        .args(["-shared", "-x", "c++", "/dev/null", "-x", "none", "-o"])
        .arg(lib.join("libtorch.so"))
        .arg("-L")
        .arg(lib)
        .args(["-Wl,--no-as-needed", "-l:libtorch_cpu.so", "-Wl,-rpath,$ORIGIN"])
        .arg("-Wl,--unresolved-symbols=ignore-in-shared-libs")
        .output()
        .map_err(|error| format!("can't run {compiler}: {error}"))?;
    if !stub.status.success() {
        return Err(format!("{compiler} can't link libtorch.so:\n{}", String::from_utf8_lossy(&stub.stderr)));
    }
    Ok(())
}

/// Points the link at a folder, replacing an older link, never a folder.
fn place_link(link: &Path, folder: &Path, flavor: Flavor) -> Result<(), String> {
    let folder = folder.canonicalize().map_err(|error| at(folder, &error))?;
    match fs::symlink_metadata(link) {
        Ok(found) if !found.is_symlink() => {
            return Err(format!(
                "{} is not a libtorch {} and is no link of ours; move it away",
                link.display(),
                flavor.version()
            ));
        }
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(at(link, &error)),
        _ => {}
    }
    let aside = link.with_file_name(format!(".libtorch.{}", std::process::id()));
    std::os::unix::fs::symlink(folder, &aside).map_err(|error| at(&aside, &error))?;
    fs::rename(&aside, link).map_err(|error| at(link, &error))
}

/// `$XDG_CACHE_HOME/kf`, or `~/.cache/kf`.
fn cache_folder() -> Result<PathBuf, String> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".cache")))
        .map(|cache| cache.join("kf"))
        .ok_or_else(|| "neither XDG_CACHE_HOME nor HOME is set; set one, or set LIBTORCH".into())
}

fn compiler() -> Result<String, String> {
    let named = std::env::var("CXX").ok().filter(|name| !name.is_empty());
    let tried: Vec<_> = named.into_iter().chain(["c++", "g++", "clang++"].map(String::from)).collect();
    let runs = |name: &&String| {
        Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success())
    };
    tried.iter().find(runs).cloned().ok_or_else(|| {
        format!(
            "no C++ compiler (tried {}); install one (Debian, Ubuntu: apt-get install g++), or set CXX",
            tried.join(", ")
        )
    })
}

fn python(arguments: &[&str]) -> Result<Command, String> {
    let python = std::env::var("PYTHON").ok().filter(|name| !name.is_empty()).unwrap_or("python3".into());
    let mut command = Command::new(python);
    command.arg("-c").arg(SCRIPT).args(arguments).stdin(Stdio::null());
    Ok(command)
}

fn run_python(arguments: &[&str]) -> Result<(), String> {
    let status = python(arguments)?.status().map_err(|error| no_python(&error))?;
    if status.success() {
        return Ok(());
    }
    Err(format!("libtorch was not set up ({status}); what is fetched so far is kept, start again to go on"))
}

fn no_python(error: &std::io::Error) -> String {
    format!(
        "can't run python3: {error}; install Python 3.9 or newer with pip \
         (Debian, Ubuntu: apt-get install python3 python3-pip), set PYTHON, or set LIBTORCH to a libtorch"
    )
}

fn remove(folder: &Path) -> Result<(), String> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(at(folder, &error)),
        _ => Ok(()),
    }
}

fn path(path: &Path) -> Result<&str, String> {
    path.to_str()
        .ok_or_else(|| format!("{} is not UTF-8; set XDG_CACHE_HOME to a folder that is", path.display()))
}

/// An error of a file or folder, with its path.
pub(crate) fn at(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}
