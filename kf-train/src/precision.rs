//! Mixed precision: autocast, and gradients kept in range by a scale.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::optim::Optimize;
use crate::{Error, Result};

/// Runs a forward pass in mixed precision: on tensors of this device, matrix products and convolutions compute in `kind`,
/// what needs more stays in `f32`, as PyTorch's
/// [`autocast`](https://docs.pytorch.org/docs/2.11/amp.html#autocast-op-reference) does. Parameters and their gradients
/// stay as they are. The backward pass belongs outside.
///
/// ```
/// # use kf_train::autocast;
/// # use tch::{Device, Kind, Tensor};
/// let a = Tensor::ones([2, 2], (Kind::Float, Device::Cpu));
/// let product = autocast(Device::Cpu, Kind::BFloat16, || a.matmul(&a)).unwrap();
/// assert_eq!(product.kind(), Kind::BFloat16);
/// ```
///
/// # Errors
/// [`Error::Tensor`] for a type that is neither `Half` nor `BFloat16`, or a device that is neither CPU nor CUDA.
pub fn autocast<T>(device: Device, kind: Kind, forward: impl FnOnce() -> T) -> Result<T> {
    let _within = c10d_sys::autocast(device, kind).map_err(|error| Error::Tensor {
        what: "autocast".into(),
        found: format!("{kind:?} on {device:?}"),
        expected: error.message().to_owned(),
    })?;
    Ok(forward())
}

/// How a [`GradScaler`] finds its scale.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScalerOptions {
    /// The first scale; 65536 by default.
    pub init_scale: f32,
    /// What the scale is multiplied by after good steps, more than 1; 2 by default.
    pub growth_factor: f64,
    /// What the scale is multiplied by when gradients were not finite, between 0 and 1; 0.5 by default.
    pub backoff_factor: f64,
    /// After how many good steps in a row the scale grows; 2000 by default.
    pub growth_interval: u64,
}

impl Default for ScalerOptions {
    fn default() -> Self {
        Self { init_scale: 65536.0, growth_factor: 2.0, backoff_factor: 0.5, growth_interval: 2000 }
    }
}

/// Multiplies the loss by a scale, so that gradients of half precision do not vanish, and leaves out steps whose
/// gradients are not finite, by the rules of PyTorch's
/// [`GradScaler`](https://docs.pytorch.org/docs/2.11/amp.html#gradient-scaling).
///
/// The gradients it looks at are those after [`backward`](crate::DistributedDataParallel::backward): they are the same on
/// all ranks, and so are its verdicts. Serialized, it is its state, which a checkpoint can hold.
///
/// ```no_run
/// # use kf_train::{ClipNorm, DistributedDataParallel, GradScaler, autocast, clip_grad_norm, optim::Optimizer};
/// # use tch::{Device, Kind, Tensor};
/// # fn doc(ddp: &DistributedDataParallel<'_>, mut optimizer: Optimizer, forward: impl Fn() -> Tensor) -> kf_train::Result<()> {
/// let mut scaler = GradScaler::new();
/// # for _ in 0..1 {
/// let loss = autocast(Device::Cuda(0), Kind::Half, &forward)?;
/// ddp.zero_grad();
/// ddp.backward(&scaler.scale(&loss))?;
/// scaler.unscale(ddp.parameters())?;                                // only needed to clip
/// clip_grad_norm(ddp.parameters(), 1.0, ClipNorm::default())?;
/// let made = scaler.step(ddp.parameters(), &mut optimizer)?;        // and the scale is updated
/// # }
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "State", into = "State")]
pub struct GradScaler {
    state: State,
    /// Whether the gradients were finite, once they are unscaled.
    unscaled: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct State {
    scale: f32,
    growth_factor: f64,
    backoff_factor: f64,
    growth_interval: u64,
    good_steps: u64,
}

impl Default for GradScaler {
    fn default() -> Self {
        let ScalerOptions { init_scale, growth_factor, backoff_factor, growth_interval } =
            ScalerOptions::default();
        let scale = init_scale;
        let state = State { scale, growth_factor, backoff_factor, growth_interval, good_steps: 0 };
        Self { state, unscaled: None }
    }
}

impl GradScaler {
    /// A scaler with PyTorch's numbers.
    pub fn new() -> Self {
        Self::default()
    }

    /// A scaler with other numbers.
    ///
    /// # Errors
    /// [`Error::Tensor`] for a number that is out of range.
    pub fn with_options(options: ScalerOptions) -> Result<Self> {
        let ScalerOptions { init_scale: scale, growth_factor, backoff_factor, growth_interval } = options;
        State { scale, growth_factor, backoff_factor, growth_interval, good_steps: 0 }.try_into()
    }

    /// The present scale.
    pub fn get_scale(&self) -> f32 {
        self.state.scale
    }

    /// The loss, times the scale; of this the gradients are to be computed.
    pub fn scale(&self, loss: &Tensor) -> Tensor {
        loss * f64::from(self.state.scale)
    }

    /// Divides the parameters' gradients by the scale, and tells whether all of them are finite. Once a step, before the
    /// gradients are clipped; [`step`](Self::step) does it otherwise.
    ///
    /// # Errors
    /// [`Error::Tensor`] where they are unscaled already, or a parameter is of half precision itself; [`Error::Torch`].
    pub fn unscale(&mut self, parameters: &[Tensor]) -> Result<bool> {
        let refused = |found: String, expected: &str| {
            Err(Error::Tensor { what: "GradScaler's unscale".into(), found, expected: expected.into() })
        };
        if self.unscaled.is_some() {
            return refused("gradients that are unscaled already".into(), "one call for each step");
        }
        if parameters.iter().any(|parameter| parameter.kind() == Kind::Half) {
            let expected = "parameters of Float, computed with in Half by autocast";
            return refused("a parameter of Half".into(), expected);
        }
        let gradients: Vec<Tensor> = parameters.iter().map(Tensor::grad).filter(Tensor::defined).collect();
        let finite = c10d_sys::unscale(&gradients, f64::from(self.state.scale))
            .map_err(|error| Error::Torch { what: "unscale".into(), message: error.message().to_owned() })?;
        self.unscaled = Some(finite);
        Ok(finite)
    }

    /// Makes the optimizer's step where all gradients are finite, and adapts the scale; tells whether it made the step.
    ///
    /// # Errors
    /// Those of [`unscale`](Self::unscale) and of the optimizer.
    pub fn step(&mut self, parameters: &[Tensor], optimizer: &mut impl Optimize) -> Result<bool> {
        let finite = match self.unscaled {
            Some(finite) => finite,
            None => self.unscale(parameters)?,
        };
        if finite {
            optimizer.make_step()?;
        }
        self.unscaled = None;
        self.state.update(finite);
        Ok(finite)
    }
}

impl State {
    fn update(&mut self, finite: bool) {
        let times = |factor: f64| (f64::from(self.scale) * factor) as f32;
        if !finite {
            self.scale = times(self.backoff_factor);
            self.good_steps = 0;
            return;
        }
        self.good_steps += 1;
        if self.good_steps == self.growth_interval {
            let grown = times(self.growth_factor);
            if grown.is_finite() {
                self.scale = grown;
            }
            self.good_steps = 0;
        }
    }
}

impl From<GradScaler> for State {
    fn from(scaler: GradScaler) -> Self {
        scaler.state
    }
}

impl TryFrom<State> for GradScaler {
    type Error = Error;

    fn try_from(state: State) -> Result<Self> {
        let State { scale, growth_factor, backoff_factor, growth_interval, good_steps } = state;
        for (what, fits, found, expected) in [
            ("scale", scale.is_finite() && scale > 0.0, f64::from(scale), "a finite number above 0"),
            (
                "growth factor",
                growth_factor.is_finite() && growth_factor > 1.0,
                growth_factor,
                "a finite number above 1",
            ),
            (
                "backoff factor",
                backoff_factor > 0.0 && backoff_factor < 1.0,
                backoff_factor,
                "a number between 0 and 1",
            ),
            ("growth interval", growth_interval > 0, growth_interval as f64, "at least 1"),
            (
                "count of good steps",
                good_steps < growth_interval.max(1),
                good_steps as f64,
                "less than the growth interval",
            ),
        ] {
            if !fits {
                let what = format!("GradScaler's {what}");
                return Err(Error::Tensor { what, found: found.to_string(), expected: expected.into() });
            }
        }
        Ok(Self { state, unscaled: None })
    }
}

#[cfg(test)]
mod tests {
    use tch::nn::{self, VarStore};

    use super::*;
    use crate::optim::Sgd;

    /// A parameter of value 1 with this gradient.
    fn parameter(vs: &VarStore, gradient: f64) -> Vec<Tensor> {
        let mut tensor = match vs.variables().remove("w") {
            Some(tensor) => tensor,
            None => vs.root().var("w", &[4], nn::Init::Const(1.0)),
        };
        tensor.grad().defined().then(|| tensor.zero_grad());
        (&tensor * gradient).sum(Kind::Float).backward();
        vec![tensor]
    }

    #[test]
    fn the_scale_grows_and_backs_off_as_pytorchs() {
        let vs = VarStore::new(Device::Cpu);
        let mut parameters = parameter(&vs, 0.0);
        let mut optimizer = Sgd::default().build(&vs, 1.0).unwrap();
        let options = ScalerOptions { growth_interval: 3, ..ScalerOptions::default() };
        let mut scaler = GradScaler::with_options(options).unwrap();
        let mut scales = Vec::new();
        for gradient in [0.5, f64::INFINITY, 0.25, 0.25, f64::NAN, 0.0, 0.0, 0.0, 0.0] {
            let scaled = gradient * f64::from(scaler.get_scale());
            parameters = parameter(&vs, scaled);
            let before = vs.variables()["w"].double_value(&[0]);
            let made = scaler.step(&parameters, &mut optimizer).unwrap();
            assert_eq!(made, gradient.is_finite());
            let moved = before - vs.variables()["w"].double_value(&[0]);
            assert_eq!(moved, if made { gradient } else { 0.0 });
            scales.push(scaler.get_scale());
        }
        assert_eq!(scales, [65536.0, 32768.0, 32768.0, 32768.0, 16384.0, 16384.0, 16384.0, 32768.0, 32768.0]);
        assert!(parameters[0].grad().defined());
    }

    #[test]
    fn gradients_are_unscaled_once() {
        let vs = VarStore::new(Device::Cpu);
        let parameters = parameter(&vs, 65536.0);
        let mut optimizer = Sgd::default().build(&vs, 0.5).unwrap();
        let mut scaler = GradScaler::new();
        assert_eq!(scaler.scale(&Tensor::from(2.0_f32)).double_value(&[]), 131072.0);
        assert!(scaler.unscale(&parameters).unwrap());
        assert_eq!(parameters[0].grad().double_value(&[0]), 1.0);
        assert!(matches!(scaler.unscale(&parameters), Err(Error::Tensor { .. })));
        assert!(scaler.step(&parameters, &mut optimizer).unwrap());
        assert_eq!(vs.variables()["w"].double_value(&[0]), 0.5);
        let half = [Tensor::zeros([1], (Kind::Half, Device::Cpu)).set_requires_grad(true)];
        assert!(matches!(scaler.unscale(&half), Err(Error::Tensor { .. })));
    }

    #[test]
    fn the_state_is_kept_and_checked() {
        let mut scaler = GradScaler::new();
        scaler.state.update(true);
        scaler.state.update(false);
        scaler.state.update(true);
        let json = serde_json::to_string(&scaler).unwrap();
        assert_eq!(
            json,
            r#"{"scale":32768.0,"growth_factor":2.0,"backoff_factor":0.5,"growth_interval":2000,"good_steps":1}"#
        );
        assert_eq!(serde_json::from_str::<GradScaler>(&json).unwrap(), scaler);
        for (from, to) in [
            ("32768.0", "0.0"),
            ("32768.0", "-1.0"),
            ("2.0", "1.0"),
            ("0.5", "1.5"),
            ("2000", "0"),
            (":1}", ":2000}"),
        ] {
            assert!(serde_json::from_str::<GradScaler>(&json.replace(from, to)).is_err(), "{from} {to}");
        }
    }

    #[test]
    fn autocast_ends_with_its_closure() {
        let a = Tensor::ones([4, 4], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let kind = || a.matmul(&a).kind();
        let nested = autocast(Device::Cpu, Kind::BFloat16, || {
            (kind(), autocast(Device::Cpu, Kind::Half, kind).unwrap(), kind())
        });
        assert_eq!(nested.unwrap(), (Kind::BFloat16, Kind::Half, Kind::BFloat16));
        assert_eq!(kind(), Kind::Float);
        let panics = || std::panic::catch_unwind(|| panic!("in the forward pass")).is_err();
        assert!(autocast(Device::Cpu, Kind::BFloat16, panics).unwrap());
        assert_eq!(kind(), Kind::Float);
        let loss = autocast(Device::Cpu, Kind::BFloat16, || a.matmul(&a).sum(Kind::Float)).unwrap();
        loss.backward();
        assert_eq!(a.grad().kind(), Kind::Float);
        assert!(matches!(autocast(Device::Cpu, Kind::Int, || ()), Err(Error::Tensor { .. })));
        assert!(matches!(autocast(Device::Mps, Kind::Half, || ()), Err(Error::Tensor { .. })));
    }
}
