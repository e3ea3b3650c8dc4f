use tch::nn::{self, Module, OptimizerConfig};
use tch::{Device, Kind, Tensor, no_grad};

use super::*;
use crate::Checkpoints;

/// The same model each time.
fn model() -> (VarStore, impl Module) {
    tch::manual_seed(5);
    let vs = VarStore::new(Device::Cpu);
    let net = nn::seq()
        .add(nn::linear(vs.root() / "a", 8, 33, nn::LinearConfig::default()))
        .add_fn(|xs| xs.tanh())
        .add(nn::linear(vs.root() / "b", 33, 4, nn::LinearConfig::default()));
    (vs, net)
}

fn loss(net: &dyn Module, step: i64) -> Tensor {
    let x = (Tensor::arange(16 * 8, (Kind::Float, Device::Cpu)).view([16, 8]) * 0.3 + step * 7).sin();
    (net.forward(&x) - 0.5).square().mean(Kind::Float)
}

fn parameters(vs: &VarStore) -> Tensor {
    Tensor::cat(
        &vs.trainable_variables().iter().map(|tensor| tensor.detach().flatten(0, -1)).collect::<Vec<_>>(),
        0,
    )
}

fn train(net: &dyn Module, optimizer: &mut Optimizer, steps: std::ops::Range<i64>) {
    for step in steps {
        optimizer.zero_grad();
        loss(net, step).backward();
        optimizer.step().unwrap();
    }
}

type Build = fn(&VarStore, f64) -> Result<Optimizer>;
type OfEach = (Build, nn::Optimizer, VarStore, Box<dyn Module>);
type State = Vec<(String, Tensor)>;

fn every_kind() -> Vec<OfEach> {
    let mut kinds: Vec<OfEach> = Vec::new();
    let mut kind = |build: Build, theirs: &dyn Fn(&VarStore) -> nn::Optimizer| {
        let (vs, net) = model();
        kinds.push((build, theirs(&vs), vs, Box::new(net)));
    };
    kind(|vs, lr| Sgd::default().build(vs, lr), &|vs| nn::Sgd::default().build(vs, 0.01).unwrap());
    kind(
        |vs, lr| Sgd { momentum: 0.9, dampening: 0.3, weight_decay: 0.1, nesterov: false }.build(vs, lr),
        &|vs| nn::sgd(0.9, 0.3, 0.1, false).build(vs, 0.01).unwrap(),
    );
    kind(|vs, lr| Sgd { momentum: 0.9, nesterov: true, ..Sgd::default() }.build(vs, lr), &|vs| {
        nn::sgd(0.9, 0.0, 0.0, true).build(vs, 0.01).unwrap()
    });
    kind(|vs, lr| Adam::default().build(vs, lr), &|vs| nn::Adam::default().build(vs, 0.01).unwrap());
    kind(
        |vs, lr| Adam { weight_decay: 0.1, beta1: 0.8, amsgrad: true, ..Adam::default() }.build(vs, lr),
        &|vs| nn::Adam::default().wd(0.1).beta1(0.8).amsgrad(true).build(vs, 0.01).unwrap(),
    );
    kind(|vs, lr| AdamW::default().build(vs, lr), &|vs| nn::AdamW::default().build(vs, 0.01).unwrap());
    kind(|vs, lr| AdamW { weight_decay: 0.3, amsgrad: true, ..AdamW::default() }.build(vs, lr), &|vs| {
        nn::AdamW::default().wd(0.3).amsgrad(true).build(vs, 0.01).unwrap()
    });
    kinds
}

#[test]
fn steps_are_those_of_tch() {
    for (build, mut theirs, their_vs, their_net) in every_kind() {
        let (vs, net) = model();
        let before = parameters(&vs);
        let mut ours = build(&vs, 0.01).unwrap();
        for step in 0..50 {
            theirs.backward_step(&loss(&*their_net, step));
            train(&net, &mut ours, step..step + 1);
        }
        let difference = (parameters(&vs) - parameters(&their_vs)).abs().max().double_value(&[]);
        let moved = (parameters(&vs) - before).abs().max().double_value(&[]);
        assert!(difference < 2e-6 && moved > 1e-3, "{ours:?}: differs by {difference}, moved by {moved}");
        assert_eq!(ours.steps(), 50);
    }
}

#[test]
fn gradients_are_let_go_and_made_anew() {
    let (vs, net) = model();
    let mut optimizer = Sgd::default().build(&vs, 0.1).unwrap();
    let gradients = || vs.trainable_variables().iter().map(Tensor::grad).collect::<Vec<_>>();
    loss(&net, 0).backward();
    let first: Vec<_> = gradients().iter().map(Tensor::copy).collect();
    optimizer.zero_grad();
    assert!(gradients().iter().all(|gradient| !gradient.defined()));
    loss(&net, 0).backward();
    assert_eq!(gradients(), first);
}

#[test]
fn parameters_without_a_gradient_are_left_out() {
    for (build, mut theirs, their_vs, _) in every_kind() {
        let (vs, _) = model();
        let mut ours = build(&vs, 0.01).unwrap();
        for step in 0..6 {
            // Some parameters come later, and then miss a step.
            let part = |vs: &VarStore| {
                let of = |name: &str| vs.variables()[name].square().sum(Kind::Float);
                let all = of("a.weight") + of("b.bias");
                if step % 2 == 1 { all + of("a.bias") } else { all }
            };
            for vs in [&vs, &their_vs] {
                for mut tensor in vs.trainable_variables() {
                    tensor.grad().defined().then(|| tensor.zero_grad());
                }
                part(vs).backward();
            }
            theirs.step();
            ours.step().unwrap();
        }
        let difference = (parameters(&vs) - parameters(&their_vs)).abs().max().double_value(&[]);
        assert!(difference < 1e-6, "{ours:?}: differs by {difference}");
    }
}

#[test]
fn a_training_goes_on_from_a_checkpoint_to_the_bit() {
    for (build, ..) in every_kind() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(dir.path());
        let (vs, net) = model();
        let mut optimizer = build(&vs, 0.02).unwrap();
        train(&net, &mut optimizer, 0..5);
        optimizer.set_lr(0.01).unwrap();
        checkpoints.save_training(5, &vs, &optimizer, &"five").unwrap();
        train(&net, &mut optimizer, 5..10);

        let (mut resumed, net) = model();
        let mut again = build(&resumed, 0.5).unwrap();
        let state: (u64, String) =
            checkpoints.load_latest_training(&mut resumed, &mut again).unwrap().unwrap();
        assert_eq!(state, (5, "five".into()));
        assert_eq!((again.lr(), again.steps()), (0.01, 5));
        train(&net, &mut again, 5..10);
        assert_eq!(parameters(&vs), parameters(&resumed));
        for ((name, a), (_, b)) in optimizer.state().iter().zip(&again.state()) {
            assert_eq!(a, b, "{name}");
        }
    }
}

#[test]
fn a_state_that_does_not_fit_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints::new(dir.path());
    let (mut vs, net) = model();
    let mut optimizer = AdamW::default().build(&vs, 0.01).unwrap();
    train(&net, &mut optimizer, 0..2);
    let before: Vec<_> = optimizer.state().into_iter().map(|(name, tensor)| (name, tensor.copy())).collect();
    let refused = |optimizer: &mut Optimizer, state: &[(String, Tensor)]| {
        let text = optimizer.load_state(state).unwrap_err().to_string();
        assert!(optimizer.state().iter().zip(&before).all(|(a, b)| a == b));
        text
    };
    let with = |change: &dyn Fn(&mut State)| {
        let mut state: Vec<_> = before.iter().map(|(name, tensor)| (name.clone(), tensor.copy())).collect();
        change(&mut state);
        state
    };
    for (state, expected) in [
        (with(&|state| drop(state.remove(0))), "`adamw.lr`: found none, expected Double []"),
        (
            with(&|state| state.push(("adamw.x.step".into(), Tensor::from(1_i64)))),
            "`adamw.x.step`: found Int64 []",
        ),
        (
            with(&|state| state[2].1 = Tensor::zeros([3], (Kind::Float, Device::Cpu))),
            "found Float [3], expected Float [33]",
        ),
        (with(&|state| state[1].1 = Tensor::from(-1_i64)), "found -1, expected a count"),
        (with(&|state| state[0].1 = Tensor::from(f64::NAN)), "learning rate: found NaN"),
        (Vec::new(), "found none"),
    ] {
        let text = refused(&mut optimizer, &state);
        assert!(text.contains(expected), "{text}");
    }
    let (other, _) = model();
    let sgd = Sgd { momentum: 0.9, ..Sgd::default() }.build(&other, 0.1).unwrap();
    assert!(refused(&mut optimizer, &sgd.state()).contains("adamw.lr"));

    // The weights stay too.
    checkpoints.save_training(1, &other, &sgd, &0).unwrap();
    let weights = parameters(&vs);
    let error = checkpoints.load_training::<u8>(1, &mut vs, &mut optimizer).unwrap_err();
    assert!(
        matches!(&error, Error::Checkpoint { path, .. } if path.ends_with("optimizer.safetensors")),
        "{error}"
    );
    checkpoints.save(2, &other, &0).unwrap();
    let error = checkpoints.load_training::<u8>(2, &mut vs, &mut optimizer).unwrap_err();
    assert!(error.to_string().contains("saved without an optimizer"), "{error}");
    assert!(checkpoints.load::<u8>(1, &mut VarStore::new(Device::Cpu)).is_err());
    assert_eq!(parameters(&vs), weights);
    let place = dir.path().join("step-0000000001/optimizer.safetensors");
    let mut bytes = std::fs::read(&place).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&place, bytes).unwrap();
    assert!(checkpoints.load::<u8>(1, &mut vs).unwrap_err().to_string().contains("SHA-256"));
}

#[test]
fn numbers_out_of_range_are_refused() {
    let (vs, _) = model();
    for refused in [
        Sgd { momentum: -0.1, ..Sgd::default() }.build(&vs, 0.1),
        Sgd { nesterov: true, ..Sgd::default() }.build(&vs, 0.1),
        Sgd { nesterov: true, momentum: 0.9, dampening: 0.1, ..Sgd::default() }.build(&vs, 0.1),
        Sgd::default().build(&vs, f64::NAN),
        Sgd::default().build(&vs, -1.0),
        Adam { beta1: 1.0, ..Adam::default() }.build(&vs, 0.1),
        AdamW { beta2: f64::NAN, ..AdamW::default() }.build(&vs, 0.1),
        AdamW { eps: -1.0, ..AdamW::default() }.build(&vs, 0.1),
        AdamW { weight_decay: f64::INFINITY, ..AdamW::default() }.build(&vs, 0.1),
    ] {
        assert!(matches!(refused, Err(Error::Tensor { .. })), "{refused:?}");
    }
    let strided = VarStore::new(Device::Cpu);
    let weight = no_grad(|| Tensor::zeros([3, 4], (Kind::Float, Device::Cpu)).transpose(0, 1));
    let _ = strided.root().add("w", weight, true);
    let found = Sgd::default().build(&strided, 0.1);
    // tch may have made it contiguous.
    let contiguous = strided.trainable_variables()[0].is_contiguous();
    assert_eq!(found.is_ok(), contiguous, "{found:?}");
}
