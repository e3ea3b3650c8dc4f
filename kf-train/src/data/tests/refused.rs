//! What is refused, and in which words.

use arrow_array::{Float64Array, Int32Array};

use super::*;
use crate::{DistributedSampler, Error};

/// The error of opening files, or of the first batch that fails, whichever way they are read.
fn failure(folder: &Path, columns: &[&str]) -> String {
    let data = match Dataset::open([folder], columns.iter().copied()) {
        Ok(data) => data,
        Err(error) => return checked(error),
    };
    let sampler = DistributedSampler::of(data.rows(), 0, 1);
    let mut batches = DataLoader::new(&data, sampler).unwrap().batches(0).unwrap();
    let streamed = checked(batches.by_ref().find_map(|batch| batch.err()).unwrap());
    assert!(batches.next().is_none());
    assert_eq!(checked(data.in_memory().unwrap_err()), streamed);
    streamed
}

fn checked(error: Error) -> String {
    assert!(matches!(error, Error::Data { .. } | Error::Io { .. }), "{error:?}");
    assert!(!error.is_retryable());
    error.to_string()
}

fn batch(columns: impl IntoIterator<Item = (&'static str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
        .unwrap()
}

#[test]
fn files_that_hold_no_data() {
    let good = tempfile::tempdir().unwrap();
    write(&good.path().join("a.parquet"), &[rows(0, 100, Lists::Fixed)]);
    write(&good.path().join("a.arrow"), &[rows(0, 100, Lists::Fixed)]);
    let parquet = std::fs::read(good.path().join("a.parquet")).unwrap();
    let arrow = std::fs::read(good.path().join("a.arrow")).unwrap();
    let mut lying = arrow.clone();
    let end = lying.len() - 10;
    lying[end..end + 4].copy_from_slice(&i32::MAX.to_le_bytes());
    let cases: [(&[u8], &str); 11] = [
        (b"", "an empty file"),
        (b"x", "begins with \"x\""),
        (b"label,value\n1,2\n", "begins with \"label,va\""),
        (&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0], "a stream in Arrow's IPC format"),
        (b"PAR1", "found"),
        (&parquet[..parquet.len() / 2], "found"),
        (&parquet[..parquet.len() - 1], "found"),
        (b"ARROW1", "a file that was cut"),
        (&arrow[..arrow.len() / 2], "a file that was cut"),
        (&arrow[..arrow.len() - 1], "a file that was cut"),
        (&lying, "a file that was cut"),
    ];
    for (bytes, expected) in cases {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("bad.parquet"), bytes).unwrap();
        let error = failure(folder.path(), &["y"]);
        assert!(error.contains("bad.parquet") && error.contains(expected), "{expected}: {error}");
    }
    let pipe = good.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    assert!(Dataset::open([pipe], ["y"]).unwrap_err().to_string().contains("no regular file"));
}

#[test]
fn columns_that_are_not_there_or_not_alike() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write(&path.join("a.arrow"), &[rows(0, 5, Lists::Fixed)]);
    assert!(failure(path, &["z"]).contains("column `z`: found none of that name among `x`, `y`, `name`"));
    assert!(failure(path, &["y", "y"]).contains("column `y`: found asked for twice"));
    assert!(failure(path, &[]).contains("no columns asked for"));

    let other: ArrayRef = Arc::new(Int32Array::from(vec![1]));
    write(&path.join("b.parquet"), &[batch([("y", other)])]);
    let error = failure(path, &["y"]);
    assert!(error.contains("b.parquet, column `y`: found Int32, expected Int64, as in"), "{error}");
    assert!(error.ends_with("a.arrow"), "{error}");
    let error = failure(path, &["y", "x"]);
    assert!(error.contains("column `y`"), "{error}");
    let error = failure(path, &["x"]);
    assert!(error.contains("b.parquet, column `x`: found none of that name among `y`"), "{error}");

    let mut wide = FixedSizeListBuilder::new(Float32Builder::new(), 4);
    wide.values().append_slice(&[1.0; 4]);
    wide.append(true);
    write(&path.join("b.parquet"), &[batch([("x", Arc::new(wide.finish()) as ArrayRef)])]);
    let error = failure(path, &["x"]);
    assert!(error.contains("lists of 4 Float32, expected lists of 3 Float32, as in"), "{error}");
}

#[test]
fn nulls_and_lists_of_other_lengths() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let lists = |lists: Vec<Option<Vec<Option<f32>>>>| -> ArrayRef {
        let mut built = ListBuilder::new(Float32Builder::new());
        for list in lists {
            built.append_option(list);
        }
        Arc::new(built.finish())
    };
    let pair = || Some(vec![Some(1.0), Some(2.0)]);
    let numbers: ArrayRef = Arc::new(Float64Array::from(vec![Some(1.0), None]));
    let words: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None]));
    let cases: [(ArrayRef, &str); 5] = [
        (numbers, "row 8: found no value"),
        (words, "row 8: found no value"),
        (lists(vec![pair(), None]), "row 8: found no value"),
        (lists(vec![pair(), Some(vec![Some(1.0), None])]), "row 8: found a list with a null in it"),
        (lists(vec![pair(), Some(vec![None])]), "row 8: found a list of 1, expected one of 2"),
    ];
    for (bad, expected) in cases {
        for name in ["a.parquet", "a.arrow"] {
            let good = batch([("c", bad.slice(0, 1))]);
            let mut blocks = vec![good; 7];
            blocks.push(batch([("c", bad.clone())]));
            write(&path.join(name), &blocks);
            let error = failure(path, &["c"]);
            assert!(error.contains(&format!("{name}, column `c`, {expected}")), "{error}");
            std::fs::remove_file(path.join(name)).unwrap();
        }
    }
}

#[test]
fn what_can_not_stay_in_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.arrow");
    let refused =
        |path: &Path, column: &str| checked(Dataset::open([path], [column]).unwrap().in_place().unwrap_err());
    write(&path, &[rows(0, 100, Lists::Small)]);
    assert!(refused(&path, "name").contains("a column of Utf8"));
    let options = arrow_ipc::writer::IpcWriteOptions::default()
        .try_with_compression(Some(arrow_ipc::CompressionType::LZ4_FRAME))
        .unwrap();
    let batch = rows(0, 100, Lists::Fixed);
    let mut writer =
        FileWriter::try_new_with_options(File::create(&path).unwrap(), &batch.schema(), options).unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    assert!(refused(&path, "x").contains("columns without compression"));
    assert_eq!(Dataset::open([&path], ["x"]).unwrap().in_memory().unwrap().rows(), 100);
    let path = folder.path().join("a.parquet");
    write(&path, &[batch]);
    assert!(refused(&path, "x").contains("found a Parquet file"));
}

#[test]
fn samplers_of_something_else() {
    let folder = tempfile::tempdir().unwrap();
    let data = mixed(folder.path());
    let refused = |sampler| DataLoader::new(&data, sampler).unwrap_err().to_string();
    let sampler = DistributedSampler::of(99, 0, 1);
    assert!(refused(sampler.clone()).contains("found 100 rows, expected 99"));
    assert!(refused(DistributedSampler::of(100, 0, 1).shuffle(1)).contains("in_memory"));
    assert!(refused(sampler.shuffle_within(1, &[50, 50], 10)).contains("other blocks"));
    let loader = DataLoader::new(&data, DistributedSampler::of(100, 0, 1)).unwrap();
    let other = DistributedSampler::of(100, 0, 1).shuffle(1).start(0);
    assert!(matches!(loader.batches_from(&other), Err(Error::Position { .. })));
}
