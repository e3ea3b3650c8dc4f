//! What comes, and in which order.

use super::*;
use crate::{DistributedSampler, Position};

/// The ways to read: from memory or files, shuffled or not.
fn ways(data: &Dataset) -> Vec<(Dataset, DistributedSampler)> {
    let memory = data.clone().in_memory().unwrap();
    let sampler = DistributedSampler::of(data.rows(), 0, 1);
    let windowed = |window| sampler.clone().shuffle_within(5, data.blocks(), window);
    vec![
        (memory.clone(), sampler.clone()),
        (memory.clone(), sampler.clone().shuffle(5)),
        (memory, windowed(40)),
        (data.clone(), sampler.clone()),
        (data.clone(), windowed(1)),
        (data.clone(), windowed(40)),
        (data.clone(), windowed(1000)),
    ]
}

fn taken(loader: &DataLoader, position: &Position) -> Vec<(Vec<i64>, Position)> {
    let batches = loader.batches_from(position).unwrap();
    batches.map(|batch| batch.map(|batch| (numbers(&batch), batch.position().clone())).unwrap()).collect()
}

#[test]
fn batches_are_the_samplers_whatever_the_ranks_and_threads() {
    let folder = tempfile::tempdir().unwrap();
    let data = mixed(folder.path());
    assert_eq!((data.rows(), data.blocks()), (100, &[10, 30, 1, 9, 0, 25, 20, 5][..]));
    for (data, sampler) in ways(&data) {
        for world in [1, 2, 7, 130] {
            for rank in [0, world / 2, world - 1] {
                let sampler = sampler.clone().for_rank(rank, world);
                for (batch_size, threads, prefetch) in [(1, 1, 1), (8, 2, 3), (8, 5, 1), (1000, 3, 9)] {
                    let loader = DataLoader::new(&data, sampler.clone()).unwrap();
                    let loader = loader.batch_size(batch_size).threads(threads).prefetch(prefetch);
                    let start = loader.start(3);
                    let expected: Vec<_> = sampler.batches_from(&start, batch_size).unwrap().collect();
                    assert_eq!(taken(&loader, &start), expected, "{sampler:?}");
                }
            }
        }
    }
}

#[test]
fn going_on_is_as_if_undisturbed_also_on_another_number_of_ranks() {
    let folder = tempfile::tempdir().unwrap();
    for (data, sampler) in ways(&mixed(folder.path())) {
        let three = DataLoader::new(&data, sampler.clone().for_rank(1, 3)).unwrap().batch_size(4);
        let whole = taken(&three, &three.start(0));
        let (_, position) = whole[3].clone();
        assert_eq!(position.consumed(), 48);
        assert_eq!(taken(&three, &position), whole[4..]);
        let mut seen = Vec::new();
        for rank in 0..2 {
            let two = DataLoader::new(&data, sampler.clone().for_rank(rank, 2)).unwrap().batch_size(4);
            seen.extend(taken(&two, &position).into_iter().flat_map(|(batch, _)| batch));
        }
        seen.extend((0..3).flat_map(|rank| {
            sampler.clone().for_rank(rank, 3).batches(0, 4).take(4).flatten().collect::<Vec<_>>()
        }));
        seen.sort_unstable();
        assert_eq!(seen, (0..100).collect::<Vec<_>>());
    }
}

#[test]
fn rows_that_stay_in_place_come_as_those_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    for (number, lists) in [Lists::Fixed, Lists::Small, Lists::Large].into_iter().enumerate() {
        let blocks = [rows(number * 20, 5, lists), rows(number * 20 + 5, 15, lists)];
        write(&folder.path().join(format!("{number}.arrow")), &blocks);
    }
    let open = || Dataset::open([folder.path()], ["x", "y"]).unwrap();
    let sampler = DistributedSampler::of(60, 1, 2).shuffle(3);
    let all = |data: Dataset| {
        let loader = DataLoader::new(&data, sampler.clone()).unwrap().batch_size(8);
        loader.batches(0).unwrap().map(|batch| batch.unwrap().rows().clone()).collect::<Vec<_>>()
    };
    let batches = all(open().in_place().unwrap());
    assert_eq!(batches, all(open().in_memory().unwrap()));
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 30);
}

#[test]
fn no_rows_and_one_row() {
    for kind in ["parquet", "arrow"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a").with_extension(kind);
        for count in [0, 1] {
            write(&path, &[rows(0, count, Lists::Small)]);
            let data = Dataset::open([&path], ["y", "x", "name"]).unwrap();
            for (data, sampler) in ways(&data) {
                for world in [1, 7] {
                    let sampler = sampler.clone().for_rank(world - 1, world);
                    let loader = DataLoader::new(&data, sampler).unwrap();
                    let all: Vec<_> = taken(&loader, &loader.start(0));
                    let expected = if count == 0 { vec![] } else { vec![(vec![0], loader.start(1))] };
                    assert_eq!(all, expected);
                }
            }
        }
    }
}

#[test]
fn compressed_files_come_as_the_others() {
    use ::parquet::basic::{Compression, ZstdLevel};
    use arrow_ipc::{CompressionType, writer::IpcWriteOptions};
    let batch = rows(0, 500, Lists::Small);
    let mut codecs = vec![
        (Compression::SNAPPY, CompressionType::LZ4_FRAME),
        (Compression::LZ4_RAW, CompressionType::LZ4_FRAME),
    ];
    if cfg!(feature = "zstd") {
        codecs.push((Compression::ZSTD(ZstdLevel::default()), CompressionType::ZSTD));
    }
    for (codec, arrow) in codecs {
        let folder = tempfile::tempdir().unwrap();
        let file = File::create(folder.path().join("a.parquet")).unwrap();
        let properties = WriterProperties::builder().set_compression(codec).build();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let file = File::create(folder.path().join("b.arrow")).unwrap();
        let options = IpcWriteOptions::default().try_with_compression(Some(arrow)).unwrap();
        let mut writer = FileWriter::try_new_with_options(file, &batch.schema(), options).unwrap();
        writer.write(&batch).unwrap();
        writer.finish().unwrap();
        let data = Dataset::open([folder.path()], ["y", "x", "name"]).unwrap();
        let loader = DataLoader::new(&data, DistributedSampler::of(1000, 0, 1)).unwrap().batch_size(500);
        for all in loader.batches(0).unwrap() {
            assert_eq!(numbers(&all.unwrap()), (0..500).collect::<Vec<_>>());
        }
    }
}

#[test]
fn numbers_of_all_kinds_pass_as_they_are() {
    use arrow_array::{Decimal128Array, Float32Array, Float64Array, Int8Array, UInt64Array};
    let folder = tempfile::tempdir().unwrap();
    let odd = f32::from_bits(0x7fc0_1234); // a NaN with something in it
    let columns: [(&str, ArrayRef); 6] = [
        ("f32", Arc::new(Float32Array::from(vec![odd, f32::NEG_INFINITY, -0.0]))),
        ("f64", Arc::new(Float64Array::from(vec![f64::NAN, f64::MIN_POSITIVE, 0.1]))),
        ("i8", Arc::new(Int8Array::from(vec![-128, 0, 127]))),
        ("u64", Arc::new(UInt64Array::from(vec![u64::MAX, 0, 1]))),
        ("flag", Arc::new(arrow_array::BooleanArray::from(vec![true, false, true]))),
        ("money", Arc::new(Decimal128Array::from(vec![-1, 0, i128::MAX / 10]))),
    ];
    let written = RecordBatch::try_from_iter(columns).unwrap();
    for name in ["a.parquet", "a.arrow"] {
        let path = folder.path().join(name);
        write(&path, &[written.slice(0, 2), written.slice(2, 1)]);
        let names: Vec<_> = written.schema().fields().iter().map(|field| field.name().clone()).collect();
        let data = Dataset::open([&path], names).unwrap();
        let loader = DataLoader::new(&data, DistributedSampler::of(3, 0, 1)).unwrap();
        let batch = loader.batches(0).unwrap().next().unwrap().unwrap();
        assert_eq!(batch.rows().columns(), written.columns());
        let floats = batch.rows().column(0).as_primitive::<Float32Type>();
        assert_eq!(floats.value(0).to_bits(), odd.to_bits());
    }
}

#[test]
fn text_in_dictionaries_of_several_files_is_put_together() {
    use arrow_array::DictionaryArray;
    use arrow_array::types::Int8Type;
    let folder = tempfile::tempdir().unwrap();
    for (number, words) in [["a", "b", "a"], ["c", "a", "c"]].into_iter().enumerate() {
        let words: ArrayRef = Arc::new(DictionaryArray::<Int8Type>::from_iter(words));
        let batch = RecordBatch::try_from_iter([("word", words)]).unwrap();
        write(&folder.path().join(format!("{number}.arrow")), &[batch]);
    }
    let data = Dataset::open([folder.path()], ["word"]).unwrap();
    let loader = DataLoader::new(&data, DistributedSampler::of(6, 0, 1)).unwrap();
    let batch = loader.batches(0).unwrap().next().unwrap().unwrap();
    let words = batch.rows().column(0).as_dictionary::<Int8Type>();
    let words: Vec<_> = words.downcast_dict::<StringArray>().unwrap().into_iter().flatten().collect();
    assert_eq!(words, ["a", "b", "a", "c", "a", "c"]);
}

#[test]
fn threads_end_with_who_takes_the_batches() {
    let folder = tempfile::tempdir().unwrap();
    for (data, sampler) in ways(&mixed(folder.path())) {
        let before = Arc::strong_count(&data.files);
        let loader = DataLoader::new(&data, sampler).unwrap().batch_size(1).threads(3).prefetch(2);
        let mut batches = loader.batches(0).unwrap();
        batches.next().unwrap().unwrap();
        assert!(Arc::strong_count(&data.files) > before + 2);
        drop((batches, loader));
        // Every thread held one.
        assert_eq!(Arc::strong_count(&data.files), before);
    }
}

#[cfg(feature = "torch")]
#[test]
fn columns_become_tensors() {
    let folder = tempfile::tempdir().unwrap();
    let data = mixed(folder.path()).in_memory().unwrap();
    let loader = DataLoader::new(&data, DistributedSampler::of(100, 0, 1)).unwrap().batch_size(60);
    let batch = loader.batches(0).unwrap().nth(1).unwrap().unwrap();
    let (x, y) = (batch.tensor("x").unwrap(), batch.tensor("y").unwrap());
    assert_eq!((x.size(), x.kind()), (vec![40, 3], tch::Kind::Float));
    assert_eq!((y.size(), y.kind()), (vec![40], tch::Kind::Int64));
    assert_eq!((x.double_value(&[39, 1]), y.int64_value(&[0])), (49.5, 60));
    let error = batch.tensor("name").unwrap_err().to_string();
    assert!(error.contains("column `name`: found Utf8"), "{error}");
    let error = batch.tensor("z").unwrap_err().to_string();
    assert!(error.contains("one of y, x, name"), "{error}");
}
