//! Compiles the shim against the libtorch that `LIBTORCH` names, which is torch-sys's too.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

fn main() {
    for file in ["shim/c10d.cpp", "shim/gloo.h", "shim/gloo"] {
        println!("cargo::rerun-if-changed={file}");
    }
    // Documentation is built where there is no libtorch.
    if std::env::var_os("DOCS_RS").is_some() {
        return;
    }
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    let libtorch = std::env::var_os("LIBTORCH").map(PathBuf::from).unwrap_or_default();
    let include = libtorch.join("include");
    if !include.join("torch/csrc/distributed/c10d/ProcessGroupGloo.hpp").is_file() {
        println!(
            "cargo::error=no libtorch with the headers of c10d in LIBTORCH=`{}`. In a checkout of KF, run \
             `cargo xtask libtorch`; elsewhere, set LIBTORCH to the folder of a libtorch 2.11.0",
            libtorch.display()
        );
        return;
    }
    let lib = libtorch.join("lib");
    println!("cargo::metadata=LIBTORCH_LIB={}", lib.display());
    // Cargo puts search paths below its target folder, and only those, into the library path of what it runs.
    match link_into_target(&lib) {
        Ok(link) => println!("cargo::rustc-link-search=native={}", link.display()),
        Err(error) => {
            println!("cargo::warning={} can't be linked: {error}; set LD_LIBRARY_PATH", lib.display())
        }
    }
    cc::Build::new()
        .cpp(true)
        .std("c++20")
        .warnings(false)
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .include("shim")
        .flag("-D_GLIBCXX_USE_CXX11_ABI=1")
        .file("shim/c10d.cpp")
        .compile("kf_c10d");
}

fn link_into_target(lib: &Path) -> io::Result<PathBuf> {
    let out = std::env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("OUT_DIR is not set"))?;
    let link = PathBuf::from(out).join("libtorch");
    match std::fs::remove_file(&link) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => std::os::unix::fs::symlink(lib, &link)?,
    }
    Ok(link)
}
