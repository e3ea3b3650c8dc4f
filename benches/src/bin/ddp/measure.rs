//! What a rank measures.

use std::time::Instant;

use kf_train::{Backend, DdpOptions, DistributedDataParallel, ProcessGroup, Rank};
use serde::{Deserialize, Serialize};
use tch::{Reduction, Tensor};

use crate::Outcome;
use crate::models::Model;

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Way {
    /// With the options that there are by default.
    Default,
    /// Gradients as views into the buckets.
    Views,
    /// Each rank for itself.
    Alone,
}

/// One thing to measure; the peer is asked in the same words.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Asked {
    pub(crate) name: String,
    pub(crate) model: Model,
    pub(crate) way: Way,
    /// Steps before those that are timed.
    pub(crate) warm_up: usize,
    pub(crate) steps: usize,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// Steps per second.
    pub(crate) rate: f64,
    /// Rank 0's loss before the first step, and in the last one.
    pub(crate) first: f64,
    pub(crate) last: f64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Work {
    pub(crate) shared_memory: bool,
    pub(crate) asked: Vec<Asked>,
}

const BATCHES: usize = 8;

/// The figures in the order of what was asked.
pub(crate) fn measure(rank: &Rank, work: Work) -> Outcome<Vec<Figures>> {
    tch::set_num_threads(1);
    let backend = if work.shared_memory { Backend::SharedMemory } else { Backend::Gloo };
    let group = ProcessGroup::join(rank, backend)?;
    work.asked.iter().map(|asked| one(&group, asked)).collect()
}

fn one(group: &ProcessGroup, asked: &Asked) -> Outcome<Figures> {
    let (vs, forward) = asked.model.build();
    tch::manual_seed(100 + group.rank() as i64);
    let batches: Vec<_> = (0..BATCHES).map(|_| asked.model.batch()).collect();
    let mut optimizer = asked.model.optimizer(&vs)?;
    let options = DdpOptions { gradient_views: asked.way == Way::Views, ..DdpOptions::default() };
    let ddp = match asked.way {
        Way::Alone => None,
        Way::Default | Way::Views => Some(DistributedDataParallel::with_options(&vs, group, options)?),
    };
    let mut step = |number: usize| -> Outcome<Tensor> {
        let (x, y) = &batches[number % BATCHES];
        let loss = forward(x).cross_entropy_loss::<Tensor>(y, None, Reduction::Mean, -100, 0.0);
        match &ddp {
            Some(ddp) => ddp.backward_step(&mut optimizer, &loss)?,
            None => {
                optimizer.zero_grad();
                loss.backward();
                optimizer.step()?;
            }
        }
        Ok(loss)
    };
    let mut last = step(0)?;
    let first = last.double_value(&[]);
    for number in 1..asked.warm_up {
        last = step(number)?;
    }
    group.barrier()?;
    let began = Instant::now();
    for number in asked.warm_up..asked.warm_up + asked.steps {
        last = step(number)?;
    }
    group.barrier()?;
    let rate = asked.steps as f64 / began.elapsed().as_secs_f64();
    Ok(Figures { rate, first, last: last.double_value(&[]) })
}
