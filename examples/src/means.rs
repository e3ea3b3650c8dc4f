//! The pipeline of the program `pipeline`: the digits' mean pictures, one task a digit.

use kf_pipeline::prelude::*;

use crate::digits::{self, Digits, PIXELS};

/// The mean picture of one digit, as text. Runs in a process of its own.
#[component(executor = "subprocess", retries = 1)]
fn mean(digits: Input<Dataset>, label: u8, picture: Output<Markdown>) -> TaskResult<usize> {
    let digits = Digits::load(digits.path()?)?;
    let rows: Vec<usize> = (0..digits.len()).filter(|&row| digits.labels[row] == label).collect();
    let mut mean = vec![0.0; PIXELS];
    for &row in &rows {
        for (sum, pixel) in mean.iter_mut().zip(digits.image(row)) {
            *sum += pixel / rows.len() as f32;
        }
    }
    let ink = |pixel: &f32| [' ', '·', '+', '#'][((pixel * 4.0) as usize).min(3)];
    let lines: Vec<String> = mean.chunks(8).map(|line| line.iter().map(ink).collect()).collect();
    picture.write(lines.join("\n"))?;
    Ok(rows.len())
}

/// All pictures one below the other, with how many digits each is the mean of.
#[component]
fn album(
    pictures: Vec<Input<Markdown>>,
    counts: Vec<usize>,
    labels: Vec<u8>,
    album: Output<Markdown>,
) -> TaskResult {
    let mut text = String::new();
    for ((picture, count), label) in pictures.iter().zip(counts).zip(labels) {
        text += &format!("{label} ({count} of them)\n{}\n\n", std::fs::read_to_string(picture.path()?)?);
    }
    album.write(text)
}

/// The components, for copies of a program that run them.
pub fn components() -> Components {
    Components::new().with::<mean>().with::<album>()
}

/// The pipeline.
///
/// # Errors
/// Never, unless this file is wrong.
pub fn pipeline() -> Result<Pipeline, kf_pipeline::Error> {
    Pipeline::build("means", |p| {
        let labels = p.param::<Vec<u8>>("labels", vec![0, 3, 8]);
        let raw = p.import::<Dataset>(digits::FILE);
        let means = p.parallel_for(labels, |p, label| p.add(mean(raw, label))).collect();
        let album = p.add(album(means.picture, means.output, labels));
        p.output("album", album.album);
        p.output("means", means.output);
    })
}
