//! Adam and AdamW.

use c10d_sys::AdamStep;
use tch::nn::VarStore;

use super::{Optimizer, Parameter, Rule, lists};
use crate::{Error, Result};

/// Adam, as [PyTorch's `Adam`](https://docs.pytorch.org/docs/2.11/generated/torch.optim.Adam.html) (Kingma and Ba, 2015).
///
/// For a parameter θ with gradient g in its t-th step: g ← g + λθ, where λ is the weight decay; m ← β₁m + (1 − β₁)g;
/// v ← β₂v + (1 − β₂)g²; m̂ = m / (1 − β₁ᵗ); v̂ = v / (1 − β₂ᵗ), with AMSGrad of the largest v so far;
/// θ ← θ − lr·m̂ / (√v̂ + ε).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adam {
    /// β₁, from 0 to below 1; 0.9 by default.
    pub beta1: f64,
    /// β₂, from 0 to below 1; 0.999 by default.
    pub beta2: f64,
    /// λ, of 0 or more; 0 by default.
    pub weight_decay: f64,
    /// ε, of 0 or more; 1e-8 by default.
    pub eps: f64,
    /// The variant AMSGrad (Reddi et al., 2018).
    pub amsgrad: bool,
}

impl Default for Adam {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, weight_decay: 0.0, eps: 1e-8, amsgrad: false }
    }
}

/// AdamW, as [PyTorch's `AdamW`](https://docs.pytorch.org/docs/2.11/generated/torch.optim.AdamW.html) (Loshchilov and
/// Hutter, 2019): [`Adam`], except that weights decay by themselves, θ ← θ − lr·λθ, and not through the gradient.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// β₁, from 0 to below 1; 0.9 by default.
    pub beta1: f64,
    /// β₂, from 0 to below 1; 0.999 by default.
    pub beta2: f64,
    /// λ, of 0 or more; 0.01 by default.
    pub weight_decay: f64,
    /// ε, of 0 or more; 1e-8 by default.
    pub eps: f64,
    /// The variant AMSGrad (Reddi et al., 2018).
    pub amsgrad: bool,
}

impl Default for AdamW {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, weight_decay: 0.01, eps: 1e-8, amsgrad: false }
    }
}

impl Adam {
    /// An optimizer of a `VarStore`'s trainable parameters.
    ///
    /// # Errors
    /// [`Error::Tensor`] for numbers out of range, or a parameter that is not contiguous.
    pub fn build(self, vs: &VarStore, lr: f64) -> Result<Optimizer> {
        self.check("adam")?;
        Optimizer::new(Rule::Adam(self), vs, lr)
    }

    pub(super) fn step(self, ready: &[&mut Parameter], lr: f64) -> c10d_sys::Result<()> {
        self.fused(ready, lr, false)
    }

    fn check(self, name: &str) -> Result<()> {
        let below_one = |number: f64| (0.0..1.0).contains(&number);
        let not_negative = |number: f64| number.is_finite() && number >= 0.0;
        for (what, number, fits, expected) in [
            ("beta1", self.beta1, below_one(self.beta1), "a number from 0 to below 1"),
            ("beta2", self.beta2, below_one(self.beta2), "a number from 0 to below 1"),
            (
                "weight decay",
                self.weight_decay,
                not_negative(self.weight_decay),
                "a finite number of at least 0",
            ),
            ("eps", self.eps, not_negative(self.eps), "a finite number of at least 0"),
        ] {
            if !fits {
                return Err(Error::Tensor {
                    what: format!("{name}'s {what}"),
                    found: number.to_string(),
                    expected: expected.into(),
                });
            }
        }
        Ok(())
    }

    fn fused(self, ready: &[&mut Parameter], lr: f64, decoupled: bool) -> c10d_sys::Result<()> {
        let (parameters, gradients, moments) = lists(ready);
        let steps: Vec<i64> = ready.iter().map(|parameter| parameter.steps).collect();
        let mut moments = moments.into_iter();
        let mut next = || moments.next().unwrap_or_default();
        let (first, second, largest) = (next(), next(), next());
        let Self { beta1, beta2, weight_decay, eps, amsgrad: _ } = self;
        let how = AdamStep { lr, beta1, beta2, weight_decay, eps, decoupled };
        c10d_sys::adam_step(&parameters, &gradients, &first, &second, &largest, &steps, how)
    }
}

impl AdamW {
    /// An optimizer of a `VarStore`'s trainable parameters.
    ///
    /// # Errors
    /// [`Error::Tensor`] for numbers out of range, or a parameter that is not contiguous.
    pub fn build(self, vs: &VarStore, lr: f64) -> Result<Optimizer> {
        self.as_adam().check("adamw")?;
        Optimizer::new(Rule::AdamW(self), vs, lr)
    }

    pub(super) fn step(self, ready: &[&mut Parameter], lr: f64) -> c10d_sys::Result<()> {
        self.as_adam().fused(ready, lr, true)
    }

    fn as_adam(self) -> Adam {
        let Self { beta1, beta2, weight_decay, eps, amsgrad } = self;
        Adam { beta1, beta2, weight_decay, eps, amsgrad }
    }
}
