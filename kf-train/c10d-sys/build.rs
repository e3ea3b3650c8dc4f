//! Compiles the shim against the libtorch that `LIBTORCH` names, which is torch-sys's too.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rerun-if-changed=shim");
    println!("cargo::rustc-check-cfg=cfg(libtorch_has_nccl)");
    println!("cargo::rustc-check-cfg=cfg(shared_memory)");
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
    let mut shim = cc::Build::new();
    shim.cpp(true)
        .std("c++20")
        .warnings(false)
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .include("shim")
        .flag("-D_GLIBCXX_USE_CXX11_ABI=1");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        shared_memory(shim.clone());
        println!("cargo::rustc-cfg=shared_memory");
    }
    let mut files = vec!["c10d", "collectives", "key_value", "optim", "reducer", "replaceable"];
    let (wanted, has_cuda) =
        (std::env::var_os("CARGO_FEATURE_NCCL").is_some(), lib.join("libtorch_cuda.so").is_file());
    if wanted && has_cuda {
        let Some(headers) = nccl_headers(&libtorch) else { return };
        shim.includes(headers);
        files.push("nccl");
        println!("cargo::rustc-cfg=libtorch_has_nccl");
    } else if wanted {
        println!(
            "cargo::warning=feature `nccl`: the libtorch in LIBTORCH=`{}` has no CUDA, and groups over NCCL will be \
             refused; `cargo xtask libtorch --nccl` provides one that has",
            libtorch.display()
        );
    }
    compile(shim, "kf_c10d", &files);
    // After the archive that needs them.
    if wanted && has_cuda {
        println!("cargo::rustc-link-lib=torch_cuda");
        println!("cargo::rustc-link-lib=c10_cuda");
    }
}

/// Groups over shared memory, which Linux has what they need for. Fast in every profile: they are what is waited for.
fn shared_memory(mut shim: cc::Build) {
    let files = ["backend", "collectives", "kernels", "lane", "meet", "messages", "peers", "segment"];
    shim.opt_level(3).flag("-fwrapv").flag("-ffp-contract=off");
    compile(
        shim,
        "kf_shared_memory",
        &files.map(|file| format!("shm/{file}")).each_ref().map(String::as_str),
    );
}

/// Compiles files of the shim as one: reading libtorch's headers takes longer than all that comes after them.
fn compile(mut shim: cc::Build, name: &str, files: &[&str]) {
    let all = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default()).join(format!("{name}.cpp"));
    let text: String = files.iter().map(|file| format!("#include \"{file}.cpp\"\n")).collect();
    if let Err(error) = std::fs::write(&all, text) {
        println!("cargo::error={} can't be written: {error}", all.display());
        return;
    }
    shim.file(all).compile(name);
}

/// Where NCCL's and CUDA's headers are: with the libtorch, beside a PyTorch among its packages, or in CUDA's toolkit.
fn nccl_headers(libtorch: &Path) -> Option<Vec<PathBuf>> {
    println!("cargo::rerun-if-env-changed=CUDA_HOME");
    let toolkit =
        std::env::var_os("CUDA_HOME").map_or_else(|| PathBuf::from("/usr/local/cuda"), PathBuf::from);
    let places = [
        libtorch.join("cuda/include"),
        libtorch.join("../nvidia/nccl/include"),
        libtorch.join("../nvidia/cu13/include"),
        toolkit.join("include"),
        toolkit.join("include/cccl"),
        PathBuf::from("/usr/include"),
    ];
    let mut found = Vec::new();
    for header in ["nccl.h", "cuda_runtime_api.h", "crt/host_defines.h", "cusolverDn.h", "nv/target"] {
        let Some(place) = places.iter().find(|place| place.join(header).is_file()) else {
            println!(
                "cargo::error=feature `nccl`: no `{header}` in any of {places:?}. Run `cargo xtask libtorch --nccl`, or \
                 install NCCL's and CUDA's headers and set CUDA_HOME"
            );
            return None;
        };
        if !found.contains(place) && place != Path::new("/usr/include") {
            found.push(place.clone());
        }
    }
    Some(found)
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
