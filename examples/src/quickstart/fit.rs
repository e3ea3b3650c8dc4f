//! Data-parallel training of an MLP: what each rank does.

use std::path::PathBuf;

use kf_core::Digest;
use kf_serve::{BoxError, Datatype, ModelMetadata, TorchScript};
use kf_train::{
    Backend, Checkpoints, DistributedDataParallel, DistributedSampler, ProcessGroup, Progress, Rank,
};
use serde::{Deserialize, Serialize};
use tch::nn::{self, Module, OptimizerConfig};
use tch::{Device, Tensor};

use crate::digits::Digits;

/// How many epochs the quickstart fits for.
pub const EPOCHS: u64 = 24;

/// What every rank is told. The paths are the same for all of them, on whatever machine they are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FitArgs {
    /// The digits, as Parquet.
    pub train: PathBuf,
    /// The folder that the model is written to.
    pub model: PathBuf,
    /// A folder for checkpoints.
    pub dir: PathBuf,
    /// The learning rate.
    pub rate: f64,
    /// Of the parameters and of the order of digits.
    pub seed: i64,
    /// How many times all digits are gone through.
    pub epochs: u64,
}

/// What a fit came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fitted {
    /// Of the last batch.
    pub loss: f64,
    /// Of all bits of all parameters.
    pub parameters: Digest,
}

/// Fits, in one of several ranks.
///
/// # Errors
/// Where files can't be read or written, or the other ranks are gone.
pub(crate) fn fit(rank: &Rank, args: FitArgs) -> Result<Fitted, BoxError> {
    let (pixels, labels) = Digits::load(&args.train)?.tensors();
    tch::manual_seed(args.seed);
    let mut vs = nn::VarStore::new(Device::Cpu);
    let hidden = nn::linear(vs.root() / "hidden", 64, 128, Default::default());
    let logits = nn::linear(vs.root() / "logits", 128, 10, Default::default());
    let net = nn::func(move |x| logits.forward(&hidden.forward(x).relu()));

    let checkpoints = Checkpoints::new(args.dir.join("checkpoints"));
    let (mut epoch, mut loss) = checkpoints.load_latest(&mut vs)?.unwrap_or((0, f64::MAX));
    let group = ProcessGroup::join(rank, Backend::Gloo)?;
    let ddp = DistributedDataParallel::new(&vs, &group)?;
    let sampler = DistributedSampler::new(labels.size1()? as usize, rank).shuffle(args.seed as u64);
    while epoch < args.epochs {
        // Checkpoints hold no momentum: it starts anew each epoch, so a fit that was killed ends like one that was not.
        let mut optimizer = nn::Sgd { momentum: 0.9, ..Default::default() }.build(&vs, args.rate)?;
        for batch in sampler.batches(epoch, 16) {
            let rows = Tensor::from_slice(&batch);
            let (x, y) = (pixels.index_select(0, &rows), labels.index_select(0, &rows));
            let batch_loss = net.forward(&x).cross_entropy_for_logits(&y);
            ddp.backward_step(&mut optimizer, &batch_loss)?;
            loss = batch_loss.double_value(&[]);
        }
        epoch += 1;
        let done = epoch as f64 / args.epochs as f64;
        rank.report(Progress::new().epoch(epoch).fraction(done).metric("loss", loss));
        if rank.is_main() {
            checkpoints.save(epoch, &vs, &loss)?;
        }
    }
    if rank.is_main() {
        vs.freeze();
        let io = ModelMetadata::new("pytorch_torchscript");
        let io = io.input("pixels", Datatype::Fp32, [-1, 64]).output("logits", Datatype::Fp32, [-1, 10]);
        let sample = [pixels.narrow(0, 0, 1)];
        let model = TorchScript::trace(io.inputs, io.outputs, &sample, |x| vec![net.forward(&x[0])])?;
        model.save(&args.model)?;
    }
    Ok(Fitted { loss, parameters: digest(&vs)? })
}

/// Of all bits of all parameters, by their names.
fn digest(vs: &nn::VarStore) -> Result<Digest, BoxError> {
    let mut bytes = Vec::new();
    for (name, tensor) in std::collections::BTreeMap::from_iter(vs.variables()) {
        bytes.extend(name.bytes());
        let values = Vec::<f32>::try_from(tensor.flatten(0, -1))?;
        bytes.extend(values.iter().flat_map(|value| value.to_bits().to_le_bytes()));
    }
    Ok(Digest::of(bytes))
}
