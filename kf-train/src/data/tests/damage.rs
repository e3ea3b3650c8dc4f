//! Files that change, go or are damaged once they are open.

use std::fs;
use std::io::{Seek, SeekFrom, Write};

use super::*;
use crate::{DistributedSampler, Error};

/// Blocks of 10 rows, each a window of its own.
fn open(path: &Path) -> DataLoader {
    let blocks: Vec<_> = (0..20).map(|block| rows(block * 10, 10, Lists::Fixed)).collect();
    write(path, &blocks);
    let data = Dataset::open([path], ["y", "x", "name"]).unwrap();
    DataLoader::new(&data, DistributedSampler::of(200, 0, 1)).unwrap().batch_size(10).threads(1).prefetch(1)
}

/// Disturbs a file after two batches; gives how many came and what the error said.
fn disturbed(kind: &str, disturb: impl FnOnce(&Path)) -> (usize, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows").with_extension(kind);
    let mut batches = open(&path).batches(0).unwrap();
    let mut came = 0;
    for _ in 0..2 {
        numbers(&batches.next().unwrap().unwrap());
        came += 1;
    }
    disturb(&path);
    let error = loop {
        match batches.next().expect("an epoch that is cut short says so") {
            Ok(batch) => {
                numbers(&batch);
                came += 1;
            }
            Err(error) => break error,
        }
    };
    assert!(batches.next().is_none());
    assert!(matches!(error, Error::Data { .. } | Error::Io { .. }));
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    (came, error.to_string())
}

#[test]
fn a_file_that_goes_or_changes_half_way_is_an_error_in_its_place() {
    for kind in ["parquet", "arrow"] {
        let (came, error) = disturbed(kind, |path| fs::remove_file(path).unwrap());
        assert!((2..20).contains(&came) && error.contains("No such file"), "{came}: {error}");

        let (came, error) = disturbed(kind, |path| {
            File::options().write(true).open(path).unwrap().set_len(1000).unwrap();
        });
        assert!((2..20).contains(&came) && error.contains("found 1000 bytes"), "{came}: {error}");

        let (came, error) = disturbed(kind, |path| {
            let aside = path.with_extension("new");
            fs::copy(path, &aside).unwrap();
            fs::rename(aside, path).unwrap();
        });
        assert!((2..20).contains(&came) && error.contains("another file"), "{came}: {error}");

        let (came, error) = disturbed(kind, |path| {
            let mut file = File::options().write(true).open(path).unwrap();
            file.seek(SeekFrom::Start(100)).unwrap();
            file.write_all(b"x").unwrap();
        });
        assert!((2..20).contains(&came) && error.contains("written to since"), "{came}: {error}");
    }
}

#[test]
fn a_file_that_rows_stayed_in_may_go_but_not_change() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.arrow");
    write(&path, &[rows(0, 500, Lists::Fixed)]);
    let data = Dataset::open([&path], ["x", "y"]).unwrap().in_place().unwrap();
    let sampler = DistributedSampler::of(500, 0, 1).shuffle(1);
    let loader = DataLoader::new(&data, sampler).unwrap().batch_size(10).threads(2).prefetch(1);
    let held = File::options().write(true).open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    assert_eq!(loader.batches(0).unwrap().map(Result::unwrap).count(), 50);
    let mut batches = loader.batches(1).unwrap();
    batches.next().unwrap().unwrap();
    held.set_len(5000).unwrap();
    let error = batches.find_map(Result::err).unwrap().to_string();
    assert!(error.contains("rows.arrow"), "{error}");
    assert!(batches.next().is_none());
}

/// Whatever bytes are wrong: data or an error, and never a panic that gets out, an abort or a hang.
#[test]
fn any_byte_may_be_wrong() {
    let mut outcomes = [0, 0];
    for kind in ["parquet", "arrow"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows").with_extension(kind);
        let good: Vec<_> = (0..2).map(|block| rows(block * 3, 3, Lists::Small)).collect();
        write(&path, &good);
        let whole = fs::read(&path).unwrap();
        let step = (whole.len() / 400).max(1);
        for at in (0..whole.len()).step_by(step) {
            for value in [0, 0x7f, 0xff, whole[at] ^ 0x10] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                fs::write(&path, &bytes).unwrap();
                let read = Dataset::open([&path], ["y", "x", "name"]).and_then(Dataset::in_memory);
                outcomes[usize::from(read.is_err())] += 1;
            }
        }
    }
    assert!(outcomes.iter().all(|outcome| *outcome > 100), "{outcomes:?}");
}
