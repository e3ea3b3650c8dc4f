//! Asks a served model over HTTP.

use std::fmt;
use std::time::{Duration, Instant};

use crate::digits::Digits;
use kf_serve::BoxError;
use serde::Deserialize;
use serde_json::json;

/// What asking gave.
#[derive(Clone, Copy, Debug)]
pub struct Answers {
    /// The share of right answers.
    pub accuracy: f64,
    /// Half of the answers took at most so long.
    pub p50: Duration,
    /// 99 % of the answers took at most so long.
    pub p99: Duration,
}

impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { accuracy, p50, p99 } = self;
        write!(f, "accuracy {accuracy:.4}, p50 {p50:.0?}, p99 {p99:.0?}")
    }
}

#[derive(Deserialize)]
struct Reply {
    outputs: Vec<ReplyTensor>,
}

#[derive(Deserialize)]
struct ReplyTensor {
    data: Vec<f32>,
}

/// Sends each digit to the model `digits` in a request of its own, the first two to warm up.
///
/// # Errors
/// Where an answer is not one.
pub async fn ask(server: &str, digits: &Digits) -> Result<Answers, BoxError> {
    let infer = format!("{server}/v2/models/digits/infer");
    let client = reqwest::Client::new();
    let (mut right, mut times) = (0, Vec::with_capacity(digits.len()));
    for row in 0..digits.len() {
        let pixels = digits.image(row);
        let body =
            json!({"inputs": [{"name": "pixels", "datatype": "FP32", "shape": [1, 64], "data": pixels}]});
        let began = Instant::now();
        let reply = client.post(&infer).json(&body).send().await?.error_for_status()?.json::<Reply>().await?;
        times.push(began.elapsed());
        let logits = &reply.outputs.first().ok_or("the model gave nothing")?.data;
        let read = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
        right += usize::from(read == Some(digits.labels[row].into()));
    }
    times.drain(..2.min(times.len() - 1));
    times.sort_unstable();
    let part = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    Ok(Answers { accuracy: right as f64 / digits.len() as f64, p50: part(0.50), p99: part(0.99) })
}

/// A command line that asks for one digit, an empty one.
pub fn curl(server: &str) -> String {
    let pixels = vec!["0"; crate::digits::PIXELS].join(",");
    let tensor = format!(r#"{{"name":"pixels","datatype":"FP32","shape":[1,64],"data":[{pixels}]}}"#);
    format!(r#"curl -d '{{"inputs":[{tensor}]}}' {server}/v2/models/digits/infer"#)
}
