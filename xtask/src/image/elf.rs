//! What the header of a program tells: for which machine it is, and whether a loader must start it.
//!
//! The format: System V Application Binary Interface, chapters 4 and 5 ("Object Files", "Program Loading").

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

/// An ELF file of 64 bits, little-endian.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Elf {
    /// The machine it is for, by the number of the format.
    pub(crate) machine: u16,
    /// Whether it names a loader, so is a program with shared libraries.
    pub(crate) has_loader: bool,
}

const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
/// The type of the program header that names the loader.
const PT_INTERP: u32 = 3;

/// The ELF header of a file; `None` where it is no such file.
///
/// # Errors
/// Where it can't be read, or breaks off.
pub(crate) fn read(path: &Path) -> Result<Option<Elf>, String> {
    let said = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut file = File::open(path).map_err(said)?;
    let mut header = [0; HEADER];
    match file.read_exact(&mut header) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        read => read.map_err(said)?,
    }
    // The magic number, the class of 64 bits, the order of bytes.
    if header[..6] != *b"\x7fELF\x02\x01" {
        return Ok(None);
    }
    let short = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let (machine, size, count) = (short(18), short(54), short(56));
    let mut offset = [0; 8];
    offset.copy_from_slice(&header[32..40]);
    let mut has_loader = false;
    if usize::from(size) == PROGRAM_HEADER {
        file.seek(SeekFrom::Start(u64::from_le_bytes(offset))).map_err(said)?;
        for _ in 0..count {
            let mut entry = [0; PROGRAM_HEADER];
            file.read_exact(&mut entry).map_err(said)?;
            has_loader |= entry[..4] == PT_INTERP.to_le_bytes();
        }
    }
    Ok(Some(Elf { machine, has_loader }))
}

/// An architecture as Rust names it, its name in images (that of Go's `GOARCH`), and its number in ELF.
const ARCHITECTURES: &[(&str, &str, u16)] = &[
    ("x86_64", "amd64", 62),
    ("aarch64", "arm64", 183),
    ("riscv64", "riscv64", 243),
    ("powerpc64", "ppc64le", 21),
    ("loongarch64", "loong64", 258),
];

/// The name in images of this machine's architecture.
///
/// # Errors
/// Where it is none that images are known for.
pub(crate) fn architecture() -> Result<&'static str, String> {
    let this = std::env::consts::ARCH;
    let known = ARCHITECTURES.iter().find(|(name, ..)| *name == this);
    known.map(|(_, name, _)| *name).ok_or_else(|| format!("no images are made on {this}"))
}

/// Checks that a file is a program for this machine.
///
/// # Errors
/// What it is instead.
pub(crate) fn check(path: &Path) -> Result<Elf, String> {
    let this = std::env::consts::ARCH;
    let elf = read(path)?.ok_or_else(|| {
        format!("{} is no program of Linux (64-bit ELF); a script is given with --file, its interpreter as the program", path.display())
    })?;
    let machine = ARCHITECTURES.iter().find(|(.., number)| *number == elf.machine);
    match machine {
        Some((name, ..)) if *name == this => Ok(elf),
        _ => Err(format!(
            "{} is for {}, this machine is {this}; its libraries can be found on a machine of its kind alone",
            path.display(),
            machine
                .map_or_else(|| format!("machine {} of ELF", elf.machine), |(name, ..)| (*name).to_owned())
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn a_program_of_this_machine_has_a_loader_and_its_library_none() {
        let program = std::env::current_exe().unwrap();
        assert!(check(&program).unwrap().has_loader);
        assert_eq!(ARCHITECTURES.iter().filter(|(name, ..)| *name == std::env::consts::ARCH).count(), 1);
    }

    #[test]
    fn what_is_no_program_of_this_machine_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| -> PathBuf {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let script = write("script", b"#!/bin/sh\n");
        assert_eq!(read(&script).unwrap(), None);
        assert!(check(&script).unwrap_err().contains("script"));

        let mut other = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        other[18..20].copy_from_slice(&22_u16.to_le_bytes());
        let message = check(&write("other", &other)).unwrap_err();
        assert!(message.contains("machine 22"), "{message}");

        assert!(read(&write("cut", &other[..70])).is_err());
        assert!(read(&folder.path().join("none")).unwrap_err().contains("none"));
    }
}
