//! A small network, its data, and its optimizer: the same to the bit in each process.

use kf_train::optim::{AdamW, Optimizer};
use kf_train::{DistributedSampler, Position, Result};
use tch::nn::{self, Module, VarStore};
use tch::{Device, Kind, Tensor, no_grad};

const FEATURES: i64 = 16;
const HIDDEN: i64 = 16;
const SAMPLES: usize = 500;
/// Samples of a rank's batch; at an epoch's end there may be fewer.
const BATCH: usize = 4;

pub(crate) struct Model {
    pub(crate) vs: VarStore,
    pub(crate) optimizer: Optimizer,
    net: nn::Sequential,
    x: Tensor,
    y: Tensor,
}

impl Model {
    pub(crate) fn new() -> Result<Self> {
        tch::set_num_threads(1);
        let vs = VarStore::new(Device::Cpu);
        let root = vs.root();
        let net = nn::seq()
            .add(nn::linear(&root / "in", FEATURES, HIDDEN, nn::LinearConfig::default()))
            .add_fn(Tensor::tanh)
            .add(nn::linear(&root / "out", HIDDEN, 1, nn::LinearConfig::default()));
        no_grad(|| {
            // Without chance: other tests of this process may draw, too.
            for (i, (_, mut variable)) in sorted(&vs).into_iter().enumerate() {
                let size = variable.size();
                let count = Tensor::arange(size.iter().product::<i64>(), (Kind::Float, Device::Cpu));
                variable.copy_(&((count * 0.7 + i as f64).sin() * 0.2).view(size.as_slice()));
            }
        });
        let i = Tensor::arange(SAMPLES as i64, (Kind::Float, Device::Cpu)).view([-1, 1]);
        let j = Tensor::arange(FEATURES, (Kind::Float, Device::Cpu)).view([1, -1]) + 1.0;
        let x = (i * j * 0.31).sin();
        let y = x.sum_dim_intlist([1i64].as_slice(), true, Kind::Float).sin();
        let optimizer = AdamW::default().build(&vs, 0.003)?;
        Ok(Self { vs, optimizer, net, x, y })
    }

    /// The mean loss of these samples.
    pub(crate) fn loss(&self, samples: &[i64]) -> Tensor {
        let samples = Tensor::from_slice(samples);
        let found = self.net.forward(&self.x.index_select(0, &samples));
        (found - self.y.index_select(0, &samples)).square().mean(Kind::Float)
    }

    /// All that a step changes: the parameters, and what `moments` has of the optimizer.
    pub(crate) fn state(&self, moments: &[(String, Tensor)]) -> Vec<Tensor> {
        let parameters = sorted(&self.vs).into_iter().map(|(_, tensor)| tensor);
        parameters.chain(moments.iter().map(|(_, tensor)| tensor.shallow_clone())).collect()
    }

    /// The same as numbers: equal where the states are, to the bit.
    pub(crate) fn bits(&self) -> Vec<u64> {
        let bits = |tensor: Tensor| match tensor.kind() {
            Kind::Int64 => vec![tensor.int64_value(&[]).cast_unsigned()],
            Kind::Double => vec![tensor.double_value(&[]).to_bits()],
            _ => floats(&tensor).into_iter().map(|value| value.to_bits().into()).collect(),
        };
        self.state(&self.optimizer.state()).into_iter().flat_map(bits).collect()
    }
}

pub(super) fn floats(tensor: &Tensor) -> Vec<f32> {
    Vec::try_from(tensor.detach().contiguous().view([-1])).unwrap()
}

fn sorted(vs: &VarStore) -> Vec<(String, Tensor)> {
    let mut named: Vec<_> = vs.variables().into_iter().collect();
    named.sort_by(|one, other| one.0.cmp(&other.0));
    named
}

/// The beginning of all training.
pub(super) fn start() -> Position {
    sampler(0, 1).start(0)
}

fn sampler(rank: usize, world_size: usize) -> DistributedSampler {
    DistributedSampler::of(SAMPLES, rank, world_size).shuffle(11)
}

/// A rank's next batch, and the position after it.
pub(super) fn batch(rank: usize, world_size: usize, position: &Position) -> Result<(Vec<i64>, Position)> {
    let sampler = sampler(rank, world_size);
    let next = sampler.batches_from(position, BATCH)?.next();
    Ok(next.unwrap_or_else(|| (Vec::new(), sampler.start(position.epoch() + 1))))
}
