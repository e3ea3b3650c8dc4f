//! A disk with little room.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// A small file system in memory; unmounted when dropped.
pub(crate) struct SmallDisk(TempDir);

impl SmallDisk {
    /// A disk of `kibibytes`; none where this process may not mount one, which is said.
    pub(crate) fn mount(kibibytes: u32, test: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={kibibytes}k");
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()).output();
        match mount {
            Ok(output) if output.status.success() => {
                println!("JUDGE disk-full passed");
                Some(Self(folder))
            }
            failed => {
                println!("JUDGE disk-full skipped: {test}: a small tmpfs can't be mounted here: {failed:?}");
                None
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}
