//! Reading what ranks leave, who may have put anything in its place: neither a pipe nor a device is waited for, and no
//! more is read than is of use.

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Read, Result};
use std::path::Path;

/// Opens a file, and nothing else.
pub(crate) fn open(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // A pipe without a writer would hold the opening up.
        options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    }
    let file = options.open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(Error::new(ErrorKind::InvalidData, "it is no plain file")),
    }
}

/// What is in a file that may have so many bytes.
pub(crate) fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > most {
        false => Ok(bytes),
        true => Err(Error::new(ErrorKind::InvalidData, format!("it has more than {most} bytes"))),
    }
}

/// What rank 0 has returned: no more than a store takes several times over.
pub(crate) fn read_result(path: &Path) -> Result<serde_json::Value> {
    Ok(serde_json::from_slice(&read(path, 1 << 30)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_files_are_read_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plain");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        assert!(read(&path, 4).unwrap_err().to_string().contains("more than 4 bytes"));
        assert_eq!(read(&folder.path().join("none"), 4).unwrap_err().kind(), ErrorKind::NotFound);
        assert!(read(folder.path(), 4).is_err());
        assert!(read(Path::new("/dev/zero"), 4).unwrap_err().to_string().contains("no plain file"));
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert!(read(&pipe, 4).unwrap_err().to_string().contains("no plain file"));
    }
}
