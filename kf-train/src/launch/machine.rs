//! What this machine has for the ranks of a job.

use std::path::Path;

use kf_core::resources::{Capacity, Resources};

use super::JobSpec;
use crate::contract::Framework;
use crate::{Error, Result};

/// NVIDIA's GPUs, as Kubernetes names them.
const GPU: &str = "nvidia.com/gpu";
const VISIBLE: &str = "CUDA_VISIBLE_DEVICES";

/// Refuses a job of which so many ranks are to run here, where they ask for more than this machine has. The GPUs for them,
/// as `CUDA_VISIBLE_DEVICES` names them.
///
/// # Errors
/// [`Error::Job`], which says what was asked for and what there is.
pub(crate) fn gpus_for(spec: &JobSpec, ranks: usize) -> Result<Vec<String>> {
    if spec.resources.is_none() {
        return Ok(Vec::new());
    }
    let visible = match spec.env.get(VISIBLE).cloned().or_else(|| std::env::var(VISIBLE).ok()) {
        Some(list) => named(&list),
        None => devices(Path::new("/dev")),
    };
    share(spec, ranks, Capacity::of_this_machine().resources(), visible)
}

fn share(spec: &JobSpec, ranks: usize, machine: &Resources, visible: Vec<String>) -> Result<Vec<String>> {
    let wrong = |reason| Error::Job { job: spec.name.clone(), reason };
    let each = &spec.resources;
    let all = |amount: u64| amount.saturating_mul(ranks as u64);
    for (one, there) in [
        (Resources { cpu: each.cpu, ..Resources::none() }, machine.cpu),
        (Resources { memory: each.memory, ..Resources::none() }, machine.memory),
    ] {
        // Of the two amounts one is 0.
        let needed = Resources { cpu: all(one.cpu), memory: all(one.memory), ..Resources::none() };
        if needed.cpu + needed.memory > there {
            let there = match one.cpu {
                0 => Resources { memory: there, ..Resources::none() },
                _ => Resources { cpu: there, ..Resources::none() },
            };
            return Err(wrong(format!(
                "its ranks on this machine, {ranks}, ask for {one} each, {needed} in all, and the machine has {there}"
            )));
        }
    }
    let gpus = gpus_each(each).map_err(wrong)?;
    let needed = gpus.saturating_mul(ranks);
    if needed > visible.len() {
        let there = match visible.as_slice() {
            [] => "none".to_owned(),
            some => format!("{}: {}", some.len(), some.join(", ")),
        };
        return Err(wrong(format!(
            "its ranks on this machine, {ranks}, ask for {gpus} {GPU} each, {needed} in all, and it has {there} \
             ({VISIBLE} where that is set, and else /dev/nvidia0 and those after it)"
        )));
    }
    Ok(visible.into_iter().take(needed).collect())
}

/// How many GPUs each rank asks for.
fn gpus_each(each: &Resources) -> Result<usize, String> {
    if let Some((name, _)) = each.accelerators.iter().find(|(name, count)| *name != GPU && **count > 0) {
        return Err(format!(
            "its ranks ask for {name}; of accelerators, this machine's launcher has {GPU} alone"
        ));
    }
    let milli = each.accelerators.get(GPU).copied().unwrap_or(0);
    match milli % 1000 {
        0 => Ok(usize::try_from(milli / 1000).unwrap_or(usize::MAX)),
        _ => Err(format!(
            "each of its ranks asks for {}; a rank takes whole ones, 1000m each",
            Resources { accelerators: [(GPU.to_owned(), milli)].into(), ..Resources::none() }
        )),
    }
}

/// What tells a rank of this number on its node which of the node's GPUs are its own.
pub(super) fn gpu_env(spec: &JobSpec, gpus: &[String], local_rank: usize) -> Vec<(String, String)> {
    let each = gpus_each(&spec.resources).unwrap_or(0);
    if gpus.is_empty() || each == 0 {
        return Vec::new();
    }
    let first = local_rank * each;
    let all = (VISIBLE.to_owned(), gpus.join(","));
    let numbers = || (first..first + each).map(|gpu| gpu.to_string()).collect::<Vec<_>>().join(",");
    match spec.framework {
        // Their contracts have no local rank: such a rank takes all that it sees.
        Framework::TensorFlow | Framework::XgBoost => {
            let own: Vec<_> = gpus.iter().skip(first).take(each).map(String::as_str).collect();
            vec![(VISIBLE.to_owned(), own.join(","))]
        }
        Framework::Jax => vec![all, ("JAX_LOCAL_DEVICE_IDS".into(), numbers())],
        Framework::Paddle => vec![all, ("FLAGS_selected_gpus".into(), numbers())],
        // They go by the local rank.
        _ => vec![all],
    }
}

/// The GPUs of a list as CUDA reads it: what comes after a wrong one does not count.
fn named(list: &str) -> Vec<String> {
    let names = list.split(',').map(str::trim);
    names.take_while(|name| !name.is_empty() && !name.starts_with('-')).map(str::to_owned).collect()
}

/// The numbers of the NVIDIA GPUs in a folder of devices, counted as CUDA does.
fn devices(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let is_gpu = |name: std::ffi::OsString| {
        let number = name.to_str().and_then(|name| name.strip_prefix("nvidia"));
        number.is_some_and(|number| number.parse::<u32>().is_ok())
    };
    let count = entries.filter(|entry| is_gpu(entry.file_name())).count();
    (0..count).map(|gpu| gpu.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Job;

    fn asking(each: Resources) -> Job {
        Job::command("train", [""; 0], 2).name("fit").resources(each)
    }

    fn gpu(count: f64) -> Resources {
        Resources::none().accelerator(GPU, count)
    }

    #[test]
    fn more_than_there_is_is_refused() {
        let machine = Resources::none().cpu(4.0).memory("8Gi").unwrap();
        let told = |each: Resources, visible: &str| {
            share(asking(each).spec().unwrap(), 2, &machine, named(visible))
                .map_err(|error| error.to_string())
        };
        let memory = |quantity| Resources::none().memory(quantity).unwrap();
        for (each, visible, expected) in [
            (
                Resources::none().cpu(3.0),
                "",
                "2, ask for cpu 3 each, cpu 6 in all, and the machine has cpu 4",
            ),
            (
                memory("6Gi"),
                "",
                "ask for memory 6Gi each, memory 12Gi in all, and the machine has memory 8Gi",
            ),
            (memory("8Ei").cpu(1.0), "", "in all, and the machine has memory 8Gi"),
            (gpu(1.0), "", "2, ask for 1 nvidia.com/gpu each, 2 in all, and it has none ("),
            (gpu(2.0), "3,5,GPU-8a", "ask for 2 nvidia.com/gpu each, 4 in all, and it has 3: 3, 5, GPU-8a ("),
            (gpu(0.5), "0,1", "each of its ranks asks for nvidia.com/gpu 500m; a rank takes whole ones"),
            (Resources::none().accelerator("amd.com/gpu", 1.0), "0", "ask for amd.com/gpu"),
        ] {
            let error = told(each, visible).unwrap_err();
            assert!(error.starts_with("job `fit` can't be started: ") && error.contains(expected), "{error}");
        }
        assert_eq!(told(gpu(1.0).cpu(2.0), "3,5,7").unwrap(), ["3", "5"]);
        assert_eq!(told(Resources::none().cpu(2.0), "3").unwrap(), [""; 0]);
    }

    #[test]
    fn a_rank_takes_those_of_its_number() {
        let gpus = ["3", "5", "7", "8"].map(str::to_owned);
        let env = |framework, each, local| {
            let job = asking(gpu(each)).framework(framework);
            let env = gpu_env(job.spec().unwrap(), &gpus, local);
            env.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
        };
        let all = "CUDA_VISIBLE_DEVICES=3,5,7,8";
        assert_eq!(env(Framework::Torchrun, 2.0, 1), [all]);
        assert_eq!(env(Framework::Jax, 2.0, 1), [all, "JAX_LOCAL_DEVICE_IDS=2,3"]);
        assert_eq!(env(Framework::Paddle, 1.0, 3), [all, "FLAGS_selected_gpus=3"]);
        for framework in [Framework::TensorFlow, Framework::XgBoost] {
            for (each, local, own) in [(1.0, 0, "3"), (1.0, 3, "8"), (2.0, 1, "7,8"), (1.0, 4, "")] {
                assert_eq!(env(framework, each, local), [format!("CUDA_VISIBLE_DEVICES={own}")]);
            }
        }
        assert_eq!(env(Framework::Torchrun, 0.0, 1), [""; 0]);
    }

    #[test]
    fn gpus_are_named_as_cuda_does() {
        assert_eq!(named("2, GPU-8a9,MIG-1/2"), ["2", "GPU-8a9", "MIG-1/2"]);
        assert_eq!(named("1,-1,0"), ["1"]);
        for none in ["", "-1", " "] {
            assert_eq!(named(none), [""; 0], "{none:?}");
        }
        let dev = tempfile::tempdir().unwrap();
        for name in ["nvidia0", "nvidia3", "nvidiactl", "nvidia-uvm", "null"] {
            std::fs::write(dev.path().join(name), "").unwrap();
        }
        assert_eq!(devices(dev.path()), ["0", "1"]);
        assert_eq!(devices(&dev.path().join("none")), [""; 0]);
    }
}
