//! Which build of a program this is.

use std::fmt;
use std::fs::File;
use std::path::Path;
use std::sync::OnceLock;

use object::Object;
use object::read::ReadCache;
use serde::{Deserialize, Serialize};

/// What the linker gave a program, the same for the same content: GNU's build id. Programs without their symbols still have
/// it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Build(String);

impl fmt::Display for Build {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.get(..12).unwrap_or(&self.0))
    }
}

impl Build {
    /// This program's; none where its linker gives none.
    pub(super) fn own() -> Option<&'static Self> {
        static OWN: OnceLock<Option<Build>> = OnceLock::new();
        OWN.get_or_init(|| Self::of(Path::new("/proc/self/exe"))).as_ref()
    }

    fn of(program: &Path) -> Option<Self> {
        let cache = ReadCache::new(File::open(program).ok()?);
        let file = object::File::parse(&cache).ok()?;
        let id = file.build_id().ok()??;
        Some(Self(id.iter().map(|byte| format!("{byte:02x}")).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_program_has_none_and_another_program_another() {
        assert_eq!(Build::of(Path::new("/dev/null")), None);
        assert_eq!(Build::of(Path::new("/etc/passwd")), None);
        assert_eq!(Build::of(Path::new("/no/such/program")), None);
        let own = Build::of(&std::env::current_exe().unwrap());
        assert_eq!(own.as_ref(), Build::own());
        let shell = Build::of(&Path::new("/bin/sh").canonicalize().unwrap());
        assert!(own.is_none() || own != shell);
    }
}
