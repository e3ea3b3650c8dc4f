//! Compiles the shim against the libtorch that `torch-sys` found.

use std::path::{Path, PathBuf};

fn main() {
    for file in ["shim/c10d.cpp", "shim/gloo.h", "shim/gloo"] {
        println!("cargo::rerun-if-changed={file}");
    }
    if std::env::var_os("CARGO_FEATURE_DOC_ONLY").is_some() {
        return;
    }
    // torch-sys has no path to give where it was told its own; LIBTORCH is then the place.
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    let lib = std::env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from);
    let libtorch = lib
        .and_then(|lib| lib.parent().map(Path::to_owned))
        .or_else(|| std::env::var_os("LIBTORCH").map(PathBuf::from))
        .unwrap_or_default();
    let include = libtorch.join("include");
    if !include.join("torch/csrc/distributed/c10d/ProcessGroupGloo.hpp").is_file() {
        println!(
            "cargo::error=no headers of c10d in `{}`. In a checkout of KF, run `cargo xtask libtorch`; elsewhere, \
             set LIBTORCH to the folder of a libtorch 2.11.0",
            libtorch.display()
        );
        return;
    }
    println!("cargo::metadata=LIBTORCH_LIB={}", libtorch.join("lib").display());
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
