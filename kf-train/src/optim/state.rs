//! An optimizer's state as named tensors.

use std::collections::{HashMap, HashSet};

use tch::{Device, Kind, Tensor, no_grad};

use super::Optimizer;
use crate::{Error, ProcessGroup, Result};

impl Optimizer {
    /// The state by name: `adamw.lr` (a `Double` of no dimension), and of each parameter `adamw.<name>.step` (an `Int64`
    /// of no dimension) and PyTorch's `exp_avg`, `exp_avg_sq` and, with AMSGrad, `max_exp_avg_sq`; of SGD with momentum
    /// `sgd.<name>.momentum_buffer`. Moments have their parameter's shape and type, and are those of the optimizer
    /// itself, which its next step changes: save, send or copy them before.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let rule = self.rule.name();
        let mut state = vec![(format!("{rule}.lr"), Tensor::from(self.lr))];
        for parameter in &self.parameters {
            let name = |what: &str| format!("{rule}.{}.{what}", parameter.name);
            state.push((name("step"), Tensor::from(parameter.steps)));
            for (slot, moment) in self.rule.slots().iter().zip(&parameter.moments) {
                state.push((name(slot), moment.shallow_clone()));
            }
        }
        state
    }

    /// Takes a state that an optimizer of the same kind over parameters of the same names gave, its learning rate among
    /// it. Nothing is changed where it does not fit.
    ///
    /// # Errors
    /// [`Error::Tensor`] with the first name that is missing, of no use here, or of another shape or type.
    pub fn load_state(&mut self, state: &[(String, Tensor)]) -> Result<()> {
        self.fits(state)?;
        let by_name: HashMap<&str, &Tensor> =
            state.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let rule = self.rule.name();
        let lr = by_name.get(format!("{rule}.lr").as_str()).map(|lr| lr.double_value(&[]));
        self.lr = lr.map_or(Ok(self.lr), |lr| self.checked_lr(lr))?;
        no_grad(|| {
            for parameter in &mut self.parameters {
                let found = |what: &str| by_name.get(format!("{rule}.{}.{what}", parameter.name).as_str());
                let steps = found("step").map(|steps| steps.int64_value(&[]));
                for (slot, moment) in self.rule.slots().iter().zip(&mut parameter.moments) {
                    if let Some(value) = found(slot) {
                        moment.copy_(value);
                    }
                }
                parameter.steps = steps.unwrap_or(parameter.steps);
            }
        });
        Ok(())
    }

    /// Gives every rank the state of rank `root`. All ranks call it, with optimizers of the same kind over the same
    /// parameters.
    ///
    /// # Errors
    /// [`Error::Collective`], [`Error::CollectiveTimedOut`], [`Error::Tensor`].
    pub fn broadcast(&mut self, group: &ProcessGroup, root: usize) -> Result<()> {
        let mut state = self.state();
        for (_, tensor) in &mut state {
            // Numbers are not yet where the group's tensors are.
            *tensor = tensor.to_device(group.device());
            group.broadcast(tensor, root)?;
        }
        self.load_state(&state)
    }

    /// Refuses a state that is another optimizer's.
    fn fits(&self, state: &[(String, Tensor)]) -> Result<()> {
        let told = |tensor: &Tensor| format!("{:?} {:?}", tensor.kind(), tensor.size());
        let refused = |name: &str, found: String, expected: String| {
            Err(Error::Tensor { what: format!("the optimizer's state, `{name}`"), found, expected })
        };
        let found: HashMap<&str, &Tensor> =
            state.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let own = self.state();
        for (name, expected) in &own {
            match found.get(name.as_str()) {
                Some(found) if told(found) == told(expected) => {}
                Some(other) => return refused(name, told(other), told(expected)),
                None => return refused(name, "none".into(), told(expected)),
            }
        }
        let known: HashSet<&str> = own.iter().map(|(name, _)| name.as_str()).collect();
        if let Some((name, tensor)) = state.iter().find(|(name, _)| !known.contains(name.as_str())) {
            let kind = self.rule.name();
            return refused(
                name,
                told(tensor),
                format!("no such thing in this {kind} over these parameters"),
            );
        }
        let steps = |(name, tensor): &&(String, Tensor)| {
            name.ends_with(".step") && tensor.kind() == Kind::Int64 && tensor.int64_value(&[]) < 0
        };
        if let Some((name, tensor)) = state.iter().find(steps) {
            return refused(name, tensor.int64_value(&[]).to_string(), "a count of 0 or more".into());
        }
        let lr = found.get(format!("{}.lr", self.rule.name()).as_str()).map(|lr| lr.to_device(Device::Cpu));
        lr.map_or(Ok(()), |lr| self.checked_lr(lr.double_value(&[])).map(drop))
    }
}
