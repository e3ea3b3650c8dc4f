//! The handwritten digits of UCI: see `data/README.md`.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt8Type;
use arrow_array::{Array, ArrayRef, FixedSizeListArray, RecordBatch, UInt8Array};
use arrow_schema::{DataType, Field};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// The file that lies beside the examples.
pub const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/digits.parquet");
/// Pixels of a digit: 8 × 8.
pub const PIXELS: usize = 64;
/// How dark a pixel can be.
const DARKEST: u8 = 16;

/// Digits and what they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Digits {
    /// 64 pixels a digit, 0 to 16, row by row.
    pub pixels: Vec<u8>,
    /// 0 to 9.
    pub labels: Vec<u8>,
}

/// What can be wrong with a file of digits.
#[derive(Debug, thiserror::Error)]
pub enum DigitsError {
    /// It can't be read or written.
    #[error("`{path}`: {source}")]
    File {
        /// The file.
        path: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It holds something else.
    #[error("`{path}`, {place}: expected {expected}, found {found}")]
    Schema {
        /// The file.
        path: String,
        /// The column or row.
        place: String,
        /// What belongs there.
        expected: &'static str,
        /// What is there.
        found: String,
    },
}

impl Digits {
    /// Reads a Parquet file and checks that it holds digits.
    ///
    /// # Errors
    /// Names the file and the column or row that is not as it should be.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, DigitsError> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| DigitsError::File {
            path: name.clone(),
            source,
        };
        let file = File::open(path).map_err(|error| failed(error.into()))?;
        let reader =
            ParquetRecordBatchReaderBuilder::try_new(file).and_then(ParquetRecordBatchReaderBuilder::build);
        let mut digits = Self::default();
        for batch in reader.map_err(|error| failed(error.into()))? {
            digits.add(&batch.map_err(|error| failed(error.into()))?, &name)?;
        }
        digits.check(&name)?;
        Ok(digits)
    }

    fn add(&mut self, batch: &RecordBatch, path: &str) -> Result<(), DigitsError> {
        let refuse = |place: &str, expected, found: &dyn std::fmt::Display| DigitsError::Schema {
            path: path.to_owned(),
            place: format!("column `{place}`"),
            expected,
            found: found.to_string(),
        };
        let column = |name: &'static str, expected| {
            let column =
                batch.column_by_name(name).ok_or_else(|| refuse(name, expected, &"no such column"))?;
            match column.null_count() {
                0 => Ok(column),
                nulls => Err(refuse(name, "no nulls", &nulls)),
            }
        };
        let lists = column("pixels", "lists of 64 uint8")?;
        let list = lists.as_fixed_size_list_opt().filter(|list| list.value_length() == 64);
        let pixels = list.and_then(|list| list.values().as_primitive_opt::<UInt8Type>());
        let pixels = pixels.ok_or_else(|| refuse("pixels", "lists of 64 uint8", lists.data_type()))?;
        let found = column("label", "uint8")?;
        let labels = found.as_primitive_opt::<UInt8Type>();
        let labels = labels.ok_or_else(|| refuse("label", "uint8", found.data_type()))?;
        self.pixels.extend_from_slice(pixels.values());
        self.labels.extend_from_slice(labels.values());
        Ok(())
    }

    fn check(&self, path: &str) -> Result<(), DigitsError> {
        let refuse = |place: String, expected, found: String| {
            Err(DigitsError::Schema { path: path.to_owned(), place, expected, found })
        };
        if self.labels.is_empty() {
            return refuse("rows".to_owned(), "at least one", "none".to_owned());
        }
        if let Some(row) = self.labels.iter().position(|&label| label > 9) {
            return refuse(format!("label of row {row}"), "0 to 9", self.labels[row].to_string());
        }
        if let Some(at) = self.pixels.iter().position(|&pixel| pixel > DARKEST) {
            return refuse(format!("pixels of row {}", at / PIXELS), "0 to 16", self.pixels[at].to_string());
        }
        Ok(())
    }

    /// Writes a Parquet file.
    ///
    /// # Errors
    /// Where the file can't be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), DigitsError> {
        let path = path.as_ref();
        let write = || -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
            let item = Arc::new(Field::new("item", DataType::UInt8, false));
            let pixels: ArrayRef = Arc::new(UInt8Array::from(self.pixels.clone()));
            let pixels: ArrayRef = Arc::new(FixedSizeListArray::try_new(item, 64, pixels, None)?);
            let labels: ArrayRef = Arc::new(UInt8Array::from(self.labels.clone()));
            let batch = RecordBatch::try_from_iter([("pixels", pixels), ("label", labels)])?;
            let mut writer = ArrowWriter::try_new(File::create(path)?, batch.schema(), None)?;
            writer.write(&batch)?;
            writer.close()?;
            Ok(())
        };
        write().map_err(|source| DigitsError::File { path: path.display().to_string(), source })
    }

    /// How many digits there are.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The pixels of one digit, 0 to 1.
    pub fn image(&self, row: usize) -> Vec<f32> {
        let pixels = &self.pixels[row * PIXELS..(row + 1) * PIXELS];
        pixels.iter().map(|&pixel| f32::from(pixel) / f32::from(DARKEST)).collect()
    }

    /// Parts of the given shares, drawn at random; the same for the same seed. What the shares leave goes nowhere.
    pub fn split(&self, shares: &[f64], seed: u64) -> Vec<Self> {
        let mut rows: Vec<usize> = (0..self.len()).collect();
        rows.sort_by_cached_key(|&row| mix(seed ^ mix(row as u64)));
        let (mut parts, mut begin, mut share) = (Vec::new(), 0, 0.0);
        for next in shares {
            share += next;
            let end = ((share * self.len() as f64).round() as usize).clamp(begin, self.len());
            let mut part = Self::default();
            for &row in &rows[begin..end] {
                part.pixels.extend_from_slice(&self.pixels[row * PIXELS..(row + 1) * PIXELS]);
                part.labels.push(self.labels[row]);
            }
            parts.push(part);
            begin = end;
        }
        parts
    }

    /// The digits as tensors: `float [n, 64]`, 0 to 1, and `int64 [n]`.
    #[cfg(feature = "torch")]
    pub fn tensors(&self) -> (tch::Tensor, tch::Tensor) {
        let pixels = tch::Tensor::from_slice(&self.pixels).view([-1, 64]).to_kind(tch::Kind::Float);
        (pixels / f64::from(DARKEST), tch::Tensor::from_slice(&self.labels).to_kind(tch::Kind::Int64))
    }
}

/// The finaliser of SplitMix64.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}
