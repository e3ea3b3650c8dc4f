//! The digest of this program, which stands for the code of its components.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::UNIX_EPOCH;

use kf_core::{Digest, Hasher};

/// The digest of this program's file. Kept in `folder` as long as the file is the same.
pub(crate) fn program_digest(folder: &Path) -> std::io::Result<Digest> {
    let path = std::env::current_exe()?;
    // The program that runs, also where its file was replaced since.
    let itself = Path::new("/proc/self/exe");
    let mut file = File::open(if itself.exists() { itself } else { &path })?;
    let about = file.metadata()?;
    let modified = about.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let identity = Digest::of(format!(
        "{} {} {modified} {} {} {} {}",
        path.display(),
        about.len(),
        about.dev(),
        about.ino(),
        about.ctime(),
        about.ctime_nsec()
    ));
    let kept = folder.join(format!("program-{}", &identity.to_hex()[..16]));
    if let Some(digest) = std::fs::read_to_string(&kept).ok().and_then(|text| text.parse().ok()) {
        return Ok(digest);
    }
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => hasher.update(&buffer[..read]),
        }
    }
    let digest = hasher.finish();
    // Only spares the next start some time.
    let aside = kept.with_extension(std::process::id().to_string());
    if std::fs::write(&aside, digest.to_string()).is_ok() {
        let _ = std::fs::rename(&aside, &kept);
    }
    Ok(digest)
}
