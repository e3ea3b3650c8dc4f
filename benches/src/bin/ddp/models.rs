//! The models, each with its optimizer and batches; in `peers/torch_ddp.py` they are the same.

use kf_train::optim::{AdamW, Optimizer, Sgd};
use serde::{Deserialize, Serialize};
use tch::nn::{self, Init, LinearConfig, Module, Path, VarStore};
use tch::{Device, Kind, Tensor, no_grad};

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Model {
    Mlp,
    Transformer,
}

/// From an input to logits of shape [rows, classes].
pub(crate) type Forward = Box<dyn Fn(&Tensor) -> Tensor>;

const VOCABULARY: i64 = 1000;
const SEQUENCE: i64 = 64;
const WIDTH: i64 = 256;
const HEADS: i64 = 4;
const LAYERS: usize = 4;

impl Model {
    pub(crate) fn build(self) -> (VarStore, Forward) {
        let vs = VarStore::new(Device::Cpu);
        let forward = match self {
            Self::Mlp => mlp(&vs.root()),
            Self::Transformer => transformer(&vs.root()),
        };
        tch::manual_seed(1);
        no_grad(|| {
            for mut parameter in vs.trainable_variables() {
                if let [_, inputs] = parameter.size()[..] {
                    let bound = 1.0 / (inputs as f64).sqrt();
                    let _ = parameter.uniform_(-bound, bound);
                }
            }
        });
        (vs, forward)
    }

    /// A batch as the generator draws it: the input, and the classes, one a row.
    pub(crate) fn batch(self) -> (Tensor, Tensor) {
        match self {
            Self::Mlp => {
                let x = Tensor::randn([64, 784], (Kind::Float, Device::Cpu));
                (x, Tensor::randint(10, [64], (Kind::Int64, Device::Cpu)))
            }
            Self::Transformer => {
                let tokens = Tensor::randint(VOCABULARY, [8, SEQUENCE + 1], (Kind::Int64, Device::Cpu));
                (tokens.narrow(1, 0, SEQUENCE).contiguous(), tokens.narrow(1, 1, SEQUENCE).reshape([-1]))
            }
        }
    }

    pub(crate) fn optimizer(self, vs: &VarStore) -> kf_train::Result<Optimizer> {
        match self {
            Self::Mlp => Sgd { momentum: 0.9, ..Sgd::default() }.build(vs, 0.01),
            Self::Transformer => AdamW::default().build(vs, 1e-3),
        }
    }
}

fn linear(path: Path<'_>, from: i64, to: i64) -> nn::Linear {
    nn::linear(path, from, to, LinearConfig { bs_init: Some(Init::Const(0.0)), ..LinearConfig::default() })
}

fn mlp(root: &Path<'_>) -> Forward {
    let (a, b) = (linear(root / "a", 784, 1024), linear(root / "b", 1024, 1024));
    let c = linear(root / "c", 1024, 10);
    Box::new(move |x| c.forward(&b.forward(&a.forward(x).relu()).relu()))
}

fn transformer(root: &Path<'_>) -> Forward {
    let token = nn::embedding(root / "token", VOCABULARY, WIDTH, nn::EmbeddingConfig::default());
    let place = nn::embedding(root / "place", SEQUENCE, WIDTH, nn::EmbeddingConfig::default());
    let blocks: Vec<_> = (0..LAYERS).map(|i| block(&(root / i.to_string()))).collect();
    let last = norm(root / "last");
    let head = linear(root / "head", WIDTH, VOCABULARY);
    let places = Tensor::arange(SEQUENCE, (Kind::Int64, Device::Cpu));
    Box::new(move |tokens| {
        let x = token.forward(tokens) + place.forward(&places);
        let x = blocks.iter().fold(x, |x, block| block(&x));
        head.forward(&last.forward(&x)).view([-1, VOCABULARY])
    })
}

fn block(path: &Path<'_>) -> Forward {
    let (before, qkv) = (norm(path / "before"), linear(path / "qkv", WIDTH, 3 * WIDTH));
    let (out, between) = (linear(path / "out", WIDTH, WIDTH), norm(path / "between"));
    let (up, down) = (linear(path / "up", WIDTH, 4 * WIDTH), linear(path / "down", 4 * WIDTH, WIDTH));
    Box::new(move |x| {
        let batch = x.size()[0];
        let parts = qkv.forward(&before.forward(x)).view([batch, SEQUENCE, 3, HEADS, WIDTH / HEADS]);
        let parts = parts.permute([2, 0, 3, 1, 4]).unbind(0);
        let mixed = Tensor::scaled_dot_product_attention::<Tensor>(
            &parts[0], &parts[1], &parts[2], None, 0.0, true, None, false,
        );
        let x = x + out.forward(&mixed.transpose(1, 2).reshape([batch, SEQUENCE, WIDTH]));
        let more = down.forward(&up.forward(&between.forward(&x)).gelu("none"));
        x + more
    })
}

fn norm(path: Path<'_>) -> nn::LayerNorm {
    nn::layer_norm(path, vec![WIDTH], nn::LayerNormConfig::default())
}
