//! Stochastic gradient descent.

use c10d_sys::SgdStep;
use tch::nn::VarStore;

use super::{Optimizer, Parameter, Rule, lists};
use crate::{Error, Result};

/// Stochastic gradient descent, as [PyTorch's `SGD`](https://docs.pytorch.org/docs/2.11/generated/torch.optim.SGD.html).
///
/// For a parameter θ with gradient g: g ← g + λθ, where λ is the weight decay; with momentum μ and dampening τ,
/// b ← μb + (1 − τ)g, in the first step b ← g, and then g ← g + μb (Nesterov) or g ← b; θ ← θ − lr·g.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sgd {
    /// μ, of 0 or more; 0 by default.
    pub momentum: f64,
    /// τ; 0 by default.
    pub dampening: f64,
    /// λ, of 0 or more; 0 by default.
    pub weight_decay: f64,
    /// Nesterov's momentum, which takes a momentum, and no dampening.
    pub nesterov: bool,
}

impl Sgd {
    /// An optimizer of a `VarStore`'s trainable parameters.
    ///
    /// # Errors
    /// [`Error::Tensor`] for numbers out of range, or a parameter that is not contiguous.
    pub fn build(self, vs: &VarStore, lr: f64) -> Result<Optimizer> {
        let refused = |what: &str, found: f64, expected: &str| {
            Err(Error::Tensor {
                what: format!("sgd's {what}"),
                found: found.to_string(),
                expected: expected.into(),
            })
        };
        for (what, number) in [("momentum", self.momentum), ("weight decay", self.weight_decay)] {
            if !(number.is_finite() && number >= 0.0) {
                return refused(what, number, "a finite number of at least 0");
            }
        }
        if !self.dampening.is_finite() || (self.nesterov && self.dampening != 0.0) {
            return refused("dampening", self.dampening, "a finite number, and 0 with nesterov");
        }
        if self.nesterov && self.momentum == 0.0 {
            return refused("momentum", self.momentum, "more than 0 with nesterov");
        }
        Optimizer::new(Rule::Sgd(self), vs, lr)
    }

    pub(super) fn step(self, ready: &[&mut Parameter], lr: f64) -> c10d_sys::Result<()> {
        let (parameters, gradients, moments) = lists(ready);
        let buffers = moments.into_iter().next().unwrap_or_default();
        let how = |first| SgdStep {
            lr,
            momentum: self.momentum,
            dampening: self.dampening,
            weight_decay: self.weight_decay,
            nesterov: self.nesterov,
            first,
        };
        let firsts = ready.iter().filter(|parameter| parameter.steps == 1).count();
        if buffers.is_empty() || firsts == 0 || firsts == ready.len() {
            return c10d_sys::sgd_step(&parameters, &gradients, &buffers, how(firsts > 0));
        }
        // Some have had no gradient before.
        for (i, parameter) in ready.iter().enumerate() {
            let one = i..=i;
            c10d_sys::sgd_step(
                &parameters[one.clone()],
                &gradients[one.clone()],
                &buffers[one],
                how(parameter.steps == 1),
            )?;
        }
        Ok(())
    }
}
