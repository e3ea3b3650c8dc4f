//! The same steps in a single process, to the bit.

use kf_train::Position;
use tch::{Tensor, no_grad};

use super::log::{Log, Point, Try};
use super::model::{Model, batch, floats, start};

/// A model that makes the steps that a log tells of.
pub(crate) struct Replay {
    /// What it has come to; none before the first step.
    at: Option<Point>,
    model: Model,
    position: Position,
}

impl Replay {
    pub(crate) fn start() -> Self {
        Self { at: None, model: Model::new().unwrap(), position: start() }
    }

    pub(crate) fn bits(&self) -> Vec<u64> {
        self.model.bits()
    }

    /// Goes on to a state, from the present one where that is on the way, and else from the beginning.
    pub(crate) fn go(&mut self, log: &Log, to: &Point) -> Result<(), String> {
        let (from_here, tries) = path(log, *to, self.at)?;
        if !from_here {
            *self = Self::start();
        }
        for tried in tries {
            self.step(log, tried)?;
        }
        self.at = Some(*to);
        Ok(())
    }

    fn step(&mut self, log: &Log, tried: Try) -> Result<(), String> {
        let (life, round, _) = tried;
        let (world_size, all) = log.samples.get(&tried).ok_or_else(|| format!("no samples of {tried:?}"))?;
        let is_first = log.first.get(&(life, round)) == Some(&tried.2);
        let order = self.order(is_first);
        let (mut parts, mut after) = (Vec::new(), None);
        for rank in 0..*world_size {
            let samples = all.get(&rank).ok_or_else(|| format!("no samples of rank {rank} in {tried:?}"))?;
            let (dealt, position) =
                batch(rank, *world_size, &self.position).map_err(|error| error.to_string())?;
            if dealt != *samples {
                return Err(format!("rank {rank} had {samples:?} in {tried:?}, and was dealt {dealt:?}"));
            }
            after = Some(position);
            for parameter in &order {
                let mut gradient = parameter.grad();
                if gradient.defined() {
                    let _ = gradient.zero_();
                }
            }
            self.model.loss(samples).backward();
            let scaled =
                order.iter().map(|parameter| floats(&(parameter.grad() * (1.0 / *world_size as f64))));
            parts.push(scaled.collect::<Vec<_>>().concat());
        }
        let mut sum = ring(&parts).into_iter();
        for parameter in &order {
            let size = parameter.size();
            let values: Vec<f32> = sum.by_ref().take(parameter.numel()).collect();
            no_grad(|| parameter.grad().copy_(&Tensor::from_slice(&values).view(size.as_slice())));
        }
        self.model.optimizer.step().map_err(|error| error.to_string())?;
        self.position = after.ok_or_else(|| format!("nobody made {tried:?}"))?;
        Ok(())
    }

    /// The parameters as they lie in the reducer's one bucket: in the order of their definition in the first pass of a
    /// group, and then in that in which their gradients come.
    fn order(&self, is_first: bool) -> Vec<Tensor> {
        let variables = self.model.vs.variables();
        match is_first {
            true => self.model.vs.trainable_variables(),
            false => ["out.bias", "out.weight", "in.bias", "in.weight"]
                .map(|name| variables[name].shallow_clone())
                .into(),
        }
    }
}

/// The steps that lead to a state, the first ones first; whether they begin at `known`.
fn path(log: &Log, to: Point, known: Option<Point>) -> Result<(bool, Vec<Try>), String> {
    let (mut at, mut tries) = (to, Vec::new());
    let from_known = loop {
        if Some(at) == known {
            break true;
        }
        let from = log.begun.get(&at.life).ok_or_else(|| format!("nobody began as {}", at.life))?;
        if at.step == from.map_or(0, |from| from.step) {
            match from {
                Some(from) => at = *from,
                None => break false,
            }
            continue;
        }
        let made = at.step.checked_sub(1).ok_or_else(|| format!("there is no step before {at:?}"))?;
        let rounds = log.rounds.get(&(at.life, made));
        if !rounds.is_some_and(|rounds| rounds.contains(&at.round)) {
            return Err(format!("step {made} of {at:?} was taken over in the rounds {rounds:?}"));
        }
        tries.push((at.life, at.round, made));
        // A step that ranks were lost with was made again, in a later round.
        let before = log.rounds.get(&(at.life, made.saturating_sub(1)));
        let round = before.and_then(|rounds| rounds.range(..=at.round).next_back()).copied();
        at = Point { round: round.unwrap_or(at.round), step: made, ..at };
    };
    tries.reverse();
    Ok((from_known, tries))
}

/// Sums as Gloo's ring does: each rank's chunk goes from the one before it downwards through all, to itself.
fn ring(parts: &[Vec<f32>]) -> Vec<f32> {
    let (ranks, length) = (parts.len(), parts[0].len());
    // Two segments of each rank's.
    let chunk = 2 * length.div_ceil(2 * ranks);
    let sum = |i: usize| {
        let order = (1..=ranks).map(|k| parts[(i / chunk + ranks - k) % ranks][i]);
        order.reduce(|sum, next| next + sum).unwrap_or_default()
    };
    (0..length).map(sum).collect()
}
