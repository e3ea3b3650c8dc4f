//! Data-parallel training of an MLP: what each rank does.

use std::path::PathBuf;

use kf_serve::{BoxError, Datatype, ModelMetadata, TorchScript};
use kf_train::{
    Backend, Checkpoints, DistributedDataParallel, DistributedSampler, ProcessGroup, Progress, Rank,
};
use serde::{Deserialize, Serialize};
use tch::nn::{self, Module, OptimizerConfig};
use tch::{Device, Tensor};

use crate::digits::Digits;

const EPOCHS: u64 = 24;

#[derive(Serialize, Deserialize)]
pub(crate) struct FitArgs {
    pub(crate) train: PathBuf,
    pub(crate) model: PathBuf,
    /// For checkpoints.
    pub(crate) dir: PathBuf,
    pub(crate) rate: f64,
    pub(crate) seed: i64,
}

pub(crate) fn fit(rank: &Rank, args: FitArgs) -> Result<f64, BoxError> {
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
    while epoch < EPOCHS {
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
        let done = epoch as f64 / EPOCHS as f64;
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
    Ok(loss)
}
