use std::collections::HashMap;
use std::fs::{self, File};

use proptest::prelude::*;

use super::*;

fn place(folder: &Path, epoch: u64, attempt: u32) -> Place {
    Place { epoch, attempt, ..Place::below(folder) }
}

fn context(folder: &Path, epoch: u64, attempt: u32) -> Context {
    let mut context = Context::detached(folder);
    context.checkpoints = Checkpoints::new(place(folder, epoch, attempt));
    context
}

fn problem<T: std::fmt::Debug>(result: TaskResult<T>) -> String {
    result.unwrap_err().to_string()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        fs::read_dir(folder.join(FOLDER)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn what_was_saved_is_found_by_the_next_attempt() {
    let folder = tempfile::tempdir().unwrap();
    let first = context(folder.path(), 1, 1);
    assert_eq!(first.saved::<u32>("a").unwrap(), None);
    assert!(!folder.path().join(FOLDER).exists(), "nothing is made before something is saved");
    first.save("a", &1).unwrap();
    first.save("a", &2).unwrap();
    first.save("b\n\"ü", &("text\n", [1.5, -0.0])).unwrap();
    assert_eq!(first.once("c", || Ok(7)).unwrap(), 7);
    assert_eq!(problem(first.once("d", || Err::<u32, _>(TaskError::new("no")))), "no");
    for second in [context(folder.path(), 1, 2), context(folder.path(), 2, 1), first] {
        assert_eq!(second.saved::<u32>("a").unwrap(), Some(2));
        assert_eq!(second.saved("b\n\"ü").unwrap(), Some(("text\n".to_owned(), [1.5, -0.0])));
        assert_eq!(second.once::<i32>("c", || panic!("it was done")).unwrap(), 7);
        assert_eq!(second.saved::<u32>("d").unwrap(), None);
    }
    assert_eq!(files(folder.path()).len(), 1);
}

#[tokio::test]
async fn async_items() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(context(folder.path(), 1, 1).once_async("a", async { Ok(1) }).await.unwrap(), 1);
    let again = context(folder.path(), 1, 2);
    assert_eq!(again.once_async::<i32>("a", async { panic!("it was done") }).await.unwrap(), 1);
    assert!(problem(again.once_async::<bool>("a", async { Ok(true) }).await).contains("expected bool"));
}

#[test]
fn what_cannot_be_saved_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let context = context(folder.path(), 1, 1);
    assert!(problem(context.save("loss", &f64::NAN)).contains("NaN"));
    assert!(problem(context.save(&"k".repeat(1025), &1)).contains("1025 bytes, and 1024"));
    assert!(problem(context.save("large", &"x".repeat(LONGEST_VALUE))).contains("write it to a file"));
    let mut deep = serde_json::json!(1);
    for _ in 0..200 {
        deep = serde_json::json!([deep]);
    }
    assert!(problem(context.save("deep", &deep)).contains("recursion limit"));
    context.save("a", &"text").unwrap();
    let found = problem(context.saved::<u32>("a"));
    assert!(found.contains("`a` was saved as something else, expected u32") && found.contains("another key"));
    let mut log = Log::open(&place(folder.path(), 1, 2)).unwrap();
    assert!(matches!(log.record("b", "\"0123456789\"", 60), Err(PutError::TooMuch(_))));
    let record = log.record("b", "1", 1000).unwrap();
    log.put("b", "1", &record).unwrap();
    assert!(matches!(log.record("b", "\"01234567890123456789\"", 90), Err(PutError::TooMuch(_))));
    assert_eq!(log.get("b").as_deref(), Some("1"));
}

#[test]
fn a_stale_attempt_beside_its_successor_spoils_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let stale = context(folder.path(), 1, 2);
    stale.save("both", &"stale").unwrap();
    stale.save("before", &1).unwrap();
    let newer = context(folder.path(), 2, 1);
    assert_eq!(newer.saved("before").unwrap(), Some(1));
    std::thread::scope(|scope| {
        scope.spawn(|| (0..50).for_each(|n| stale.save(&format!("stale {n}"), &n).unwrap()));
        scope.spawn(|| (0..50).for_each(|n| newer.save(&format!("newer {n}"), &n).unwrap()));
    });
    newer.save("both", &"newer").unwrap();
    stale.save("both", &"stale again").unwrap();
    assert_eq!(newer.saved::<u32>("stale 7").unwrap(), None);
    // One that begins late, and one whose successor has written: neither sees the future.
    assert_eq!(context(folder.path(), 1, 3).saved::<u32>("newer 7").unwrap(), None);
    let last = context(folder.path(), 2, 2);
    assert_eq!(last.saved("both").unwrap(), Some("newer".to_owned()));
    for n in 0..50 {
        assert_eq!(last.saved(&format!("stale {n}")).unwrap(), Some(n));
        assert_eq!(last.saved(&format!("newer {n}")).unwrap(), Some(n));
    }
}

#[test]
fn a_torn_tail_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let first = context(folder.path(), 1, 1);
    for n in 0..4 {
        first.save(&format!("{n}"), &n).unwrap();
    }
    let [path] = files(folder.path()).try_into().unwrap();
    let whole = fs::read(&path).unwrap();
    for length in 0..=whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let second = context(folder.path(), 1, 2);
        let found: Vec<u32> = (0..4).map_while(|n| second.saved(&format!("{n}")).unwrap()).collect();
        // A record is whole also without its line's end.
        let ends = whole[..length].iter().filter(|byte| **byte == b'\n').count();
        let whole = ends + usize::from(whole.get(length) == Some(&b'\n'));
        assert_eq!(found.len(), whole, "{length}");
    }
}

#[test]
fn what_is_no_checkpoint_is_left_out_or_named() {
    let folder = tempfile::tempdir().unwrap();
    let below = folder.path().join(FOLDER);
    fs::create_dir(&below).unwrap();
    fs::create_dir(below.join("0000000000-00001-00000.log")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", below.join("0000000000-00001-00001.log")).unwrap();
    fs::write(below.join("0000000000-00001-00002.log"), [0xff; 5000]).unwrap();
    File::create(below.join("0000000000-00001-00003.log")).unwrap().set_len(1 << 40).unwrap();
    for name in ["notes.txt", "1-2.log", "1-2-3-4.log", "99999999999999999999-1-1.log", ".log", "-1--1-1.log"]
    {
        fs::write(below.join(name), "{}").unwrap();
    }
    let context = Context::detached(folder.path());
    assert_eq!(context.saved::<u32>("a").unwrap(), None);
    context.save("a", &1).unwrap();
    assert_eq!(Context::detached(folder.path()).saved("a").unwrap(), Some(1));

    let blocked = tempfile::tempdir().unwrap();
    fs::write(blocked.path().join(FOLDER), "a file").unwrap();
    let context = Context::detached(blocked.path());
    for found in [problem(context.saved::<u32>("a")), problem(context.save("a", &1))] {
        assert!(found.contains("checkpoint `a` in `") && found.contains("Not a directory"), "{found}");
    }
}

#[test]
fn a_state_that_is_replaced_a_thousand_times_stays_small() {
    let folder = tempfile::tempdir().unwrap();
    let first = context(folder.path(), 1, 1);
    first.save("kept", &1).unwrap();
    let state = "x".repeat(20_000);
    for epoch in 2..6 {
        let context = context(folder.path(), epoch, 1);
        for step in 0..200 {
            context.save("state", &(step, &state)).unwrap();
        }
        let size: u64 = files(folder.path()).iter().map(|path| path.metadata().unwrap().len()).sum();
        assert!(size < 2 << 20, "{size}");
        assert_eq!(context.saved::<u32>("kept").unwrap(), Some(1));
        let next = Checkpoints::new(place(folder.path(), epoch, 2)).get("state").unwrap().unwrap();
        assert!(next.starts_with("[199,"));
    }
}

#[test]
fn other_inputs_have_another_place() {
    let run = Path::new("run");
    let place = |value: u32, task: &str| {
        let inputs = Arc::new(Values::new(vec![("n".into(), Arc::new(Json::from(value)))], Vec::new()));
        Origin { run: run.into(), task: task.into(), inputs, epoch: 1, attempt: 1, in_store: None }
            .place()
            .folder
    };
    assert_eq!(place(1, "a/b"), place(1, "a/b"));
    assert_ne!(place(1, "a/b"), place(2, "a/b"));
    assert!(place(1, "a/b").starts_with("run/a/b/checkpoint"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever becomes of the files, what is read was once saved under that key.
    #[test]
    fn damage_never_makes_values(
        saves in prop::collection::vec((0..5_u8, "\\PC{0,12}"), 1..12),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let first = context(folder.path(), 1, 1);
        let mut saved: HashMap<String, Vec<String>> = HashMap::new();
        for (key, value) in saves {
            first.save(&key.to_string(), &value).unwrap();
            saved.entry(key.to_string()).or_default().push(value);
        }
        let path = files(folder.path()).remove(0);
        let mut bytes = fs::read(&path).unwrap();
        let intact = damage.is_empty();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        fs::write(&path, bytes).unwrap();
        let second = context(folder.path(), 1, 2);
        for (key, values) in &saved {
            let found = second.saved::<String>(key).unwrap();
            prop_assert!(found.as_ref().is_none_or(|found| values.contains(found)));
            prop_assert!(!intact || found.as_ref() == values.last());
        }
        second.save("more", &1).unwrap();
        prop_assert_eq!(context(folder.path(), 1, 3).saved("more").unwrap(), Some(1));
    }
}
