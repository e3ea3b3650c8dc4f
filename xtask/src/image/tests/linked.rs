//! A program whose library the loader finds through its search path alone, linked for these tests.

use std::process::Output;

use super::*;

/// `main`, which ends with what the library says, and `lib/libkfanswer.so` with it.
struct Linked(TempDir);

impl Linked {
    fn new() -> Self {
        let this = Self(tempfile::tempdir().unwrap());
        let folder = this.0.path();
        fs::create_dir(folder.join("lib")).unwrap();
        fs::write(folder.join("answer.c"), "int answer(void) { return 42; }").unwrap();
        fs::write(folder.join("main.c"), "int answer(void); int main(void) { return answer(); }").unwrap();
        this.cc(&["-shared", "-fPIC", "-o", "lib/libkfanswer.so", "answer.c"]);
        this.cc(&["-o", "main", "main.c", "-Llib", "-lkfanswer"]);
        this
    }

    /// The linker that Rust itself takes.
    fn cc(&self, arguments: &[&str]) {
        let status = Command::new("cc").args(arguments).current_dir(self.0.path()).status().unwrap();
        assert!(status.success(), "cc {arguments:?}: {status}");
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().canonicalize().unwrap().join(name)
    }

    /// The image, with the loader's search path here, and `lib` at another place where one is named.
    fn image(&self, search: &Path, lib_at: Option<&str>, work: &str) -> Result<Image, String> {
        let work = self.at(work);
        fs::create_dir(&work).unwrap();
        let given = lib_at.map(|place| Given { source: self.at("lib"), place: Place::new(place).unwrap() });
        let items = given.as_ref().map_or(Ok(Vec::new()), given::folder)?;
        let (binary, certificates) = (self.at("main"), self.at("none"));
        let user = "65532".parse().unwrap();
        let contents = Contents { binary: &binary, items, certificates: &certificates, user };
        make(contents, &[], search.as_os_str(), &work)
    }
}

/// What an image sets as the loader's search path.
fn search_path(image: &Image) -> Option<String> {
    let Source::Bytes(config) = &image.config.source else { panic!("{:?}", image.config) };
    let config: Value = serde_json::from_slice(config).unwrap();
    let env = config["config"]["Env"].as_array().unwrap().iter();
    env.filter_map(|variable| variable.as_str()?.strip_prefix("LD_LIBRARY_PATH=")).map(str::to_owned).next()
}

/// Unpacks the layers, and runs the program with the unpacked folder as its root; `None` where nobody may do so here.
fn run_in(image: &Image, root: &Path) -> Option<Output> {
    for layer in &image.layers {
        let Source::File(path) = &layer.source else { panic!("{layer:?}") };
        tar::Archive::new(File::open(path).unwrap()).unpack(root).unwrap();
    }
    let chroot = |root: &Path| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "chroot"]).arg(root).env_clear();
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    };
    chroot(Path::new("/")).arg("true").output().ok().filter(|output| output.status.success())?;
    let mut command = chroot(root);
    command.env("LD_LIBRARY_PATH", search_path(image).unwrap()).arg("/app/main");
    Some(command.output().unwrap())
}

#[test]
fn a_missing_library_is_named_with_what_needs_it() {
    let linked = Linked::new();
    let message = linked.image(Path::new(""), None, "work").unwrap_err();
    assert!(message.contains("libkfanswer.so") && message.contains("/main needs"), "{message}");
}

#[test]
fn a_library_of_a_given_folder_is_found_where_it_was_put() {
    let linked = Linked::new();
    let image = linked.image(&linked.at("lib"), Some("/app/lib"), "work").unwrap();
    assert_eq!(search_path(&image).as_deref(), Some("/app/lib"));
    let Source::File(libraries) = &image.layers[1].source else { panic!("{:?}", image.layers[1]) };
    let libraries = files(&fs::read(libraries).unwrap());
    assert!(!libraries.keys().any(|name| name.contains("libkfanswer")), "{:?}", libraries.keys());
}

#[test]
fn the_program_finds_its_libraries_in_the_image() {
    let linked = Linked::new();
    for (lib_at, work) in [(None, "own"), (Some("/app/lib"), "given")] {
        let image = linked.image(&linked.at("lib"), lib_at, work).unwrap();
        let root = linked.at(work).join("root");
        let Some(output) = run_in(&image, &root) else {
            println!("JUDGE chroot skipped: `unshare --map-root-user chroot / true` is not allowed here");
            return;
        };
        assert_eq!(output.status.code(), Some(42), "{output:?}");
    }
    println!("JUDGE chroot passed");
}
