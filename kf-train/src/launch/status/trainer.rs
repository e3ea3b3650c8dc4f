//! How far a job is, and how long it will take.

use std::collections::BTreeMap;

use kf_core::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::condition::rfc3339;
use crate::Progress;

/// How far the main rank, number 0, is: what a TrainJob of Kubeflow has as `status.trainerStatus`, and in JSON the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct TrainerStatus {
    /// What part is done, from 0 to 100; 100 only when all is. None where the rank does not tell its
    /// [fraction](method@Progress::fraction).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress_percentage: Option<u32>,
    /// How many seconds it may take until all is done, when it was last told: from how the fraction has grown since the
    /// ranks began. None where it has not grown yet, or would take more than 68 years.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_remaining_seconds: Option<u32>,
    /// The last value of each measurement, at most 256 with names of 1 to 64 bytes. In JSON a list of names and values,
    /// which are texts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", with = "metrics")]
    pub metrics: BTreeMap<String, f64>,
    /// When the rank last told something.
    #[serde(with = "rfc3339")]
    pub last_updated_time: Timestamp,
}

/// The most that a TrainJob's status holds.
const METRICS: usize = 256;
const METRIC_NAME: usize = 64;

impl TrainerStatus {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            progress_percentage: None,
            estimated_remaining_seconds: None,
            metrics: BTreeMap::new(),
            last_updated_time: now,
        }
    }

    /// Takes in progress whose fraction is within bounds.
    pub(super) fn apply(&mut self, now: Timestamp, progress: &Progress, pace: &mut Option<Pace>) {
        self.last_updated_time = now;
        if let Some(fraction) = progress.fraction {
            self.progress_percentage = Some(percentage(fraction));
            self.estimated_remaining_seconds = Pace::remaining(pace, now, fraction);
        }
        for (name, &value) in &progress.metrics {
            let room = self.metrics.len() < METRICS || self.metrics.contains_key(name);
            if room && (1..=METRIC_NAME).contains(&name.len()) {
                self.metrics.insert(name.clone(), value);
            }
        }
    }
}

fn percentage(fraction: f64) -> u32 {
    // Within bounds, so that the cast is exact.
    let rounded = (fraction * 100.0).round() as u32;
    if fraction < 1.0 { rounded.min(99) } else { 100 }
}

/// How fast the fraction grows since the ranks began, or since it last fell back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Pace {
    since: Timestamp,
    from: f64,
    last: f64,
}

impl Pace {
    /// Takes in a fraction, and estimates how many seconds remain.
    fn remaining(pace: &mut Option<Self>, now: Timestamp, fraction: f64) -> Option<u32> {
        if pace.as_ref().is_some_and(|pace| fraction < pace.last) {
            *pace = None;
        }
        // The first one tells where the ranks went on from.
        let pace = pace.get_or_insert(Self { since: now, from: fraction, last: fraction });
        pace.last = fraction;
        if fraction >= 1.0 {
            return Some(0);
        }
        let (grown, took) = (fraction - pace.from, now.since(pace.since).as_secs_f64());
        let seconds = ((1.0 - fraction) / grown * took).round();
        // As much as a TrainJob's status holds. The cast is exact.
        let fits = grown > 0.0 && took > 0.0 && seconds <= f64::from(i32::MAX);
        fits.then_some(seconds as u32)
    }
}

/// Metrics as a TrainJob's status has them.
mod metrics {
    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Metric {
        name: String,
        value: String,
    }

    pub(super) fn serialize<S: Serializer>(
        metrics: &BTreeMap<String, f64>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        let metric = |(name, value): (&String, &f64)| Metric { name: name.clone(), value: text(*value) };
        to.collect_seq(metrics.iter().map(metric))
    }

    /// No longer than 64 characters, the most that a TrainJob's status holds.
    fn text(value: f64) -> String {
        let plain = value.to_string();
        if plain.len() <= 32 { plain } else { format!("{value:e}") }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, f64>, D::Error> {
        let read = |Metric { name, value }: Metric| {
            let value = value.parse().map_err(|_| {
                serde::de::Error::custom(format!("metric {name:?} is {value:?}, which is no number"))
            })?;
            Ok((name, value))
        };
        Vec::<Metric>::deserialize(from)?.into_iter().map(read).collect()
    }
}
