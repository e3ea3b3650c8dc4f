//! Gradients kept small.

use tch::{Tensor, no_grad};

use crate::{Error, Result};

/// Which norm [`clip_grad_norm`] takes, and whether it bears one that is not finite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClipNorm {
    /// p of the p-norm, more than 0; infinity for the largest magnitude. 2 by default.
    pub norm_type: f64,
    /// Make a norm that is NaN or infinite an error, and leave the gradients as they are; false by default. Otherwise
    /// such gradients become NaN or 0, as in PyTorch.
    pub error_if_nonfinite: bool,
}

impl Default for ClipNorm {
    fn default() -> Self {
        Self { norm_type: 2.0, error_if_nonfinite: false }
    }
}

/// Scales the parameters' gradients, in place, so that the norm of all of them together is at most `max_norm`, and
/// returns the norm that they had: PyTorch's
/// [`clip_grad_norm_`](https://docs.pytorch.org/docs/2.11/generated/torch.nn.utils.clip_grad_norm_.html).
///
/// After [`backward`](crate::DistributedDataParallel::backward), gradients are the means over the ranks, the same to the
/// bit on each: so is the norm, which is that of the joint batch's gradient.
///
/// # Errors
/// [`Error::Tensor`] for a `max_norm` or `norm_type` out of range, and for a norm that is not finite where that is to be
/// an error.
pub fn clip_grad_norm(parameters: &[Tensor], max_norm: f64, how: ClipNorm) -> Result<f64> {
    let ClipNorm { norm_type, error_if_nonfinite } = how;
    positive("clip_grad_norm's max_norm", max_norm)?;
    positive("clip_grad_norm's norm_type", norm_type)?;
    no_grad(|| {
        let gradients = gradients(parameters);
        let norm =
            |tensor: &Tensor| tensor.flatten(0, -1).linalg_norm(norm_type, None::<&[i64]>, false, None);
        if gradients.is_empty() {
            return Ok(0.0);
        }
        let norms: Vec<Tensor> = gradients.iter().map(norm).collect();
        let total = norm(&Tensor::stack(&norms, 0)).double_value(&[]);
        if error_if_nonfinite && !total.is_finite() {
            return Err(Error::Tensor {
                what: "clip_grad_norm".into(),
                found: format!("gradients of norm {total}"),
                expected: "a finite norm".into(),
            });
        }
        let factor = max_norm / (total + 1e-6);
        // Not where it is 1 or more; where it is NaN, they become so.
        if factor < 1.0 || factor.is_nan() {
            for mut gradient in gradients {
                let _ = gradient.g_mul_scalar_(factor);
            }
        }
        Ok(total)
    })
}

/// Limits each value of the parameters' gradients, in place, to a magnitude: PyTorch's
/// [`clip_grad_value_`](https://docs.pytorch.org/docs/2.11/generated/torch.nn.utils.clip_grad_value_.html).
///
/// # Errors
/// [`Error::Tensor`] for a magnitude out of range.
pub fn clip_grad_value(parameters: &[Tensor], magnitude: f64) -> Result<()> {
    positive("clip_grad_value's magnitude", magnitude)?;
    no_grad(|| {
        for mut gradient in gradients(parameters) {
            let _ = gradient.clamp_(-magnitude, magnitude);
        }
    });
    Ok(())
}

fn gradients(parameters: &[Tensor]) -> Vec<Tensor> {
    parameters.iter().map(Tensor::grad).filter(Tensor::defined).collect()
}

fn positive(what: &str, number: f64) -> Result<()> {
    match number > 0.0 {
        true => Ok(()),
        false => Err(Error::Tensor {
            what: what.into(),
            found: number.to_string(),
            expected: "a number above 0".into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    /// Parameters with gradients 3, 4 and −12 in two tensors, and one without.
    fn parameters() -> Vec<Tensor> {
        let zeros = |size: i64| Tensor::zeros([size], (Kind::Double, Device::Cpu)).set_requires_grad(true);
        let all = vec![zeros(2), zeros(1), zeros(5)];
        let loss =
            (&all[0] * Tensor::from_slice(&[3.0, 4.0])).sum(Kind::Double) - &all[1].sum(Kind::Double) * 12.0;
        loss.backward();
        all
    }

    fn values(parameters: &[Tensor]) -> Vec<f64> {
        let all: Vec<Tensor> = parameters[..2].iter().map(Tensor::grad).collect();
        Vec::try_from(Tensor::cat(&all, 0)).unwrap()
    }

    #[test]
    fn norms_are_those_of_all_gradients_together() {
        for (norm_type, expected) in [(2.0, 13.0), (1.0, 19.0), (f64::INFINITY, 12.0)] {
            let how = ClipNorm { norm_type, ..ClipNorm::default() };
            let all = parameters();
            assert_eq!(clip_grad_norm(&all, 100.0, how).unwrap(), expected);
            assert_eq!(values(&all), [3.0, 4.0, -12.0]);
            assert_eq!(clip_grad_norm(&all, expected / 2.0, how).unwrap(), expected);
            for (value, whole) in values(&all).iter().zip([3.0, 4.0, -12.0]) {
                assert!((value - whole / 2.0).abs() < 1e-6, "{value} of {whole}");
            }
            assert!(!all[2].grad().defined());
        }
        assert_eq!(clip_grad_norm(&[], 1.0, ClipNorm::default()).unwrap(), 0.0);
    }

    #[test]
    fn values_are_limited() {
        let all = parameters();
        clip_grad_value(&all, 3.5).unwrap();
        assert_eq!(values(&all), [3.0, 3.5, -3.5]);
    }

    #[test]
    fn what_is_not_finite_is_an_error_where_it_is_to_be() {
        let all = parameters();
        let _ = all[0].grad().fill_(f64::INFINITY);
        let how = ClipNorm { error_if_nonfinite: true, ..ClipNorm::default() };
        let text = clip_grad_norm(&all, 1.0, how).unwrap_err().to_string();
        assert!(text.contains("gradients of norm inf"), "{text}");
        assert_eq!(values(&all)[2], -12.0);
        assert_eq!(clip_grad_norm(&all, 1.0, ClipNorm::default()).unwrap(), f64::INFINITY);
        assert!(values(&all)[0].is_nan() && values(&all)[2] == 0.0);
        for (max_norm, norm_type) in [(0.0, 2.0), (f64::NAN, 2.0), (1.0, 0.0), (1.0, -1.0), (-1.0, 2.0)] {
            let how = ClipNorm { norm_type, ..ClipNorm::default() };
            assert!(matches!(clip_grad_norm(&all, max_norm, how), Err(Error::Tensor { .. })));
        }
        assert!(clip_grad_value(&all, f64::NAN).is_err());
    }
}
