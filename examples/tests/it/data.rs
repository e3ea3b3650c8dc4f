//! Files of digits that are none.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, UInt8Array};
use examples::digits::{Digits, FILE, PIXELS};
use parquet::arrow::ArrowWriter;

#[test]
fn the_digits_are_all_there_and_survive_writing() {
    let digits = Digits::load(FILE).unwrap();
    assert_eq!((digits.len(), digits.pixels.len()), (1797, 1797 * PIXELS));
    let folder = tempfile::tempdir().unwrap();
    let parts = digits.split(&[0.7, 0.15, 0.15], 7);
    assert_eq!(parts.iter().map(Digits::len).sum::<usize>(), 1797);
    assert_eq!(parts, digits.split(&[0.7, 0.15, 0.15], 7));
    assert_ne!(parts, digits.split(&[0.7, 0.15, 0.15], 8));
    let file = folder.path().join("part.parquet");
    parts[0].save(&file).unwrap();
    assert_eq!(Digits::load(&file).unwrap(), parts[0]);
}

#[test]
fn what_is_wrong_with_a_file_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.parquet");
    let error = || Digits::load(&path).unwrap_err().to_string();
    assert!(error().contains("bad.parquet"), "{}", error());

    let whole = std::fs::read(FILE).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert!(error().contains("bad.parquet"), "{}", error());
    std::fs::write(&path, "").unwrap();
    assert!(error().contains("bad.parquet"), "{}", error());

    let labels: ArrayRef = Arc::new(UInt8Array::from(vec![1, 2]));
    write(&path, vec![("label", Arc::clone(&labels))]);
    assert!(
        error().contains("column `pixels`: expected lists of 64 uint8, found no such column"),
        "{}",
        error()
    );
    write(&path, vec![("label", Arc::clone(&labels)), ("pixels", labels)]);
    assert!(error().contains("column `pixels`: expected lists of 64 uint8, found UInt8"), "{}", error());

    let mut digits = Digits { pixels: vec![0; 2 * PIXELS], labels: vec![1, 2] };
    digits.pixels[PIXELS] = 17;
    digits.save(&path).unwrap();
    assert!(error().contains("pixels of row 1: expected 0 to 16, found 17"), "{}", error());
    Digits::default().save(&path).unwrap();
    assert!(error().contains("rows: expected at least one, found none"), "{}", error());
}

fn write(path: &std::path::Path, columns: Vec<(&str, ArrayRef)>) {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer =
        ArrowWriter::try_new(std::fs::File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}
