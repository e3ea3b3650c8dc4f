//! Optimizers whose state can be saved and sent.

mod adam;
mod sgd;
mod state;

use tch::Tensor;
use tch::nn::VarStore;

pub use self::adam::{Adam, AdamW};
pub use self::sgd::Sgd;
use crate::{Error, Result};

/// What makes a step from the gradients that there are: tch's optimizers, and those of [`optim`](self).
pub trait Optimize {
    /// Makes one step.
    ///
    /// # Errors
    /// [`Error::Torch`]; tch's own optimizers panic instead.
    fn make_step(&mut self) -> Result<()>;
}

impl Optimize for tch::nn::Optimizer {
    fn make_step(&mut self) -> Result<()> {
        self.step();
        Ok(())
    }
}

impl Optimize for Optimizer {
    fn make_step(&mut self) -> Result<()> {
        self.step()
    }
}

/// An optimizer over named parameters: [`Sgd`], [`Adam`] or [`AdamW`], in the formulas of PyTorch's optimizers of these
/// names, by libtorch's fused kernels. Unlike tch's, it gives its [`state`](Self::state).
///
/// A parameter that has no gradient is left out of a step, and its count of steps stays.
///
/// ```no_run
/// # use kf_train::{Checkpoints, optim};
/// # fn doc(vs: &mut tch::nn::VarStore, loss: tch::Tensor) -> kf_train::Result<()> {
/// let mut optimizer = optim::AdamW { weight_decay: 0.1, ..Default::default() }.build(vs, 3e-4)?;
/// loss.backward();
/// optimizer.step()?;
/// Checkpoints::new("checkpoints").save_training(1, vs, &optimizer, &"more state")?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Optimizer {
    rule: Rule,
    lr: f64,
    parameters: Vec<Parameter>,
}

#[derive(Debug, Clone, Copy)]
enum Rule {
    Sgd(Sgd),
    Adam(Adam),
    AdamW(AdamW),
}

/// A parameter, and what the optimizer knows of it.
#[derive(Debug)]
struct Parameter {
    name: String,
    tensor: Tensor,
    /// How many steps it has made.
    steps: i64,
    /// By the rule's slots.
    moments: Vec<Tensor>,
}

impl Optimizer {
    fn new(rule: Rule, vs: &VarStore, lr: f64) -> Result<Self> {
        let variables = vs.variables();
        let named = crate::ddp::trainable(vs, &variables);
        let mut parameters = Vec::new();
        for (name, tensor) in named {
            if !tensor.is_contiguous() {
                return Err(Error::Tensor {
                    what: format!("parameter `{name}`"),
                    found: format!("strides {:?} for shape {:?}", tensor.stride(), tensor.size()),
                    expected: "a contiguous tensor".into(),
                });
            }
            let moments = rule.slots().iter().map(|_| tensor.detach().zeros_like()).collect();
            parameters.push(Parameter { name, tensor, steps: 0, moments });
        }
        let optimizer = Self { rule, lr: 0.0, parameters };
        Ok(Self { lr: optimizer.checked_lr(lr)?, ..optimizer })
    }

    /// Makes a step from the parameters' gradients.
    ///
    /// # Errors
    /// [`Error::Torch`], such as a gradient of another type than its parameter.
    pub fn step(&mut self) -> Result<()> {
        let mut ready: Vec<&mut Parameter> =
            self.parameters.iter_mut().filter(|parameter| parameter.tensor.grad().defined()).collect();
        if ready.is_empty() {
            return Ok(());
        }
        for parameter in &mut ready {
            parameter.steps += 1;
        }
        let done = match self.rule {
            Rule::Sgd(sgd) => sgd.step(&ready, self.lr),
            Rule::Adam(adam) => adam.step(&ready, self.lr),
            Rule::AdamW(adam) => adam.step(&ready, self.lr),
        };
        done.map_err(|error| {
            for parameter in &mut ready {
                parameter.steps -= 1;
            }
            Error::Torch { what: "the optimizer's step".into(), message: error.message().to_owned() }
        })
    }

    /// Lets the gradients go, as PyTorch does: a parameter has none until a pass gives it one.
    pub fn zero_grad(&mut self) {
        let tensors: Vec<_> =
            self.parameters.iter().map(|parameter| parameter.tensor.shallow_clone()).collect();
        c10d_sys::forget_gradients(&tensors);
    }

    /// The learning rate.
    pub fn lr(&self) -> f64 {
        self.lr
    }

    /// Sets the learning rate, such as by a schedule.
    ///
    /// # Errors
    /// [`Error::Tensor`] for one that is negative or not finite.
    pub fn set_lr(&mut self, lr: f64) -> Result<()> {
        self.lr = self.checked_lr(lr)?;
        Ok(())
    }

    /// How many steps were made: the most of any parameter.
    pub fn steps(&self) -> u64 {
        let most = self.parameters.iter().map(|parameter| parameter.steps).max();
        most.and_then(|steps| u64::try_from(steps).ok()).unwrap_or_default()
    }

    fn checked_lr(&self, lr: f64) -> Result<f64> {
        match lr.is_finite() && lr >= 0.0 {
            true => Ok(lr),
            false => Err(Error::Tensor {
                what: format!("{}'s learning rate", self.rule.name()),
                found: lr.to_string(),
                expected: "a finite number of at least 0".into(),
            }),
        }
    }
}

impl Rule {
    fn name(self) -> &'static str {
        match self {
            Self::Sgd(_) => "sgd",
            Self::Adam(_) => "adam",
            Self::AdamW(_) => "adamw",
        }
    }

    /// What is kept of each parameter, in PyTorch's names.
    fn slots(self) -> &'static [&'static str] {
        match self {
            Self::Sgd(sgd) if sgd.momentum == 0.0 => &[],
            Self::Sgd(_) => &["momentum_buffer"],
            Self::Adam(Adam { amsgrad, .. }) | Self::AdamW(AdamW { amsgrad, .. }) => match amsgrad {
                true => &["exp_avg", "exp_avg_sq", "max_exp_avg_sq"],
                false => &["exp_avg", "exp_avg_sq"],
            },
        }
    }
}

/// Parameters, gradients and one list of moments by slot, as the fused steps take them.
fn lists(ready: &[&mut Parameter]) -> (Vec<Tensor>, Vec<Tensor>, Vec<Vec<Tensor>>) {
    let parameters = ready.iter().map(|parameter| parameter.tensor.shallow_clone()).collect();
    let gradients = ready.iter().map(|parameter| parameter.tensor.grad()).collect();
    let slots = ready.first().map_or(0, |parameter| parameter.moments.len());
    let moment =
        |slot: usize| ready.iter().map(|parameter| parameter.moments[slot].shallow_clone()).collect();
    (parameters, gradients, (0..slots).map(moment).collect())
}

#[cfg(test)]
mod tests;
