//! The lowest layer: what programs expect of any Linux.

use super::options::User;
use super::place::Place;
use super::plan::{FOLDER, Node, Source};

/// Empty folders: what the container runtime mounts over, and where anyone may write.
const FOLDERS: &[(&str, u32)] = &[
    ("/dev", FOLDER),
    ("/proc", FOLDER),
    ("/root", 0o700),
    ("/run", FOLDER),
    ("/sys", FOLDER),
    ("/tmp", 0o1777),
    ("/var/tmp", 0o1777),
];

/// Names are looked up in files, hosts in DNS too. Without this file some C libraries ask for services that no image
/// has.
const NSSWITCH: &str = "passwd: files\ngroup: files\nhosts: files dns\n";

/// The nodes of the base layer, where the user who runs the program has a name, and `/tmp` as home, the one folder that
/// is writable to all.
///
/// # Errors
/// None but those of [`Place::new`], whose paths are fixed here.
pub(crate) fn nodes(user: User) -> Result<Vec<(Place, Node)>, String> {
    let (mut passwd, mut group) =
        (String::from("root:x:0:0:root:/root:/sbin/nologin\n"), String::from("root:x:0:\n"));
    if user.uid != 0 && user.uid != NOBODY {
        passwd.push_str(&format!("user:x:{}:{}::/tmp:/sbin/nologin\n", user.uid, user.gid));
    }
    if user.gid != 0 && user.gid != NOBODY {
        group.push_str(&format!("user:x:{}:\n", user.gid));
    }
    passwd.push_str(&format!("nobody:x:{NOBODY}:{NOBODY}::/:/sbin/nologin\n"));
    group.push_str(&format!("nogroup:x:{NOBODY}:\n"));

    let text = |text: &str| Node::File { source: Source::Bytes(text.into()), program: false };
    let folders = FOLDERS.iter().map(|&(path, mode)| (path, Node::Folder(mode)));
    let files = [
        ("/etc/passwd", text(&passwd)),
        ("/etc/group", text(&group)),
        ("/etc/nsswitch.conf", text(NSSWITCH)),
    ];
    folders.chain(files).map(|(path, node)| Ok((Place::new(path)?, node))).collect()
}

const NOBODY: u32 = 65534;

#[cfg(test)]
mod tests {
    use super::*;

    fn passwd(user: User) -> String {
        let place = Place::new("/etc/passwd").unwrap();
        let nodes = nodes(user).unwrap();
        match nodes.into_iter().find(|(at, _)| *at == place).unwrap().1 {
            Node::File { source: Source::Bytes(bytes), .. } => String::from_utf8(bytes).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn who_runs_the_program_has_one_name_and_a_home_to_write_to() {
        let of = |uid: u32| {
            let text = passwd(User { uid, gid: uid });
            text.lines()
                .filter(|line| line.split(':').nth(2) == Some(&uid.to_string()))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(of(65532), ["user:x:65532:65532::/tmp:/sbin/nologin"]);
        assert_eq!(of(0), ["root:x:0:0:root:/root:/sbin/nologin"]);
        assert_eq!(of(65534), ["nobody:x:65534:65534::/:/sbin/nologin"]);
    }
}
